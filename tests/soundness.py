"""What holds of every store, whatever was done to it."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

VALUES = (
    ("metrics", "value"),
    ("latest_metrics", "value"),
    ("logged_model_metrics", "metric_value"),
)


def assert_sound(store: Path) -> None:
    """Every run of the SQLite file has ended and every value is a finite number."""
    with closing(sqlite3.connect(store)) as database:
        for table, column in VALUES:
            for (value,) in database.execute(f"SELECT {column} FROM {table}"):
                assert value is not None
                assert math.isfinite(value)
                assert abs(value) < 1e300  # as infinity is stored
        assert not database.execute("SELECT * FROM metrics WHERE is_nan").fetchall()
        statuses = {status for (status,) in database.execute("SELECT status FROM runs")}
    assert statuses <= {"FINISHED", "FAILED", "KILLED"}
