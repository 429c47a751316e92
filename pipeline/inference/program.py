"""Reading `model.pt2`, a graph of tensor operations and its weights, without running foreign code.

`torch.export.load` takes seconds in a new process, for it rebuilds all that a compiler would want
to know of the graph, and of a file from anywhere it runs what it finds: pickles, the texts of
shapes and guards, any function of torch by its name. So the archive is first checked to hold known
operations and plain tensors, nothing that runs. These are then read here, which takes milliseconds;
an archive that passed the check and holds something that this reader lacks is left to torch."""

import io
import json
import operator
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from .rows import short

Program = Callable[[torch.Tensor], torch.Tensor]


class ModelError(Exception):
    """The folder is no model of this kind: a file is missing, damaged or of an unknown version."""


def read_program(file: Path) -> Program:
    """The program: raw [rows, columns] float64 -> probabilities [rows, labels] float32. Raises
    ModelError for an archive that holds more than a graph and tensors. What else may be wrong with
    it comes out as whatever torch or zipfile raise."""
    records = checked_records(file)
    try:
        return _program(records)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except Exception:  # something that this reader does not know, or damage, which torch will name
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w") as copy:
            for name, content in records.items():
                copy.writestr(zipfile.ZipInfo(name), content)
        checked.seek(0)
        module: Program = torch.export.load(checked).module()
        return module


_RECORDS = re.compile(
    r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+|data/sample_inputs/model\.pt|(\.data/|data/)?[a-z_]+"
)
_REFUSED = "from_file|set_?|resize_?|resize_as_?|resize_as_sparse_?|as_strided_|record_stream"
_REFUSED += "|save|set_data|seed|manual_seed|set_grad_enabled"
_PRIVATE = (
    "__and__|__or__|__xor__|_assert_tensor_metadata|_softmax|_log_softmax|_unsafe_view|_to_copy"
    "|_weight_norm|_native_multi_head_attention|_transformer_encoder_layer_fwd"
)
"""Functions of ATen that a program may not call: files, memory that is not its own, settings of the
process. Others only compute; of those that torch has for itself (with a `_`) it may call a few."""

_WORD = re.compile(r"[\w.+]*", re.ASCII)
_CONTAINERS = re.compile(  # nested tuples, lists and dictionaries without keys
    r'([\[\]{}0-9:, ]|null|"(type|context|children_spec|null|\[\])"|"builtins\.(tuple|list|dict)")+'
)
_TEXTS = {
    "expr_str": re.compile(  # torch evaluates this as Python
        r"(Symbol\('s\d+', positive=True, integer=True\)|"
        r"(Mul|Add|Min|Max|Mod|PythonMod|FloorDiv|CleanDiv)\(|Integer\(-?\d+\)|, |\))+"
    ),
    "target": re.compile(
        rf"torch\.ops\.aten\.(?!({_REFUSED})\.)([A-Za-z]\w*|{_PRIVATE})\.\w+"
        r"|_operator\.(add|sub|mul|floordiv|mod|neg)",  # of sizes
        re.ASCII,
    ),
    "as_string": re.compile(r"[\w.,> -]*", re.ASCII),
    "as_float": re.compile("-?Infinity|NaN"),
    "in_spec": _CONTAINERS,
    "out_spec": _CONTAINERS,
}
_FORBIDDEN = {"as_custom_obj", "as_graph", "as_operator", "class_fqn", "guards_code"}


def checked_records(file: Path) -> dict[str, bytes]:
    """The records of a .pt2 archive by their names, fit for torch.export.load: no code that is in
    them runs. Weights and constants must be plain bytes, every call one that only computes and
    every name a name, since torch makes Python code of names. The example inputs and the notes on
    where the graph came from are left out. Checksums are compared, which torch does not do."""
    records: dict[str, bytes] = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename in records:
                raise ModelError(f"{file}: damaged: a record is there twice")
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
            records[entry.filename] = content
    return records


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


# torch._export.serde.schema.ScalarType
_DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64}
_DTYPES |= {6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool}
_DTYPES |= {13: torch.bfloat16}
_STRIDED = 7  # torch._export.serde.schema.Layout
_SCHEMA_MAJOR = 8  # of the archive's graph, from torch 2.6 on
_PLAIN = ("as_int", "as_ints", "as_floats", "as_bool", "as_bools", "as_string")
_MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}


