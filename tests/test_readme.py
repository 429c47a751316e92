"""What the README says is so."""

import re
from pathlib import Path

import yaml

from pipeline import config as configuration

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALLEST = {"data": {"source": "x.csv", "target": "y"}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_ci_runs_the_readmes_test_line() -> None:
    (line,) = [block.strip() for block in blocks("sh") if block.strip().endswith("&& pytest")]
    called = line.replace("pip install", "pip install -q")
    assert called in (ROOT / ".ci" / "run").read_text().splitlines()


def test_first_line_installs_what_is_pinned_and_runs() -> None:
    first = blocks("sh")[0]
    assert "pip install -r requirements.txt && mlflow run . --env-manager local" in first


def test_every_key_is_described_with_its_default() -> None:
    described = dict(re.findall(r"^\| `([a-z_.0-9]+)` \| ([^|]*)\|", README, re.MULTILINE))
    config = configuration.check(SMALLEST).to_plain()
    leaves = {
        key if name is None else f"{key}.{name}": value
        for key, section in config.items()
        for name, value in (section.items() if isinstance(section, dict) else [(None, section)])
    }
    assert described.keys() == leaves.keys()
    for key in leaves.keys() - {"data.source", "data.target", "optimizers", "registry.name"}:
        assert yaml.safe_load(described[key].strip("` ")) == leaves[key], key


def test_yaml_examples_are_accepted() -> None:
    examples = blocks("yaml")
    assert len(examples) >= 2
    for example in examples:
        lines = example.splitlines()
        if "data:" not in lines:
            lines += ["data: {source: x.csv, target: y}"]
        configuration.loads("\n".join(lines), "README.md")


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
