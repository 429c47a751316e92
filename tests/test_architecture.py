"""The house has twelve rooms, imports point one way, and each library has its place."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"

# A room may import from itself and from those before it.
ROOMS = (
    "common",
    "config",
    "inference",
    "data",
    "models",
    "optimizers",
    "training",
    "search",
    "tracking",
    "analysis",
    "report",
    "commands",
)
STRANGERS = {"search", "tracking"}
"""Two rooms that know nothing of each other."""

ONLY_IN = {
    "optuna": ("search/optuna_study.py",),
    "ray": ("training/ray_engine.py",),
    # inference/ names MLflow's error for bad input, where MLflow has loaded it.
    "mlflow": ("tracking/", "models/flavor.py", "inference/"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """As the module is imported; a package's `__init__.py` is the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> Iterator[str]:
    known = {dotted(module) for module in modules()}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else node.module


def test_there_are_twelve_rooms_and_two_doors() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*ROOMS, "__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    if path.parent == PACKAGE:
        return
    own = dotted(path)
    for imported in imports(path):
        if imported.startswith("pipeline."):
            found = room(imported)
            assert ROOMS.index(found) <= ROOMS.index(room(own)), f"{own} imports {imported}"
            assert {found, room(own)} != STRANGERS, f"{own} imports {imported}"


def test_no_two_modules_need_each_other() -> None:
    """Within a room too: `TopologicalSorter` raises CycleError with the modules of a circle."""
    graph = {dotted(path): set(imports(path)) for path in modules()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("pipeline.search.space") < order.index("pipeline.search.search")


def test_no_two_files_share_a_name() -> None:
    names = Counter(path.name for path in modules() if not path.name.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


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


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("pipeline.config", {"torch", "mlflow", "numpy", "pandas", "sklearn"}),
        # What draws takes most of a second; a wrong table or a finished search needs none of it.
        ("pipeline.commands.run", {"matplotlib", "torchmetrics"}),
    ],
)
def test_what_is_slow_to_import_is_loaded_when_it_is_needed(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
