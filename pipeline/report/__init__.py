"""What people read: the answer in words and tables, the page, the descriptions and the plots."""

from pipeline.report.answer import (
    Facts,
    Report,
    final_scores,
    loading_code,
    optimizer_rows,
    ui_command,
    validation_words,
    verdict,
    versions,
)

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
