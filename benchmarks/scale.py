"""What bounds a search on a cluster: the parts measured, and put together by simulation.

    python benchmarks/scale.py            # SQLite, PostgreSQL, a server; asking; the object store
    python benchmarks/scale.py --check    # the simulator beside searches on this machine's cluster

Asking is measured in seconds of the processor, after so many told trials; beyond the largest of
these the figures are extrapolated by a power law, and marked. Writing is by the clock, and depends
on what else the machine does.
"""

import argparse
import contextlib
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.cluster import EMPTY, arrays_of, nothing, workers
from benchmarks.setting import frame, machine, show
from benchmarks.simulator import Cluster, Costs, Outcome, Plan, simulate
from benchmarks.tracking import measure, server
from pipeline.config import Config, check, from_mapping
from pipeline.data import prepared as data
from pipeline.search.batch_sizes import MOST, batch_around
from pipeline.search.search import Search
from pipeline.search.space import Space
from pipeline.tracking.store import Store
from pipeline.tracking.trials import TrialLog
from pipeline.tracking.writer import Journal, Writer
from pipeline.training import ray_engine
from pipeline.training.executors import Executor
from pipeline.training.outcomes import Fit
from pipeline.training.trainer import Trainer
from pipeline.training.trial import CURVES, Trial, ended, proposed

OPTIMIZERS = "SGD", "Adagrad", "RMSprop", "Adam", "AdamW"
LR = {"low": 1e-4, "high": 1e-1, "log": True}
PARAMS = {"optimizers.3.lr": 0.01}  # of Adam
EXTRAPOLATED = 100_000
ROWS, CORES = 100_000, 16  # of the table that is simulated, and of its nodes
NETWORK = 1.25e9  # bytes per second between nodes: 10 Gbit/s, assumed


def configured(source: str = "table.csv", folds: int = 5, **search: Any) -> Config:
    return check(
        {
            "data": {"source": source, "target": "label"},
            "optimizers": [{"name": name, "lr": LR} for name in OPTIMIZERS],
            "validation": {"folds": folds},
            "search": search,
        }
    )


def told(config: Config, count: int) -> list[Trial]:
    """Trials with made up scores."""
    random, trials = np.random.default_rng(0), []
    for number in range(count):
        entry, lr = number % len(OPTIMIZERS), float(10 ** random.uniform(-4, -1))
        scores = {"accuracy": float(random.random()), "loss": float(random.random())}
        params = {f"optimizers.{entry}.lr": lr}
        label = config.labels[entry]
        trials.append(Trial(number, label, params, lr, state="COMPLETE", scores=scores))
    return trials


@dataclass(frozen=True)
class Asking:
    """Seconds of the processor: once a batch, for each of its trials, and to tell one."""

    begin: float
    ask: float
    tell: float


