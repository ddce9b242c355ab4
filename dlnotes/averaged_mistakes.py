r"""The usual mistakes with squares, means and their corrections: Adagrad's, RMSProp's and Adam's."""

from dlnotes.rules import (
    CENTRE,
    DIVIDE,
    DIVIDE_S,
    DIVIDE_V,
    M_HAT,
    MEAN_SQUARE,
    ROLL,
    ROLLED,
    SUM,
    TOP,
    V_HAT,
    M,
    Mistake,
    V,
)

ADAGRAD = [
    Mistake(
        "ε stands inside the root",
        "ε 写进了根号里面",
        {DIVIDE_S: "d = g / sqrt(s + eps) / (1 + (t - 1) * lr_decay)"},
    ),
    Mistake("ε is missing", "漏了 ε", {DIVIDE_S: "d = g / sqrt(s) / (1 + (t - 1) * lr_decay)"}),
    Mistake(
        "the root is missing, and the step is divided by the sum of the squares itself",
        "漏了开方，直接除以平方和了",
        {DIVIDE_S: "d = g / (s + eps) / (1 + (t - 1) * lr_decay)"},
    ),
    Mistake("nothing is summed, only the newest square counts", "没有累加，只用了最新的平方", {SUM: "s = g**2"}),
    Mistake(
        "the squares are averaged; Adagrad sums them",
        "平方取了平均。Adagrad 用的是和",
        {DIVIDE_S: "d = g / (sqrt(s / t) + eps) / (1 + (t - 1) * lr_decay)"},
    ),
    Mistake(
        "absolute values are summed, not squares",
        "累加的是绝对值，应该累加平方",
        {SUM: "s = s + abs(g)"},
    ),
    Mistake(
        "the sum does not hold this step's square yet when the step is divided by it",
        "除的时候，平方和里还没有加上这一步的平方",
        {SUM: "", DIVIDE_S: f"{DIVIDE_S}\n{SUM}"},
    ),
    Mistake("`lr_decay` has no effect", "`lr_decay` 没有起作用", {DIVIDE_S: "d = g / (sqrt(s) + eps)"}),
    Mistake(
        "the decay of the learning rate acts on the first step already, as it counts `t` and not `t - 1`",
        "第一步学习率就衰减了。乘的是 `t`，应该是 `t - 1`",
        {DIVIDE_S: "d = g / (sqrt(s) + eps) / (1 + t * lr_decay)"},
    ),
    Mistake(
        "`initial_accumulator_value` has no effect",
        "`initial_accumulator_value` 没有起作用",
        {"s = initial_accumulator_value": "s = 0"},
    ),
]

RMSPROP = [
    Mistake("ε stands inside the root", "ε 写进了根号里面", {DIVIDE_V: "d = g / sqrt(s + eps)"}),
    Mistake("ε is missing", "漏了 ε", {DIVIDE_V: "d = g / sqrt(s)"}),
    Mistake(
        "the root is missing, and the step is divided by the mean square itself",
        "漏了开方，直接除以均方了",
        {DIVIDE_V: "d = g / (s + eps)"},
    ),
    Mistake(
        "the squares are summed, not averaged; the factor `1 - alpha` is missing",
        "平方是累加的，没有取平均，漏了系数 `1 - alpha`",
        {MEAN_SQUARE: "v = alpha * v + g**2"},
    ),
    Mistake(
        "all squares are summed and none is forgotten, which is Adagrad",
        "平方只加不忘，那是 Adagrad",
        {MEAN_SQUARE: "v = v + g**2"},
    ),
    Mistake(
        "`alpha` and `1 - alpha` are swapped",
        "`alpha` 和 `1 - alpha` 用反了",
        {MEAN_SQUARE: "v = (1 - alpha) * v + alpha * g**2"},
    ),
    Mistake(
        "the gradient is averaged without being squared",
        "没有平方就取了平均",
        {MEAN_SQUARE: "v = alpha * v + (1 - alpha) * abs(g)"},
    ),
    Mistake(
        "the mean square starts with the first square; torch's starts at 0",
        "均方从第一个平方开始。torch 的从 0 开始",
        {MEAN_SQUARE: f"{MEAN_SQUARE} if t > 1 else g**2"},
    ),
    Mistake(
        "the mean square is corrected for its start at 0, as Adam's is; RMSProp's is not",
        "均方做了偏差修正，那是 Adam 的做法，RMSProp 不修正",
        {CENTRE: f"{CENTRE}\ns = s / (1 - alpha**t)"},
    ),
    Mistake(
        "the mean does not hold this step's square yet when the step is divided by it",
        "除的时候，均方里还没有加上这一步的平方",
        {MEAN_SQUARE: "", ROLL: f"{MEAN_SQUARE}\n{ROLL}"},
    ),
    Mistake("`centered` has no effect", "`centered` 没有起作用", {CENTRE: "s = v"}),
    Mistake(
        "with `centered` the mean gradient is taken off without being squared",
        "`centered` 时减去的是梯度的平均，漏了平方",
        {CENTRE: "s = v - a if centered else v"},
    ),
    Mistake("`momentum` has no effect", "`momentum` 没有起作用", {ROLL: "b = d"}),
    Mistake(
        "momentum sums the gradients and divides afterwards; here each gradient is divided first",
        "动量先累加梯度再除。这里应该先除，再累加",
        {DIVIDE_V: "d = g", ROLLED: "θ = θ - lr * b / (sqrt(s) + eps)"},
    ),
    Mistake(
        "the momentum buffer is an average, with `1 - momentum` before the new step; torch's is a sum",
        "动量的缓冲写成了平均，新的一项乘了 `1 - momentum`。torch 的缓冲是和",
        {ROLL: "b = momentum * b + (1 - momentum) * d"},
    ),
    Mistake(
        "the learning rate stands inside the buffer, so after a change old steps still count with the old rate",
        "学习率写进了缓冲里面，学习率改变以后，旧的步子还按旧的学习率算",
        {ROLL: "b = momentum * b + lr * d", ROLLED: "θ = θ - b"},
    ),
]

