"""A search as one study of Optuna."""

import optuna

from pipeline.search.search import Search
from tests.toy_search import RICH, make, run


def test_the_study_holds_all_trials_for_optunas_plots() -> None:
    search = Search(make(**RICH, sampler="gp", trials=24))
    run(search)
    study = search.study
    assert [trial.number for trial in study.trials] == list(range(24))
    assert [trial.state.name for trial in study.trials] == [told.state for told in search.told]
    assert search.best is not None
    assert study.best_trial.number == search.best.number
    assert study.trials[2].params["optimizer"] == "Adam [2]"
    for plot in ("optimization_history", "slice", "intermediate_values"):
        assert getattr(optuna.visualization, f"plot_{plot}")(study).data
