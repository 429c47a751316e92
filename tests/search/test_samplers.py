"""The samplers on toy objectives: what they learn, and what they do where trials fail."""

import logging
import math
import warnings
from typing import Any

import numpy as np
import pytest

from pipeline.search.search import Search
from tests.toy_search import FOUR, SAMPLERS, accuracy, ended, make, run, small


def regret(sampler: str, seed: int, trials: int) -> float:
    search = Search(make(sampler=sampler, trials=trials, seed=seed))
    while batch := search.ask():
        for proposal in batch:
            search.tell(ended(proposal, "COMPLETE", accuracy(proposal)))
    return 0.70 - max(trial.scores["accuracy"] for trial in search.told)


@pytest.mark.parametrize(("sampler", "seeds", "trials"), [("tpe", 12, 40), ("gp", 1, 24)])
def test_samplers_that_learn_beat_random_on_a_conditional_space(
    sampler: str, seeds: int, trials: int
) -> None:
    learned = [regret(sampler, seed, trials) for seed in range(seeds)]
    random = [regret("random", seed, trials) for seed in range(24)]
    assert np.mean(learned) < np.mean(random) / 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_keep_away_from_where_trials_fail(sampler: str) -> None:
    """Above a learning rate of 0.01 everything diverges; the best is just below it."""
    failed = []
    trials = 24 if sampler == "gp" else 40
    for seed in range(1 if sampler == "gp" else 4):
        search = Search(make(FOUR[:1], sampler=sampler, trials=trials, seed=seed))
        while batch := search.ask():
            for proposal in batch:
                lr = proposal.params["optimizers.0.lr"]
                if lr > 0.01:
                    search.tell(ended(proposal, "FAIL"))
                else:
                    search.tell(ended(proposal, "COMPLETE", 0.6 + 0.02 * math.log10(lr)))
        failed.append(sum(told.state == "FAIL" for told in search.told[16:]))
    # Half of the range fails; if TPE heard nothing of failures, nine tenths of its trials would.
    assert np.mean(failed) < 0.5 * (trials - 16)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_in_which_everything_fails_ends(sampler: str) -> None:
    search = Search(make(sampler=sampler, trials=24))
    while batch := search.ask():
        for proposal in batch:
            search.tell(ended(proposal, "FAIL"))
    assert len(search.told) == 24


def test_nothing_is_said(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for sampler in SAMPLERS:
            run(Search(small(sampler)))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
