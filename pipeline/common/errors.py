"""Errors that the user can mend: what must be, what was found, where, the nearest right thing."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.common.addresses import masked


class UserError(Exception):
    """The user's input was wrong: the configuration, the data or a name. Exit status 2.

    `problems` holds one sentence for each thing to mend, all that were found, with addresses
    without their secrets."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        texts = (problems,) if isinstance(problems, str) else problems
        self.problems = tuple(masked(text) for text in texts)
        super().__init__("\n".join(self.problems))


class RunError(Exception):
    """Nothing is wrong with the input, but this can't be done now. Exit status 1, in one line."""


def refuse(problems: Sequence[str]) -> None:
    """Raise UserError with all problems, if there are any."""
    if problems:
        raise UserError(problems)


@contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Problems found inside are added to a list, and what comes after the block goes on."""
    try:
        yield
    except UserError as error:
        problems += error.problems


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Problems found inside begin with a name."""
    try:
        yield
    except UserError as error:
        raise UserError([f"{name}: {problem}" for problem in error.problems]) from None


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is closest to `name`, or None when none is close."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a candidate is close, else an empty string."""
    match = nearest(name, candidates)
    return f"; did you mean {match!r}?" if match else ""


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
