"""One process at a time for a search: a lease, kept as tags of the experiment.

MLflow has no compare-and-set, so each process writes a tag of its own and then looks for others:
`pending` first, and `held` once it has looked and seen nobody. Whoever sees another's `held` gives
way; of several that are pending the one with the least token stays and waits for the rest to go. Of
two processes at least one has written its tag before the other looks, so never do both hold it.
"""

import logging
import threading
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.common import signals as interrupts
from pipeline.common.errors import RunError
from pipeline.tracking import owner
from pipeline.tracking.runs import now_ms

BEAT_SECONDS = 60.0
STALE_SECONDS = 600.0  # a process of another host that was silent for so long is gone
WAIT_SECONDS = 0.2

_PREFIX = "pipeline.lease."

_log = logging.getLogger(__name__)


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
        if owner.is_local(self.identity):
            return owner.is_gone(self.identity)
        return now_ms() - self.beat > 1000 * STALE_SECONDS

    def belongs_to(self, fingerprint: str) -> bool:
        return self.key.startswith(f"{_PREFIX}{fingerprint}.")


def claims(client: MlflowClient, experiment_id: str) -> list[Claim]:
    """All claims in an experiment, also those of processes that are gone."""
    found = []
    for key, text in client.get_experiment(experiment_id).tags.items():
        if key.startswith(_PREFIX):
            state, _, rest = text.partition(" ")
            beat, _, identity = rest.partition(" ")
            found.append(Claim(key, state == "held", int(beat), identity))
    return found


def silent_identities(found: Iterable[Claim]) -> set[str]:
    """The processes that have claims, none of which was renewed in time."""
    found = list(found)
    return {c.identity for c in found if c.gone} - {c.identity for c in found if not c.gone}


def is_left(identity: str, silent: Collection[str]) -> bool:
    """Whether the runs of a process are nobody's any more; False when in doubt."""
    return owner.is_gone(identity) or (identity in silent and not owner.is_local(identity))


def drop(client: MlflowClient, experiment_id: str, claim: Claim) -> None:
    """Take the claim away; another process may have been faster."""
    try:
        client.delete_experiment_tag(experiment_id, claim.key)
    except MlflowException as error:
        _log.debug("%s was gone already: %s", claim.key, error)


class Lease:
    """This process's claim on a search; a thread keeps it fresh until the block ends."""

    def __init__(self, client: Any, experiment_id: str, fingerprint: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._fingerprint = fingerprint
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._release()

    def check(self) -> None:
        """Raises RunError when another process took this one for gone and went on in its place.

        That is after minutes of silence, as when a laptop sleeps.
        """
        if self._lost:
            raise RunError("another process has taken this search over; see its runs in MLflow")

    def _acquire(self) -> None:
        self._write("pending")
        while rivals := [claim for claim in self._others() if not claim.gone]:
            if first := next((r for r in rivals if r.held or r.key < self._key), None):
                host, pid = first.identity.split(" ")[:2]
                raise RunError(
                    f"the same search is running already, in process {pid} on "
                    f"{host.partition('/')[0]}; wait for it, or choose another seed or experiment"
                )
            self._ended.wait(WAIT_SECONDS)
        self._write("held")

    def _others(self) -> list[Claim]:
        found = claims(self._client, self._experiment_id)
        return [c for c in found if c.belongs_to(self._fingerprint) and c.key != self._key]

    def _write(self, state: str) -> None:
        text = f"{state} {now_ms()} {owner.this_process()}"
        self._client.set_experiment_tag(self._experiment_id, self._key, text)

    def _release(self) -> None:
        with interrupts.deferred():
            drop(self._client, self._experiment_id, Claim(self._key, True, 0, ""))

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                if all(claim.key != self._key for claim in self._claims()):
                    self._lost = True
                    return
                self._write("held")
            except Exception as error:  # the store may be away for a while
                _log.debug("the lease could not be renewed: %s", error)

    def _claims(self) -> list[Claim]:
        return claims(self._client, self._experiment_id)
