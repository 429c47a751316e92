"""What requirements.txt names, and what that brings along, is all that the package imports."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OPTIONAL = {"psutil", "openpyxl"}  # asked for where somebody wants what needs them

PROGRAM = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
"""


def _brought(names: list[str]) -> set[str]:
    """The distributions, and all that they require, by their normalised names."""
    found: set[str] = set()
    while names:
        name = re.sub("[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            required = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:  # for another system
            continue
        names += [r.name for r in required if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def test_every_module_is_imported_without_anything_else() -> None:
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    brought = _brought(list(pins))
    others = {
        package
        for package, owners in metadata.packages_distributions().items()
        if not brought & {re.sub("[-_.]+", "-", owner).lower() for owner in owners}
    } - {
        "pip",
        "setuptools",
        "pkg_resources",
        "_distutils_hack",
        "distutils-precedence",
        "pipeline",
    }
    assert {"pytest", "hypothesis"} <= others
    command = [sys.executable, "-c", PROGRAM, ",".join(others | OPTIONAL)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
