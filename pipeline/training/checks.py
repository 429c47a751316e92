"""What people brought, tried before any run is opened: metrics, networks, losses, optimizers,
schedules."""

import math
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from pipeline.common.errors import UserError, collecting, refuse
from pipeline.common.imports import is_path, line_of, load, source_file
from pipeline.config import Component, Config
from pipeline.config.measures import GOALS, PREFIX, metric_name
from pipeline.config.ranges import ends
from pipeline.config.sections import Model
from pipeline.data.encoding import Unchanged
from pipeline.data.prepared import PreparedData, load_training
from pipeline.inference import PROGRAM_FILE, ModelError
from pipeline.inference.program import read_program
from pipeline.models.export import ensemble_of, export
from pipeline.models.inspection import check_loss, module_architecture
from pipeline.models.module import ModuleArchitecture
from pipeline.models.scores import check_component, judges_labels, of_component
from pipeline.models.task import Classification
from pipeline.optimizers import classes
from pipeline.optimizers.arguments import cases as cases_of
from pipeline.training.batches import as_inputs, inputs_of
from pipeline.training.members import scheduled
from pipeline.training.trainer import task_of


def check_paths(config: Config) -> None:
    """Raise UserError for what cannot be imported; before rows are read, which may take long."""
    problems: list[str] = []
    for key, path in config.paths().items():
        with collecting(problems):
            if not key.startswith("data."):
                load(path, key)
    refuse(problems)


def check(config: Config, parts: PreparedData) -> None:
    """Raise UserError with all that is wrong with what the configuration names.

    A metric scores a few rows, a network is built and shown two, a loss is computed of its outputs,
    an optimizer makes a step, a schedule is gone through, with every range at each of its ends."""
    problems = _metrics(config, parts.schema.classes)
    model, training = config.model, config.training
    if isinstance(model, Component) or training.loss or training.class_weight:
        with collecting(problems):
            _check_network_and_loss(config, parts)
    validation, rows = config.validation, sum(parts.counts["train"])
    held = validation.fraction if validation.folds == 1 else 1 / validation.folds
    epochs = max(ends(training.epochs))
    batches = math.ceil(rows * (1 - held) / min(ends(training.batch_size)))
    for place, optimizer in enumerate(config.optimizers):
        key = f"optimizers.{place}"
        whole = scheduled(optimizer, training)
        where = "training.schedule" if whole is not optimizer else ""
        problems += classes.check(whole, key, epochs, batches, where)
    refuse(list(dict.fromkeys(problems)))


def _metrics(config: Config, labels: int) -> list[str]:
    """What is wrong with metrics, each tried on a few rows."""
    problems: list[str] = []
    goal = str(config.registry.threshold).removeprefix(PREFIX)
    for place, component in enumerate(config.metrics):
        key, name, path = f"metrics.{place}", metric_name(component), component.path
        with collecting(problems):
            check_component(component, key, labels)
            is_goal = name == goal and goal not in GOALS and labels == 2
            if is_goal and not judges_labels(partial(of_component, component)):
                rule = "must be for a metric that depends on predicted labels alone"
                problems.append(f"registry.threshold: {rule}, and {name} does not")
            is_objective = config.search.objective == PREFIX + name and is_path(path)
            if is_objective and getattr(load(path, key), "higher_is_better", None) is None:
                rule = "must have the attribute higher_is_better, true or false"
                problems.append(f"{key}: {path} {rule}, to be search.objective")
    return problems


def _check_network_and_loss(config: Config, parts: PreparedData) -> None:
    """Raise UserError for what is wrong with either, or with both together."""
    model, task = config.model, task_of(parts)
    problems: list[str] = []
    tasks: list[Classification] = []
    for case in cases_of(config.training.loss):
        with collecting(problems):
            tasks.append(task.trained_by(config.training.model_copy(update={"loss": case})))
    refuse(problems)
    if isinstance(model, Model):
        for each in tasks:
            if each.loss and (each.of_probabilities or each.loss.name == "NLLLoss"):
                raise UserError(
                    f"training.loss: {each.loss.name} takes probabilities or their logarithms, and "
                    "model.name: mlp gives logits; take BCEWithLogitsLoss or CrossEntropyLoss"
                )
            check_loss(each, torch.linspace(-1, 1, 2 * each.outputs).view(each.outputs, 2))
        return
    x, inputs = _two_rows(parts)
    first_model, *other_models = cases_of(model)
    pairs = [(first_model, task) for task in tasks] + [(case, tasks[0]) for case in other_models]
    for number, (case, task) in enumerate(pairs):
        architecture = module_architecture(case, x, inputs, task)
        if number == 0 and config.tracking.keep_models != "none":
            _export(architecture, x, case.path)


def _two_rows(parts: PreparedData) -> tuple[Tensor, int | tuple[int, ...]]:
    """Two rows as a network gets them, and what it is told of their shape."""
    if parts.schema.inputs is None:
        x = torch.randn(2, parts.schema.width, generator=torch.Generator().manual_seed(0))
        return x, parts.schema.width
    raw = torch.from_numpy(load_training(parts).take(slice(2)))
    return as_inputs(raw, torch.float32), inputs_of(raw.shape[1:])


def _export(architecture: ModuleArchitecture, x: Tensor, path: str) -> None:
    """Raise UserError where torch cannot export it, or a model could not be read."""
    ensemble = ensemble_of(architecture, Unchanged(), architecture.initial(1, 0))
    try:
        with TemporaryDirectory() as folder:
            file = Path(folder, PROGRAM_FILE)
            torch.export.save(export(ensemble, x.shape[1:], x.dtype), file)
            read_program(file)(x)
    except (UserError, ModelError) as error:
        source, cause = source_file(path), error.__cause__
        line = line_of(cause, source) if source and cause else ""
        where = f" ({source}{line})" if line else ""
        hint = f"{where}; tracking.keep_models: none trains it without keeping models"
        raise UserError(f"{error}{hint}") from error
