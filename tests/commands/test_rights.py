"""A server with users and rights: what somebody may not do is said before anything is trained."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.commands.test_by_hand import SETTINGS
from tests.servers import free_port, serving

pytestmark = pytest.mark.slow  # starts a server

ROOT = Path(__file__).parents[2]
ADMIN = ("admin", "a password of 12 signs")
USER = ("anna", "another long password")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address. Anna may see everything, and make experiments and models of her own."""
    pytest.importorskip("flask_wtf")
    port = free_port()
    (tmp_path / "server").mkdir()
    settings = tmp_path / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\ngrant_default_workspace_access = false\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\nadmin_username = {ADMIN[0]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(settings))
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", ADMIN[1])
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server/mlflow.db"]
    command = ["mlflow", "server", "--app-name", "basic-auth", "--port", str(port), *store]
    with serving([*command, "--workers", "1"], port, folder=tmp_path / "server"):
        address = f"http://127.0.0.1:{port}"
        made = dict(zip(("username", "password"), USER, strict=True))
        call(address, "users/create", ADMIN, made)
        yield address


def call(address: str, path: str, who: tuple[str, str], content: dict[str, str]) -> None:
    answer = requests.post(f"{address}/api/2.0/mlflow/{path}", json=content, auth=who, timeout=60)
    assert answer.ok, answer.text


def start(folder: Path, address: str, *overrides: str) -> tuple[int, str]:
    (folder / "quick.yaml").write_text(SETTINGS)
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    environment = {**os.environ, **dict(zip(names, USER, strict=True)), "PYTHONPATH": str(ROOT)}
    environment |= {"MLFLOW_TRACKING_URI": address}
    argv = ["run", "--config", "quick.yaml", "--set", *overrides]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *argv],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_rights_are_tried_before_training(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with contextlib.suppress(AssertionError):  # what anybody may do, where the server has that
        call(server, "registered-models/create", ADMIN, {"name": "others"})
    status, said = start(folder, server, "registry.name=others")
    assert status == 2
    assert "does not let you make or change the registered model 'others'" in said
    assert "ask for the permission EDIT" in said
    assert " of 2 trials" not in said
    status, said = start(folder, server)
    assert status == 0, said
    assert "Version 1 of quick is @champion" in said
    status, said = start(folder, server)
    assert status == 0, said
    assert "Nothing to do" in said
    call(server, "experiments/create", ADMIN, {"name": "theirs"})
    status, said = start(folder, server, "experiment=theirs", "registry.name=quick")
    assert status == 2
    assert "does not let you write to the experiment 'theirs'; ask for the permission EDIT" in said
