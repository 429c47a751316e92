"""What is said on the terminal: progress, the closing table, warnings and errors.

Text from data and configuration is shown as it is: rich's markup, emoji codes and a terminal's
escape codes in it have no effect."""

import io
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TextIO

import rich.table
from rich import box, progress
from rich.console import Console as RichConsole
from rich.text import Text

from pipeline.analysis.ranking import best_trial
from pipeline.common import text as formats
from pipeline.common.addresses import masked
from pipeline.models.metrics import Metric
from pipeline.report.tables import Table
from pipeline.training.trial import Trial

_WIDTH = 100_000  # where the output is no terminal: no cell of a table is cut or broken
_LONGEST_NAME = 15  # of an optimizer in a table


class Console:
    """Writes results to `output` and warnings and errors to `errors` (stdout and stderr).

    On a terminal progress is a bar that stays in place; elsewhere plain lines, one at most every
    `interval` seconds and one at the end."""

    def __init__(
        self,
        output: TextIO | None = None,
        errors: TextIO | None = None,
        *,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output, self._errors = output or sys.stdout, errors or sys.stderr
        self.interval, self.clock = interval, clock
        for stream in (self._output, self._errors):
            if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks shall not fail
                stream.reconfigure(errors="backslashreplace")
        is_terminal = self._output.isatty()
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False}
        self.rich = RichConsole(
            file=self._output,
            width=None if is_terminal else _WIDTH,
            force_terminal=is_terminal,  # notebooks force colours, and cannot move the cursor
            force_jupyter=False,
            **plain,
        )

    @property
    def is_terminal(self) -> bool:
        return self.rich.is_terminal and not self.rich.is_dumb_terminal

    def say(self, *lines: str) -> None:
        """Lines of plain text to the output, never wrapped."""
        for line in lines:
            self._write(self._output, line)

    def warn(self, message: str) -> None:
        self._write(self._errors, f"warning: {message}")

    def _write(self, stream: TextIO, line: str) -> None:
        text = formats.printable(masked(line))
        try:
            if self.is_terminal and stream.isatty():  # above a bar, not through it
                self.rich.print(Text(text), soft_wrap=True)
            else:
                print(text, file=stream, flush=True)
        except BrokenPipeError:
            # A reader that goes (`| head`) ends the talking, not the search. What the stream still
            # holds must go somewhere, or its last flush fails at exit.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())

    def table(self, table: Table) -> None:
        """A table whose numbers stand to the right; headings are broken to the width of the cells
        below them."""
        layout: dict[str, Any] = {"show_edge": False, "pad_edge": False, "collapse_padding": True}
        shown = rich.table.Table(box=box.SIMPLE_HEAD, **layout)
        for place, column in enumerate(table.columns):
            width = max([1, *(len(row[place]) for row in table.rows)])
            heading = textwrap.fill(column.heading, width, break_long_words=False)
            right = column.kind == "number"
            # What is text gives way, where a terminal is too narrow.
            how: Any = {"no_wrap": column.kind != "text", "justify": "right" if right else "left"}
            shown.add_column(heading, **how)
        for row in table.rows:
            cells = [
                formats.shorten(cell, _LONGEST_NAME) if column.kind == "optimizer" else cell
                for cell, column in zip(row, table.columns, strict=True)
            ]
            shown.add_row(*[Text(formats.printable(cell)) for cell in cells])
        with suppress(SystemExit):
            self.rich.print(shown)

    def closing(
        self, table: Table, sentences: Sequence[str], commands: Sequence[tuple[str, str]]
    ) -> None:
        """The end of a run: the table of the optimizers, the answer, and the next commands.

        `commands` are (what for, command) pairs; a command of several lines is indented whole."""
        if table.rows:
            self.say("")
            self.table(table)
            self.say("")
        self.say(*sentences)
        for purpose, command in commands:
            self.say("", f"{purpose}:", *[f"  {line}".rstrip() for line in command.splitlines()])


class _Progress:
    """On a terminal a bar, which lines are written above and which goes however the block ends;
    elsewhere lines of text, one at most every `interval` seconds."""

    def __init__(self, console: Console, name: str, total: float, before: float = 0) -> None:
        self._console, self._total, self._before = console, total, before
        self._bar = progress.Progress(
            progress.TextColumn(name, markup=False),
            progress.BarColumn(bar_width=28),
            progress.TextColumn("{task.description}", markup=False),
            progress.TimeRemainingColumn(compact=True),
            console=console.rich,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=int(before))
        self._started = console.clock()
        self._spoken: float | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, completed: float, words: str) -> None:
        """So much of the total is done, in words; a line where there is no bar, if it is time for
        one or the end."""
        self._bar.update(self._task, completed=completed, description=formats.printable(words))
        now, at_end = self._console.clock(), completed >= self._total
        is_due = self._spoken is None or now - self._spoken >= self._console.interval
        if self._console.is_terminal or not (at_end or is_due):
            return
        passed, self._spoken = now - self._started, now
        left = passed / (completed - self._before) * (self._total - completed)
        took = formats.duration(passed)
        time = f"took {took}" if at_end else f"about {formats.duration(left)} left"
        self._console.say(f"{words}, {time}")


class SearchProgress(_Progress):
    """Trials done, the best so far and the time left.

    `total` trials in all, of which `done` were there before."""

    def __init__(
        self, console: Console, total: int, metric: Metric, done: Sequence[Trial] = ()
    ) -> None:
        super().__init__(console, "Trials", total, len(done))
        self._trials, self._metric, self._done = total, metric, len(done)
        self._best = best_trial(done, metric)
        if done and not console.is_terminal:
            console.say(f"{self._counted()} are there from an earlier start{self._best_words()}")

    def update(self, trials: Sequence[Trial]) -> None:
        """`trials` have ended, in whatever state."""
        self._done += len(trials)
        candidates = [*trials, self._best] if self._best is not None else trials
        self._best = best_trial(candidates, self._metric)
        self._show(self._done, self._counted() + self._best_words())

    def _counted(self) -> str:
        return f"{self._done} of {formats.count(self._trials, 'trial')}"

    def _best_words(self) -> str:
        if (best := self._best) is None:
            return ""
        score = f"{self._metric.words} {self._metric.text(best.score(self._metric))}"
        name = formats.shorten(best.optimizer, 24)
        return f", best {score} ({name}, lr {formats.number(best.lr, 2)})"


class RowProgress(_Progress):
    """Rows scored and rejected so far."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "Rows", 1.0)
        self._spoken = self._started
        self.scored = self.rejected = 0

    def update(self, scored: int, rejected: int, done: float) -> None:
        """So many more rows; `done` is the part of the file that has been read, in [0, 1]."""
        self.scored += scored
        self.rejected += rejected
        rejections = f", {self.rejected:,} rejected" if self.rejected else ""
        if 0 < done < 1:
            self._show(done, formats.count(self.scored, "row") + rejections)
