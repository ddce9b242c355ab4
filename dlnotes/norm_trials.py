r"""The trials of a norm: its settings, inputs of several shapes, both modes; and how a function becomes a norm.

All numbers are formulas of the place, without any chance.
"""

import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.layer_judging import Case, Quantity, Wrong, array
from dlnotes.trials import Make

Options = dict[str, Any]
_CHANNEL = ("eps", "momentum", "affine", "track_running_stats")
OPTIONS = {  # what a trial may set
    "BatchNorm1d": _CHANNEL,
    "BatchNorm2d": _CHANNEL,
    "InstanceNorm1d": _CHANNEL,
    "InstanceNorm2d": _CHANNEL,
    "GroupNorm": ("eps", "affine"),
    "LayerNorm": ("eps", "elementwise_affine", "bias"),
    "RMSNorm": ("eps", "elementwise_affine"),
}
NAMES = {  # of what a norm keeps: torch's, and others that are usual
    "weight": ("weight", "gamma", "scale", "g", "γ"),
    "bias": ("bias", "beta", "shift", "b", "β"),
    "running_mean": ("running_mean", "moving_mean"),
    "running_var": ("running_var", "moving_var"),
}
_LEARNED = ("weight", "bias")
_SETTINGS: list[Options] = [
    {},
    {"eps": 0.1},
    {"momentum": 0.3},
    {"affine": True, "track_running_stats": True},  # the defaults, but for instance norm
    {"affine": False},
    {"elementwise_affine": False},
    {"bias": False},
    {"track_running_stats": False},
]
_SHAPES: dict[str, list[tuple[Any, tuple[int, ...]]]] = {  # arguments, shape: axes of equal length come first
    "BatchNorm1d": [((3,), (4, 3)), ((4,), (3, 4, 4)), ((2,), (3, 2, 5))],
    "BatchNorm2d": [((3,), (4, 3, 2, 3)), ((2,), (3, 2, 5, 4))],
    "InstanceNorm1d": [((4,), (3, 4, 4)), ((2,), (3, 2, 5))],
    "InstanceNorm2d": [((3,), (4, 3, 2, 3)), ((2,), (3, 2, 5, 4))],
    "GroupNorm": [((2, 6), (3, 6, 2, 6)), ((3, 6), (2, 6, 5)), ((2, 6), (4, 6))],
    "LayerNorm": [((4,), (3, 4, 4)), ((5,), (2, 3, 5)), ((5,), (2, 5)), (((2, 3),), (4, 2, 3))],
    "RMSNorm": [((4,), (3, 4, 4)), ((5,), (2, 3, 5)), ((5,), (2, 5)), (((2, 3),), (4, 2, 3))],
}
_FAR = {"BatchNorm1d": ((2,), (4, 2, 4)), "BatchNorm2d": ((2,), (4, 2, 2, 4)), "InstanceNorm1d": ((2,), (2, 2, 8)),
        "InstanceNorm2d": ((2,), (2, 2, 4, 4)), "GroupNorm": ((2, 4), (2, 4, 2, 4)), "LayerNorm": ((8,), (2, 8)),
        "RMSNorm": ((8,), (2, 8))}  # fmt: skip
_CANCELS = (
    "the variance is the difference of two large numbers, E[x²] - E[x]², which rounds to nothing: "
    "subtract the mean first, then square",
    "方差用了 E[x²] - E[x]²，两个大数相减，舍入之后什么也不剩。要先减均值，再平方",
)


