r"""The trials that an optimizer goes through: its settings, and its parameters and gradients.

All numbers are formulas of the step and the place, without any chance. Gradients come in sizes from 0.01 to 30; one
entry is 0 in the first steps, and in one step all are.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[..., Any]
Words = tuple[str, str]  # English, 中文
STEPS = 8
SIZES = (1.0, 0.01, 30.0, 0.3)


@dataclass(frozen=True)
class Trial:
    r"""One setting, and what is special about it.

    Attributes:
        options: the hyper-parameters, the learning rate among them.
        special: what is unusual, in both languages; empty for a plain setting.
        cause: what is wrong, as a rule, with an optimizer that fails here and in no plain setting.
        shapes: of the parameters.
        dtype: of the parameters.
        absent: the last parameter has no gradient in every third step.
        in_place: gradients are set to zero where they lie, as with ``zero_grad(set_to_none=False)``.
        iterator: the parameters come as an iterator, as ``model.parameters()`` is one.
        falling: the learning rate is halved after half of the steps.
        groups: each parameter is a group of its own, the second with twice the learning rate.

    >>> Trial({"lr": 0.1}).gradient(1, 0).round(3).tolist()
    [0.0, 0.001, -29.968, 0.005]
    """

    options: Mapping[str, Any]
    special: Words = ("", "")
    cause: Words = ("", "")
    shapes: tuple[tuple[int, ...], ...] = ((4,),)
    dtype: torch.dtype = torch.float64
    absent: bool = False
    in_place: bool = False
    iterator: bool = False
    falling: bool = False
    groups: bool = False

    def __hash__(self) -> int:
        return hash(repr(self))

    def start(self, number: int) -> Array:
        r"""The parameter of this number before the first step."""
        places = np.arange(np.prod(self.shapes[number], dtype=int), dtype=float)
        return (1.5 * np.cos(2.1 * places + number)).reshape(self.shapes[number])

    def gradient(self, t: int, number: int) -> Array | None:
        r"""Its gradient in step ``t`` = 1, 2, …; None where it has none."""
        if self.absent and number == len(self.shapes) - 1 and t % 3 == 1:
            return None
        k = np.arange(np.prod(self.shapes[number], dtype=int), dtype=float) + 3 * number
        sizes = np.asarray(SIZES)[k.astype(int) % len(SIZES)]
        values = sizes * np.sin(1.3 * k + 0.9 * t * (1 + 0.37 * k) + 0.5)
        zero = (t == 5) | ((k == 0) & (t < 3))
        return np.where(zero, 0.0, values).reshape(self.shapes[number])

    def factor(self, t: int, number: int) -> float:
        r"""What the learning rate is multiplied by."""
        return (2.0 if self.groups and number == 1 else 1.0) * (0.5 if self.falling and t > STEPS // 2 else 1.0)


_DECAY = {"weight_decay": 0.3}
_CLIMB = {"weight_decay": 0.3, "maximize": True}
_ADAM: list[dict[str, Any]] = [
    {},
    {"betas": (0.5, 0.8)},
    {"eps": 0.1},
    {"betas": (0.8, 0.5), **_DECAY},
    {"betas": (0.5, 0.6), "amsgrad": True},
    {"betas": (0.8, 0.9), "eps": 0.01, "weight_decay": 0.1},
    _CLIMB,
]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True},
        _DECAY,
        {"momentum": 0.9, **_DECAY},
        {"momentum": 0.5, "nesterov": True, **_DECAY},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        _CLIMB,
    ],
    "Adagrad": [
        {},
        {"eps": 0.1},
        {"lr_decay": 0.1},
        {"initial_accumulator_value": 0.5},
        _DECAY,
        {"lr_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 0.01, "weight_decay": 0.1},
        _CLIMB,
    ],
    "RMSprop": [
        {},
        {"alpha": 0.6},
        {"eps": 0.1},
        {"momentum": 0.9},
        {"centered": True},
        _DECAY,
        {"alpha": 0.8, "momentum": 0.5, "centered": True, "eps": 0.01, "weight_decay": 0.1},
        _CLIMB,
    ],
    "Adam": _ADAM,
    "AdamW": _ADAM,
}
_USUAL: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "dampening": 0.5},
    "Adagrad": {"lr_decay": 0.1},
    "RMSprop": {"momentum": 0.9},
    "Adam": {"betas": (0.8, 0.9)},
    "AdamW": {"betas": (0.8, 0.9)},
}
_PAIR = ((4,), (4,))
_TWO = Trial(
    {},
    ("two parameters", "两个参数"),
    ("every parameter needs a state of its own", "每个参数都要有自己的状态"),
    shapes=_PAIR,
)
_SPECIAL = [
    _TWO,
    Trial(
        {},
        ("parameters of several shapes, one of them a single number", "形状不同的几个参数，其中一个只是一个数"),
        ("the code holds for one shape only", "代码只适用于某一种形状"),
        shapes=((3, 2), (), (5,), (2, 1, 2)),
    ),
    Trial(
        {},
        ("a parameter that has no gradient in some steps", "有一个参数在有些步里没有梯度"),
        (
            "a parameter whose `grad` is None is skipped: neither it nor its state nor its step count may change",
            "`grad` 是 None 的参数要整个跳过，它的值、状态和步数都不能变",
        ),
        shapes=_PAIR,
        absent=True,
    ),
    Trial(
        {},
        ("gradients set to zero where they lie, as by `zero_grad(set_to_none=False)`",
         "梯度在原处清零，即 `zero_grad(set_to_none=False)`"),
        ("the state holds the gradient's own tensor, so clearing the gradient clears it too: keep a `clone()`",
         "状态里存的就是梯度那个张量，梯度清零时它也跟着变了。要存 `clone()`"),
        in_place=True,
    ),
    Trial(
        {},
        ("the parameters given as an iterator, as `model.parameters()` is one",
         "参数以迭代器的形式给出，`model.parameters()` 就是迭代器"),
        ("an iterator can be gone through once: keep `list(params)`", "迭代器只能走一遍，要存 `list(params)`"),
        iterator=True,
    ),
    Trial(
        {},
        ("a learning rate that is halved half way", "学习率中途减半"),
        ("the learning rate is to be read anew in every step", "学习率每一步都要重新读"),
        falling=True,
    ),
    Trial(
        {},
        ("two groups of parameters, each with its learning rate", "两组参数，学习率各不相同"),
        ('the numbers of a group are to be read from the group: `group["lr"]`',
         '每组的数要从组里读：`group["lr"]`'),
        shapes=_PAIR,
        groups=True,
    ),
    Trial(
        {},
        ("parameters in float32", "float32 的参数"),
        ("the state takes the parameter's type: `torch.zeros_like(p)`",
         "状态的类型要与参数一致：`torch.zeros_like(p)`"),
        dtype=torch.float32,
    ),
]  # fmt: skip


def taken(make: Make, like: str) -> tuple[dict[str, Any], dict[str, Any]]:
    r"""Torch's options with their defaults, and of these what ``make`` takes, with its own; all, if it does not say.

    An option without a default has :data:`inspect.Parameter.empty`.

    >>> taken(lambda params, lr, momentum=0.5: None, "SGD")[1]["momentum"]
    0.5
    """
    torchs = {
        name: p.default
        for name, p in inspect.signature(getattr(torch.optim, like)).parameters.items()
        if name not in ("params", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay")
    }
    with contextlib.suppress(TypeError, ValueError):
        given = inspect.signature(make).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in given):
            return torchs, {p.name: p.default for p in given if p.name in torchs}
    return torchs, torchs


def trials(make: Make, like: str) -> list[Trial]:
    r"""The trials for what ``make`` takes, from the simplest to the most special.

    >>> [trial.options for trial in trials(lambda params, lr: None, "SGD")][:2]
    [{'lr': 0.1}, {'lr': 0.1}]
    """
    torchs, own = taken(make, like)
    always = {"lr": 0.1 if like == "SGD" else 0.05}
    always |= {
        name: torchs[name] for name, default in own.items() if name != "lr" and default is inspect.Parameter.empty
    }
    found: list[Trial] = []
    for options in SETTINGS[like]:
        trial = Trial(always | {name: value for name, value in options.items() if name in own})
        if trial not in found and not (options.get("nesterov") and "momentum" not in own):
            found.append(trial)
    usual = always | {name: value for name, value in _USUAL[like].items() if name in own}
    return found + [replace(trial, options=usual) for trial in _SPECIAL]
