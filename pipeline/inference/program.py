"""Reading `model.pt2`: a graph of tensor operations and its weights, without running foreign code.

`torch.export.load` takes seconds in a new process, for it rebuilds all that a compiler would want
to know of the graph. To run the graph, its operations and weights are enough: read here, they are
there in milliseconds. An archive with anything in it that is not known here is left to torch.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .archive import checked_archive

Program = Callable[[torch.Tensor], torch.Tensor]

# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_STRIDED = 7  # torch._export.serde.schema.Layout
_SCHEMA_MAJOR = 8  # of the archive's graph, from torch 2.6 on
_PLAIN = frozenset({"as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools"})


class _UnknownError(Exception):
    """The archive holds something that this reader does not know."""


def read_program(file: Path) -> Program:
    """The program: raw [rows, columns] float64 -> probabilities [rows, labels] float32.

    Raises ModelError for an archive that holds more than a graph and tensors. What else may be
    wrong with it comes out as whatever torch or zipfile raise.
    """
    checked = checked_archive(file)
    with zipfile.ZipFile(checked) as archive:
        try:
            return _Graph(archive)
        except (_UnknownError, KeyError, TypeError, AttributeError):
            pass
    checked.seek(0)
    module: Program = torch.export.load(checked).module()
    return module


class _Graph:
    """A program on the CPU: operations of ATen, one after the other.

    What depends on weights alone is computed once, and each tensor is let go after its last use.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        root = archive.namelist()[0].partition("/")[0]
        content = json.loads(archive.read(f"{root}/models/model.json"))
        if content["schema_version"]["major"] != _SCHEMA_MAJOR:
            raise _UnknownError
        signature = content["graph_module"]["signature"]
        tensors = _tensors(archive, root, "weights/model_weights_config.json")
        tensors |= _tensors(archive, root, "constants/model_constants_config.json")
        known, self._input = _inputs(signature["input_specs"], tensors)
        (output,) = signature["output_specs"]
        self._output: str = output["user_output"]["arg"]["as_tensor"]["name"]
        self._steps: list[_Step] = []
        for node in content["graph_module"]["graph"]["nodes"]:
            if node["target"] == "torch.ops.aten._assert_tensor_metadata.default":
                continue  # a check of dtypes, which are those of the export
            step = _Step(node)
            if step.needs <= known.keys():
                known[step.name] = step.run(known)
            else:
                self._steps.append(step)
        self._known = known
        self._let_go = self._last_uses()

    def __call__(self, raw: torch.Tensor) -> torch.Tensor:
        values = {**self._known, self._input: raw}
        for step, ended in zip(self._steps, self._let_go, strict=True):
            values[step.name] = step.run(values)
            for name in ended:
                del values[name]
        return values[self._output]

    def _last_uses(self) -> list[list[str]]:
        """For each step the tensors that nothing after it needs."""
        kept = {self._output, *self._known}
        ended: list[list[str]] = []
        for step in reversed(self._steps):
            last = (step.needs | {step.name}) - kept
            ended.append(sorted(last))
            kept |= last
        return ended[::-1]


class _Step:
    """One operation: a function of ATen, where its arguments come from, and its result's name."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._operation = _operation(node["target"])
        (output,) = node["outputs"]
        self.name: str = output["as_tensor"]["name"]
        self.needs: set[str] = set()
        self._positional = [self._argument(one) for one in node["inputs"] if one["kind"] == 1]
        self._named = {
            one["name"]: self._argument(one) for one in node["inputs"] if one["kind"] != 1
        }

    def _argument(self, given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
        ((kind, value),) = given["arg"].items()
        if kind == "as_tensor":
            name = value["name"]
            self.needs.add(name)
            return lambda values: values[name]
        if kind == "as_tensors":
            names = [one["name"] for one in value]
            self.needs.update(names)
            return lambda values: [values[name] for name in names]
        constant = _constant(kind, value)
        return lambda _: constant

    def run(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        positional = [get(values) for get in self._positional]
        if not self._named:
            return self._operation(*positional)
        return self._operation(*positional, **{k: get(values) for k, get in self._named.items()})


def _constant(kind: str, value: Any) -> Any:
    if kind in _PLAIN:
        return value
    if kind == "as_none":
        return None
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_device" and value["type"] == "cpu":
        return torch.device("cpu")
    raise _UnknownError(kind)


def _operation(target: str) -> Callable[..., torch.Tensor]:
    found = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    if found is None or found[1] == "from_file":  # which would open files
        raise _UnknownError(target)
    operation: Callable[..., torch.Tensor] = getattr(getattr(torch.ops.aten, found[1]), found[2])
    return operation


def _tensors(archive: zipfile.ZipFile, root: str, config: str) -> dict[str, torch.Tensor]:
    """The tensors that a list in the archive names, as they are stored."""
    folder = f"{root}/data/{config.partition('/')[0]}"
    listed = json.loads(archive.read(f"{root}/data/{config}"))["config"]
    return {
        name: _tensor(archive.read(f"{folder}/{item['path_name']}"), item["tensor_meta"])
        for name, item in listed.items()
    }


def _tensor(content: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    dtype = _DTYPES[meta["dtype"]]
    sizes, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
    if meta["layout"] != _STRIDED or meta["storage_offset"]["as_int"] != 0:
        raise _UnknownError
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).as_strided(sizes, strides)


def _inputs(
    specs: Sequence[Mapping[str, Any]], tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """The stored tensors by their names in the graph, and the name of the rows that are given."""
    known: dict[str, torch.Tensor] = {}
    given: list[str] = []
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            given.append(content["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            known[content["arg"]["name"]] = tensors[content[f"{kind}_name"]]
        else:
            raise _UnknownError(kind)
    (rows,) = given
    return known, rows
