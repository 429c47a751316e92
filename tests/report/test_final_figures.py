import numpy as np
import pytest
from scipy import stats

from pipeline.report import figures as plots
from tests.study import study_evidence


def test_interval_of_a_mean_over_folds():
    """Nadeau and Bengio (2003): t interval with variance s2 (1/k + 1/(folds - 1))."""
    scores = np.random.default_rng(1).normal(0.7, 0.02, 20)
    half = stats.t.ppf(0.975, 19) * np.sqrt(scores.var(ddof=1) * (1 / 20 + 1 / 4))
    expected = (scores.mean() - half, scores.mean() + half)
    assert plots.score_interval(scores, 5) == pytest.approx(expected, rel=1e-12)
    assert plots.score_interval(scores, 5, highest=0.71) == (pytest.approx(expected[0]), 0.71)


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_ranking_shows_means_intervals_and_what_is_far_away(objective):
    evidence = study_evidence({"SGD": 0.9, "Adam": 0.89, "Rprop": None}, objective=objective)
    plot = plots.final_scores(evidence)
    (axes,) = plot.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    done = [one for one in evidence.finalists if one.completed]
    assert names == [one.optimizer for one in done] + [one.name for one in evidence.baselines]
    scale, key = (100, "accuracy") if objective == "val_accuracy" else (1, "loss")
    for place, one in enumerate(done):
        values = scale * getattr(one, key)
        ends = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 2.4
                and line.get_ydata()[0] == place]  # fmt: skip
        assert ends[0] == pytest.approx(plots.score_interval(values, evidence.folds, scale))
    assert len(plot.tips) == len(names)
    if objective == "val_accuracy":
        assert "‹ 59.0 %" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_differences_of_pairs(objective):
    evidence = study_evidence({"SGD": 0.75, "Adam": 0.7, "AdamW": 0.701}, objective=objective)
    plot = plots.pair_differences(evidence)
    assert plot.title == "2 of 3 differences are more than luck"
    scale = 100 if objective == "val_accuracy" else 1
    drawn = [line.get_xdata() for line in plot.axes[0].lines if line.get_linewidth() == 1]
    assert drawn == [
        pytest.approx([scale * pair.low_all, scale * pair.high_all]) for pair in evidence.pairs
    ]


def test_many_pairs_show_those_of_the_winner():
    means = {f"Optimizer{i}": 0.7 - 0.01 * i for i in range(9)}
    plot = plots.pair_differences(study_evidence(means))
    assert len(plot.axes[0].get_yticklabels()) == 15
    assert "15 of 36 are shown" in plot.subtitle
    assert all(tip.text.startswith("Optimizer0 –") for tip in plot.tips[:8])


def test_budget_draws_the_expected_best():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    plot = plots.budget(evidence.forgiveness, evidence)
    lines = [line for line in plot.axes[0].lines if len(line.get_xdata()) > 1]
    for line, one in zip(lines, evidence.forgiveness, strict=True):
        assert line.get_ydata() == pytest.approx(100 * one.expected_best)


def test_a_final_round_in_which_nothing_completed():
    evidence = study_evidence({"SGD": None})
    figures = plots.evidence_figures(evidence)
    assert list(figures) == ["final_scores", "pairs", "budget"]
    assert figures["final_scores"].get_label().startswith("The final round")
    for name, figure in figures.items():
        assert plots.svg(figure, name.replace("_", "-")).startswith("<svg role=")
