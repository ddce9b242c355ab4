r"""What the trials of an optimizer say, in words: which step differs first, and by which mistake."""

import functools
import inspect
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import Optimizer

from dlnotes.attempts import Outcome, attempt, not_tried
from dlnotes.diagnosis import named, same, told, walk
from dlnotes.trials import STEPS, Make, Trial, Words, taken, trials


@dataclass(frozen=True, eq=False)
class _Result:
    """A trial as the reader's optimizer went through it and as torch's did."""

    trial: Trial
    ours: Outcome
    torchs: Outcome

    @property
    def step(self) -> int | None:
        """The first step that is not torch's; 0 where it could not be made, None where all are equal."""
        for t, (one, other) in enumerate(zip(self.ours.path, self.torchs.path, strict=False), 1):
            if not same(one, other, self.trial.dtype):
                return t
        return self.ours.fault.step if self.ours.fault else None


def judge(make: Make, like: str) -> tuple[bool, str, str]:
    r"""Whether an optimizer takes torch's steps, and the answer in English and in Chinese.

    >>> judge(torch.optim.SGD, "SGD")[0], judge(torch.optim.Adam, "SGD")[0]
    (True, False)
    """
    name = getattr(make, "__name__", type(make).__name__)
    torchs, own = taken(make, like)
    if "lr" not in own:
        return False, f"`{name}` takes no `lr`, the learning rate.", f"`{name}` 没有学习率参数 `lr`。"
    called = _made_of(make) if _is_rule(make, torchs) else make
    results: list[_Result] = []
    for trial in trials(make, like):
        if not results or _applies(trial, results[0].ours.optimizer):
            results.append(_Result(trial, attempt(called, trial), _torchs(like, trial)))
    failed = [i for i, result in enumerate(results) if result.step is not None]
    if failed:
        en, zh = _place(results[failed[0]])
        why_en, why_zh = _reason(called, like, torchs, own, results, failed)
        start = f"`{name}` is not yet torch's {like}.", f"`{name}` 还不是 torch 的 {like}。"
        return False, " ".join(filter(None, (start[0], en, why_en))), f"{start[1]}{zh}{why_zh}"
    en = f"`{name}` takes the steps of torch's {like}: {len(results)} trials of {STEPS} steps, equal but for rounding."
    zh = f"`{name}` 走的每一步都与 torch 的 {like} 相同：{len(results)} 组测试，每组 {STEPS} 步，只差舍入误差。"
    missing = not_tried([option for option in torchs if option not in own])
    en, zh = en + missing[0], zh + missing[1]
    if not isinstance(results[0].ours.optimizer, Optimizer):
        en += " Nor were groups of parameters tried, as it is no `torch.optim.Optimizer`."
        zh += "它不是 `torch.optim.Optimizer`，所以参数组也没有测试。"
    return True, en, zh


@functools.lru_cache(maxsize=1000)
def _torchs(like: str, trial: Trial) -> Outcome:
    """What torch's plain loop makes of a trial."""
    return attempt(functools.partial(getattr(torch.optim, like), foreach=False), trial)


def _is_rule(make: Make, torchs: Mapping[str, Any]) -> bool:
    """A function of a parameter, a gradient and a state, rather than one that makes an optimizer."""
    if not inspect.isfunction(make):
        return False
    given = list(inspect.signature(make).parameters.values())[:3]
    return len(given) == 3 and all(p.default is p.empty and p.kind <= 1 and p.name not in torchs for p in given)


def _made_of(rule: Make) -> Make:
    class FromRule(Optimizer):
        def __init__(self, params: Any, **options: Any):
            super().__init__(params, options)

        @torch.no_grad()
        def step(self) -> None:  # pyright: ignore
            for group in self.param_groups:
                options = {name: value for name, value in group.items() if name != "params"}
                for p in group["params"]:
                    if p.grad is not None:
                        new = rule(p, p.grad, self.state[p], **options)
                        if new is not None:
                            p.copy_(new)

    return FromRule


def _applies(trial: Trial, optimizer: Any) -> bool:
    """Groups are for a subclass of torch's optimizers, another learning rate where it lies open."""
    if trial.groups:
        return isinstance(optimizer, Optimizer)
    rate = getattr(optimizer, "lr", None)
    return not trial.falling or isinstance(optimizer, Optimizer) or isinstance(rate, int | float)


# ---- where it differs


def _place(result: _Result) -> Words:
    """The setting, the first step that differs, and by which numbers."""
    trial, ours, t = result.trial, result.ours, result.step
    options = ", ".join(f"{name}={value}" for name, value in trial.options.items())
    en, zh = f"With {options}", f"取 {options}"
    if trial.special[0]:
        en, zh = f"{en} and {trial.special[0]}", f"{zh}，{trial.special[1]}"
    if not t or t > len(ours.path):  # it stopped there
        fault = ours.fault.words if ours.fault else ("", "")
        step = (f", in step {t}", f"第 {t} 步") if t else ("", "")
        return f"{en}{step[0]}, {fault[0]}.", f"{zh}，{step[1]}{fault[1]}。"
    mine, theirs = ours.path[t - 1], result.torchs.path[t - 1]
    i = next(i for i, pair in enumerate(zip(mine, theirs, strict=True)) if not same(pair[:1], pair[1:], trial.dtype))
    before = trial.start(i) if t == 1 else result.torchs.path[t - 2][i]
    place = int(np.argmax(~np.isclose(mine[i], theirs[i], rtol=1e-10, atol=1e-10, equal_nan=True)))
    was, now, right = (f"{array.flat[place]:.7g}" for array in (before, mine[i], theirs[i]))
    of = ("the parameter", "参数") if len(mine) == 1 else (f"parameter {i}", f"参数 {i} ")
    en = f"{en}, step {t} takes entry {place} of {of[0]} from {was} to {now}; torch's goes to {right}."
    zh = f"{zh}，第 {t} 步把{of[1]}的第 {place} 个分量（从 0 数起）从 {was} 变成 {now}，torch 的变成 {right}。"
    return en, zh


