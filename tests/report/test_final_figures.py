from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report import figures as plots
from pipeline.report.figures.final import final_scores, pair_differences
from tests.study import study_evidence


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
    assert len(plot.tips) == len(names)
    far = "‹ 59.0 %" if metric is ACCURACY else "0.68 ›"
    assert far in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("metric", "scale"), [(ACCURACY, 100), (LOSS, 1)])
def test_differences_of_pairs(metric, scale):
    evidence = study_evidence({"SGD": 0.75, "Adam": 0.7, "AdamW": 0.701}, metric=metric)
    plot = pair_differences(evidence)
    assert plot.title == "More than luck: 2 of 3 differences"
    drawn = [line.get_xdata() for line in plot.axes[0].lines if line.get_linewidth() == 1]
    assert drawn == [
        pytest.approx([scale * pair.low_all, scale * pair.high_all]) for pair in evidence.pairs
    ]
    unit = "points" if metric is ACCURACY else "nats"
    assert plot.axes[0].get_xlabel() == f"Better by ({unit})"


def test_long_labels_of_one_class_are_whole():
    """None of a row's name is left of the figure."""
    labels = ["SGD momentum=0.9 nesterov=true", "RMSprop momentum=0.9 centered", "SGD"]
    evidence = study_evidence({label: 0.7 + 0.01 * i for i, label in enumerate(labels)})
    for plot in (final_scores(evidence), pair_differences(evidence)):
        (axes,) = plot.axes
        plot.draw_without_rendering()
        for label in axes.get_yticklabels():
            assert label.get_window_extent().x0 > 0


def test_many_pairs_show_those_of_the_winner():
    means = {f"Optimizer{i}": 0.7 - 0.01 * i for i in range(9)}
    plot = pair_differences(study_evidence(means))
    assert len(plot.axes[0].get_yticklabels()) == 15
    assert "15 of 36 are shown" in plot.subtitle
    names = [label.get_text() for label in plot.axes[0].get_yticklabels()]
    assert all(name.startswith("Optimizer0") for name in names[:8])


def test_a_final_round_in_which_nothing_completed():
    evidence = study_evidence({"SGD": None})
    assert plots.evidence_figures(evidence) == {}


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
