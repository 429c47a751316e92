"""What `model.pt2` may hold: a graph of known operations and plain tensors, nothing that runs."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from .rows import short


class ModelError(Exception):
    """The folder is no model of this kind: a file is missing, damaged or of an unknown version."""


_RECORDS = re.compile(
    r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+|data/sample_inputs/model\.pt|(\.data/|data/)?[a-z_]+"
)
_OPERATIONS = (
    "__and__|__or__|_assert_tensor_metadata|abs|add|addmm|alias|argmax|baddbmm|bitwise_and|"
    "bitwise_not|bitwise_or|bmm|cat|clamp|clamp_max|clamp_min|clone|contiguous|div|elu|eq|erf|"
    "exp|expand|flatten|full|full_like|gather|ge|gelu|gt|index_select|isfinite|isinf|isnan|le|"
    "leaky_relu|linear|log|log_softmax|logical_and|logical_not|logical_or|lt|masked_fill|"
    "matmul|maximum|mean|minimum|mm|movedim|mul|nan_to_num|ne|neg|ones_like|permute|pow|"
    "reciprocal|relu|repeat|reshape|rsqrt|rsub|select|sigmoid|silu|slice|softmax|softplus|"
    "split|sqrt|squeeze|stack|sub|sum|sym_size|t|tanh|to|transpose|unbind|unsqueeze|view|where|"
    "zeros_like"
)
"""Functions of tensors that a program may call: none reads a file or runs anything else."""

_WORD = re.compile(r"[\w.+]*", re.ASCII)
_TEXTS = {
    # torch evaluates this as Python
    "expr_str": re.compile(
        r"(Symbol\('s\d+', positive=True, integer=True\)|(Mul|Add)\(|Integer\(\d+\)|, |\))+"
    ),
    "target": re.compile(rf"torch\.ops\.aten\.({_OPERATIONS})\.\w+", re.ASCII),
    # nested tuples, lists and dictionaries without keys
    "in_spec": re.compile(
        r'([\[\]{}0-9:, ]|null|"(type|context|children_spec|null|\[\])"'
        r'|"builtins\.(tuple|list|dict)")+'
    ),
}
_TEXTS["out_spec"] = _TEXTS["in_spec"]
_FORBIDDEN = {"as_custom_obj", "as_graph", "as_operator", "class_fqn", "guards_code"}


def checked_archive(file: Path) -> io.BytesIO:
    """A copy of a .pt2 archive that torch.export.load can read without running code that is in it.

    Of a file from anywhere torch would run pickles, evaluate the texts of shapes and guards, call
    any function of torch by its name and make Python code out of names. So weights and constants
    must be plain bytes, every call one of `_OPERATIONS` and every name a name; the example inputs
    and the notes on where the graph came from are left out. Nor does torch compare checksums.
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
        return [_checked_json(one, key) for one in value]
    if isinstance(value, dict):
        for name, below in value.items():
            refused = (name in _FORBIDDEN and below) or (
                name == "use_pickle" and below is not False
            )
            if refused or not _WORD.fullmatch(name):
                raise ModelError(f"the program's {short(name)} is none of a graph of tensors")
        return {
            name: {} if name == "metadata" else _checked_json(below, name)
            for name, below in value.items()
        }
    if isinstance(value, str) and not _TEXTS.get(key, _WORD).fullmatch(value):
        raise ModelError(f"the program's {key} {short(value)} is none of a graph of tensors")
    return value