# ---- why


def _reason(
    make: Make, like: str, torchs: Mapping[str, Any], own: Mapping[str, Any],
    results: Sequence[_Result], failed: Sequence[int],
) -> Words:  # fmt: skip
    """The mistake, as far as it can be found; else where to look."""
    result, first = results[failed[0]], results[0]
    trial, path, t = result.trial, result.ours.path, result.step
    again = attempt(make, first.trial).path
    if again and first.ours.path and not all(map(same, again, first.ours.path)):
        en = "A second optimizer goes another way than the first, in the same trial: it starts with what the first one "
        en += "left. Make its state in `__init__`, not in the class or in a default."
        zh = "同样的测试，再造一个优化器，走的路就不同了：它用了上一个留下的状态。"
        return en, f"{zh}状态要在 `__init__` 里新建，不要放在类上或默认参数里。"
    if not t or t > len(path):
        return "", ""  # the fault has said it
    if not trial.special[0] and all(np.array_equal(p, trial.start(i)) for i, p in enumerate(path[-1])):
        en = "Nothing moved. `p = p - …` only gives the name `p` to a new tensor: change it in place, as `p.sub_(…)`."
        return en, "参数一点没动。`p = p - …` 只是让名字 `p` 指向了新的张量。要在原处修改，例如用 `p.sub_(…)`。"

    defaults = {name: _like(own.get(name), value) for name, value in torchs.items()}
    others = [name for name, value in defaults.items() if name not in ("lr", *trial.options) and value != torchs[name]]
    if others and _explained(like, defaults, result):
        en = "; ".join(f"the default of `{name}` is {defaults[name]}, torch's is {torchs[name]}" for name in others)
        zh = "；".join(f"`{name}` 的默认值是 {defaults[name]}，torch 的是 {torchs[name]}" for name in others)
        return f"{en[0].upper()}{en[1:]}.", f"{zh}。"
    seen = [r for r in results if not r.ours.fault and r.trial.dtype == torch.float64]
    if result in seen:
        found = named(like, defaults, [(r.trial, r.ours.path) for r in seen], seen.index(result))
        if found:
            return told(*found)
    if trial.special[0]:
        return (
            f"The plain settings come out right, so most likely {trial.cause[0]}.",
            f"普通的设置都对，所以多半是：{trial.cause[1]}。",
        )
    return _hint(results, failed)


def _like(value: Any, pattern: Any) -> Any:
    """A default of the reader's if it is of the kind of torch's."""
    if isinstance(pattern, tuple):
        return value if isinstance(value, Sequence) and len(value) == len(pattern) else pattern
    return value if isinstance(value, numbers.Real) else pattern


def _explained(like: str, defaults: Mapping[str, Any], result: _Result) -> bool:
    return all(map(same, walk(like, result.trial, defaults), result.ours.path))


def _hint(results: Sequence[_Result], failed: Sequence[int]) -> Words:
    """No usual mistake: what the trials that failed have in common."""
    first = results[failed[0]]
    off = max(
        float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-6)))
        for one, other in zip(first.ours.path, first.torchs.path, strict=False)
        for a, b in zip(one, other, strict=True)
    )
    if off < 1e-4:
        en = "The first four digits or more agree: the formula may be right, but something is a float32 where the "
        en += "parameter is a float64, such as a state made by `torch.zeros` or a step count kept in a tensor."
        zh = "前几位数字都相同，公式可能没错，但参数是 float64，而某个量是 float32，"
        return en, f"{zh}例如用 `torch.zeros` 建的状态，或者存成张量的步数。"
    plain = [i for i, result in enumerate(results) if not result.trial.special[0]]
    bad, good = ([i for i in plain if (i in failed) == wrong] for wrong in (True, False))
    common = set.intersection(*(set(results[i].trial.options) for i in bad))
    blamed = common - {name for i in good for name in results[i].trial.options}
    if good and blamed:
        names = ", ".join(f"`{name}`" for name in sorted(blamed))
        en, zh = (
            f"All plain settings without {names} come out right: look there.",
            f"没有 {names} 的普通设置都对，问题在那里。",
        )
    elif first.step == 1:
        en, zh = "No usual mistake gives these numbers.", "常见的错误都得不出这样的结果。"
    else:
        en = "The steps before are right, and no usual mistake gives these numbers: look at what is kept between steps."
        zh = "前面的步都对，常见的错误又都得不出这样的结果：检查从一步留到下一步的量。"
    kept = _states(first)
    if kept:
        en, zh = (
            f"{en} In the state, `{kept[0]}` differs from step {kept[1]} on.",
            f"{zh}状态里的 `{kept[0]}` 从第 {kept[1]} 步起就不同。",
        )
    return en, zh


def _states(result: _Result) -> tuple[str, int] | None:
    """The first entry of the state, under torch's name, that is not torch's, and the step."""
    for t, (one, other) in enumerate(zip(result.ours.states, result.torchs.states, strict=False), 1):
        for ours, theirs in zip(one, other, strict=True):
            for name in ours.keys() & theirs.keys():
                if not same([ours[name]], [theirs[name]], result.trial.dtype):
                    return name, t
    return None
