import json
import math
import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config.yaml_text import (
    LARGEST_FILE,
    Location,
    decode,
    flow_text,
    nearest,
    parse,
    resolve,
    text_of,
)


def read(text: str) -> Any:
    problems: list[str] = []
    value, _ = parse(text, lambda line: f"x.yaml:{line}", problems)
    assert problems == []
    return value


def problems_of(text: str) -> list[str]:
    problems: list[str] = []
    try:
        parse(text, lambda line: f"x.yaml:{line}", problems)
    except UserError as error:
        problems.extend(error.problems)
    return problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("0b11", "0b11"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("tRuE", "tRuE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("None", "None"),
        ("2024-02-30", "2024-02-30"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("٣", "٣"),
        ("=", "="),
    ],
)
def test_plain_scalars_by_the_core_schema(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_not_a_number_and_endless_integers() -> None:
    assert math.isnan(resolve(".nan"))  # type: ignore[arg-type]
    assert resolve("-" + "9" * 10_000) == -math.inf


def test_quotes_and_the_string_tag_keep_text() -> None:
    assert read("""[ '1', "true", !!str 1e5, '' ]""") == ["1", "true", "1e5", ""]


def test_keys_are_text() -> None:
    assert read("on: 1\n1: 2\n? null\n: 3\n") == {"on": 1, "1": 2, "null": 3}


def test_anchors() -> None:
    text = "a: &a {x: 1, y: 2}\nb: [&b 3, *b]\nd: *a\n"
    assert read(text) == yaml.safe_load(text)


def test_every_node_knows_its_line() -> None:
    text = "a: 1\nb:\n  - x:\n      1\n  - &n {y: 2,\n     z: 3}\nc: *n\n"
    _, places = parse(text, str, [])
    ways: list[Location]
    ways = [("a",), ("b",), ("b", 0, "x"), ("b", 1), ("b", 1, "z"), ("c",), ("c", "z")]
    assert [nearest(places, way) for way in ways] == ["1", "2", "3", "5", "6", "7", "6"]
    assert nearest(places, ("b", 7, "q")) == "2"
    assert nearest(places, ("missing",)) == "1"
    assert nearest({}, ("missing",)) == ""


@pytest.mark.parametrize(
    ("text", "line", "substance"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "b.c: a key must be given once; it stands in line 3"),
        ("a: [{b: 1}, {c: 1, c: 2}]\n", 1, "a.1.c: a key must be given once"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "2002:python/object/apply:os.system"),
        ("a: 1\nb: !!int 3\n", 2, "tags are not read; got tag:yaml.org,2002:int"),
        ("a: !mine {b: 1}\n", 1, "got !mine"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "cannot start any token"),
        ("a: 'x\n", 2, "not YAML"),
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("a: 1\n---\nb: 2\n", 2, "expected a single document"),
        ("a: *b\n", 1, "found undefined alias 'b'"),
        ("a: &a [*a]\n", 1, "must nest at most 32 deep"),
        ("a: " + "[" * 2000, 1, "must nest at most 32 deep"),
        ("? [1, 2]\n: 3\n", 1, "a key must be text"),
        ("a: 1\nb: \x07\n", 2, "the character U+0007"),
        ("a: " + "[" * 50 + "]" * 50, 1, "must nest at most 32 deep"),
        ("a: %x\n", 1, "not YAML"),
        ('a: 1\nb: "\\ud800"\n', 2, "a character that does not exist"),
        ('a: 1\nb:\n  - "\\ud83d"\n\n\n  - 4\n', 3, "a character that does not exist"),
        ('"\\ud83d": 4\n', 1, "a character that does not exist"),
        ('a: 1\nb: "\\U00110000"\n', 2, "a character that does not exist"),
        ('a: 1\nb: "\\Uffffffff"\n', 2, "a character that does not exist"),
    ],
)
def test_what_cannot_be_read(text: str, line: int, substance: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"x.yaml:{line}: ")
    assert substance in problem


def test_alias_bombs_are_bounded() -> None:
    wide = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    assert "at most 20000 values" in problems_of(wide)[0]
    deep = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60))
    assert "at most 32 deep" in problems_of(deep)[0]


def test_nothing_to_read() -> None:
    for text in ("", "\n\n", "# only a comment\n", "---\n"):
        assert parse(text, str, [])[0] is None


def test_bytes_become_text() -> None:
    assert decode("\ufeffä: 1\n".encode(), "x.yaml") == "ä: 1\n"
    with pytest.raises(UserError, match=r"x.yaml:2: must be UTF-8; got the byte 0xE4"):
        decode("a: 1\nb: ä\n".encode("latin-1"), "x.yaml")
    with pytest.raises(UserError, match="must be UTF-8"):
        decode("a: 1\n".encode("utf-16"), "x.yaml")
    with pytest.raises(UserError, match="at most 256 KiB"):
        decode(b" " * (LARGEST_FILE + 1), "x.yaml")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text(
    string.digits + "eEoxfnul~.:-+_,[]{}#&*!|>'\"%@`? \n\t", max_size=8
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | texts
)
finite = scalars.filter(lambda value: value not in (math.inf, -math.inf))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(
    st.recursive(scalars.filter(lambda x: x not in (math.inf, -math.inf)), st.lists, max_leaves=9)
)
def test_reads_json_as_json_does(value: Any) -> None:
    assert read("a: " + json.dumps(value)) == {"a": json.loads(json.dumps(value))}


@settings(max_examples=60)
@given(values)
def test_one_line_round_trip(value: Any) -> None:
    text = flow_text(value)
    assert "\n" not in text
    assert read(f"a: {text}\n") == {"a": value}


@settings(max_examples=60)
@given(st.dictionaries(texts, values, min_size=1, max_size=4))
def test_block_round_trip(mapping: dict[str, Any]) -> None:
    text = text_of(mapping)
    assert read(text) == mapping
    assert yaml.safe_load(text) == mapping  # the readers of YAML 1.1 agree


@settings(max_examples=60)
@given(st.text(string.printable + "äß\u2028\x85", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(problem.startswith("x.yaml:") for problem in problems_of(text))
