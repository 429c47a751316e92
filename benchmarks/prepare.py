"""Preparing a table: rows per second and peak memory, beside reading it with pyarrow alone.

    python benchmarks/prepare.py --rows 1000000 --columns 30

Each way runs in a process of its own; peak memory is above what its imports took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from setting import machine, show

ROOT = Path(__file__).parents[1]


def _peak_mb() -> float:
    """Of this program; getrusage would tell that of the one which started it, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def read_alone(path: Path) -> None:
    import pyarrow.csv

    pyarrow.csv.read_csv(path)


def prepare(path: Path) -> None:
    from pipeline import config
    from pipeline.data import prepared as data

    checked = config.check({"data": {"source": str(path), "target": "label"}})
    data.prepare(checked, path.parent / "prepared")


def measure(way: str, path: Path) -> dict[str, float]:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--path", str(path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--way", choices=["read_alone", "prepare"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        import pyarrow.csv  # noqa: F401  the imports are not what is measured

        if arguments.way == "prepare":
            import pipeline.data.prepared  # noqa: F401
        before, started = _peak_mb(), time.perf_counter()
        {"read_alone": read_alone, "prepare": prepare}[arguments.way](arguments.path)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb() - before}))
        return

    print(machine(["pyarrow", "numpy"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        _write(path, arguments.rows, arguments.columns)
        megabytes = path.stat().st_size / 2**20
        array = 4 * arguments.rows * arguments.columns / 2**20
        print(f"{arguments.rows:,} rows, {arguments.columns} columns, {megabytes:.0f} MB of CSV; "
              f"as float32 {array:.0f} MB\n")  # fmt: skip
        read_alone(path)  # the file is in the system's cache for both
        found = {way: measure(way, path) for way in ("read_alone", "prepare")}
    alone = found["read_alone"]["seconds"]
    show(
        ["way", "seconds", "rows per second", "times reading alone", "peak MB", "times float32"],
        [
            [
                way,
                f"{one['seconds']:.2f}",
                f"{arguments.rows / one['seconds']:,.0f}",
                f"{one['seconds'] / alone:.2f}",
                f"{one['peak_mb']:.0f}",
                f"{one['peak_mb'] / array:.2f}",
            ]
            for way, one in found.items()
        ],
    )


def _write(path: Path, rows: int, columns: int) -> None:
    """Blocks of normal numbers, so that the benchmark itself stays small."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    random = np.random.default_rng(0)
    names = [f"x{i}" for i in range(columns)]
    schema = pa.schema([(name, pa.float64()) for name in names] + [("label", pa.int64())])
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, 50_000):
            size = min(50_000, rows - start)
            values = [pa.array(random.normal(size=size)) for _ in names]
            labels = pa.array(random.integers(0, 2, size))
            writer.write_table(pa.table([*values, labels], schema=schema))


if __name__ == "__main__":
    main()