def asking(sampler: str, count: int) -> Asking:
    """After `count` told trials, rounded to whole batches; a batch of up to 32 trials and one that
    the budget ends after a quarter of it tell what comes once a batch from what comes with each
    trial."""
    config = configured(sampler=sampler)
    batch = batch_around(config, Space(config), count)
    count = min(batch.start, batch.stop, key=lambda end: abs(end - count))
    seconds: dict[int, float] = {}
    tell = 0.0
    repeats = 1 if sampler == "tpe" and count > 5000 else 2
    size = min(32, len(batch_around(config, Space(config), count)))
    for more in (size // 4, size) * repeats:
        config = configured(sampler=sampler, trials=count + more)
        search = Search(config, told(config, count))
        started = time.process_time()
        batch = search.ask()
        taken = time.process_time() - started
        seconds[len(batch)] = min(taken, seconds.get(len(batch), taken))
        started = time.process_time()
        for trial in batch:
            scores = {"accuracy": 0.5, "loss": 0.5}
            search.tell(replace(trial, state="COMPLETE", scores=scores))
        tell = (time.process_time() - started) / len(batch)
    (few, short), (many, long) = sorted(seconds.items())
    each = max(0.0, (long - short) / (many - few))
    return Asking(max(0.0, short - few * each), each, tell)


def extrapolated(measured: Mapping[int, Asking], count: int) -> Asking:
    """By a power law through the three largest counts, fitted in logarithms; what comes once a
    batch, which reads all trials, in proportion to them."""
    counts = sorted(measured)[-3:]

    def at(part: str) -> float:
        values = [max(1e-7, getattr(measured[each], part)) for each in counts]
        slope, start = np.polyfit(np.log(counts), np.log(values), 1)
        return float(np.exp(start + slope * np.log(count)))

    return Asking(measured[counts[-1]].begin * count / counts[-1], at("ask"), at("tell"))


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URI of a new database of a server of its own."""
    user: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}  # it refuses root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    own = "-D", f"{folder}/data"
    try:
        call("initdb", *own, "-A", "trust", "-U", "mlflow")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        call("pg_ctl", *own, "-w", "-o", options, "-l", f"{folder}/log", "start")
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        call("pg_ctl", *own, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def writing(trials: int) -> dict[str, tuple[float, float]]:
    """Seconds per trial into each store: by the clock, and of this process's processor."""
    taken = {}
    with contextlib.ExitStack() as stack:
        stores = {"SQLite": ""}
        if shutil.which("initdb") and shutil.which("pg_ctl"):
            stores["PostgreSQL"] = stack.enter_context(postgres())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores["MLflow server on SQLite"] = stack.enter_context(server(folder))
        for name, uri in stores.items():
            wall, processor = measure("ours", uri, trials, 100)
            taken[name] = wall / 1000, processor / 1000
            wall, processor = measure("bare", uri, trials, 100)
            taken[f"{name}, no models"] = wall / 1000, processor / 1000
    return taken


def fetching(reference: Sequence[Any], _: None) -> tuple[float, float]:
    """On a node: seconds until the data are there, and once more."""
    import ray

    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        ray.get(reference[0])
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def object_store(rows: int) -> tuple[int, float, float, float]:
    """Bytes of a table of 20 columns on five folds, seconds to put them, and a node's to fetch."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    arrays = arrays_of(rows)
    held = [arrays.x, arrays.y, *(each for split in arrays.splits for each in vars(split).values())]
    size = sum(part.nbytes for part in held if isinstance(part, torch.Tensor | np.ndarray))
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes.add_node(num_cpus=1)
        mapping = {"engine": "ray", "address": nodes.address}
        config = from_mapping(
            {"data": {"source": "sklearn:iris", "target": "target"}, "compute": mapping}
        )
        with ray_engine.connected(config, print) as executor:
            list(executor.run(nothing, [((), None)]))
            started = time.perf_counter()
            reference = ray.put(arrays)
            put = time.perf_counter() - started
            ((_, (first, again)),) = executor.run(fetching, [([reference], None)])
    finally:
        nodes.shutdown()
    return size, put, first, again


def made(trainer: Trainer, epochs: int = 100) -> list[Fit]:
    """Outcomes of a trial that nobody trained."""
    random, size = (
        np.random.default_rng(0),
        trainer.architecture(configured().at("Adam", PARAMS)).size,
    )
    scores = {"loss": 0.6, "accuracy": 0.7}
    curves = {name: random.random(epochs) for name in CURVES}
    weights = [torch.rand(size) for _ in trainer.splits]
    return [Fit(curves, scores, epochs, "complete", None, each) for each in weights]


def trained_here(rows: int, trials: int) -> list[float]:
    """Seconds of the processor of real trials, in one thread."""
    torch.set_num_threads(1)
    with placed(rows, sampler="random", trials=trials) as (config, parts):
        trainer, seconds = Trainer(config, parts), []
        search = Search(config)
        while batch := search.ask():
            for proposal in batch:
                started = time.process_time()
                (trial,) = trainer.train([proposal])
                seconds.append(time.process_time() - started)
                search.tell(trial)
    return seconds


@contextlib.contextmanager
def placed(rows: int, **settings: Any) -> Iterator[tuple[Config, data.PreparedData]]:
    """A prepared table in a folder of its own, which is also the working directory and has the
    tracking store."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        frame(rows, 20).to_csv("table.csv", index=False)
        config = configured(**settings)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        yield config, data.prepare(config, Path("prepared"))


def asleep(_: Any, seconds: float) -> float:
    """A trial that needs no processor."""
    time.sleep(seconds)
    return seconds


Train = Callable[[list[Trial]], Iterable[Trial]]


def searched(trainer: Trainer, config: Config, train: Train) -> tuple[float, list[float], float]:
    """Seconds of a search as the command makes it, those of its trials, and per trial written."""
    store = Store.open("scale")
    seconds: list[float] = []
    taken: list[float] = []
    with store.run("train", "train") as run:
        log = TrialLog(store, run, config.search.trials)
        started = time.perf_counter()
        search = Search(config)
        journal = Journal(config, run.run_id)
        with Writer(log, trainer.model, journal, written=lambda _, s: taken.append(s)) as writer:
            while search.ask():
                for trial in train(search.batch):
                    seconds.append(trial.seconds)
                    writer.put(trial)
                    search.tell(trial)
        return time.perf_counter() - started, seconds, float(np.mean(taken))


def checked(rows: int, trials: int) -> list[list[str]]:
    """Searches on clusters of this machine beside their simulation."""
    here = trained_here(rows, trials)
    asked = asking("tpe", trials)
    shape = np.array(here) / np.mean(here)
    table = []

    def row(
        what: str, count: int, config: Config, taken: tuple[float, list[float], float], send: float
    ) -> None:
        wall, seconds, write = taken
        # What its trials took there, in which the machine's other work is.
        costs = Costs(seconds, asked.begin, asked.ask, send, asked.tell, write)
        plan = Plan(config.search.trials, sizes=sizes_of(config))
        rates = [simulate(costs, Cluster(count), plan, seed).rate for seed in range(20)]
        measured, mean = plan.trials / wall, float(np.mean(rates))
        figures = [f"{np.mean(seconds):.2f}", f"{1000 * write:.0f}", f"{measured:.2f}"]
        figures += [f"{mean:.2f} ± {np.std(rates):.2f}", f"{mean / measured:.2f}"]
        table.append([what, str(count), str(plan.trials), *figures])

    def sleeping(executor: Executor, trainer: Trainer, mean: float) -> Train:
        random, fits = np.random.default_rng(1), made(trainer)

        def train(batch: list[Trial]) -> Iterable[Trial]:
            drawn = mean * random.choice(shape, len(batch))
            for place, slept in executor.run(asleep, [((), float(each)) for each in drawn]):
                yield ended(batch[place], fits, trainer.splits, slept)

        return train

    for count in (1, 2, 8):
        with workers(count) as (executor, _):
            list(executor.run(nothing, [((), None)]))
            started = time.perf_counter()
            list(executor.run(nothing, [((), None)] * EMPTY))
            send = (time.perf_counter() - started) / EMPTY
            works = [("trained", 5, rows, trials, 0.0)]
            if count == 8:
                works = [("asleep", 5, 200, 4 * trials, 1.5), ("asleep", 1, 200, 8 * trials, 0.05)]
            for what, folds, size, budget, mean in works:
                with placed(size, folds=folds, trials=budget) as (config, parts):
                    trainer = Trainer(config, parts, executor=executor)
                    first = proposed(0, "Adam", PARAMS, config)
                    trainer.export(ended(first, made(trainer), trainer.splits, 1.0))
                    train: Train = sleeping(executor, trainer, mean) if mean else trainer.train
                    row(what, count, config, searched(trainer, config, train), send)
    return table


def scenarios(
    durations: Sequence[float],
    asked: Mapping[str, Mapping[int, Asking]],
    stores: Mapping[str, tuple[float, float]],
    send: float,
    fetch: float,
    numbers: Sequence[int],
) -> None:
    """Trials per hour, by the number of nodes and what is changed."""

    def costs(sampler: str, count: int, store: str) -> Costs:
        wall, processor = stores[store]
        a = asked[sampler][count]
        off = max(0.0, wall - processor)
        return Costs(durations, a.begin, a.ask, send, a.tell, processor, off, fetch)

    def line(nodes: int, cost: Costs, plan: Plan) -> list[str]:
        cluster = Cluster(nodes, CORES, failures=0.01, stragglers=0.01)
        done: Outcome = simulate(cost, cluster, plan)
        parts = done.nodes, done.asking, done.sending, done.writing
        shares = [f"{100 * part:.0f} %" for part in parts]
        return [f"{3600 * done.rate:,.0f}", *shares, done.bound]

    server_store = "PostgreSQL" if "PostgreSQL" in stores else "SQLite"
    counts = sorted(asked["tpe"])
    small_searches(durations, costs("tpe", counts[0], "SQLite"))
    for count in counts[-2:]:
        mark = " (asking extrapolated)" if count == counts[-1] else ""
        print(f"\nAfter {count:,} told trials{mark}:\n")
        rows = []
        for nodes in numbers:
            cores = nodes * CORES
            config = configured(trials=count)
            of_tpe = len(batch_around(config, Space(config), count))
            ahead = 1 + math.ceil(1.25 * cores / MOST)
            ways: list[tuple[str, str, str, partial[Plan]]] = [
                ("as it is", "tpe", "SQLite", partial(Plan, batch=of_tpe)),
                ("as it is", "qmc", "SQLite", partial(Plan, batch=MOST)),
                ("and no models kept", "qmc", "SQLite, no models", partial(Plan, batch=MOST)),
                ("nothing waited for", "qmc", "SQLite", partial(Plan, batch=MOST, batches=ahead)),
            ]
            several = partial(Plan, batch=MOST, batches=ahead, writers=16)
            bare = f"{server_store}, no models"
            ways.append(("and no models kept, PostgreSQL", "qmc", bare, ways[-1][3]))
            ways.append(("and 16 writers", "qmc", bare, several))
            for name, sampler, store, planned in ways:
                under_way = planned.keywords["batch"] * planned.keywords.get("batches", 1)
                plan = planned(trials=max(400, min(40 * cores, 40 * under_way)))
                names = [str(nodes), name, sampler, store]
                rows.append(names + line(nodes, costs(sampler, count, store), plan))
        head = "nodes", "way", "sampler", "store", "trials an hour", "cores busy", "asking"
        show((*head, "sending", "writing", "bound by"), rows)


def sizes_of(config: Config) -> list[int]:
    """Of the batches of a search; the budget may end within the last."""
    sizes: list[int] = []
    while sum(sizes) < config.search.trials:
        sizes.append(len(batch_around(config, Space(config), sum(sizes))))
    return sizes


def small_searches(durations: Sequence[float], cost: Costs) -> None:
    """Minutes of searches of few trials, as their batches are and in batches of eight."""
    rows = []
    for trials in (40, 200):
        sizes = sizes_of(configured(trials=trials))
        for nodes in (1, 2, 3):
            minutes = [
                np.mean([simulate(cost, Cluster(nodes, CORES), plan, s).seconds for s in range(20)])
                / 60
                for plan in (Plan(trials, 8, sizes=sizes), Plan(trials, 8))
            ]
            rows.append([str(trials), str(nodes), *(f"{each:.1f}" for each in minutes)])
    print(f"\nA search with TPE, trials of {np.mean(durations):.0f} s:\n")
    show(("trials", "nodes", "minutes", "in batches of eight"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the simulator beside measurement")
    parser.add_argument("--rows", type=int, default=4000, help="of the trials that are trained")
    parser.add_argument("--trials", type=int, default=16, help="that are trained")
    parser.add_argument("--written", type=int, default=60, help="trials into each store")
    parser.add_argument("--told", type=int, nargs="+", default=[100, 1000, 3000, 10_000])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3, 10, 100, 1000])
    arguments = parser.parse_args()
    print(f"{machine(['torch', 'optuna', 'mlflow', 'ray'])}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    if arguments.check:
        head = ["trials", "workers", "how many", "s each", "ms written", "measured per s"]
        rows = checked(arguments.rows, arguments.trials)
        show([*head, "simulated per s", "simulated / measured"], rows)
        return
    stores = writing(arguments.written)
    head = ["store", "ms per trial", "of the processor", "trials per s"]
    rows = [
        [name, f"{1000 * wall:.0f}", f"{1000 * processor:.0f}", f"{1 / wall:.0f}"]
        for name, (wall, processor) in stores.items()
    ]
    show(head, rows)
    print()
    asked: dict[str, dict[int, Asking]] = {}
    rows = []
    for sampler in ("tpe", "qmc", "random"):
        asking(sampler, 100)  # the imports
        asked[sampler] = {count: asking(sampler, count) for count in arguments.told}
        asked[sampler][EXTRAPOLATED] = extrapolated(asked[sampler], EXTRAPOLATED)
        for count, a in asked[sampler].items():
            note = "extrapolated" if count == EXTRAPOLATED else ""
            parts = a.begin, a.ask, a.begin / 8 + a.ask, a.tell
            rows.append([sampler, f"{count:,}", *(f"{1000 * part:.2f}" for part in parts), note])
    head = ["sampler", "told", "ms a batch", "ms a trial of it", "ms a trial, batches of 8"]
    show([*head, "ms to tell one", ""], rows)
    size, put, first, again = object_store(ROWS)
    print(
        f"\n{ROWS:,} rows by 20 columns on five folds: {size / 1e6:.0f} MB, put in {put:.2f} s, on "
        f"a node of this machine in {first:.2f} s, and once more in {1000 * again:.1f} ms\n"
    )
    torch.set_num_threads(1)
    with workers(1) as (executor, _):
        started = time.perf_counter()
        list(executor.run(nothing, [((), None)] * EMPTY))
        send = (time.perf_counter() - started) / EMPTY
    short = trained_here(arguments.rows, arguments.trials)
    durations = [each * ROWS / (0.8 * arguments.rows) for each in short]
    low, middle, high = np.quantile(durations, [0.1, 0.5, 0.9])
    print(
        f"{len(short)} trials on {arguments.rows:,} rows, and in proportion to the rows on "
        f"{ROWS:,}: {np.mean(durations):.0f} s (a tenth below {low:.0f}, half below {middle:.0f}, "
        f"a tenth above {high:.0f}); {1000 * send:.1f} ms to send a shard and to have it back"
    )
    scenarios(durations, asked, stores, send, size / NETWORK, arguments.nodes)


if __name__ == "__main__":
    main()
