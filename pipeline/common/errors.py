"""Errors that the user can mend: what must be, what was found, where, the nearest right thing."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """The user's input was wrong: the configuration, the data or a name. Exit status 2.

    `problems` holds one sentence for each thing to mend, all that were found.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class RunError(Exception):
    """Nothing is wrong with the input, but this can't be done now. Exit status 1, in one line."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to `name`, or None when none is close."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, else an empty string."""
    found = nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""
