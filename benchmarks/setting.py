"""What every benchmark needs: the machine in words, a table of rows, and how a table is printed."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification


def machine(packages: Sequence[str]) -> str:
    """The machine, the versions and the load: what a figure depends on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    python = platform.python_version()
    return f"{cpu}, {os.cpu_count()} cores, load {load:.1f}; Python {python}, {versions}"


def two_labels(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows [rows, columns] float32 and labels [rows] int64 that a small network can tell apart."""
    x, y = make_classification(
        rows,
        columns,
        n_informative=max(2, columns * 2 // 3),
        n_redundant=0,
        flip_y=0.2,
        class_sep=0.6,
        random_state=seed,
    )
    return x.astype(np.float32), y.astype(np.int64)


def frame(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    """The same as a table with the label column `label`."""
    x, y = two_labels(rows, columns, seed)
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(columns)]).assign(label=y)


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    for line in [head, rule, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)
