"""How long what is left will take, by what was measured so far."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Pace:
    """Of trials that are trained in stacks and written beside the training, in another thread.

    What comes before a stack's first epoch has ended is not counted: compiling, choosing a way to
    train. Until a stack has ended, the estimate is that its networks run all their epochs.

    Attributes:
        total, trained, written: trials."""

    def __init__(self, total: int, clock: Clock = time.monotonic) -> None:
        self.total, self.trained, self.written = total, 0, 0
        self._clock = clock
        self._stack = self.epochs = self.epoch = 0
        self._came = clock()
        self._first = self._last = 0.0  # when the first and the last epoch of the stack ended
        self._measured: list[tuple[float, int]] = []  # seconds and trials, of stacks
        self._writing: list[float] = []

    def begin(self, trials: int, epochs: int) -> None:
        """A stack of so many trials, which run so many epochs at most; the one before has ended."""
        self.end()
        self._stack, self.epochs, self.epoch = trials, epochs, 0

    def ran(self, epoch: int) -> None:
        """An epoch of the stack, from 1, has ended."""
        self.epoch, self._last = epoch, self._clock()
        if epoch == 1:
            self._first = self._last

    def end(self) -> None:
        """The stack is trained."""
        if self.epoch > 1:
            self._measured.append((self._of_epochs(self.epoch), self._stack))
        self.trained += self._stack
        self._stack = self.epoch = 0

    def came(self) -> None:
        """A trial has come, which was trained elsewhere beside others."""
        now = self._clock()
        self._measured.append((now - self._came, 1))
        self._came = now
        self.trained += 1

    def write(self, seconds: float) -> None:
        """A trial has been written."""
        self.written += 1
        self._writing.append(seconds)

    @property
    def is_bound(self) -> bool:
        """Whether the estimate is that of networks that run all their epochs."""
        return not self._measured

    @property
    def left(self) -> float | None:
        """Seconds; None: nothing was measured yet."""
        writing = self._writing[1:]  # the first prepares what the others use
        to_write = (self.total - self.written) * sum(writing) / max(1, len(writing))
        waiting = self.total - self.trained
        if self.trained and not writing:
            return None
        if self._measured:
            seconds, trials = map(sum, zip(*self._measured, strict=True))
            each = seconds / trials
        elif self.epoch > 1:
            each = self._of_epochs(self.epochs) / self._stack
        else:
            return None
        passed = self._clock() - self._first if self.epoch else 0.0
        after = (waiting - self._stack) * each
        return max(waiting * each - passed, after, to_write)

    def _of_epochs(self, count: int) -> float:
        """Seconds that so many epochs take, by those that the stack has run since its first."""
        return (self._last - self._first) / (self.epoch - 1) * count
