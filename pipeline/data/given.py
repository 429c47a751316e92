"""Rows that Python hands over, in place of a source that is read."""

from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from pipeline.common.errors import UserError

Given: TypeAlias = pa.Table | tuple[Any, Any]
"""A table, or arrays (x, y)."""

TABLE, ARRAYS = "a data frame", "arrays"
"""What stands as `data.source` then."""


def given(data: Any) -> Given:
    """A data frame of pandas, of polars or another that Arrow reads, or a pair of arrays.

    An index of pandas is left out. Raises UserError: anything else, a column of mixed types."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    try:
        if isinstance(data, pd.DataFrame):
            table = pa.Table.from_pandas(data, preserve_index=False)
        elif hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):
            table = pa.table(data)
            for place, field in enumerate(table.schema):
                if "values=string_view" in str(field.type):  # a category of polars
                    chunks = table[place].chunks
                    texts = [c.dictionary.cast(pa.string()).take(c.indices) for c in chunks]
                    table = table.set_column(place, field.name, pa.chunked_array(texts, "string"))
        else:
            raise UserError(
                "data: must be a data frame (pandas, polars, Arrow) or a pair (x, y) of arrays; "
                f"got {type(data).__name__}"
            )
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"data: {'; '.join(map(str, error.args))}") from None
    return table.replace_schema_metadata(None)


def name_of(given: Given) -> str:
    """What tables, logs and messages call it."""
    return TABLE if isinstance(given, pa.Table) else ARRAYS
