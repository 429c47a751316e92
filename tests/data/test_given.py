import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline.common.errors import UserError
from pipeline.data.given import given, name_of
from pipeline.data.sources import Part

COLUMNS = {
    "number": [1.5, None, 3.0],
    "whole": [1, 2, 3],
    "flag": [True, None, False],
    "text": ["a", None, "c"],
}


def test_data_frames_of_every_make() -> None:
    for frame in (
        pd.DataFrame(COLUMNS, index=[7, 8, 9]).astype({"flag": "boolean"}),
        pl.DataFrame(COLUMNS),
        pa.table(COLUMNS),
        pa.record_batch(COLUMNS),
    ):
        table = given(frame)
        assert table.to_pydict() == COLUMNS
        assert table.schema.metadata is None
        assert name_of(table) == "a data frame"
    x, y = np.zeros((3, 2)), [0, 1, 0]
    assert given([x, y]) == (x, y)
    assert name_of((x, y)) == "arrays"


def test_categories() -> None:
    texts = ["b", "a", None, "b"]
    series = pl.Series(texts)
    frame = pl.DataFrame({"c": series.cast(pl.Categorical), "e": series.cast(pl.Enum(["a", "b"]))})
    both = pl.concat([frame, frame], rechunk=False)
    assert given(both).to_pydict() == {"c": texts * 2, "e": texts * 2}
    assert given(pd.DataFrame({"c": pd.Categorical(texts)})).to_pydict() == {"c": texts}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((3, 2)), "must be a data frame .* got ndarray"),
        ({"a": [1]}, "got dict"),
        (pl.DataFrame(COLUMNS).lazy(), "got LazyFrame"),
        (pl.Series([1, 2]), "got Series"),
        (pd.Series([1, 2]), "got Series"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (pd.DataFrame({"mixed": [object(), "a"], "x": [1j, 2j]}), "complex"),
    ],
)
def test_what_is_no_table(data: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        given(data)


def test_the_digest_is_of_the_content() -> None:
    def digest(**columns: object) -> str:
        return Part("a data frame", pa.table({**COLUMNS, **columns})).digest

    same = pa.concat_tables([pa.table(COLUMNS).slice(0, 1), pa.table(COLUMNS).slice(1)])
    assert digest() == Part("x", same).digest
    others = [
        digest(),
        digest(whole=[1, 2, 4]),
        digest(whole=[1.0, 2.0, 3.0]),
        digest(whole=[1, None, 3]),
        digest(number=[1.5, 2.0, 3.0]),
        digest(text=["a", None, "d"]),
    ]
    assert len(set(others)) == len(others)
