# ruff: noqa: E501  a planted mistake stands in one line
r"""The check of a reader's optimizer: what is right passes, what is wrong is refused, usual mistakes are named."""

import functools
import re
import textwrap

import jaxtyping
import pytest
import torch
from outputs import strip_other_languages

from dlnotes import check, optim
from dlnotes.attempts import attempt
from dlnotes.check import Verdict
from dlnotes.diagnosis import same, walk
from dlnotes.mistakes import MISTAKES
from dlnotes.rules import RULES
from dlnotes.trials import taken, trials

ALL = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"]

# ---- five optimizers, as a reader writes them

WRITTEN = {
    "SGD": """
    class Mine(torch.optim.Optimizer):
        def __init__(self, params, lr, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
            names = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
            super().__init__(params, dict(names, nesterov=nesterov, maximize=maximize))

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                lr, mu, decay = group["lr"], group["momentum"], group["weight_decay"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    g = -p.grad if group["maximize"] else p.grad
                    if decay:
                        g = g + decay * p
                    if mu:
                        state = self.state[p]
                        if "b" not in state:
                            state["b"] = g.clone()
                        else:
                            state["b"].mul_(mu).add_((1 - group["dampening"]) * g)
                        g = g + mu * state["b"] if group["nesterov"] else state["b"]
                    p -= lr * g
    """,
    "Adagrad": """
    class Mine:
        def __init__(self, params, lr=0.01, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
            self.params, self.lr, self.lr_decay, self.eps = list(params), lr, lr_decay, eps
            self.weight_decay = weight_decay
            self.sums = [torch.zeros_like(p) for p in self.params]
            self.counts = [0 for _ in self.params]

        def step(self):
            for i, p in enumerate(self.params):
                if p.grad is not None:
                    g = p.grad + self.weight_decay * p.data
                    self.sums[i] = self.sums[i] + g * g
                    lr = self.lr / (1 + self.counts[i] * self.lr_decay)
                    p.data = p.data - lr * g / (self.sums[i].sqrt() + self.eps)
                    self.counts[i] += 1
    """,
    "RMSprop": """
    class Mine(torch.optim.Optimizer):
        def __init__(self, params, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False):
            options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
            super().__init__(params, options | {"momentum": momentum, "centered": centered})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    s, a = self.state[p], group["alpha"]
                    if not s:
                        s.update({name: torch.zeros_like(p) for name in ("v", "mean", "b")})
                    g = p.grad + group["weight_decay"] * p
                    s["v"] = a * s["v"] + (1 - a) * g**2
                    s["mean"] = a * s["mean"] + (1 - a) * g
                    var = s["v"] - s["mean"] ** 2 if group["centered"] else s["v"]
                    d = g / (var.sqrt() + group["eps"])
                    s["b"] = group["momentum"] * s["b"] + d
                    p.add_(s["b"], alpha=-group["lr"])
    """,
    "Adam": """
    class Mine(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
            super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                b1, b2 = group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state, g = self.state[p], p.grad
                    if not state:
                        state["t"] = 0
                        state["m"] = torch.zeros_like(p)
                        state["v"] = torch.zeros_like(p)
                    state["t"] += 1
                    m, v, t = state["m"], state["v"], state["t"]
                    if group["weight_decay"]:
                        g = g + group["weight_decay"] * p
                    m.mul_(b1).add_((1 - b1) * g)
                    v.mul_(b2).add_((1 - b2) * g**2)
                    m_hat = m / (1 - b1**t)
                    v_hat = v / (1 - b2**t)
                    p.sub_(group["lr"] * m_hat / (v_hat.sqrt() + group["eps"]))
    """,
    "AdamW": """
    def Mine(parameter, gradient, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        b1, b2 = betas
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * gradient
        v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * gradient**2
        kept = parameter * (1 - lr * weight_decay)
        return kept - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
    """,
}


