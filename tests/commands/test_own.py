"""Networks, data, losses, optimizers and schedules that people bring, from YAML to a model."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from pipeline import __main__ as command_line
from pipeline.training.engines import IN_THREADS, ONE_BY_ONE, STACKED
from tests import networks

ROOT = Path(__file__).parents[2]
MISTAKES = Path(__file__).parents[1] / "mistakes.py"


@dataclass(frozen=True)
class Place:
    """A folder with a store, in which commands are run."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def run(self, settings: dict[str, Any], command: str = "run") -> int:
        (self.folder / "own.yaml").write_text(yaml.safe_dump(settings))
        with self.inside():
            return command_line.main([command, "--config", "own.yaml"])

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.setenv("XDG_CACHE_HOME", str(self.folder / "cache"))
            yield

    def runs(self, stage: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name("own")
        if experiment is None:
            return []
        condition = f"tags.`pipeline.stage` = '{stage}'"
        found = self.client.search_runs([experiment.experiment_id], condition)
        return [run for run in found if "pipeline.abandoned" not in run.data.tags]

    def outcomes(self) -> list[tuple[object, ...]]:
        """What is the same, to the bit, wherever a search is made."""
        return sorted(
            (
                int(run.data.tags["trial.number"]),
                run.data.tags["trial.state"],
                sorted(run.data.params.items()),
                sorted(run.data.metrics.items()),
                [
                    (name, point.step, point.value)
                    for name in ("train_loss", "val_loss", "lr")
                    for point in self.client.get_metric_history(run.info.run_id, name)
                ],
            )
            for run in self.runs("trial")
        )


def settings(**sections: Any) -> dict[str, Any]:
    """Of a search that takes a second."""
    fixed = {
        "experiment": "own",
        "data": {"source": "sklearn:iris", "target": "target"},
        "validation": {"folds": 2, "final": None},
        "training": {"epochs": 2, "batch_size": 16, "patience": None},
        "optimizers": [{"name": "Adam", "lr": {"low": 1e-3, "high": 1e-1, "log": True}}],
        "search": {"trials": 2, "sampler": "random"},
        "tracking": {"keep_models": "none"},
    }
    return {
        key: {**fixed.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in {**fixed, **sections}.items()
    }


# What is wrong is said before any run is opened --------------------------------------------------


def mistake(name: str) -> str:
    return f"{MISTAKES}:{name}"


def model(name: str, **arguments: Any) -> dict[str, Any]:
    return {"model": {"name": mistake(name), **arguments}}


def brought(name: str, **arguments: Any) -> dict[str, Any]:
    """A network that is right."""
    return {"model": {"name": networks.path(name), **arguments}}


def loss(name: str, **arguments: Any) -> dict[str, Any]:
    return {"training": {"loss": {"name": name, **arguments}}}


def schedule(*named: Any) -> dict[str, Any]:
    return {"training": {"schedule": list(named) if len(named) > 1 else named[0]}}


def optimizer(name: str, **arguments: Any) -> dict[str, Any]:
    return {"optimizers": [{"name": name, **arguments}]}


def data(name: str, **more: Any) -> dict[str, Any]:
    return {"data": {"source": mistake(name), "target": None, **more}}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"model": {"name": "mistaks.py:Net"}}, "model.name: mistaks.py: no such file"),
    "no name": (model("Pairs"), "model.name: FILE has no 'Pairs'; did you mean 'Pair'?"),
    "syntax": ({"model": {"name": "syntax.py:Net"}}, "model.name: syntax.py:1: SyntaxError: "),
    "import": ({"model": {"name": "raises.py:Net"}}, "model.name: raises.py:2: KeyError: 'x'"),
    "exit": ({"model": {"name": "exits.py:Net"}}, "model.name: exits.py:2: SystemExit: 0"),
    "package": (
        {"model": {"name": "not_there.Net"}},
        "model.name: not_there.Net: there is no module 'not_there'; is it installed?",
    ),
    "not callable": (model("NUMBER"), "model.name: must be a class or a function; got 3"),
    "unknown argument": (
        brought("perceptron", hiden=3),
        "model.hiden: unknown argument of perceptron; did you mean 'hidden'?",
    ),
    "missing argument": (
        model("too_wide"),
        "model.width: must be given: too_wide has no default for it (inputs and outputs, where",
    ),
    "building": (
        model("Raises", hidden=3),
        "model: FILE:Raises cannot be built with hidden=3: ValueError: hidden must be even",
    ),
    "building at an end": (
        model("odd_or_even", hidden={"low": 2, "high": 3}),
        "model: FILE:odd_or_even cannot be built with inputs=4, outputs=3, hidden=3: ValueError: ",
    ),
    "no module": (model("no_module"), "model.name: FILE:no_module must be or give a torch.nn.M"),
    "parallel": (model("parallel"), "model.name: FILE:parallel must give the module itself; got"),
    "no weights": (model("Weightless"), "model.name: FILE:Weightless has no weights to train"),
    "complex": (model("Complex"), "model.name: FILE:Complex must have real weights; wave is"),
    "forward": (model("Fails"), "model: FILE:Fails fails for rows [2, 4] float32: RuntimeError"),
    "shape": (model("NumberForAll"), "model: FILE:NumberForAll must give [rows, 3], or [rows, k"),
    "draws": (model("AlwaysDrops"), "model: FILE:AlwaysDrops must give the same rows the same"),
    "outputs": (model("too_wide", width=2), "model: FILE:too_wide must give [rows, 3], or"),
    "one row": (
        model("Squeezes"),
        "model: FILE:Squeezes must give [1, 3] for 1 row, as it gives [2, 3] for 2; got [3]",
    ),
    "no tensor": (model("Pair"), "model: FILE:Pair must give a tensor of floats; got tuple"),
    "integers": (model("Integers"), "model: FILE:Integers must give a tensor of floats; got tor"),
    "changes": (model("Changes"), "model.name: FILE:Changes changes its weights in forward (net"),
    "probabilities": (
        model("Probabilities"),
        "model: FILE:Probabilities must give logits, which training.loss takes; it ends with Soft",
    ),
    "refused by export": (
        brought("Branching") | {"tracking": {"keep_models": "all"}},
        "model: torch.export refuses it: GuardOnDataDependentSymNode: ",
    ),
    "loss": (loss("CrosEntropyLoss"), "training.loss.name: must be one of auto, NLLLoss"),
    "argument of a loss": (
        loss("CrossEntropyLoss", label_smothing=0.1),
        "training.loss.label_smothing: unknown key; did you mean 'label_smoothing'?",
    ),
    "function of torch": (
        brought("perceptron") | loss("torch.nn.functional.cross_entropy"),
        "training.loss.name: must be a class of torch.nn, or your own; got a function",
    ),
    "shape of a loss": (
        brought("perceptron") | loss(mistake("of_all_pairs")),
        "training.loss: cannot be computed of outputs [2, 3]: ValueError: it must give a number, "
        "or one for each row; got [2, 2] for 2 rows",
    ),
    "constant loss": (
        loss(mistake("constant")),  # of the built-in network
        "training.loss: cannot be computed of outputs [2, 3]: it does not depend on the outputs",
    ),
    "three labels": (
        brought("perceptron") | loss("BCELoss"),
        "training.loss: BCELoss is for two labels, and there are 3; CrossEntropyLoss takes any",
    ),
    "logits for BCELoss": (
        brought("perceptron") | loss("BCELoss") | data("rows"),
        "model: NETWORKS:perceptron must give probabilities from 0 to 1, which training.loss take",
    ),
    "built-in and BCELoss": (
        loss("BCELoss") | data("rows"),
        "training.loss: BCELoss takes probabilities or their logarithms, and model.name: mlp give",
    ),
    "label": (
        {"training": {"class_weight": {"setossa": 2.0}}},
        "training.class_weight: must name labels ('setosa', 'versicolor', 'virginica'); got "
        "'setossa'; did you mean 'setosa'?",
    ),
    "optimizer": (optimizer("Adamm"), "optimizers.0.name: must be one of Adafactor, "),
    "path of an optimizer": (
        optimizer("pytorch_optimizer.Lyon"),
        "optimizers.0.name: pytorch_optimizer has no 'Lyon'; did you mean 'Lion'?",
    ),
    "no optimizer": (
        optimizer(mistake("NoOptimizer")),
        "optimizers.0.name: must be a subclass of torch.optim.Optimizer; got class NoOptimizer",
    ),
    "argument of an optimizer": (
        optimizer("pytorch_optimizer.Lion", lr=1e-3, weight_decai=0.1),
        "optimizers.0.weight_decai: unknown argument of Lion; did you mean 'weight_decay'?",
    ),
    "end of a range": (
        optimizer("pytorch_optimizer.Lion", lr={"low": -1.0, "high": 1e-3}),
        "optimizers.0: Lion cannot be made with lr=-1.0: NegativeLRError: ",
    ),
    "no rate": (optimizer(mistake("NoRate")), "optimizers.0.name: must take a learning rate, `lr"),
    "step": (
        optimizer(mistake("NoStep")),
        "optimizers.0: NoStep cannot make a step: RuntimeError: not written yet",
    ),
    "sparse": (optimizer("SparseAdam"), "optimizers.0.name: must be one of Adafactor"),
    "schedule": (schedule("CosineLR"), "training.schedule: must be one of LambdaLR, "),
    "argument of a schedule": (
        schedule({"name": "StepLR", "step_size": 2, "gama": 0.1}),
        "training.schedule.gama: unknown key; did you mean 'gamma'?",
    ),
    "no schedule": (
        schedule(mistake("Pair")),
        "training.schedule.name: must be a subclass of torch.optim.lr_scheduler.LRScheduler; got",
    ),
    "sequence": (
        schedule("ConstantLR", "ReduceLROnPlateau"),
        "training.schedule.1.name: must be a scheduler that counts epochs, as it is one of ",
    ),
    "short schedule": (
        schedule({"name": "OneCycleLR", "total_steps": 2, "max_lr": 0.1}),
        "training.schedule: must last for all ",
    ),
    "negative rate": (
        schedule({"name": "LambdaLR", "lr_lambda": mistake("negative")}),
        "training.schedule: must keep the learning rate finite and at least 0; got ",
    ),
    "no data": (data("row"), "data.source: FILE has no 'row'; did you mean 'rows'?"),
    "data that fails": (data("without_disk"), "data.source: FILE:without_disk: FILE:"),
    "no arrays": (data("number"), "data.source: FILE:number: must give (x, y) or a map-style Data"),
    "unequal": (data("unequal"), "data.source: FILE:unequal: x and y must have as many rows; x h"),
    "texts": (data("texts"), "data.source: FILE:texts: x must hold numbers; got str"),
    "gaps": (data("gaps"), "data.source: FILE:gaps: x must hold finite numbers (of float32); 120"),
    "one label": (data("one_label"), "FILE:one_label: y must hold two labels or more; got 0"),
    "argument of data": (
        data("rows", arguments={"cont": 3}),
        "data.arguments.cont: unknown argument of rows; did you mean 'count'?",
    ),
    "no archive": (
        {"data": {"source": "rows.npz", "target": None}},
        "rows.npz: the file does not exist",
    ),
}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder without a store; one that were opened would be made."""
    folder = tmp_path_factory.mktemp("nowhere")
    (folder / "syntax.py").write_text("class Net(:\n")
    (folder / "raises.py").write_text("table = {}\ntable['x']\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(0)\n")
    return Place(folder)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_in_a_line(
    kind: str, nowhere: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    sections, expected = WRONG[kind]
    before = {path.name for path in nowhere.folder.iterdir()}
    assert nowhere.run(settings(**sections)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    line = line.replace(str(MISTAKES), "FILE").replace(networks.path("")[:-1], "NETWORKS")
    assert line.startswith("error: ")
    assert expected in line
    after = {path.name for path in nowhere.folder.iterdir()}
    # Rows that were read are kept for the next try.
    assert after - before <= {"own.yaml", "prepared"}


# Searches ----------------------------------------------------------------------------------------

SEARCH = settings(
    model={"name": "nets.py:regularised", "hidden": {"choice": [4, 6]}},
    training={"epochs": 40, "schedule": "CosineAnnealingLR"},
    optimizers=[
        {"name": "Adam", "lr": {"low": 1e-3, "high": 1e-1, "log": True}},
        {"name": "pytorch_optimizer.Lion", "lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    ],
    search={"trials": 8},
)


def make_place(folder: Path, empty_store: Path) -> Place:
    shutil.copy(empty_store, folder / "mlflow.db")
    shutil.copy(networks.__file__, folder / "nets.py")
    return Place(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Place:
    place = make_place(tmp_path_factory.mktemp("unbroken"), empty_store)
    assert place.run(SEARCH) == 0
    return place


@pytest.fixture
def place(tmp_path: Path, empty_store: Path) -> Place:
    return make_place(tmp_path, empty_store)


@pytest.mark.slow
def test_a_killed_search_goes_on_as_it_began(place: Place, unbroken: Place) -> None:
    """To the bit, in the engine that it began with, whatever is measured by then."""
    shutil.copytree(unbroken.folder / "cache", place.folder / "cache")
    (place.folder / "own.yaml").write_text(yaml.safe_dump(SEARCH))
    with place.inside():
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", "--config", "own.yaml"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
    while process.poll() is None and not place.runs("trial"):
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 1 <= len(place.runs("trial")) <= 8
    begun = {key.rpartition(".")[2] for key in tags_of_engines(place)}
    assert begun
    engines = place.folder / "cache/optimizer-search/engines.json"
    measured = json.loads(engines.read_text())
    for key in begun:
        measured[key] = ONE_BY_ONE if measured[key] == STACKED else STACKED
    engines.write_text(json.dumps(measured))
    assert place.run(SEARCH) == 0
    assert place.outcomes() == unbroken.outcomes()
    assert tags_of_engines(place) == tags_of_engines(unbroken)


def tags_of_engines(place: Place) -> dict[str, str]:
    (run,) = place.runs("train")
    return {key: tag for key, tag in run.data.tags.items() if key.startswith("training.engine.")}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(place: Place, unbroken: Place) -> None:
    shutil.copytree(unbroken.folder / "cache", place.folder / "cache")
    assert place.run(SEARCH) == 0
    assert place.outcomes() == unbroken.outcomes()


def test_every_run_says_what_trained_it(unbroken: Place) -> None:
    engines = tags_of_engines(unbroken)
    assert len(engines) == 2  # architectures
    of_trials = {run.data.tags["training.engine"] for run in unbroken.runs("trial")}
    measured = {engine.replace(IN_THREADS, ONE_BY_ONE) for engine in engines.values()}
    assert of_trials == measured <= {STACKED, ONE_BY_ONE}


def test_learning_rates_are_curves(unbroken: Place) -> None:
    for run in unbroken.runs("trial"):
        curve = unbroken.client.get_metric_history(run.info.run_id, "lr")
        start = float(run.data.params["lr"])
        expected = start * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
        np.testing.assert_allclose([point.value for point in curve], expected, rtol=1e-6)


def test_the_network_is_kept_and_another_is_another_search(unbroken: Place) -> None:
    (pipeline,) = unbroken.runs("pipeline")
    kept = unbroken.client.download_artifacts(pipeline.info.run_id, "code/nets.py")
    assert Path(kept).read_text() == (unbroken.folder / "nets.py").read_text()
    assert unbroken.run(SEARCH) == 0
    assert len(unbroken.runs("pipeline")) == 1
    small = SEARCH | {"search": {"trials": 2}, "training": {"epochs": 1}}
    for expected in (2, 3):
        with (unbroken.folder / "nets.py").open("a") as file:
            file.write("# a remark\n")
        assert unbroken.run(small, "train") == 0
        assert len(unbroken.runs("pipeline")) == expected


def test_a_trial_fails_alone(place: Place) -> None:
    ranged = settings(**model("odd_or_even", hidden={"low": 2, "high": 4}), search={"trials": 8})
    assert place.run(ranged) == 0
    states = {
        run.data.params["model.hidden"]: (run.data.tags["trial.state"], run.data.tags)
        for run in place.runs("trial")
    }
    assert {hidden: state for hidden, (state, _) in states.items()} == {
        "2": "COMPLETE",
        "3": "FAIL",
        "4": "COMPLETE",
    }
    assert "hidden must be even" in states["3"][1]["trial.reason"]


def test_without_models_a_network_may_branch(place: Place) -> None:
    assert place.run(settings(**brought("Branching"))) == 0
    assert {run.data.tags["training.engine"] for run in place.runs("trial")} == {ONE_BY_ONE}


def test_optimizers_of_every_kind(place: Place) -> None:
    lr = {"low": 1e-3, "high": 1e-2, "log": True}
    warm = [{"name": "LinearLR", "total_iters": 1}, "CosineAnnealingLR"]
    search = settings(
        model={"name": "nets.py:perceptron"},
        training={"epochs": 4, "schedule": None},
        validation={"folds": 2, "final": {"folds": 2, "repeats": 1}},
        optimizers=[
            {"name": "Adam", "lr": lr, "schedule": {"name": "OneCycleLR", "max_lr": 0.1}},
            {"name": "pytorch_optimizer.Lion", "lr": lr, "schedule": warm},
            {"name": "schedulefree.AdamWScheduleFree", "lr": lr, "warmup_steps": 3},
            {"name": "Muon", "lr": lr, "rest": {"weight_decay": 0.1}},
            {"name": "LBFGS", "lr": 0.1, "line_search_fn": "strong_wolfe", "max_iter": 4},
        ],
        search={"trials": 10, "sampler": "tpe"},
    )
    assert place.run(search) == 0
    trials = {run.data.tags["trial.number"]: run for run in place.runs("trial")}
    assert {run.data.tags["trial.state"] for run in trials.values()} == {"COMPLETE"}
    assert len(place.runs("final")) == 5
    for run in trials.values():
        curve = place.client.get_metric_history(run.info.run_id, "lr")
        assert bool(curve) == (run.data.params["optimizer"] in ("Adam", "Lion"))


# Models ------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[dict[str, Any], tuple[int, ...], str]] = {
    "Implicit": ({"k": 3}, (4,), "float32"),
    "Words": ({}, (6,), "int64"),
    "Recurrent": ({"cell": "GRU"}, (5, 3), "float32"),
    "convolution2d": ({}, (1, 8, 8), "uint8"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_registered_model_answers_as_its_networks(kind: str, place: Place) -> None:
    arguments, shape, dtype = KINDS[kind]
    random = np.random.default_rng(0)
    x = random.integers(0, 20, (90, *shape)).astype(dtype)
    if dtype == "float32":
        x = random.normal(size=x.shape).astype(dtype)
    y = np.array(["a", "b", "c"])[np.arange(90) % 3]
    source = "images"
    if dtype == "uint8":
        for number, (pixels, label) in enumerate(zip(x, y, strict=True)):
            (place.folder / source / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0]).save(place.folder / source / label / f"{number}.png")
    else:
        source = "rows.npz"
        np.savez(place.folder / source, x=x, y=y)
    search = settings(
        data={"source": source, "target": None},
        model={"name": f"nets.py:{kind}", **arguments},
        tracking={"keep_models": "champion"},
    )
    assert place.run(search) == 0
    (place.folder / "nets.py").unlink()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(place.uri)
    try:
        module = mlflow.pytorch.load_model("models:/own/1")
        model = mlflow.pyfunc.load_model("models:/own/1")
    finally:
        mlflow.set_tracking_uri(before)
    found = model.predict(x[:7])
    names = [f"probability_{label}" for label in "abc"]
    expected = by_hand(kind, arguments, shape, module.state_dict(), x[:7])
    np.testing.assert_allclose(found[names].to_numpy(), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x[:7])), expected, rtol=0, atol=1e-6)
    assert list(found["prediction"]) == [names[i][-1] for i in expected.argmax(axis=1)]


def by_hand(
    kind: str, arguments: dict[str, Any], shape: tuple[int, ...], state: Any, x: np.ndarray
) -> np.ndarray:
    """The mean of the probabilities of networks of the class with the model's weights."""
    told = {} if kind == "Words" else {"inputs": shape[0] if len(shape) == 1 else shape}
    rows = torch.from_numpy(x)
    rows = rows.float() / 255 if x.dtype == np.uint8 else rows
    probabilities = []
    for number in range(2):
        network = getattr(networks, kind)(**told, outputs=3, **arguments).eval()
        start = f"networks.{number}."
        network.load_state_dict(
            {key.removeprefix(start): state[key] for key in state if key.startswith(start)}
        )
        with torch.no_grad():
            each = network(rows).softmax(dim=-1)
        probabilities.append(each if each.dim() == 2 else each.mean(dim=1))
    return torch.stack(probabilities).mean(dim=0).numpy()
