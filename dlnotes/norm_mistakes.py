r"""The usual mistakes in a norm of one's own, in words of both languages; the most frequent come first."""

from collections.abc import Mapping
from typing import Any

from dlnotes.norm_rules import (
    AFFINE,
    DIMS,
    DIVIDE,
    DIVIDE_RMS,
    MEAN,
    RULES,
    RUNNING_MEAN,
    RUNNING_VAR,
    SCALE,
    SQUARES,
    USE,
    VARIANCE,
)
from dlnotes.rules import Mistake

_AXES = {  # wrong dimensions, and whose they are
    "BatchNorm": [
        ("[1, *spatial]", "each sample by itself, as in layer norm", "每个样本自己的数，成了层归一化"),
        ("[0]", "the batch alone; the positions belong to it too", "只有批次一维，位置也要算进去"),
        ("[*spatial]", "each sample's positions, as in instance norm", "每个样本自己的位置，成了实例归一化"),
        ("[0, 1, *spatial]", "all numbers at once; each channel has its own", "所有的数，应该每个通道各算各的"),
    ],
    "InstanceNorm": [
        ("[0, *spatial]", "the batch too, as in batch norm", "连批次也算上了，成了批归一化"),
        ("[1, *spatial]", "the channels too, as in layer norm", "连通道也算上了，成了层归一化"),
        ("[-1]", "the last dimension alone", "只有最后一维"),
        ("[1]", "the channels of each position", "每个位置上的各个通道"),
    ],
    "GroupNorm": [
        ("[*spatial]", "each channel by itself, as in instance norm", "每个通道自己的位置，成了实例归一化"),
        ("[1, 2, *spatial]", "all channels, as in layer norm", "所有的通道，成了层归一化"),
        ("[0, 2, *spatial]", "the batch too; each sample has its own", "连批次也算上了，应该每个样本各算各的"),
        ("[2]", "the channels alone; the positions belong to them too", "只有通道，位置也要算进去"),
    ],
    "LayerNorm": [
        ("[-1]", "the last dimension alone, not all of `normalized_shape`", "只有最后一维，没取全 `normalized_shape`"),
        ("[0]", "the batch; layer norm does not look at other samples", "批次这一维，层归一化不看别的样本"),
        ("[*range(x.dim() - 1)]", "all but the last dimension, as in batch norm", "除最后一维以外的各维，成了批归一化"),
        ("[*range(1, x.dim())]", "the whole sample, not `normalized_shape` alone", "整个样本，不只 `normalized_shape`"),
        ("[1]", "dimension 1, not the last ones", "第 1 维，应该是最后几维"),
        ("[*range(x.dim())]", "all numbers at once", "所有的数"),
    ],
}  # fmt: skip
_AXES["RMSNorm"] = _AXES["LayerNorm"]

