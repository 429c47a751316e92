"""Shards on a Ray cluster.

The data go into its object store once, a shard's members and their outcomes travel. A shard is
trained by one thread of one process; Ray trains it again where its node dies. The project's code
and the Python files of the working directory are shipped to the nodes, which need the same Python
packages and no installation of this one."""

import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipeline.common import imports, signals
from pipeline.common.errors import RunError, UserError, first_line
from pipeline.common.text import duration
from pipeline.config import Config
from pipeline.training.batches import Arrays
from pipeline.training.executors import Given, Own, Shard, Shared
from pipeline.training.loop import step
from pipeline.training.members import Member, Settings
from pipeline.training.native.kernel import library
from pipeline.training.stacks import shards

PATIENCE = 120.0
"""Seconds that a cluster is waited for which does not answer, or has no processor."""

LOOK = 5.0
"""Seconds without a result after which it is looked whether the cluster is there."""

RETRIES = 10
"""How often a shard is trained again whose process or node has died."""

SHIPPED = ("?*.*", ".?*", "!*.py", "!*.cpp", "mlruns", "mlartifacts")
"""What is not shipped, as .gitignore has it: all but source."""

GPU_BYTES, CONTEXT_BYTES = 16 * 2**30, 2**29
"""Of the smallest GPU that shards are sized for, and what a process needs there beside its data."""


@contextmanager
def connected(config: Config, say: Callable[[str], None]) -> Iterator["RayExecutor"]:
    """The cluster at `compute.address`, else at RAY_ADDRESS, else one that is started here and ends
    with the block. One that this process is connected to already is used, and stays."""
    import ray

    if ray.is_initialized():
        yield RayExecutor(config, say)
        return
    address = config.compute.address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {"py_modules": [str(Path(imports.__file__).parents[1])]}
    if any(not key.startswith("data.") for key in config.paths()):
        own["working_dir"] = "."
    _connect(address, own | {"excludes": list(SHIPPED)}, say)
    try:
        yield RayExecutor(config, say)
    finally:
        ray.shutdown()


def _connect(address: str, environment: dict[str, Any], say: Callable[[str], None]) -> None:
    import ray

    # Ray would end this process, runs open and all, before it is told that the cluster is away.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(int(10 * PATIENCE)))
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        how |= {"num_cpus": torch.get_num_threads(), "include_dashboard": False}
    waited = Waiting(f"The Ray cluster at {address} does not answer", say)
    while True:
        try:
            if ":" in address:
                socket.create_connection(_place(address), LOOK).close()
            with signals.deferred():  # Ray takes SIGTERM for itself; closing runs is ours
                ray.init(address, runtime_env=environment, **how)
            return
        except OSError as error:
            waited.more(first_line(error))
        except (RuntimeError, ValueError) as error:
            raise RunError(f"the Ray cluster at {address} cannot be used: {error}") from error
        time.sleep(min(2.0, PATIENCE / 4))


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        raise UserError(f"RAY_ADDRESS: must be HOST:PORT, auto or local; got {address!r}")
    return host, int(port)


class Waiting:
    """Says once that something is waited for, and after `PATIENCE` raises RunError."""

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self._what, self._say, self._since = what, say, 0.0

    def more(self, reason: str = "") -> None:
        now = time.monotonic()
        told = f"{self._what} ({reason})" if reason else self._what
        if not self._since:
            self._since = now
            self._say(f"{told}; it is waited for up to {duration(PATIENCE)}.")
        elif now - self._since > PATIENCE:
            raise RunError(f"{told}; started again, the search goes on where it was")

    def over(self) -> None:
        self._since = 0.0


