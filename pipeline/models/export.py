"""Members that answer together: the ensemble that is shipped, as a module or graph."""

import contextlib
import io
import logging
from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pipeline.common.errors import UserError
from pipeline.common.imports import reason_of
from pipeline.models.activations import ACTIVATIONS
from pipeline.models.architecture import Architecture
from pipeline.models.calibration import SMALLEST
from pipeline.models.mlp import EPSILON, MLP
from pipeline.models.module import arranged
from pipeline.models.task import Task


class Ensemble(nn.Module):
    """The mean of K members' probabilities, with the encoder of raw rows inside.

    Args:
        encoder: raw rows [B, ...] -> encoded [K, B, ...], each member with its own statistics, or
            [1, B, ...] where nothing was fitted.
        temperature: what the mean's logits are divided by (`calibration.tempered`), in the same
            graph; None: nothing.

    Attributes:
        kind: equal for ensembles that are one graph where their weights have the same shapes."""

    temperature: Tensor | None
    kind: Hashable

    def __init__(self, encoder: nn.Module, temperature: float | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        buffer = None if temperature is None else torch.tensor(temperature, dtype=torch.float32)
        self.register_buffer("temperature", buffer)

    def of_members(self, x: Tensor, members: slice) -> Tensor:
        """Logits [k, B, labels] of these members for encoded rows, as the encoder gives them."""
        raise NotImplementedError

    def logits(self, member: int, x: Tensor) -> Tensor:
        """What one member says of encoded rows [B, ...]: [B, labels] float64."""
        return self.of_members(x.unsqueeze(0), slice(member, member + 1))[0].double()

    def forward(self, raw: Tensor) -> Tensor:
        """Probabilities [B, labels] float32 of raw rows."""
        each = torch.softmax(self.of_members(self.encoder(raw), slice(None)), dim=2)
        probabilities = each.float().mean(dim=0)
        if self.temperature is None:
            return probabilities
        # The logarithm of 0 has no gradient: one such row would make all weights NaN in training.
        return torch.softmax(probabilities.clamp(min=SMALLEST).log() / self.temperature, dim=1)


class MLPEnsemble(Ensemble):
    """Of multilayer perceptrons.

    Args:
        architecture: that of the members.
        states: [K, P + Q], as `StackedMLP.state` gives them.

    Batch norm is folded into the linear layers before it, so that an architecture with it and one
    without are the same graph."""

    def __init__(
        self,
        encoder: nn.Module,
        architecture: MLP,
        states: Tensor,
        temperature: float | None = None,
    ) -> None:
        super().__init__(encoder, temperature)
        self.kind = self.activation = architecture.activation
        parameters, statistics = states[:, : architecture.size], states[:, architecture.size :]
        running = torch.split(statistics.unsqueeze(2), list(architecture.statistics), dim=1)
        self.weights = nn.ParameterList()  # [K, in, out]
        self.biases = nn.ParameterList()  # [K, 1, out]
        for i, layer in enumerate(architecture.views(parameters)):
            weight, bias = layer.weight, layer.bias
            if layer.scale is not None and layer.shift is not None:
                factor = layer.scale * torch.rsqrt(running[2 * i + 1] + EPSILON)
                weight, bias = weight * factor, (bias - running[2 * i]) * factor + layer.shift
            for each, tensor in ((self.weights, weight), (self.biases, bias)):
                each.append(nn.Parameter(tensor.float().mT.contiguous(), requires_grad=False))

    def of_members(self, x: Tensor, members: slice) -> Tensor:
        activation = ACTIVATIONS[self.activation]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias[members], activation(x) if i > 0 else x, weight[members])
        return torch.cat((torch.zeros_like(x), x), dim=2) if x.shape[2] == 1 else x


class ModuleEnsemble(Ensemble):
    """Of modules that people bring, one after the other.

    Args:
        task: says what their outputs mean.
        kind: see `Ensemble`."""

    def __init__(
        self,
        encoder: nn.Module,
        modules: Sequence[nn.Module],
        task: Task,
        kind: Hashable,
        temperature: float | None = None,
    ) -> None:
        super().__init__(encoder, temperature)
        self.kind, self._task = kind, task
        self.networks = nn.ModuleList(modules)

    def of_members(self, x: Tensor, members: slice) -> Tensor:
        networks = self.networks[members]
        rows = x.expand(len(networks), *x.shape[1:])
        outputs = [arranged(network(own)) for network, own in zip(networks, rows, strict=True)]
        return self._task.logits(self._task.combined(torch.stack(outputs).double()))


def ensemble_of(
    architecture: Architecture, encoder: nn.Module, states: Tensor, temperature: float | None = None
) -> Ensemble:
    """The mean of networks with these weights [K, P + Q], as it is shipped."""
    if isinstance(architecture, MLP):
        return MLPEnsemble(encoder, architecture, states, temperature)
    modules = [architecture.module(state) for state in states]
    return ModuleEnsemble(encoder, modules, architecture.task, architecture.program, temperature)


def export(
    ensemble: Ensemble, shape: Sequence[int], dtype: torch.dtype = torch.float64
) -> ExportedProgram:
    """The ensemble as a graph that takes any number of rows [B, *shape], none included.

    The example that is saved with the program is of zeros. It stays, because MLflow, where pickles
    are disallowed, takes an archive with tensors as its example but none without an example.
    The places in this source that torch notes at each node, with the paths of this machine, go."""
    example = (torch.zeros((2, *shape), dtype=dtype),)
    rows = ({0: torch.export.Dim("rows")},)
    ensemble.eval()
    with _quiet():
        try:
            program = torch.export.export(ensemble, example, dynamic_shapes=rows)
        except Exception as error:
            # torch has many classes of error for a module whose Python it cannot follow. Read from
            # its bytecode, which takes longer, `len(x)` may be any number of rows.
            try:
                program = torch.export.export(ensemble, example, dynamic_shapes=rows, strict=True)
            except Exception:
                reason = reason_of(error)
                raise UserError(f"model: torch.export refuses it: {reason}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the graphs that torch prints where it refuses one, and the optional packages that it
    reports not to have found."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            yield
    finally:
        logging.disable(before)


class Exporter:
    """One exported program for each architecture; another ensemble's weights are swapped in.

    Args:
        shape, dtype: those of a raw row.

    For the ensembles of one schema: what the encoder does is part of the graph, what it was fitted
    to is swapped in. The program given is valid until the next call."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> None:
        self._shape, self._dtype = tuple(shape), dtype
        self._programs: dict[Hashable, ExportedProgram] = {}

    def program(self, ensemble: Ensemble) -> ExportedProgram:
        state = ensemble.state_dict(keep_vars=True)
        shapes = tuple((name, tuple(value.shape), value.dtype) for name, value in state.items())
        key = (ensemble.kind, shapes)
        if key not in self._programs:
            self._programs[key] = export(ensemble, self._shape, self._dtype)
        program = self._programs[key]
        for name, value in state.items():
            program.state_dict[name] = value
        return program
