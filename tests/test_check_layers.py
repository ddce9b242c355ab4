# ruff: noqa: E501  a planted mistake stands in one line
r"""The checks of a reader's norm and attention: what is right passes, what is wrong is refused, usual mistakes are named."""

import math
import re
import textwrap

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlnotes import attention_mistakes, check, norm_mistakes, norm_rules, norms
from dlnotes.attention import attend, causal_mask
from dlnotes.norm_trials import OPTIONS, trials

# ---- norms, as a reader writes them

WRITTEN = {
    "BatchNorm1d": """
    class Mine(nn.Module):
        def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True):
            super().__init__()
            self.eps, self.momentum = eps, momentum
            self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
            self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
            self.register_buffer("running_mean", torch.zeros(num_features))
            self.register_buffer("running_var", torch.ones(num_features))

        def forward(self, x):
            shape, dims = (1, -1) + (1,) * (x.dim() - 2), (0, *range(2, x.dim()))
            if self.training:
                mean, var = x.mean(dims), x.var(dims, unbiased=False)
                n = x.numel() / x.shape[1]
                with torch.no_grad():
                    self.running_mean.mul_(1 - self.momentum).add_(self.momentum * mean)
                    self.running_var.mul_(1 - self.momentum).add_(self.momentum * var * n / (n - 1))
            else:
                mean, var = self.running_mean, self.running_var
            y = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + self.eps)
            if self.weight is not None:
                y = y * self.weight.view(shape) + self.bias.view(shape)
            return y
    """,
    "BatchNorm2d": """
    class Mine:
        def __init__(self, dim, eps=1e-5, momentum=0.1):
            self.eps, self.momentum, self.training = eps, momentum, True
            self.gamma, self.beta = torch.ones(1, dim, 1, 1), torch.zeros(1, dim, 1, 1)
            self.moving_mean, self.moving_var = torch.zeros(1, dim, 1, 1), torch.ones(1, dim, 1, 1)

        def __call__(self, x):
            mean, var = self.moving_mean, self.moving_var
            if self.training:
                mean = x.mean((0, 2, 3), keepdim=True)
                var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
                with torch.no_grad():
                    new = x.var((0, 2, 3), keepdim=True)
                    self.moving_mean = (1 - self.momentum) * self.moving_mean + self.momentum * mean
                    self.moving_var = (1 - self.momentum) * self.moving_var + self.momentum * new
            return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta
    """,
    "LayerNorm": """
    class Mine(nn.Module):
        def __init__(self, d, eps=1e-5):
            super().__init__()
            self.eps = eps
            self.scale = nn.Parameter(torch.ones(d))
            self.shift = nn.Parameter(torch.zeros(d))

        def forward(self, x):
            mean = x.mean(-1, keepdim=True)
            var = x.var(dim=-1, keepdim=True, unbiased=False)
            return self.scale * ((x - mean) / torch.sqrt(var + self.eps)) + self.shift
    """,
    "InstanceNorm1d": """
    def Mine(x, eps=1e-5):
        d = x - x.mean(-1, keepdim=True)
        return d / (d.square().mean(-1, keepdim=True) + eps).sqrt()
    """,
    "InstanceNorm2d": """
    def Mine(x, gamma=None, beta=None, eps=1e-5):
        mean = x.mean((2, 3), keepdim=True)
        var = x.var((2, 3), keepdim=True, correction=0)
        y = (x - mean) / (var + eps).sqrt()
        return y if gamma is None else gamma[:, None, None] * y + beta[:, None, None]
    """,
    "GroupNorm": """
    def Mine(x, num_groups, weight, bias, eps=1e-5):
        grouped = x.reshape(x.shape[0], num_groups, -1)
        mean = grouped.mean(-1, keepdim=True)
        var = grouped.var(-1, keepdim=True, unbiased=False)
        y = ((grouped - mean) / (var + eps).sqrt()).reshape(x.shape)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return y * weight.reshape(shape) + bias.reshape(shape)
    """,
    "RMSNorm": """
    class Mine(nn.Module):
        def __init__(self, dim, eps=1e-8):
            super().__init__()
            self.eps = eps
            self.weight = nn.Parameter(torch.ones(dim))

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight
    """,
}


