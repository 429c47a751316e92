"""Which process owns a run, and whether that process is still there."""

import os
import platform
from pathlib import Path


def _host() -> str:
    """This machine's name, with the process namespace where there is one (containers)."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()
    return f"{platform.node()}/{namespace}"


def _started(pid: int) -> str:
    """When the process started, in the system's own count: a reused pid has another. Or ''."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field, the program's name in brackets, may hold blanks; starttime is field 22.
    return status.rpartition(")")[2].split()[19]


def this_process() -> str:
    """An identity to keep with a run: host, pid and start time, separated by blanks."""
    return f"{_host().replace(' ', '_')} {os.getpid()} {_started(os.getpid())}".rstrip()


def is_local(identity: str) -> bool:
    """Whether the process is, or was, one of this host's."""
    return identity.partition(" ")[0] == _host().replace(" ", "_")


def is_gone(identity: str) -> bool:
    """Whether the process is known to have ended. False for another host, and when in doubt."""
    _, _, rest = identity.partition(" ")
    pid_text, _, started = rest.partition(" ")
    if os.name == "nt" or not is_local(identity) or not pid_text.isdigit():
        return False
    pid = int(pid_text)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return bool(started) and _started(pid) != started
