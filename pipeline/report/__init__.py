"""What people read: the answer in words and tables, the page, the descriptions and the plots."""

from pipeline.report.answer import Report, loading_code, ui_command, verdict
from pipeline.report.facts import Facts, validation_words, versions
from pipeline.report.optimizer_table import final_scores, optimizer_rows

__all__ = [
    "Facts",
    "Report",
    "final_scores",
    "loading_code",
    "optimizer_rows",
    "ui_command",
    "validation_words",
    "verdict",
    "versions",
]
