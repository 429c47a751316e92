"""List the searches of the tracking store."""

from datetime import datetime

from pipeline.common import text as formats
from pipeline.report.console import Console
from pipeline.tracking.searches import SearchRun, searches

HEAD = ("Experiment", "Table", "State", "Trials", "Best accuracy", "Started", "Run")


def status() -> None:
    """One line for each search, the latest first."""
    console = Console()
    found = searches()
    if not found:
        console.say("No searches yet.")
        return
    console.table(HEAD, [_row(search) for search in found], left=3)
    if any(search.state == "unfinished" for search in found):
        console.say("", "An unfinished search goes on when its command is given again.")


def _row(search: SearchRun) -> tuple[str, ...]:
    budget = "?" if search.budget is None else str(search.budget)
    return (
        formats.shorten(search.experiment, 24),
        formats.shorten(search.table, 20),
        search.state,
        f"{search.trials}/{budget}",
        formats.percent(search.best) if search.best is not None else "–",
        f"{datetime.fromtimestamp(search.started / 1000):%Y-%m-%d %H:%M}",
        search.run_id,
    )
