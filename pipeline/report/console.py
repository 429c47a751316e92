"""What is said on the terminal: progress, the closing table, warnings and errors.

Text from data and configuration is shown as it is: rich's markup, emoji codes and a terminal's
escape codes in it have no effect."""

import importlib
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TextIO

import rich.table
from rich import box, progress
from rich.console import Console as RichConsole
from rich.text import Text

from pipeline.analysis.ranking import best_trial
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.tables import Table
from pipeline.training.trial import Trial

_WIDTH = 110  # of tables where the output is no terminal
_NOTEBOOK_BAR = 28  # characters
_NOTEBOOK_SECONDS = 0.5  # between two drawings
_LONGEST_NAME = 15  # of an optimizer in a table
_NOT_SHOWN = ("Against the best", "Completed", "Time")  # with them a table is wider than 80 columns


class Console:
    """Writes results to `output` and warnings and errors to `errors` (stdout and stderr).

    On a terminal and in a notebook progress is a bar that stays in place; elsewhere plain lines,
    one at most every `interval` seconds and one at the end."""

    def __init__(
        self,
        output: TextIO | None = None,
        errors: TextIO | None = None,
        *,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output or sys.stdout
        self._errors = errors or sys.stderr
        self._interval, self._clock = interval, clock
        width = None if self._output.isatty() else _WIDTH
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False}
        self._rich = RichConsole(file=self._output, width=width, **plain)
        self._has_bar = False

    @property
    def is_terminal(self) -> bool:
        return self._rich.is_terminal and not self._rich.is_dumb_terminal

    @property
    def is_notebook(self) -> bool:
        return self._rich.is_jupyter

    def say(self, *lines: str) -> None:
        """Lines of plain text to the output, never wrapped."""
        for line in lines:
            self._write(self._output, line)

    def warn(self, message: str) -> None:
        self._write(self._errors, f"warning: {message}")

    def _write(self, stream: TextIO, line: str) -> None:
        text = _encodable(formats.printable(formats.without_password(line)), stream)
        if self._has_bar and stream.isatty():  # above the bar, not through it
            self._rich.print(Text(text), soft_wrap=True)
        else:
            with _reader_may_go(stream):
                print(text, file=stream, flush=True)

    def table(self, table: Table) -> None:
        """A table whose numbers stand to the right; headings are broken to the width of the cells
        below them."""
        shown = rich.table.Table(
            box=box.SIMPLE_HEAD if _can_write("─", self._output) else box.ASCII2,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for place, column in enumerate(table.columns):
            width = max([1, *(len(row[place]) for row in table.rows)])
            heading = textwrap.fill(column.heading, width, break_long_words=False)
            right = column.kind == "number"
            shown.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for row in table.rows:
            cells = [
                formats.shorten(cell, _LONGEST_NAME) if column.kind == "optimizer" else cell
                for cell, column in zip(row, table.columns, strict=True)
            ]
            shown.add_row(*[Text(_encodable(formats.printable(t), self._output)) for t in cells])
        with _reader_may_go(self._output):
            self._rich.print(shown)

    def closing(
        self, table: Table, sentences: Sequence[str], commands: Sequence[tuple[str, str]]
    ) -> None:
        """The end of a run: the table of the optimizers, as far as 80 columns hold it, the answer,
        and the next commands.

        `commands` are (what for, command) pairs; a command of several lines is indented whole."""
        if rows := table.records():
            empty = [name for name in ("Failed", "Pruned") if all(row[name] == "0" for row in rows)]
            self.say("")
            self.table(table.without([*_NOT_SHOWN, *empty]))
            self.say("")
        self.say(*sentences)
        for purpose, command in commands:
            self.say("", f"{purpose}:", *[f"  {line}".rstrip() for line in command.splitlines()])


@contextmanager
def _reader_may_go(stream: TextIO) -> Iterator[None]:
    """A closed pipe (`| head`) ends the talking and not the search."""
    try:
        yield
    except BrokenPipeError:
        # What the stream still holds must go somewhere, or its last flush fails at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Progress:
    """On a terminal a bar, which lines are written above and which goes however the block ends; in
    a notebook a bar that stays; elsewhere lines of text, one at most every `interval` seconds."""

    def __init__(
        self, console: Console, name: str, position: progress.ProgressColumn, total: float
    ) -> None:
        self._console = console
        self._bar = progress.Progress(
            progress.TextColumn(name, markup=False),
            progress.BarColumn(bar_width=28),
            position,
            progress.TextColumn("{task.description}", markup=False),
            progress.TimeRemainingColumn(compact=True),
            console=console._rich,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)
        self._name, self._total = name, total
        self._started = console._clock()
        self._spoken: float | None = None
        self._display: Any = None

    def __enter__(self) -> Self:
        self._bar.start()
        self._console._has_bar = self._console.is_terminal
        return self

    def __exit__(self, *_: object) -> None:
        self._console._has_bar = False
        self._bar.stop()

    def _draw(self, completed: float, words: str) -> None:
        words = _encodable(formats.printable(words), self._console._output)
        self._bar.update(self._task, completed=completed, description=words)
        if not self._console.is_notebook:
            return
        now = self._console._clock()
        waits = self._spoken is not None and now - self._spoken < _NOTEBOOK_SECONDS
        if waits and completed < self._total:
            return
        self._spoken = now
        display: Any = importlib.import_module("IPython.display").display
        filled = int(_NOTEBOOK_BAR * completed / self._total)
        bar = "█" * filled + "░" * (_NOTEBOOK_BAR - filled)
        data = {"text/plain": f"{self._name} {bar} {words}"}
        if self._display is None:
            self._display = display(data, raw=True, display_id=True)
        else:
            self._display.update(data, raw=True)

    def _due(self, at_end: bool = False) -> bool:
        """Whether a line is to be written, which then counts as written now."""
        if self._console.is_terminal or self._console.is_notebook:
            return False
        now = self._console._clock()
        due = at_end or self._spoken is None or now - self._spoken >= self._console._interval
        self._spoken = now if due else self._spoken
        return due


class SearchProgress(_Progress):
    """Trials done, the best so far and the time left.

    `total` trials in all, of which `done` were there before."""

    def __init__(
        self, console: Console, total: int, metric: Metric, done: Sequence[Trial] = ()
    ) -> None:
        super().__init__(console, "Trials", progress.MofNCompleteColumn(), total)
        self._trials, self._metric = total, metric
        self._done = self._before = len(done)
        self._best = best_trial(done, metric)
        if done and not console.is_terminal:
            console.say(f"{self._counted()} are there from an earlier start{self._best_words()}")
        self._draw_bar()

    def update(self, trials: Sequence[Trial]) -> None:
        """`trials` have ended, in whatever state."""
        self._done += len(trials)
        candidates = [*trials, self._best] if self._best is not None else trials
        self._best = best_trial(candidates, self._metric)
        self._draw_bar()
        if self._due(at_end=self._done >= self._trials):
            self._console.say(self._line())

    def _draw_bar(self) -> None:
        """With words, of which a terminal's bar counts the trials and the time itself."""
        best = self._best_words().removeprefix(", ")
        self._draw(self._done, self._line() if self._console.is_notebook else best)

    def _line(self) -> str:
        passed, ran = self._console._clock() - self._started, self._done - self._before
        left = self._trials - self._done
        time = f", about {formats.duration(passed / ran * left)} left" if ran else ""
        if left <= 0:
            time = f", took {formats.duration(passed)}"
        return self._counted() + self._best_words() + time

    def _counted(self) -> str:
        return f"{self._done} of {formats.count(self._trials, 'trial')}"

    def _best_words(self) -> str:
        if (best := self._best) is None:
            return ""
        score = f"{self._metric.name} {self._metric.text(best.score(self._metric))}"
        name = formats.shorten(best.optimizer, 24)
        return f", best {score} ({name}, lr {formats.number(best.lr, 2)})"


class RowProgress(_Progress):
    """Rows scored and rejected so far."""

    def __init__(self, console: Console) -> None:
        share = progress.TextColumn("{task.percentage:>3.0f} %", markup=False)
        super().__init__(console, "Rows", share, 1.0)
        self._spoken = self._started
        self.scored = self.rejected = 0

    def update(self, scored: int, rejected: int, done: float) -> None:
        """So many more rows; `done` is the part of the file that has been read, in [0, 1]."""
        self.scored += scored
        self.rejected += rejected
        words = formats.count(self.scored, "row")
        if self.rejected:
            words += f", {self.rejected:,} rejected"
        self._draw(done, words)
        if 0 < done < 1 and self._due():
            passed = self._console._clock() - self._started
            left = formats.duration(passed / done * (1 - done))
            self._console.say(f"{words}, {formats.percent(done, 0)}, about {left} left")


def _can_write(text: str, stream: TextIO) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encodable(text: str, stream: TextIO) -> str:
    """The text with what the stream's encoding lacks as escapes, so that writing never fails."""
    if _can_write(text, stream):
        return text
    encoding = getattr(stream, "encoding", None) or "ascii"
    for sign, plain in (("–", "-"), ("−", "-"), ("±", "+/-"), ("…", "...")):
        text = text.replace(sign, plain)
    return text.encode(encoding, "backslashreplace").decode(encoding)