def written(like, *changes):
    """The reader's optimizer, with these pieces of its source replaced."""
    source = textwrap.dedent(WRITTEN[like])
    for right, wrong in zip(changes[::2], changes[1::2], strict=True):
        assert right in source, right
        source = source.replace(right, wrong)
    names = {"torch": torch}
    exec(source, names)
    return names["Mine"]


# ---- what is right passes


@pytest.mark.parametrize("like", ALL)
def test_right_ones_pass(like):
    theirs = getattr(torch.optim, like)
    makes = [written(like), getattr(optim, like), theirs, functools.partial(theirs, foreach=True)]
    if like not in ("RMSprop", "SGD"):  # torch's fused SGD fails where a parameter gets its first gradient later
        makes.append(functools.partial(theirs, fused=True))
    for make in makes:
        verdict = check.optimizer(make, like=like)
        assert verdict, verdict
        assert verdict.passed


def test_what_was_not_tried_is_said():
    verdict = check.optimizer(written("Adagrad"), like="Adagrad")
    assert "it does not take them: `initial_accumulator_value`, `maximize`." in verdict.en
    assert "没有测试：`initial_accumulator_value`、`maximize`。" in verdict.zh
    assert "Nor were groups of parameters tried" in verdict.en
    assert "Not tried" not in check.optimizer(torch.optim.SGD, like="SGD").en


def test_one_check_tells_the_same_as_the_next():
    make = written("Adam", "m / (1 - b1**t)", "m")
    assert check.optimizer(make, like="Adam") == check.optimizer(make, like="Adam")


# ---- what is wrong is refused, and named

G_B = 'g + mu * state["b"] if group["nesterov"] else state["b"]'
DAMPED = '(1 - group["dampening"]) * g'
ROOT = '(v_hat.sqrt() + group["eps"])'
VAR = '(var.sqrt() + group["eps"])'
L2 = 'g = g + group["weight_decay"] * p'
M_HAT, V_HAT, ZEROS = "m / (1 - b1**t)", "v / (1 - b2**t)", "torch.zeros_like(p)"
AFTER = "parameter - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)"

