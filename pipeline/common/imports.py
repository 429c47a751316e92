"""Objects that people bring: a class or a function by its path, from a file or from a package."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.common.errors import UserError, did_you_mean, first_line, refuse
from pipeline.common.files import nearest_file

REQUIRED = inspect.Parameter.empty
"""The default of an argument that has none."""


def is_path(name: str) -> bool:
    """Whether a name is `FILE.py:NAME` or `package.module.NAME`, and not one that is known here."""
    return "." in name or ":" in name


def load(path: str, key: str) -> Any:
    """The object that `FILE.py:NAME` or `package.module.NAME` names.

    A file is found from the working directory; what lies beside it can be imported by it. Read
    again only when it has changed.

    Raises UserError, which begins with `key`: no such file, package or name, with the nearest; code
    that fails when it is imported, with the line."""
    file, colon, name = path.rpartition(":")
    if not colon:
        file, _, name = path.rpartition(".")
        while "." in file and not _is_module(file):  # a class, which has a constructor, say
            file, _, inner = file.rpartition(".")
            name = f"{inner}.{name}"
    module = _file(Path(file), key) if colon else _module(file, path, key)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [name for name in dir(found) if not name.startswith("_")]
            raise UserError(f"{key}: {file} has no {part!r}{did_you_mean(part, names)}")
        found = getattr(found, part)
    return found


def source_file(path: str) -> Path | None:
    """The file whose change makes another object of it; None: there is none to be read."""
    file, colon, _ = path.rpartition(":")
    if colon:
        return Path(file)
    try:
        source = inspect.getsourcefile(load(path, path))
    except TypeError:
        return None
    return Path(source) if source else None


def _file(file: Path, key: str) -> ModuleType:
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{key}: {file}: {reason}{nearest_file(file)}") from None
    digest = hashlib.sha256(str(file.resolve()).encode() + content).hexdigest()[:12]
    name = f"{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{key}: {file}: must be a file of Python whose name ends in .py")
    if str(file.resolve().parent) not in sys.path:
        sys.path.append(str(file.resolve().parent))
    # Classes of data and pickles look their module up by its name.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script without a guard ends the process
        del sys.modules[name]
        raise UserError(f"{key}: {file}{line_of(error, file)}: {reason_of(error)}") from error
    return module


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
    except (Exception, SystemExit):  # of code of its package, which importing it will show
        return True


def _module(module: str, path: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name or module if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            hint = "" if "." in missing else f"; is it installed? (pip install {missing})"
            raise UserError(f"{key}: {path}: there is no module {missing!r}{hint}") from None
        raise UserError(f"{key}: {path}: cannot be imported: {reason_of(error)}") from error


def check_arguments(
    made: Callable[..., Any], arguments: Collection[str], key: str, passed: int = 0, hint: str = ""
) -> None:
    """Refuse arguments that a class or a function does not take, or lacks. So many of the first
    are `passed` by the program; `hint` is said of what it lacks."""
    try:
        parameters = list(inspect.signature(made).parameters.values())[passed:]
    except (TypeError, ValueError):  # of built-ins
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = {p.name: p.default for p in parameters if p.kind in by_name}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        takes = {**dict.fromkeys(arguments), **takes}
    problems = misfits(getattr(made, "__name__", type(made).__name__), takes, arguments, key)
    refuse([text + hint if "must be given" in text else text for text in problems])


def misfits(called: str, takes: Mapping[str, Any], given: Collection[str], key: str) -> list[str]:
    """A sentence for each argument that is none of those that `called` takes, and for each of these
    that is not given and whose default is `REQUIRED`."""
    known = f"; it takes {', '.join(takes) or 'none'}"
    return [
        f"{key}.{name}: unknown argument of {called}{did_you_mean(name, takes) or known}"
        for name in given
        if name not in takes
    ] + [
        f"{key}.{name}: must be given: {called} has no default for it"
        for name, default in takes.items()
        if default is REQUIRED and name not in given
    ]


def reason_of(error: BaseException) -> str:
    """An error of foreign code in a line: `TypeError: unsupported operand`; of ours the words."""
    text, name = first_line(error), type(error).__name__
    return text if isinstance(error, UserError) or text == name else f"{name}: {text}"


def line_of(error: BaseException, file: Path) -> str:
    """`:12`, the last line of the file that was at work; nothing where it was another file's."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == file.resolve()
    ]
    return f":{lines[-1]}" if lines else ""
