import functools
import http.server
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.datasets import load_breast_cancer

from pipeline import config
from pipeline.common.errors import UserError
from pipeline.common.files import file_digest
from pipeline.data import prepared
from pipeline.data.encoding import to_raw
from pipeline.data.prepared import PreparedData, load_test, load_training, open_prepared, prepare
from pipeline.data.splits import make_splits


def configure(source: str | Path, folds: int = 2, seed: int = 0, **settings: Any) -> Any:
    data = {"source": str(source), "target": "y", **settings}
    validation = {"folds": folds, "final": None}
    return config.check({"data": data, "validation": validation, "seed": seed})


def write_csv(path: Path, rows: int = 40, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows),
            "size": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
            "colour": random.choice(["red", "green", "blue"], rows),
            "same": 1,
            "y": np.arange(rows) % 2,
        }
    )
    frame.to_csv(path, index=False)
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = [folder, *folder.rglob("*")]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_ino) for p in found}


def test_both_parts_hold_the_source_rows_once(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv")
    data = prepare(configure(source), tmp_path / "prepared")
    train, test = load_training(data), load_test(data)
    frame = pd.read_csv(source)
    both = pd.concat([train.table.to_pandas(), test.table.to_pandas()]).sort_values("id")
    columns = ["id", "size", "colour", "y"]
    pd.testing.assert_frame_equal(both[columns].reset_index(drop=True), frame[columns])
    assert data.left_out == {"same": "it is 1 in every training row"}
    assert data.rows == {"train": 30, "test": 10}
    assert data.counts == {"train": (15, 15), "test": (5, 5)}
    assert np.bincount(test.y).tolist() == [5, 5]
    assert train.raw.shape == (30, 3)
    np.testing.assert_array_equal(train.raw, to_raw(train.table, data.schema))
    assert train.table["y"].to_pylist() == train.y.tolist()
    assert data.digests == {
        "source": file_digest(source),
        "train": file_digest(data.directory / "train.arrow"),
        "test": file_digest(data.directory / "test.arrow"),
    }
    assert json.loads(data.schema_path.read_text()) == data.schema.to_dict()


def test_preparing_again_touches_nothing(tmp_path: Path) -> None:
    config, root = configure(write_csv(tmp_path / "t.csv")), tmp_path / "prepared"
    first = prepare(config, root)
    assert not first.reused
    before = snapshot(root)
    second = prepare(config, root)
    assert second == replace(first, reused=True)
    assert open_prepared(config, root) == second
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"drop": ("size",)}, {"positive": 0}, {"test": 0.5}, {"target": "colour"}],
)
def test_another_setting_prepares_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    source, root = write_csv(tmp_path / "t.csv"), tmp_path / "prepared"
    first = prepare(configure(source), root)
    other = prepare(configure(source, **change), root)
    assert not other.reused
    assert other.directory != first.directory
    assert prepare(configure(source), root).reused


def test_an_altered_source_prepares_anew(tmp_path: Path) -> None:
    source, root = write_csv(tmp_path / "t.csv"), tmp_path / "prepared"
    first = prepare(configure(source), root)
    write_csv(source, seed=1)
    with pytest.raises(UserError, match="run prepare first"):
        open_prepared(configure(source), root)
    other = prepare(configure(source), root)
    assert not other.reused
    assert other.directory != first.directory