def _program(records: Mapping[str, bytes]) -> Program:
    """The program, on the CPU. What depends on weights alone is computed here, once, unless an
    operation writes into what is there: then all is computed in its order each time."""
    root = next(iter(records)).partition("/")[0]
    content = json.loads(records[f"{root}/models/model.json"])
    if content["schema_version"]["major"] != _SCHEMA_MAJOR:
        raise KeyError("schema_version")
    tensors = {}
    for folder in (f"{root}/data/weights", f"{root}/data/constants"):
        config = f"{folder}/model_{folder.rpartition('/')[2]}_config.json"
        for name, item in json.loads(records[config])["config"].items():
            stored = records[f"{folder}/{item['path_name']}"]
            tensors[name] = _tensor(stored, item["tensor_meta"])
    signature, graph = content["graph_module"]["signature"], fx.Graph()
    values: dict[str, Any] = {}  # by name: tensors and sizes, or nodes where rows decide them
    for spec in signature["input_specs"]:
        ((kind, item),) = spec.items()
        if kind == "user_input":
            values[item["arg"]["as_tensor"]["name"]] = graph.placeholder("raw")
        else:
            values[item["arg"]["name"]] = tensors[item[f"{kind}_name"]]
    steps = content["graph_module"]["graph"]["nodes"]
    operations = [_operation(step["target"]) for step in steps]
    writes = any(f._schema.is_mutable for f in operations if hasattr(f, "_schema"))
    constants: dict[str, torch.Tensor] = {}

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        name = f"constant_{len(constants)}"
        constants[name] = value
        return graph.get_attr(name)

    def call(operation: Callable[..., Any], positional: Sequence[Any], named: Any) -> Any:
        nodes: list[fx.Node] = []
        fx.node.map_arg((positional, named), nodes.append)
        if not nodes and not writes:
            return operation(*positional, **named)
        given = fx.node.map_aggregate((tuple(positional), named), placed)
        return graph.call_function(operation, *given)

    for node, operation in zip(steps, operations, strict=True):
        if operation is torch.ops.aten._assert_tensor_metadata.default:
            continue  # a check of dtypes, which are those of the export
        read = [(each["kind"], each["name"], _read(each["arg"], values)) for each in node["inputs"]]
        positional = [value for kind, _, value in read if kind == 1]
        named = {name: value for kind, name, value in read if kind != 1}
        result = call(operation, positional, named)
        outputs = [value for output in node["outputs"] for value in output.values()]
        is_list = any("as_tensors" in output for output in node["outputs"])
        names = [o.get("name") or o["as_name"] for o in (outputs[0] if is_list else outputs)]
        parts = enumerate(names) if is_list or len(names) > 1 else ()
        values |= dict.fromkeys(names, result)
        values |= {name: call(operator.getitem, (result, i), {}) for i, name in parts}
    (output,) = signature["output_specs"]
    graph.output(placed(values[output["user_output"]["arg"]["as_tensor"]["name"]]))
    return fx.GraphModule(constants, graph, class_name="Program")


def _operation(target: str) -> Any:
    """An operation of ATen, or of sizes, by its name, such as `torch.ops.aten.add.Tensor`."""
    name, overload = target.split(".")[-2:]
    home = operator if name == "_operator" else getattr(torch.ops.aten, name)
    return getattr(home, overload)


def _read(content: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An operation's argument, from the tensors and sizes that there are."""
    ((kind, value),) = content.items()
    if kind in ("as_tensor", "as_sym_int") and "as_int" not in value:
        return values[value.get("name") or value["as_name"]]
    if kind in ("as_tensors", "as_sym_ints", "as_optional_tensors"):
        of_each = {"as_tensors": "as_tensor", "as_sym_ints": "as_sym_int"}.get(kind)
        return [_read({of_each: item} if of_each else item, values) for item in value]
    return _CONSTANTS[kind](value)


_CONSTANTS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_PLAIN, lambda value: value),
    "as_float": float,  # of text where it is not finite
    "as_sym_int": lambda value: value["as_int"],
    "as_memory_format": lambda value: _MEMORY[value],
    "as_layout": lambda value: {_STRIDED: torch.strided}[value],
    "as_none": lambda value: None,
    "as_scalar_type": lambda value: _DTYPES[value],
    "as_device": lambda value: {"cpu": torch.device("cpu")}[value["type"]],
}


def _tensor(content: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    dtype = _DTYPES[meta["dtype"]]
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    if meta["layout"] != _STRIDED or meta["storage_offset"]["as_int"] != 0:
        raise KeyError("storage")
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    reach = 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if len(content) < reach * dtype.itemsize:  # of nothing at all torch would make zeros
        raise ModelError("damaged: a tensor of the program is cut short")
    return torch.frombuffer(bytearray(content), dtype=dtype).as_strided(sizes, strides)
