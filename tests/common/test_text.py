import pytest

from pipeline.common import text as formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_duration(seconds, text):
    assert formats.duration(seconds) == text


def test_numbers():
    assert formats.percent(0.68934) == "68.9 %"
    assert formats.percent(None) == formats.number(None) == "–"
    assert formats.number(0.0031622) == "0.00316"
    assert formats.number(1e-7) == "1e-07"
    assert formats.count(1, "trial") == "1 trial"
    assert formats.count(1508, "row") == "1,508 rows"


def test_words():
    assert formats.listing(["a"]) == "a"
    assert formats.listing(["a", "b", "c"]) == "a, b and c"
    assert formats.shorten("abcdef", 4) == "abc…"
    assert formats.shorten("abcd", 4) == "abcd"


def test_the_first_few_and_how_many_more():
    assert formats.some(["a", 1]) == "'a', 1"
    assert formats.some([]) == ""
    assert formats.some(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert formats.some(range(1208)) == "0, 1, 2, 3, 4, 5, 6, 7, and 1,200 more"
    assert formats.few(["a", "b"], 2) == ["a", "b"]
    assert formats.few(["a", "b"], 1) == ["a", "and 1 more"]
    assert formats.few(["a", "b"], 2, total=9) == ["a", "b", "and 7 more"]


def test_printable_leaves_nothing_that_acts():
    assert formats.printable("a\x1b[31m\nb\u202ec\tü日") == "a\\x1b[31m\\nb\\u202ec\\tü日"
