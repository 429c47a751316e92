"""What holds of every store, whatever was done to it."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

VALUES = (
    ("metrics", "key", "value"),
    ("latest_metrics", "key", "value"),
    ("logged_model_metrics", "metric_name", "metric_value"),
)


def assert_sound(store: Path) -> None:
    """Every run of the SQLite file has ended and every value is a finite number."""
    with closing(sqlite3.connect(store)) as database:
        for table, name, column in VALUES:
            for key, value in database.execute(f"SELECT {name}, {column} FROM {table}"):
                assert value is not None, (table, key)
                assert math.isfinite(value), (table, key, value)
                assert abs(value) < 1e300, (table, key, value)  # as infinity is stored
        assert not database.execute("SELECT * FROM metrics WHERE is_nan").fetchall()
        statuses = {status for (status,) in database.execute("SELECT status FROM runs")}
    assert statuses <= {"FINISHED", "FAILED", "KILLED"}
