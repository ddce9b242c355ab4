r"""What a run was set to in the script: kept in its checkpoints, and told where a resumed run is set otherwise."""

import inspect
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dlnotes.comparing import named
from dlnotes.hooks import Hook
from dlnotes.memory import Memory

if TYPE_CHECKING:
    from dlnotes.runner import Runner

COUNTERS = {"last_epoch", "base_lrs", "verbose", "T_cur", "T_i"}  # of a schedule's state, and most of what is private
PHASES = {"_schedule_phases", "_anneal_func_type", "_milestones"}
LONG = 80  # what fills a line by itself is not printed
UPDATES = (0, *(2**n for n in range(17)))  # where a schedule that is a function is looked at


def options(thing: object) -> dict[str, Any]:
    r"""The plain values that an object was made with: those attributes that have a name of its constructor's.

    >>> from dlnotes.hooks import EarlyStopping
    >>> options(EarlyStopping(patience=3))
    {'monitor': 'val_loss', 'patience': 3, 'mode': 'min', 'min_delta': 0.0}
    """
    makers = [vars(kind).get("__init__") for kind in type(thing).__mro__]
    signatures = [inspect.signature(make) for make in makers if isinstance(make, FunctionType)]
    names = dict.fromkeys(name for signature in signatures for name in list(signature.parameters)[1:])
    own = getattr(thing, "__dict__", {})
    return {name: own[name] for name in names if name in own and _is_plain(own[name])}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        return all(map(_is_plain, [*value, *value.values()] if isinstance(value, dict) else value))
    return value is None or type(value) in (str, int, float, bool)


def schedule(scheduler: Any) -> dict[str, Any]:
    r"""The shape of a learning-rate schedule: its numbers, and values of its functions at a few updates.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> schedule(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20))
    {'T_max': 20, 'eta_min': 0.0}
    """
    found: dict[str, Any] = {
        name.lstrip("_"): dict(value) if isinstance(value, dict) else value  # a Counter, of milestones
        for name, value in getattr(scheduler, "__dict__", {}).items()
        if (name in PHASES or not name.startswith("_")) and name not in COUNTERS and _is_plain(value)
    }
    for number, function in enumerate(_parts(scheduler, "lr_lambdas")):
        if isinstance(function, FunctionType):  # an object has a state, which is saved, and perhaps counts its calls
            found[f"lr_lambdas[{number}]"] = [_value(function, t) for t in UPDATES]
    for number, part in enumerate(_parts(scheduler, "_schedulers")):
        found |= {f"{number}.{name}": value for name, value in schedule(part).items()}
    return found


def _parts(scheduler: Any, name: str) -> list[Any]:
    return list(getattr(scheduler, name, ()))


def _value(function: Any, t: int) -> float | None:
    try:
        return float(function(t))
    except Exception:  # not defined there, perhaps
        return None


def read(step: object, hooks: Sequence[Hook]) -> dict[str, Any]:
    r"""All settings of a run by name: those of its step, its schedule, and its hooks with a memory.

    >>> from dlnotes.hooks import EarlyStopping
    >>> list(read(None, [EarlyStopping()]))[1]
    'EarlyStopping.patience'
    """
    found = options(step)
    found |= {f"scheduler.{name}": value for name, value in schedule(getattr(step, "scheduler", None)).items()}
    for name, hook in named(hooks).items():
        if type(hook).state_dict is not Hook.state_dict:
            found |= {f"{name}.{option}": value for option, value in options(hook).items()}
    return found


def groups(step: object) -> list[dict[str, Any]]:
    r"""What the optimizer's groups were given beside the rates, and beside what a schedule moves with them.

    >>> groups(None)
    []
    """
    moving = {"params", "param_names", "lr", "initial_lr", "min_lr", "max_lr", "differentiable"}
    cycled = {"momentum", "betas"}
    return [
        {
            name: value
            for name, value in group.items()
            if name not in moving and not (name in cycled and "max_momentum" in group) and not isinstance(value, Tensor)
        }
        for group in getattr(getattr(step, "optimizer", None), "param_groups", [])
    ]


def same(one: Any, other: Any) -> bool:
    r"""Whether two settings are equal; numbers may differ by rounding, since a schedule's come from another machine.

    >>> same([0.1, "a"], (0.1 + 1e-12, "a")), same(1, None)
    (True, False)
    """
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return one == other


def changes(given: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, str]:
    r"""What both name and set differently, in words.

    >>> changes({"clip_norm": 1.0, "amp": None}, {"clip_norm": None})
    {'clip_norm': 'clip_norm 1.0 (None as saved)'}
    """
    words = {name: (repr(value), repr(saved[name])) for name, value in given.items() if name in saved}
    return {
        name: f"{name} {ours} ({theirs} as saved)" if len(ours + theirs) < LONG else f"{name} (otherwise as saved)"
        for name, (ours, theirs) in words.items()
        if not same(given[name], saved[name])
    }


def as_given(random: dict[str, Any], given: Mapping[str, int], names: Iterable[str]) -> dict[str, Any]:
    r"""A random state in which those counters that the script has set otherwise than the saved run are as set here.

    >>> as_given({"counters": {"a": 5, "b": 7}}, {"a": 0, "b": 1}, ["b"])
    {'counters': {'a': 5, 'b': 1}}
    """
    return random and random | {"counters": random["counters"] | {name: given[name] for name in names}}


def tell(
    runner: "Runner", path: str, given: Memory, before: list[dict[str, Any]], state: Mapping[str, Any], ours: list[str]
) -> None:
    r"""Warn of every setting that is otherwise in the script than it was in the saved run, and say which one holds.

    >>> tell  # doctest: +ELLIPSIS
    <function tell at ...>
    """
    memory, now = runner.memory, read(runner.step, runner.hooks)
    if given.rates != state["rates"]:
        warnings.warn(
            f"{path}: the learning rates are those of the saved run, built with {state['rates']}; {given.rates}, given "
            "here, has no effect. To change them, set them in the optimizer's and schedule's state after the resume",
            stacklevel=4,
        )
    pairs = zip(before, groups(runner.step), strict=True)
    theirs = list(dict.fromkeys(line for old, new in pairs for line in changes(old, new).values()))
    saved = state.get("settings", {})
    for name, line in changes(given.settings, saved).items():
        holds = name in now and same(now[name], given.settings[name])
        (ours if holds else theirs).append(line)
        memory.settings = memory.settings | {name: given.settings[name] if holds else saved[name]}
    if theirs:
        warnings.warn(
            f"{path}: these settings are those of the saved run; given here and without effect: {', '.join(theirs)}. "
            "To change them, set them after the resume (of an optimizer in its groups)",
            stacklevel=4,
        )
    if ours:
        warnings.warn(
            f"{path}: these settings are not those of the saved run, and hold as given here: {', '.join(ours)}",
            stacklevel=4,
        )
