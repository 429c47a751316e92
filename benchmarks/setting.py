"""What every benchmark needs: the machine, rows, Lightning's loop, tables and kept figures."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import make_classification


def machine(packages: Sequence[str]) -> str:
    """The machine, the versions and the load: what a figure depends on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    python = platform.python_version()
    return f"{cpu}, {os.cpu_count()} cores, load {load:.1f}; Python {python}, {versions}"


def two_labels(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows [rows, columns] float32 and labels [rows] int64 that a small network can tell apart."""
    x, y = make_classification(
        rows,
        columns,
        n_informative=max(2, columns * 2 // 3),
        n_redundant=0,
        flip_y=0.2,
        class_sep=0.6,
        random_state=seed,
    )
    return x.astype(np.float32), y.astype(np.int64)


def frame(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    """The same as a table with the label column `label`."""
    x, y = two_labels(rows, columns, seed)
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(columns)]).assign(label=y)


def lightning_epoch(
    network: torch.nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    rows: tuple[torch.Tensor, torch.Tensor],
    split: Any,
    batch: int,
    lr: float,
    epochs: int,
) -> float:
    """Milliseconds of Lightning's shortest epoch with Adam, its validation rows included."""
    import lightning  # type: ignore[import-not-found]

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.stamps = network, [0.0]

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return loss(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.training_step(batch, 0))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=lr)

        def on_train_epoch_end(self) -> None:
            self.stamps.append(time.perf_counter())

    def loader(at: Any, shuffle: bool) -> Any:
        part = torch.utils.data.TensorDataset(*(each[at] for each in rows))
        size = batch if shuffle else len(at)
        return torch.utils.data.DataLoader(part, batch_size=size, shuffle=shuffle)

    module = Module()
    parts = "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"
    quiet = dict.fromkeys(parts, False)
    trainer = lightning.Trainer(max_epochs=epochs + 2, accelerator="cpu", **quiet)
    trainer.fit(module, loader(split.training, True), loader(split.validation, False))
    return float(min(np.diff(module.stamps[1:]))) * 1e3


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    for line in [head, rule, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)


def recorded(path: Path) -> list[dict[str, Any]]:
    """What `record` wrote to the file before; nothing where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def record(path: Path, figures: Mapping[str, Any]) -> None:
    """Append a line of JSON, so that a program that is stopped goes on where it was."""
    with path.open("a") as out:
        out.write(json.dumps(figures) + "\n")
