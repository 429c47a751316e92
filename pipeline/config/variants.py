"""Configurations in variants: files, patterns of files, settings with several values."""

import glob
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pipeline.common.addresses import masked
from pipeline.common.errors import UserError, collecting
from pipeline.common.text import shorten
from pipeline.config.configuration import Config
from pipeline.config.loading import load
from pipeline.config.shipped import path_of
from pipeline.config.yaml_text import flow_text, parse

MOST_SEARCHES = 10_000

_SPAN = re.compile(r"\s*(\d+)\.\.(\d+)\s*")


@dataclass(frozen=True)
class Variant:
    """One search of several. settings: by dotted path, as text without secrets, what was set in
    turn."""

    file: str
    settings: Mapping[str, str]
    config: Config

    @property
    def name(self) -> str:
        """The file without its ending, and the settings."""
        return ", ".join([Path(self.file).stem, *(f"{k}={v}" for k, v in self.settings.items())])


def variants(files: Sequence[str], overrides: Sequence[str]) -> list[Variant]:
    """Each file with each combination of the settings.

    Args:
        files: paths, patterns, or several of them in one text.
        overrides: `KEY=VALUE` as elsewhere. A list that the key itself does not take, and whole
            numbers as `0..4`, are values to be set in turn.

    Raises UserError with every problem: no such file, a configuration that is wrong."""
    problems: list[str] = []
    found: list[Variant] = []
    paths = _paths(files, problems)
    if not paths and not problems:
        raise UserError("a sweep needs a configuration: a file, a pattern, or a shipped one's name")
    for path in paths:
        with collecting(problems):
            choices = [_values(path, text) for text in overrides]
            if (count := len(found) + math.prod(map(len, choices))) > MOST_SEARCHES:
                raise UserError(f"a sweep has at most {MOST_SEARCHES:,} searches; got {count:,}")
            for chosen in product(*choices):
                told = zip(chosen, choices, strict=True)
                settings = {each[0]: masked(each[1]) for each, several in told if len(several) > 1}
                config = load(path, ["=".join(each) for each in chosen])
                found.append(Variant(path, settings, config))
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return found


def _paths(files: Sequence[str], problems: list[str]) -> list[str]:
    """Files as they are, patterns as the files that they match, by their names."""
    paths: list[str] = []
    for text in files:
        for name in _names(text):
            matching = sorted(glob.glob(name, recursive=True))
            if not matching and glob.has_magic(name):
                problems.append(f"{name}: the pattern matches no file")
            with collecting(problems):
                paths += matching or ([] if glob.has_magic(name) else [path_of(name)])
    return list(dict.fromkeys(paths))


def _names(text: str) -> list[str]:
    """One name where there is such a file, or a quote in it is no shell's."""
    with suppress(ValueError, OSError):
        if not text.strip() or not Path(text).exists():
            return shlex.split(text)
    return [text]


def _values(path: str, override: str) -> list[tuple[str, ...]]:
    """The key of an override with each value that it stands for; without one, the key alone."""
    key, is_there, text = override.partition("=")
    if not is_there:
        return [(key,)]
    if span := _SPAN.fullmatch(text):
        low, high = map(int, span.groups())
        high = min(high, low + MOST_SEARCHES)  # more are too many, and need no list
        return [(key, str(number)) for number in range(low, high + 1)] or [(key, text)]
    several, _ = parse(text, lambda line: f"--set {shorten(override, 80)}", [])
    if not isinstance(several, list) or len(several) < 1 or _takes(path, override):
        return [(key, text)]
    return [(key, flow_text(value)) for value in several]


def _takes(path: str, override: str) -> bool:
    """Whether the key takes the whole list, which then is its value."""
    try:
        load(path, [override])
    except UserError as error:
        return not any(problem.startswith("--set") for problem in error.problems)
    return True
