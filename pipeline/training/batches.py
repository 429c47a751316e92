"""The rows that a stack sees: encoded for each split, and drawn in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.common.seeds import Purpose, seed64
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.dependence import INDEPENDENT, Dependence, dealt
from pipeline.data.splits import Split
from pipeline.models.architecture import Architecture
from pipeline.models.inspection import module_architecture
from pipeline.models.mlp import MLP
from pipeline.models.task import Task

CROSS_FIT_SHARES = 5
"""A split's validation rows are dealt out in so many shares (`validation_shares`)."""

GATHERED_ELEMENTS = 2**20
"""Batches are gathered many at once, up to so many numbers."""

PADDED_ELEMENTS = 2**26
"""Numbers of rows that are held with zeros beside them; more get their zeros batch by batch, which
takes a little longer, since the rows without would be held as well."""


@dataclass(frozen=True)
class Arrays:
    """A study's rows.

    x: [S, N, D], encoded by what was fitted on the training rows of each of the S splits; or
        [1, N, *shape] where nothing was fitted: whole numbers from 0 to 255 (uint8), which networks
        get as shares of 255, ids (int64) or floats.
    y: [N], what `task` says; label ids are int64.
    is_shared: whether all splits have the same x.
    dependence: what makes the rows depend on each other."""

    x: Tensor
    y: Tensor
    splits: tuple[Split, ...]
    task: Task
    is_shared: bool = False
    dependence: Dependence = INDEPENDENT
    _architectures: dict[str, Architecture] = field(default_factory=dict, repr=False)

    def rows(self, split: int, index: Tensor) -> Tensor:
        """These rows [B] as the networks of a split get them, [B, ...]."""
        x = self.x[0 if self.is_shared else split]
        return as_inputs(x.index_select(0, index), torch.float32)

    def batches(self, batch_size: int) -> tuple[int, int]:
        """The fewest training rows that any split has, and the batches of an epoch (`Batches`)."""
        smallest = min(len(split.training) for split in self.splits)
        return smallest, -(-smallest // batch_size)

    def architecture(self, model: Model | Component, training: Training) -> Architecture:
        """That of the networks of a configuration without ranges.

        Raises UserError for somebody's network that does not serve (`module_architecture`)."""
        if isinstance(model, Model):
            return MLP(
                self.x.shape[2], model.hidden, self.task.outputs, model.activation, model.batch_norm
            )
        key = repr((model, training.loss, training.class_weight))
        if key not in self._architectures:
            rows, task = self.rows(0, torch.arange(2)), self.task.trained_by(training)
            inputs = inputs_of(self.x.shape[2:])
            self._architectures[key] = module_architecture(model, rows, inputs, task)
        return self._architectures[key]


def inputs_of(shape: Sequence[int]) -> int | tuple[int, ...]:
    """What a network is told of rows of this shape: of one dimension their number of columns."""
    return shape[0] if len(shape) == 1 else tuple(shape)


def as_inputs(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows as networks get them: floats of `dtype`, of uint8 the shares of 255, or int64."""
    if x.dtype == torch.uint8:
        return x.to(dtype).div_(255)
    return x.to(dtype) if x.is_floating_point() else x


class Random:
    """The generators of a stack. Nothing is drawn from any other, and none is drawn by a member.

    One for each purpose, so that whether anybody needs dropout changes no batch. Batches are drawn
    on the CPU: they are the same on every device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.order = torch.Generator().manual_seed(seed64(seed, Purpose.BATCH_ORDER))
        self.dropout = torch.Generator(device).manual_seed(seed64(seed, Purpose.DROPOUT))


class Rows:
    """A study's rows on the device, those of all splits one after the other [S * N].

    Attributes:
        x: [S * N, columns], or [N, *shape]; `take` gives them with zeros beside up to `width`.
        y: as many.
        training: for each split the places of its training rows.
        smallest: the fewest training rows that any split has.
        batches, batch_rows: how many batches an epoch has, and the rows of each (`Batches`).
        validation_counts: [S], validation rows."""

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        width: int | None = None,
    ) -> None:
        held, rows, self.columns = arrays.x.shape[:3]
        x = arrays.x.flatten(0, 1).to(device)
        x = x.to(dtype) if x.is_floating_point() else x
        self._zeros = 0 if width is None else width - self.columns
        if x.numel() <= PADDED_ELEMENTS:
            x, self._zeros = F.pad(x, (0, self._zeros)) if self._zeros else x, 0
        self.x = x
        self.y = arrays.y.to(device).repeat(held)
        self.splits, self.dtype = len(arrays.splits), dtype
        self.task = arrays.task
        offset = torch.arange(self.splits).unsqueeze(1) * (0 if arrays.is_shared else rows)

        self.training = [
            torch.from_numpy(split.training) + start
            for split, start in zip(arrays.splits, offset, strict=True)
        ]
        self.smallest, self.batches = arrays.batches(batch_size)
        self.batch_rows = self.smallest // self.batches

        shares = [validation_shares(split, arrays) for split in arrays.splits]
        flat = [torch.from_numpy(share) for of_split in shares for share in of_split]
        padded = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=-1)
        validation = padded.view(self.splits, CROSS_FIT_SHARES, -1)
        is_padding, shape = validation < 0, validation.shape
        # Padding is the first row of the split again, which weighs nothing.
        validation = torch.where(is_padding, validation[:, :1, :1], validation)
        places = (validation + offset.unsqueeze(2)).flatten().to(device)
        x = self.take(places)
        self._validation_x = x.view(*shape, *x.shape[1:])
        self._validation_y = self.y.index_select(0, places).view(shape)
        counts = (~is_padding).sum(dim=(1, 2), keepdim=True)
        self._weights = torch.where(is_padding, 0.0, 1 / counts.double()).to(device, dtype)
        self.validation_counts = counts.flatten().to(device)

    def take(self, places: Tensor) -> Tensor:
        """Some rows [B, width], or [B, *shape]."""
        x = self.x.index_select(0, places)
        return F.pad(x, (0, self._zeros)) if self._zeros else x

    def validation(self, split: Tensor, at_once: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Chunks of about `at_once` validation rows, as many of every share, side by side.

        Yields x [S, V, ...] of all splits, and for the members of `split` [K] their y [K, V] and
        weights [K, V]; over all chunks a member's weights sum to 1."""
        step = max(1, at_once // CROSS_FIT_SHARES)
        for start in range(0, self._validation_y.shape[2], step):
            chunk = slice(start, start + step)
            yield (
                as_inputs(self._validation_x[:, :, chunk].flatten(1, 2), self.dtype),
                self._validation_y[:, :, chunk].flatten(1).index_select(0, split),
                self._weights[:, :, chunk].flatten(1).index_select(0, split),
            )


def validation_shares(split: Split, arrays: Arrays) -> list[npt.NDArray[np.int64]]:
    """A split's validation rows in `CROSS_FIT_SHARES` shares (`dependence.dealt`); those of a
    single group are dealt out too, since nothing else could choose their epoch."""
    rows, dependence = split.validation, arrays.dependence
    if dependence.groups is not None and dependence.take(rows).count == 1:
        dependence = INDEPENDENT
    return dealt(rows, arrays.y.numpy(), dependence, CROSS_FIT_SHARES)


def by_share(values: Tensor) -> Tensor:
    """Values of a chunk's rows [K, V] (`Rows.validation`), summed up for each share [SHARES, K]."""
    return values.reshape(len(values), CROSS_FIT_SHARES, -1).sum(dim=2).mT


class Batch(NamedTuple):
    """x [K, B, ...], y [K, B] and dropout's draws, none or for each hidden layer [K, units, B].

    Of many batches for some splits: x [n, S, B, width], y [n, S, B] and draws [n, S, units, B]."""

    x: Tensor
    y: Tensor
    draws: list[Tensor]


class Batches:
    """One epoch's batches for the members of `split` [K], in an order drawn for each split.

    An epoch is ceil(n / batch_size) batches of n // that many rows, n being the smallest training
    part of all splits: no batch is tiny and all have one shape. Rows left over are others in the
    next epoch.

    Args:
        units: of the layers that dropout needs draws for.
        rows_last: whether x is [K, D, B], as the built-in network takes it."""

    def __init__(
        self,
        rows: Rows,
        split: Tensor,
        random: Random,
        units: Sequence[int] = (),
        rows_last: bool = False,
    ) -> None:
        self._rows, self._split, self._random = rows, split, random
        self._units, self._rows_last = units, rows_last
        used = rows.batches * rows.batch_rows
        order = [
            places[torch.randperm(len(places), generator=random.order)[:used]]
            for places in rows.training
        ]
        places = torch.stack(order, dim=1).view(rows.batches, rows.batch_rows, rows.splits)
        self._places = places.mT.contiguous().to(rows.x.device)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Batch]:
        present, member = torch.unique(self._split, return_inverse=True)
        for x, y, draws in self.segments(present):
            if self._rows_last:
                x = x[..., : self._rows.columns].mT.contiguous()
            for batch in zip(x, y, *draws, strict=True):
                x_split, y_split, *drawn = (part.index_select(0, member) for part in batch)
                yield Batch(as_inputs(x_split, self._rows.dtype), y_split, drawn)

    def segments(self, present: Tensor | None = None) -> Iterator[Batch]:
        """Many batches at once, for these splits [S], or all; draws are made for all."""
        splits, size = self._places.shape[1:]
        each = max(self._rows.x[:1].numel(), sum(self._units))
        chosen = self._places if present is None else self._places.index_select(1, present)
        at_once = max(1, GATHERED_ELEMENTS // (chosen.shape[1] * size * each))
        for places in torch.split(chosen, at_once):
            x = self._rows.take(places.flatten())
            x = x.view(*places.shape, *x.shape[1:])
            y = self._rows.y.index_select(0, places.flatten()).view(places.shape)
            drawn = [[self._draw(splits, units, size) for units in self._units] for _ in places]
            draws = [torch.stack(layer) for layer in zip(*drawn, strict=True)]
            if present is not None:
                draws = [layer.index_select(1, present) for layer in draws]
            yield Batch(x, y, draws)

    def _draw(self, *shape: int) -> Tensor:
        generator, dtype = self._random.dropout, self._rows.dtype
        return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)
