"""Somebody's network looked at before it is trained: built, shown two rows, and measured."""

import copy
import inspect
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from pipeline.common import imports
from pipeline.common.errors import UserError
from pipeline.common.files import file_digest
from pipeline.common.text import count, shorten
from pipeline.config.component import Component
from pipeline.config.ranges import plain
from pipeline.models.draws import Draws
from pipeline.models.module import ModuleArchitecture, arranged, seeded, tensors_of
from pipeline.models.task import Task

KEY = "model"

_PROBABILITIES = ("Sigmoid", "Softmax")
_SHAPES = ("Squeeze", "Unsqueeze", "View", "Reshape", "Select", "Slice", "Clone", "Transpose", "T")
_WRAPPERS = (nn.DataParallel, torch.jit.ScriptModule)


def module_architecture(
    component: Component, x: Tensor, inputs: int | tuple[int, ...], task: Task
) -> ModuleArchitecture:
    """The architecture that a component names, built twice and shown two rows.

    Args:
        x: [2, *shape], two rows as the network gets them.
        inputs: what it is told of their shape, where it asks.

    Raises UserError: it cannot be built, is no module, or does something else than to give each row
    outputs that the task takes."""
    build = _builder(component, x, {"inputs": inputs, "outputs": task.forms[0]})
    with seeded(0):
        template = build()
    with seeded(1):
        other = tensors_of(build())
        module = copy.deepcopy(template).train()
        before = {name: value.detach().clone() for name, value in tensors_of(module).items()}
        generator = torch.Generator()
        undrawn = generator.get_state()
        with Draws(generator):
            outputs = _shown(module, x, component)
        _check_outputs(outputs, component, task)
        after = {name: value.detach() for name, value in tensors_of(module).items()}
        products, activations, widest = _measured(module.eval(), x)
        _check_rows(module, x, outputs, component)
    parameters = [name for name, p in template.named_parameters() if p.requires_grad]
    changed = {name for name in before if not _equal(before[name], after[name])}
    if moved := sorted(changed & set(parameters)):
        raise UserError(f"{KEY}.name: {component.path} changes its weights in forward ({moved[0]})")
    if not parameters:
        raise UserError(f"{KEY}.name: {component.path} has no weights to train")
    arguments = json.dumps(plain(component.arguments), sort_keys=True, default=str)
    source = imports.source_file(component.path)
    code = f"{component.path} {file_digest(source) if source else ''}"
    return ModuleArchitecture(
        program=f"{code} {arguments} {list(x.shape[1:])} {x.dtype} {task.outputs}",
        build=build,
        template=template,
        task=task,
        parameters=tuple(parameters),
        statistics=tuple(
            name
            for name in before
            if name not in parameters and (name in changed or not _equal(before[name], other[name]))
        ),
        products=products,
        activations=activations,
        widest=widest,
        draws=not torch.equal(undrawn, generator.get_state()),
    )


def _builder(component: Component, x: Tensor, told: dict[str, Any]) -> Callable[[], nn.Module]:
    """What makes a new module, of float32, on the CPU; `told` goes to arguments of these names."""
    made = imports.load(component.path, f"{KEY}.name")
    if not callable(made):
        found = shorten(repr(made), 60)
        raise UserError(f"{KEY}.name: must be a class or a function; got {found}")
    arguments: dict[str, Any] = plain(component.arguments)
    try:
        names = inspect.signature(made).parameters
    except (TypeError, ValueError):
        names = {}  # type: ignore[assignment]
    arguments = {key: value for key, value in told.items() if key in names} | arguments
    hint = f" ({' and '.join(told)}, where it has them, are filled in)"
    imports.check_arguments(made, arguments, KEY, hint=hint)

    def build() -> nn.Module:
        try:
            module = made(**arguments)
        except Exception as error:
            shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            reason = imports.reason_of(error)
            raise UserError(
                f"{KEY}: {component.path} cannot be built with {shown or 'no arguments'}: {reason}"
            ) from error
        must = f"{KEY}.name: {component.path} must"
        if not isinstance(module, nn.Module):
            raise UserError(f"{must} be or give a torch.nn.Module; got {shorten(repr(module), 60)}")
        if isinstance(module, _WRAPPERS):
            kind = type(module).__name__
            raise UserError(f"{must} give the module itself; got it wrapped in {kind}")
        if complex_ := [name for name, each in tensors_of(module).items() if each.is_complex()]:
            raise UserError(f"{must} have real weights; {complex_[0]} is complex")
        module = module.float()
        if any(map(is_lazy, tensors_of(module).values())):
            _shown(module.eval(), x, component)  # lazy layers take their shapes from it
        return module.train()

    return build


