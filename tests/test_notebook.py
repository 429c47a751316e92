"""examples/notebook.ipynb runs, and what is stored of its last run says nothing of any machine.

`python -m tests.test_notebook` runs it and stores what came out.
"""

import os
import platform
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "notebook.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook as it is after it ran in a folder."""
    notebook = nbformat.read(FILE, 4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return notebook


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell shows: the kinds of its outputs."""
    return [
        [
            kind
            for output in cell.get("outputs", [])
            for kind in sorted(output.get("data", [output.get("name", output.output_type)]))
        ]
        for cell in notebook.cells
    ]


def said(cell: nbformat.NotebookNode) -> list[str]:
    """The lines that a cell wrote to its streams."""
    streams = (output.get("text", "") for output in cell.get("outputs", []))
    return [line for text in streams for line in text.splitlines()]


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """The text of each cell's outputs, without pictures."""
    return [
        "".join(
            str(output.get("text", "")) + str({**output.get("data", {}), "image/png": ""})
            for output in cell.get("outputs", [])
        )
        for cell in notebook.cells
    ]


def test_it_runs_and_shows_what_is_stored(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_store}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook, stored = executed(tmp_path), nbformat.read(FILE, 4)
    assert shown(notebook) == shown(stored)
    assert "8 of 8 trials" in "".join(texts(notebook))
    assert "Warning" not in "".join(texts(notebook))
    lines = [line for cell in notebook.cells for line in said(cell)]
    assert 4 <= len(lines) <= 9, "no flood of lines"


def test_what_is_stored_names_no_machine() -> None:
    stored = "".join(texts(nbformat.read(FILE, 4)))
    assert "did best" in stored
    paths = re.findall(r"(?<![\w<:/.])/(?:work|home|root|tmp|Users|usr|var|mnt)\b[^\s'\"]*", stored)
    assert paths == []
    assert platform.node() not in stored
    assert "sqlite:" not in stored


def main() -> None:
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        nbformat.write(executed(Path(folder)), FILE)


if __name__ == "__main__":
    main()
