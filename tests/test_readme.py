"""What the README and docs/ say is so."""

import re
from pathlib import Path

import yaml

from pipeline import config as configuration

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
SMALLEST = {"data": {"source": "x.csv", "target": "y"}}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_ci_runs_the_readmes_test_line() -> None:
    (line,) = [block.strip() for block in blocks("sh") if block.strip().endswith("&& pytest")]
    called = line.replace("pip install", "pip install -q")
    assert called in (ROOT / ".ci" / "run").read_text().splitlines()


def test_first_line_installs_what_is_pinned_and_runs() -> None:
    first = blocks("sh")[0]
    assert "pip install -r requirements.txt && mlflow run . --env-manager local" in first


def test_every_key_is_described_with_its_default() -> None:
    text = PAGES["configuration.md"]
    described = dict(re.findall(r"^\| `([a-z_.0-9]+)` \| ([^|]*)\|", text, re.MULTILINE))
    config = configuration.check(SMALLEST).to_plain()
    leaves = {
        key if name is None else f"{key}.{name}": value
        for key, section in config.items()
        for name, value in (section.items() if isinstance(section, dict) else [(None, section)])
    }
    assert described.keys() == leaves.keys()
    for key in leaves.keys() - {"data.source", "data.target", "optimizers", "registry.name"}:
        assert yaml.safe_load(described[key].strip("` ")) == leaves[key], key


def test_links_lead_somewhere() -> None:
    """To files, and to headings and anchors in them."""
    for name, text in PAGES.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if not link.startswith("http"):
                target = (folder / path).resolve() if path else folder / name
                assert target.exists(), (name, link)
                assert not anchor or anchor in _anchors(target.read_text()), (name, link)


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_pins_and_ranges_agree() -> None:
    pins = dict(
        re.findall(r"^([A-Za-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)
    )
    project = (ROOT / "pyproject.toml").read_text()
    ranges = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert ranges is not None
    named = {name.lower() for name in re.findall(r'"([A-Za-z0-9-]+)', ranges[1])}
    assert named == {name.lower() for name in pins}
    assert "-r requirements.txt" in (ROOT / "conda.yaml").read_text()
