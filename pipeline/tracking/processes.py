"""Processes: which one owns a run, whether it is still there, and the lease that one of them has.

MLflow has no compare-and-set, so each process that wants to work on a search writes a tag of its
own to the experiment and then looks for others: `pending` first, and `held` once it has looked and
seen nobody. Whoever sees another's `held` gives way; of several that are pending the one with the
least token stays and waits for the rest to go. Of two processes at least one has written its tag
before the other looks, so never do both hold it."""

import logging
import os
import platform
import threading
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.common import signals
from pipeline.common.errors import RunError, UserError
from pipeline.tracking.runs import now_ms

BEAT_SECONDS = 60.0
STALE_SECONDS = 600.0  # a process of another host that was silent for so long is gone
WAIT_SECONDS = 0.2

_PREFIX = "mlflow.pipeline.lease."  # MLflow's pages do not show its own

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Claim:
    """One process's tag: for which search, whether it holds it, and when it was last written."""

    key: str
    held: bool
    beat: int
    identity: str

    @property
    def gone(self) -> bool:
        """Whether its process is no more: by its pid on this host, by its silence on another."""
        if is_local(self.identity):
            return is_gone(self.identity)
        return now_ms() - self.beat > 1000 * STALE_SECONDS


def claims(client: MlflowClient, experiment_id: str) -> list[Claim]:
    """All claims in an experiment, also those of processes that are gone."""
    claimed = []
    for key, text in client.get_experiment(experiment_id).tags.items():
        if key.startswith(_PREFIX):
            state, beat, identity = text.split(" ", 2)
            claimed.append(Claim(key, state == "held", int(beat), identity))
    return claimed


def silent_identities(claimed: Iterable[Claim]) -> set[str]:
    """The processes that have claims, none of which was renewed in time."""
    states = {(claim.identity, claim.gone) for claim in claimed}
    return {identity for identity, gone in states if gone and (identity, False) not in states}


def is_left(identity: str, silent: Collection[str]) -> bool:
    """Whether the runs of a process are nobody's any more; False when in doubt."""
    return is_gone(identity) or (identity in silent and not is_local(identity))


def drop(client: MlflowClient, experiment_id: str, key: str) -> None:
    """Take a claim away; another process may have been faster."""
    try:
        client.delete_experiment_tag(experiment_id, key)
    except MlflowException as error:
        _log.debug("%s was gone already: %s", key, error)


class Lease:
    """This process's claim on a search; a thread keeps it fresh until the block ends."""

    def __init__(self, client: Any, experiment_id: str, fingerprint: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._key = f"{_PREFIX}{fingerprint}.{uuid.uuid4().hex}"
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        try:
            self._acquire()
        except BaseException:
            self._release()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._release()

    def check(self) -> None:
        """Raises RunError when another process took this one for gone and went on in its place.

        That is after minutes of silence, as when a laptop sleeps."""
        if self._lost:
            raise RunError("another process has taken this search over; see its runs in MLflow")

    def _acquire(self) -> None:
        try:
            self._write("pending")
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise
            name = self._client.get_experiment(self._experiment_id).name
            raise UserError(
                f"experiment: {self._client.tracking_uri} does not let you write to the experiment "
                f"{name!r}; ask for the permission EDIT on it, or choose another experiment"
            ) from error
        of_search = self._key.rpartition(".")[0] + "."
        while rivals := [
            claim
            for claim in claims(self._client, self._experiment_id)
            if claim.key.startswith(of_search) and claim.key != self._key and not claim.gone
        ]:
            if first := next((r for r in rivals if r.held or r.key < self._key), None):
                host, pid = first.identity.split(" ")[:2]
                raise RunError(
                    f"the same search is running already, in process {pid} on "
                    f"{host.partition('/')[0]}; wait for it, or choose another seed or experiment"
                )
            self._ended.wait(WAIT_SECONDS)
        self._write("held")

    def _write(self, state: str) -> None:
        text = f"{state} {now_ms()} {this_process()}"
        self._client.set_experiment_tag(self._experiment_id, self._key, text)

    def _release(self) -> None:
        with signals.deferred():
            drop(self._client, self._experiment_id, self._key)

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                written = claims(self._client, self._experiment_id)
                if all(claim.key != self._key for claim in written):
                    self._lost = True
                    return
                self._write("held")
            except Exception as error:  # the store may be away for a while
                _log.debug("the lease could not be renewed: %s", error)
