r"""Finds the mistake behind wrong numbers: the rule is run with each usual mistake, until the numbers are the same."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
import torch

from dlnotes.mistakes import MISTAKES
from dlnotes.rules import RULES, Mistake
from dlnotes.trials import STEPS, Array, Trial

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
    usual = MISTAKES[like]
    pairs = (pair for pair in itertools.combinations(usual, 2) if _independent(*pair))
    rest, here = [*seen[:first], *seen[first + 1 :]], None
    for mistakes in itertools.chain(((mistake,) for mistake in usual), pairs):
        if _explains(like, defaults, *seen[first], mistakes):
            if all(_explains(like, defaults, *one, mistakes) for one in rest):
                return mistakes, True
            here = here or mistakes
    return (here, False) if here else None


def _independent(one: Mistake, other: Mistake) -> bool:
    """Both change something, and not the same."""
    return not (one.run and other.run) and not (one.lines.keys() & other.lines.keys())


def _explains(like: str, defaults: Mapping[str, Any], trial: Trial, path: Path, mistakes: Sequence[Mistake]) -> bool:
    try:
        return all(map(same, walk(like, trial, defaults, mistakes), path))
    except (ValueError, ArithmeticError):  # a shared state does not fit every shape; 0 is divided by 0
        return False