@pytest.mark.parametrize("name", ["train.arrow", "test.arrow", "schema.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["remove", "alter"])
def test_harmed_parts_are_written_again(tmp_path: Path, name: str, harm: str) -> None:
    config, root = configure(write_csv(tmp_path / "t.csv")), tmp_path / "prepared"
    first = prepare(config, root)
    if harm == "remove":
        (first.directory / name).unlink()
    else:
        (first.directory / name).write_bytes(b"{}")
    if (name, harm) == ("test.arrow", "alter"):
        with pytest.raises(UserError, match=r"test\.arrow: gone or altered"):
            load_test(open_prepared(config, root))
    else:
        with pytest.raises(UserError, match="run prepare first"):
            open_prepared(config, root)
    second = prepare(config, root)
    assert second == first
    assert [entry.name for entry in root.iterdir()] == [first.directory.name]
    load_test(second)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "t.csv", rows=500)
    one, other = (prepare(configure(source), tmp_path / name) for name in ("a", "b"))
    assert one.digests == other.digests
    assert replace(one, directory=other.directory) == other


def _prepare_at_once(source: Path, root: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    data = prepare(configure(source), root)
    results.put((str(data.directory), data.digests["train"], load_test(data).y.tolist()))


def test_two_processes_at_once_both_end_well(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    source, root = write_csv(tmp_path / "t.csv", rows=2000), tmp_path / "prepared"
    for _ in range(3):
        barrier, results = context.Barrier(2), context.Queue()
        workers = [
            context.Process(target=_prepare_at_once, args=(source, root, barrier, results))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        found = [results.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert found[0] == found[1]
        assert len(list(root.iterdir())) == 1
        shutil.rmtree(root)


def _prepare_and_die(source: Path, root: Path) -> None:
    prepared._published = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    prepare(configure(source), root)


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and SIGKILL")
def test_what_a_killed_process_leaves_is_never_read(tmp_path: Path) -> None:
    source, root = write_csv(tmp_path / "t.csv"), tmp_path / "prepared"
    config = configure(source)
    worker = multiprocessing.get_context("fork").Process(
        target=_prepare_and_die, args=(source, root)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    with pytest.raises(UserError, match="run prepare first"):
        open_prepared(config, root)
    assert not prepare(config, root).reused
    load_test(open_prepared(config, root))


def test_only_load_test_opens_the_test_rows(tmp_path: Path) -> None:
    config, root = configure(write_csv(tmp_path / "t.csv")), tmp_path / "prepared"
    data = prepare(config, root)
    opened: list[str] = []
    watching = True  # an audit hook cannot be removed

    def watch(event: str, args: Any) -> None:
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    train = load_training(open_prepared(config, root))
    assert len(train.y) == 30
    watching = False
    assert [name for name in opened if "train.arrow" in name]
    assert not [name for name in opened if "test.arrow" in name]
    test_path = data.directory / "test.arrow"
    content = test_path.read_bytes()
    test_path.write_bytes(content[:-1] + b"!")  # what pyarrow opens, the hook does not see
    assert load_training(open_prepared(config, root)).y.tolist() == train.y.tolist()
    with pytest.raises(UserError, match=r"test\.arrow: gone or altered"):
        load_test(data)
    test_path.unlink()
    assert len(load_training(data).y) == 30
    with pytest.raises(UserError, match=r"test\.arrow: gone or altered"):
        load_test(data)


def test_a_source_behind_a_url_is_not_fetched_to_train(tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    write_csv(tmp_path / "t.csv")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_port}/t.csv"
        first = prepare(configure(url), root)
        assert prepare(configure(url), root).reused
        served.shutdown()
    assert open_prepared(configure(url), root) == replace(first, reused=True)
    with pytest.raises(UserError, match="run prepare first"):
        open_prepared(configure(url, seed=1), root)
    with pytest.raises(UserError, match="cannot be fetched"):
        prepare(configure(url), root)
    digest = first.digests["source"]
    assert prepare(configure(url, sha256=digest), root).reused
    with pytest.raises(UserError, match="run prepare first"):
        open_prepared(configure(url, sha256="0" * 64), root)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_test_rows_from_a_file_of_their_own(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"code": ["01", "02", "x"] * 4, "n": range(12), "label": ["1a", "2", "1a", "2"] * 3}
    )
    frame.to_csv(tmp_path / "train.csv", index=False)
    later = frame[frame.code != "x"].query("label == '2'")
    later.assign(extra=1)[["extra", "label", "n", "code"]].to_csv(
        tmp_path / "test.csv", index=False
    )
    config = configure(
        tmp_path / "train.csv", target="label", test=str(tmp_path / "test.csv"), folds=2
    )
    data = prepare(config, tmp_path / "prepared")
    rows = load_test(data)
    # Read on their own, '01' and '2' would be numbers.
    assert rows.table.column_names == ["code", "n", "label"]
    assert rows.table["code"].to_pylist() == later.code.tolist()
    assert rows.y.tolist() == [1] * len(later)
    assert rows.raw[:, 0].tolist() == [["01", "02", "x"].index(code) for code in later.code]
    assert data.rows == {"train": 12, "test": len(later)}
    assert prepare(config, tmp_path / "prepared").reused
    (tmp_path / "test.csv").write_text("code,n,label\n01,1,1a\n")
    assert not prepare(config, tmp_path / "prepared").reused


def test_what_only_test_rows_hold_teaches_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv")
    frame = pd.read_csv(tmp_path / "train.csv")
    frame["colour"] = "violet"
    frame["same"] = range(len(frame))
    frame["id"] = np.nan
    frame.to_csv(tmp_path / "test.csv", index=False)
    config = configure(tmp_path / "train.csv", test=str(tmp_path / "test.csv"))
    data = prepare(config, tmp_path / "prepared")
    assert "same" in data.left_out
    assert [(c.name, c.missing) for c in data.schema.columns] == [
        ("id", False),
        ("size", True),
        ("colour", False),
    ]
    raw = load_test(data).raw
    assert np.isnan(raw[:, 0]).all()
    assert (raw[:, 2] == -1).all()


def test_sklearn_table(tmp_path: Path) -> None:
    config = configure("sklearn:breast_cancer", target="target", folds=5, test=0.25)
    data = prepare(config, tmp_path / "prepared")
    assert data.schema.labels == ("benign", "malignant")
    assert len(data.schema.columns) == 30
    assert data.left_out == {}
    bunch = load_breast_cancer()
    assert sum(data.counts["train"]) + sum(data.counts["test"]) == len(bunch.target)
    train = load_training(data)
    assert {tuple(row) for row in train.raw} <= {tuple(row) for row in bunch.data}
    assert len(make_splits(train.y, 5, 1, 0.2, 0, data.schema.labels)) == 5


def test_every_kind_of_parquet_column_survives(tmp_path: Path) -> None:
    rows = 400
    table = pa.table(
        {
            "word": pa.array(["a", "b", None, "c"] * 100).dictionary_encode(),
            "when": pa.array([86_400_000 * i for i in range(rows)], pa.timestamp("ms", "UTC")),
            "half": pa.array(np.arange(rows), pa.float16()),
            "list": [[i] for i in range(rows)],
            "y": pa.array([0, 1, 2, 3] * 100, pa.uint8()),
        }
    )
    pa.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    data = prepare(configure(tmp_path / "t.parquet", folds=5), tmp_path / "prepared")
    train = load_training(data)
    assert [column.kind for column in data.schema.columns] == ["category", "date", "number"]
    assert list(data.left_out) == ["list"]
    assert train.table.schema.field("when").type == pa.timestamp("ms", "UTC")
    assert (train.raw[:, 1] == train.raw[:, 2]).all()
    assert data.schema.labels == (0, 1, 2, 3)


GOOD = "a,b,y\n" + "".join(f"{i},{'uvw'[i % 3]},{i % 2}\n" for i in range(20))
WRONG: dict[str, tuple[str | bytes | None, dict[str, Any], list[str]]] = {
    "missing file": (None, {}, ["t.csv", "does not exist", "did you mean 'tt.csv'"]),
    "empty file": ("", {}, ["t.csv: the file is empty"]),
    "blank lines only": ("\n\n", {}, ["t.csv", "empty"]),
    "header only": ("a,b,y\n", {}, ["no rows", "'a', 'b', 'y'"]),
    "another encoding": (
        GOOD.replace("u", "\xe9").encode("latin-1"),
        {"encoding": "utf-8"},
        ["is not utf-8"],
    ),
    "HTML": ("<!DOCTYPE html><html></html>", {}, ["another than its name says: a page of HTML"]),
    "binary": (bytes(range(256)) * 4, {}, ["t.csv"]),
    "short row": (
        GOOD.replace("3,u,1", "3,u"),
        {},
        ["as many values as the header, which has 3", "line 5 has 2"],
    ),
    "long rows": (
        GOOD.replace("2,w,0", "2,w,0,9").replace("4,v,0", "4,v,0,,"),
        {},
        ["line 4 has 4", "line 6 has 5"],
    ),
    "long row after a quoted newline": (
        GOOD.replace("0,u,0", '0,"u\nu",0').replace("1,v,1", "1,v,1,1"),
        {},
        ["line 4 has 4"],
    ),
    "two columns of one name": (
        GOOD.replace("a,b,y", "a,a,y"),
        {},
        ["column names must differ", "'a' stands 2 times"],
    ),
    "semicolons": (GOOD.replace(",", ";"), {"separator": ","}, ["must have a column 'y'"]),
    "another digest": (GOOD, {"sha256": "0" * 64}, ["expected 0000", "found "]),
    "unknown ending": (GOOD, {"source": "t.xls"}, ["t.xls", "must end with one of .csv"]),
    "a folder": (GOOD, {"source": "folder.csv"}, ["is a folder"]),
    "not gzip": (GOOD, {"source": "t.csv.gz"}, ["t.csv.gz: cannot be read"]),
    "not Parquet": (GOOD, {"source": "t.parquet"}, ["t.parquet: cannot be read"]),
    "unknown scheme": (GOOD, {"source": "s3://bucket/t.csv"}, ["http://, https:// or file://"]),
    "unknown sklearn table": (
        GOOD,
        {"source": "sklearn:breast_cancr"},
        ["did you mean 'breast_cancer'"],
    ),
    "no target": (GOOD, {"target": "label"}, ["must have a column 'label'", "'a', 'b', 'y'"]),
    "target misspelt": (
        GOOD.replace("y\n", "Potability\n", 1),
        {"target": "Potabilty"},
        ["must have a column 'Potabilty'; did you mean 'Potability'"],
    ),
    "unknown drop": (GOOD, {"drop": ("B1",)}, ["data.drop must name columns", "'B1'"]),
    "several at once": (
        GOOD,
        {"target": "z", "drop": ("no", "nor")},
        ["'z'", "got 'no'", "got 'nor'"],
    ),
    "row without a label": (
        GOOD.replace("7,v,1", "7,v,"),
        {},
        ["every row must have a label", "'y' has none in line 9", "1 of 20 rows"],
    ),
    "no labels at all": ("a,y\n1,\n2,\n", {}, ["none in lines 2, 3"]),
    "one label": ("a,y\n1,5\n2,5\n3,5\n", {}, ["'y' must hold two labels or more; got 5 in"]),
    "fractions as labels": (
        GOOD.replace("3,u,1", "3,u,1.5"),
        {},
        ["whole numbers", "'y' holds 1.5 in line 5"],
    ),
    "label of one row": (GOOD + "99,u,2\n", {}, ["at least 2 rows", "label 2 has 1"]),
    "label too rare for the folds": (
        GOOD + "99,u,2\n98,u,2\n97,v,2\n",
        {"folds": 5},
        ["at least 5 training rows for validation.folds = 5; label 2 has 2"],
    ),
    "a number as label": (
        "a,y\n" + "".join(f"{i % 7},{i}\n" for i in range(50)),
        {},
        ["regression is not supported", "'y' holds 50 different numbers"],
    ),
    "test part too small": (
        GOOD,
        {"test": 0.01},
        ["data.test must leave at least one row of each of the 2 labels", "0.01"],
    ),
    "positive is no label": (GOOD, {"positive": 3}, ["data.positive must be a label", "got 3"]),
    "positive of three": (
        GOOD.replace(",1\n", ",2\n", 3),
        {"positive": 1},
        ["data.positive must be left out unless there are two labels", "has 3"],
    ),
    "no column that informs": (
        "name,k,y\n" + "".join(f"n{i},1,{i % 2}\n" for i in range(20)),
        {},
        ["'name': it is a distinct string", "'k': it is 1 in every training row"],
    ),
    "target only": ("y\n0\n1\n0\n1\n0\n1\n0\n1\n", {}, ["none besides the label"]),
    "test file missing": (GOOD, {"test": "tset.csv"}, ["tset.csv: the file does not exist"]),
    "test file lacks a column": (
        GOOD,
        {"test": "a,B,y\n1,u,0\n"},
        ["test.csv", "column 'b' as", "t.csv has; did you mean 'B'"],
    ),
    "test file lacks the target": (GOOD, {"test": "a,b\n1,u\n"}, ["must have a column 'y'"]),
    "test file with an unknown label": (
        GOOD,
        {"test": "a,b,y\n1,u,0\n2,u,7\n"},
        ["only labels that training has (0, 1); got 7 in line 3"],
    ),
    "test file with a row without a label": (
        GOOD,
        {"test": "a,b,y\n1,u,0\n\n2,u,\n"},
        ["test.csv: every row must have a label", "line 4"],
    ),
    "test file with another column of that name": (
        GOOD,
        {"test": "a,b,y\nfar,u,0\nnear,u,1\n"},
        ["column 'a': 2 values are each no number ('far', 'near')", "at most 1 %"],
    ),
    "test file without rows": (GOOD, {"test": "a,b,y\n"}, ["test.csv", "no rows"]),
    "test file is the source": (GOOD, {"test": GOOD}, ["must hold other rows than data.source"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_tables_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content, settings, expected = WRONG[kind]
    monkeypatch.chdir(tmp_path)
    settings = dict(settings)
    source = Path(settings.pop("source", "t.csv"))
    Path("tt.csv").write_text(GOOD)
    Path("folder.csv").mkdir()
    if content is not None and "/" not in str(source) and not source.is_dir():
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    if "\n" in str(settings.get("test", "")):
        Path("test.csv").write_text(settings["test"])
        settings["test"] = "test.csv"
    name = str(settings.pop("source", None) or WRONG[kind][1].get("source", "t.csv"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError) as caught:
        prepare(configure(name, **settings), Path("prepared"))
    for part in expected:
        assert part in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_there_are_enough_wrong_tables() -> None:
    assert len(WRONG) >= 20


def test_fewer_rows_than_new_folds_is_noticed_on_reuse(tmp_path: Path) -> None:
    source, root = write_csv(tmp_path / "t.csv"), tmp_path / "prepared"
    prepare(configure(source), root)
    with pytest.raises(UserError, match="at least 16 training rows"):
        prepare(configure(source, folds=16), root)


SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the water potability tables are not here")
def test_water_potability(tmp_path: Path) -> None:
    target = {"target": "Potability", "folds": 5}
    raw = prepare(configure(SHARED / "water_potability.csv", **target), tmp_path / "prepared")
    assert raw.rows == {"train": 2457, "test": 819}
    missing = {column.name for column in raw.schema.columns if column.missing}
    assert missing == {"ph", "Sulfate", "Trihalomethanes"}
    pair: PreparedData = prepare(
        configure(SHARED / "water_train.csv", test=str(SHARED / "water_test.csv"), **target),
        tmp_path / "prepared",
    )
    assert pair.rows == {"train": 1508, "test": 503}
    frame = pd.read_csv(SHARED / "water_test.csv")
    np.testing.assert_array_equal(load_test(pair).raw, frame.drop(columns="Potability").to_numpy())
