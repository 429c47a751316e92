"""The ONNX file beside a model: what it gives is what the model gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import RunError, UserError
from pipeline.features import Encoder
from pipeline.model import Architecture, Ensemble, export
from pipeline.schema import Schema
from pipeline.stages import onnx_file
from tests.small_model import COLUMNS, RAW, make_schema


def program(labels: int, path: Path, seed: int = 0) -> Path:
    schema = Schema.from_dict({**make_schema(list(range(labels))), "columns": COLUMNS})
    encoder = Encoder.fit(
        torch.tensor(RAW, dtype=torch.float64), schema, [torch.arange(4), torch.arange(2)]
    )
    outputs = Architecture.outputs_for(labels)
    architecture = Architecture(schema.width, (6,), outputs)
    states = torch.randn((2, architecture.size), generator=torch.Generator().manual_seed(seed))
    torch.export.save(export(Ensemble(encoder, architecture, states), len(COLUMNS)), path)
    return path


@pytest.mark.slow  # torch takes seconds for a conversion
@pytest.mark.parametrize("labels", [2, 3])
def test_the_same_probabilities(tmp_path: Path, labels: int) -> None:
    for name in onnx_file.PACKAGES:
        pytest.importorskip(name)
    import onnxruntime

    path = program(labels, tmp_path / "model.pt2")
    raw = np.array(RAW)
    file = onnx_file.write(path, raw, tmp_path)
    assert file.name == "model.onnx"
    session = onnxruntime.InferenceSession(str(file))
    (found,) = session.run(None, {session.get_inputs()[0].name: np.tile(raw, (5, 1))})
    expected = torch.export.load(path).module()(torch.from_numpy(np.tile(raw, (5, 1))))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_file_that_differs(tmp_path: Path) -> None:
    for name in onnx_file.PACKAGES:
        pytest.importorskip(name)
    onnx_file.write(program(2, tmp_path / "model.pt2"), np.array(RAW), tmp_path)
    other = torch.export.load(program(2, tmp_path / "other.pt2", seed=1)).module()
    with pytest.raises(RunError, match=r"registry\.onnx: .* differ"):
        onnx_file._compare(other, tmp_path / "model.onnx", np.array(RAW))


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "surely_not_installed"))
    with pytest.raises(UserError, match=r"not installed: .*surely_not_installed"):
        onnx_file.check_packages()
