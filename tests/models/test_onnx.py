"""The ONNX file beside a model: what it gives is what the model gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from pipeline import __main__ as command_line
from pipeline.common.errors import RunError, UserError
from pipeline.data.encoding import Encoder
from pipeline.data.schema import Schema
from pipeline.models import export as exporting
from pipeline.models.export import MLPEnsemble, export
from pipeline.models.mlp import MLP
from pipeline.models.task import Classification
from tests.small_model import COLUMNS, RAW, make_schema


def program(labels: int, path: Path, seed: int = 0, temperature: float | None = None) -> Path:
    schema = Schema.from_dict({**make_schema(list(range(labels))), "columns": COLUMNS})
    encoder = Encoder.fit(
        torch.tensor(RAW, dtype=torch.float64), schema, [torch.arange(4), torch.arange(2)]
    )
    outputs = Classification(labels).outputs
    architecture = MLP(schema.width, (6,), outputs)
    states = torch.randn((2, architecture.size), generator=torch.Generator().manual_seed(seed))
    ensemble = MLPEnsemble(encoder, architecture, states, temperature)
    torch.export.save(export(ensemble, (len(COLUMNS),)), path)
    return path


@pytest.mark.slow  # torch takes seconds for a conversion
@pytest.mark.parametrize("temperature", [None, 1.7])
@pytest.mark.parametrize("labels", [2, 3])
def test_the_same_probabilities(tmp_path: Path, labels: int, temperature: float | None) -> None:
    for name in exporting.ONNX_PACKAGES:
        pytest.importorskip(name)
    import onnxruntime

    path = program(labels, tmp_path / "model.pt2", temperature=temperature)
    raw = np.array(RAW)
    file = exporting.write_onnx(path, raw, tmp_path)
    assert file.name == "model.onnx"
    session = onnxruntime.InferenceSession(str(file))
    (found,) = session.run(None, {session.get_inputs()[0].name: np.tile(raw, (5, 1))})
    expected = torch.export.load(path).module()(torch.from_numpy(np.tile(raw, (5, 1))))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_file_that_differs(tmp_path: Path) -> None:
    for name in exporting.ONNX_PACKAGES:
        pytest.importorskip(name)
    exporting.write_onnx(program(2, tmp_path / "model.pt2"), np.array(RAW), tmp_path)
    other = torch.export.load(program(2, tmp_path / "other.pt2", seed=1)).module()
    with pytest.raises(RunError, match=r"registry\.onnx: .* differ"):
        exporting._compare(other, tmp_path / "model.onnx", np.array(RAW))


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "ONNX_PACKAGES", ("onnx", "surely_not_installed"))
    with pytest.raises(UserError, match=r"not installed: .*surely_not_installed"):
        exporting.check_onnx_packages()


SETTINGS = """
experiment: small
data: {source: "sklearn:iris", target: target}
validation: {folds: 2, final: {folds: 2, repeats: 1}}
model: {hidden: [4]}
training: {epochs: 5}
search: {trials: 2, sampler: random}
registry: {onnx: true}
"""


@pytest.mark.slow
def test_a_registered_model_has_it(
    tmp_path: Path, new_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in exporting.ONNX_PACKAGES:
        pytest.importorskip(name)
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    Path("small.yaml").write_text(SETTINGS)
    assert command_line.main(["run", "--config", "small.yaml"]) == 0
    (file,) = tmp_path.glob("mlruns/*/models/*/artifacts/model.onnx")
    session = onnxruntime.InferenceSession(str(file))
    rows = load_iris().data
    (found,) = session.run(None, {session.get_inputs()[0].name: rows})
    program = torch.export.load(file.with_name("model.pt2")).module()
    np.testing.assert_allclose(found, program(torch.from_numpy(rows)).detach(), atol=1e-6)
