"""Files that are whole or not there, known by their digests; and what the machine offers."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.errors import nearest

_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: the block writes to the path that it is given, beside
    `path`, and when it ends well the file is renamed. A block that writes nothing makes no file."""
    temporary = beside(path)
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else has: `.NAME.` and 8 hexadecimal digits."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def nearest_file(path: Path) -> str:
    """Where a path that is not absolute was looked for, and `; did you mean 'x'?` for a file beside
    one that is not there, of the same kind first; or that its folder is not there either."""
    place = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
    try:
        names = [file.name for file in path.parent.iterdir() if file.is_file()]
    except OSError:
        return f"{place}; there is no folder {path.parent} either"
    same = [name for name in names if Path(name).suffix == path.suffix]
    meant = nearest(path.name, same) or nearest(path.name, names)
    return place + (f"; did you mean {str(path.with_name(meant))!r}?" if meant else "")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where what this program finds out about this machine is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "optimizer-search")


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory, or what its container was given."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no POSIX
        return 1 << 62
    for name in _CONTAINER_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            size = min(size, int(text))
    return size