_VARIANCES = [
    Mistake("ε stands outside the root", "ε 写到了根号外面", {DIVIDE: "y = (x - μ) / (sqrt(σ2) + eps)"}),
    Mistake("ε is missing", "漏了 ε", {DIVIDE: "y = (x - μ) / sqrt(σ2)"}),
    Mistake("ε is squared", "ε 被平方了", {DIVIDE: "y = (x - μ) / sqrt(σ2 + eps**2)"}),
    Mistake(
        "the root is missing; divide by the standard deviation, not by the variance",
        "漏了开方，除的应该是标准差，不是方差",
        {DIVIDE: "y = (x - μ) / (σ2 + eps)"},
    ),
    Mistake("the mean is not subtracted", "没有减去均值", {DIVIDE: "y = x / sqrt(σ2 + eps)"}),
    Mistake(
        "the variance is the mean of the squares, from which the square of the mean is not taken",
        "方差写成了平方的均值，没有减去均值的平方",
        {VARIANCE: "σ2 = sum(x**2) / n"},
    ),
    Mistake("the squares are summed, not averaged", "平方只加不除，没有取平均", {VARIANCE: "σ2 = sum((x - μ)**2)"}),
    Mistake(
        "μ and σ² are cut from the graph, so that no gradient goes through them",
        "μ 和 σ² 从计算图里断开了，梯度不经过它们",
        {DIVIDE: f"μ, σ2 = μ.detach(), σ2.detach()\n{DIVIDE}"},
    ),
    Mistake(
        "no gradient goes through the variance: the last term of the backward pass is missing",
        "梯度没有经过方差，反向公式漏了最后一项",
        {DIVIDE: f"σ2 = σ2.detach()\n{DIVIDE}"},
    ),
    Mistake(
        "no gradient goes through the mean: its term of the backward pass is missing",
        "梯度没有经过均值，反向公式漏了它那一项",
        {MEAN: f"{MEAN}\nμ = μ.detach()"},
    ),
]
_AFFINE = [
    Mistake("γ and β have no effect", "γ 和 β 没有起作用", {AFFINE: ""}),
    Mistake("β has no effect", "β 没有起作用", {AFFINE: "y = weight * y"}),
    Mistake("γ has no effect", "γ 没有起作用", {AFFINE: "y = y + bias"}),
    Mistake("β is added first, and multiplied by γ", "先加了 β，再一起乘 γ", {AFFINE: "y = weight * (y + bias)"}),
    Mistake("the input is added, x, and not β", "加的是 x，不是 β", {AFFINE: "y = weight * y + x"}),
    Mistake(
        "γ and β lie along another axis; they belong to the channels, or in layer norm to `normalized_shape`",
        "γ 和 β 放错了轴。它们跟着通道走，层归一化里跟着 `normalized_shape` 走",
        {},
        "axis",
    ),
]
_UNBIASED = Mistake(
    "the variance divides by n - 1, not by n; in torch it is `var(correction=0)`",
    "方差除以了 n - 1，应该除以 n。用 torch 写是 `var(correction=0)`",
    {VARIANCE: "σ2 = sum((x - μ)**2) / (n - 1)"},
)
_BIASED = RUNNING_VAR.replace(" * n / (n - 1)", "")
_TRACKED = [
    Mistake(
        "the batch is divided by the root of a variance with n - 1; only the running variance has n - 1",
        "批次除以的标准差用了 n - 1，只有滑动方差才用 n - 1",
        {VARIANCE: "σ2 = sum((x - μ)**2) / (n - 1)", RUNNING_VAR: _BIASED},
    ),
    Mistake(
        "the two variances are swapped: the batch takes n, the running variance n - 1",
        "两个方差用反了：归一化用 n，滑动方差用 n - 1",
        {VARIANCE: "σ2 = sum((x - μ)**2) / (n - 1)", RUNNING_VAR: _BIASED.replace("σ2", "σ2 * (n - 1) / n")},
    ),
    Mistake(
        "the running variance divides by n; torch's takes n - 1",
        "滑动方差除以了 n，torch 的用 n - 1",
        {RUNNING_VAR: _BIASED},
    ),
    Mistake(
        "momentum is the weight of the new value in torch; here it is that of the old one",
        "torch 的 momentum 是新值的权重，这里成了旧值的权重",
        {
            line: line.replace("(1 - momentum) *", "momentum *", 1).replace("+ momentum", "+ (1 - momentum)")
            for line in (RUNNING_MEAN, RUNNING_VAR)
        },
    ),
    Mistake(
        "the running statistics are summed; the old value lacks its factor `1 - momentum`",
        "滑动统计量只加不忘，旧值漏了系数 `1 - momentum`",
        {line: line.replace("(1 - momentum) * ", "") for line in (RUNNING_MEAN, RUNNING_VAR)},
    ),
    Mistake(
        "`momentum` has no effect: each batch takes the place of the running statistics",
        "`momentum` 没有起作用，每个批次都直接取代了滑动统计量",
        {RUNNING_MEAN: "if training: running_mean = μ", RUNNING_VAR: "if training: running_var = σ2 * n / (n - 1)"},
    ),
    Mistake(
        "the running statistics do not move",
        "滑动统计量没有更新",
        {RUNNING_MEAN: "", RUNNING_VAR: ""},
    ),
    Mistake(
        "the running statistics move in evaluation too",
        "评估模式下滑动统计量也在更新",
        {line: line.removeprefix("if training: ") for line in (RUNNING_MEAN, RUNNING_VAR)},
    ),
    Mistake(
        "evaluation takes the statistics of the batch; it should take the running ones",
        "评估模式用了当前批次的统计量，应该用滑动统计量",
        {USE: ""},
    ),
    Mistake(
        "training takes the running statistics; they belong in evaluation",
        "训练模式也用了滑动统计量，那是评估模式才用的",
        {USE: "μ, σ2 = running_mean, running_var"},
    ),
    Mistake(
        "the running variance averages the standard deviation",
        "滑动方差平均的是标准差",
        {RUNNING_VAR: RUNNING_VAR.replace("σ2 * n / (n - 1)", "sqrt(σ2 * n / (n - 1))")},
    ),
    Mistake(
        "the running variance starts at 0", "滑动方差从 0 开始，应该从 1 开始", {"running_var = 1": "running_var = 0"}
    ),
]
_RMS = [
    Mistake("ε stands outside the root", "ε 写到了根号外面", {DIVIDE_RMS: "y = x / (sqrt(σ2) + eps)"}),
    Mistake("ε is missing", "漏了 ε", {DIVIDE_RMS: "y = x / sqrt(σ2)"}),
    Mistake("the root is missing", "漏了开方", {DIVIDE_RMS: "y = x / (σ2 + eps)"}),
    Mistake("the squares are summed, not averaged", "平方只加不除，没有取平均", {SQUARES: "σ2 = sum(x**2)"}),
    Mistake("the mean square divides by n - 1", "平方的均值除以了 n - 1", {SQUARES: "σ2 = sum(x**2) / (n - 1)"}),
    Mistake(
        "it divides by the standard deviation, without subtracting the mean from x itself",
        "除的是标准差，x 本身却没有减均值",
        {SQUARES: "σ2 = sum((x - sum(x) / n)**2) / n"},
    ),
    Mistake(
        "the mean is subtracted, as in layer norm; RMS norm leaves it",
        "减去了均值，成了层归一化，RMS 归一化不减",
        {SQUARES: f"x = x - sum(x) / n\n{SQUARES}"},
    ),
    Mistake(
        "no gradient goes through the root mean square",
        "梯度没有经过均方根",
        {DIVIDE_RMS: f"σ2 = σ2.detach()\n{DIVIDE_RMS}"},
    ),
    Mistake("γ has no effect", "γ 没有起作用", {SCALE: ""}),
    Mistake("γ is added to 1 first", "γ 先加了 1", {SCALE: "y = (1 + weight) * y"}),
    Mistake(
        "γ lies along another axis; it belongs to `normalized_shape`",
        "γ 放错了轴，它跟着 `normalized_shape` 走",
        {},
        "axis",
    ),
]


