import subprocess
import sys

from pipeline.commands import NAMES
from pipeline.config import check
from pipeline.models.activations import ACTIVATIONS


def test_the_names_are_those_of_the_rooms_that_own_them() -> None:
    assert NAMES["model.activation"] == tuple(ACTIVATIONS)
    assert NAMES["search.objective"] == ("val_accuracy", "val_loss")


def test_each_name_stands_at_a_key_whose_default_is_one() -> None:
    flat = check({"data": {"source": "a.csv", "target": "y"}}).flat()
    for path, words in NAMES.items():
        assert flat[path] in words


def test_names_are_there_before_torch_and_mlflow() -> None:
    code = "import sys, pipeline.commands; print({'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
