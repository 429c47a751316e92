"""A coverage-guided fuzz target for the readers of configurations and tables (not a test).

    pip install atheris
    python tests/fuzz_readers.py yaml -max_total_time=600
    python tests/fuzz_readers.py csv -max_total_time=600
    python tests/fuzz_readers.py model -max_total_time=600

Whatever the bytes are, the reader gives what they mean or refuses with `UserError` (a model's file
with `ModelError`); anything else stops the fuzzer, which leaves the bytes in a file `crash-...`.
A folder named last holds the inputs that were found worth keeping. Atheris is libFuzzer for Python:
its options apply.
"""

import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["pipeline", "yaml"]):
    from pipeline import config, inference
    from pipeline.common.errors import UserError
    from pipeline.data import prepared as data
    from pipeline.inference.program import checked_records

SEEDS = {
    "yaml": b"data: {source: a.csv, target: y}\nmodel: {hidden: {choice: [[1], []]}}\n"
    b"optimizers:\n  - &a {name: Adam, lr: {low: 1e-3, high: 1, log: true}}\n  - *a\n",
    "csv": b'a,b,y\n1,red,0\n2.5,"x ""q""\n",1\nNA,blue,0\n1e308,2024-01-31,1\n' * 3,
    "model": b'{"target": "torch.ops.aten.relu.default", "guards_code": [], "name": "x_1"}',
}


def read_yaml(content: bytes) -> None:
    with suppress(UserError):
        found = config.loads(content, "x.yaml")
        assert config.loads(found.to_yaml(), "again") == found


def read_csv(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(content)
        checked = config.check(
            {"data": {"source": str(path), "target": "y"}, "validation": {"folds": 2}}
        )
        with suppress(UserError):
            parts = data.prepare(checked, Path(folder, "prepared"))
            assert len(data.load_training(parts).y) == parts.rows["train"]


def read_model(content: bytes) -> None:
    """As the graph of a program in a model's archive, which is otherwise sound."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pt2")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as records:
            records.writestr("m/models/model.json", content)
        file.write_bytes(archive.getvalue())
        with suppress(inference.ModelError, ValueError, RecursionError):
            checked_records(file)


READERS: dict[str, Callable[[bytes], None]] = {
    "yaml": read_yaml,
    "csv": read_csv,
    "model": read_model,
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"usage: fuzz_readers.py {'|'.join(READERS)} [options of libFuzzer] [folder]")
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as seeds:
        Path(seeds, "seed").write_bytes(SEEDS[name])
        atheris.Setup([*sys.argv, seeds], READERS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
