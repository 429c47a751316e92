"""Reading `model.pt2`, a graph of tensor operations and its weights, without running foreign code.

`torch.export.load` takes seconds in a new process, for it rebuilds all that a compiler would want
to know of the graph, and of a file from anywhere it runs what it finds: pickles, the texts of
shapes and guards, any function of torch by its name. So the archive is first checked to hold known
operations and plain tensors, nothing that runs. These are then read here, which takes milliseconds;
an archive that passed the check and holds something that this reader lacks is left to torch.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .rows import short

Program = Callable[[torch.Tensor], torch.Tensor]


class ModelError(Exception):
    """The folder is no model of this kind: a file is missing, damaged or of an unknown version."""


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


# What an archive may hold ------------------------------------------------------------------------

_RECORDS = re.compile(
    r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+|data/sample_inputs/model\.pt|(\.data/|data/)?[a-z_]+"
)
_OPERATIONS = """
    __and__ __or__ _assert_tensor_metadata abs add addmm alias argmax baddbmm bitwise_and
    bitwise_not bitwise_or bmm cat celu clamp clamp_max clamp_min clone contiguous cos div elu eq
    erf exp expand flatten full full_like gather ge gelu glu gt hardshrink hardsigmoid hardswish
    hardtanh index_select isfinite isinf isnan le leaky_relu linear log log1p log_sigmoid
    log_softmax logical_and logical_not logical_or lt masked_fill matmul maximum mean minimum mish
    mm movedim mul nan_to_num ne neg ones_like permute pow prelu reciprocal relu relu6 repeat
    reshape rrelu rsqrt rsub select selu sigmoid sign silu sin slice softmax softplus softshrink
    split sqrt square squeeze stack sub sum sym_size t tanh threshold to transpose unbind unsqueeze
    view where zeros_like
