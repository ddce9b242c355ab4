r"""The trials of attention: lengths, widths, heads, masks, rows that may look nowhere, causal or not, large scores.

All numbers are formulas of the place, without any chance.
"""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dlnotes.layer_judging import Case, Quantity, Wrong, array
from dlnotes.trials import Make, Words

_OVERFLOW = (
    "`exp` overflows: the largest score of a row is to be subtracted first, as `softmax` does it",
    "`exp` 溢出了：每一行要先减去最大的得分，`softmax` 就是这样做的",
)
_HALF = (
    "something is made in another precision, such as a mask of zeros and `-inf` by `torch.zeros`",
    "有的量精度不同，例如用 `torch.zeros` 建的、由 0 和 `-inf` 组成的掩码",
)


@dataclass(frozen=True)
class Trial:
    r"""One setting of attention.

    Attributes:
        heads: the leading dimensions.
        lengths: of queries and keys.
        widths: of queries and keys, and of values.
        mask: what it hides: ``""``, nothing; ``"some"``, of every row something; ``"padding"``, keys of one sentence,
            for all its queries; ``"nowhere"``, all of one row.
        causal: asked for by the keyword.
        size: by which queries and keys are multiplied.
        dtype: of the input.

    >>> [x.shape for x in Trial((2,), (3, 5), (4, 2)).input()]
    [torch.Size([2, 3, 4]), torch.Size([2, 5, 4]), torch.Size([2, 5, 2])]
    """

    heads: tuple[int, ...]
    lengths: tuple[int, int]
    widths: tuple[int, int]
    mask: str = ""
    causal: bool = False
    size: float = 1.0
    dtype: torch.dtype = torch.float64

    def input(self) -> list[Tensor]:
        r"""Query, key, value."""
        (queries, keys), (width, out) = self.lengths, self.widths
        shapes = (queries, width), (keys, width), (keys, out)
        made = [_waves((*self.heads, *shape), i) for i, shape in enumerate(shapes)]
        return [(x * size).to(self.dtype) for x, size in zip(made, (self.size, self.size, 1), strict=True)]

    def seen(self) -> Tensor | None:
        r"""The mask: True, may look."""
        if not self.mask:
            return None
        queries, keys = self.lengths
        if self.mask == "padding":  # (batch, 1, ..., 1, keys)
            mask = torch.ones(self.heads[0], *[1] * len(self.heads), keys, dtype=torch.bool)
            mask[-1, ..., -2:] = False
            return mask
        rows, columns = torch.arange(queries)[:, None], torch.arange(keys)
        mask = (rows + 2 * columns) % 3 != 0
        mask[:, 1] = True
        if self.mask == "nowhere":
            mask[1] = False
        return mask

    def case(self) -> Case:
        r"""What is told of it, and how it is taken."""
        q, k, v = (tuple(x.shape) for x in self.input())
        en, zh = f"query {q}, key {k}, value {v}", f"query {q}、key {k}、value {v}"
        words: dict[str, Words] = {
            "some": ("a mask", "有掩码"),
            "padding": ("a mask of padding", "遮住填充的掩码"),
            "nowhere": ("a mask in which query 1 may look nowhere", "掩码使查询 1 哪里都不能看"),
        }
        parts = [words[self.mask]] if self.mask else []
        parts += [("causal=True", "causal=True")] * self.causal
        parts += [("large scores", "得分很大")] * (self.size > 1)
        single = self.dtype == torch.float32
        parts += [("float32", "float32")] * single
        setting = ", ".join([en, *(p[0] for p in parts)]), "，".join([zh, *(p[1] for p in parts)])
        if single:
            return Case(setting, self.take, _HALF, 1e-4)
        return Case(setting, self.take, _OVERFLOW if self.size > 1 else ("", ""))

    def take(self, attend: Make) -> Iterator[Quantity]:
        r"""Output, weights if they are given too, and the gradients of query, key and value."""
        inputs, mask = [x.requires_grad_() for x in self.input()], self.seen()
        options = {"causal": True} if self.causal else {}
        y = attend(*inputs, *([mask.clone()] if mask is not None else []), **options)
        if isinstance(y, tuple):
            y = y[0]
        if not isinstance(y, Tensor) or y.dtype != self.dtype:
            what = y.dtype if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise Wrong(f"the output is {what}; it should be {self.dtype}", f"输出是 {what}，应该是 {self.dtype}")
        if not all(torch.equal(x, old) for x, old in zip(inputs, self.input(), strict=True)):
            raise Wrong("the input is changed", "输入被改动了")
        yield ("the output", "输出"), array(y)
        if not y.requires_grad:
            raise Wrong("the output has no gradient", "输出没有梯度")
        gradients = torch.autograd.grad(y, inputs, _waves(tuple(y.shape), 5).to(y), allow_unused=True)
        for name, x, gradient in zip(("query", "key", "value"), inputs, gradients, strict=True):
            yield (f"the gradient of `{name}`", f"`{name}` 的梯度"), array(gradient, x.shape)


@functools.cache
def _waves(shape: tuple[int, ...], number: int) -> Tensor:
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return 1.5 * (torch.sin(1.7 * places + number) + torch.cos(0.37 * places**1.5 + 2 * number)).reshape(shape)


def taken(attend: Make) -> tuple[bool, bool, bool]:
    r"""Whether a function takes a mask, as its fourth, whether it needs one, and whether it takes ``causal``.

    >>> taken(lambda q, k, v: v), taken(lambda q, k, v, mask=None, *, causal=False: v)
    ((False, False, False), (True, False, True))
    """
    with contextlib.suppress(TypeError, ValueError):
        given = inspect.signature(getattr(attend, "forward", attend)).parameters
        if not any(p.kind == p.VAR_POSITIONAL for p in given.values()):
            fourth = next((p for p in [*given.values()][3:4] if p.kind != p.KEYWORD_ONLY and p.name != "causal"), None)
            return fourth is not None, fourth is not None and fourth.default is fourth.empty, "causal" in given
    return True, False, False  # it does not say, as a function written in C


def trials(masks: bool, causal: bool) -> list[Trial]:
    r"""The trials for a function that takes masks, and the keyword ``causal``, from the simplest to the most special.

    >>> len(trials(masks=True, causal=True)), len(trials(masks=False, causal=False))
    (13, 5)
    """
    square, other = (4, 4), (4, 2)
    found = [Trial((), square, square), Trial((2,), (3, 5), other), Trial((2, 3), (5, 3), other)]
    if masks:
        found += [Trial((), square, square, "some"), Trial((2, 3), (3, 5), other, "some")]
        found += [Trial((2, 3), (3, 5), other, "padding"), Trial((2,), (3, 5), other, "nowhere")]
    if causal:
        found += [Trial((2,), square, other, "", True), Trial((2,), (2, 5), other, "", True)]
        found += [Trial((2,), (5, 3), other, "", True)]
    if masks and causal:
        found += [Trial((2,), (3, 5), other, "some", True)]
    found += [Trial((2,), (3, 5), other, size=40.0)]
    return [*found, Trial((2,), (3, 5), other, "some" * masks, dtype=torch.float32)]
