"""Every benchmark runs, on the smallest work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "arguments", "word"),
    [
        ("prepare", ["--rows", "500", "--columns", "3"], "rows per second"),
        pytest.param(
            "recording", [os.devnull, "--config", "quick"], "bytes", marks=pytest.mark.slow
        ),
        pytest.param("inference", ["--rows", "1", "50"], "times bare", marks=pytest.mark.slow),
        pytest.param(
            "defaults",
            ["--tables", "iris", "--rows", "60", "--settings", "before,width-32", "--final"],
            "over 1 tables",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "tracking",
            ["--trials", "1", "--others", "1", "--epochs", "2"],
            "ms per trial",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "search",
            ["--only", "ours", "--trials", "2", "--epochs", "2"],
            "seconds per trial",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "cluster", ["--rows", "200", "--batches", "1"], "same bits", marks=pytest.mark.slow
        ),
        pytest.param(
            "scale",
            [
                "--rows",
                "200",
                "--trials",
                "2",
                "--written",
                "1",
                "--told",
                "100",
                "200",
                "--nodes",
                "1",
                "2",
            ],
            "cores busy",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "scale",
            ["--check", "--rows", "200", "--trials", "2"],
            "simulated / measured",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "own_networks",
            ["--members", "1,2", "--epochs", "1"],
            "by force one by one, 2 networks",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "training",
            ["--network", "small", "--members", "2", "--epochs", "2"],
            "ours without a compiler, 2 networks",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "stopping", ["--seeds", "2", "--rows", "60"], "cross-fitted", marks=pytest.mark.slow
        ),
        pytest.param(
            "ranking",
            ["--out", os.devnull, "--tables", "iris", "--rows", "90"],
            "chosen by",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "changes",
            [
                *("--out", os.devnull, "--tables", "iris", "--rows", "90", "--settings"),
                "accuracy, cosine, smoothing;smoothing, pieces if 1 SE ahead;smoothing, periodic",
            ],
            "better / worse",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "ensembles",
            ["--out", os.devnull, "--tables", "iris,wine", "--rows", "90"],
            "trials selected",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "pruning",
            ["--rows", "120", "--seeds", "1", "--tables", "iris"],
            "times without",
            marks=pytest.mark.slow,
        ),
        pytest.param("startup", ["--runs", "1"], "together", marks=pytest.mark.slow),
        pytest.param(
            "evidence",
            ["--seeds", "1", "--only", "interval"],
            "holds the true accuracy",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_it_prints_a_table(name: str, arguments: list[str], word: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert word in done.stdout