"""
"""Functions of tensors that a program may call: none reads a file or runs anything else."""

_WORD = re.compile(r"[\w.+]*", re.ASCII)
_CONTAINERS = re.compile(  # nested tuples, lists and dictionaries without keys
    r'([\[\]{}0-9:, ]|null|"(type|context|children_spec|null|\[\])"|"builtins\.(tuple|list|dict)")+'
)
_TEXTS = {
    "expr_str": re.compile(  # torch evaluates this as Python
        r"(Symbol\('s\d+', positive=True, integer=True\)|(Mul|Add)\(|Integer\(\d+\)|, |\))+"
    ),
    "target": re.compile(
        rf"torch\.ops\.aten\.({'|'.join(_OPERATIONS.split())})\.\w+",
        re.ASCII,
    ),
    "in_spec": _CONTAINERS,
    "out_spec": _CONTAINERS,
}
_FORBIDDEN = {"as_custom_obj", "as_graph", "as_operator", "class_fqn", "guards_code"}


def checked_archive(file: Path) -> io.BytesIO:
    """A copy of a .pt2 archive that torch.export.load can read without running code that is in it.

    Weights and constants must be plain bytes, every call one of `_OPERATIONS` and every name a
    name, since torch makes Python code of names. The example inputs and the notes on where the
    graph came from are left out. Checksums are compared, which torch does not do.
    """
    checked = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(checked, "w") as copy:
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise ModelError(f"{file}: damaged: a record is there twice")
        for entry in archive.infolist():
            record = entry.filename.partition("/")[2]
            if not _RECORDS.fullmatch(record) or entry.compress_type != zipfile.ZIP_STORED:
                raise ModelError(
                    f"{file}: the record {record!r} is none of a graph with plain tensors"
                )
            try:
                content = archive.read(entry)
            except zipfile.BadZipFile:
                raise ModelError(
                    f"{file}: damaged: the record {record!r} fails its checksum"
                ) from None
            if record.startswith("data/sample_inputs/"):
                content = b""
            elif record.endswith(".json"):
                content = json.dumps(_checked_json(json.loads(content), record)).encode()
            copy.writestr(zipfile.ZipInfo(entry.filename), content)
    checked.seek(0)
    return checked


def _checked_json(value: Any, key: str) -> Any:
    """The value, which stands under `key`, without metadata. Raises ModelError."""
    if isinstance(value, list):
        return [_checked_json(item, key) for item in value]
    if isinstance(value, dict):
        for name, below in value.items():
            forbidden = below if name in _FORBIDDEN else name == "use_pickle" and below is not False
            if forbidden or not _WORD.fullmatch(name):
                raise ModelError(f"the program's {short(name)} is none of a graph of tensors")
        return {
            name: {} if name == "metadata" else _checked_json(below, name)
            for name, below in value.items()
        }
    if isinstance(value, str) and not _TEXTS.get(key, _WORD).fullmatch(value):
        raise ModelError(f"the program's {key} {short(value)} is none of a graph of tensors")
    return value


# The graph of a checked archive ------------------------------------------------------------------

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
        tensors = {}
        for folder in (f"{root}/data/weights", f"{root}/data/constants"):
            config = f"{folder}/model_{folder.rpartition('/')[2]}_config.json"
            for name, item in json.loads(archive.read(config))["config"].items():
                stored = archive.read(f"{folder}/{item['path_name']}")
                tensors[name] = _tensor(stored, item["tensor_meta"])
        self._constants, self._input = _inputs(signature["input_specs"], tensors)
        (output,) = signature["output_specs"]
        self._output: str = output["user_output"]["arg"]["as_tensor"]["name"]
        self._steps: list[_Step] = []
        for node in content["graph_module"]["graph"]["nodes"]:
            if node["target"] == "torch.ops.aten._assert_tensor_metadata.default":
                continue  # a check of dtypes, which are those of the export
            step = _Step(node)
            if step.needs <= self._constants.keys():
                self._constants[step.name] = step.run(self._constants)
            else:
                self._steps.append(step)
        self._last_uses = self._find_last_uses()

    def __call__(self, raw: torch.Tensor) -> torch.Tensor:
        values = {**self._constants, self._input: raw}
        for step, unused in zip(self._steps, self._last_uses, strict=True):
            values[step.name] = step.run(values)
            for name in unused:
                del values[name]
        return values[self._output]

    def _find_last_uses(self) -> list[list[str]]:
        """For each step the tensors that nothing after it needs."""
        needed_later = {self._output, *self._constants}
        last_uses: list[list[str]] = []
        for step in reversed(self._steps):
            last = (step.needs | {step.name}) - needed_later
            last_uses.append(sorted(last))
            needed_later |= last
        return last_uses[::-1]


class _Step:
    """One operation: a function of ATen, where its arguments come from, and its result's name."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        name, overload = node["target"].split(".")[-2:]
        self._operation = getattr(getattr(torch.ops.aten, name), overload)
        (output,) = node["outputs"]
        self.name: str = output["as_tensor"]["name"]
        self.needs: set[str] = set()
        self._positional: list[_Argument] = []
        self._named: dict[str, _Argument] = {}
        for argument in node["inputs"]:
            read = self._argument(argument["arg"])
            if argument["kind"] == 1:
                self._positional.append(read)
            else:
                self._named[argument["name"]] = read

    def _argument(self, content: Mapping[str, Any]) -> "_Argument":
        ((kind, value),) = content.items()
        if kind == "as_tensor":
            name = value["name"]
            self.needs.add(name)
            return lambda values: values[name]
        if kind == "as_tensors":
            names = [item["name"] for item in value]
            self.needs.update(names)
            return lambda values: [values[name] for name in names]
        constant = _constant(kind, value)
        return lambda _: constant

    def run(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        positional = [argument(values) for argument in self._positional]
        named = {name: argument(values) for name, argument in self._named.items()}
        result: torch.Tensor = self._operation(*positional, **named)
        return result


_Argument = Callable[[Mapping[str, torch.Tensor]], Any]
"""An operation's argument, from the tensors that have been computed."""


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


def _tensor(content: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    dtype = _DTYPES[meta["dtype"]]
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    if meta["layout"] != _STRIDED or meta["storage_offset"]["as_int"] != 0:
        raise _UnknownError
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).as_strided(sizes, strides)


def _inputs(
    specs: Sequence[Mapping[str, Any]], tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """The stored tensors by their names in the graph, and the name of the rows that are given."""
    stored: dict[str, torch.Tensor] = {}
    row_inputs: list[str] = []
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            row_inputs.append(content["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            stored[content["arg"]["name"]] = tensors[content[f"{kind}_name"]]
        else:
            raise _UnknownError(kind)
    (rows,) = row_inputs
    return stored, rows
