"""Networks that people bring: any `torch.nn.Module`, one alone or many of its class at once."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.common.seeds import Purpose, seed64
from pipeline.models.draws import Draws
from pipeline.models.task import Task

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class ModuleArchitecture:
    """A class of module with its arguments, for rows of one shape.

    Attributes:
        program: the class, its source, its arguments and the rows that it takes.
        template: a module on the CPU, which is copied and never run.
        parameters: names of what is trained, [P] together.
        statistics: names of the buffers that training changes or that chance has filled, [Q]
            together; the others are alike in all networks.
        draws: whether it draws random numbers in training."""

    program: str
    build: Callable[[], nn.Module]
    template: nn.Module
    task: Task
    parameters: tuple[str, ...]
    statistics: tuple[str, ...]
    products: int
    activations: int
    widest: int
    draws: bool

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        tensors = tensors_of(self.template)
        return tuple(tuple(tensors[name].shape) for name in self.parameters)

    @cached_property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def _own(self, module: nn.Module) -> list[Tensor]:
        """What of a module is not alike in all networks, in the order of P + Q."""
        tensors = tensors_of(module)
        return [tensors[name].detach() for name in self.parameters + self.statistics]

    def initial(self, count: int, seed: int) -> Tensor:
        rows = []
        for network in range(count):
            with seeded(seed64(seed, Purpose.INITIAL_WEIGHTS, network)):
                own = self._own(self.build())
            rows.append(torch.cat([tensor.flatten().double() for tensor in own]))
        return torch.stack(rows)

    def module(self, state: Tensor) -> nn.Module:
        """A module of its own with these weights [P + Q], in evaluation mode."""
        module = copy.deepcopy(self.template).eval()
        own = self._own(module)
        parts = torch.split(state, [tensor.numel() for tensor in own])
        for tensor, part in zip(own, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
        return module


class ModuleStack:
    """K modules of one architecture: as one program, or, K being 1, by itself.

    Attributes:
        parameters, gradients: [K, P]; `backward` adds to the latter.
        statistics: by name [K, ...].

    Args:
        initial: [K, P + Q].
        generator: of what the modules draw.
        vectorized: whether K may be more than 1."""

    def __init__(
        self,
        architecture: ModuleArchitecture,
        initial: Tensor,
        generator: torch.Generator,
        vectorized: bool = True,
    ) -> None:
        self.architecture, self._vectorized = architecture, vectorized
        self._module = copy.deepcopy(architecture.template).to(initial.device)
        self._module.to(initial.dtype)
        tensors = tensors_of(self._module)
        self.parameters = initial[:, : architecture.size].contiguous()
        self.gradients = torch.zeros_like(self.parameters)
        names = architecture.statistics
        flat = initial[:, architecture.size :]
        parts = torch.split(flat, [tensors[name].numel() for name in names], dim=1)
        self.statistics = {
            name: part.reshape(-1, *tensors[name].shape).to(tensors[name].dtype)
            for name, part in zip(names, parts, strict=True)
        }
        self._generator = generator
        self._needs_vjp = False
        self._trained = self._outputs = torch.empty(0)

    def _weights(self) -> Tensors:
        """The parameters by name [K, ...] for autograd, of one module by itself without K."""
        shapes = self.architecture.shapes
        self._trained = self.parameters.detach().requires_grad_()
        parts = torch.split(self._trained, list(map(math.prod, shapes)), dim=1)
        leading = (len(self.parameters),) if self._vectorized else ()
        views = [part.view(*leading, *shape) for part, shape in zip(parts, shapes, strict=True)]
        return dict(zip(self.architecture.parameters, views, strict=True))

    def __call__(
        self, x: Tensor, *, training: bool = False, draws: Sequence[Tensor] = ()
    ) -> Tensor:
        """Outputs [K, C, B] of rows [K, B, *shape], of implicit ensembles [K, C, B, k]; what
        training needs stays for `backward`. When not training, logits [K, outputs, B]."""
        self._module.train(training)
        if not training:
            with torch.no_grad(), self._drawing():
                outputs, _ = self._forward(x)
            return self.architecture.task.combined(outputs)
        with torch.enable_grad(), self._drawing():
            self._outputs, statistics = self._forward(x)
        for name, value in statistics.items():
            self.statistics[name] = value.detach()
        return self._outputs.detach()

    def _drawing(self) -> AbstractContextManager[object]:
        """What it draws comes from its generator."""
        is_needed = self.architecture.draws and self._module.training
        return Draws(self._generator) if is_needed else nullcontext()

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensors]:
        if not self._vectorized:
            statistics = {name: value[0] for name, value in self.statistics.items()}
            outputs, statistics = self._one(self._weights(), statistics, x[0])
            kept = {name: value.unsqueeze(0) for name, value in statistics.items()}
            return outputs.unsqueeze(0), kept
        given = self._weights(), self.statistics, x
        result: tuple[Tensor, Tensors]
        if not self._needs_vjp:
            try:
                result = vmap(self._one, randomness="same")(*given)
                return result
            except (RuntimeError, NotImplementedError) as error:
                if "atching rule" not in str(error):
                    raise
                # Recurrent layers have one only for the operations that they are differentiated by.
                self._needs_vjp = True
        result = vmap(self._one_by_vjp, randomness="same")(*given)
        return result

    def _one(self, parameters: Tensors, statistics: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        # Running statistics are written in place, which must not reach those that were given.
        statistics = {name: value.clone() for name, value in statistics.items()}
        outputs = functional_call(self._module, (parameters, statistics), (x,))
        return arranged(outputs), statistics

    def _one_by_vjp(
        self, parameters: Tensors, statistics: Tensors, x: Tensor
    ) -> tuple[Tensor, Tensors]:
        result: Any = vjp(lambda p: self._one(p, statistics, x), parameters, has_aux=True)
        outputs, _, after = result
        return outputs, after

    def backward(self, d: Tensor) -> None:
        (gradients,) = torch.autograd.grad(self._outputs, self._trained, d)
        self.gradients.add_(gradients)
        self._outputs = torch.empty(0)

    def state(self, index: Tensor) -> Tensor:
        parts = [self.parameters.index_select(0, index)]
        for value in self.statistics.values():
            rows = value.index_select(0, index).reshape(len(index), math.prod(value.shape[1:]))
            parts.append(rows.to(self.parameters.dtype))
        return torch.cat(parts, dim=1)

    def keep(self, index: Tensor) -> None:
        self.parameters = self.parameters.index_select(0, index)
        self.gradients = self.gradients.index_select(0, index)
        self.statistics = {n: v.index_select(0, index) for n, v in self.statistics.items()}


def arranged(outputs: Tensor) -> Tensor:
    """A network's outputs [B], [B, C] or [B, k, C] with C first, as `Task` has them."""
    if outputs.dim() == 1:
        return outputs.unsqueeze(0)
    return outputs.mT if outputs.dim() == 2 else outputs.movedim(2, 0)


def tensors_of(module: nn.Module) -> Tensors:
    """A module's parameters and buffers by name; one that stands at two places once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@contextmanager
def stackable_attention(is_stacked: bool) -> Iterator[None]:
    """For stacks attention is made of operations that know them, in the whole process: the fused
    ones would be called for one network after the other."""
    if not is_stacked:
        yield
        return
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's own generator of the CPU seeded for the block, and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
