r"""Finds the mistake behind wrong numbers: the rule is run with each usual mistake, until the numbers are the same."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
import torch

from dlnotes.mistakes import MISTAKES
from dlnotes.rules import RULES, Mistake
from dlnotes.trials import STEPS, Array, Trial, Words

Path = list[list[Array]]
_NAMES = {"sqrt": np.sqrt, "maximum": np.maximum, "abs": np.abs}


def walk(
    like: str, trial: Trial, defaults: Mapping[str, Any], mistakes: Sequence[Mistake] = ()
) -> Iterator[list[Array]]:
    r"""The parameters after each step by the rule's own lines, in NumPy and with these mistakes in them.

    >>> defaults = {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
    >>> next(walk("SGD", Trial({"lr": 0.1}), defaults))[0].round(3)
    array([ 1.5  , -0.757,  2.261,  1.499])
    """
    options = dict(defaults) | dict(trial.options)
    if "betas" in options:
        options["beta1"], options["beta2"] = options["betas"]
    start, step = _code(like, mistakes)
    runs = {word for mistake in mistakes for word in mistake.run.split()}
    states: list[dict[str, Any]] = []
    places: list[Array | None] = [None] * len(trial.shapes)  # where the gradients lie
    parameters = [trial.start(i) for i in range(len(trial.shapes))]
    for _ in parameters:
        states.append(states[0] if states and "shared" in runs else _NAMES | options | {"t": 0})
        exec(start, states[-1])
    updates = 0
    with np.errstate(all="ignore"):
        for t in range(1, STEPS + 1):
            for i, state in enumerate(states):
                gradient = trial.gradient(t, i)
                if gradient is None:
                    continue
                place = places[i]
                if trial.in_place and place is not None:
                    place[...] = gradient
                else:
                    place = places[i] = gradient
                updates += 1
                own = state["t"] + (i == 0 or "shared" not in runs)
                count = updates if "each" in runs else t if "calls" in runs else own
                lr = options["lr"] * trial.factor(t, i)
                state.update({"t": count, "lr": lr, "g": place, "θ": parameters[i]})
                exec(step, state)
                parameters[i] = state["θ"]
            yield [np.array(p) for p in parameters]


def _code(like: str, mistakes: Sequence[Mistake]) -> tuple[CodeType, CodeType]:
    changed = {right: wrong for mistake in mistakes for right, wrong in mistake.lines.items()}
    rule = RULES[like]
    start, step = ("\n".join(changed.get(line, line) for line in lines) for lines in (rule.start, rule.step))
    return compile(start, "<rule>", "exec"), compile(step, "<rule>", "exec")


def same(one: Sequence[Array], other: Sequence[Array], dtype: torch.dtype = torch.float64) -> bool:
    r"""Whether the parameters of one step are equal but for rounding; NaN is equal to NaN.

    >>> same([np.array([1.0])], [np.array([1.0 + 1e-14])]), same([np.array([1.0])], [np.array([1.001])])
    (True, False)
    """
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    return all(
        np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True) for a, b in zip(one, other, strict=True)
    )


def named(
    like: str, defaults: Mapping[str, Any], seen: Sequence[tuple[Trial, Path]], first: int
) -> tuple[tuple[Mistake, ...], bool] | None:
    r"""The mistakes with which the rule gives the reader's numbers, and whether it does in every trial.

    One mistake is looked for before two, and one that explains all trials before one that explains the ``first`` that
    failed. None if there is none.

    Args:
        like: the optimizer's name.
        defaults: of the reader's optimizer, for what a trial does not set.
        seen: trials and the paths that the reader's optimizer took in them.
        first: the place in ``seen`` of the first trial that failed.

    >>> trial, options = Trial({"lr": 0.1}), {"momentum": 0, "dampening": 0, "weight_decay": 0}
    >>> options |= {"nesterov": False, "maximize": False}
    >>> uphill = list(walk("SGD", trial, options | {"maximize": True}))
    >>> named("SGD", options, [(trial, uphill)], 0)[0][0].en
    'the sign of the step is wrong, so it goes uphill'
    """
    rest = [*seen[:first], *seen[first + 1 :]]
    return search(
        MISTAKES[like],
        lambda mistakes: _explains(like, defaults, *seen[first], mistakes),
        lambda mistakes: all(_explains(like, defaults, *one, mistakes) for one in rest),
    )


def search(
    usual: Sequence[Mistake],
    here: Callable[[Sequence[Mistake]], bool],
    elsewhere: Callable[[Sequence[Mistake]], bool],
) -> tuple[tuple[Mistake, ...], bool] | None:
    r"""The first mistakes, one or two, that explain what is ``here``, before others if they do ``elsewhere`` too.

    >>> uphill, no_root = Mistake("it goes uphill", "", {"a": ""}), Mistake("the root is missing", "", {"b": ""})
    >>> search([uphill, no_root], lambda found: no_root in found, lambda found: False)[0][0].en
    'the root is missing'
    """
    pairs = (pair for pair in itertools.combinations(usual, 2) if _independent(*pair))
    found = None
    for mistakes in itertools.chain(((mistake,) for mistake in usual), pairs):
        if here(mistakes):
            if elsewhere(mistakes):
                return mistakes, True
            found = found or mistakes
    return (found, False) if found else None


def told(mistakes: Sequence[Mistake], everywhere: bool) -> Words:
    r"""The mistakes in words, and the lines that they change; ``everywhere``: they explain all that differs.

    >>> told([Mistake("the root is missing", "漏了开方", {"y = sqrt(x)": "y = x"})], everywhere=True)[0]
    'The root is missing. Your numbers are those of `y = x` in place of `y = sqrt(x)`.'
    """
    texts = [mistake.en for mistake in mistakes]  # ε and γ stay small: their capitals are other symbols
    en = " ".join((text[0].upper() if text[0].isascii() else text[0]) + text[1:] + "." for text in texts)
    zh = "".join(mistake.zh + "。" for mistake in mistakes)
    if len(mistakes) > 1:
        en, zh = f"There are two mistakes. {en}", f"有两处错。{zh}"
    changes = [change for mistake in mistakes for change in mistake.changes()]
    if changes:
        pairs = [f"`{bad}` in place of `{good}`" for good, bad in changes]
        en += f" Your numbers are those of {' and '.join(pairs)}."
        pairs = [f"把 `{good}` 写成 `{bad}`" for good, bad in changes]
        zh += f"{'、'.join(pairs)}，得到的正是你的结果。"
    if not everywhere:
        en += " In other settings something else differs too: mend this and check again."
        zh += "别的设置里还有不同的地方：先改好这一处，再检查一遍。"
    return en, zh


def _independent(one: Mistake, other: Mistake) -> bool:
    """Both change something, and not the same."""
    return not (one.run and other.run) and not (one.lines.keys() & other.lines.keys())


def _explains(like: str, defaults: Mapping[str, Any], trial: Trial, path: Path, mistakes: Sequence[Mistake]) -> bool:
    try:
        return all(map(same, walk(like, trial, defaults, mistakes), path))
    except (ValueError, ArithmeticError):  # a shared state does not fit every shape; 0 is divided by 0
        return False