def _shown(module: nn.Module, x: Tensor, component: Component) -> Tensor:
    """What it puts out for rows [B, *shape]; UserError where it fails or gives no outputs."""
    given = f"rows {list(x.shape)} {str(x.dtype).removeprefix('torch.')}"
    try:
        outputs = module(x.clone())
    except Exception as error:
        reason = imports.reason_of(error)
        hint = _INTEGERS if not x.is_floating_point() else ""
        raise UserError(f"{KEY}: {component.path} fails for {given}: {reason}{hint}") from error
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        found = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"{KEY}: {component.path} must give a tensor of floats; got {found}")
    return outputs


_INTEGERS = "; whole numbers come as int64, as ids for an embedding: save them as floats"


def _check_rows(module: nn.Module, x: Tensor, outputs: Tensor, component: Component) -> None:
    """Raise UserError where another number of rows has outputs of another shape, or the same rows,
    while nothing is trained, other outputs."""
    if not _equal(*(_shown(module, x, component) for _ in range(2))):
        raise UserError(
            f"{KEY}: {component.path} must give the same rows the same outputs in evaluation, as "
            "it would be served; it draws there too: do so only where self.training is true"
        )
    for rows in (x[:1], torch.cat([x, x[:1]])):
        expected = [len(rows), *outputs.shape[1:]]
        if (found := list(_shown(module, rows, component).shape)) != expected:
            raise UserError(
                f"{KEY}: {component.path} must give {expected} for {count(len(rows), 'row')}, as "
                f"it gives {list(outputs.shape)} for 2; got {found}"
            )


def _check_outputs(outputs: Tensor, component: Component, task: Task) -> None:
    """Raise UserError unless each of two rows has outputs that the task and its loss take."""
    shape, says = list(outputs.shape), f"{KEY}: {component.path} must give"
    forms = task.forms
    ends = [f"[rows, {each}]" for each in forms] + ["[rows]"] * (1 in forms)
    width = 1 if outputs.dim() == 1 else shape[-1] if outputs.dim() in (2, 3) else None
    if width not in forms or shape[0] != 2:
        raise UserError(
            f"{says} {' or '.join(ends)}, or [rows, k, {forms[0]}] for an ensemble of k; got "
            f"{shape} for 2 rows"
        )
    last = _last_operation(outputs)
    if last in _PROBABILITIES and not task.of_probabilities:
        raise UserError(
            f"{says} logits, which training.loss takes; it ends with {last}: leave that out, or "
            "take BCELoss (for a sigmoid), or a loss of your own with of_probabilities = True"
        )
    outside = outputs[~((outputs >= 0) & (outputs <= 1))]
    if task.of_probabilities and outside.numel():
        raise UserError(
            f"{says} probabilities from 0 to 1, which training.loss takes; got "
            f"{outside[0].item():.4g}: end it with Sigmoid, or take BCEWithLogitsLoss"
        )
    check_loss(task, arranged(outputs))


def check_loss(task: Task, outputs: Tensor) -> None:
    """Raise UserError unless the task's loss can be computed of a network's outputs [C, 2] or
    [C, 2, k] for two rows, and be made smaller."""
    leaf = outputs.unsqueeze(0).detach().requires_grad_()
    shape = list(outputs.movedim(0, -1).shape)
    try:
        loss = task.objective(leaf, torch.tensor([[0, 1]]))
        problem = "" if loss.shape == (1,) else f"it gives {list(loss.shape)} for a network's rows"
        is_used = loss.requires_grad and (
            torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0] is not None
        )
        problem = problem or ("" if is_used else "it does not depend on the outputs")
    except Exception as error:
        problem = imports.reason_of(error)
    if problem:
        raise UserError(f"training.loss: cannot be computed of outputs {shape}: {problem}")


def _last_operation(outputs: Tensor) -> str:
    """The name of what made the outputs, as autograd has it, whatever was done to their shape."""
    node = outputs.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        if name not in _SHAPES:
            return name
        node = node.next_functions[0][0]
    return ""


def _measured(module: nn.Module, x: Tensor) -> tuple[int, int, int]:
    """Of one row's forward pass: multiplications, numbers made, and the most of them in a layer."""
    made: list[int] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            made.append(first.numel() // len(x))

    leaves = [layer for layer in module.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    made.append(x[0].numel())
    return counter.get_total_flops() // (2 * len(x)), sum(made), max(made)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
