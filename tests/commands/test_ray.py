"""Searches on a Ray cluster: nodes die, drivers die, clusters are away."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import RunError, UserError
from pipeline.config import Config, from_mapping
from pipeline.training.executors import check_compute
from tests.commands.test_resume import Place, assert_whole, make_place
from tests.commands.test_resume import database as database

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='Ray is not installed (pip install ".[ray]")'
)
# A trial is worth a shard, and there are failed and pruned ones among them.
SETTINGS = """
experiment: cells
seed: 3
data: {source: "sklearn:breast_cancer", target: target, positive: malignant}
validation: {folds: 3, final: {folds: 3, repeats: 1}}
model: {hidden: [128], dropout: {choice: [0.0, 0.2]}}
training: {epochs: 600, batch_size: 16, patience: null}
optimizers:
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}, momentum: 0.9}
  - {name: SGD, lr: 1.0e+30}
search: {trials: 22, pruner: median}
"""
RAY = ["--set", "compute.engine=ray"]


def placed(folder: Path, database: Path) -> Place:
    place = make_place(folder, database)
    (folder / "cells.yaml").write_text(SETTINGS)
    return place


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Place:
    """A search by the engine that needs no Ray."""
    place = placed(tmp_path_factory.mktemp("unbroken"), database)
    status, _, errors = place.run()
    assert status == 0, errors
    states = {run.data.tags["trial.state"] for run in place.trials()}
    assert states == {"COMPLETE", "PRUNED", "FAIL"}
    return place


@pytest.fixture
def place(tmp_path: Path, database: Path) -> Place:
    return placed(tmp_path, database)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that trains nothing, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_node_dies_and_then_the_driver(place: Place, unbroken: Place, cluster: Any) -> None:
    process = place.start(*RAY)
    place.wait_for(lambda: len(place.trials()) >= 2, process)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    place.wait_for(lambda: len(place.trials()) >= 11, process)
    assert 11 <= len(place.trials()) < 22
    process.kill()
    process.communicate()
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    status, _, errors = place.run(*RAY)
    assert status == 0, errors
    assert_whole(place, unbroken)
    numbers = [int(run.data.tags["trial.number"]) for run in place.trials()]
    assert sorted(numbers) == list(range(22))


@needs_ray
@pytest.mark.slow
def test_begun_here_and_ended_there(place: Place, unbroken: Place) -> None:
    """And there, where no address is given, is here: Ray is started for the search."""
    process = place.start()
    place.wait_for(lambda: len(place.trials()) >= 3, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    process = place.start(*RAY)
    place.wait_for(lambda: len(place.trials()) >= 12, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "RUNNING" not in {run.info.status for run in place.runs()}
    assert place.run()[0] == 0
    assert_whole(place, unbroken)


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_goes_away_ends_the_search_in_good_order(
    place: Place, unbroken: Place, cluster: Any
) -> None:
    program = (
        "from pipeline.training import ray_engine; ray_engine.PATIENCE, ray_engine.LOOK = 6.0, 1.0;"
        "import runpy; runpy.run_module('pipeline', run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "run", "--config", "cells.yaml", *RAY],
        cwd=place.folder,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    place.wait_for(lambda: len(place.trials()) >= 2, process)
    for node in cluster.list_all_nodes()[1:]:
        cluster.remove_node(node, allow_graceful=False)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "it is waited for up to 6.0 s" in output, errors
    assert "has no processor; started again, the search goes on where it was" in errors
    assert "RUNNING" not in {run.info.status for run in place.runs()}
    assert place.run()[0] == 0
    assert_whole(place, unbroken)


NETWORK = """
import torch
from layers import Layer

class Net(torch.nn.Module):
    def __init__(self, inputs, outputs, width=8):
        super().__init__()
        self.layers = torch.nn.Sequential(Layer(inputs, width), torch.nn.Linear(width, outputs))

    def forward(self, x):
        return self.layers(x)

def right(logits, y):
    return (logits.argmax(dim=1) == y).double().mean()
"""
LAYERS = """
import torch

class Layer(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()
"""


@needs_ray
@pytest.mark.slow
def test_the_nodes_need_no_file_of_mine(place: Place) -> None:
    """A network, what it imports from beside it, and a metric."""
    folder = place.folder
    (folder / "nets.py").write_text(NETWORK)
    (folder / "layers.py").write_text(LAYERS)
    (folder / "mlflow.log").write_text("not shipped")
    own = ["model={name: nets.py:Net, width: 6}", "search.trials=8", "training.epochs=4"]
    own += ["search.pruner=halving", "validation.final=null"]
    outcomes = []
    for engine in ("local", "ray"):
        arguments = [*own, f"compute.engine={engine}", f"experiment={engine}"]
        status, _, errors = place.run("--fresh", *(a for o in arguments for a in ("--set", o)))
        assert status == 0, errors
        outcomes.append(place.outcomes(engine))
    assert len(outcomes[0]) == 8
    assert outcomes[0] == outcomes[1]


# Without Ray --------------------------------------------------------------------------------------


def configured(**compute: Any) -> Config:
    return from_mapping({"data": {"source": "sklearn:iris", "target": "target"}, **compute})


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = configured(compute={"engine": "ray"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'compute\.engine: ray is not installed .*"\.\[ray\]"'):
        check_compute(asked)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"compute": {"engine": "spark"}},
            "compute.engine: must be one of local, ray; got 'spark'",
        ),
        ({"compute": {"address": "here"}}, "compute.address: must be HOST:PORT of a Ray cluster, "),
        (
            {"compute": {"engine": "ray"}, "training": {"device": "cuda:1"}},
            "training.device: must be auto, cpu or cuda where Ray chooses the GPU; got cuda:1",
        ),
    ],
)
def test_wrong_values(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        configured(**keys)
    assert str(caught.value).startswith(problem)


@needs_ray
def test_an_address_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training import ray_engine

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(ray_engine, "PATIENCE", 0.3)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    said: list[str] = []
    started = time.monotonic()
    with (
        pytest.raises(RunError, match="started again, the search goes on where it was"),
        ray_engine.connected(configured(compute={"engine": "ray"}), said.append),
    ):
        pass
    assert time.monotonic() - started < 30
    (line,) = said
    assert line.startswith(f"The Ray cluster at 127.0.0.1:{port} does not answer (")
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with (
        pytest.raises(UserError, match="RAY_ADDRESS: must be HOST:PORT"),
        ray_engine.connected(configured(compute={"engine": "ray"}), said.append),
    ):
        pass
    os.environ.pop("RAY_gcs_rpc_server_reconnect_timeout_s", None)