# optimizer, what is changed into what, and words of the answer in English and in Chinese
NAMED = {
    "uphill": ("SGD", ["p -= lr * g", "p += lr * g"], "it goes uphill", "走的是上坡"),
    "uphill Adam": ("Adam", ["p.sub_", "p.add_"], "it goes uphill", "走的是上坡"),
    "no rate": ("SGD", ["p -= lr * g", "p -= g"], "not multiplied by the learning rate", "没有乘学习率"),
    # momentum
    "no buffer": ("SGD", ["            if mu:", "            if False:"], "nothing is kept from step", "没有留到下一步"),
    "no dampening": ("SGD", [DAMPED, "g"], "`dampening` has no effect", "`dampening` 没有起作用"),
    "dampened start": ("SGD", ["= g.clone()", f"= {DAMPED}"], "dampening acts on the first step", "第一步就用了阻尼"),
    "zero start": ("SGD", ["= g.clone()", f"= {ZEROS}"], "takes up no gradient in the first step", "没有把梯度加进去"),
    "mean": ("SGD", [DAMPED, "(1 - mu) * g", "g.clone()", "(1 - mu) * g"], "the buffer is an average", "缓冲写成了平均"),
    "plain": ("SGD", [G_B, 'state["b"]'], "`nesterov` has no effect", "`nesterov` 没有起作用"),
    "always": ("SGD", [G_B, 'g + mu * state["b"]'], "even where `nesterov` is False", "也用了 Nesterov"),
    "look 1": ("SGD", ["g + mu * state", "g + state"], "without the factor `momentum`", "忘了乘 `momentum`"),
    "look 2": ("SGD", ["g + mu * state", "mu * state"], "lacks this step's gradient", "少了当前的梯度"),
    "velocity": (
        "SGD",
        ["if mu:", "g = lr * g\n                if mu:", "p -= lr * g", "p -= g"],
        "the learning rate stands inside the buffer", "学习率写进了缓冲",
    ),
    "mean of steps": (
        "RMSprop",
        ['* s["b"] + d', '* s["b"] + (1 - group["momentum"]) * d'],
        "the momentum buffer is an average", "动量的缓冲写成了平均",
    ),
    "divided late": (
        "RMSprop",
        [f"g / {VAR}", "g", '(s["b"], alpha', f'(s["b"] / {VAR}, alpha'],
        "here each gradient is divided first", "这里应该先除",
    ),
    # weight decay
    "growth": ("SGD", ["g + decay * p", "g - decay * p"], "the sign of the weight decay", "权重衰减的符号反了"),
    "beside": (
        "SGD",
        ["g = g + decay * p", "g = g.clone()", "p -= lr * g", "p -= lr * g + lr * decay * p"],
        "beside the step (decoupled", "步子旁边（解耦",
    ),
    "after": (
        "SGD",
        ["g = g + decay * p", "g = g.clone()", "p -= lr * g", "p -= lr * g; p -= lr * decay * p"],
        "the decay comes after the step", "走完这一步之后",
    ),
    "no decay": ("Adagrad", [" + self.weight_decay * p.data", ""], "`weight_decay` has no effect", "没有起作用"),
    "AdamW": ("Adam", [L2, 'p.mul_(1 - group["lr"] * group["weight_decay"])'], "as in AdamW", "AdamW 的做法"),
    "no rate in decay": ("Adam", [L2, 'p.mul_(1 - group["weight_decay"])'], "is not multiplied by", "没有乘学习率"),
    "L2": (
        "AdamW",
        ["parameter * (1 - lr * weight_decay)", "parameter", "betas\n", "betas\n    gradient = gradient + weight_decay * parameter\n"],
        "L2, as in Adam", "Adam 的做法",
    ),
    "no rate in AdamW": ("AdamW", ["1 - lr * weight_decay", "1 - weight_decay"], "not multiplied by", "没有乘学习率"),
    "after AdamW": (
        "AdamW",
        [AFTER.replace("parameter", "kept"), f"(1 - lr * weight_decay) * ({AFTER})"],
        "the decay comes after the step", "走完这一步之后",
    ),
    # squares
    "only the newest": ("Adagrad", ["self.sums[i] + g * g", "g * g"], "nothing is summed", "没有累加"),
    "ε in Adagrad": (
        "Adagrad",
        ["(self.sums[i].sqrt() + self.eps)", "(self.sums[i] + self.eps).sqrt()"],
        "ε stands inside the root", "ε 写进了根号",
    ),
    "no root in Adagrad": ("Adagrad", ["self.sums[i].sqrt()", "self.sums[i]"], "the root is missing", "漏了开方"),
    "t - 1": ("Adagrad", ["1 + self.counts[i] *", "1 + (self.counts[i] + 1) *"], "`t` and not `t - 1`", "应该是 `t - 1`"),
    "sum": ("RMSprop", ["(1 - a) * g**2", "g**2"], "the squares are summed, not averaged", "没有取平均"),
    "swapped": ("RMSprop", ['a * s["v"] + (1 - a) *', '(1 - a) * s["v"] + a *'], "are swapped", "用反了"),
    "ε in RMSprop": ("RMSprop", [VAR, '(var + group["eps"]).sqrt()'], "ε stands inside the root", "ε 写进了根号"),
    "centre": ("RMSprop", ['s["mean"] ** 2 if', 's["mean"] if'], "without being squared", "漏了平方"),
    "sum in Adam": ("Adam", ["(1 - b2) * g**2", "g**2"], "the squares are summed, not averaged", "没有取平均"),
    "sum of gradients": ("Adam", ["(1 - b1) * g)", "g)"], "the gradients are summed, not averaged", "没有取平均"),
    "no root": ("Adam", ["v_hat.sqrt()", "v_hat"], "the root is missing", "漏了开方"),
    # bias correction and ε
    "no correction": ("Adam", [M_HAT, "m", V_HAT, "v"], "neither of `m` nor of `v`", "`m` 和 `v` 都没有"),
    "m": ("Adam", [M_HAT, "m"], "the first moment `m` has no bias correction", "一阶矩 `m` 没有做偏差修正"),
    "v": ("AdamW", [f"({V_HAT})", "v"], "the second moment `v` has no bias correction", "二阶矩 `v` 没有做偏差修正"),
    "ε": ("Adam", [ROOT, '(v_hat + group["eps"]).sqrt()'], "ε stands inside the root", "ε 写进了根号"),
    "ε early": (
        "Adam",
        [ROOT, '((v.sqrt() + group["eps"]) / (1 - b2**t) ** 0.5)'],
        "ε is added before the correction", "ε 加在了修正之前",
    ),
    "ε missing": ("Adam", [' + group["eps"]', ""], "ε is missing", "漏了 ε"),
    "betas": ("Adam", ["b1, b2 = group", "b2, b1 = group"], "`beta1` and `beta2` are swapped", "`beta2` 用反了"),
    "count": ("Adam", ['state["t"]\n', 'state["t"] - 1\n'], "the step count starts at 0", "从 0 数起"),
    "power": ("Adam", ["1 - b1**t", "1 - b1", "1 - b2**t", "1 - b2"], "the power is missing", "漏了 `t` 次方"),
    "stored": ("Adam", ["m / (1", "m.div_(1", "v / (1", "v.div_(1"], "stored as the state, so they are", "存回了状态里，"),
    # what is kept, and where
    "one tensor": ("Adam", [f'state["v"] = {ZEROS}', 'state["v"] = state["m"]'], "one and the same tensor", "同一个张量"),
    "one state": ("Adam", ["self.state[p], p.grad", "self.state['x'], p.grad"], "share one state", "共用了同一份状态"),
    "one count": ("Adagrad", ["self.counts[i]", "self.counts[0]"], "once for every parameter", "每更新一个参数就加一"),
    "all calls": (
        "Adagrad",
        ["step(self):", "step(self):\n        self.n = getattr(self, 'n', -1) + 1", "self.counts[i] *", "self.n *"],
        "although a parameter had no gradient", "参数没有梯度时",
    ),
    "alias": ("SGD", ["g.clone()", "g"], "keep a `clone()`", "要存 `clone()`"),
    "left over": (
        "Adagrad",
        ["class Mine:", "class Mine:\n    sums = [0.0] * 9\n", "        self.sums = [torch.zeros_like(p) for p in self.params]\n", ""],
        "it starts with what the first one left", "它用了上一个留下的状态",
    ),
    "two mistakes": (
        "Adam",
        [M_HAT, "m", ROOT, '(v_hat + group["eps"]).sqrt()'],
        "There are two mistakes. The first moment `m` has no bias correction. ε stands", "有两处错。一阶矩",
    ),
    # beside the numbers
    "gradient": ("Adam", ["g = g + group", "g += group"], "`step()` changes the gradient itself", "改动了梯度本身"),
    "eps": ("Adam", ["eps=1e-8", "eps=1e-6"], "The default of `eps` is 1e-06, torch's is 1e-08", "的默认值是 1e-06"),
    "default": ("AdamW", ["decay=0.01", "decay=0"], "The default of `weight_decay` is 0", "的默认值是 0"),
    "None": ("Adam", ["if p.grad is None:", "if False:"], "skip the parameters whose `grad` is None", "要跳过"),
    "grad mode": ("SGD", ["@torch.no_grad()", ""], "put `@torch.no_grad()` above `step`", "写 `@torch.no_grad()`"),
    "rebound": ("SGD", ["p -= lr * g", "p = p - lr * g"], "Nothing moved", "参数一点没动"),
    "iterator": ("Adagrad", ["list(params)", "params"], "keep `list(params)`", "要存 `list(params)`"),
    "shape": ("Adagrad", [ZEROS, "torch.zeros(4)"], "several shapes, .* step 1, it raised RuntimeError", "抛出了 RuntimeError"),
    "rate": ("SGD", ['lr, mu, decay = group["lr"]', 'lr, mu, decay = self.defaults["lr"]'], "read anew", "每一步都要重新读"),
    "tensor count": ("Adam", ['state["t"] = 0', 'state["t"] = torch.tensor(0.0)'], "something is a float32", "是 float32"),
    "float32": ("Adam", [f"= {ZEROS}", "= torch.zeros(p.shape)"], "something is a float32", "是 float32"),
    "not cleared": (
        "SGD",
        ["    @torch", "    def zero_grad(self):\n        pass\n\n    @torch"],
        "leaves the old gradients", "没有清掉旧的梯度",
    ),
    "type": ("Adagrad", ["self.eps)\n", "self.eps); p.data = p.data.float()\n"], "the parameter became torch.float32", "参数变成了"),
    "no lr": ("AdamW", ["state, lr,", "state, rate=0.1,", "lr *", "rate *"], "takes no `lr`", "没有学习率参数 `lr`"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_mistake_is_refused_and_named(name):
    like, changes, en, zh = NAMED[name]
    verdict = check.optimizer(written(like, *changes), like=like)
    assert not verdict
    assert not verdict.passed
    assert re.search(en if ".*" in en else re.escape(en), verdict.en, re.IGNORECASE), verdict
    assert re.search(zh if "|" in zh else re.escape(zh), verdict.zh), verdict
    if name != "no lr":
        assert re.search(r"step \d", verdict.en)
        assert re.search(r"第 \d 步", verdict.zh)


def by_lines(like, mistake):
    """An optimizer that runs the rule's lines with a mistake, in torch."""
    rule = RULES[like]
    start, step = ("\n".join(mistake.lines.get(line, line) for line in lines) for lines in (rule.start, rule.step))

    class Lines(torch.optim.Optimizer):
        def __init__(self, params, **options):
            super().__init__(params, taken(getattr(torch.optim, like), like)[0] | options)
            self.common, self.updates, self.calls = {}, 0, 0

        @torch.no_grad()
        def step(self):
            self.calls += 1
            first = self.param_groups[0]["params"][0]
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    self.updates += 1
                    names = self.common if "shared" in mistake.run else self.state[p]
                    new = not names
                    names.update(group, sqrt=lambda x: x**0.5, maximum=torch.maximum)
                    if "betas" in group:
                        names["beta1"], names["beta2"] = group["betas"]
                    if new:
                        exec(start, names)
                        names.update({k: torch.full_like(p, v) for k, v in names.items() if k in "bsvam" or k == "top"})
                    own = names.get("t", 0) + (mistake.run != "shared" or p is first)
                    counts = {"each": self.updates, "shared each": self.updates, "calls": self.calls}
                    names["t"] = counts.get(mistake.run, own)
                    names.update({"g": p.grad, "θ": p.clone()})
                    exec(step, names)
                    p.copy_(names["θ"])

    return Lines


@pytest.mark.parametrize("like", ALL)
def test_every_mistake_of_the_table_is_refused_and_named(like):
    assert len(MISTAKES[like]) >= 25
    for mistake in MISTAKES[like]:
        verdict = check.optimizer(by_lines(like, mistake), like=like)
        assert not verdict.passed, mistake.en
        assert mistake.en[1:] in verdict.en, (mistake.en, verdict)
        assert mistake.zh in verdict.zh
        for right, wrong in mistake.changes():
            assert f"`{wrong}` in place of `{right}`" in verdict.en
            assert f"把 `{right}` 写成 `{wrong}`" in verdict.zh


@pytest.mark.parametrize("like", ALL)
def test_the_rules_are_torchs(like):
    cls = getattr(torch.optim, like)
    defaults = taken(cls, like)[0]
    for trial in trials(cls, like):
        path = attempt(cls, trial).path
        assert len(path) == 8
        assert all(same(a, b, trial.dtype) for a, b in zip(walk(like, trial, defaults), path, strict=True))


@pytest.mark.parametrize("like", ALL)
def test_every_line_that_a_mistake_replaces_is_in_the_rule(like):
    lines = {*RULES[like].start, *RULES[like].step}
    for mistake in MISTAKES[like]:
        assert mistake.lines.keys() <= lines, mistake.en
        assert mistake.run or mistake.lines
    words = [text for mistake in MISTAKES[like] for text in (mistake.en, mistake.zh)]
    assert len(set(words)) == len(words)
    assert all(re.search("[\u4e00-\u9fff]", mistake.zh) for mistake in MISTAKES[like])
    assert not any(word.endswith((".", "。")) for word in words)


# ---- the verdict, and what is no optimizer


def test_a_verdict_reads_in_both_languages():
    verdict = Verdict(False, "You wrote `a < b`.", "你写了 `a < b`。")
    assert repr(verdict) == "✗ You wrote `a < b`.\n✗ 你写了 `a < b`。"
    html = verdict._repr_html_()
    assert '<!--dln:en--><p lang="en">✗ You wrote <code>a &lt; b</code>.</p><!--/dln:en-->' in html
    assert '<p lang="zh">✗ 你写了 <code>a &lt; b</code>。</p>' in html
    assert strip_other_languages(html, "zh").strip().startswith('<p lang="zh">')
    assert not verdict
    assert Verdict(True, "Yes.", "对。")


def test_what_cannot_be_checked_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # no type checker in between
    with pytest.raises(ValueError, match=r"like must be one of SGD, .*, got 'adam'; 'Adam'\?"):
        check.optimizer(torch.optim.Adam, like="adam")
    with pytest.raises(ValueError, match=r"got 'Lion'$"):
        check.optimizer(torch.optim.Adam, like="Lion")
    made = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for wrong in (made, 3, None):
        with pytest.raises(TypeError, match="make must be a class or a function, not what it makes; got"):
            check.optimizer(wrong, like="SGD")


def test_another_rule_is_refused_without_a_name():
    verdict = check.optimizer(torch.optim.Adam, like="SGD")
    assert not verdict
    assert "No usual mistake gives these numbers." in verdict.en
    late = written("Adam", "p.sub_", 'group["eps"] += 0 if t < 3 else 0.5; p.sub_')
    assert "The steps before are right" in check.optimizer(late, like="Adam").en
    odd = written("Adam", "b1, b2 = group", 'b1, b2 = (0.9, 0.99) if group["betas"][0] < 0.9 else group')
    assert "All plain settings without `betas` come out right" in check.optimizer(odd, like="Adam").en
    theirs = type("Theirs", (torch.optim.Adam,), {"step": lambda self: None})
    assert "Nothing moved" in check.optimizer(theirs, like="Adam").en


def test_the_state_is_named_where_it_has_torchs_name():
    make = written("Adam", 'state["v"]', 'state["exp_avg_sq"]', "* g**2", "* g**2 * 1.5")
    assert "In the state, `exp_avg_sq` differs from step 1 on." in check.optimizer(make, like="Adam").en


def test_what_the_code_raises_is_told_with_its_line_and_no_more():
    def broken(params, lr):
        raise KeyError("lr")

    verdict = check.optimizer(broken, like="SGD")
    assert "making it raised KeyError: 'lr' (at `raise KeyError(\"lr\")`)" in verdict.en
    assert "创建时抛出了 KeyError" in verdict.zh

    def rule(parameter, gradient, state, lr):
        return parameter - lr * gradient / 0

    assert "it raised" not in check.optimizer(rule, like="SGD").en  # tensors divide by 0

    def loud(parameter, gradient, state, lr):
        raise RuntimeError

    assert "in step 1, it raised RuntimeError" in check.optimizer(loud, like="SGD").en