ADAM = [
    Mistake(
        "there is no bias correction, neither of `m` nor of `v`",
        "没有做偏差修正，`m` 和 `v` 都没有",
        {M_HAT: "m_hat = m", V_HAT: "v_hat = top"},
    ),
    Mistake("the first moment `m` has no bias correction", "一阶矩 `m` 没有做偏差修正", {M_HAT: "m_hat = m"}),
    Mistake("the second moment `v` has no bias correction", "二阶矩 `v` 没有做偏差修正", {V_HAT: "v_hat = top"}),
    Mistake("ε stands inside the root", "ε 写进了根号里面", {DIVIDE: "d = m_hat / sqrt(v_hat + eps)"}),
    Mistake(
        "ε is added before the correction, so √v + ε is divided by the root of `1 - beta2**t`, ε with it",
        "ε 加在了修正之前，√v + ε 一起除以了 `1 - beta2**t` 的根",
        {DIVIDE: "d = m_hat / ((sqrt(top) + eps) / sqrt(1 - beta2**t))"},
    ),
    Mistake(
        "ε stands inside the root, and is added before the correction",
        "ε 写进了根号里面，而且加在了修正之前",
        {V_HAT: "v_hat = (top + eps) / (1 - beta2**t)", DIVIDE: "d = m_hat / sqrt(v_hat)"},
    ),
    Mistake("ε is missing", "漏了 ε", {DIVIDE: "d = m_hat / sqrt(v_hat)"}),
    Mistake(
        "the step count starts at 0, so the first correction divides by `1 - beta**0`, which is 0; it starts at 1",
        "步数从 0 数起，第一步的修正就除以了 `1 - beta**0`，也就是 0。应该从 1 数起",
        {M_HAT: M_HAT.replace("**t", "**(t - 1)"), V_HAT: V_HAT.replace("**t", "**(t - 1)")},
    ),
    Mistake(
        "the step count is one ahead, and is 2 in the first step",
        "步数多数了一步，第一步就成了 2",
        {M_HAT: M_HAT.replace("**t", "**(t + 1)"), V_HAT: V_HAT.replace("**t", "**(t + 1)")},
    ),
    Mistake(
        "the correction divides by `1 - beta` and not by `1 - beta**t`; the power is missing",
        "修正除以的是 `1 - beta`，漏了 `t` 次方",
        {M_HAT: "m_hat = m / (1 - beta1)", V_HAT: "v_hat = top / (1 - beta2)"},
    ),
    Mistake(
        "`beta1` and `beta2` are swapped",
        "`beta1` 和 `beta2` 用反了",
        {
            M: M.replace("beta1", "beta2"),
            V: V.replace("beta2", "beta1"),
            M_HAT: M_HAT.replace("beta1", "beta2"),
            V_HAT: V_HAT.replace("beta2", "beta1"),
        },
    ),
    Mistake(
        "`beta1` serves both moments",
        "两个矩都用了 `beta1`",
        {V: V.replace("beta2", "beta1"), V_HAT: V_HAT.replace("beta2", "beta1")},
    ),
    Mistake(
        "`beta2` serves both moments",
        "两个矩都用了 `beta2`",
        {M: M.replace("beta1", "beta2"), M_HAT: M_HAT.replace("beta1", "beta2")},
    ),
    Mistake(
        "the squares are summed, not averaged; the factor `1 - beta2` is missing",
        "平方是累加的，没有取平均，漏了系数 `1 - beta2`",
        {V: "v = beta2 * v + g**2"},
    ),
    Mistake(
        "all squares are summed and none is forgotten, as in Adagrad",
        "平方只加不忘，成了 Adagrad 的做法",
        {V: "v = v + g**2"},
    ),
    Mistake(
        "the gradients are summed, not averaged; the factor `1 - beta1` is missing",
        "梯度是累加的，没有取平均，漏了系数 `1 - beta1`",
        {M: "m = beta1 * m + g"},
    ),
    Mistake(
        "`beta1` and `1 - beta1` are swapped",
        "`beta1` 和 `1 - beta1` 用反了",
        {M: "m = (1 - beta1) * m + beta1 * g"},
    ),
    Mistake(
        "`beta2` and `1 - beta2` are swapped",
        "`beta2` 和 `1 - beta2` 用反了",
        {V: "v = (1 - beta2) * v + beta2 * g**2"},
    ),
    Mistake(
        "`v` averages the gradients without squaring them",
        "`v` 没有平方就取了平均",
        {V: "v = beta2 * v + (1 - beta2) * abs(g)"},
    ),
    Mistake(
        "`v` averages the squares of `m`, not of the gradient",
        "`v` 平均的是 `m` 的平方，应该是梯度的平方",
        {V: "v = beta2 * v + (1 - beta2) * m**2"},
    ),
    Mistake(
        "`m` and `v` are one and the same tensor",
        "`m` 和 `v` 是同一个张量",
        {V: "m = v = beta2 * m + (1 - beta2) * g**2"},
    ),
    Mistake(
        "the root is missing, and the step is divided by `v_hat` itself",
        "漏了开方，直接除以 `v_hat` 了",
        {DIVIDE: "d = m_hat / (v_hat + eps)"},
    ),
    Mistake(
        "the correction of `v` stands outside the root; `v` is corrected first, the root comes after",
        "`v` 的修正写在了根号外面。应该先修正，再开方",
        {V_HAT: "v_hat = top", DIVIDE: "d = m_hat / (sqrt(v_hat) / (1 - beta2**t) + eps)"},
    ),
    Mistake(
        "the corrected moments are stored as the state, so they are corrected again in the next step",
        "修正后的矩存回了状态里，下一步又修正一遍",
        {M_HAT: f"m = {M_HAT}", V_HAT: f"v = {V_HAT}"},
    ),
    Mistake(
        "the corrected first moment is stored as the state",
        "修正后的一阶矩存回了状态里",
        {M_HAT: f"m = {M_HAT}"},
    ),
    Mistake(
        "the corrected second moment is stored as the state",
        "修正后的二阶矩存回了状态里",
        {V_HAT: f"v = {V_HAT}"},
    ),
    Mistake(
        "the newest gradient takes the place of the first moment",
        "该用一阶矩的地方用了当前的梯度",
        {M_HAT: "m_hat = g"},
    ),
    Mistake(
        "`v` does not hold this step's square yet when the step is divided by it",
        "除的时候，`v` 里还没有加上这一步的平方",
        {V: "", DIVIDE: f"{DIVIDE}\n{V}"},
    ),
    Mistake("`amsgrad` has no effect", "`amsgrad` 没有起作用", {TOP: "top = v"}),
    Mistake(
        "AMSGrad keeps the largest corrected `v`; torch keeps the largest `v` and corrects it afterwards",
        "AMSGrad 保存的是修正后的最大值。torch 先取 `v` 的最大值，再修正",
        {TOP: "", V_HAT: "top = maximum(top, v / (1 - beta2**t)) if amsgrad else v / (1 - beta2**t)\nv_hat = top"},
    ),
]
