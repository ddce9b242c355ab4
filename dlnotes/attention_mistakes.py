r"""Attention line by line, and the usual mistakes in one of one's own: lines that stand in others' place.

``look`` is the mask, True where a query may look; ``below`` is True where key j stands no later than query i, the last
query with the last key; ``nowhere`` marks the rows that may look nowhere; d is the width of queries and keys.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlnotes.rules import Mistake
from dlnotes.trials import Make

SCORES = "s = q @ k.mT / sqrt(d)"
LOOK = "look = mask"
CAUSAL = "if causal: look = look & below"
NOWHERE = "nowhere = ~any(look)"
HIDE = "s = where(look, s, -inf)"
SOFTMAX = "a = softmax(s, -1)"
ZERO = "a = where(nowhere, 0, a)"
OUT = "y = a @ v"
LINES = (SCORES, LOOK, CAUSAL, NOWHERE, HIDE, SOFTMAX, ZERO, OUT)

MISTAKES = [
    Mistake("the scores are not divided by √d", "得分没有除以 √d", {SCORES: "s = q @ k.mT"}),
    Mistake("the scores are divided by d, not by √d", "得分除以了 d，应该除以 √d", {SCORES: "s = q @ k.mT / d"}),
    Mistake("the scores are multiplied by √d", "得分乘了 √d，应该除以", {SCORES: "s = q @ k.mT * sqrt(d)"}),
    Mistake(
        "d is the width of queries and keys, not that of values",
        "d 是查询和键的宽度，不是值的宽度",
        {SCORES: "s = q @ k.mT / sqrt(v.shape[-1])"},
    ),
    Mistake(
        "d is the width of queries and keys, not the number of keys",
        "d 是查询和键的宽度，不是键的个数",
        {SCORES: "s = q @ k.mT / sqrt(k.shape[-2])"},
    ),
    Mistake(
        "the weights are divided by √d after the softmax; the scores are to be, before it",
        "softmax 之后才除以 √d。应该先除得分",
        {SCORES: "s = q @ k.mT", SOFTMAX: "a = softmax(s, -1) / sqrt(d)"},
    ),
    Mistake("the keys are not transposed", "键没有转置", {SCORES: "s = q @ k / sqrt(d)"}),
    Mistake("queries meet queries, not keys", "查询和查询比较了，应该和键比较", {SCORES: "s = q @ q.mT / sqrt(d)"}),
    Mistake(
        "rows and columns of the scores are swapped: a row belongs to a query",
        "得分的行和列反了，一行对应一个查询",
        {SCORES: "s = k @ q.mT / sqrt(d)"},
    ),
    Mistake(
        "keys and values are swapped",
        "键和值用反了",
        {SCORES: "s = q @ v.mT / sqrt(d)", OUT: "y = a @ k"},
    ),
    Mistake("the softmax is missing", "漏了 softmax", {SOFTMAX: "a = s"}),
    Mistake(
        "the powers are not divided by their sum",
        "指数没有除以它们的和",
        {SOFTMAX: "a = exp(s)"},
    ),
    Mistake(
        "the softmax goes over the queries; the weights of each query sum to 1, so it goes over the keys, `dim=-1`",
        "softmax 沿着查询取了。每个查询的权重和为 1，应该沿着键取，即 `dim=-1`",
        {SOFTMAX: "a = softmax(s, -2)"},
    ),
    Mistake(
        "the softmax goes over dimension 0; it goes over the keys, `dim=-1`",
        "softmax 沿着第 0 维取了，应该沿着键取，即 `dim=-1`",
        {SOFTMAX: "a = softmax(s, 0)"},
    ),
    Mistake(
        "the softmax goes over dimension 1; it goes over the keys, `dim=-1`",
        "softmax 沿着第 1 维取了，应该沿着键取，即 `dim=-1`",
        {SOFTMAX: "a = softmax(s, 1)"},
    ),
    Mistake("the weights are transposed", "权重转置了", {OUT: "y = a.mT @ v"}),
    Mistake("the values are transposed", "值转置了", {OUT: "y = a @ v.mT"}),
    Mistake("the keys are averaged, not the values", "平均的是键，应该是值", {OUT: "y = a @ k"}),
    # masks
    Mistake("the mask is inverted; True means: may look", "掩码用反了，True 表示可以看", {LOOK: "look = ~mask"}),
    Mistake("the mask has no effect", "掩码没有起作用", {LOOK: "look = everywhere"}),
    Mistake(
        "the mask is added to the scores as numbers, 1 for True",
        "掩码当成数加到了得分上，True 成了 1",
        {HIDE: "s = s + look"},
    ),
    Mistake(
        "the scores are multiplied by the mask: a score of 0 still has a weight; it should be -∞",
        "得分乘了掩码。得分是 0，权重并不是 0，应该是 -∞",
        {HIDE: "s = s * look"},
    ),
    Mistake(
        "the mask comes after the softmax, so that the weights of a row no longer sum to 1",
        "掩码放在了 softmax 之后，一行的权重加起来不再是 1",
        {HIDE: "", SOFTMAX: "a = softmax(s, -1) * look"},
    ),
    Mistake(
        "-∞ is put in the place of weights, after the softmax; it belongs in the scores, before it",
        "-∞ 放进了 softmax 之后的权重里，应该放进之前的得分里",
        {HIDE: "", SOFTMAX: "a = where(look, softmax(s, -1), -inf)"},
    ),
    Mistake(
        "a row that may look nowhere gives the mean of all values, as its scores are all `-1e9`, say; it should give 0",
        "哪里都不能看的一行得分全都相同（例如 `-1e9`），给出了所有值的平均，应该给出 0",
        {HIDE: "s = where(look, s, -1e9)", ZERO: ""},
    ),
    Mistake(
        "a number is subtracted from hidden scores, so a row that may look nowhere looks everywhere; it should give 0",
        "遮住的得分减去了一个大数，哪里都不能看的一行就哪里都看了，应该给出 0",
        {HIDE: "s = s + where(look, 0, -1e9)", ZERO: ""},
    ),
    Mistake(
        "a row that may look nowhere gives NaN, 0/0; it should give 0",
        "哪里都不能看的一行给出了 NaN，即 0/0，应该给出 0",
        {ZERO: ""},
    ),
    Mistake(
        "a row that may look nowhere gives NaN, 0/0, and so do all its gradients; it should give 0",
        "哪里都不能看的一行给出了 NaN，即 0/0，梯度也全是 NaN，应该给出 0",
        {HIDE: "s = s + where(look, 0, -inf)", ZERO: ""},
    ),
    Mistake(
        "NaN is put right in the output alone; in the gradient it stays: fill the scores instead of adding -∞",
        "只在输出里换掉了 NaN，梯度里还是 NaN。不要加 -∞，要用 `masked_fill` 填进得分",
        {HIDE: "s = s + where(look, 0, -inf)"},
    ),
    # causal
    Mistake("`causal` has no effect", "`causal` 没有起作用", {CAUSAL: ""}),
    Mistake(
        "with fewer queries than keys the causal mask stands at the upper left; the last query sees all keys",
        "查询比键少时，因果掩码对齐到了左上角。最后一个查询应该看得到所有的键",
        {CAUSAL: "if causal: look = look & below_from_the_first"},
    ),
    Mistake(
        "a query does not see its own place",
        "查询看不到自己的位置",
        {CAUSAL: "if causal: look = look & before"},
    ),
    Mistake(
        "the causal mask is turned round: queries see what comes later",
        "因果掩码反了，查询看到的是后面的词",
        {CAUSAL: "if causal: look = look & after"},
    ),
    Mistake(
        "with `causal` the mask has no effect; both should hold",
        "有了 `causal`，掩码就不起作用了。两个都应该起作用",
        {CAUSAL: "if causal: look = below"},
    ),
]


def with_mistakes(found: Sequence[Mistake]) -> Make:
    r"""Attention by the rule's lines with these mistakes in them; with none, as it should be.

    >>> with_mistakes([])(torch.eye(2), torch.eye(2), torch.tensor([[0.0], [1.0]])).shape
    torch.Size([2, 1])
    """
    changed = {right: wrong for mistake in found for right, wrong in mistake.lines.items()}
    code = compile("\n".join(changed.get(line, line) for line in LINES), "<rule>", "exec")

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        everywhere = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        behind = k.shape[-2] - q.shape[-2]
        names: dict[str, Any] = {"q": q, "k": k, "v": v, "causal": causal, "everywhere": everywhere, "d": q.shape[-1]}
        names |= {"mask": everywhere if mask is None else mask, "below": everywhere.tril(behind)}
        names |= {"below_from_the_first": everywhere.tril(), "before": everywhere.tril(behind - 1)}
        names |= {"after": everywhere.triu(behind), "sqrt": math.sqrt, "exp": torch.exp, "softmax": torch.softmax}
        names |= {"where": torch.where, "inf": math.inf, "any": lambda look: look.any(dim=-1, keepdim=True)}
        exec(code, names)
        return names["y"]

    return attend
