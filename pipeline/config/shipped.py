"""The configurations that come with the program, known by a name wherever it is installed."""

from contextlib import suppress
from pathlib import Path

import yaml

from pipeline.common.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """By the file's name without its ending, and by the experiment that it is of."""
    folders = _PACKAGE / "configs", _PACKAGE.parent / "configs"  # installed, or a clone
    folder = next(filter(Path.is_dir, folders), None)
    files = sorted(folder.glob("*.yaml")) if folder is not None else []
    found = {}
    for file in files:
        with suppress(OSError, ValueError, yaml.YAMLError):  # somebody's own, in a clone
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "experiment" in content:
                found[str(content["experiment"])] = file
    return found | {file.stem: file for file in files}


def path_of(name: str) -> str:
    """The file of a shipped configuration that is asked for by its name; any other text as it is.

    Raises UserError: a bare name that neither a file nor a shipped configuration has."""
    with suppress(OSError, ValueError):  # of what can be no file's name: reading it says so
        if not Path(name).exists() and Path(name).name == name and not Path(name).suffix:
            known = shipped()
            if name not in known:
                hint, names = did_you_mean(name, known), ", ".join(sorted(known))
                raise UserError(f"{name}: no such file, nor one of the shipped {names}{hint}")
            return str(known[name])
    return name
