"""A search on a cluster as a simulation of its events: what waits for what, and for how long.

The driver asks for a batch, hands its trials to the cores, and tells each that is back; with one
batch under way it waits for the last of a batch before it asks again, as the program does. Trials
go through a queue to the writer, and a queue that is full holds the driver up. The driver and one
writer are threads of one process and take turns at its interpreter. A node that fails loses what
it trains, which is trained again, and comes back. Nothing here measures or reads a clock: the same
seed gives the same figures."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count, repeat
from math import inf

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What each part takes, in seconds.

    Attributes:
        trials: durations on one core, which are drawn from with repetition.
        begin, ask: of asking, once a batch and for each trial of it.
        send, tell: the driver's to hand a trial to a core, and when it is back.
        write, wait: the writer's for a trial, at the interpreter and waiting for the store.
        fetch: to bring the data to one node; nodes that have them pass them on."""

    trials: Sequence[float]
    begin: float = 0.0
    ask: float = 0.0
    send: float = 0.0
    tell: float = 0.0
    write: float = 0.0
    wait: float = 0.0
    fetch: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """Nodes of some cores.

    Attributes:
        failures: of a node per hour; it is back after `repair` seconds.
        stragglers: the part of the trials that takes `slower` times as long."""

    nodes: int
    cores: int = 1
    failures: float = 0.0
    repair: float = 300.0
    stragglers: float = 0.0
    slower: float = 3.0


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        sizes: of the first batches, before those of `batch` trials.
        batches: how many may be under way; 1: the next one waits for the last trial of a batch.
        writers: with more than one each is a process of its own, and none hinders the driver."""

    trials: int
    batch: int = 8
    batches: int = 1
    writers: int = 1
    queue: int = 64
    sizes: Sequence[int] = ()


@dataclass(frozen=True)
class Outcome:
    """Seconds until all was told and written, and the parts of them in which cores trained what
    was not lost, the driver asked, sent or told, and the writers wrote; how many trials were
    trained again."""

    trials: int
    seconds: float
    nodes: float
    asking: float
    sending: float
    writing: float
    again: int
    too_few: bool  # trials under way for the cores

    @property
    def rate(self) -> float:
        """Trials per second."""
        return self.trials / self.seconds

    @property
    def bound(self) -> str:
        """Who is at work for four fifths of the time; else what the cores wait for."""
        driving = self.asking + self.sending
        parts = {"nodes": self.nodes, "writing": self.writing}
        parts["asking" if self.asking >= self.sending else "sending"] = driving
        name = max(parts, key=lambda part: parts[part])
        if parts[name] >= 0.8:
            return name
        if driving + self.writing >= 0.9:  # a queue that is full makes them take turns
            return "asking and writing"
        return "size of a batch" if self.too_few else "slowest trials"


@dataclass
class _Node:
    life: int = 0  # how often it has failed: what it had begun before is lost
    running: set[int] = field(default_factory=set)


class _Run:
    """The state of one simulation; `_happens` is called with each event in the order of time."""

    def __init__(self, costs: Costs, cluster: Cluster, plan: Plan, seed: int) -> None:
        self.costs, self.cluster, self.plan = costs, cluster, plan
        self.rng = np.random.default_rng(seed)
        drawn = self.rng.choice(np.asarray(costs.trials), plan.trials)
        slow = self.rng.random(plan.trials) < cluster.stragglers
        self.seconds = np.where(slow, drawn * cluster.slower, drawn).tolist()
        self.events: list[tuple[float, int, str, tuple[int, ...]]] = []
        self.order = count()
        self.nodes = [_Node() for _ in range(cluster.nodes)]
        self.free: deque[tuple[int, int]] = deque()  # cores: the node and its life
        self.waiting: deque[int] = deque()  # trials that wait for a core
        self.back: deque[int] = deque()  # and those that wait for the driver
        self.asked = self.told = self.queued = self.written = self.again = 0
        self.sizes = chain(plan.sizes, repeat(plan.batch))
        self.idle_writers = plan.writers
        self.is_driving, self.interpreter, self.ended = False, 0.0, 0.0
        self.spent = dict.fromkeys(("nodes", "asking", "sending", "writing"), 0.0)

    def run(self) -> None:
        for node in range(self.cluster.nodes):
            # Each time as many nodes fetch the data as have them.
            self.at(self.costs.fetch * (node + 1).bit_length(), "up", node, 0)
            if self.cluster.failures:
                self.at(self.rng.exponential(3600 / self.cluster.failures), "down", node)
        self.drive(0.0)
        while self.written < self.plan.trials:
            self.ended, _, what, about = heapq.heappop(self.events)
            self._happens(self.ended, what, *about)

    def at(self, time: float, what: str, *about: int) -> None:
        heapq.heappush(self.events, (time, next(self.order), what, about))

    def _happens(self, now: float, what: str, *about: int) -> None:
        if what == "sent":
            self.waiting.append(about[0])
        elif what == "up":
            place, life = about
            if self.nodes[place].life == life:
                self.free.extend([(place, life)] * self.cluster.cores)
        elif what == "trained":
            trial, place, life = about
            if self.nodes[place].life == life:
                self.nodes[place].running.remove(trial)
                self.spent["nodes"] += self.seconds[trial]
                self.free.append((place, life))
                self.back.append(trial)
                self.drive(now)
        elif what == "down":
            self._fails(now, self.nodes[about[0]], about[0])
        elif what == "driven":
            self.is_driving = False
            self.told, self.queued = self.told + about[0], self.queued + about[0]
            self.write(now)
            self.drive(now)
        elif what == "written":
            self.idle_writers, self.written = self.idle_writers + 1, self.written + 1
            self.write(now)
            self.drive(now)
        self.start(now)

    def start(self, now: float) -> None:
        while self.waiting and self.free:
            place, life = self.free.popleft()
            if self.nodes[place].life == life:
                trial = self.waiting.popleft()
                self.nodes[place].running.add(trial)
                self.at(now + self.seconds[trial], "trained", trial, place, life)

    def _fails(self, now: float, node: _Node, place: int) -> None:
        self.again += len(node.running)
        self.waiting.extendleft(sorted(node.running))
        node.running.clear()
        node.life += 1
        self.at(now + self.cluster.repair, "up", place, node.life)
        again = self.cluster.repair + self.rng.exponential(3600 / self.cluster.failures)
        self.at(now + again, "down", place)

    def drive(self, now: float) -> None:
        """What the driver does next, if it is idle."""
        costs, plan = self.costs, self.plan
        if self.is_driving:
            return
        begun = max(now, self.interpreter)
        under_way = self.asked - self.told
        if self.asked < plan.trials and under_way <= (plan.batches - 1) * plan.batch:
            size = min(next(self.sizes), plan.trials - self.asked)
            asking = costs.begin + size * costs.ask
            for place in range(size):
                self.at(begun + asking + (place + 1) * costs.send, "sent", self.asked + place)
            self.asked += size
            self._drives(begun, asking, size * costs.send, 0)
        elif self.back and self.queued < plan.queue:
            self.back.popleft()
            self._drives(begun, 0.0, costs.tell, 1)

    def _drives(self, begun: float, asking: float, sending: float, told: int) -> None:
        self.is_driving, self.interpreter = True, begun + asking + sending
        self.spent["asking"] += asking
        self.spent["sending"] += sending
        self.at(self.interpreter, "driven", told)

    def write(self, now: float) -> None:
        while self.queued and self.idle_writers:
            self.queued, self.idle_writers = self.queued - 1, self.idle_writers - 1
            begun = now
            if self.plan.writers == 1:
                begun = max(now, self.interpreter)
                self.interpreter = begun + self.costs.write
            taken = self.costs.write + self.costs.wait
            self.spent["writing"] += taken
            self.at(begun + taken, "written")


def simulate(costs: Costs, cluster: Cluster, plan: Plan, seed: int = 0) -> Outcome:
    """A search of `plan.trials` trials."""
    run = _Run(costs, cluster, plan, seed)
    run.run()
    cores = cluster.nodes * cluster.cores
    parts = {name: spent / (run.ended or inf) for name, spent in run.spent.items()}
    parts["nodes"] /= cores
    parts["writing"] /= plan.writers
    too_few = min((plan.batch, *plan.sizes)) * plan.batches < cores
    return Outcome(plan.trials, run.ended, **parts, again=run.again, too_few=too_few)
