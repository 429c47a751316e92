import pytest

from pipeline.common.errors import UserError, did_you_mean, first_line, nearest, refuse


def test_one_problem_or_several() -> None:
    assert UserError("a").problems == ("a",)
    assert str(UserError(["a", "b"])) == "a\nb"


def test_nearest_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("ADAM", ["Adam", "SGD"]) == "Adam"
    assert nearest("xyz", ["Adam", "SGD"]) is None
    assert did_you_mean("epoch", ["epochs", "patience"]) == "; did you mean 'epochs'?"
    assert did_you_mean("q", ["epochs"]) == ""


def test_all_problems_are_refused_at_once() -> None:
    refuse([])
    with pytest.raises(UserError) as caught:
        refuse(["a", "b"])
    assert caught.value.problems == ("a", "b")


def test_first_line() -> None:
    assert first_line(ValueError("\n a\nb")) == "a"
    assert first_line(ValueError(" ")) == "ValueError"