def written(source, *changes):
    """The reader's code, with these pieces of its source replaced."""
    source = textwrap.dedent(source)
    for right, wrong in zip(changes[::2], changes[1::2], strict=True):
        assert right in source, right
        source = source.replace(right, wrong)
    names = {"torch": torch, "nn": nn, "F": F, "math": math, "causal_mask": causal_mask}
    exec(source, names)
    return names["Mine"]


class Own(torch.autograd.Function):
    """Batch norm of (n, C) with the backward pass by hand."""

    @staticmethod
    def forward(ctx, x, gamma, beta, terms):
        s = (x.var(0, correction=0) + 1e-5).sqrt()
        x_hat = (x - x.mean(0)) / s
        ctx.save_for_backward(x_hat, s, gamma)
        ctx.terms = terms
        return gamma * x_hat + beta

    @staticmethod
    def backward(ctx, y_bar):
        x_hat, s, gamma = ctx.saved_tensors
        g = gamma * y_bar
        along = x_hat * (g * x_hat).mean(0) * ctx.terms[0]
        return (g - g.mean(0) * ctx.terms[1] - along) / s, (y_bar * x_hat).sum(0), y_bar.sum(0), None


def by_hand(*terms):
    def own(x, gamma, beta):
        flat = x.transpose(1, -1)
        return Own.apply(flat.reshape(-1, x.shape[1]), gamma, beta, terms).reshape(flat.shape).transpose(1, -1)

    return own


@pytest.mark.parametrize("like", OPTIONS)
def test_right_norms_pass(like):
    function = {"Batch": F.batch_norm, "Instance": F.instance_norm, "Group": F.group_norm, "Layer": F.layer_norm}
    functions = [function for start, function in function.items() if like.startswith(start)] or [F.rms_norm]
    made = getattr(nn, like)
    for make in (made, getattr(norms, like), lambda *a, **k: made(*a, **k), written(WRITTEN[like]), *functions):
        verdict = check.norm(make, like=like)
        assert verdict, verdict


def test_a_backward_pass_by_hand_is_judged():
    assert check.norm(by_hand(1, 1), like="BatchNorm1d")
    for terms, en in {
        (0, 1): "no gradient goes through the variance",
        (1, 0): "no gradient goes through the mean",
    }.items():
        verdict = check.norm(by_hand(*terms), like="BatchNorm1d")
        assert not verdict
        assert en in verdict.en.replace("No grad", "no grad")
    assert "μ and σ² are cut from the graph".casefold() in check.norm(by_hand(0, 0), like="BatchNorm1d").en.casefold()


def test_what_was_not_tried_is_said():
    verdict = check.norm(written(WRITTEN["LayerNorm"]), like="LayerNorm")
    assert "does not take them: `elementwise_affine`, `bias`, `normalized_shape=(2, 3)`." in verdict.en
    assert "没有测试：`elementwise_affine`、`bias`、`normalized_shape=(2, 3)`。" in verdict.zh
    assert "Not tried" not in check.norm(nn.LayerNorm, like="LayerNorm").en


