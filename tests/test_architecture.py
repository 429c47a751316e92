"""Imports point one way, and each library has its place."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"

# A module may import from its own layer and from those before it.
LAYERS = [
    {"errors", "interrupts", "formats", "download", "memory"},
    {"config"},
    {"values", "delimited", "tables", "streams", "scoring"},
    {"schema", "features", "folds", "prepared", "data", "model", "ensemble", "members"},
    {"update_rules", "optimizers", "batches", "inference", "fingerprint", "threads"},
    {"native"},
    {
        "record",
        "training",
        "evaluation",
        "ranking",
        "resampled",
        "comparison",
        "evidence",
        "forgiveness",
        "baselines",
        "decision",
        "calibrated",
        "out_of_fold",
        "champion",
    },
    {"trials", "space", "search", "searched", "importance", "flavor", "tracking"},
    {"report", "console"},
    {"stages"},
    {"__main__"},
]
ONLY_IN = {
    "optuna": ("search/optuna_study.py",),
    "mlflow": ("tracking/", "inference/", "flavor.py"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The module's name below `pipeline`; of a package's modules, the package's."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    """As the module is imported; a package's `__init__.py` is the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    known = {dotted(module) for module in modules()}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else node.module


def layer(name: str) -> int:
    return next(place for place, names in enumerate(LAYERS) if name in names)


def test_every_module_has_a_layer() -> None:
    named = {name for names in LAYERS for name in names}
    assert {name_of(path) for path in modules()} - {"__init__"} == named


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not list(imports(path))
        return
    own = layer(name_of(path))
    for imported in imports(path):
        if imported.startswith("pipeline."):
            assert layer(imported.split(".")[1]) <= own, f"{path.name} imports {imported}"


def test_no_two_modules_need_each_other() -> None:
    """Within a package too: `TopologicalSorter` raises CycleError with the modules of a circle."""
    graph = {dotted(path): set(imports(path)) for path in modules()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("pipeline.space") < order.index("pipeline.search.search")


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_libraries_stay_in_their_place(library: str) -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(imported.split(".")[0] == library for imported in imports(path))
    ]
    assert found
    assert [path for path in found if not path.startswith(ONLY_IN[library])] == []


def test_what_ships_with_a_model_needs_nothing_of_this_project() -> None:
    shipped = sorted((PACKAGE / "inference").glob("*.py"))
    assert shipped
    for path in shipped:
        assert not [name for name in imports(path) if name.startswith("pipeline")]


def test_what_draws_is_loaded_when_something_is_drawn() -> None:
    """It takes most of a second, and a wrong table or a search that is finished needs none."""
    code = (
        "import sys, pipeline.stages.run; print(set(sys.modules) & {'matplotlib', 'torchmetrics'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
