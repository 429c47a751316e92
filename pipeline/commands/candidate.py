"""What is scored on the test rows: the model of the final round's winner, else of the search's best
trial."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.analysis.ranking import best_trial
from pipeline.commands.final_round import retrained_winner
from pipeline.commands.job import Job
from pipeline.commands.train import Trained, retrain
from pipeline.common.errors import UserError
from pipeline.inference import TabularModel


@dataclass(frozen=True)
class Candidate:
    """The model that is scored: of the final round's winner, else of the search's best trial."""

    name: str
    trial: int  # its number in the search
    optimizer: str
    lr: float
    params: Mapping[str, Any]
    run_id: str
    model_id: str | None  # None where no model is kept
    expected: Mapping[str, float]  # by name in MLflow: cross-fitted, or of the search

    @classmethod
    def of(cls, job: Job, trained: Trained) -> "Candidate":
        """Raises UserError when no trial completed, or its model was not kept and is asked for."""
        best = best_trial(trained.trials, job.metric)
        if best is None:
            raise UserError("evaluate needs a trial that completed; the search has none")
        final = trained.final
        winner = final.evidence.winner if final is not None else None
        is_there = final is not None and (final.model_id is not None or not job.keeps_models)
        if final is None or winner is None or final.run_id is None or not is_there:
            of = best.optimizer, best.lr, best.params, best.run_id, best.model_id
            expected = {f"best_{name}": score for name, score in best.scores.items()}
            candidate = cls(best.name, best.number, *of, expected)
        else:
            of = winner.optimizer, winner.lr, winner.params, final.run_id, final.model_id
            expected = {f"cross_fitted_{name}": mean for name, mean in winner.means().items()}
            name = f"{winner.optimizer} lr={winner.lr:.2g}"
            candidate = cls(name, winner.trial, *of, expected)
        if not job.keeps_models:
            return replace(candidate, model_id=None)
        if candidate.model_id is None:
            raise UserError(
                "tracking.keep_models: must be none for a search that kept no models; to search "
                "anew: --fresh, in Python fresh=True"
            )
        return candidate

    def trained_again(self, job: Job, trained: Trained) -> TabularModel:
        """Its model, which was not kept: the networks trained once more."""
        winner = trained.evidence.winner if trained.evidence is not None else None
        again = retrained_winner if winner is not None else retrain
        ensemble, threshold = again(job, trained.trials, self.trial)
        of_two = {} if threshold is None else {"threshold": threshold}
        return TabularModel(ensemble.eval(), job.parts.schema.to_dict() | of_two)