@dataclass(frozen=True)
class Trial:
    r"""One setting of a norm and its calls.

    Attributes:
        like: the norm's name.
        arguments: of the constructor, those without a name.
        options: those with one.
        shape: of the input.
        modes: whether each call is in training.
        mean: of the input, 0 or far from it; then its numbers are few, so that float32 holds their mean exactly.

    >>> Trial("LayerNorm", (3,), {}, (2, 3)).input(1).shape
    torch.Size([2, 3])
    """

    like: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    modes: tuple[bool, ...] = (True, True, False, True)
    mean: float = 0.0

    @property
    def dtype(self) -> torch.dtype:
        r"""Of the input and the norm."""
        return torch.float32 if self.mean else torch.float64

    def input(self, call: int) -> Tensor:
        r"""The input of call 1, 2, …, each with a mean and a spread of its own."""
        waves = _waves(self.shape, call)
        x = self.mean + (8 * waves).round() / 4 if self.mean else (1 + 0.3 * call) * waves + 0.7 * call
        return x.to(self.dtype)

    def case(self) -> Case:
        r"""What is told of it, and how it is taken."""
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        far = (f" near {self.mean:g} in float32", f"（float32，在 {self.mean:g} 附近）") if self.mean else ("", "")
        setting = f"input of shape {self.shape}{far[0]}{options}", f"输入形状 {self.shape}{far[1]}{options}"
        return Case(setting, self.take, _CANCELS, 0.02) if self.mean else Case(setting, self.take)

    def make(self, make: Make) -> Any:
        r"""A norm of this setting, in its precision."""
        usual = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            return make(*self.arguments, **self.options)
        finally:
            torch.set_default_dtype(usual)

    def take(self, make: Make) -> Iterator[Quantity]:
        r"""All that a norm computes: what it starts with, then for each call output, gradients and statistics."""
        norm, parts = self.make(make), self.parts
        for name, shape in parts.items():
            part = _part(norm, name, shape)
            yield (f"`{name}` at the start", f"开始时的 `{name}`"), array(part.reshape(shape))
            if name in _LEARNED:
                with torch.no_grad():
                    part.copy_(0.5 + _waves(part.shape, len(name)).to(part))
                part.requires_grad_()
        for call, training in enumerate(self.modes, 1):
            yield from self._call(norm, call, training, parts)

    @functools.cached_property
    def parts(self) -> dict[str, torch.Size]:
        r"""What torch's norm keeps in this setting, and its shapes."""
        theirs = self.make(getattr(nn, self.like))
        parts = {name: getattr(theirs, name, None) for name in NAMES}
        return {name: part.shape for name, part in parts.items() if part is not None}

    def _call(self, norm: Any, call: int, training: bool, parts: Mapping[str, torch.Size]) -> Iterator[Quantity]:
        if hasattr(norm, "train"):
            norm.train(training)
        elif hasattr(norm, "training"):
            norm.training = training
        mode = (f"call {call} ({'training' if training else 'evaluation'})",
                f"第 {call} 次调用（{'训练' if training else '评估'}模式）")  # fmt: skip
        x = self.input(call).requires_grad_()
        y = norm(x)
        if not isinstance(y, Tensor) or y.dtype != x.dtype:
            what = y.dtype if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise Wrong(
                f"the output of {mode[0]} is {what}; it should be {x.dtype}",
                f"{mode[1]}的输出是 {what}，应该是 {x.dtype}",
            )
        if not torch.equal(x.detach(), self.input(call)):
            raise Wrong(f"{mode[0]} changes its input", f"{mode[1]}改动了输入")
        yield (f"the output of {mode[0]}", f"{mode[1]}的输出"), array(y)
        if not y.requires_grad:
            raise Wrong(
                f"the output of {mode[0]} has no gradient; only the running statistics belong under `torch.no_grad()`",
                f"{mode[1]}的输出没有梯度。`torch.no_grad()` 里只该放滑动统计量",
            )
        leaves = {"x": x} | {name: _part(norm, name, parts[name]) for name in _LEARNED if name in parts}
        gradients = torch.autograd.grad(y, [*leaves.values()], _waves(self.shape, 9).to(y), allow_unused=True)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            found = array(gradient, leaf.shape).reshape(parts.get(name, self.shape))
            yield (f"the gradient of `{name}` in {mode[0]}", f"{mode[1]}里 `{name}` 的梯度"), found
        for name in parts:
            if name not in _LEARNED:
                part = _part(norm, name, parts[name])
                if part.requires_grad:
                    raise Wrong(
                        f"`{name}` hangs on to the graph of {mode[0]}: move it under `torch.no_grad()`",
                        f"`{name}` 连着{mode[1]}的计算图，要在 `torch.no_grad()` 里更新",
                    )
                yield (f"`{name}` after {mode[0]}", f"{mode[1]}之后的 `{name}`"), array(part.reshape(parts[name]))


@functools.cache
def _waves(shape: tuple[int, ...], number: int) -> Tensor:
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(1.7 * places + number) + torch.cos(0.37 * places**1.5 + 2 * number)).reshape(shape)


def _part(norm: Any, name: str, shape: torch.Size) -> Tensor:
    """The weight, say, of a norm, by one of its usual names."""
    found = [alias for alias in NAMES[name] if isinstance(getattr(norm, alias, None), Tensor)]
    if not found:
        raise Wrong(f"it has no `{name}`", f"它没有 `{name}`")
    part: Tensor = getattr(norm, found[0])
    if part.numel() != shape.numel():
        now, wanted = tuple(part.shape), tuple(shape)
        raise Wrong(
            f"`{found[0]}` has shape {now}; it should be {wanted}", f"`{found[0]}` 的形状是 {now}，应该是 {wanted}"
        )
    if isinstance(norm, nn.Module) and found[0] not in norm.state_dict():
        how = "make it an `nn.Parameter`" if name in _LEARNED else "make it by `register_buffer`"
        zh = "要写成 `nn.Parameter`" if name in _LEARNED else "要用 `register_buffer` 登记"
        raise Wrong(f"`{found[0]}` is not in the state dict: {how}", f"`{found[0]}` 不在状态字典里，{zh}")
    return part


