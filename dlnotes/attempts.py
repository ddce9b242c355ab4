r"""Taking an optimizer through a trial: where its parameters were after each step, and what went wrong beside."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlnotes.trials import STEPS, Array, Make, Trial, Words


@dataclass
class Fault:
    r"""What went wrong beside the numbers, and in which step; 0 is before the first.

    >>> Fault(2, ("step() changed the gradient", "step() 改动了梯度")).step
    2
    """

    step: int
    words: Words


@dataclass
class Outcome:
    r"""Where the parameters were after each step, ``path[t - 1][number]``, and the fault that ended it, if any.

    >>> outcome = attempt(torch.optim.SGD, Trial({"lr": 0.1}))
    >>> len(outcome.path), outcome.fault
    (8, None)
    """

    path: list[list[Array]] = field(default_factory=list)
    states: list[list[dict[str, Array]]] = field(default_factory=list)
    fault: Fault | None = None
    optimizer: Any = None


def attempt(make: Make, trial: Trial) -> Outcome:
    r"""Take an optimizer through a trial; whatever it raises is the outcome's fault.

    >>> def broken(params, lr):
    ...     raise ValueError("not yet written")
    >>> attempt(broken, Trial({"lr": 0.1})).fault.words[0]
    'making it raised ValueError: not yet written (at `raise ValueError("not yet written")`)'
    """
    parameters = [_tensor(trial.start(i), trial.dtype).requires_grad_() for i in range(len(trial.shapes))]
    outcome, step = Outcome(), 0
    try:
        optimizer = outcome.optimizer = make(_given(parameters, trial), **trial.options)
        for step in range(1, STEPS + 1):
            if trial.falling and step == STEPS // 2 + 1:
                _halve(optimizer)
            outcome.fault = _one_step(optimizer, parameters, trial, step)
            if outcome.fault:
                break
            outcome.path.append([p.detach().numpy().copy() for p in parameters])
            outcome.states.append([_state(optimizer, p) for p in parameters])
    except Exception as error:
        outcome.fault = Fault(step, _raised(error, step))
    return outcome


def _given(parameters: list[Tensor], trial: Trial) -> Any:
    if trial.groups:
        rates = [trial.options["lr"] * trial.factor(1, i) for i in range(len(parameters))]
        return [{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)]
    return iter(parameters) if trial.iterator else parameters


def _tensor(values: Array, dtype: torch.dtype) -> Tensor:
    """A matrix lies transposed in memory, as weights often do."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor


def _halve(optimizer: Any) -> None:
    if isinstance(getattr(optimizer, "param_groups", None), list):
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
    else:
        optimizer.lr *= 0.5


def _one_step(optimizer: Any, parameters: list[Tensor], trial: Trial, t: int) -> Fault | None:
    if trial.in_place:
        for p in parameters:
            if p.grad is not None:
                p.grad.zero_()
    elif hasattr(optimizer, "zero_grad"):
        optimizer.zero_grad()
        if any(p.grad is not None and p.grad.any() for p in parameters):
            return Fault(t, ("`zero_grad()` leaves the old gradients", "`zero_grad()` 没有清掉旧的梯度"))
    else:
        for p in parameters:
            p.grad = None
    for number, p in enumerate(parameters):
        gradient = trial.gradient(t, number)
        if gradient is None:
            p.grad = None
        elif p.grad is None:
            p.grad = _tensor(gradient, trial.dtype)
        else:  # as backward() does it
            p.grad += _tensor(gradient, trial.dtype)
    before = [None if p.grad is None else p.grad.clone() for p in parameters]
    optimizer.step()
    torchs = type(optimizer).__module__.startswith("torch.optim.")
    return _left_behind(parameters, before, trial, t, torchs)


def _left_behind(
    parameters: list[Tensor], before: list[Tensor | None], trial: Trial, t: int, torchs: bool
) -> Fault | None:
    """What a step may not touch: gradients, types and shapes."""
    for number, (p, old) in enumerate(zip(parameters, before, strict=True)):
        same = p.grad is None if old is None else p.grad is not None and torch.equal(p.grad, old)
        if not same and trial.in_place and t > 1:
            return Fault(t, trial.cause)
        if not same and not torchs:  # some of torch's own do it: Nesterov's momentum with foreach=True
            en = "`step()` changes the gradient itself, which others still read: write `g = g + …`, not `g += …`"
            zh = "`step()` 改动了梯度本身，可梯度别处还要用。写 `g = g + …`，不要写 `g += …`"
            return Fault(t, (en, zh))
        if p.dtype != trial.dtype or p.shape != trial.shapes[number]:
            now, was = f"{p.dtype} {tuple(p.shape)}", f"{trial.dtype} {trial.shapes[number]}"
            return Fault(t, (f"the parameter became {now}; it was {was}", f"参数变成了 {now}，原来是 {was}"))
    return None


def _state(optimizer: Any, parameter: Tensor) -> dict[str, Array]:
    state = getattr(optimizer, "state", None)
    if not isinstance(state, Mapping):
        return {}
    own = state.get(parameter, {})
    if not isinstance(own, Mapping):
        return {}
    return {
        str(name): value.detach().numpy().copy()
        for name, value in own.items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    }


def _raised(error: Exception, step: int) -> Words:
    """An exception in words; for the usual ones, what to do."""
    text, hint = str(error), ("", "")
    if "leaf Variable" in text and "in-place" in text:
        hint = "; put `@torch.no_grad()` above `step`", "。在 `step` 上面写 `@torch.no_grad()`"
    elif "NoneType" in text and step:
        hint = "; skip the parameters whose `grad` is None", "。`grad` 是 None 的参数要跳过"
    elif isinstance(error, ZeroDivisionError) and step == 1:
        hint = (
            "; does your step count start at 0? Then `1 - beta**0` is 0; it starts at 1",
            "。步数是不是从 0 数起的？`1 - beta**0` 等于 0，应该从 1 数起",
        )
    en, zh = raised(error, making=not step)
    return en + hint[0], zh + hint[1]


def not_tried(missing: Sequence[str]) -> Words:
    r"""A sentence on the options that code does not take; nothing where it takes all.

    >>> not_tried(["eps"])
    (' Not tried, because it does not take them: `eps`.', '它不接受的选项没有测试：`eps`。')
    """
    names = [f"`{option}`" for option in missing]
    if not names:
        return "", ""
    return (
        f" Not tried, because it does not take them: {', '.join(names)}.",
        f"它不接受的选项没有测试：{'、'.join(names)}。",
    )


def raised(error: Exception, making: bool = False) -> Words:
    r"""An exception in words, with the line of the reader's code; ``making``: it came when the code was made.

    >>> raised(KeyError("lr"))
    ("it raised KeyError: 'lr'", "代码抛出了 KeyError: 'lr'")
    """
    text = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
    inside = {Path(file).parent for file in (torch.__file__, __file__)}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not inside & {*Path(f.filename).parents}]
    line = next((f" (at `{f.line}`)" for f in reversed(frames) if f.line), "")
    what = ("making it raised", "创建时抛出了") if making else ("it raised", "代码抛出了")
    return (
        f"{what[0]} {text}{line}",
        f"{what[1]} {text}{line.replace('(at ', '（在 ').replace('`)', '` 处）').strip()}",
    )
