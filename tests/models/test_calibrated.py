import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris

from pipeline.data.encoding import Encoder
from pipeline.data.schema import Column, Schema
from pipeline.data.splits import make_splits
from pipeline.models.calibration import tempered
from pipeline.models.export import Exporter, MLPEnsemble
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Settings
from tests.training.test_loop import member


def _trained(table):
    x, y = table(return_X_y=True)
    y = y.astype(np.int64)
    labels = tuple(range(int(y.max()) + 1))
    schema = Schema(tuple(Column(str(i), "number") for i in range(x.shape[1])), "y", labels)
    splits = make_splits(y, 3, 2, 0.2, 0)
    raw = torch.from_numpy(x)
    encoder = Encoder.fit(raw, schema, [torch.from_numpy(split.training) for split in splits])
    inputs = encoder(torch.from_numpy(x)).detach()
    arrays = Arrays(inputs, torch.from_numpy(y), splits, Classification(len(labels)))
    members = [member(i, "Adam", {"lr": 0.01}, epochs=4, hidden=(6,)) for i in range(6)]
    fits = fit(arrays, members, Settings())
    states = torch.stack([one.weights for one in fits])
    return raw, encoder, arrays.architecture(members[0].model, members[0].training), states


@pytest.mark.parametrize("table", [load_breast_cancer, load_iris])
def test_the_temperature_is_in_the_graph(table):
    raw, encoder, architecture, states = _trained(table)
    plain = MLPEnsemble(encoder, architecture, states)(raw).detach().numpy()
    exporter = Exporter(raw.shape[1:])
    for temperature in (0.5, 1.7):  # one program, the temperature swapped in
        ensemble = MLPEnsemble(encoder, architecture, states, temperature)
        program = exporter.program(ensemble)
        found = program.module()(raw).detach().numpy()
        np.testing.assert_allclose(found, tempered(plain, temperature), atol=2e-6)
    assert len(exporter._programs) == 1


def test_certain_networks_give_no_nan():
    raw, encoder, architecture, states = _trained(load_breast_cancer)
    ensemble = MLPEnsemble(encoder, architecture, states * 1e4, 0.05)
    found = ensemble(raw)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(len(raw)))


@pytest.mark.parametrize("table", [load_breast_cancer, load_iris])
def test_a_certain_module_can_be_trained_further(table):
    raw, encoder, architecture, states = _trained(table)
    ensemble = MLPEnsemble(encoder, architecture, states * 1e4, 1.7)
    plain = MLPEnsemble(encoder, architecture, states * 1e4)(raw).numpy()
    assert (plain == 0).any()
    module = Exporter(raw.shape[1:]).program(ensemble).module()
    np.testing.assert_allclose(module(raw).numpy(), tempered(plain, 1.7), atol=2e-6)
    for parameter in module.parameters():
        parameter.requires_grad_()
    module(raw)[:, 0].clamp(min=1e-7).log().mean().backward()
    for parameter in module.parameters():
        assert torch.isfinite(parameter.grad).all()
