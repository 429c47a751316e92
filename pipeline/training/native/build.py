"""The program that trains stacks on the CPU, compiled for this machine and kept on disk."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from pipeline.training.native import codegen as rules

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-w")
TIMEOUT = 300.0
"""Seconds that the compiler may take."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled program; None, with a warning, where it can't be had.

    Compiling takes seconds, the first time on a machine: the program is kept in the user's cache
    (`XDG_CACHE_HOME`), by a digest of its source, the compiler and the processor. `CXX` names the
    compiler.
    """
    compiler = _compiler()
    if compiler is None:
        _warn("there is no C++ compiler")
        return None
    source = Path(__file__).with_name("kernel.cpp").read_text(encoding="utf-8") + rules.source()
    try:
        return ctypes.CDLL(str(_built(compiler, source)))
    except subprocess.CalledProcessError as error:
        _warn(f"{compiler} failed: {error.stderr.strip()[-500:]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        _warn(f"the compiled program can't be had: {error}")
    return None


def _warn(reason: str) -> None:
    warnings.warn(f"{reason}; training runs without it, several times slower", stacklevel=3)


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    names = (named,) if named else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def _built(compiler: str, source: str) -> Path:
    folder = _folder()
    path = folder / f"stack-{_digest(compiler, source)}.so"
    if not path.exists():
        _compile(compiler, source, path)
    return path


def _digest(compiler: str, source: str) -> str:
    stat = os.stat(os.path.realpath(compiler))
    what = (source, FLAGS, _target(), compiler, stat.st_size, stat.st_mtime_ns, _processor())
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


def _compile(compiler: str, source: str, path: Path) -> None:
    """Whole or not at all: two processes may do it at once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        code, made = Path(folder) / "stack.cpp", Path(folder) / path.name
        code.write_text(source, encoding="utf-8")
        command = [compiler, *FLAGS, _target(), "-o", str(made), str(code)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
        made.replace(path)


def _target() -> str:
    is_arm_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    return "-mcpu=native" if is_arm_mac else "-march=native"


def _processor() -> tuple[str, ...]:
    """What `native` means here: a home folder may be shared by machines that differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return (platform.machine(), platform.processor(), *sorted(set(kept)))


def _folder() -> Path:
    """A folder that only this user can write to: what lies there is run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "optimizer-search"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_private = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
        if is_private and os.access(folder, os.W_OK):
            return folder
    except (OSError, AttributeError):
        pass
    return _process_folder()


@functools.cache
def _process_folder() -> Path:
    """A folder of this process: where nothing can be kept, it compiles each time."""
    folder = tempfile.TemporaryDirectory(prefix="optimizer-search-")
    _process_folder.kept = folder  # type: ignore[attr-defined]
    return Path(folder.name)