class RayExecutor:
    """Shards and other pure functions as tasks of the cluster."""

    is_here = False

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        import ray

        self._references: dict[int, tuple[Any, Any]] = {}
        ray.util.register_serializer(
            torch.Tensor, serializer=torch.Tensor.numpy, deserializer=torch.from_numpy
        )
        for path in config.paths().values():
            if ":" in path:  # no node has the file's module under the name that it has here
                module = imports.load(path, path).__module__
                ray.cloudpickle.register_pickle_by_value(sys.modules[module])
        self._has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        self._gcs = _place(ray.get_runtime_context().gcs_address)
        self._waited = Waiting("The Ray cluster does not answer, or has no processor", say)

    def device(self, asked: str) -> str:
        return asked.replace("auto", "cuda" if self._has_gpu else "cpu")

    def shards(
        self, arrays: Arrays, members: Sequence[Member], settings: Settings
    ) -> Sequence[range]:
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            return shards(arrays, members, settings, step)
        except Exception:  # which comes again where they are trained, and ends their trials
            return [range(len(members))]
        finally:
            torch.set_num_threads(threads)

    def run(
        self, function: Callable[[Shared, Own], Given], work: Iterable[tuple[Shared, Own]]
    ) -> Iterator[tuple[int, Given]]:
        import ray

        task = ray.remote(max_retries=RETRIES)(_call)
        pending = {}
        for number, (shared, own) in enumerate(work):
            gpus = _gpus(shared, own) if isinstance(own, Shard) else 0.0
            # Pickled here, since arrays that Ray hands over cannot be written to.
            arguments = [self._put(shared)], ray.cloudpickle.dumps(own), library() is not None
            reference = task.options(num_cpus=1, num_gpus=gpus).remote(function, *arguments)
            pending[reference.future()] = number, reference
        try:
            while pending:
                # Not by ray.wait, in which a signal loses the status that it ends with.
                ready, _ = futures.wait(pending, LOOK, futures.FIRST_COMPLETED)
                if not ready:
                    self._look()
                for future in ready:
                    self._waited.over()
                    number, _ = pending.pop(future)
                    yield number, _given(future)
        finally:
            for _, reference in pending.values():
                ray.cancel(reference)

    def _put(self, shared: Any) -> Any:
        """A reference to what many share, which is put into the object store once."""
        import ray

        if id(shared) not in self._references:
            self._references[id(shared)] = shared, ray.put(shared)
        return self._references[id(shared)][1]

    def _look(self) -> None:
        """Raises RunError where the cluster has been away, or without a processor, for too long."""
        import ray

        try:
            socket.create_connection(self._gcs, LOOK).close()
            if ray.cluster_resources().get("CPU", 0) > 0:
                self._waited.over()
                return
        except (OSError, ray.exceptions.RayError):
            pass
        self._waited.more()


def _given(future: "futures.Future[Any]") -> Any:
    import ray

    try:
        return future.result()
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, RunError) else error from error
    except ray.exceptions.RayError as error:
        raise RunError(
            f"a shard's process or node died {RETRIES + 1} times, perhaps for want of memory: "
            f"{first_line(error)}"
        ) from error


def _call(
    function: Callable[[Any, Any], Any], shared: Sequence[Any], pickled: bytes, is_compiled: bool
) -> Any:
    """What a node does, in one thread."""
    torch.set_num_threads(1)
    own = pickle.loads(pickled)
    if is_compiled and isinstance(own, Shard) and library() is None:
        raise RunError(
            f"{socket.gethostname()} has no C++ compiler, and where the search was started there "
            "is one: the same trials would have other bits"
        )
    return function(_held(shared[0]), own)


@lru_cache(2)
def _held(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _gpus(arrays: Any, shard: Shard) -> float:
    """The part of a GPU that a shard asks for: its rows, twice, and for each member its weights,
    their gradients, two states and the best ones, as many again of what an epoch's steps need."""
    training = shard.members[0].training
    if not training.device.startswith("cuda"):
        return 0.0
    weights = arrays.architecture(shard.members[0].model, training).size
    rows = 2 * arrays.x.numel() * arrays.x.element_size()
    needed = CONTEXT_BYTES + rows + 4 * 10 * weights * len(shard.members)
    return float(min(1.0, max(0.01, needed / GPU_BYTES)))