def is_function(make: Make) -> bool:
    r"""Whether this is a norm itself, a function of ``x`` or ``input`` or of a weight, and not what makes one.

    >>> is_function(torch.nn.functional.layer_norm), is_function(lambda features: torch.nn.LayerNorm(features))
    (True, False)
    """
    if not inspect.isroutine(make):
        return False
    given = [*inspect.signature(make).parameters]
    return given[:1] in (["x"], ["input"], ["X"]) or any(name in NAMES["weight"] for name in given)


def made_of(function: Make, like: str) -> tuple[Make, Options, Options]:
    r"""A norm that calls a function, the options of torch's that it takes with their defaults, and those it needs.

    What it takes by name is given to it: weight, bias, running statistics, and the options of the norm.

    >>> made, own, needed = made_of(lambda x: x, "LayerNorm")
    >>> own, needed
    ({}, {'elementwise_affine': False})
    """
    takes = inspect.signature(function).parameters
    given = {alias: name for name, aliases in NAMES.items() for alias in aliases if alias in takes}
    given |= {name: name for name in ("eps", "momentum", "training", "normalized_shape", "num_groups") if name in takes}

    class FromFunction(getattr(nn, like)):
        def forward(self, input: Tensor) -> Tensor:
            return function(input, **{alias: getattr(self, name) for alias, name in given.items()})

    FromFunction.__name__ = getattr(function, "__name__", like)
    affine = "elementwise_affine" if "elementwise_affine" in OPTIONS[like] else "affine"
    theirs, needed = _defaults(getattr(nn, like)), Options()
    own = {name: theirs[name] for name in ("eps", "momentum") if name in takes and name in theirs}
    if "weight" not in given.values():
        needed[affine] = False
    elif all(takes[alias].default is None for alias, name in given.items() if name in _LEARNED):
        own[affine] = theirs[affine]
    if "running_mean" not in given.values() and "track_running_stats" in theirs:
        needed["track_running_stats"] = False
    return FromFunction, own, needed


def _defaults(make: Make) -> Options:
    parameters = inspect.signature(make).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def taken(make: Make, like: str) -> tuple[Options, Options, bool]:
    r"""Torch's options with their defaults; of these what ``make`` takes, with its own; whether it takes several
    dimensions as its ``normalized_shape``. All, if it does not say.

    >>> taken(lambda features, eps=1e-3: None, "LayerNorm")[1:]
    ({'eps': 0.001}, False)
    """
    theirs = _defaults(getattr(nn, like))
    torchs = {name: theirs[name] for name in OPTIONS[like] if name in theirs}
    several = "normalized_shape" in inspect.signature(getattr(nn, like)).parameters
    with contextlib.suppress(TypeError, ValueError):
        given = inspect.signature(make).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in given.values()):
            own = {name: given[name].default for name in torchs if name in given}
            return torchs, own, not several or "normalized_shape" in given
    return torchs, torchs, True


def trials(like: str, own: Mapping[str, Any], needed: Mapping[str, Any], several: bool = True) -> list[Trial]:
    r"""The trials for a norm that takes these options, from the simplest to the most special.

    Args:
        like: its name.
        own: the options that it takes.
        needed: what it needs, for it cannot do otherwise.
        several: whether the norm is of several last dimensions too.

    >>> [trial.shape for trial in trials("LayerNorm", {}, {})]
    [(3, 4, 4), (2, 3, 5), (2, 5), (4, 2, 3), (2, 8)]
    """
    needed = {**needed, **({"eps": 1e-6} if like == "RMSNorm" else {})}  # torch's default changes with the precision
    modes = (True, True, False, True) if like.startswith(("Batch", "Instance")) else (True, False)
    settings = [{**needed, **{name: value for name, value in one.items() if name in own}} for one in _SETTINGS]
    settings = [setting for i, setting in enumerate(settings) if setting not in settings[:i]]
    first, *others = [one for one in _SHAPES[like] if several or not isinstance(one[0][0], tuple)]
    found = [Trial(like, first[0], setting, first[1], modes) for setting in settings]
    found += [Trial(like, arguments, needed, shape, modes) for arguments, shape in others]
    return [*found, Trial(like, _FAR[like][0], needed, _FAR[like][1], modes, mean=10_000.0)]
