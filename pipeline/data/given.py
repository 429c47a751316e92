"""Rows that Python hands over, in place of a source that is read."""

from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
from pandas.api.types import is_object_dtype

from pipeline.common.errors import UserError

Given: TypeAlias = pa.Table | tuple[Any, Any]
"""A table, or arrays (x, y)."""

TABLE, ARRAYS = "a data frame", "arrays"
"""What stands as `data.source` then."""


def given(data: Any) -> Given:
    """A data frame of pandas, of polars or another that Arrow reads, or a pair of arrays.

    An index of pandas is left out. Raises UserError: anything else, columns that Arrow has not."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    try:
        if isinstance(data, pd.DataFrame):
            table = as_arrow(data)
        elif hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):
            table = pa.table(data)
            for place, field in enumerate(table.schema):
                if "values=string_view" in str(field.type):  # a category of polars
                    chunks = table[place].chunks
                    texts = [c.dictionary.cast(pa.string()).take(c.indices) for c in chunks]
                    coded = pa.chunked_array(texts, "string").dictionary_encode()
                    table = table.set_column(place, field.name, coded)
        else:
            raise UserError(
                "data: must be a data frame (pandas, polars, Arrow) or a pair (x, y) of arrays; "
                f"got {type(data).__name__}"
            )
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"data: {'; '.join(map(str, error.args))}") from None
    return table.replace_schema_metadata(None)


def as_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame without its index. A column of several types is text, as `str` writes its values.
    Raises pa.ArrowException, ValueError: names that stand twice, values that Arrow has not."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        mixed = {
            name: frame[name].map(str, na_action="ignore")
            for name, dtype in frame.dtypes.items()
            if is_object_dtype(dtype) and frame[name].map(type).nunique() > 1
        }
        return pa.Table.from_pandas(frame.assign(**mixed), preserve_index=False)


def name_of(given: Given) -> str:
    """What tables, logs and messages call it."""
    return TABLE if isinstance(given, pa.Table) else ARRAYS
