"""Every fenced block of README.md and docs/ is what it claims to be: shell lines run, YAML is a
configuration, Python runs.

Here blocks are read and checked in a second or two; `-m slow` runs them, in folders as a reader has
them, on budgets that end in seconds."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer

from pipeline import __main__ as command_line
from pipeline import config as configuration
from tests.servers import free_port, outside

ROOT = Path(__file__).parents[1]
SHELL = ("sh", "bash")

NOT_RUN = {
    "pip install -r requirements.txt && mlflow": "installs gigabytes; what it runs is run below",
    "pip install -r requirements-dev.txt && pytest": "these very tests",
    "flowchart TD": "a diagram",
    'pip install ".[ray]"': "changes what is installed; test_ray.py runs searches on Ray",
    "ray start": "needs several machines",
}
"""What a block holds that is not run, and why."""

SMALLER = {
    "search.trials=100": "search.trials=2 training.epochs=2",
    '{"search.trials": 8}': '{"search.trials": 2, "training.epochs": 2}',
    '{"data": {"target": "y"}}': '{"data": {"target": "y"}, "search": {"trials": 2}}',
    "seed=0..2": "seed=0..1",
    "--port 5001": "--port PORT & until curl -sf localhost:PORT/health; do sleep 1; done",
    "127.0.0.1:5001": "127.0.0.1:PORT",
    "models:/breast-cancer@champion --env-manager local": "models:/breast-cancer@champion "
    "--env-manager local --workers 1",
}
"""What stands in a block: what is run in its place."""

TINY = ["search.trials=2", "training.epochs=2", "validation.final={folds: 2, repeats: 1}"]


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not any(part in self.text for part in NOT_RUN)

    @property
    def runnable(self) -> str:
        text, port = self.text, str(free_port())
        for stands, runs in SMALLER.items():
            text = text.replace(stands, runs)
        return text.replace("PORT", port)


def blocks(*languages: str) -> list[Block]:
    found = []
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = path.read_text()
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: fence.start()].count("\n") + 1
            found.append(Block(path.name, line, fence[1], fence[2]))
    return [block for block in found if not languages or block.language in languages]


def test_every_block_says_what_it_is() -> None:
    languages = {*SHELL, "yaml", "python", "mermaid"}
    assert len(blocks()) >= 15
    assert [str(block) for block in blocks() if block.language not in languages] == []


def test_what_is_not_run_and_what_is_replaced_is_there() -> None:
    everything = "".join(block.text for block in blocks())
    assert [part for part in (*NOT_RUN, *SMALLER) if part not in everything] == []


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_is_read(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_configuration(block: Block) -> None:
    """What is only a part of one gets data to be about."""
    is_whole = re.search("^data:", block.text, re.MULTILINE)
    data = "" if is_whole else "data: {source: x.csv, target: y}\n"
    configuration.loads(block.text + data, str(block))


@pytest.mark.parametrize("block", blocks(*SHELL), ids=str)
def test_shell_lines_are_commands(block: Block) -> None:
    """Those of this project are read by its own parser; so are those within the text."""
    subprocess.run(["bash", "-n", "-c", block.text], check=True)
    for line in block.text.splitlines():
        _read(line)


def test_commands_within_the_text_are_read() -> None:
    read = 0
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for span in re.findall(r"`([^`]+)`", path.read_text()):
            read += _read(" ".join(span.split()))
    assert read >= 4


def _read(line: str) -> bool:
    """Whether it is a command with its arguments, which the parser takes."""
    if not line.startswith(("python -m pipeline", "optimizer-search")):
        return False
    words = shlex.split(line, comments=True)
    for name in (["python", "-m", "pipeline"], ["optimizer-search"]):
        if words[: len(name)] == name and len(words) > len(name):
            arguments = words[len(name) :]
            if arguments != ["--version"]:
                command_line._parser().parse_args(arguments)
            return True
    return False


@pytest.fixture
def folder(tmp_path: Path, new_store: Callable[[Path], str]) -> Path:
    """What a reader has: a clone, a store, tables of their own, and the files that a page shows."""
    for name in ("configs", "examples", "pipeline", "MLproject", "conda.yaml", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    new_store(tmp_path)
    draw = np.random.default_rng(0)
    customers = pd.DataFrame({"customer": np.arange(240) // 2, "spent": draw.normal(size=240)})
    customers["churned"] = np.where(customers["spent"] + draw.normal(size=240) > 0, "yes", "no")
    (tmp_path / "data").mkdir()
    customers.to_parquet(tmp_path / "data" / "customers.parquet")
    (tmp_path / "mine").mkdir()
    for name in ("spring", "autumn"):
        table = f"{name}.csv"
        customers.sample(frac=0.9, random_state=ord(name[0])).to_csv(tmp_path / table, index=False)
        mine = {"data": {"source": table, "target": "churned"}, "search": {"trials": 2}}
        final = {"final": {"folds": 2, "repeats": 1}}
        mine |= {"training": {"epochs": 2}, "validation": final, "experiment": "mine"}
        (tmp_path / "mine" / f"{name}.yaml").write_text(yaml.safe_dump(mine))
    load_breast_cancer(as_frame=True).data[:20].to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


def call(folder: Path, *command: str, status: int = 0) -> str:
    environment = outside() | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def pipeline(folder: Path, *arguments: str) -> str:
    return call(folder, sys.executable, "-m", "pipeline", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.text.startswith("# ")], ids=str)
def test_files_run(block: Block, folder: Path) -> None:
    """Whole configurations, called by the name that their first line gives."""
    name = block.text.splitlines()[0].removeprefix("# ")
    (folder / name).write_text(block.text)
    assert "did best" in pipeline(folder, "run", "--config", name, "--set", *TINY)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks(*SHELL) if b.is_run], ids=str)
def test_shell_lines_run(block: Block, folder: Path) -> None:
    if "@champion" in block.text:
        pipeline(folder, "run", "--set", *TINY)
    (mine,) = [b.text for b in blocks("yaml") if b.text.startswith("# mine.yaml")]
    small = "search: {trials: 2}\ntraining: {epochs: 2}\n"
    (folder / "mine.yaml").write_text(mine + (small if "study" in block.text else ""))
    if "study" in block.text:
        pipeline(folder, "run", "--config", "mine.yaml")
    begin = "set -e -o pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    said = call(folder, "bash", "-c", begin + block.runnable)
    assert "Traceback" not in said
    for word, file in {"predict": "predictions.csv", "study": "study.db"}.items():
        assert f"pipeline {word}" not in block.text or (folder / file).exists()
    assert "curl" not in block.text or '"probability"' in said


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_python_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, one after the other, as in one session."""
    if page == "model.md":
        pipeline(folder, "run", "--set", *TINY)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=120), "b": draw.normal(size=120)})
    session: dict[str, Any] = {"frame": frame.assign(y=np.where(frame["a"] > 0, "yes", "no"))}
    for block in blocks("python"):
        if block.page == page:
            exec(compile(block.runnable, str(block), "exec"), session)
