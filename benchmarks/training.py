"""Milliseconds per epoch and network: this project's stacks beside what people use instead.

    python benchmarks/training.py [--network small,medium,wide] [--members 32,128]
        [--jax-python PATH] [--epochs 10]

Every figure is the shortest of several epochs, all of one run, and every way does the same: Adam,
an epoch of batches, then the loss and accuracy on the validation rows. Ours also stops early and
keeps each network's best weights, as in a search; the others do not. The data are made here.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
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
from benchmarks.setting import lightning_epoch
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings


@dataclass(frozen=True)
class Work:
    """widths of the network; rows in all, of which a fifth validates; rows of a batch."""

    widths: tuple[int, ...]
    rows: int
    batch: int

    def __str__(self) -> str:
        shape = "-".join(map(str, self.widths))
        return f"{shape}, {self.rows:,} rows, batch {self.batch:,}"


WORKS = {
    "small": Work((9, 16, 8, 1), 1508, 64),
    "medium": Work((9, 128, 64, 1), 1508, 64),
    "wide": Work((100, 256, 128, 1), 50_000, 1024),
    "middle": Work((30, 64, 32, 1), 1508, 64),
    "wide-million": Work((100, 256, 128, 1), 1_000_000, 1024),
}
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Split:
    training: Any
    validation: Any


def table(work: Work) -> tuple[Tensor, Tensor, Split]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(work.rows, work.widths[0])).astype(np.float32)
    score = x @ draw.normal(size=work.widths[0]) + draw.normal(size=work.rows)
    order = draw.permutation(work.rows)
    cut = work.rows // 5
    split = Split(np.sort(order[cut:]), np.sort(order[:cut]))
    return torch.from_numpy(x), torch.from_numpy((score > 0).astype(np.int64)), split


def shortest(epochs: Iterator[float]) -> float:
    return min(epochs) * 1e3


def network(work: Work) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip(work.widths, work.widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def ours(work: Work, members: int, native: bool, epochs: int) -> tuple[float, float]:
    """Milliseconds per epoch and network, and the seconds of the first epoch.

    native: with the compiled program, else with torch's operations alone.
    """
    x, y, split = table(work)
    arrays = Arrays(x.unsqueeze(0), y, (split,), Classification(2))
    # One more than is timed, and a patience that holds out: all members run in every epoch.
    more = epochs + 1
    training = Training(epochs=more, patience=more, batch_size=work.batch, device="cpu")
    optimizer = Component("Adam", {"lr": LEARNING_RATE}, "")
    member = Member(0, optimizer, Model(hidden=work.widths[1:-1]), training)
    stamps = [time.perf_counter()]

    def watch(*_: object) -> Collection[int]:
        stamps.append(time.perf_counter())
        return ()

    fit(arrays, [member] * members, Settings(native=native), watch)
    taken = np.diff(stamps)
    return shortest(iter(taken[1:])) / members, float(taken[0])


def epochs_of(run: Callable[[], None], epochs: int) -> float:
    run()
    taken = []
    for _ in range(epochs):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return shortest(iter(taken))


def plain(work: Work, loader: bool, epochs: int) -> float:
    """The usual loop, over a DataLoader or over slices of a shuffled tensor."""
    x, y, split = table(work)
    target = y.float().unsqueeze(1)
    model = network(work)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_of = nn.BCEWithLogitsLoss()
    x_train, y_train = x[split.training], target[split.training]
    x_val, y_val = x[split.validation], target[split.validation]
    loads = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x_train, y_train), batch_size=work.batch, shuffle=True
    )

    def slices() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(x_train))
        for at in order.split(work.batch):
            yield x_train[at], y_train[at]

    def epoch() -> None:
        total = torch.zeros(())
        for xb, yb in loads if loader else slices():
            optimizer.zero_grad()
            loss = loss_of(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        with torch.no_grad():
            logits = model(x_val)
            loss_of(logits, y_val).item()
            ((logits > 0) == (y_val > 0)).float().mean().item()

    return epochs_of(epoch, epochs)


def floor(work: Work, members: int, epochs: int) -> float:
    """The batched products of an epoch alone, one thread, in stacks as large as helps."""
    count = math.ceil(work.rows * 0.8 / work.batch)
    rows = int(work.rows * 0.8) // count
    together = min(members, 32)
    layers = []
    for before, after in zip(work.widths, work.widths[1:], strict=False):
        w = torch.randn(together, after, before)
        layers.append((w, torch.randn(together, before, rows), torch.randn(together, after, rows)))

    def epoch() -> None:
        for _ in range(count):
            for i, (w, x, d) in enumerate(layers):
                torch.bmm(w, x)
                torch.bmm(x, d.mT) if w.shape[1] > w.shape[2] else torch.bmm(d, x.mT)
                if i:
                    torch.bmm(w.mT, d)

    before, _ = torch.get_num_threads(), torch.set_num_threads(1)
    try:
        return epochs_of(epoch, epochs) / together
    finally:
        torch.set_num_threads(before)


def lightning(work: Work, epochs: int) -> float:
    x, y, split = table(work)
    loss = nn.functional.binary_cross_entropy_with_logits
    rows = x, y.float().unsqueeze(1)
    return lightning_epoch(network(work), loss, rows, split, work.batch, LEARNING_RATE, epochs)


def skorch(work: Work, epochs: int) -> float:
    from skorch import NeuralNetBinaryClassifier  # type: ignore[import-not-found]
    from skorch.dataset import ValidSplit  # type: ignore[import-not-found]

    x, y, _ = table(work)
    net = NeuralNetBinaryClassifier(
        network(work),
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=work.batch,
        max_epochs=epochs + 1,
        train_split=ValidSplit(5),
        iterator_train__shuffle=True,
        verbose=0,
    )
    net.fit(x.numpy(), y.numpy().astype(np.float32))
    return min(net.history[1:, "dur"]) * 1e3


JAX = """
import json, math, sys, time
import jax, jax.numpy as jnp, optax
widths, rows, batch, members, epochs = json.loads(sys.argv[1])
cut = rows // 5
count = math.ceil((rows - cut) / batch); size = (rows - cut) // count
kx, ky, kp = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(kx, (rows, widths[0]))
Y = (jax.random.uniform(ky, (rows,)) < 0.5).astype(jnp.float32)
def init(key):
    keys = jax.random.split(key, len(widths) - 1)
    return [(jax.random.uniform(k, (i, o), minval=-1, maxval=1) / math.sqrt(i), jnp.zeros(o))
            for k, i, o in zip(keys, widths, widths[1:])]
