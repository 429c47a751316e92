"""Networks of one's own, here and in the loops that people write.

    python benchmarks/own_networks.py [--network perceptron,convolution,gru,transformer]
        [--members 1,8,40] [--epochs 5]

Every figure is in milliseconds per epoch and network, the shortest of several epochs, all of one
run, and every way does the same: Adam, an epoch of batches, then loss and accuracy on the
validation rows. Ours also keeps each network's best weights. `pip install lightning skorch` adds
these two. The data are made here.
"""

import argparse
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.setting import lightning_epoch, machine, show
from pipeline.config.component import Component
from pipeline.config.sections import Training
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.engines import ONE_BY_ONE, STACKED, Engines
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings

BATCH, LABELS, LEARNING_RATE = 64, 4, 1e-3


def perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs)
    )


def convolution(inputs: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs[0], 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, outputs),
    )


class gru(nn.Module):  # noqa: N801
    def __init__(self, inputs: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs[1], 16, batch_first=True)
        self.head = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])  # type: ignore[no-any-return]


class transformer(nn.Module):  # noqa: N801
    def __init__(self, inputs: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(inputs[1], 4, 32, 0.1, batch_first=True)
        self.head = nn.Linear(inputs[1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(dim=1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Split:
    training: Any
    validation: Any


@dataclass(frozen=True)
class Work:
    """make: (shape of a row, labels) -> the network; rows in all, of which a fifth validates."""

    make: Callable[[Any, int], nn.Module]
    shape: tuple[int, ...]
    rows: int = 1500

    def network(self) -> nn.Module:
        return self.make(self.shape if len(self.shape) > 1 else self.shape[0], LABELS)

    def data(self) -> tuple[Tensor, Tensor, Split]:
        draw = np.random.default_rng(0)
        x = draw.normal(size=(self.rows, *self.shape)).astype(np.float32)
        score = x.reshape(self.rows, -1)[:, :LABELS] + draw.normal(size=(self.rows, LABELS))
        order, cut = draw.permutation(self.rows), self.rows // 5
        split = Split(np.sort(order[cut:]), np.sort(order[:cut]))
        return torch.from_numpy(x), torch.from_numpy(score.argmax(1)), split


WORKS = {
    "perceptron": Work(perceptron, (9,)),
    "convolution": Work(convolution, (1, 8, 8)),
    "gru": Work(gru, (16, 4)),
    "transformer": Work(transformer, (10, 16)),
}


class Given(Engines):
    """Takes the engine that it is told."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine

    def choose(self, *_: Any) -> str:
        return self._engine


def ours(name: str, members: int, epochs: int, engines: Engines | None = None) -> tuple[float, str]:
    """Milliseconds per epoch and network, and the engine that was chosen."""
    x, y, split = WORKS[name].data()
    arrays = Arrays(x.unsqueeze(0), y, (split,), Classification(LABELS), is_shared=True)
    # One more than is timed, and a patience that holds out: all members run in every epoch.
    more = epochs + 1
    training = Training(epochs=more, patience=more, batch_size=BATCH, device="cpu")
    network = Component(f"{Path(__file__).resolve()}:{name}", {}, "")
    member = Member(0, Component("Adam", {"lr": LEARNING_RATE}, ""), network, training)
    stamps = [time.perf_counter()]

    def watch(*_: object) -> Collection[int]:
        stamps.append(time.perf_counter())
        return ()

    settings = Settings(engines=engines or Engines())
    fits = fit(arrays, [member] * members, settings, watch)
    return min(np.diff(stamps)[1:]) / members * 1e3, fits[0].engine


def plain(name: str, epochs: int) -> float:
    """The usual loop over a DataLoader."""
    x, y, split = WORKS[name].data()
    model = WORKS[name].network()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss()
    rows = torch.utils.data.TensorDataset(x[split.training], y[split.training])
    loads = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True)
    x_val, y_val = x[split.validation], y[split.validation]
    taken = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        model.train()
        for xb, yb in loads:
            optimizer.zero_grad()
            loss_of(model(xb), yb).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(x_val)
            loss_of(logits, y_val).item()
            (logits.argmax(dim=1) == y_val).float().mean().item()
        taken.append(time.perf_counter() - started)
    return min(taken[1:]) * 1e3


def lightning(name: str, epochs: int) -> float:
    x, y, split = WORKS[name].data()
    network, loss = WORKS[name].network(), nn.functional.cross_entropy
    return lightning_epoch(network, loss, (x, y), split, BATCH, LEARNING_RATE, epochs)


def skorch(name: str, epochs: int) -> float:
    from skorch import NeuralNetClassifier  # type: ignore[import-not-found]
    from skorch.dataset import ValidSplit  # type: ignore[import-not-found]

    x, y, _ = WORKS[name].data()
    net = NeuralNetClassifier(
        WORKS[name].network(),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=BATCH,
        max_epochs=epochs + 1,
        train_split=ValidSplit(5),
        iterator_train__shuffle=True,
        verbose=0,
    )
    net.fit(x.numpy(), y.numpy())
    return min(net.history[1:, "dur"]) * 1e3


def measured(name: str, members: Sequence[int], epochs: int) -> Iterator[list[str]]:
    baseline = plain(name, epochs)
    yield [name, "DataLoader loop", f"{baseline:.3g}", "1"]
    for other, library in (("Lightning", lightning), ("skorch", skorch)):
        if importlib.util.find_spec(other.lower()):
            taken = library(name, epochs)
            yield [name, other, f"{taken:.3g}", f"{baseline / taken:.2g}"]
    for count in members:
        ways = {"ours": None, "stacked": Given(STACKED), "one by one": Given(ONE_BY_ONE)}
        for way, engines in ways.items():
            if count == 1 and way != "ours":
                continue
            # The loop once more beside it: another process may have come or gone.
            beside = plain(name, epochs)
            taken, engine = ours(name, count, epochs, engines)
            label = f"ours ({engine})" if way == "ours" else f"by force {way}"
            yield [name, f"{label}, {count} networks", f"{taken:.3g}", f"{beside / taken:.2g}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default=",".join(WORKS))
    parser.add_argument("--members", default="1,8,40")
    parser.add_argument("--epochs", type=int, default=5, help="how many are timed")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"{machine(['torch'])}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    members = [int(count) for count in arguments.members.split(",")]
    rows = [
        row
        for name in arguments.network.split(",")
        for row in measured(name, members, arguments.epochs)
    ]
    show(("network", "way", "ms per epoch and network", "DataLoader loop / this"), rows)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
