"""What people and strangers may give: an answer, or `error:` and exit 2; never a traceback, a run
without an end or a number that is none in the store. Each case is a whole command."""

import csv
import io
import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline import __main__ as command_line
from tests.soundness import assert_sound

CONFIG = """
data: {source: t.csv, target: y}
validation: {folds: 2}
model: {hidden: [4]}
training: {epochs: 2}
optimizers: [{name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}]
search: {trials: 2}
"""


class Place:
    """A working folder with a store; `run` gives the exit status and what was said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def run(self, *overrides: str, config: str = CONFIG) -> tuple[object, str]:
        Path("c.yaml").write_text(config, encoding="utf-8")
        return self.command("run", "--config", "c.yaml", "--set", *overrides)

    def command(self, *arguments: str) -> tuple[object, str]:
        self._capsys.readouterr()
        status = command_line.main(arguments)
        return status, self._capsys.readouterr().err

    def assert_sound(self) -> None:
        assert_sound(self.folder / "mlflow.db")

    def assert_untouched(self) -> None:
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert not Path("prepared").exists()


@pytest.fixture
def place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_store: Callable[[Path], str],
) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    return Place(tmp_path, capsys)


def table(
    names: Sequence[str],
    cell: Callable[[int], str] = lambda row: f"{random.Random(row).random():.3f}",
    labels: Sequence[str] = ("no", "yes"),
    target: str = "y",
    rows: int = 40,
) -> None:
    """t.csv with these columns; the labels take turns."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*names, target])
    for row in range(rows):
        writer.writerow([*(cell(row) for _ in names), labels[row % len(labels)]])
    Path("t.csv").write_text(text.getvalue(), encoding="utf-8")


FORBIDDEN = [
    *("a/b", "c:d", 'e"f', "g'h", "i\\j", "k%l", "m\nn", "o\tp", "q;r", "s`t", "../u", ".", ".."),
    *("<script>alert(1)</script>", "{{x}}", "$HOME", "=1+1", "@x", "-x", " ", "é", "😀", "\u202e"),
    *("x\x1b[31m", "x\x07", "nul\x00", "#", "lr", "optimizer", "loss", "mlflow.runName"),
    *(
        "prediction",
        "probability",
        "label",
        "split",
        "probability_yes",
        "lr is missing",
        "x" * 9000,
    ),
]