def logits(p, x):
    for w, b in p[:-1]: x = jax.nn.relu(x @ w + b)
    return (x @ p[-1][0] + p[-1][1])[:, 0]
def loss(p, x, y): return optax.sigmoid_binary_cross_entropy(logits(p, x), y).mean()
opt = optax.adam(1e-3)
def epoch(params, state, key):
    order = cut + jax.random.permutation(key, rows - cut)[: count * size].reshape(count, size)
    def one(p, s):
        def step(c, at):
            p, s = c
            v, g = jax.value_and_grad(loss)(p, X[at], Y[at])
            u, s = opt.update(g, s, p)
            return (optax.apply_updates(p, u), s), v
        (p, s), v = jax.lax.scan(step, (p, s), order)
        z = logits(p, X[:cut])
        val = optax.sigmoid_binary_cross_entropy(z, Y[:cut]).mean()
        return p, s, v.mean(), val, ((z > 0) == (Y[:cut] > 0)).mean()
    return jax.vmap(one)(params, state)
params = jax.vmap(init)(jax.random.split(kp, members)); state = jax.vmap(opt.init)(params)
epoch = jax.jit(epoch, donate_argnums=(0, 1))
taken = []
for e in range(epochs + 1):
    start = time.perf_counter()
    params, state, *scores = epoch(params, state, jax.random.key(e))
    jax.block_until_ready(scores); taken.append(time.perf_counter() - start)
print(json.dumps([min(taken[1:]) / members * 1e3, taken[0]]))
"""


def jax(python: str, work: Work, members: int, epochs: int) -> tuple[float, float]:
    what = json.dumps([work.widths, work.rows, work.batch, members, epochs])
    found = subprocess.run(
        [python, "-c", JAX, what], capture_output=True, text=True, check=True, timeout=600
    )
    milliseconds, first = json.loads(found.stdout.splitlines()[-1])
    return milliseconds, first


def measure(work: Work, members: Sequence[int], jax_python: str | None, epochs: int) -> None:
    rows: list[tuple[str, float, float | None]] = []

    def add(name: str, milliseconds: float, first: float | None = None) -> None:
        rows.append((name, milliseconds, first))

    add("DataLoader loop", plain(work, True, max(2, epochs // 4)))
    add("slicing loop", plain(work, False, epochs))
    for name, library in (("Lightning", lightning), ("skorch", skorch)):
        if importlib.util.find_spec(name.lower()):
            add(name, library(work, max(2, epochs // 4)))
    for count in members:
        add(f"ours, {count} networks", *ours(work, count, True, epochs))
        add(f"ours without a compiler, {count} networks", *ours(work, count, False, epochs))
        if jax_python:
            add(f"JAX, {count} networks", *jax(jax_python, work, count, epochs))
        add(f"products alone, {count} networks, one thread", floor(work, count, epochs))

    print(f"\n{work}\n")
    head = ("", "ms per epoch and network", "DataLoader loop / this", "first epoch, s")
    print("| " + " | ".join(head) + " |\n| --- | ---: | ---: | ---: |")
    for name, milliseconds, first in rows:
        start = "" if first is None else f"{first:.1f}"
        ratio = rows[0][1] / milliseconds
        print(f"| {name} | {milliseconds:.4g} | {ratio:.3g} | {start} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="small,medium", help=", ".join(WORKS))
    parser.add_argument("--members", default="32,128", help="sizes of a group of networks")
    parser.add_argument("--jax-python", help="a Python that has jax and optax")
    parser.add_argument("--epochs", type=int, default=10, help="how many are timed")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    jax_python = arguments.jax_python
    if jax_python is None and all(importlib.util.find_spec(name) for name in ("jax", "optax")):
        jax_python = sys.executable
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"torch {torch.__version__} with {torch.get_num_threads()} threads, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d %H:%M')}")
    for name in arguments.network.split(","):
        members = [int(count) for count in arguments.members.split(",")]
        measure(WORKS[name], members, jax_python, arguments.epochs)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
