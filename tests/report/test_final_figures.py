from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.figures.final import final_scores
from pipeline.report.report import Report
from tests.study import CLOSE, study_evidence, study_facts


def test_interval_of_a_mean_over_folds():
    """Nadeau and Bengio (2003): t interval with variance s2 (1/k + 1/(folds - 1))."""
    scores = np.random.default_rng(1).normal(0.7, 0.02, 20)
    half = stats.t.ppf(0.975, 19) * np.sqrt(scores.var(ddof=1) * (1 / 20 + 1 / 4))
    expected = (scores.mean() - half, scores.mean() + half)
    evidence = study_evidence({"SGD": 0.9, "Adam": 0.89})
    assert evidence.folds == 5
    assert evidence.interval(scores) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("metric", "scale"), [(ACCURACY, 100), (LOSS, 1)])
def test_ranking_shows_means_intervals_and_what_is_far_away(metric, scale):
    evidence = study_evidence({"SGD": 0.9, "Adam": 0.89, "Rprop": None}, metric=metric)
    plot = final_scores(evidence)
    (axes,) = plot.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    done = [finalist for finalist in evidence.finalists if finalist.completed]
    assert names == [each.optimizer for each in done] + [each.name for each in evidence.baselines]
    for place, finalist in enumerate(done):
        ends_there = np.array(evidence.interval(finalist.scores[metric.name]))
        ends = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 2.4
                and line.get_ydata()[0] == place]  # fmt: skip
        assert ends[0] == pytest.approx(scale * ends_there)
    far = "‹ 59.0 %" if metric is ACCURACY else "0.68 ›"
    assert far in [text.get_text() for text in axes.texts]


def test_long_labels_of_one_class_are_whole():
    """None of a row's name is left of the figure."""
    labels = ["SGD momentum=0.9 nesterov=true", "RMSprop momentum=0.9 centered", "SGD"]
    evidence = study_evidence({label: 0.7 + 0.01 * i for i, label in enumerate(labels)})
    plot = final_scores(evidence)
    plot.draw_without_rendering()
    for label in plot.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 > 0


def test_a_final_round_in_which_nothing_completed():
    evidence = study_evidence({"SGD": None})
    assert "final_scores" not in Report(study_facts(), [CLOSE], evidence=evidence).figures


def test_the_title_is_no_surer_than_the_intervals():
    means = {"SGD": 0.75, "Adam": 0.749, "Rprop": 0.7}
    assert (
        final_scores(study_evidence(means)).title
        == "SGD came first, but 1 of 2 others may be as good"
    )
    assert (
        final_scores(study_evidence({"SGD": 0.75, "Rprop": 0.7})).title == "SGD came first, clearly"
    )
    del means["Rprop"]
    assert (
        final_scores(study_evidence(means)).title == "SGD came first, but the others may be as good"
    )
    assert final_scores(study_evidence({"SGD": 0.75})).title == "SGD came first"


def test_a_baseline_without_the_score_is_left_out():
    evidence = study_evidence({"SGD": 0.9, "Adam": 0.89}, metric=LOSS)
    *others, last = evidence.baselines
    scored = {"accuracy": last.scores["accuracy"]}
    less = replace(evidence, baselines=(*others, replace(last, scores=scored)))
    assert evidence.ahead(last.name, LOSS) is not None
    assert less.ahead(last.name, LOSS) is None
    assert less.best_baseline is not None
    assert less.best_baseline.name == "logistic regression"
    names = [label.get_text() for label in final_scores(less).axes[0].get_yticklabels()]
    assert names == ["SGD", "Adam", "majority label", "logistic regression"]
