"""A small model over arrays, and folders of images, for tests."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.models import flavor


def array_schema(
    shape: Sequence[int], dtype: str, labels: Sequence[Any] = ("cat", "dog"), **more: Any
) -> dict[str, Any]:
    inputs = {"shape": list(shape), "dtype": dtype, **more}
    return {
        "version": 1,
        "columns": [],
        "target": "label",
        "labels": list(labels),
        "inputs": inputs,
    }


class SmallArrayModel(torch.nn.Module):
    """Arrays [B, *shape] -> probabilities [B, labels] float32."""

    def __init__(self, numbers: int, labels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(numbers, labels, generator=generator))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.tanh(raw.flatten(1).to(torch.float32) / 64) @ self.weight, dim=1)


def expected_probabilities(rows: np.ndarray, labels: int = 2) -> np.ndarray:
    """By NumPy alone."""
    flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(flat.shape[1], labels, generator=generator).double().numpy()
    powers = np.exp(np.tanh(flat / 64) @ weight)
    return powers / powers.sum(axis=1, keepdims=True)


@functools.cache
def array_program(
    shape: tuple[int, ...], dtype: str, labels: int = 2
) -> torch.export.ExportedProgram:
    return torch.export.export(
        SmallArrayModel(int(np.prod(shape)), labels).eval(),
        (torch.zeros((3, *shape), dtype=getattr(torch, dtype)),),
        dynamic_shapes=({0: torch.export.Dim("rows")},),
    )


def save_array_model(folder: Path, schema: dict[str, Any]) -> Path:
    shape, dtype = tuple(schema["inputs"]["shape"]), schema["inputs"]["dtype"]
    flavor.save_model(
        folder,
        program=array_program(shape, dtype, len(schema["labels"])),
        schema=schema,
        input_example=np.ones((2, *shape), dtype=dtype),
        requirements=flavor.default_requirements(),
    )
    return folder


def save_image(path: Path, pixels: np.ndarray) -> Path:
    """[height, width] grey or [height, width, 3] coloured, uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_images(
    folder: Path, labels: Sequence[str], count: int, shape: tuple[int, ...] = (4, 6)
) -> dict[str, np.ndarray]:
    """`count` random images for each label; by their names LABEL/I.png."""
    random = np.random.default_rng(0)
    images = {}
    for label in labels:
        for i in range(count):
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            save_image(folder / label / f"{i}.png", pixels)
            images[f"{label}/{i}.png"] = pixels
    return images
