r"""Judges a layer or a function by all that it computes, output, gradients and statistics, beside torch's numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlnotes.attempts import not_tried, raised
from dlnotes.diagnosis import same, search, told
from dlnotes.rules import Mistake
from dlnotes.trials import Array, Words

Quantity = tuple[Words, Array]


class Wrong(Exception):
    r"""What is wrong beside the numbers, in English and in Chinese; a sentence goes on with it.

    >>> Wrong("the input is changed", "输入被改动了").words[1]
    '输入被改动了'
    """

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.words = en, zh


@dataclass(frozen=True, eq=False)
class Case:
    r"""One trial of a layer.

    Attributes:
        setting: the input and the options, in both languages.
        take: takes a candidate through the trial and gives each quantity with its name; may raise :class:`Wrong`.
        cause: what is wrong, as a rule, with code that fails here and in no trial before.
        tolerance: how far a number may be off, absolute and relative.

    >>> case = Case(("x = 2", "x = 2"), lambda square: iter([(("y", "y"), np.array(square(2.0)))]))
    >>> list(case.take(lambda x: x * x))
    [(('y', 'y'), array(4.))]
    """

    setting: Words
    take: Callable[[Any], Iterator[Quantity]]
    cause: Words = ("", "")
    tolerance: float = 1e-10


@dataclass(frozen=True, eq=False)
class _Result:
    case: Case
    ours: list[Quantity]
    fault: Words | None
    torchs: list[Quantity]

    @property
    def first(self) -> int | None:
        """The place of the first quantity that differs, or is missing because of a fault; None if there is none."""
        for i, pair in enumerate(zip(self.ours, self.torchs, strict=False)):
            if not _equal(*pair, self.case.tolerance):
                return i
        return len(self.ours) if self.fault else None


def judge(
    name: str,
    like: Words,
    candidate: Any,
    torchs: Any,
    cases: Sequence[Case],
    usual: Sequence[Mistake],
    with_mistakes: Callable[[Sequence[Mistake]], Any],
    missing: Sequence[str] = (),
) -> tuple[bool, str, str]:
    r"""Whether a candidate gives torch's numbers in all cases, and the answer in English and in Chinese.

    Args:
        name: the candidate's.
        like: what it should be like, in both languages.
        candidate: the reader's code, as :attr:`Case.take` takes it; ``torchs`` is torch's.
        torchs: what is right.
        cases: from the simplest to the most special.
        usual: the usual mistakes.
        with_mistakes: makes a candidate that has them.
        missing: options that the candidate does not take, so that they were not tried.

    >>> case = Case(("x = 3", "x = 3"), lambda square: iter([(("the square", "平方"), np.array(square(3.0)))]))
    >>> double = Mistake("it doubles", "结果翻了一倍，没有平方", {"y = x * x": "y = x + x"})
    >>> arguments = (lambda x: x * x, [case], [double], lambda mistakes: lambda x: x + x)
    >>> print(judge("mine", ("a square", "平方"), lambda x: 2 * x, *arguments)[1])
    `mine` is not yet a square. With x = 3, the square is 6; it should be 9. It doubles. Your numbers are ...
    """
    results = [_Result(case, *_attempt(case, candidate), _attempt(case, torchs)[0]) for case in cases]
    failed = [result for result in results if result.first is not None]
    if not failed:
        n, gap = len(results), " " if like[1][-1].isascii() else ""
        en = f"`{name}` computes what {like[0]} does: {n} trials, forward and backward, equal but for rounding."
        zh = f"`{name}` 的计算与 {like[1]}{gap}相同：{n} 组测试，前向和反向都只差舍入误差。"
        untried = not_tried(missing)
        return True, f"{en}{untried[0]}", f"{zh}{untried[1]}"
    en, zh = _place(failed[0])
    why_en, why_zh = _reason(failed[0], results, usual, with_mistakes)
    return False, f"`{name}` is not yet {like[0]}. {en}{why_en}", f"`{name}` 还不是 {like[1]}。{zh}{why_zh}"


def _attempt(case: Case, candidate: Any) -> tuple[list[Quantity], Words | None]:
    found: list[Quantity] = []
    try:
        found.extend(case.take(candidate))  # what came before an error stays
    except Wrong as wrong:
        return found, wrong.words
    except Exception as error:
        return found, raised(error)
    return found, None


def _equal(one: Quantity, other: Quantity, tolerance: float) -> bool:
    (_, a), (_, b) = one, other
    return a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def _place(result: _Result) -> Words:
    """The setting, the first quantity that differs, and by which numbers."""
    i, start = result.first or 0, (f"With {result.case.setting[0]}", result.case.setting[1])
    if i == len(result.ours):
        fault = result.fault or ("", "")
        return f"{start[0]}, {fault[0]}.", f"{start[1]}，{fault[1]}。"
    (label, mine), (_, right) = result.ours[i], result.torchs[i]
    en, zh = f"{start[0]}, ", f"{start[1]}，"
    if mine.shape != right.shape:
        return (
            f"{en}{label[0]} has shape {mine.shape}; it should have {right.shape}.",
            f"{zh}{label[1]}的形状是 {mine.shape}，应该是 {right.shape}。",
        )
    tolerance = {"rtol": result.case.tolerance, "atol": result.case.tolerance}
    off = ~np.isclose(mine, right, **tolerance, equal_nan=True)
    place = tuple(int(k) for k in np.unravel_index(int(np.argmax(off)), mine.shape))
    entry = (f"entry {list(place)} of ", f"的分量 {list(place)}（从 0 数起）") if place else ("", "")
    now, wanted = f"{mine[place]:.7g}", f"{right[place]:.7g}"
    if now == wanted:
        now, wanted = f"{mine[place]:.12g}", f"{right[place]:.12g}"
    return (
        f"{en}{entry[0]}{label[0]} is {now}; it should be {wanted}.",
        f"{zh}{label[1]}{entry[1]}是 {now}，应该是 {wanted}。",
    )


def _reason(
    result: _Result,
    results: Sequence[_Result],
    usual: Sequence[Mistake],
    with_mistakes: Callable[[Sequence[Mistake]], Any],
) -> Words:
    """The mistake, as far as it can be found; else where to look."""
    if result.case.cause[0]:
        return (
            f" The plainer trials come out right, so most likely {result.case.cause[0]}.",
            f"更普通的测试都对，所以多半是：{result.case.cause[1]}。",
        )
    if result.first == len(result.ours):
        return "", ""  # the fault has said it
    found = search(
        usual,
        lambda mistakes: _explains(result, with_mistakes(mistakes), result.first),
        lambda mistakes: all(_explains(r, with_mistakes(mistakes)) for r in results),
    )
    if found:
        en, zh = told(*found)
        return f" {en}", zh
    (_, mine), (_, right) = result.ours[result.first or 0], result.torchs[result.first or 0]
    if mine.shape == right.shape and same([mine], [right], torch.float32):
        return (
            " The first four digits or more agree: a small number may be another, or something is a float32 where the "
            "input is a float64.",
            "前几位数字都相同：可能是某个很小的数不同，也可能输入是 float64，而某个量是 float32。",
        )
    return " No usual mistake gives these numbers.", "常见的错误都得不出这样的结果。"


def _explains(result: _Result, candidate: Any, last: int | None = None) -> bool:
    """Whether a candidate gives the reader's numbers, up to the ``last``, or fails after them too."""
    wanted = result.ours if last is None else result.ours[: last + 1]
    given, equal = result.case.take(candidate), 0
    try:
        for one in wanted:  # nothing more is computed than it takes
            if not _equal(one, next(given), result.case.tolerance):
                return False
            equal += 1
        return last is not None or next(given, None) is None
    except (Wrong, StopIteration, RuntimeError, ValueError, IndexError, ArithmeticError):
        return equal == len(wanted) and result.fault is not None


def array(tensor: Tensor | None, shape: Sequence[int] | None = None) -> Array:
    r"""The numbers of a tensor, as they are now; 0 in this shape where there is none, as for an unused gradient.

    >>> array(None, (2,))
    array([0., 0.])
    """
    if tensor is None:
        return np.zeros(tuple(shape or ()))
    return tensor.detach().numpy().copy()
