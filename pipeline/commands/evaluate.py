"""The last stage: the test rows, opened for the model that was chosen, and the registry, where it
takes the champion's place or not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline import inference
from pipeline.analysis import baselines, evaluation, plausibility
from pipeline.analysis.comparison import Floats, MeanDifference, by_fold, search_overlap
from pipeline.analysis.evaluation import Evaluation, ModelComparison, ModelPredictions
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.ranking import best_trial, completed
from pipeline.analysis.rare_labels import by_label
from pipeline.analysis.reliance import reliance
from pipeline.commands.final_round import retrained_winner
from pipeline.commands.job import Job
from pipeline.commands.train import Trained, retrain
from pipeline.common.addresses import masked
from pipeline.common.errors import UserError, first_line
from pipeline.common.text import count, listing, number, percent
from pipeline.data.encoding import encoder_for
from pipeline.data.prepared import Rows, load_test, load_training
from pipeline.inference import InputError, ModelError, TabularModel
from pipeline.models.metrics import ACCURACY, on_test_rows, with_objective
from pipeline.report import descriptions
from pipeline.report.words import NOT_KEPT, warnings
from pipeline.tracking.registry import downloaded, register
from pipeline.tracking.runs import Run
from pipeline.tracking.versions import Version, find_version

Alias = Literal["champion", "challenger"]

_NO_BETTER = "it does not beat always answering the most frequent label"
_LONGEST_LABEL = 200  # characters, in the name of a metric


@dataclass(frozen=True)
class Candidate:
    """The model that is scored: of the final round's winner, else of the search's best trial."""

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
        final, model_id = trained.final, best.model_id
        of = best.number, best.optimizer, best.lr, best.params, best.run_id
        expected = {f"best_{name}": score for name, score in best.scores.items()}
        winner = final.evidence.winner if final is not None else None
        if final is not None and winner is not None and final.run_id is not None:
            of = winner.trial, winner.optimizer, winner.lr, winner.params, final.run_id
            expected = {f"cross_fitted_{name}": mean for name, mean in winner.means().items()}
            model_id = final.model_id
        if job.keeps_models and model_id is None:
            raise UserError(
                "tracking.keep_models: must be none for a search that kept no models; to search "
                "anew: --fresh, in Python fresh=True"
            )
        return cls(*of, model_id if job.keeps_models else None, expected)

    def trained_again(self, job: Job, trained: Trained) -> TabularModel:
        """Its model, which was not kept: the networks trained once more."""
        winner = trained.evidence.winner if trained.evidence is not None else None
        again = retrained_winner if winner is not None else retrain
        ensemble, threshold = again(job, trained.trials, self.trial)
        of_two = {} if threshold is None else {"threshold": threshold}
        return TabularModel(ensemble.eval(), job.parts.schema.to_dict() | of_two)


@dataclass(frozen=True)
class Promotion:
    """Which alias the new version gets, and why, as the end of a sentence."""

    alias: Alias
    why: str
    comparison: ModelComparison | None = None


@dataclass(frozen=True)
class Evaluated:
    """The scores on the test rows, and what was registered; None: no model is kept."""

    candidate: Candidate
    evaluation: Evaluation
    evidence: Evidence | None
    metrics: dict[str, float | None]
    registered: tuple[Version, Promotion] | None

    @property
    def uri(self) -> str:
        """What people load: the alias, which follows the best version; "": nothing."""
        if self.registered is None:
            return ""
        version, promotion = self.registered
        return f"models:/{version.name}@{promotion.alias}"

    @property
    def sentence(self) -> str:
        """What became of the model, and why."""
        if self.registered is None:
            return NOT_KEPT
        version, promotion = self.registered
        return (
            f"Version {version.version} of {version.name} is @{promotion.alias}: {promotion.why}."
        )


def evaluate(job: Job, parent: Run, trained: Trained) -> Evaluated:
    """Score the chosen model on the test rows and register it, as a child of the pipeline's run.

    An evaluation that was cut short, or whose outcome the pipeline's run did not get any more, is
    taken up again in its run.

    Raises UserError when no trial completed."""
    from pipeline.report import figures  # slow to import

    candidate = Candidate.of(job, trained)
    before = job.store.child(parent, "evaluate")
    if before is not None and before.info.status == "FINISHED":
        same = before.data.tags.get("best.run_id") == candidate.run_id and not job.store.launcher
        before = before if same else None
    name = f"{candidate.optimizer} lr={candidate.lr:.2g}"
    job.console.say("evaluate: the test rows, then the report")
    with job.stage("evaluate", name, before, parent) as run:
        test = job.data_set("test")
        run.inputs((test, "testing"))
        training, rows = load_training(job.parts), load_test(job.parts)
        others = _baselines(job, training, rows)
        evaluation, predictions = _score(job, candidate, trained, rows, others["majority label"])
        apart = plausibility.shift(training, rows, job.parts.schema, job.config.seed)
        evaluation = replace(evaluation, shift=apart)
        for warning in warnings(evaluation):
            job.console.warn(warning)
        values: dict[str, float | None] = dict(evaluation.scores.by_name)
        values |= {"rows": evaluation.scores.n, "shift_auc": apart.auc if apart else None}
        values |= _by_label(evaluation, job.parts.schema.labels)
        metrics = {f"test_{name}": value for name, value in values.items()}
        run.metrics(metrics, model_id=candidate.model_id, data=test)
        judged = with_objective(job.metric)
        baseline_scores = {n: baselines.score(each, rows.y, judged) for n, each in others.items()}
        for model, scores in baseline_scores.items():
            run.metrics({f"test_{baselines.key(model)}_{key}": v for key, v in scores.items()})
        plots = figures.evaluation_figures(evaluation, job.parts.schema.labels)
        job.drawn.update(plots)
        run.figures({name: plot.drawn for name, plot in plots.items()})
        doubt = _doubt(trained.evidence, evaluation)
        registered = _promoted(job, run, candidate, evaluation, predictions, rows, doubt)
        run.tags({"best.run_id": candidate.run_id})
    evidence = trained.evidence
    if evidence is not None:
        models = (replace(m, test_scores=baseline_scores[m.name]) for m in evidence.baselines)
        evidence = replace(evidence, baselines=tuple(models))
    return Evaluated(candidate, evaluation, evidence, metrics, registered)


def _promoted(
    job: Job,
    run: Run,
    candidate: Candidate,
    evaluation: Evaluation,
    predictions: ModelPredictions,
    rows: Rows,
    doubt: str,
) -> tuple[Version, Promotion] | None:
    """Register the candidate and say so on the run; None where no model is kept."""
    if candidate.model_id is None:
        run.describe(descriptions.markdown(_outcome(job, candidate, evaluation, NOT_KEPT)))
        return None
    promotion = promote(job, candidate.model_id, predictions, rows, doubt)
    if (comparison := promotion.comparison) is not None:
        values = {"accuracy": comparison.old_accuracy, "mcnemar_p": comparison.p_value}
        values |= {"loss_difference": comparison.loss_difference}
        values |= {"loss_difference_low": comparison.low, "loss_difference_high": comparison.high}
        run.metrics({f"champion_{name}": value for name, value in values.items()})
    ending = f"@{promotion.alias}: {promotion.why}."
    description = descriptions.markdown(_outcome(job, candidate, evaluation, ending))
    schema, said = job.parts.schema, {ACCURACY.name, job.metric.name}
    version = register(
        job.store,
        candidate.model_id,
        job.config.registry.name,
        description=f"{description}\n\n{descriptions.inputs_text(schema)}",
        tags={
            "optimizer": candidate.optimizer,
            "lr": candidate.lr,
            **{f"test_{n}": v for n, v in evaluation.scores.by_metric.items() if n in said},
            **candidate.expected,
            "fingerprint": job.fingerprint,
            "train.sha256": job.parts.digests["train"],
        },
        model_description=job.model_description,
        alias=promotion.alias,
    )
    run.describe(description)
    tags = {"version": str(version.version), "uri": version.uri, "alias": promotion.alias}
    run.tags({f"model.{name}": text for name, text in tags.items()})
    return version, promotion


def _doubt(evidence: Evidence | None, evaluation: Evaluation) -> str:
    """Why the model is not to serve, as the end of a sentence; "": it may."""
    beats = evidence.beats_majority if evidence is not None else None
    if beats is None and (majority := evaluation.majority) is not None:
        beats = "better" in (majority.by_accuracy, majority.by_loss)
    if not beats:
        return _NO_BETTER
    for gap in evaluation.gaps:
        if gap.is_worse:
            text = gap.metric.text
            scores = f"{text(gap.test)} where {text(gap.expected)} was to be expected"
            return f"its test {gap.metric.words} is worse than cross-validation allows ({scores})"
    return ""


def promote(
    job: Job, model_id: str, predictions: ModelPredictions, rows: Rows, doubt: str = ""
) -> Promotion:
    """The candidate's, by its predictions for the test rows beside the champion's for the same.

    It takes over only where it is better by more than luck, so evaluating again ends in the same
    aliases. A champion that cannot be scored on these rows, because there is none, it does not
    load, or the table has other columns or labels by now, is replaced: `@champion` is what serves
    this table. Where there is a doubt, only a comparison can make the candidate the champion, and
    one that is no better than the most frequent label never becomes it."""
    name = job.config.registry.name
    old = find_version(job.store.client, name)
    if old is not None and old.model_id == model_id:
        return Promotion("champion", "it was that already")
    alias: Alias = "challenger" if doubt else "champion"
    if old is None:
        return Promotion(alias, f"{doubt}{', and ' if doubt else ''}there was no champion")
    if doubt == _NO_BETTER:
        return Promotion(alias, f"{doubt}; version {old.version} stays")
    failure = "does not load"
    try:
        with downloaded(job.store.client, old.uri) as folder:
            model = inference.load(folder)
        failure = "is of another table"
        others = predictions_of(model, rows, job.parts.schema.labels)
    except (UserError, ModelError, InputError, OSError) as error:
        reason = f"{failure}: {str(error).splitlines()[0]}{'; but ' if doubt else ''}{doubt}"
        return Promotion(alias, f"version {old.version}, the one before, {reason}")
    clusters = rows.dependence.clusters
    comparison = evaluation.compare_models(predictions, others, rows.y, clusters)
    why = _why(comparison, old)
    if old.tags.get("train.sha256") not in (None, job.parts.digests["train"]):
        why += "; that one was trained on other rows, perhaps on some of these"
    alias = "champion" if comparison.outcome == "better" else "challenger"
    return Promotion(alias, why, comparison)


def predictions_of(model: TabularModel, rows: Rows, labels: Sequence[Any]) -> ModelPredictions:
    """A model's for raw test rows, with its own threshold; label ids are those of `labels`.

    Raises:
        InputError: the rows lack a column, or one is of another kind.
        UserError: the model knows other labels."""
    others = list(model.schema["labels"])
    if {(type(label), label) for label in others} != {(type(label), label) for label in labels}:
        ours, theirs = (listing([str(label) for label in each]) for each in (labels, others))
        raise UserError(f"its labels are {theirs}, those of the table {ours}")
    given = rows.given()
    probabilities = model.probabilities(given)
    predicted = model.predict(given)["prediction"].tolist()
    ids = {label: place for place, label in enumerate(labels)}
    label_ids = np.array([ids[label] for label in predicted])
    return ModelPredictions(label_ids, probabilities[:, [others.index(label) for label in labels]])


def _score(
    job: Job, candidate: Candidate, trained: Trained, rows: Rows, majority: Floats
) -> tuple[Evaluation, ModelPredictions]:
    """The scores, with what makes them believable or not."""
    if candidate.model_id is None:
        model = candidate.trained_again(job, trained)
    else:
        try:
            with downloaded(job.store.client, f"models:/{candidate.model_id}") as folder:
                model = inference.load(folder)
        except ModelError as error:
            raise UserError(f"model {candidate.model_id}: {first_line(error)}") from error
    probabilities = model.scores(rows.raw)
    threshold = inference.default_threshold(model.schema)
    labels = inference.decide(probabilities, threshold)
    predictions, clusters = ModelPredictions(labels, probabilities), rows.dependence.clusters
    ageing = trained.evidence.ageing if trained.evidence is not None else None
    how = threshold, clusters, ageing, on_test_rows(job.config)
    scores = evaluation.score(probabilities, rows.y, *how)
    most_frequent = ModelPredictions(majority.argmax(axis=1), majority)
    return replace(
        evaluation.evaluate(probabilities, rows.y, scores),
        gaps=tuple(_gaps(job, trained, probabilities, rows)),
        majority=evaluation.compare_models(predictions, most_frequent, rows.y, clusters),
        by_label=by_label(scores.confusion, job.parts.counts["train"]),
        reliance=reliance(model, rows, job.parts.schema, job.metric, job.config.seed),
    ), predictions


def _gaps(
    job: Job, trained: Trained, probabilities: npt.NDArray[Any], rows: Rows
) -> Iterator[plausibility.Gap]:
    """Test scores that are not to be expected: by the final round, else by the search."""
    how, evidence = job.config.validation, trained.evidence
    if evidence is not None and (winner := evidence.winner) is not None:
        together = job.config.registry.model == "ensemble"
        expected = winner.ensemble if together else winner.means()
        scores, overlapping, estimates = winner.scores, evidence.overlap, 1
        folds = evidence.folds
    elif (best := best_trial(trained.trials, job.metric)) is not None:
        expected, scores, estimates = best.scores, best.fold_scores, len(completed(trained.trials))
        overlapping, folds = search_overlap(job.config, job.parts), how.folds
    else:
        return
    for metric in dict.fromkeys((ACCURACY, job.metric)):
        values = by_fold(scores.get(metric.name, np.empty(0)), folds, how.order is not None)
        if len(values) > 1 and np.isfinite(values).all():  # else nothing says how sure they are
            estimate = replace(MeanDifference.of(values, overlapping), mean=expected[metric.name])
            of_test = probabilities, rows.y, rows.dependence.clusters
            about = job.parts.rows["train"], *of_test, estimates
            if (gap := plausibility.gap(metric, estimate, *about)) is not None:
                yield gap


def _by_label(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, float | None]:
    """Precision and recall by names that MLflow takes; where two would be one, with a number."""
    values: dict[str, float | None] = {}
    for each in evaluation.by_label:
        name = re.sub(r"[^\w.\- :]", "_", str(labels[each.label]))[:_LONGEST_LABEL]
        name = f"{name}_{each.label}" if f"recall_{name}" in values else name
        values |= {f"precision_{name}": each.precision, f"recall_{name}": each.recall}
    return values


def _baselines(job: Job, training: Rows, rows: Rows) -> dict[baselines.Name, Floats]:
    """Test probabilities of the models that are no networks, trained on all training rows."""
    schema = job.parts.schema
    shape = len(training.y), schema.width, schema.classes
    names = [name for name in baselines.NAMES if baselines.affordable(name, *shape)]
    x, x_test = (np.empty((len(y), 0)) for y in (training.y, rows.y))
    if len(names) > 1:  # the majority label needs no inputs
        every = [torch.arange(len(training.y))]
        encoder = encoder_for(torch.from_numpy(training.raw), schema, every, as_columns=True)
        x, x_test = (part.encoded(encoder)[0].numpy() for part in (training, rows))
    data = x, training.y, x_test, schema.classes
    predicted = baselines.in_threads(lambda name: baselines.probabilities(name, *data), names)
    return dict(zip(names, predicted, strict=True))


def _outcome(job: Job, candidate: Candidate, evaluation: Evaluation, ending: str) -> str:
    """What the model is, how it did and what became of it; what is doubtful first."""
    scores = evaluation.scores
    doubts = "".join(f"{warning} " for warning in warnings(evaluation))
    return (
        f"{doubts}{candidate.optimizer} with learning rate {number(candidate.lr)}, the best of "
        f"{count(job.config.search.trials, 'trial')} on {masked(job.config.data.source)}. "
        f"Test accuracy {percent(scores.accuracy)} (95 % interval {percent(scores.accuracy_low)} "
        f"to {percent(scores.accuracy_high)}, {count(scores.n, 'row')}). {ending}"
    )


def _why(comparison: ModelComparison, old: Version) -> str:
    words = {"better": "better than", "worse": "worse than", "open": "not told apart from"}
    stays = "" if comparison.outcome == "better" else ", which stays"
    test = "McNemar" if comparison.groups is None else f"t test of {comparison.groups:,} groups,"
    return (
        f"{words[comparison.outcome]} version {old.version} on the same "
        f"{count(comparison.rows, 'test row')}{stays}: "
        f"accuracy {percent(comparison.new_accuracy)} against "
        f"{percent(comparison.old_accuracy)} ({test} p = {comparison.p_value:.2g}), log loss "
        f"{comparison.loss_difference:+.3f} (95 %: {comparison.low:+.3f} to "
        f"{comparison.high:+.3f})"
    )
