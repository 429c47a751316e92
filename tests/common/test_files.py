import hashlib
import os
from pathlib import Path

import pytest

from pipeline.common.files import beside, file_digest, memory_limit, whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("before")
    with whole(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("half")
        assert path.read_text() == "before"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def _interrupted(path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_nothing_is_left_of_what_is_cut_short(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "t")
    with whole(tmp_path / "t"):
        pass  # nothing written, no file
    assert list(tmp_path.iterdir()) == []


def test_each_has_a_hidden_name_of_its_own() -> None:
    names = {beside(Path("a/t.csv")).name for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith(".t.csv.") for name in names)


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(content := os.urandom(3_000_000))
    assert file_digest(tmp_path / "t") == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="to compare with")
def test_memory_is_not_more_than_the_machine_has() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < memory_limit() <= total
