"""`registry.onnx`: the registered model as an ONNX file in its folder, for those without Python."""

import contextlib
import io
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.common.errors import RunError, UserError

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-5
"""How far a probability may be from the graph's: ONNX Runtime sums in another order."""


def check_packages() -> None:
    """Raises UserError naming the packages that are not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"registry.onnx: needs {', '.join(PACKAGES)}; not installed: {', '.join(missing)} "
            f"(pip install {' '.join(missing)})"
        )


def write(program: Path, raw: np.ndarray, folder: Path) -> Path:
    """Write `model.onnx` into a folder: raw float64 [rows, columns] -> probabilities float32.

    Args:
        program: the model's `model.pt2`.
        raw: rows to compare both on.

    Raises:
        UserError: packages are missing.
        RunError: the file gives other probabilities than the program.
    """
    check_packages()
    exported = torch.export.load(program)
    file = folder / FILE
    with _quiet():
        made = torch.onnx.export(exported, verbose=False)
        assert made is not None
        made.save(str(file), include_initializers=True)
    _compare(exported.module(), file, raw)
    return file


def _compare(module: Any, file: Path, raw: np.ndarray) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    for rows in (raw, raw[:1]):
        with torch.inference_mode():
            expected = module(torch.from_numpy(rows)).numpy()
        (found,) = session.run(None, {name: rows})
        off = float(np.abs(found - expected).max(initial=0.0))
        if found.shape != expected.shape or not off <= TOLERANCE:
            raise RunError(
                f"registry.onnx: the ONNX file's probabilities differ from the model's by {off:.2g}"
            )


@contextlib.contextmanager
def _quiet() -> Any:
    """torch reports every optional package that it did not find."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
