"""What `status` and `predict` say, on terminals of any encoding and width, and in pipes."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.test_by_hand import Place
from tests.commands.test_by_hand import finished as finished
from tests.commands.test_by_hand import place as place

ROOT = Path(__file__).parents[2]
LONG = "an experiment with a name of more than forty letters – ünïcode"


def piped(*arguments: str, encoding: str = "utf-8") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    argv = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(encoding)


def on_terminal(columns: int) -> str:
    main, other = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm"}
    argv = [sys.executable, "-m", "pipeline", "status"]
    process = subprocess.Popen(argv, env=environment, stdout=other, stderr=other)
    os.close(other)
    said = b""
    while True:
        try:
            block = os.read(main, 4096)
        except OSError:  # how a pseudo-terminal ends
            break
        if not block:
            break
        said += block
    assert process.wait() == 0
    return said.decode()


def test_status(place: Place) -> None:
    place.client.rename_experiment("1", LONG)
    (train,) = place.client.search_runs(["1"], "tags.`pipeline.stage` = 'train'")
    (line,) = [line for line in piped("status").splitlines() if train.info.run_id in line]
    assert LONG in line
    assert "breast_cancer" in line
    (search,) = json.loads(piped("status", "--json", encoding="ascii"))
    assert search["experiment"] == LONG
    assert (search["state"], search["trials"], search["budget"]) == ("finished", 2, 2)
    assert search["run_id"] == train.info.run_id
    assert 0.5 < search["best_accuracy"] <= 1
    shown = on_terminal(80)
    (line,) = [line for line in shown.splitlines() if train.info.run_id in line]
    assert "finished" in line
    assert "2/2" in line
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_predict(place: Place, encoding: str) -> None:
    from sklearn.datasets import load_breast_cancer

    load_breast_cancer(as_frame=True).data.head(3).to_csv("rows – ü.csv", index=False)
    said = piped(
        *("predict", "--model", "models:/quick@champion"),
        *("--input", "rows – ü.csv", "--output", "out – ü.csv"),
        encoding=encoding,
    )
    assert "3 rows scored by models:/quick@champion" in said
    assert Path("out – ü.csv").exists()
