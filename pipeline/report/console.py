"""What is said on the terminal: progress, the closing table, warnings and errors.

Text from data and configuration is shown as it is: rich's markup, emoji codes and a terminal's
escape codes in it have no effect."""

import io
import os
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from pipeline.report.pace import Pace
from pipeline.report.tables import Table
from pipeline.training.outcomes import Watch
from pipeline.training.trainer import Watching
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
    elsewhere lines of text, `interval` seconds apart at least, and ever further."""

    def __init__(self, console: Console, name: str, total: float, before: float = 0) -> None:
        self._console, self._total = console, total
        self._bar = progress.Progress(
            progress.TextColumn(name, markup=False),
            progress.BarColumn(bar_width=28),
            progress.TextColumn("{task.description}", markup=False),
            console=console.rich,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=int(before))
        self._started = self._spoken = console.clock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, completed: float, words: str, left: str) -> None:
        """So much of the total is done, in words, and what is left; a line where there is no bar,
        if it is time for one."""
        shown = formats.printable(words + left)
        self._bar.update(self._task, completed=completed, description=shown)
        now = self._console.clock()
        pause = max(self._console.interval, (now - self._started) / 10)
        is_due = now - self._spoken >= pause and completed < self._total
        if is_due and not self._console.is_terminal:
            self._spoken = now
            self._console.say(words + left)


class _TrainingProgress(_Progress):
    """Trials that are trained in stacks, by epochs, and the time left."""

    def __init__(self, console: Console, name: str, total: int, before: int = 0) -> None:
        super().__init__(console, name, total, before)
        self._pace, self._before = Pace(total - before, console.clock), before

    def watching(self, watch: Watching | None = None) -> Watching:
        """As `watch`, and each epoch is shown."""

        def of_stack(stack: Sequence[Trial], trial_of: Sequence[int]) -> Watch:
            pruning = watch(stack, trial_of) if watch is not None else None
            self._pace.begin(len(stack), max(trial.settings.training.epochs for trial in stack))

            def after(epoch: int, scores: Mapping[str, Any], members: Any) -> Collection[int]:
                self._pace.ran(epoch)
                self._tell()
                return pruning(epoch, scores, members) if pruning is not None else ()

            return after

        return of_stack

    def trained(self, is_here: bool = True) -> None:
        """The last epoch shown was that stack's last; of a trial that was trained elsewhere none
        was."""
        if is_here:
            self._pace.end()
        else:
            self._pace.came()
            self._tell()

    def _tell(self) -> None:
        pace, left = self._pace, self._pace.left
        # Epochs say something where writing does not lag behind.
        is_shown = pace.epoch and pace.written in (0, pace.trained)
        epoch = f"epoch {pace.epoch} of at most {pace.epochs}" if is_shown else ""
        how = "up to" if pace.is_bound else "about"
        time = "" if left is None else f", {how} {formats.duration(left)} left"
        self._show(self._before + pace.written, self._words(epoch), time)

    def _words(self, epoch: str) -> str:
        raise NotImplementedError


class SearchProgress(_TrainingProgress):
    """Trials done, the best so far and the time left; a trial is done once it is written.

    `total` trials in all, of which `done` were there before."""

    def __init__(
        self, console: Console, total: int, metric: Metric, done: Sequence[Trial] = ()
    ) -> None:
        super().__init__(console, "Trials", total, len(done))
        self._trials, self._metric = total, metric
        self._best = best_trial(done, metric)
        if done and not console.is_terminal:
            verb = "is" if len(done) == 1 else "are"
            console.say(f"{self._counted} {verb} there from an earlier start{self._best_words()}")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[0] is None:
            took = formats.duration(self._console.clock() - self._started)
            self._console.say(f"{self._words()}, took {took}")

    def written(self, trial: Trial, seconds: float = 0.0) -> None:
        """A trial has ended, in whatever state, and is written, which took so long."""
        before = [] if self._best is None else [self._best]
        self._best = best_trial([trial, *before], self._metric)
        self._pace.write(seconds)
        self._tell()

    def _words(self, epoch: str = "") -> str:
        return self._counted + (f", the next at {epoch}" if epoch else "") + self._best_words()

    @property
    def _counted(self) -> str:
        return f"{self._before + self._pace.written} of {formats.count(self._trials, 'trial')}"

    def _best_words(self) -> str:
        if (best := self._best) is None:
            return ""
        score = f"{self._metric.words} {self._metric.text(best.score(self._metric))}"
        name = formats.shorten(best.optimizer, 24)
        return f", best {score} ({name}, lr {formats.number(best.lr, 2)})"


class FinalProgress(_TrainingProgress):
    """Epochs of the final round's networks."""

    def __init__(self, console: Console, optimizers: int) -> None:
        super().__init__(console, "Final round", optimizers)

    def _words(self, epoch: str) -> str:
        done = f"final round: {self._pace.trained} of {self._pace.total} optimizers"
        return f"{done}, {epoch}" if epoch else done


class RowProgress(_Progress):
    """Rows scored and rejected so far."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "Rows", 1.0)
        self.scored = self.rejected = 0

    def update(self, scored: int, rejected: int, done: float) -> None:
        """So many more rows; `done` is the part of the file that has been read, in [0, 1]."""
        self.scored += scored
        self.rejected += rejected
        rejections = f", {self.rejected:,} rejected" if self.rejected else ""
        if 0 < done < 1:
            left = (self._console.clock() - self._started) / done * (1 - done)
            words = formats.count(self.scored, "row") + rejections
            self._show(done, words, f", about {formats.duration(left)} left")
