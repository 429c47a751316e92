"""The package installed with pip, away from the clone."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pipeline import __main__ as command_line
from pipeline.common.errors import UserError
from pipeline.config import load
from pipeline.config.shipped import path_of, shipped

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow  # pip makes an environment to build in
def test_the_wheel_holds_all_that_is_in_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipeline").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".DS_Store"
    }
    assert files <= names
    assert {f"pipeline/configs/{path.name}" for path in (ROOT / "configs").glob("*")} <= names


@pytest.mark.slow
def test_the_command_runs_beside_a_file_of_the_packages_name(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "env"], cwd=tmp_path, check=True)
    (site,) = (tmp_path / "env").glob("lib/**/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    binary = tmp_path / "env" / "bin"
    install = [binary / "python", "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(install, cwd=tmp_path, check=True)
    (tmp_path / "pipeline.py").write_text("raise SystemExit('somebody else's')")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [binary / "optimizer-search", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert call("--version").stdout.split() == ["optimizer-search", "0.1.0"]
    few = ["search.trials=3", "training.epochs=3"]
    done = call("run", "--config", "breast-cancer", "--set", *few)
    assert done.returncode == 0, done.stderr
    assert "test rows, which the search never saw" in done.stdout
    assert (tmp_path / "mlflow.db").exists()
    again = call("run", "--config", "breast-cancer", "--set", *few)
    assert "Nothing to do" in again.stdout
    wrong = call("run", "--config", "breast-cancr")
    assert wrong.returncode == 2
    assert "did you mean 'breast-cancer'" in wrong.stderr


def test_the_version_is_that_of_the_change_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["--version"])
    version = capsys.readouterr().out.split()[1]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_shipped_configuration_is_read_by_its_name() -> None:
    names = shipped()
    assert {"default", "breast-cancer", "quick", "water", "lecture", "images"} <= names.keys()
    for name, path in names.items():
        assert path_of(name) == str(path)
        assert load(path).experiment in names
    assert path_of("no/such.yaml") == "no/such.yaml"
    with pytest.raises(UserError, match="did you mean 'default'"):
        path_of("defaut")
