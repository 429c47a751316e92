"""Objects by their path: found, found again after a change, and refused with the nearest name."""

from pathlib import Path

import pytest
import torch

from pipeline.common import imports
from pipeline.common.errors import UserError


def refusal(path: str) -> str:
    with pytest.raises(UserError) as error:
        imports.load(path, "model.name")
    (problem,) = error.value.problems
    return problem


def test_of_a_package():
    assert imports.load("torch.nn.Linear", "model.name") is torch.nn.Linear


def test_of_a_file_once_and_again_after_a_change(tmp_path: Path):
    file = tmp_path / "nets.py"
    file.write_text("class Net: size = 1\n")
    first = imports.load(f"{file}:Net", "model.name")
    assert imports.load(f"{file}:Net", "model.name") is first
    file.write_text("class Net: size = 2\n")
    assert imports.load(f"{file}:Net", "model.name").size == 2


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path):
    (tmp_path / "layers_beside.py").write_text("WIDTH = 3\n")
    file = tmp_path / "nets.py"
    file.write_text("from layers_beside import WIDTH\n")
    assert imports.load(f"{file}:WIDTH", "model.name") == 3


def test_a_relative_file_is_found_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text("class Net: pass\n")
    assert imports.load("nets.py:Net", "model.name").__name__ == "Net"
    problem = refusal("net.py:Net")
    assert problem == (
        f"model.name: net.py: no such file (looked in {tmp_path}); did you mean 'nets.py'?"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("class Nets: pass\n", "has no 'Net'; did you mean 'Nets'?"),
        ("x = 1\nclass Net(:\n", ":2: SyntaxError: invalid syntax"),
        ("import torch\n\nwidth = torch.zeros(2) @ torch.zeros(3)\n", ":3: RuntimeError: "),
        ("import not_there_at_all\n", ":1: ModuleNotFoundError: No module named"),
    ],
)
def test_a_file_that_does_not_serve(tmp_path: Path, content: str, said: str):
    (tmp_path / "nets.py").write_text(content)
    assert said in refusal(f"{tmp_path}/nets.py:Net")


def test_packages_that_do_not_serve():
    assert refusal("torch.nn.Linera").endswith("has no 'Linera'; did you mean 'Linear'?")
    assert "there is no module 'not_there'; is it installed?" in refusal("not_there.nn.Net")
    assert "torch has no 'not_there'" in refusal("torch.not_there.Net")


def test_what_a_class_has() -> None:
    assert imports.load("torch.nn.Embedding.from_pretrained", "model.name") == (
        torch.nn.Embedding.from_pretrained
    )


def test_a_script_that_ends_the_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    file = tmp_path / "script.py"
    assert refusal(f"{file}:Net") == f"model.name: {file}:2: SystemExit: 0"
