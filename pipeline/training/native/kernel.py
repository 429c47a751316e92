"""The program that trains stacks on the CPU: compiled for this machine, kept on disk, called."""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.common.files import cache_folder, whole
from pipeline.models.mlp import MLP
from pipeline.models.task import Task
from pipeline.optimizers.stacked import StackedGroup
from pipeline.training.native import codegen

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-w")
IS_ARM_MAC = sys.platform == "darwin" and platform.machine() == "arm64"
TARGET = "-mcpu=native" if IS_ARM_MAC else "-march=native"
TIMEOUT = 300.0
"""Seconds that the compiler may take."""

MAX_LAYERS = 64


class Kernel:
    """The compiled program for an architecture that it `can_train`; float32, contiguous tensors on
    the CPU.

    The interpreter is free while it runs.

    Args:
        smoothing: of labels, see `Task`.

    Attributes:
        width: columns of the rows that it is given: the inputs, padded with zeros.
        rules: the classes of `torch.optim` whose update rule it has."""

    def __init__(self, program: ctypes.CDLL, architecture: MLP, smoothing: float = 0.0) -> None:
        widths = architecture.widths
        lanes = program.lanes()
        self.width = -(-widths[0] // lanes) * lanes
        self._program, self._smoothing = program, float(smoothing)
        self._outputs = widths[-1]
        activation = activations().index(architecture.activation)
        self._shape = [_as_c(each) for each in (len(widths) - 1, widths, activation)]
        self.rules = frozenset(variant.name for variant in codegen.functions())

    def train(
        self,
        group: StackedGroup,
        split: Tensor,
        dropout: Tensor,
        batches: tuple[Tensor, Tensor, Sequence[Tensor]],
        losses: Tensor,
        gradient_sums: Tensor,
    ) -> None:
        """A step on each of n batches, for the k members of a group.

        Args:
            group: of one of `rules`.
            split: [k] int64, each member's split.
            dropout: [k] float32, rates.
            batches: x [n, S, B, width], y [n, S, B] int64 and dropout's draws, none or for each
                hidden layer [n, S, B, units].
            losses: [k] float64; each member's losses in the batches are added.
            gradient_sums: [k] float64; NaN is added if a gradient was not finite, else 0."""
        x, y, draws = batches
        function = codegen.functions()[codegen.variant_of(group)]
        states = [getattr(group.states, name) for name in function.states]
        hyper = group.columns(function.hyper)
        strides = [state.stride(0) * state.element_size() for state in states]
        count, splits, rows, _ = x.shape
        shape = len(split), count, rows, splits
        member = group.parameters, states, strides, len(states), hyper, hyper.shape[1]
        rule = function.number, float(group.steps)
        data = x, y, list(draws) or None, split, dropout, self._smoothing
        self._call(self._program.train, *shape, *data, *rule, *member, losses, gradient_sums)
        group.steps += count

    def outputs(self, parameters: Tensor, split: Tensor, x: Tensor) -> Tensor:
        """[K, outputs, V] for the rows x [S, V, width], each member those of its split."""
        members, rows = len(split), x.shape[1]
        out = torch.empty((members, rows, self._outputs), dtype=torch.float32)
        rows_of_split = x.stride(0) // self.width
        score = self._program.score
        self._call(score, members, rows, rows_of_split, x, split, parameters, out)
        return out.view(members, 1, rows) if self._outputs == 1 else out.mT

    def _call(self, function: Callable[..., int], *arguments: Any) -> None:
        if function(*self._shape, *map(_as_c, arguments)):
            raise MemoryError("no memory for a stack")


def _as_c(value: Any) -> Any:
    """An argument as C takes it: tensors, and lists of them or of whole numbers, by address."""
    match value:
        case Tensor():
            return ctypes.c_void_p(value.data_ptr())
        case float():
            return ctypes.c_double(value)
        case int():
            return ctypes.c_int64(value)
        case [Tensor(), *_]:
            return (ctypes.c_void_p * len(value))(*(tensor.data_ptr() for tensor in value))
        case list() | tuple():
            return (ctypes.c_int64 * len(value))(*value)
    return value


def can_train(architecture: MLP, task: Task) -> bool:
    """Whether the program has all that they need: not yet batch norm."""
    return (
        task.is_plain
        and architecture.activation in activations()
        and not architecture.batch_norm
        and len(architecture.widths) <= MAX_LAYERS
    )


@functools.cache
def activations() -> tuple[str, ...]:
    """The activations that the program has, by its numbers for them."""
    names = re.search(r"enum Activation \{(.*?)\}", _source())
    assert names is not None
    return tuple(name.strip().lower() for name in names[1].split(","))


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled program; None, with a warning, where it can't be had.

    Compiling takes seconds, the first time on a machine: the program is kept in the user's cache
    (`XDG_CACHE_HOME`), by a digest of its source, the compiler and the processor. `CXX` names the
    compiler."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    compiler = next(filter(None, map(shutil.which, names)), None)
    reason = "there is no C++ compiler"
    try:
        if compiler is not None:
            return ctypes.CDLL(str(_built(compiler, _source() + codegen.source())))
    except subprocess.CalledProcessError as error:
        reason = f"{compiler} failed: {error.stderr.strip()[-500:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"the compiled program can't be had: {error}"
    warnings.warn(f"{reason}; training runs without it, several times slower", stacklevel=2)
    return None


def _source() -> str:
    return Path(__file__).with_suffix(".cpp").read_text(encoding="utf-8")


def _built(compiler: str, source: str) -> Path:
    """The compiled file, whole or not at all: two processes may compile it at once."""
    stat = os.stat(os.path.realpath(compiler))
    identity = (source, FLAGS, TARGET, compiler, stat.st_size, stat.st_mtime_ns, _processor())
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    path = _folder() / f"stack-{digest}.so"
    if not path.exists():
        with whole(path) as temporary:
            command = [compiler, *FLAGS, TARGET, "-o", str(temporary), "-x", "c++", "-"]
            subprocess.run(
                command, input=source, check=True, capture_output=True, text=True, timeout=TIMEOUT
            )
    return path


def _processor() -> tuple[str, ...]:
    """What `native` means here: a home folder may be shared by machines that differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return (platform.machine(), platform.processor(), *sorted(models))


def _folder() -> Path:
    """A folder that only this user can write to: what lies there is run."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_private = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
        if is_private and os.access(folder, os.W_OK):
            return folder
    except (OSError, AttributeError):
        pass
    return Path(_process_folder().name)


@functools.cache
def _process_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder of this process, which compiles anew where nothing can be kept."""
    return tempfile.TemporaryDirectory(prefix="optimizer-search-")
