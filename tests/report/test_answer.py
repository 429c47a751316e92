"""What the answer says of doubtful test scores, rare labels, and models that are no networks."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.analysis.clustered import Ageing
from pipeline.analysis.evaluation import ModelPredictions, compare_models, evaluate, score
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.plausibility import Gap, Shift
from pipeline.analysis.rare_labels import by_label
from pipeline.models.metrics import ACCURACY, KNOWN, LOSS
from pipeline.report.descriptions import markdown, search_description
from pipeline.report.page import page
from pipeline.report.report import Report
from pipeline.report.tables import label_table
from pipeline.report.words import shift_sentence, verdict, warnings
from tests.study import CLOSE, NEAR, predictions, study_evidence, study_facts

WORSE = Gap(ACCURACY, 0.978, 0.57, -0.53, -0.28, True)
BETTER = Gap(ACCURACY, 0.7, 0.95, 0.1, 0.4, False)
EVALUATION = evaluate(*predictions(2, 200))


def report(evaluation=EVALUATION, evidence=None, **facts):
    return Report(study_facts(**facts), [CLOSE, NEAR], evaluation, evidence)


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (WORSE, ["worse than", "test accuracy 57.0 % where 97.8 % was", "-53.0 to -28.0 points"]),
        (BETTER, ["better than", "rows of the test file are in training too", "easier"]),
        (Gap(LOSS, 0.2, 0.9, 0.3, 1.1, True), ["test loss 0.9 where 0.2", "to +1.100)"]),
    ],
)
def test_a_doubtful_test_score_is_said_first_and_everywhere(gap, words):
    doubtful = report(replace(EVALUATION, gaps=(gap,)))
    first, *_ = verdict(doubtful)
    assert [first] == warnings(doubtful.evaluation)
    assert all(each in first for each in words), first
    assert ("another time or source" in first) is gap.is_worse
    assert search_description(doubtful).startswith(f"**{markdown(first)}**")
    text = page(doubtful)
    assert text.count("Do not rely on these scores") == 1
    assert text.index("Do not rely on these scores") < text.index('<dl class="cards">')


def test_nothing_is_said_where_nothing_is_doubtful():
    assert warnings(EVALUATION) == warnings(None) == []
    assert not any("rely" in sentence for sentence in verdict(report()))
    assert 'role="alert"' not in page(report())


def test_what_prepare_warned_of_stands_beside_the_test_score():
    told = verdict(report(warnings=("column 'patient' repeats as groups do",)))
    place = next(n for n, sentence in enumerate(told) if "which the search never saw" in sentence)
    assert told[place + 1] == "But mind: column 'patient' repeats as groups do."


def test_whether_rows_can_be_told_apart():
    alike = shift_sentence(Shift(0.51, 0.46, 0.56, ("day",)))
    assert alike == (
        "Training and test rows cannot be told apart (AUC 0.51, 99 % interval 0.46 to 0.56)."
    )
    apart = Shift(0.83, 0.8, 0.86, ("day", "price"))
    assert shift_sentence(apart).endswith(", most by 'day' and 'price'.")
    assert shift_sentence(replace(apart, columns=("day",))).endswith(", most by 'day'.")
    assert shift_sentence(replace(apart, columns=())).endswith("0.80 to 0.86).")
    assert "told apart (AUC 0.83" in page(report(replace(EVALUATION, shift=apart)))
    assert shift_sentence(apart) in warnings(replace(EVALUATION, gaps=(WORSE,), shift=apart))[0]


def rare(y, predicted, training, labels, sure=0.9):
    """A report of these predictions, and of so many training rows of each label."""
    probabilities = np.full((len(y), len(training)), (1 - sure) / (len(training) - 1))
    probabilities[np.arange(len(y)), predicted] = sure
    scored = evaluate(probabilities, y)
    labelled = by_label(scored.scores.confusion, training)
    return report(replace(scored, by_label=labelled), labels=labels)


def test_rare_labels_that_are_not_found():
    y = np.repeat([0, 1], [96, 4])
    none = rare(y, np.zeros(100, int), [290, 10], ("no", "fraud"))
    assert (
        "Of the 4 test rows labelled 'fraud', the positive label, the model finds 0; "
        "it calls no row 'fraud'."
    ) in verdict(none)
    (hint,) = [sentence for sentence in verdict(none) if "search.objective=" in sentence]
    assert "registry.threshold=f1" in hint
    few = verdict(rare(y, np.repeat([0, 1, 0, 1], [95, 1, 1, 3]), [290, 10], ("no", "fraud")))
    assert any("finds 3; of the 4 rows that it calls 'fraud', 3 are." in each for each in few)
    assert not any("search.objective=" in sentence for sentence in few)
    usual = verdict(rare(y, np.zeros(100, int), [100, 100], ("no", "fraud")))
    assert not any("labelled" in sentence for sentence in usual)


def test_rare_labels_of_several():
    y = np.repeat([0, 1, 2], [80, 15, 5])
    told = rare(y, np.zeros(100, int), [240, 45, 15], ("a", "b", "c"))
    text = " ".join(verdict(told))
    assert "labelled 'c' the model finds 0" in text
    assert "labelled 'b'" not in text
    assert "registry.threshold" not in text
    table = label_table(told)
    assert [row["Label"] for row in table.records()] == ["c", "b", "a"]
    assert table.records()[0] == {
        "Label": "c", "Of training rows": "5.0 %", "Test rows": "5", "Found (recall)": "0.0 %",
        "Right where predicted (precision)": "–",
    }  # fmt: skip
    assert "80.0 %" in table.records()[2].values()
    assert "Of training rows" in page(told)
    assert label_table(report()).rows == ()


def scored(positive, y):
    """Of probabilities of label 1, beside the most frequent label of as many training rows."""
    positive, share = np.asarray(positive), np.mean(y)
    both = np.stack([1 - positive, positive], axis=1)
    always = np.tile([1 - share, share], (len(y), 1))
    majority = compare_models(
        ModelPredictions(both.argmax(axis=1), both),
        ModelPredictions(np.zeros(len(y), int), always),
        y,
    )
    return replace(evaluate(both, y), majority=majority)


def about_the_majority(told: Report) -> list[str]:
    return [each for each in verdict(told) if each.startswith(("The network", "By accuracy"))]


NO_BETTER = {"Adam": 0.5, "SGD": 0.5}
FRAUD = (np.arange(400) % 20 == 0).astype(np.int64)


def test_columns_may_say_nothing_only_where_nothing_says_otherwise():
    draw = np.random.default_rng(0)
    noise = scored(0.05 + 0.01 * draw.random(400), FRAUD)
    for evidence in (study_evidence(NO_BETTER), None):
        (sentence,) = about_the_majority(report(noise, evidence))
        assert sentence == (
            "The network does not beat always answering 0: these columns may say nothing about "
            "the label."
        )
        (arrays,) = about_the_majority(report(noise, evidence, arrays="[8] float32"))
        assert "these data may say nothing" in arrays
    ranks = scored(0.05 + 0.1 * FRAUD + 0.05 * draw.random(400), FRAUD)
    for evidence in (study_evidence(NO_BETTER), None):
        (sentence,) = about_the_majority(report(ranks, evidence))
        assert sentence == (
            "By accuracy the network is no better than always answering 0, but it ranks rows: the "
            "area under the ROC curve is 1.000 on test rows."
        )


def test_a_lower_log_loss_says_something():
    """Accuracy 0.59 as the majority, and a lower loss on the folds; before the test."""
    (sentence,) = about_the_majority(report(None, study_evidence({"Adam": 0.59, "SGD": 0.58})))
    assert sentence == (
        "By accuracy the network is no better than always answering the most frequent label, but "
        "its probabilities are."
    )
    assert about_the_majority(report(None, study_evidence({"Adam": 0.8, "SGD": 0.7}))) == []


def about_networks(evidence: Evidence, evaluation=EVALUATION) -> list[str]:
    told = report(evaluation, evidence, metric=evidence.metric)
    return [sentence for sentence in verdict(told) if sentence.startswith("A network")]


@pytest.mark.parametrize(
    ("accuracy", "worth", "noise"),
    [
        (0.75, "worth", "beyond"),
        (0.6705, "not clearly worth", "within"),
        (0.6, "not worth", "beyond"),
    ],
)
def test_whether_a_network_is_worth_having(accuracy, worth, noise):
    """Gradient boosting has 0.67 on the folds of the first repeat, and on test rows."""
    evidence = study_evidence({"Adam": accuracy, "SGD": 0.5}, noise=0.0)
    # Fold by fold alike but for a little: else no five folds tell anything.
    shared = 0.95 * (evidence.winner.scores["accuracy"] - accuracy)
    models = []
    for model in evidence.baselines:
        scores = model.scores["accuracy"] + shared[: len(model.scores["accuracy"])]
        models.append(replace(model, scores=dict(model.scores) | {"accuracy": scores}))
    (sentence,) = about_networks(replace(evidence, baselines=tuple(models)))
    ours, theirs = evidence.winner.scores["accuracy"][:5].mean(), models[2].mean(ACCURACY)
    assert sentence.startswith(
        f"A network is {worth} having here: on the same rows it has accuracy {100 * ours:.1f} % "
        f"and gradient boosting, the best other model, {100 * theirs:.1f} % (95 % interval of the "
    )
    assert sentence.endswith(
        f", {noise} noise); on test rows {100 * EVALUATION.scores.accuracy:.1f} % and 67.0 %."
    )


def test_beside_other_models_in_losses_and_before_the_test():
    evidence = study_evidence({"Adam": 0.8, "SGD": 0.5}, metric=LOSS, noise=0.0)
    (sentence,) = about_networks(evidence, None)
    assert "logistic regression" in sentence
    assert "it has loss 0.396 " in sentence
    assert "test rows" not in sentence


def test_where_nothing_is_learned_only_a_better_model_is_named():
    evidence = study_evidence(NO_BETTER, noise=0.0)
    (sentence,) = about_networks(evidence, None)
    assert sentence.startswith("A network is not worth having here: ")
    assert "gradient boosting, the best other model, 67.0 %" in sentence
    poor = replace(evidence.baselines[1], scores={"accuracy": np.full(5, 0.5)})
    assert about_networks(replace(evidence, baselines=(evidence.baselines[0], poor)), None) == []


def test_arrays_are_no_table():
    evidence = study_evidence({"Adam": 0.7, "SGD": 0.7})
    told = report(None, evidence, arrays="[8] uint8")
    assert "cannot be told apart on these data" in verdict(told)[1]


def test_what_the_interval_is_also_for_is_said_where_networks_were_seen_to_age():
    evidence = replace(study_evidence({"Adam": 0.7}), is_forward=True)
    ahead = ", also for a period as long that comes after"
    for ageing, claims in ((None, 0), (Ageing(0.01, 0.02), 1)):
        told = verdict(report(evidence=replace(evidence, ageing=ageing), order="year"))
        assert sum(ahead in sentence for sentence in told) == claims
    assert not any(ahead in sentence for sentence in verdict(report(order="year")))


def test_a_score_of_a_single_group_has_no_interval():
    probabilities, y = predictions(2, 40)
    single = score(probabilities, y, clusters=np.zeros(40, int))
    trial = replace(CLOSE, scores={**CLOSE.scores, "auroc": 0.7})
    facts = study_facts(metric=KNOWN["auroc"], groups="g")
    told = Report(facts, [trial], evaluate(probabilities, y, single))
    assert any(f"Its test AUROC is {single.further['auroc']:.3g}." in s for s in verdict(told))
    text = page(told)
    assert "95 %" not in text[text.index("<dt>auroc") : text.index("<dt>balanced_accuracy")]


def test_an_objective_that_no_test_row_defines_is_not_compared_there():
    def with_auroc(scores, value=None):
        return {**scores, "auroc": scores["accuracy"] if value is None else value}

    evidence, auroc = study_evidence({"Adam": 0.7}), KNOWN["auroc"]
    (winner,), model = evidence.finalists, evidence.baselines[1]
    changes = {name: with_auroc(getattr(winner, name)) for name in ("scores", "ensemble", "search")}
    tested = with_auroc({"accuracy": 0.7, "loss": 0.6}, 0.65)
    beside = replace(model, scores=with_auroc(model.scores), test_scores=tested)
    finalists = (replace(winner, **changes),)
    evidence = replace(evidence, metric=auroc, finalists=finalists, baselines=(beside,))
    trial = replace(CLOSE, scores=with_auroc(CLOSE.scores))
    probabilities, y = predictions(2, 40)
    for labels, compared in ((y, True), (np.zeros_like(y), False)):
        told = evaluate(probabilities, labels)
        said = verdict(Report(study_facts(metric=auroc), [trial], told, evidence))
        assert any("; on test rows" in sentence for sentence in said) is compared
