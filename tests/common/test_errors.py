from pipeline.common.errors import UserError, did_you_mean, nearest


def test_one_problem_or_several() -> None:
    assert UserError("a").problems == ("a",)
    assert str(UserError(["a", "b"])) == "a\nb"


def test_nearest_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("ADAM", ["Adam", "SGD"]) == "Adam"
    assert nearest("xyz", ["Adam", "SGD"]) is None
    assert did_you_mean("epoch", ["epochs", "patience"]) == "; did you mean 'epochs'?"
    assert did_you_mean("q", ["epochs"]) == ""
