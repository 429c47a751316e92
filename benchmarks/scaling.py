"""Ways to scale a table's numbers, each fitted on the training rows of every split alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor

from pipeline.data.encoding import Encoder, encoded
from pipeline.data.schema import Schema
from pipeline.data.splits import Split

Scaling = Callable[[np.ndarray, Schema, Sequence[Split]], Tensor]
"""Raw rows [N, F] -> encoded for each split [S, N, D], numbers first."""


def standard(raw: np.ndarray, schema: Schema, splits: Sequence[Split]) -> Tensor:
    """As the pipeline does: by mean and standard deviation."""
    return encoded(_fitted(raw, schema, splits), [torch.from_numpy(raw)], len(raw))


def smooth(raw: np.ndarray, schema: Schema, splits: Sequence[Split]) -> Tensor:
    """By median and interquartile range, then x / sqrt(1 + (x / 3)^2), which stays within 3.

    Source: Holzmüller et al., "Better by Default" (2024), robust scaling and smooth clipping.
    """
    fitted = _fitted(raw, schema, splits)
    numbers = np.where(np.isfinite(raw), raw, np.nan)[:, list(schema.numeric)]
    for place, split in enumerate(splits):
        rows = numbers[split.training]
        if rows.shape[1] == 0:
            break
        least, low, middle, high, most = np.nanquantile(rows, (0, 0.25, 0.5, 0.75, 1), axis=0)
        scale = np.where(high > low, high - low, (most - least) / 2)
        fitted.mean[place] = torch.from_numpy(middle)
        fitted.scale[place] = torch.from_numpy(np.where(scale > 0, scale, 1.0))
    x = encoded(fitted, [torch.from_numpy(raw)], len(raw))
    own = x[..., : len(schema.numeric)]
    own /= torch.sqrt(1 + (own / 3) ** 2)
    return x


def quantile(raw: np.ndarray, schema: Schema, splits: Sequence[Split]) -> Tensor:
    """By ranks, to a normal distribution."""
    x = standard(raw, schema, splits)
    numbers = np.where(np.isfinite(raw), raw, np.nan)[:, list(schema.numeric)]
    if numbers.shape[1] == 0:
        return x
    for place, split in enumerate(splits):
        rows = numbers[split.training]
        transformer = QuantileTransformer(
            n_quantiles=min(200, len(rows)), output_distribution="normal", subsample=None
        )
        mapped = transformer.fit(rows).transform(numbers)
        x[place, :, : len(schema.numeric)] = torch.from_numpy(np.nan_to_num(mapped)).float()
    return x


def _fitted(raw: np.ndarray, schema: Schema, splits: Sequence[Split]) -> Encoder:
    rows = [torch.from_numpy(split.training) for split in splits]
    return Encoder.fit(torch.from_numpy(raw), schema, rows)


SCALINGS: Mapping[str, Scaling] = {"standard": standard, "smooth": smooth, "quantile": quantile}