def test_names_and_labels_of_any_kind(place: Place) -> None:
    """All of them at once; then the model scores the same file."""
    labels = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "a\x1b[31m\x00/:\n"]
    table(FORBIDDEN, labels=labels, target='<b>"/:%\n')
    config = CONFIG.replace("target: y", 'target: "<b>\\"/:%\\n"')
    status, said = place.run("experiment='../a/b:c?d@e <i>'", config=config)
    assert status == 0, said
    place.assert_sound()
    for report in place.folder.rglob("report.html"):
        page = report.read_text()
        assert "<script>alert" not in page
        assert "<b>" not in page
        assert "<i>" not in page
    assert list(place.folder.rglob("report.html"))
    name = "models:/..-a-b-c-d-e <i>/1".replace("..-", "-")
    status, said = place.command(
        "predict", "--model", name, "--input", "t.csv", "--output", "out.csv"
    )
    assert status == 0, said
    with open("out.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 40
    assert {row["prediction"] for row in found} <= {label.strip() for label in labels}


def test_numbers_that_are_none(place: Place) -> None:
    columns = [
        ["1e308", "-1e308", "1"],
        ["5e-324", "0", "1e-320"],
        ["inf", "-inf", "nan", "2", "1"],
        ["1e400", str(2**64), str(10**400), "1"],
        ["0000-00-00", "9999-12-31", "2024-02-30", "0001-01-01"],
        ["1"] * 39 + ["2"],  # constant in a fold
    ]
    rows = [",".join(cells[row % len(cells)] for cells in columns) for row in range(40)]
    lines = ["a,b,c,d,e,f,y", *(f"{text},{row % 2}" for row, text in enumerate(rows))]
    Path("t.csv").write_text("\n".join(lines))
    status, said = place.run("training.batch_size=1")
    assert status == 0, said
    place.assert_sound()


def test_rates_and_sizes_beyond_all_sense(place: Place) -> None:
    """Together in one search: what cannot be trained fails with a reason, the rest is kept."""
    table(["a", "b"])
    rates = ["1e38", "5e-324", "0.01"]
    entries = ", ".join(f"{{name: {n}, lr: {lr}}}" for n in ("SGD", "Rprop") for lr in rates)
    status, said = place.run(
        f"optimizers=[{entries}]",
        "search.trials=1000000000",
        "training.batch_size=1000000000",
        "model.hidden={choice: [[4], [1000000000]]}",
    )
    assert status == 0, said
    place.assert_sound()
    with sqlite3.connect("mlflow.db") as database:
        reasons = {
            reason
            for (reason,) in database.execute("SELECT value FROM tags WHERE key = 'trial.reason'")
        }
    assert any("networks of 4,000,000,001 weights do not fit" in reason for reason in reasons)
    assert any("not finite in epoch 1" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizers=[{name: SGD, lr: 1e300}]"], "must be less than or equal to 1000"),
        (["validation.repeats=1000000000"], "must be less than or equal to 1000"),
        (["validation.folds=1000"], "must have at least 1000 training rows"),
        (["training.batch_size=1", "model.batch_norm=true"], "one row has no variance"),
        (["data.sha256=" + "a" * 64], "must be the file's digest"),
        (["data.source=../../../../../etc/passwd"], "must end with one of"),
        (["data.source=no.csv"], "does not exist"),
        (["data.target=no"], "must have a column 'no'"),
        (["data.source='\\x1b[2J.csv'"], "does not exist"),
        (["registry.name=a/b"], "registry.name: must be a name of"),
        (["training.device=cuda:99"], "must be a device that torch finds here"),
        (['experiment="\\ud83d"'], "an escape of a character that does not exist"),
    ],
)
def test_wrong_input_leaves_nothing_behind(
    place: Place, overrides: list[str], message: str
) -> None:
    table(["a", "b"])
    status, said = place.run(*overrides)
    assert status == 2
    assert said.startswith("error: ")
    assert message in said
    assert all(line.isprintable() for line in said.splitlines())
    place.assert_untouched()


def test_a_label_that_one_side_of_the_hold_out_lacks(place: Place) -> None:
    """Found before anything is written, also when the parts are there already."""
    table(["a"])
    with open("t.csv", "a") as file:
        file.write("1,rare\n" * 3 + "1,no\n" * 20)
    few = ["validation.folds=1", "validation.fraction=0.05"]
    status, said = place.run(*few)
    assert status == 2
    assert "label 'rare'" in said
    place.assert_untouched()
    assert place.command("prepare", "--config", "c.yaml", "--set", "validation.folds=1")[0] == 0
    before = sorted(place.folder.rglob("*"))
    assert place.run(*few)[0] == 2
    assert sorted(place.folder.rglob("*")) == before


def test_a_column_of_labels_that_is_none(place: Place) -> None:
    table(["a"], labels=[f"l{i}" for i in range(1001)], rows=5005)
    status, said = place.run()
    assert status == 2
    assert "must hold at most 1,000 labels; got 1,001" in said
    place.assert_untouched()


def test_a_strangers_model_is_refused_in_a_line(place: Place) -> None:
    """MLmodel may name any loader and any code: `predict` asks neither."""
    table(["a"])
    stranger = place.folder / "stranger"
    stranger.mkdir()
    (stranger / "code").mkdir()
    (stranger / "code" / "loader.py").write_text("raise SystemExit('trapped')")
    (stranger / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: loader, code: code, python_version: 3.11.0}\n"
    )
    arguments = ("--input", "t.csv", "--output", "out.csv")
    status, said = place.command("predict", "--model", str(stranger), *arguments)
    assert status == 2
    assert said.startswith(f"error: --model: {stranger}: schema.json: missing")
    (stranger / "schema.json").write_text('{"version": 1, "columns": [], "labels": []}')
    status, said = place.command("predict", "--model", str(stranger), *arguments)
    assert status == 2
    status, said = place.command(
        "predict", "--model", str(stranger), "--input", "t.csv", "--output", str(place.folder)
    )
    assert status == 2
    assert not Path("out.csv").exists()
