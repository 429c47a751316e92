"""`predict` for models of arrays: .npz files and folders of images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.commands.predict import Scored, predict
from pipeline.common.errors import UserError
from tests.small_array_model import (
    array_schema,
    expected_probabilities,
    save_array_model,
    save_image,
    save_images,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_store: Callable[[Path], str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_array_model(folder / "images", array_schema((1, 4, 6), "uint8"))
    save_array_model(folder / "sized", array_schema((3, 4, 6), "uint8", size=[4, 6]))
    save_array_model(folder / "floats", array_schema((2, 3), "float32", ["a", "b", "c"]))
    return folder


def score(model: Path, source: str, output: str = "out.csv", **options: object) -> Scored:
    return predict(str(model), source, Path(output), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_arrays_of_a_file(models: Path, output: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 2, 3)) * 60
    np.savez("x.npz", x=x)
    scored = score(models / "floats", "x.npz", output)
    assert (scored.rows, scored.rejected) == (5, 0)
    found = pd.read_csv(output) if output.endswith("csv") else pd.read_parquet(output)
    names = ["prediction", "probability_a", "probability_b", "probability_c"]
    assert list(found.columns) == names
    np.testing.assert_allclose(found[names[1:]], expected_probabilities(x, 3), atol=1e-6)


def test_rows_that_do_not_fit_are_rejected(models: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    x[1, 0, 0], x[4, 1, 2] = np.nan, 1e300
    np.savez("x.npz", x=x)
    scored = score(models / "floats", "x.npz")
    assert (scored.rows, scored.rejected) == (3, 2)
    rejected = pd.read_csv(scored.rejected_path)
    assert list(rejected["row"]) == [2, 5]
    assert rejected["reason"][0] == "expected finite numbers of float32; got nan"
    assert len(pd.read_csv("out.csv")) == 3


def test_no_rows_make_a_header(models: Path) -> None:
    np.savez("x.npz", x=np.empty((0, 2, 3)))
    assert score(models / "floats", "x.npz").rows == 0
    assert Path("out.csv").read_text().startswith('"prediction"')


@pytest.mark.parametrize("place", ["", "deep/er"])
def test_a_folder_of_images(models: Path, place: str) -> None:
    images = save_images(Path("im") / place, ["b", "a"], 3)
    images = {f"{place}/{name}".lstrip("/"): pixels for name, pixels in images.items()}
    save_image(Path("im/a/wide.png"), np.zeros((4, 8), np.uint8))
    Path("im/notes.txt").write_text("no image")
    Path("im/.hidden").write_text("nothing")
    scored = score(models / "images", "im")
    assert (scored.rows, scored.rejected) == (6, 2)
    found = pd.read_csv("out.csv")
    assert list(found.columns) == ["file", "prediction", "probability"]
    assert list(found["file"]) == sorted(images)
    rows = np.stack([images[name] for name in found["file"]])
    np.testing.assert_allclose(found["probability"], expected_probabilities(rows)[:, 1], atol=1e-6)
    rejected = pd.read_csv(scored.rejected_path).set_index("file")["reason"]
    assert rejected["notes.txt"] == "no image that Pillow knows"
    assert rejected["a/wide.png"] == "expected 4 x 6 pixels; got 4 x 8"


def test_images_are_brought_to_the_model(models: Path) -> None:
    (pixels,) = save_images(Path("im"), ["x"], 1, (9, 7)).values()
    score(models / "sized", "im")
    image = Image.fromarray(pixels).resize((6, 4), Image.Resampling.BILINEAR)
    rows = np.repeat(np.asarray(image)[None, None], 3, axis=1)
    found = pd.read_csv("out.csv")["probability"]
    np.testing.assert_allclose(found, expected_probabilities(rows)[:, 1], atol=1e-6)


def test_what_cannot_be_scored_is_refused_by_name(models: Path) -> None:
    np.savez("x.npz", x=np.zeros((5, 3)))
    np.savez("y.npz", y=np.zeros((5, 3)))
    Path("table.csv").write_text("a\n1\n")
    Path("empty").mkdir()
    save_images(Path("im"), ["a"], 1)
    save_image(Path("wide/a.png"), np.zeros((4, 8), np.uint8))
    for model, source, words in (
        ("floats", "x.npz", "x.npz: x: rows must be an array [rows, 2, 3] of numbers; got [5, 3]"),
        ("floats", "y.npz", "must hold an array 'x'"),
        ("floats", "table.csv", "must end with one of .npz"),
        ("floats", "im", "the model takes arrays [2, 3] float32, not images"),
        ("images", "empty", "holds no images"),
        ("images", "nowhere.npz", "does not exist"),
        ("images", "wide", "none of its rows; row 1: a.png: expected 4 x 6 pixels"),
    ):
        with pytest.raises(UserError) as caught:
            score(models / model, source)
        assert words in str(caught.value)
        assert not Path("out.csv").exists()
    with pytest.raises(UserError, match="--keep: is for tables"):
        score(models / "images", "im", keep=["a"])
    with pytest.raises(UserError, match="--threshold: unknown"):
        score(models / "floats", "x.npz", threshold=0.5)
