"""The rows that a stack sees: encoded for each split, and drawn in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.common.seeds import Purpose, seed64
from pipeline.models.mlp import Architecture
from pipeline.training.members import Floats, Settings

PARTS = 5
"""A split's validation rows are in so many parts (`validation_parts`)."""

GATHERED_ELEMENTS = 2**20
"""Batches are gathered many at once, up to so many numbers."""


class Part(Protocol):
    """One split of the rows (`folds.Split`)."""

    @property
    def training(self) -> npt.NDArray[np.int64]: ...
    @property
    def validation(self) -> npt.NDArray[np.int64]: ...


@dataclass(frozen=True)
class Arrays:
    """A study's rows.

    x: [S, N, D], encoded by what was fitted on the training rows of each of the S splits.
    y: [N] int64, label ids.
    labels: how many labels there are.
    """

    x: Tensor
    y: Tensor
    splits: tuple[Part, ...]
    labels: int

    @staticmethod
    def build(
        encoder: nn.Module,
        raw: Floats,
        y: npt.NDArray[np.int64],
        splits: Sequence[Part],
        labels: int,
    ) -> "Arrays":
        """Encode the raw rows [N, F] once for each split."""
        with torch.no_grad():
            parts = [encoder(part) for part in torch.split(torch.from_numpy(raw), 2**13)]
        return Arrays(torch.cat(parts, dim=1), torch.from_numpy(y), tuple(splits), labels)

    def architecture(self, settings: Settings) -> Architecture:
        return Architecture(
            inputs=self.x.shape[2],
            hidden=settings.hidden,
            outputs=Architecture.outputs_for(self.labels),
            activation=settings.activation,
            batch_norm=settings.batch_norm,
        )


