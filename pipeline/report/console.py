"""What is said on the terminal: progress, the closing table, warnings and errors.

Text from data and configuration is shown as it is: rich's markup, emoji codes and a terminal's
escape codes in it have no effect.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich import box
from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipeline.analysis.ranking import Objective, OptimizerSummary, TrialResult, best_trial
from pipeline.common import text as formats
from pipeline.common.errors import UserError

_WIDTH = 110  # of tables where the output is no terminal


class Console:
    """Writes results to `output` and warnings and errors to `errors` (stdout and stderr).

    On a terminal progress is a bar that stays in place; elsewhere plain lines, one at most every
    `interval` seconds and one at the end.
    """

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
        self._rich = RichConsole(
            file=self._output,
            markup=False,
            highlight=False,
            emoji=False,
            width=None if self._output.isatty() else _WIDTH,
        )
        self._live: RichConsole | None = None

    @property
    def is_terminal(self) -> bool:
        return self._rich.is_terminal and not self._rich.is_dumb_terminal

    def say(self, *lines: str) -> None:
        """Lines of plain text to the output, never wrapped."""
        for line in lines:
            self._write(self._output, line)

    def warn(self, message: str) -> None:
        self._write(self._errors, f"warning: {message}")

    def error(self, error: UserError | str) -> None:
        """One `error: ...` line for each problem."""
        for problem in error.problems if isinstance(error, UserError) else (error,):
            self._write(self._errors, f"error: {problem}")

    def _write(self, stream: TextIO, line: str) -> None:
        text = _encodable(formats.printable(formats.without_password(line)), stream)
        if self._live is not None and stream.isatty():  # above the bar, not through it
            self._live.print(Text(text), soft_wrap=True)
        else:
            with self._reader_may_go(stream):
                print(text, file=stream, flush=True)

    @contextmanager
    def _reader_may_go(self, stream: TextIO) -> Iterator[None]:
        """A closed pipe (`| head`) ends the talking and not the search."""
        try:
            yield
        except BrokenPipeError:
            # What the stream still holds must go somewhere, or its last flush fails at exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    @contextmanager
    def search(
        self, total: int, objective: Objective = "val_accuracy", done: Sequence[TrialResult] = ()
    ) -> Iterator["SearchProgress"]:
        """Progress of a search of `total` trials, of which `done` were there before.

        The bar is taken away however the block ends.
        """
        if not self.is_terminal:
            yield SearchProgress(self, total, objective, done, None, None)
            return
        progress = Progress(
            TextColumn("Trials", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._rich,
            transient=True,
        )
        task = progress.add_task("", total=total, completed=len(done))
        with progress:
            self._live = self._rich
            try:
                yield SearchProgress(self, total, objective, done, progress, task)
            finally:
                self._live = None

    @contextmanager
    def rows(self) -> Iterator["RowProgress"]:
        """Progress through the rows of a file. The bar is taken away however the block ends."""
        if not self.is_terminal:
            yield RowProgress(self, None, None)
            return
        progress = Progress(
            TextColumn("Rows", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._rich,
            transient=True,
        )
        task = progress.add_task("", total=1.0)
        with progress:
            yield RowProgress(self, progress, task)

    def optimizers(
        self,
        summaries: Sequence[OptimizerSummary],
        objective: Objective = "val_accuracy",
        final: Mapping[str, str] | None = None,
    ) -> None:
        """The table per optimizer, in the order given, within 80 columns; `final` are the scores of
        the final round."""
        accuracy = objective == "val_accuracy"
        name = "accuracy" if accuracy else "loss"
        columns: list[tuple[str, list[str]]] = [
            ("Optimizer", [formats.shorten(item.optimizer, 15) for item in summaries]),
            ("Trials", [str(item.trials) for item in summaries]),
        ]
        for state in ("failed", "pruned"):
            counts = [getattr(item, state) for item in summaries]
            if any(counts):
                columns.append((state.capitalize(), [str(n) for n in counts]))
        if accuracy:
            best = [formats.percent(item.accuracy) for item in summaries]
            middle = [formats.percent(item.median_accuracy) for item in summaries]
        else:
            best = [formats.number(item.loss) for item in summaries]
            middle = [formats.number(item.median_loss) for item in summaries]
        if final:
            scores = [final.get(item.optimizer, "–") for item in summaries]
            columns.append((f"Final {name}", scores))
        columns += [
            (f"Best {name}", best),
            (f"Median {name}", middle),
            ("Best lr", [formats.number(item.lr) for item in summaries]),
        ]
        heads = [head for head, _ in columns]
        self.table(heads, list(zip(*[cells for _, cells in columns], strict=True)))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
        """A table whose first `left` columns stand to the left, the others to the right."""
        plain = not _can_write("─", self._output)
        table = Table(
            box=box.ASCII2 if plain else box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place >= left else "left", no_wrap=True)
        for row in rows:
            table.add_row(*[self._cell(cell) for cell in row])
        with self._reader_may_go(self._output):
            self._rich.print(table)

    def _cell(self, text: str) -> Text:
        return Text(_encodable(formats.printable(text), self._output))

    def closing(
        self,
        summaries: Sequence[OptimizerSummary],
        sentences: Sequence[str],
        commands: Sequence[tuple[str, str]],
        objective: Objective = "val_accuracy",
        final: Mapping[str, str] | None = None,
    ) -> None:
        """The end of a run: the table per optimizer, the answer, and the next commands.

        `commands` are (what for, command) pairs; a command of several lines is indented whole.
        """
        if summaries:
            self.say("")
            self.optimizers(summaries, objective, final)
            self.say("")
        self.say(*sentences)
        for purpose, command in commands:
            self.say("", f"{purpose}:", *[f"  {line}".rstrip() for line in command.splitlines()])


class SearchProgress:
    """Trials done, the best so far and the time left; made by `Console.search`."""

    def __init__(
        self,
        console: Console,
        total: int,
        objective: Objective,
        done: Sequence[TrialResult],
        progress: Progress | None,
        task: TaskID | None,
    ) -> None:
        self._console, self._total, self._objective = console, total, objective
        self._progress, self._task = progress, task
        self._done = self._before = len(done)
        self._best = best_trial(done, objective)
        self._started = console._clock()
        self._said: float | None = None
        if done and progress is None:
            console.say(
                f"{self._counted()} are there from an earlier start{self._best_words(', ')}"
            )
        elif progress is not None and task is not None:
            progress.update(task, description=self._shown())

    def update(self, trials: Sequence[TrialResult]) -> None:
        """`trials` have ended, in whatever state."""
        self._done += len(trials)
        candidates = [*trials, self._best] if self._best is not None else list(trials)
        self._best = best_trial(candidates, self._objective)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, description=self._shown())
            return
        now = self._console._clock()
        finished = self._done >= self._total
        if finished or self._said is None or now - self._said >= self._console._interval:
            self._said = now
            self._console.say(
                self._counted() + self._best_words(", ") + self._time_words(now, finished)
            )

    def _counted(self) -> str:
        return f"{self._done} of {formats.count(self._total, 'trial')}"

    def _shown(self) -> str:
        return _encodable(formats.printable(self._best_words("")), self._console._output)

    def _best_words(self, lead: str) -> str:
        best = self._best
        if best is None:
            return ""
        reached = (
            formats.percent(best.accuracy)
            if self._objective == "val_accuracy"
            else f"loss {formats.number(best.loss)}"
        )
        name = formats.shorten(best.optimizer, 24)
        return f"{lead}best {reached} ({name}, lr {formats.number(best.lr, 2)})"

    def _time_words(self, now: float, finished: bool) -> str:
        passed, ran = now - self._started, self._done - self._before
        if finished:
            return f", took {formats.duration(passed)}"
        if not ran:
            return ""
        return f", about {formats.duration(passed / ran * (self._total - self._done))} left"


class RowProgress:
    """Rows scored and rejected so far; made by `Console.rows`."""

    def __init__(self, console: Console, progress: Progress | None, task: TaskID | None) -> None:
        self._console, self._progress, self._task = console, progress, task
        self._started = self._said = console._clock()
        self.scored = self.rejected = 0

    def update(self, scored: int, rejected: int, done: float) -> None:
        """So many more rows; `done` is the part of the file that has been read, in [0, 1]."""
        self.scored += scored
        self.rejected += rejected
        now = self._console._clock()
        words = formats.count(self.scored, "row")
        if self.rejected:
            words += f", {self.rejected:,} rejected"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, description=words)
        elif now - self._said >= self._console._interval and 0 < done < 1:
            self._said = now
            left = formats.duration((now - self._started) / done * (1 - done))
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
