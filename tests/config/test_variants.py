from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.config.variants import variants

TEXT = 'data: {source: "sklearn:iris", target: target}\nmodel: {hidden: [8]}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b.yaml", "with blank.yaml"):
        Path(name).write_text(TEXT)


def names(*arguments):
    return [variant.name for variant in variants(*arguments)]


def test_patterns_and_several_files_in_one_text():
    assert names(["*.yaml"], []) == ["a", "b", "with blank"]
    assert names(["b.yaml a.yaml", "[ab].yaml"], []) == ["b", "a"]
    assert names(["with blank.yaml"], []) == ["with blank"]


def test_every_combination_of_the_values():
    found = names(["a.yaml"], ["seed=0..1", "model.hidden=[[4], [8, 8]]", "training.epochs=3"])
    assert found == [
        f"a, seed={seed}, model.hidden={hidden}" for seed in (0, 1) for hidden in ("[4]", "[8, 8]")
    ]
    found = variants(["a.yaml"], ["seed=0..1", "model.hidden=[[4], [8, 8]]", "training.epochs=3"])
    assert [v.config.seed for v in found] == [0, 0, 1, 1]
    assert {v.config.training.epochs for v in found} == {3}


def test_a_list_that_the_key_takes_is_its_value():
    (found,) = variants(["a.yaml"], ["model.hidden=[16, 8]"])
    assert found.config.model.hidden == (16, 8)
    assert found.settings == {}


def test_shipped_ones_by_name_and_names_that_no_shell_takes() -> None:
    assert [v.config.experiment for v in variants(["quick a.yaml"], [])][1] == "optimizer-search"
    Path("it's.yaml").write_text(TEXT)
    assert names(["it's.yaml"], []) == ["it's"]


def test_settings_hold_no_secrets() -> None:
    key = "data.source=['https://me:topsecret@host/a.csv?sig=topsecret', b.csv]"
    with pytest.raises(UserError) as caught:
        variants(["a.yaml"], [key])
    assert "topsecret" not in str(caught.value)
    found = variants(["a.yaml"], ["data.source=['https://host/a.csv?sig=topsecret', b.csv]"])
    assert "topsecret" not in "".join(variant.name for variant in found)
    assert found[0].config.data.source.endswith("sig=topsecret")


@pytest.mark.parametrize(
    ("files", "overrides", "message"),
    [
        (["c.yaml"], [], "c.yaml: no such file"),
        (["x*.yaml"], [], "matches no file"),
        (["a.yaml"], ["seeds=[1, 2]"], "did you mean 'seed'"),
        (["a.yaml"], ["seed=0..99", "training.epochs=1..200"], "at most 10,000"),
        (["a.yaml"], ["seed"], "KEY=VALUE"),
        (["a.yaml"], ["seed=0..99999999999999"], "at most 10,000"),
        ([""], [], "needs a configuration"),
        (["a.yaml"], ["seed=[1, 2"], "--set seed"),
        (["it's gone.yaml"], [], "no such file"),
        (["x" * 5000], [], "cannot be read"),
        (["quik"], [], "did you mean 'quick'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(files, overrides, message):
    with pytest.raises(UserError, match=message.replace("*", r"\*")):
        variants(files, overrides)
