"""Programs of people's networks: read quickly or left to torch, they say what the network says."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.inference import ModelError, program
from pipeline.inference.program import read_program


class OneIsWritten(nn.Module):
    """Into what does not depend on the rows."""

    def forward(self, raw: Tensor) -> Tensor:
        total = torch.zeros(2, dtype=raw.dtype)
        total += raw[:, :2].sum(0)
        return torch.softmax((raw[:, :2] + total).float(), dim=1)


class AViewIsWritten(nn.Module):
    """What is read afterwards is computed from what was written into by another name."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.linspace(-1, 1, 6).view(2, 3))

    def forward(self, raw: Tensor) -> Tensor:
        weights = self.get_buffer("weights").clone()
        weights[0].copy_(raw[0])
        return torch.softmax(raw[:, :2].float() + weights.exp().sum(dim=1), dim=1)


class NothingIsGiven(nn.Module):
    """By an operation without outputs: it writes into what it is given."""

    def forward(self, raw: Tensor) -> Tensor:
        parts = [torch.zeros_like(raw[:, :1]), torch.zeros_like(raw[:, 1:])]
        torch.split_with_sizes_copy(raw, [1, 2], 1, out=parts)
        return torch.softmax(parts[1].float(), dim=1)


class NumbersAreNotFinite(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        logits = raw.nan_to_num(0.5, float("inf"), -float("inf")).float()
        return torch.softmax(logits.masked_fill(torch.tensor([False, True, True]), -torch.inf), 1)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
        self.layers = nn.Sequential(first, nn.ReLU(inplace=True), nn.Linear(4, 2), nn.SiLU(True))

    def forward(self, raw: Tensor) -> Tensor:
        return torch.softmax(self.layers(raw.float()), dim=1)


NETWORKS = [OneIsWritten, AViewIsWritten, NothingIsGiven, NumbersAreNotFinite, InPlace]


def saved(network: nn.Module, folder: Path) -> Path:
    example = (torch.zeros((2, 3), dtype=torch.float64),)
    rows = ({0: torch.export.Dim("rows")},)
    file = folder / "model.pt2"
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=rows), file)
    return file


def rewritten(file: Path, name: str, change: Any) -> None:
    """One record of the archive, the first whose name ends so, changed."""
    with zipfile.ZipFile(file) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    record = next(record for record in records if record.endswith(name))
    records[record] = change(records[record])
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in records.items():
            archive.writestr(each, content)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_each_call_is_as_the_network_itself(network: type[nn.Module], tmp_path: Path) -> None:
    module = network().eval()
    read = read_program(saved(module, tmp_path))
    assert type(read).__name__ == "Program"
    for seed, rows in enumerate((5, 1, 7)):
        raw = torch.randn(
            rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        assert torch.equal(read(raw), module(raw))


@pytest.mark.parametrize("error", [IndexError, ValueError, RuntimeError, NotImplementedError])
def test_what_cannot_be_read_here_is_left_to_torch(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> Any:
        raise error

    monkeypatch.setattr(program, "_program", fails)
    module, raw = InPlace().eval(), torch.ones(4, 3, dtype=torch.float64)
    read = read_program(saved(module, tmp_path))
    assert type(read).__name__ == "GraphModule"
    assert torch.equal(read(raw), module(raw))


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_weights_cut_short_are_damage(kept: int, tmp_path: Path) -> None:
    """Of a record of nothing torch would make zeros."""
    file = saved(InPlace(), tmp_path)
    rewritten(file, "weights/weight_0", lambda content: content[:kept])
    with pytest.raises(ModelError, match=r"model\.pt2: damaged: .* cut short"):
        read_program(file)


@pytest.mark.parametrize(
    "function", ["manual_seed.default", "seed.default", "set_grad_enabled.default", "save.default"]
)
def test_settings_of_the_process_are_not_touched(function: str, tmp_path: Path) -> None:
    def call(content: bytes) -> bytes:
        graph = json.loads(content)
        graph["graph_module"]["graph"]["nodes"][0]["target"] = f"torch.ops.aten.{function}"
        return json.dumps(graph).encode()

    file = saved(NothingIsGiven(), tmp_path)
    rewritten(file, "models/model.json", call)
    with pytest.raises(ModelError, match=f"{function}' is none of a graph of tensors"):
        read_program(file)
