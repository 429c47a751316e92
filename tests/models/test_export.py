"""An ensemble is held to its members, an exported program to it."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.export import Exporter, MLPEnsemble, export
from pipeline.models.mlp import MLP, StackedMLP
from pipeline.models.task import Classification
from tests.models.test_mlp import Linear, generator, inputs


def trained(architecture: MLP, members: int, seed: int = 0) -> Tensor:
    """States with running statistics that are not those of the start."""
    parameters = architecture.initial(members, seed)
    one = StackedMLP(architecture, parameters, torch.zeros(members))
    one(inputs(members, architecture.inputs) * 2 + 1, training=True)
    return one.state(torch.arange(members))


def expected_probabilities(
    architecture: MLP, states: Tensor, encoder: nn.Module, raw: Tensor
) -> Tensor:
    x = encoder(raw).double().mT
    size = architecture.size
    stack = StackedMLP(architecture, states[:, :size], torch.zeros(len(states)))
    stack.statistics.copy_(states[:, size:])
    logits = stack(x).detach()
    if logits.shape[1] == 1:
        logits = torch.cat((torch.zeros_like(logits), logits), dim=1)
    return logits.softmax(dim=1).mean(dim=0).T.float()


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_an_ensemble_gives_the_mean_of_its_members_probabilities(
    labels: int, batch_norm: bool
) -> None:
    outputs = Classification(labels).outputs
    architecture = MLP(4, (6, 5), outputs, "tanh", batch_norm)
    states, encoder = trained(architecture, 3), Linear(3, 2, 4)
    raw = torch.randn(9, 2, generator=generator(5), dtype=torch.float64)
    found = MLPEnsemble(encoder, architecture, states)(raw)
    assert found.dtype == torch.float32
    assert found.shape == (9, labels)
    expected = expected_probabilities(architecture, states, encoder, raw)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_saved_programs_take_any_number_of_rows_and_other_weights(tmp_path: Path) -> None:
    architecture = MLP(4, (6,), 1, "gelu", batch_norm=True)
    exporter, ensembles = Exporter((2,)), []
    for seed in range(3):
        encoder = Linear(3, 2, 4, seed)
        ensembles.append(MLPEnsemble(encoder, architecture, trained(architecture, 3, seed)))
        torch.export.save(exporter.program(ensembles[-1]), tmp_path / f"{seed}.pt2")
    for seed, ensemble in enumerate(ensembles):
        loaded = torch.export.load(tmp_path / f"{seed}.pt2").module()
        for rows in (0, 1, 2, 7, 1000):
            raw = torch.randn(rows, 2, generator=generator(rows), dtype=torch.float64)
            torch.testing.assert_close(loaded(raw), ensemble(raw), rtol=1e-5, atol=1e-6)
    assert len(exporter._programs) == 1
    other = MLPEnsemble(Linear(3, 2, 4), MLP(4, (6,), 1, "relu"), ensembles_states())
    exporter.program(other)
    assert len(exporter._programs) == 2


def test_batch_norm_makes_no_program_of_its_own() -> None:
    """It is folded into the weights: so an export asks for hidden layers and activation only."""
    exporter = Exporter((2,))
    graphs = set()
    for batch_norm in (False, True, False):
        architecture = MLP(4, (6,), 1, "relu", batch_norm)
        ensemble = MLPEnsemble(Linear(3, 2, 4), architecture, trained(architecture, 3))
        graphs.add(id(exporter.program(ensemble).graph_module))
    assert len(graphs) == 1


def ensembles_states() -> Tensor:
    return MLP(4, (6,), 1, "relu").initial(3, 0)


def test_an_archive_holds_nothing_that_needs_pickle(tmp_path: Path) -> None:
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

    ensemble = MLPEnsemble(Linear(3, 2, 4), MLP(4, (6,), 1, "relu"), ensembles_states())
    path = tmp_path / "model.pt2"
    torch.export.save(export(ensemble, (2,)), path)
    _validate_pt2_archive_is_pickle_free(str(path))
    with zipfile.ZipFile(path) as archive:
        for record in archive.namelist():
            content = archive.read(record)
            if record.endswith("_config.json"):
                tensors = json.loads(content)["config"].values()
                assert not any(tensor["use_pickle"] for tensor in tensors)
            if "/sample_inputs/" in record:
                ((example,), _) = torch.load(io.BytesIO(content), weights_only=True)
                assert not example.any()


def test_an_archive_does_not_say_where_it_was_made(tmp_path: Path) -> None:
    ensemble = MLPEnsemble(Linear(3, 2, 4), MLP(4, (6,), 1, "relu"), ensembles_states())
    path = tmp_path / "model.pt2"
    torch.export.save(export(ensemble, (2,)), path)
    folders = [str(Path(__file__).parents[2]), torch.__path__[0]]
    with zipfile.ZipFile(path) as archive:
        for record in archive.namelist():
            assert not any(folder.encode() in archive.read(record) for folder in folders)
