r"""The parts of a training step: whether they belong together, and whether a saved state fits them."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from dlnotes.checkpoint import mismatches
from dlnotes.optimizer import state_problems
from dlnotes.precision import GradScaler


def names(model: nn.Module, optimizer: Optimizer) -> list[list[str | None]]:
    r"""For each group of the optimizer the names of its parameters in the model, ``None`` where it has none.

    >>> layer = nn.Linear(2, 1)
    >>> names(layer, torch.optim.SGD([layer.bias, torch.zeros(1)], lr=0.1))
    [['bias', None]]
    """
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[known.get(id(parameter)) for parameter in group["params"]] for group in optimizer.param_groups]


def kind(part: object) -> str:
    r"""The name of an object's class, and of the schedulers that it holds.

    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 1), torch.optim.lr_scheduler.ConstantLR(optimizer)]
    >>> kind(torch.optim.lr_scheduler.SequentialLR(optimizer, schedules, [3]))
    'SequentialLR(StepLR, ConstantLR)'
    """
    inner = ", ".join(kind(scheduler) for scheduler in getattr(part, "_schedulers", ()))
    return type(part).__name__ + (f"({inner})" if inner else "")


def check(model: nn.Module, optimizer: Any, scheduler: Any, amp: str | None) -> None:
    r"""Refuse what cannot be trained together, and say what to do.

    Raises:
        TypeError: the optimizer is a class, or needs a closure; the scheduler is a function, or needs a metric.
        ValueError: the model has no parameters, or float16 ones under ``"fp16"``; the optimizer has other parameters;
            the scheduler is over another optimizer.

    >>> layer = nn.Linear(2, 1)
    >>> check(layer, torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1), None, None)
    Traceback (most recent call last):
    ...
    ValueError: optimizer: parameter 0 of group 0, of shape (1, 2), is not in the model: give it model.parameters() ...
    """
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError("model has no parameters")
    if any(is_lazy(parameter) for parameter in parameters):
        raise ValueError("model: some parameters are not made yet: call it on a batch before the optimizer is made")
    if amp == "fp16" and any(parameter.dtype is torch.float16 for parameter in parameters):
        raise ValueError("amp='fp16' needs float32 parameters, and the model has float16 ones: leave out model.half()")
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer must be an object, got a class: write {optimizer.__name__}(model.parameters(), …)")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch optimizer, got {optimizer!r}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise TypeError(
            f"optimizer: {kind(optimizer)} computes the loss several times in a step, which this step does not: write "
            "its loop in plain torch, or a class with the methods of dlnotes.step.Step"
        )
    for number, group in enumerate(names(model, optimizer)):
        if None in group:
            place = group.index(None)
            shape = tuple(optimizer.param_groups[number]["params"][place].shape)
            raise ValueError(
                f"optimizer: parameter {place} of group {number}, of shape {shape}, is not in the model: give it "
                "model.parameters() of this model (a loss with parameters of its own goes into the model as a part, "
                "and so into its checkpoints)"
            )
    if scheduler is None:
        return
    if not isinstance(scheduler, LRScheduler):
        cure = "write dlnotes.schedules.scheduler(optimizer, schedule)" if callable(scheduler) else "see torch.optim"
        raise TypeError(f"scheduler must be a torch learning-rate scheduler, got {scheduler!r}: {cure}")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise TypeError("scheduler: ReduceLROnPlateau needs a metric; schedulers here step after every update")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError("scheduler: it sets the learning rates of another optimizer: make it over this one")


def order_problems(saved: Sequence[Sequence[str | None]], own: Sequence[Sequence[str | None]]) -> list[str]:
    r"""Where the optimizer of a saved state had other parameters, group by group, a line each.

    An optimizer's state knows its parameters by number only, so that two layers of one shape that have changed places
    would take over each other's averages.

    >>> order_problems([["a.weight", "b.weight"]], [["b.weight", "a.weight"]])[0]
    'parameter 0 of group 0 is a.weight in the checkpoint, b.weight in this run'
    """
    sizes, own_sizes = ([len(group) for group in groups] for groups in (saved, own))
    if sizes != own_sizes:
        return [f"groups of {sizes} parameters in the checkpoint, {own_sizes} in this run"]
    return [
        f"parameter {place} of group {number} is {theirs} in the checkpoint, {ours} in this run"
        for number, (group, own_group) in enumerate(zip(saved, own, strict=True))
        for place, (theirs, ours) in enumerate(zip(group, own_group, strict=True))
        if theirs != ours
    ]


def plain(tree: Any) -> Any:
    r"""``tree`` with Python's numbers in place of numpy's, which a checkpoint does not hold.

    They come in unasked: a learning rate out of ``np.logspace``, a schedule that calls ``np.cos``. Nothing is changed
    in place; what holds none of them is returned itself.

    >>> plain({"lr": 0.1, "betas": (0.9, 0.99)})
    {'lr': 0.1, 'betas': (0.9, 0.99)}
    """
    if isinstance(tree, dict):
        items = [(plain(key), plain(value)) for key, value in tree.items()]
        if all(k is key and v is value for (k, v), (key, value) in zip(items, tree.items(), strict=True)):
            return tree
        made = copy.copy(tree)  # of the same class, a Counter perhaps
        made.clear()
        made.update(items if type(tree) is dict else dict(items))
        return made
    if isinstance(tree, list | tuple):
        values = [plain(value) for value in tree]
        if all(new is old for new, old in zip(values, tree, strict=True)):
            return tree
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    is_number = type(tree).__module__ == "numpy" and getattr(tree, "ndim", None) == 0
    return tree.item() if is_number else tree


def state(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None, scaler: GradScaler) -> dict[str, Any]:
    r"""All that a step needs to go on, and what tells whether another step is like it; no numbers of numpy's.

    >>> layer = nn.Linear(2, 1)
    >>> saved = state(layer, torch.optim.SGD(layer.parameters(), lr=0.1), None, GradScaler(enabled=False))
    >>> saved["parameters"], saved["classes"]
    ([['weight', 'bias']], {'optimizer': 'SGD', 'scheduler': None})
    """
    return {
        "model": model.state_dict(),
        "optimizer": plain(optimizer.state_dict()),
        "scheduler": None if scheduler is None else plain(scheduler.state_dict()),
        "scaler": scaler.state_dict(),
        "parameters": names(model, optimizer),
        "classes": {"optimizer": kind(optimizer), "scheduler": None if scheduler is None else kind(scheduler)},
    }


def problems(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    scaler: GradScaler,
    saved: Mapping[str, Any],
) -> list[str]:
    r"""In what a saved :func:`state` does not fit these parts, a line each; nothing is loaded.

    >>> layer = nn.Linear(2, 1)
    >>> rest = torch.optim.SGD(layer.parameters(), lr=0.1), None, GradScaler(enabled=False)
    >>> problems(layer, *rest, state(layer, torch.optim.Adam(layer.parameters()), *rest[1:]))
    ['optimizer: Adam in the checkpoint, SGD in this run']
    """
    own = state(model, optimizer, scheduler, scaler)
    forms: dict[str, Any] = dict.fromkeys(own, Mapping) | {"parameters": list, "scheduler": Mapping | None}
    lines = [f"{name}: missing in the checkpoint" for name in own if name not in saved]
    lines += [
        f"{name}: a {type(saved[name]).__name__} in the checkpoint is not its state"
        for name, form in forms.items()
        if name in saved and not isinstance(saved[name], form)
    ]
    if lines:
        return lines
    try:
        return _differences(own, model, optimizer, scaler, saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"the checkpoint's parts are not as a step saves them: {error!r}"]


def _differences(
    own: Mapping[str, Any], model: nn.Module, optimizer: Optimizer, scaler: GradScaler, saved: Mapping[str, Any]
) -> list[str]:
    lines = [f"model: {line}" for line in mismatches(model, saved["model"])]
    for name, there in (("scheduler", saved["scheduler"]), ("scaler", saved["scaler"])):
        if bool(there) != bool(own[name]):
            has = {True: "has one", False: "has none"}
            lines.append(f"{name}: the checkpoint {has[bool(there)]}, this run {has[bool(own[name])]}")
    for name, ours in own["classes"].items():
        theirs = saved["classes"][name]
        if theirs != ours and theirs and ours:
            lines.append(f"{name}: {theirs} in the checkpoint, {ours} in this run")
    order = order_problems(saved["parameters"], own["parameters"])
    if not order and saved["classes"]["optimizer"] == own["classes"]["optimizer"]:
        order = state_problems(optimizer, saved["optimizer"])
    lines += [f"optimizer: {line}" for line in order]
    if saved["scaler"] and scaler.enabled:
        try:
            GradScaler().load_state_dict(saved["scaler"])
        except ValueError as error:
            lines.append(f"scaler: {error}")
    return lines


def load(own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    r"""Load each part's state.

    >>> layer = nn.Linear(2, 1)
    >>> load({"model": layer, "scheduler": None}, {"model": nn.Linear(2, 1).state_dict(), "scheduler": None})
    """
    for name, part in own.items():
        if part is not None:
            part.load_state_dict(saved[name])