class Random:
    """The generators of a stack. Nothing is drawn from any other, and none is drawn by a member.

    One for each purpose, so that whether anybody needs dropout changes no batch. Weights and
    batches are drawn on the CPU: they are the same on every device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.weights = self._generator(seed, Purpose.INITIAL_WEIGHTS, torch.device("cpu"))
        self.order = self._generator(seed, Purpose.BATCH_ORDER, torch.device("cpu"))
        self.dropout = self._generator(seed, Purpose.DROPOUT, device)

    @staticmethod
    def _generator(seed: int, purpose: Purpose, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed64(seed, purpose))


class Rows:
    """A study's rows on the device, those of all splits one after the other [S * N].

    Attributes:
        x: [S * N, width], the `columns` of the rows and zeros beside them.
        y: [S * N].
        held_counts: [S], validation rows.
    """

    def __init__(
        self, arrays: Arrays, device: torch.device, dtype: torch.dtype, width: int | None = None
    ) -> None:
        splits, rows, self.columns = arrays.x.shape
        x = arrays.x.to(device, dtype).flatten(0, 1)
        self.x = x if width is None else F.pad(x, (0, width - self.columns))
        self.y = arrays.y.to(device).repeat(splits)
        self.splits = splits
        offset = torch.arange(splits).unsqueeze(1) * rows

        self.training = [
            torch.from_numpy(split.training) + start
            for split, start in zip(arrays.splits, offset, strict=True)
        ]
        self.smallest = min(len(split.training) for split in arrays.splits)

        parts = [validation_parts(split, arrays.y) for split in arrays.splits]
        validation, is_padding = _padded(parts)
        shape = validation.shape
        at = (validation + offset.unsqueeze(2)).flatten().to(device)
        self._held_x = self.x.index_select(0, at).view(*shape, -1)
        self._held_y = self.y.index_select(0, at).view(shape)
        counts = (~is_padding).sum(dim=(1, 2), keepdim=True)
        self._weights = torch.where(is_padding, 0.0, 1 / counts.double()).to(device, dtype)
        self.held_counts = counts.flatten().to(device)

    def batch_size(self, wanted: int) -> int:
        """Rows in a batch (`Batches`)."""
        return self.smallest // -(-self.smallest // wanted)

    def validation(self, split: Tensor, step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Chunks of about `step` validation rows, as many of every part: x [S, V, width] of all
        splits, y and weights [K, V]. Of each chunk the rows of a part stand side by side."""
        step = max(1, step // PARTS)
        for start in range(0, self._held_y.shape[2], step):
            chunk = slice(start, start + step)
            yield (
                self._held_x[:, :, chunk].flatten(1, 2),
                self._held_y[:, :, chunk].flatten(1).index_select(0, split),
                self._weights[:, :, chunk].flatten(1).index_select(0, split),
            )


def validation_parts(split: Part, y: Tensor) -> list[npt.NDArray[np.int64]]:
    """A split's validation rows in `PARTS` parts: by label they are dealt out in turn, so that each
    gets its share of every label. Of fewer rows than parts some are empty."""
    by_label = split.validation[np.argsort(y[split.validation].numpy(), kind="stable")]
    return [by_label[part::PARTS] for part in range(PARTS)]


def by_part(values: Tensor) -> Tensor:
    """The sums [PARTS, K] of what the rows of a chunk have [K, V] (`Rows.validation`)."""
    return values.reshape(len(values), PARTS, -1).sum(dim=2).mT


class Batches:
    """One epoch's batches for the members of `split` [K], in an order drawn for each split.

    An epoch is ceil(n / batch_size) batches of n // that many rows, n being the smallest training
    part of all splits: no batch is tiny and all have one shape. Rows left over are others in the
    next epoch. Iterating gives x [K, D, B], y [K, B] and dropout's draws [K, units, B].
    """

    def __init__(
        self, rows: Rows, split: Tensor, random: Random, batch_size: int, widths: Sequence[int]
    ) -> None:
        self._rows, self._split, self._random, self._widths = rows, split, random, widths
        self._count = -(-rows.smallest // batch_size)
        size = rows.smallest // self._count
        order = [
            part[torch.randperm(len(part), generator=random.order)[: self._count * size]]
            for part in rows.training
        ]
        at = torch.stack(order, dim=1).view(self._count, size, rows.splits)
        self._at = at.mT.contiguous().to(rows.x.device)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        for x, y, draws in self.segments():
            x = x[..., : self._rows.columns].mT.contiguous()
            for batch in zip(x, y, *draws, strict=True):
                x_split, y_split, *drawn = (part.index_select(0, self._split) for part in batch)
                yield x_split, y_split, drawn

    def segments(self) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        """Many batches at once for all splits: x [n, S, B, width], y [n, S, B] and dropout's draws,
        for each layer [n, S, units, B]."""
        splits, size = self._at.shape[1:]
        width = self._rows.x.shape[1]
        at_once = max(1, GATHERED_ELEMENTS // (splits * size * max(width, sum(self._widths))))
        for some in torch.split(self._at, at_once):
            x = self._rows.x.index_select(0, some.flatten()).view(*some.shape, width)
            y = self._rows.y.index_select(0, some.flatten()).view(some.shape)
            drawn = [[self._draw(splits, units, size) for units in self._widths] for _ in some]
            yield x, y, [torch.stack(layer) for layer in zip(*drawn, strict=True)]

    def _draw(self, *shape: int) -> Tensor:
        generator = self._random.dropout
        dtype = self._rows.x.dtype
        return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)


def _padded(parts: Sequence[Sequence[npt.NDArray[np.int64]]]) -> tuple[Tensor, Tensor]:
    """Row numbers [S, PARTS, V] and which are padding: the first row of the split again."""
    shape = len(parts), PARTS, max(len(of_split[0]) for of_split in parts)
    rows, is_padding = np.empty(shape, dtype=np.int64), np.ones(shape, dtype=bool)
    for place, of_split in enumerate(parts):
        rows[place] = of_split[0][0]
        for part, own in enumerate(of_split):
            rows[place, part, : len(own)] = own
            is_padding[place, part, : len(own)] = False
    return torch.from_numpy(rows), torch.from_numpy(is_padding)
