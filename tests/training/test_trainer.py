"""Which trials are trained together, and that they may be trained apart."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import from_mapping
from pipeline.data.prepared import prepare
from pipeline.search.search import Search
from pipeline.training import stacks as made
from pipeline.training.batches import Arrays
from pipeline.training.executors import LOCAL, Executor, Local
from pipeline.training.loop import step
from pipeline.training.members import Member, Settings
from pipeline.training.trainer import Trainer, stacks
from pipeline.training.trial import Trial
from tests.toy_search import RICH, make


def test_trials_share_a_stack_unless_they_differ_in_what_all_of_it_has_alike() -> None:
    """Dropout and patience are searched too, and part nothing."""
    search = Search(make(**RICH, sampler="random", trials=40))
    batch = search.ask()[:8]
    assert len({proposal.config.model.dropout for proposal in batch}) > 1
    groups = stacks(batch, 8)
    shapes = [
        {(p.config.model.hidden, p.config.training.batch_size) for p in group} for group in groups
    ]
    assert all(len(shape) == 1 for shape in shapes)
    assert len(set.union(*shapes)) == len(groups) > 1
    numbers = [proposal.number for group in groups for proposal in group]
    assert sorted(numbers) == [proposal.number for proposal in batch]
    assert all(group == sorted(group, key=lambda p: p.number) for group in groups)
    in_parts = stacks(batch, 2)
    assert all(len(part) <= 2 for part in in_parts)
    whole = [[p.number for p in group] for group in groups]
    assert [n for part in in_parts for n in (p.number for p in part)] == [
        n for g in whole for n in g
    ]


class Elsewhere(Local):
    """As other processes have it: everything is pickled, and the last shard is done first."""

    def __init__(self) -> None:
        self.count = 0

    def shards(
        self, arrays: Arrays, members: Sequence[Member], settings: Settings
    ) -> Sequence[range]:
        return made.shards(arrays, members, settings, step)

    def run(
        self, function: Callable[..., Any], work: Iterable[tuple[Any, Any]]
    ) -> Iterator[tuple[int, Any]]:
        for number, (shared, own) in reversed(list(enumerate(work))):
            self.count += 1
            own = pickle.loads(pickle.dumps(own))
            yield number, pickle.loads(pickle.dumps(function(shared, own)))


@pytest.mark.parametrize("pruner", ["none", "median", "halving"])
def test_a_search_has_the_same_trials_wherever_its_shards_are_trained(
    pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard for each trial, but with halving, which compares the trials of a stack."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(made, "SHARD_WORK", 1)
    config = from_mapping(
        {
            "data": {"source": "sklearn:iris", "target": "target"},
            "validation": {"folds": 3},
            "model": {"hidden": [4]},
            "training": {"epochs": 12},
            "search": {"trials": 20, "pruner": pruner},
        }
    )
    parts = prepare(config)

    def searched(executor: Executor) -> list[Trial]:
        search = Search(config)
        trainer = Trainer(config, parts, executor=executor)
        while search.ask():
            for trial in trainer.train(search.batch, search.watch):
                search.tell(trial)
        return search.told

    elsewhere = Elsewhere()
    here, there = searched(LOCAL), searched(elsewhere)
    assert elsewhere.count == (2 if pruner == "halving" else 20)
    assert len({trial.state for trial in here}) == (1 if pruner == "none" else 2)
    for one, other in zip(here, there, strict=True):
        assert (one.number, one.state, one.params) == (other.number, other.state, other.params)
        assert one.scores == other.scores
        assert all(
            np.array_equal(one.curves[k], other.curves[k], equal_nan=True) for k in one.curves
        )
        pairs = zip(one.fits, other.fits, strict=True)
        assert all(torch.equal(fit.weights, again.weights) for fit, again in pairs)
