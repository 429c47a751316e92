from pipeline.config import loads
from pipeline.search.settings import others_text, settings_of
from tests.study import SETTINGS, trial

MORE = """
data: {source: none.csv, target: none}
model: {activation: {choice: [relu, tanh]}, dropout: {choice: [0.2]}}
training: {patience: {choice: [null, 10]}, epochs: {low: 10, high: 1000, log: true}}
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1.0, log: true}, nesterov: {choice: [true, false]}, momentum: 0.9}
  - {name: Adam, lr: 0.01, betas: [{low: 0.8, high: 0.95}, 0.999], weight_decay: {choice: [0, 0.1]}}
  - {name: Adam, lr: {low: 0.001, high: 0.1}, weight_decay: {choice: [0, 0.1]}, amsgrad: true}
  - {name: AdamW, lr: 0.01, weight_decay: {low: 0.01, high: 0.1}}
"""  # noqa: E501


def _settings(text):
    return {one.label: one for one in settings_of(loads(text, "made up"))}


def test_ranges_of_several_optimizers_are_one_setting():
    found = _settings(SETTINGS)
    assert list(found) == [
        "optimizer", "learning rate", "hidden", "dropout", "batch_size", "momentum (SGD)",
    ]  # fmt: skip
    lr = found["learning rate"]
    assert [axis.path for axis in lr.axes.values()] == ["optimizers.0.lr", "optimizers.1.lr"]
    assert [len(one.axes) for one in found.values()] == [2] * 5 + [1]
    assert [one.name for one in found.values()][-2:] == ["training.batch_size", "momentum"]


def test_settings_that_some_have_name_their_owners():
    found = _settings(MORE)
    assert list(found) == [
        "optimizer",
        "learning rate (2 optimizers)",
        "activation",
        "epochs",
        "patience",
        "nesterov (SGD)",
        "betas.0 (Adam lr=0.01 betas=[{low: 0.8, high: 0.95}, 0.999])",
        "weight_decay (2 optimizers)",
        "weight_decay (AdamW)",
    ]
    # A choice and an interval are not the same setting, and one value is no choice.
    assert len(found["weight_decay (2 optimizers)"].axes) == 2
    assert list(found["weight_decay (AdamW)"].axes) == ["AdamW"]
    assert not any("dropout" in name for name in found)
    assert found["optimizer"].value(trial(0, "AdamW")) == "AdamW"


def test_one_optimizer_is_no_setting():
    text = "data: {source: a, target: b}\noptimizers: [{name: SGD, lr: {low: 0.1, high: 1}}]"
    assert list(_settings(text)) == ["learning rate"]


def test_where_a_trial_is():
    found = _settings(SETTINGS)
    params = {"optimizers.0.lr": 0.01, "optimizers.0.momentum": 0.45, "model.hidden": (64, 32),
              "training.batch_size": 32, "model.dropout": 0.1}  # fmt: skip
    first = trial(0, "SGD", params=params)
    assert found["learning rate"].value(first) == 0.01
    assert found["momentum (SGD)"].value(first) == 0.45
    assert found["hidden"].category(first) == 1
    other = trial(1, "AdamW", params={"optimizers.1.lr": 0.01})
    assert not found["momentum (SGD)"].has(other)
    assert found["momentum (SGD)"].value(other) is None


def test_null_is_a_value():
    patience = _settings(MORE)["patience"]
    without = trial(0, "SGD", params={"training.patience": None})
    assert patience.has(without)
    assert patience.category(without) == 0


def test_other_settings_in_words():
    params = {"optimizers.3.lr": 0.1, "model.dropout": 0.123456, "model.hidden": (64, 32),
              "model.batch_norm": True, "optimizers.3.weight_decay": 1e-5}  # fmt: skip
    assert others_text(params) == (
        "dropout 0.123, hidden [64, 32], batch_norm true, weight_decay 1e-05"
    )
    assert others_text(params, most=2) == "dropout 0.123, hidden [64, 32], 2 other settings"
    assert others_text({"optimizers.0.lr": 0.1}) == ""
