from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.report.facts import Facts
from pipeline.report.tables import optimizer_rows
from pipeline.report.words import Report, loading_code, ui_command, verdict
from tests.study import StandInFit, StandInTrial, failed, predictions, search, study_facts


def _trial(number, optimizer, folds):
    return StandInTrial(
        number,
        optimizer,
        accuracy=float(np.mean(folds)),
        accuracy_std=float(np.std(folds, ddof=1)),
        fits=tuple(StandInFit(value, 0.6) for value in folds),
    )


CLOSE = _trial(0, "Adam", [0.70, 0.72, 0.71, 0.69, 0.73])
NEAR = _trial(1, "SGD", [0.70, 0.71, 0.72, 0.68, 0.72])
FAR = _trial(2, "Adagrad", [0.60, 0.62, 0.60, 0.59, 0.64])


def test_verdict_says_best_noise_and_test():
    evaluation = evaluate(*predictions(2, 503))
    first, second, third = verdict(Report(study_facts(), [CLOSE, NEAR, FAR], evaluation))
    assert first == (
        "Adam with learning rate 0.01 did best: 71.0 % cross-validated accuracy "
        "(± 1.6, standard deviation over 5 folds), the best of 3 completed trials."
    )
    assert second.startswith("The best trial of SGD is within the noise of it; it is ahead of ")
    assert "Adagrad by 10.0 points (95 %:" in second
    scores = evaluation.scores
    assert f"right for {100 * scores.accuracy:.1f} %" in third
    interval = f"{100 * scores.accuracy_low:.1f} % to {100 * scores.accuracy_high:.1f} %"
    assert f"(95 % interval {interval})" in third


def test_verdict_when_all_are_alike():
    _, second = verdict(Report(study_facts(), [CLOSE, NEAR]))
    assert second == (
        "The best trial of SGD is within the noise of it: "
        "this search does not tell which of them is better."
    )


def test_verdict_of_one_optimizer_one_split_and_loss():
    assert "only optimizer that was tried" in verdict(Report(study_facts(), [CLOSE]))[1]
    assert "No trial of another" in verdict(Report(study_facts(), [CLOSE, failed(5)]))[1]
    single = study_facts(folds=1, objective="val_loss")
    trials = [StandInTrial(0, "A", loss=0.5), StandInTrial(1, "B", loss=0.6)]
    first, second = verdict(Report(single, trials))
    assert "A with learning rate 0.01 did best: validation loss 0.5, 70.0 % validation" in first
    assert "±" not in first
    assert second == "How it differs from B cannot be told from noise with a single split."


def test_verdict_without_a_completed_trial():
    assert verdict(Report(study_facts(), [])) == ["No trial has run yet."]
    assert verdict(Report(study_facts(), [failed(0), failed(1)])) == [
        "No trial completed: 2 of 2 trials failed: loss not finite in epoch 3."
    ]


def test_rows_per_optimizer():
    head, rows = optimizer_rows(Report(study_facts(), [CLOSE, NEAR, FAR, failed(3, "Rprop")]))
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["Optimizer"] for row in table] == ["Adam", "SGD", "Adagrad", "Rprop"]
    assert [row["Against the best"] for row in table] == [
        "best", "−0.4 points, within noise", "−10.0 points, beyond noise", "–",
    ]  # fmt: skip
    assert table[0]["Best accuracy"] == "71.0 % ± 1.6"
    assert (table[3]["Failed"], table[3]["Best accuracy"]) == ("1", "–")


def test_code_and_commands_hold_names_as_text():
    code = loading_code('models:/it\'s "x"@champion')
    compile(code, "loading", "exec")
    assert ui_command("sqlite:///my db; rm -rf x") == (
        "mlflow ui --backend-store-uri 'sqlite:///my db; rm -rf x'"
    )
    assert ui_command("") == "mlflow ui"
    assert ui_command("http://host:5000") == "http://host:5000"


def test_facts_of_a_configuration_and_parts(tmp_path):
    # The attributes that are read of config.Config and data.Parts.
    config = SimpleNamespace(
        experiment="e",
        data=SimpleNamespace(source="https://me:secret@host/t.csv", target="y"),
        validation=SimpleNamespace(folds=5, repeats=2, fraction=0.2),
        training=SimpleNamespace(epochs=30),
        search=SimpleNamespace(trials=8, objective="val_loss"),
        optimizers=[SimpleNamespace(name="SGD"), SimpleNamespace(name="SGD")],
        flat=lambda: {"data.source": "https://me:secret@host/t.csv", "training.epochs": "30"},
    )
    parts = SimpleNamespace(
        schema=SimpleNamespace(
            labels=("no", "yes"), columns=(SimpleNamespace(name="a", kind="number"),)
        ),
        rows={"train": 80, "test": 20},
        left_out={"b": "constant"},
        directory=tmp_path / "abc123",
        digests={"source": "00", "train": "11", "test": "22"},
    )
    facts = Facts.of(
        config, parts, command="run https://me:secret@host/t.csv", model_uri="models:/e@champion"
    )
    assert facts.source == "https://me:***@host/t.csv"
    assert "secret" not in str(facts)
    assert facts.fingerprint == "abc123"
    assert facts.optimizers == ("SGD",)
    assert facts.columns == {"a": "number"}
    assert set(facts.versions) >= {"torch", "mlflow", "optuna"}
    assert verdict(Report(facts, search(trials=8)))


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_figures_by_name(objective):
    report = Report(
        study_facts(objective=objective), search(trials=5), evaluate(*predictions(2, 50))
    )
    assert list(report.figures) == [
        "learning_rate", "landscape_accuracy", "landscape_loss", "curves", "history",
        "confusion", "calibration", "roc", "precision_recall",
    ]  # fmt: skip