def mistakes(like: str) -> list[Mistake]:
    r"""The usual mistakes in a norm of this name, the most frequent first.

    >>> mistakes("LayerNorm")[0].en
    'the variance divides by n - 1, not by n; in torch it is `var(correction=0)`'
    """
    kind = like.removesuffix("1d").removesuffix("2d")
    axes = [
        Mistake(f"the statistics are taken over {en}", f"统计量取的范围不对：{zh}", {DIMS[like]: f"dims = {dims}"})
        for dims, en, zh in _AXES[kind]
        if (like, dims) != ("InstanceNorm1d", "[-1]")  # right there
    ]
    if like == "RMSNorm":
        return [*_RMS, *axes]
    tracked = _TRACKED if "running_var = 1" in RULES[like].start else []
    strided = Mistake(
        "every group takes channels that are not neighbours: unflatten into (groups, channels of a group), not the "
        "other way round",
        "分到一组的不是相邻的通道。应该展开成（组，组内通道），次序反了",
        {},
        "strided",
    )
    return [_UNBIASED, *tracked, *_VARIANCES, *_AFFINE, *axes, *([strided] if like == "GroupNorm" else [])]


def defaults(own: Mapping[str, Any], torchs: Mapping[str, Any]) -> list[Mistake]:
    r"""The defaults that are not torch's, as mistakes.

    >>> defaults({"eps": 0.001}, {"eps": 1e-05})[0].changes()
    [('eps = 1e-05', 'eps = 0.001')]
    """
    return [
        Mistake(f"the default of `{name}` is not torch's", f"`{name}` 的默认值与 torch 的不同",
                {f"{name} = {torchs[name]}": f"{name} = {value}"})
        for name, value in own.items()
        if name in ("eps", "momentum") and isinstance(value, int | float) and value != torchs[name]
    ]  # fmt: skip
