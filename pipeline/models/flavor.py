"""The MLflow flavor: it writes the folder of a model.

- `model.pt2`: an exported program, raw [rows, columns] float64, or arrays [rows, *shape], ->
  probabilities [rows, labels] float32. A graph and tensors; nothing in it needs an unrestricted
  pickle.
- `schema.json`: what each raw column means (see `rows.Reader`), or the shape and the dtype of
  arrays; and the labels.
- `code/tabular_model_HASH/`: a copy of the package inference. The hash of its content is in its
  name, so that models written by two versions of it load side by side in one process.
- `MLmodel`, requirements, environments and an input example, as MLflow wants them.

`mlflow.pyfunc.load_model` gives `inference.TabularModel` behind MLflow's interface, and
`mlflow.pytorch.load_model` the bare module."""

import functools
import hashlib
import json
import platform
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from pipeline import inference

WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
"""The record of an exported program's archive that says which record holds which weight."""


def save_model(
    path: str | Path,
    mlflow_model: Any = None,
    *,
    program: torch.export.ExportedProgram,
    schema: Mapping[str, Any],
    input_example: pd.DataFrame | npt.NDArray[Any],
    requirements: Sequence[str],
    validate_serving_input: bool = False,
) -> None:
    """Write a model folder at `path`, which must be empty or not exist.

    program: raw [rows, columns] float64, or arrays [rows, *shape], -> probabilities
        [rows, labels], rows a dynamic dimension.
    schema: the dictionary of schema.json, version 1.
    input_example: a few raw rows as people give them, shown in MLflow's UI and usable as a request
        to the server.
    requirements: pip requirements of the model, see `default_requirements`.
    validate_serving_input: read by `mlflow.models.Model.log`, not here. There its default is True:
        it loads the model again and predicts the example, which costs more than all the rest.

    Raises ModelError for a schema that `load` would not read, FileExistsError for a folder in use.
    """
    folder = Path(path)
    schema = dict(schema)
    inference.check_schema(schema, "schema")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")

    _save_program(program, folder / inference.PROGRAM_FILE)
    (folder / inference.SCHEMA_FILE).write_text(json.dumps(schema, indent=1), encoding="utf-8")
    sources = _loader_sources()
    module = loader_module(sources)
    (folder / "code" / module).mkdir(parents=True)
    for name, source in sources.items():
        (folder / "code" / module / name).write_bytes(source)
    for name, text in _environments(tuple(requirements)).items():
        (folder / name).write_text(text, encoding="utf-8")

    model = Model() if mlflow_model is None else mlflow_model
    model.saved_input_example_info = _save_example(input_example, schema, folder)
    model.signature = signature(schema)
    model.metadata = {"target": schema["target"]} | (
        {"inputs": schema["inputs"]}
        if "inputs" in schema
        else {"columns": {column["name"]: column["kind"] for column in schema["columns"]}}
    )
    model.add_flavor("pytorch", model_data=".", pytorch_version=str(torch.__version__), code=None)
    pyfunc.add_to_model(
        model,
        loader_module=module,
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    model.model_size_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    model.save(str(folder / "MLmodel"))


_templates: weakref.WeakKeyDictionary[torch.fx.GraphModule, dict[str, bytes | str]]
_templates = weakref.WeakKeyDictionary()
"""The records of a graph's archive by their names; instead of a weight the name of the weight."""


def _save_program(program: torch.export.ExportedProgram, file: Path) -> None:
    """As torch.export.save, which takes most of its time for the graph: done once for each graph.

    Of another program with the same graph only the weights are written anew."""
    state = program.state_dict
    parameters = set(program.graph_signature.parameters)
    for name, value in state.items():
        # In memory of its own, row by row: so each weight has a record of its own, and torch can
        # save it. (2.13 cannot save an empty tensor made from a numpy array: integer overflow.)
        weight = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
        # Whoever loads the bare module may go on training it.
        state[name] = torch.nn.Parameter(weight) if name in parameters else weight
    template = _templates.get(program.graph_module)
    if template is None:
        torch.export.save(program, file)
        _templates[program.graph_module] = _template(file, state)
        return
    with zipfile.ZipFile(file, "w") as archive:
        for record, content in template.items():
            if isinstance(content, str):
                content = state[content].detach().numpy().tobytes()
            archive.writestr(zipfile.ZipInfo(record), content)


def _template(file: Path, state: Mapping[str, torch.Tensor]) -> dict[str, bytes | str]:
    with zipfile.ZipFile(file) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    config = next(record for record in records if record.endswith(WEIGHTS_CONFIG))
    folder = config.removesuffix(WEIGHTS_CONFIG)
    return records | {
        f"{folder}data/weights/{payload['path_name']}": name
        for name, payload in json.loads(records[config])["config"].items()
        if state[name].numel() > 0
    }


def _save_example(
    example: pd.DataFrame | npt.NDArray[Any], schema: Mapping[str, Any], folder: Path
) -> dict[str, str]:
    """Write the input example as MLflow does, and give what it notes about it in MLmodel."""
    if isinstance(example, pd.DataFrame):
        frame = example[[column["name"] for column in schema["columns"]]].astype(object)
        frame = frame.where(frame.notna() & ~frame.isin([np.inf, -np.inf]), None)  # none is JSON
        split = {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}
        shown: Any = split
        request, about = {"dataframe_split": split}, {"type": "dataframe", "pandas_orient": "split"}
    else:
        shown = example.tolist()
        request, about = {"inputs": shown}, {"type": "ndarray"}
    for name, content in (("input_example.json", shown), ("serving_input_example.json", request)):
        (folder / name).write_text(json.dumps(content, default=str, indent=1), encoding="utf-8")
    return {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        **about,
    }


def signature(schema: Mapping[str, Any]) -> Any:
    """The model's `mlflow.models.ModelSignature`: outputs and parameters, no inputs.

    With inputs MLflow would check the rows first, and none of its types admits what a raw table
    holds: `double` refuses int64, `string` categories, `datetime` time zones, a tensor every dtype
    but one; its type Any costs 15 times the prediction, and with it the server takes no CSV. So the
    model alone checks, and names the column and what was expected of it."""
    labels = schema["labels"]
    label_type = {bool: "boolean", int: "long", float: "double", str: "string"}
    types = {label_type[type(label)] for label in labels}
    threshold = ParamSpec("threshold", "double", inference.default_threshold(schema))
    return ModelSignature(
        outputs=Schema(
            [ColSpec(types.pop() if len(types) == 1 else AnyType(), "prediction")]
            + [ColSpec("float", name) for name in inference.probability_names(labels)]
        ),
        params=ParamSchema([threshold]) if len(labels) == 2 else None,
    )


@functools.cache
def default_requirements() -> tuple[str, ...]:
    """What a model needs to load, at the versions installed here (without a build's +local)."""
    packages = ("mlflow", "numpy", "pandas", "torch")
    return tuple(f"{name}=={version(name).partition('+')[0]}" for name in packages)


def loader_module(sources: Mapping[str, bytes]) -> str:
    """The name that a copy of the package inference has in a model's folder."""
    digest = hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()
    return f"tabular_model_{digest[:12]}"


@functools.cache
def _loader_sources() -> dict[str, bytes]:
    """The package's files by name."""
    folder = Path(inference.__file__).parent
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.py"))}


@functools.cache
def _environments(requirements: tuple[str, ...]) -> dict[str, str]:
    """The files from which MLflow makes an environment. Written here because MLflow's own helpers
    would import the model to guess what is already given."""
    python = platform.python_version()
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": list(requirements)}],
    }
    dependencies = ["-r requirements.txt"]
    env = {"python": python, "build_dependencies": [], "dependencies": dependencies}
    return {
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "conda.yaml": yaml.safe_dump(conda, sort_keys=False),
        "python_env.yaml": yaml.safe_dump(env, sort_keys=False),
    }