ROOT, VAR, MEAN = "torch.sqrt(var.view(shape) + self.eps)", "x.var(dims, unbiased=False)", "x.mean(dims)"
KEEP = "with torch.no_grad():"
NAMED = {  # norm, what is changed into what, and words of the answer in English and in Chinese
    "n - 1 and ε": ("LayerNorm", [", unbiased=False", "", "torch.sqrt(var + self.eps)", "(torch.sqrt(var) + self.eps)"], "There are two mistakes. The variance divides by n - 1", "有两处错"),
    "n - 1": ("LayerNorm", [", unbiased=False", ""], "the variance divides by n - 1, not by n", "方差除以了 n - 1"),
    "ε outside": ("LayerNorm", ["torch.sqrt(var + self.eps)", "(torch.sqrt(var) + self.eps)"], "ε stands outside the root", "根号外面"),
    "no ε": ("BatchNorm1d", [" + self.eps", ""], "ε is missing", "漏了 ε"),
    "no root": ("RMSNorm", ["torch.rsqrt(", "1 / (", "self.eps)", "self.eps)"], "the root is missing", "漏了开方"),
    "over the batch": ("LayerNorm", ["x.mean(-1,", "x.mean(0,", "dim=-1", "dim=0"], "over the batch; layer norm does not", "层归一化不看别的样本"),
    "the whole sample": ("LayerNorm", ["x.mean(-1,", "x.mean((1, 2),", "dim=-1", "dim=(1, 2)"], "over the whole sample", "整个样本"),
    "per sample": ("BatchNorm2d", ["(0, 2, 3)", "(1, 2, 3)"], "each sample by itself, as in layer norm", "每个样本自己的数"),
    "per image": ("BatchNorm2d", ["(0, 2, 3)", "(2, 3)"], "as in instance norm", "成了实例归一化"),
    "batch alone": ("BatchNorm2d", ["(0, 2, 3)", "0"], "the batch alone", "只有批次一维"),
    "as batch norm": ("InstanceNorm2d", ["x.mean((2", "x.mean((0, 2", "x.var((2", "x.var((0, 2"], "the batch too, as in batch norm", "成了批归一化"),
    "strided": ("GroupNorm", ["x.reshape(x.shape[0], num_groups, -1)", "x.unflatten(1, (-1, num_groups)).transpose(1, 2).flatten(2)", ".reshape(x.shape)", ".unflatten(2, (x.shape[1] // num_groups, *x.shape[2:])).transpose(1, 2).flatten(1, 2)"], "every group takes channels that are not neighbours", "不是相邻的通道"),
    "E[x²] - E[x]²": ("LayerNorm", ["x.var(dim=-1, keepdim=True, unbiased=False)", "x.square().mean(-1, keepdim=True) - mean**2"], "E[x²] - E[x]²", "两个大数相减"),
    "E[x²] - E[x]² in batch norm": ("BatchNorm2d", ["((x - mean) ** 2).mean((0, 2, 3), keepdim=True)", "(x**2).mean((0, 2, 3), keepdim=True) - mean**2"], "near 10000 in float32.*E\\[x²\\]", "减均值"),
    "E[x²] - E[x]² in instance norm": ("InstanceNorm2d", ["x.var((2, 3), keepdim=True, correction=0)", "x.pow(2).mean((2, 3), keepdim=True) - mean.pow(2)"], "E[x²] - E[x]²", "两个大数相减"),
    "E[x²] - E[x]² in group norm": ("GroupNorm", ["grouped.var(-1, keepdim=True, unbiased=False)", "(grouped**2).mean(-1, keepdim=True) - mean**2"], "E[x²] - E[x]²", "两个大数相减"),
    "running biased": ("BatchNorm1d", [" * n / (n - 1)", ""], "the running variance divides by n; torch's takes n - 1", "滑动方差除以了 n"),
    "both unbiased": ("BatchNorm1d", [", unbiased=False", "", " * n / (n - 1)", ""], "only the running variance has n - 1", "只有滑动方差才用"),
    "variances swapped": ("BatchNorm2d", ["((x - mean) ** 2).mean((0, 2, 3), keepdim=True)", "x.var((0, 2, 3), keepdim=True)", "new = x.var((0, 2, 3), keepdim=True)", "new = x.var((0, 2, 3), keepdim=True, correction=0)"], "the two variances are swapped", "两个方差用反了"),
    "momentum": ("BatchNorm2d", ["(1 - self.momentum) * self.moving", "self.momentum * self.moving", "+ self.momentum *", "+ (1 - self.momentum) *"], "momentum is the weight of the new value", "新值的权重"),
    "momentum 0.9": ("BatchNorm2d", ["momentum=0.1", "momentum=0.9", "(1 - self.momentum) * self.moving", "self.momentum * self.moving", "+ self.momentum *", "+ (1 - self.momentum) *"], "The default of `momentum` is not torch's", "默认值"),
    "batch in evaluation": ("BatchNorm2d", ["if self.training:", "if True:", "self.moving_mean = (", "if self.training: self.moving_mean = (", "self.moving_var = (", "if self.training: self.moving_var = ("], "evaluation takes the statistics of the batch", "当前批次的统计量"),
    "running in training": ("BatchNorm1d", ["        y = (x", "        mean, var = self.running_mean.clone(), self.running_var.clone()\n        y = (x"], "training takes the running statistics", "训练模式也用了滑动统计量"),
    "moves in evaluation": ("BatchNorm2d", ["if self.training:", "if True:", "return", "mean, var = (mean, var) if self.training else (self.moving_mean, self.moving_var); return"], "move in evaluation too", "评估模式下滑动统计量也在更新"),
    "never moves": ("BatchNorm2d", ["self.moving_mean = (", "m = (", "self.moving_var = (", "v = ("], "the running statistics do not move", "没有更新"),
    "detached": ("BatchNorm1d", [f"{MEAN}, {VAR}", f"{MEAN}.detach(), {VAR}.detach()"], "cut from the graph", "从计算图里断开了"),
    "variance detached": ("LayerNorm", ["unbiased=False)", "unbiased=False).detach()"], "no gradient goes through the variance", "梯度没有经过方差"),
    "no γ and β": ("BatchNorm1d", ["y = y * self.weight.view(shape) + self.bias.view(shape)", "pass"], "γ and β have no effect", "γ 和 β 没有起作用"),
    "no β": ("LayerNorm", [" + self.shift", ""], "β has no effect", "β 没有起作用"),
    "γ along the last axis": ("BatchNorm1d", ["self.weight.view(shape) + self.bias.view(shape)", "self.weight.view(-1, *[1] * 0) + self.bias"], "γ and β lie along another axis", "放错了轴"),
    "γ for the wrong axis": ("LayerNorm", ["torch.ones(d)", "torch.ones(d - 1)"], "`scale` has shape (3,); it should be (4,)", "的形状是 (3,)"),
    "nothing to learn": ("LayerNorm", ["nn.Parameter(torch.ones(d))", "1.0"], "it has no `weight`", "它没有 `weight`"),
    "no parameter": ("LayerNorm", ["nn.Parameter(torch.ones(d))", "torch.ones(d)"], "make it an `nn.Parameter`", "`nn.Parameter`"),
    "no buffer": ("BatchNorm1d", ['self.register_buffer("running_mean", torch.zeros(num_features))', "self.running_mean = torch.zeros(num_features)"], "`register_buffer`", "`register_buffer`"),
    "graph kept": ("BatchNorm2d", [KEEP, "if True:"], "hangs on to the graph", "计算图"),
    "all without gradient": ("LayerNorm", ["    def forward", "    @torch.no_grad()\n    def forward"], "has no gradient; only", "没有梯度"),
    "default": ("LayerNorm", ["eps=1e-5", "eps=1e-3"], "`eps = 0.001` in place of `eps = 1e-05`", "`eps` 的默认值与 torch 的不同"),
    "starts at 0": ("BatchNorm1d", ['"running_var", torch.ones', '"running_var", torch.zeros'], "the running variance starts at 0", "从 0 开始"),
    "in place": ("LayerNorm", ["return ", "x.data.sub_(1); return "], "changes its input", "改动了输入"),
    "mean in RMS norm": ("RMSNorm", ["return x *", "x = x - x.mean(-1, keepdim=True); return x *"], "the mean is subtracted", "成了层归一化"),
    "no eps": ("RMSNorm", ["eps=1e-8", "e=1e-8", "eps = eps", "eps = e"], "takes no `eps`", "没有参数 `eps`"),
    "float32": ("LayerNorm", ["return ", "x = x.float(); return "], "is a float32 where the input is a float64", "float32"),
    "another type": ("LayerNorm", ["self.shift\n", "self.shift).float()\n", "return self", "return (self"], "is torch.float32; it should be torch.float64", "应该是 torch.float64"),
    "another shape": ("LayerNorm", ["self.shift\n", "self.shift)[None]\n", "return self", "return (self"], "has shape (1, 3, 4, 4); it should have (3, 4, 4)", "的形状是"),
    "what it raises": ("LayerNorm", ["mean = x", 'raise ValueError("no"); mean = x'], "it raised ValueError: no", "代码抛出了 ValueError: no"),
    "it cannot be made": ("LayerNorm", ["self.eps = eps", "raise KeyError"], "it raised KeyError", "抛出了 KeyError"),
    "unknown": ("LayerNorm", ["self.eps)", "self.eps + 0.37)"], "No usual mistake gives these numbers.", "常见的错误都得不出"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_mistake_in_a_norm_is_refused_and_named(name):
    like, changes, en, zh = NAMED[name]
    verdict = check.norm(written(WRITTEN[like], *changes), like=like)
    assert not verdict
    plain = not re.search(r"\.\*|\|", en)
    assert re.search(re.escape(en) if plain else en, verdict.en, re.IGNORECASE), verdict
    assert zh in verdict.zh, verdict
    assert re.search("[\u4e00-\u9fff]", verdict.zh)


@pytest.mark.parametrize("like", OPTIONS)
def test_every_mistake_of_the_table_is_refused_and_named(like):
    table = norm_mistakes.mistakes(like)
    assert len(table) >= 15
    assert check.norm(norm_rules.with_mistakes(like, []), like=like)  # the lines themselves are torch's
    for mistake in table if like[-2:] != "2d" else [one for one in table if {*one.lines} & {norm_rules.DIMS[like]}]:
        assert_named(check.norm(norm_rules.with_mistakes(like, [mistake]), like=like), mistake)
    assert_well_worded(table, {*norm_rules.RULES[like].start, *norm_rules.RULES[like].step})


def assert_named(verdict, mistake):
    assert not verdict.passed, mistake.en
    assert mistake.en[1:] in verdict.en, (mistake.en, verdict)
    assert mistake.zh in verdict.zh
    assert "In other settings" not in verdict.en, verdict
    for right, wrong in mistake.changes():
        assert f"`{wrong}` in place of `{right}`" in verdict.en
        assert f"把 `{right}` 写成 `{wrong}`" in verdict.zh


def assert_well_worded(table, lines):
    words = [text for mistake in table for text in (mistake.en, mistake.zh)]
    assert len(set(words)) == len(words)
    assert all(re.search("[\u4e00-\u9fff]", mistake.zh) for mistake in table)
    assert not any(word.endswith((".", "。")) for word in words)
    for mistake in table:
        assert mistake.lines.keys() <= lines, mistake.en
        assert mistake.run or mistake.lines


def test_trials_take_the_options_that_are_taken():
    assert {frozenset(t.options) for t in trials("GroupNorm", {"eps": 1e-5}, {})} == {frozenset(), frozenset({"eps"})}
    assert all(t.options["eps"] for t in trials("RMSNorm", {"eps": 1e-8}, {}))
    modes = {t.modes for like in OPTIONS for t in trials(like, {}, {})}
    assert all({True, False} == set(mode) for mode in modes)


def test_a_norm_that_needs_its_options_gets_torchs():
    make = written(WRITTEN["BatchNorm1d"], "eps=1e-5, momentum=0.1", "eps, momentum")
    assert check.norm(make, like="BatchNorm1d")


def test_what_is_no_norm_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # no type checker in between
    with pytest.raises(ValueError, match=r"like must be one of BatchNorm1d, .*, got 'Layernorm'; 'LayerNorm'\?"):
        check.norm(nn.LayerNorm, like="Layernorm")
    for wrong in (nn.LayerNorm(4), 3, None):
        with pytest.raises(TypeError, match="make must be a class or a function, not what it makes; got a"):
            check.norm(wrong, like="LayerNorm")
    for wrong in (nn.MultiheadAttention, 3, None):
        with pytest.raises(TypeError, match="attend must be a function or a module; got a"):
            check.attention(wrong)


def test_the_default_type_is_left_alone():
    def broken(features):
        raise KeyError

    check.norm(broken, like="LayerNorm")
    assert torch.get_default_dtype() == torch.float32


# ---- attention, as a reader writes it

ATTENTION = """
def Mine(q, k, v, mask=None, *, causal=False):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    n, m = scores.shape[-2:]
    look = torch.ones(n, m, dtype=torch.bool) if mask is None else mask
    if causal:
        look = look & torch.ones(n, m, dtype=torch.bool).tril(m - n)
    scores = scores.masked_fill(~look, -math.inf)
    nowhere = ~look.any(-1, keepdim=True)
    weights = scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    return weights @ v
"""
FILL, SOFT = (
    "scores.masked_fill(~look, -math.inf)",
    "scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)",
)
SQRT = " / math.sqrt(q.shape[-1])"
MISSED = {
    "no scale": ([SQRT, ""], "are not divided by √d", "没有除以 √d"),
    "d": ([SQRT, " / q.shape[-1]"], "divided by d, not by √d", "除以了 d"),
    "times √d": ([" / math.sqrt", " * math.sqrt"], "multiplied by √d", "乘了 √d"),
    "width of values": (["q.shape[-1])", "v.shape[-1])"], "not that of values", "不是值的宽度"),
    "over queries": (["softmax(-1)", "softmax(-2)"], "the softmax goes over the queries", "softmax 沿着查询取了"),
    "over the batch": (["softmax(-1)", "softmax(0)"], "the softmax goes over dimension 0|over the queries", "softmax 沿着"),
    "over dimension 1": (["softmax(-1)", "softmax(1)"], "the softmax goes over", "softmax 沿着"),
    "inverted": (["else mask", "else ~mask"], "the mask is inverted", "掩码用反了"),
    "ignored": (["else mask", "else torch.ones(n, m, dtype=torch.bool)"], "the mask has no effect", "掩码没有起作用"),
    "added": ([FILL, "scores + look"], "added to the scores as numbers", "当成数"),
    "multiplied": ([FILL, "scores * look"], "the scores are multiplied by the mask", "得分乘了掩码"),
    "after the softmax": ([FILL, "scores", ".masked_fill(nowhere, 0)\n", ".masked_fill(~look, 0)\n"], "the mask comes after the softmax", "softmax 之后"),
    "-1e9": ([FILL, "scores.masked_fill(~look, -1e9)", SOFT, "scores.softmax(-1)"], "the mean of all values", "所有值的平均"),
    "-1e20": ([FILL, "scores.masked_fill(~look, -1e20)", SOFT, "scores.softmax(-1)"], "the mean of all values", "所有值的平均"),
    "added -1e9": ([FILL, "scores + torch.where(look, 0, -1e9)", SOFT, "scores.softmax(-1)"], "looks everywhere", "哪里都看了"),
    "NaN": ([SOFT, "scores.softmax(-1)"], "gives NaN, 0/0; it should", "给出了 NaN"),
    "NaN by sum": ([FILL, "scores + torch.where(look, 0, -math.inf)", SOFT, "scores.softmax(-1)"], "and so do all its gradients", "梯度也全是 NaN"),
    "nan_to_num": ([FILL, "scores + torch.where(look, 0, -math.inf)", SOFT, "scores.softmax(-1).nan_to_num()"], "in the gradient it stays", "梯度里还是 NaN"),
    "upper left": (["tril(m - n)", "tril()"], "stands at the upper left", "对齐到了左上角"),
    "blind to itself": (["tril(m - n)", "tril(m - n - 1)"], "does not see its own place", "看不到自己的位置"),
    "future": (["tril(m - n)", "triu(m - n)"], "turned round", "因果掩码反了"),
    "causal alone": (["look = look &", "look ="], "with `causal` the mask has no effect", "掩码就不起作用了"),
    "no causal": (["    if causal:", "    if False:"], "`causal` has no effect", "`causal` 没有起作用"),
    "values transposed": (["weights @ v", "weights @ v.mT"], "the values are transposed", "值转置了"),
    "weights transposed": (["weights @ v", "weights.mT @ v"], "the weights are transposed", "权重转置了"),
    "keys": (["weights @ v", "weights @ k"], "the keys are averaged", "平均的是键"),
    "no transpose": (["k.transpose(-2, -1)", "k"], "the keys are not transposed", "键没有转置"),
    "overflow": ([SOFT, "scores.exp().masked_fill(nowhere, 0) / scores.exp().masked_fill(nowhere, 0).sum(-1, keepdim=True).masked_fill(nowhere, 1)"], "`exp` overflows", "溢出"),
    "float64 mask": ([FILL, "scores + torch.zeros(n, m, dtype=torch.float64).masked_fill(~look, -1e99).double()"], "another precision", "精度不同"),
    "two mistakes": ([SQRT, "", "else mask", "else ~mask"], "are not divided by √d", "没有除以"),
    "heads": (["scores.shape[-2:]", "scores.shape[-2:]\n    assert q.dim() == 2"], "it raised AssertionError", "AssertionError"),
    "detached": (["return weights", "return weights.detach()"], "No usual mistake", "常见的错误都得不出"),
    "nothing to learn": (["return weights @ v", "return (weights @ v).detach()"], "the output has no gradient", "没有梯度"),
    "in place": (["    scores = q", "    v.data += 1\n    scores = q"], "the input is changed", "输入被改动了"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSED)
def test_a_mistake_in_attention_is_refused_and_named(name):
    changes, en, zh = MISSED[name]
    verdict = check.attention(written(ATTENTION, *changes))
    assert not verdict
    plain = not re.search(r"\.\*|\|", en)
    assert re.search(re.escape(en) if plain else en, verdict.en, re.IGNORECASE), verdict
    assert re.search(zh, verdict.zh), verdict


def test_every_mistake_in_attention_is_refused_and_named():
    assert len(attention_mistakes.MISTAKES) >= 30
    assert check.attention(attention_mistakes.with_mistakes([]))
    for mistake in attention_mistakes.MISTAKES:
        assert_named(check.attention(attention_mistakes.with_mistakes([mistake])), mistake)
    assert_well_worded(attention_mistakes.MISTAKES, {*attention_mistakes.LINES})


class Dot(nn.Module):
    """Attention as a module, which gives its weights too."""

    def forward(self, queries, keys, values, mask=None):
        """Attend."""
        return attend(queries, keys, values, mask, need_weights=True)


def loop(q, k, v):
    """One query after the other."""
    if q.dim() > 2:
        return torch.stack([loop(*heads) for heads in zip(q, k, v, strict=True)])
    return torch.stack([(k @ one / len(one) ** 0.5).softmax(0) @ v for one in q])


ATTENTIONS = {"ours": attend, "torch": F.scaled_dot_product_attention, "module": Dot(), "loop": loop}


@pytest.mark.parametrize("function", [*ATTENTIONS.values(), written(ATTENTION)], ids=[*ATTENTIONS, "written"])
def test_right_attention_passes(function):
    verdict = check.attention(function)
    assert verdict, verdict


def test_what_attention_does_not_take_is_said():
    assert "does not take them: `mask`, `causal`." in check.attention(loop).en
    assert "没有测试：`causal`。" in check.attention(Dot()).zh
    assert "Not tried" not in check.attention(attend).en


def test_attention_that_needs_a_mask_gets_one():
    needs = written(
        ATTENTION, "mask=None, *, causal=False", "mask", "    if causal:", "    assert mask is not None\n    if False:"
    )
    verdict = check.attention(needs)
    assert verdict, verdict
    assert "`causal`" in verdict.en
