import json
import re

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.evidence import Evidence
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.words import comparison_sentence
from tests.study import study_evidence


def test_it_is_written_and_read_back_to_the_bit():
    evidence = study_evidence({"Adam": 0.7, "SGD": 0.6, "Rprop": None})
    again = Evidence.from_plain(json.loads(json.dumps(evidence.to_plain())))
    assert again.to_plain() == evidence.to_plain()
    assert [each.optimizer for each in again.finalists] == ["Adam", "SGD", "Rprop"]
    np.testing.assert_array_equal(
        again.finalists[0].scores["accuracy"], evidence.finalists[0].scores["accuracy"]
    )
    assert again.pairs == evidence.pairs


def test_optimism_is_what_the_search_promised_too_much():
    (best, _) = study_evidence({"Adam": 0.7, "SGD": 0.6}).finalists
    assert best.optimism(ACCURACY) == pytest.approx(0.705 - best.scores["accuracy"].mean())
    assert best.optimism(LOSS) == pytest.approx(best.scores["loss"].mean() - 0.49)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_winner_is_clear_when_it_beats_all(metric):
    clear = study_evidence({"Adam": 0.8, "SGD": 0.7, "RMSprop": 0.7}, metric=metric)
    assert (clear.winner.optimizer, clear.winner_is_clear) == ("Adam", True)
    near = study_evidence({"Adam": 0.8, "SGD": 0.6, "RMSprop": 0.8}, metric=metric)
    assert not near.winner_is_clear
    assert ("Adam", "SGD") in {(pair.better, pair.worse) for pair in near.pairs}


def test_an_optimizer_that_diverged_is_beaten():
    evidence = study_evidence({"Adam": 0.7, "Rprop": None})
    assert evidence.winner_is_clear
    assert evidence.pairs == ()
    assert comparison_sentence(evidence) == (
        "No other optimizer is there to compare Adam with; Rprop diverged there."
    )


def test_alone_or_all_diverged_there_is_no_clear_winner():
    assert not study_evidence({"Adam": 0.7}).winner_is_clear
    lost = study_evidence({"Adam": None, "SGD": None})
    assert (lost.winner, lost.winner_is_clear, lost.beats_majority) == (None, False, None)
    assert "diverged" in comparison_sentence(lost)


def test_whether_the_majority_is_beaten():
    assert study_evidence({"Adam": 0.8, "SGD": 0.7}).beats_majority
    assert study_evidence({"Adam": 0.5, "SGD": 0.49}).beats_majority is False


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_the_majority_is_beaten_by_the_log_loss_too(metric):
    evidence = study_evidence({"Adam": 0.59, "SGD": 0.58}, metric=metric)
    assert evidence.ahead("majority label", ACCURACY).interval()[0] < 0
    assert evidence.beats_majority


def test_two_folds_say_nothing_of_the_majority():
    assert study_evidence({"Adam": 0.9}, folds=5, repeats=1).beats_majority
    assert study_evidence({"Adam": 0.9}, folds=2, repeats=1).beats_majority is None


def test_the_best_baseline_is_compared_on_the_folds_that_it_has():
    evidence = study_evidence({"Adam": 0.7, "SGD": 0.6})
    assert evidence.best_baseline.name == "gradient boosting"
    ahead = evidence.ahead("gradient boosting", ACCURACY)
    first = evidence.winner.scores["accuracy"][:5] - 0.67
    t, _ = stats.ttest_1samp(first, 0)
    wider = np.sqrt((1 / 5 + 1 / 4) / (1 / 5))  # Nadeau and Bengio's
    assert ahead.degrees == 4
    assert ahead.mean / ahead.error == pytest.approx(t / wider)
    by_loss = study_evidence({"Adam": 0.7}, metric=LOSS)
    assert by_loss.best_baseline.name == "logistic regression"  # of equals the first
    loss = by_loss.winner.scores["loss"][:5]
    assert by_loss.ahead("logistic regression", LOSS).mean == pytest.approx((0.59 - loss).mean())
    assert study_evidence({"Adam": None}).ahead("gradient boosting", ACCURACY) is None


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ({"Adam": 0.8, "SGD": 0.7}, "Adam beats SGD by "),
        ({"Adam": 0.7, "SGD": 0.7}, " cannot be told apart on this table (95 % interval)."),
        ({"A": 0.8, "B": 0.8, "C": 0.7}, " cannot be told apart on this table; "),
        ({"A": 0.8, "B": 0.8, "C": 0.8, "D": 0.6, "E": 0.5}, " beats D and E by "),
        ({"A": 0.9, "B": 0.7, "C": 0.6}, "A beats B and C by "),
    ],
)
def test_the_sentence(means, expected):
    text = comparison_sentence(study_evidence(means))
    assert expected in text
    if " by " in text:
        assert "points" in text
    if len(means) > 2:
        comparisons = len(means) * (len(means) - 1) // 2
        assert text.endswith(f"(95 % intervals for all {comparisons} comparisons together).")


def test_the_sentence_where_only_the_winner_beats_one():
    """B is level with A, and A alone is clear of C."""
    evidence = study_evidence({"A": 0.800, "B": 0.790, "C": 0.770}, noise=0.012)
    pairs = {(pair.better, pair.worse): pair.is_clear for pair in evidence.pairs}
    assert pairs == {("A", "B"): False, ("A", "C"): True, ("B", "C"): False}
    text = comparison_sentence(evidence)
    assert text.startswith("A and B cannot be told apart on this table; A beats C by ")


def test_the_sentence_of_arrays():
    evidence = study_evidence({"Adam": 0.7, "SGD": 0.7})
    assert " cannot be told apart on these data (" in comparison_sentence(evidence, "on these data")


def test_the_sentence_in_losses():
    text = comparison_sentence(study_evidence({"A": 0.8, "B": 0.7}, metric=LOSS))
    assert text.startswith("A beats B by ")
    assert re.search(r" by 0\.\d{3} to 0\.\d{3} \(95 % interval\)\.$", text)
