import platform
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.data.schema import Column, Schema
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.report import Facts, Report
from pipeline.report.words import headline, loading_code, others_text, ui_command, verdict
from tests.study import (
    CLOSE,
    FAR,
    NEAR,
    failed,
    predictions,
    search,
    study_evidence,
    study_facts,
    trial,
)

NOT_COMPARED = "Without a final round (validation.final) nothing tells optimizers from luck."


def test_verdict_says_best_and_test():
    evaluation = evaluate(*predictions(2, 503))
    report = Report(study_facts(), [CLOSE, NEAR, FAR], evaluation)
    first, second, third = verdict(report)
    assert first == (
        "Adam with learning rate 0.01 did best: cross-validated accuracy 71.0 % "
        "(± 1.6 between 5 folds), the best of 3 completed trials."
    )
    assert second == NOT_COMPARED
    scores = evaluation.scores
    assert f"gets {100 * scores.accuracy:.1f} % right" in third
    interval = f"{100 * scores.accuracy_low:.1f} % to {100 * scores.accuracy_high:.1f} %"
    assert f"(95 % interval {interval})" in third


def test_verdict_of_one_optimizer_one_split_and_loss():
    assert len(verdict(Report(study_facts(), [CLOSE]))) == 1
    single = study_facts(folds=1, metric=LOSS)
    trials = [trial(0, "A", loss=0.5), trial(1, "B", loss=0.6)]
    first, second = verdict(Report(single, trials))
    assert first == (
        "A with learning rate 0.01 did best: validation loss 0.5, the best of 2 completed trials."
    )
    assert second == NOT_COMPARED


def test_verdict_without_a_completed_trial():
    assert verdict(Report(study_facts(), [])) == ["No trial has run yet."]
    assert verdict(Report(study_facts(), [failed(0), failed(1)])) == [
        "No trial completed: 2 of 2 trials failed: loss not finite in epoch 3."
    ]


def test_other_settings_in_words():
    params = {"optimizers.3.lr": 0.1, "model.dropout": 0.123456, "model.hidden": (64, 32),
              "model.batch_norm": True, "optimizers.3.weight_decay": 1e-5}  # fmt: skip
    text = "dropout 0.123, hidden [64, 32], batch_norm true, weight_decay 1e-05"
    assert others_text(params) == text
    assert others_text(params, most=2) == "dropout 0.123, hidden [64, 32], 2 other settings"
    assert others_text({"optimizers.0.lr": 0.1}) == ""
    (sentence,) = verdict(Report(study_facts(), [trial(0, params=params)]))
    assert sentence.startswith(f"Adam with learning rate 0.01 ({text}) did best")


def test_the_headline_is_no_surer_than_the_evidence():
    def told(means, trials=(CLOSE,)):
        evidence = study_evidence(means) if means else None
        return headline(Report(study_facts(), trials, evidence=evidence))

    assert told({"Adam": 0.75, "SGD": 0.7}) == "Adam is the best optimizer here"
    level = {"Adam": 0.7, "SGD": 0.6995, "Rprop": 0.6}
    assert told(level) == "No clear winner: Adam is ahead, SGD may be as good"
    many = {f"O{i}": 0.7 - i / 1e5 for i in range(6)}
    assert told(many) == "No clear winner: O0 is ahead, 5 others may be as good"
    assert told({"Adam": 0.7}) == "Adam did best"
    assert told({}) == "Adam did best in the search"
    assert told({}, [failed(0)]) == "No trial completed"
    assert told({}, []) == "No trial has run yet"


def test_code_and_commands_hold_names_as_text():
    facts = study_facts(model_uri='models:/it\'s "x"@champion', tracking_uri="sqlite:///it's.db")
    code = loading_code(facts)
    compile(code, "loading", "exec")
    assert repr("sqlite:///it's.db") in code
    assert "set_tracking_uri" not in loading_code(replace(facts, tracking_uri="http://***@host"))
    assert ui_command("sqlite:///my db; rm -rf x") == (
        "mlflow ui --backend-store-uri 'sqlite:///my db; rm -rf x'"
    )
    assert ui_command("") == "mlflow ui"
    assert ui_command("http://host:5000", "#/x") == "http://host:5000/#/x"
    assert ui_command("", "#/x").endswith("http://127.0.0.1:5000/#/x")


def test_facts_of_a_configuration_and_parts(tmp_path):
    # The attributes that are read of config.Config and data.PreparedData.
    config = SimpleNamespace(
        experiment="e",
        data=SimpleNamespace(source="https://me:secret@host/t.csv"),
        validation=SimpleNamespace(folds=5, repeats=2, fraction=0.2, groups=None, order=None),
        training=SimpleNamespace(epochs=30),
        search=SimpleNamespace(trials=8, objective="val_loss"),
        metrics=(),
        labels=("SGD", "SGD momentum=0.9"),
        flat=lambda: {"data.source": "https://me:secret@host/t.csv", "training.epochs": "30"},
    )
    parts = SimpleNamespace(
        schema=Schema((Column("a", "number"),), "y", ("no", "yes")),
        rows={"train": 80, "test": 20},
        left_out={"b": "constant"},
        directory=tmp_path / "abc123",
        digests={"source": "00", "train": "11", "test": "22"},
        groups={},
        warnings=(),
    )
    facts = Facts.of(config, parts, "run https://me:secret@host/t.csv", "", commit="c0ffee")
    assert facts.source == "https://***@host/t.csv"
    assert "secret" not in str(facts)
    assert facts.fingerprint == "abc123"
    assert facts.optimizers == ("SGD", "SGD momentum=0.9")
    assert facts.columns == {"a": "number"}
    assert set(facts.versions) >= {"Python", "torch", "mlflow", "optuna"}
    assert facts.commit == "c0ffee"
    assert platform.machine() in facts.machine
    assert verdict(Report(facts, search(trials=8)))


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_figures_by_name(metric):
    report = Report(study_facts(metric=metric), search(trials=5), evaluate(*predictions(2, 50)))
    landscape = f"landscape_{metric.name}"
    assert list(report.figures) == [landscape, "confusion", "calibration"]
