r"""The usual mistakes in an optimizer of one's own, in words of both languages; the most frequent come first."""

from dlnotes.averaged_mistakes import ADAGRAD, ADAM, RMSPROP
from dlnotes.rules import BESIDE, BUFFER, DECAY, DIVIDE, LOOK, MOVE, ROLLED, SIGN, Mistake


def _always(move: str) -> list[Mistake]:
    r"""What goes wrong in every optimizer; ``move`` is its last line."""
    d = move[-1]
    return [
        Mistake(
            "the sign of the step is wrong, so it goes uphill",
            "步子的符号反了，走的是上坡",
            {move: f"θ = θ + lr * {d}"},
        ),
        Mistake("the step is not multiplied by the learning rate", "步子没有乘学习率", {move: f"θ = θ - {d}"}),
        Mistake("`maximize` has no effect", "`maximize` 没有起作用", {SIGN: "g = g"}),
        Mistake("all parameters share one state", "所有参数共用了同一份状态，每个参数应该各有一份", {}, "shared"),
    ]


_COUNTS = [
    Mistake(
        "the step count goes up once for every parameter, not once a step",
        "步数按参数来数了，每更新一个参数就加一。应该每走一步只加一",
        {},
        "each",
    ),
    Mistake(
        "the step count goes up although a parameter had no gradient; torch counts each parameter's own updates",
        "参数没有梯度时，步数也加了一。torch 给每个参数单独计数，更新了才加一",
        {},
        "calls",
    ),
    Mistake(
        "all parameters share one state, the step count with it",
        "所有参数共用了同一份状态，连步数也是",
        {},
        "shared each",
    ),
]


def _inside(move: str) -> list[Mistake]:
    r"""Weight decay that belongs in the gradient."""
    rest, after = {DECAY: ""}, f"{move}\nθ = θ - lr * weight_decay * θ"
    return [
        Mistake("`weight_decay` has no effect", "`weight_decay` 没有起作用", rest),
        Mistake(
            "the sign of the weight decay is wrong, so it lets the weights grow",
            "权重衰减的符号反了，权重不减反增",
            {DECAY: "g = g - weight_decay * θ"},
        ),
        Mistake(
            "the decay stands beside the step (decoupled, as in AdamW); here it belongs in the gradient, before "
            "everything else",
            "衰减放在了步子旁边（解耦，AdamW 的做法）。这里它应该最先加进梯度",
            rest | {move: f"{move} - lr * weight_decay * θ"},
        ),
        Mistake(
            "the decay comes after the step, on the parameter already moved; it belongs in the gradient, before it",
            "衰减放到了走完这一步之后，用的是更新过的参数。它应该在走之前加进梯度",
            rest | {move: after},
        ),
        Mistake(
            "the decay stands beside the step and is not multiplied by the learning rate; it belongs in the gradient",
            "衰减放在了步子旁边，而且没有乘学习率。它应该加进梯度",
            rest | {move: f"{move} - weight_decay * θ"},
        ),
        Mistake(
            "the decay comes after the step and is not multiplied by the learning rate; it belongs in the gradient",
            "衰减放到了走完这一步之后，而且没有乘学习率。它应该在走之前加进梯度",
            rest | {move: f"{move}\nθ = θ - weight_decay * θ"},
        ),
        Mistake(
            "the decay is twice too strong; the penalty is half of the square, so its gradient has no factor 2",
            "衰减大了一倍。惩罚是平方的一半，求导之后没有系数 2",
            {DECAY: "g = g + 2 * weight_decay * θ"},
        ),
        Mistake(
            "the decay in the gradient is multiplied by the learning rate, so in the end it is there twice",
            "加进梯度的衰减已经乘了学习率，到走的时候又乘了一次",
            {DECAY: "g = g + lr * weight_decay * θ"},
        ),
        Mistake(
            "`maximize` turns the sign after the decay was added; only the loss's gradient changes its sign",
            "先加衰减、再按 `maximize` 变号，衰减也跟着变了号。该变号的只有损失的梯度",
            {SIGN: "", DECAY: f"{DECAY}\n{SIGN}"},
        ),
    ]


_BESIDE = [
    Mistake("`weight_decay` has no effect", "`weight_decay` 没有起作用", {BESIDE: ""}),
    Mistake(
        "the decay is part of the gradient (L2, as in Adam), so the root divides it too; AdamW keeps it out",
        "衰减加进了梯度（L2，Adam 的做法），于是也要除以那个根。AdamW 不让它经过梯度",
        {BESIDE: DECAY},
    ),
    Mistake(
        "the decay is not multiplied by the learning rate",
        "衰减没有乘学习率",
        {BESIDE: "θ = θ - weight_decay * θ"},
    ),
    Mistake(
        "the decay comes after the step, on the parameter already moved; it comes before",
        "衰减放到了走完这一步之后，用的是更新过的参数。应该先衰减再走",
        {BESIDE: "", MOVE: f"{MOVE}\n{BESIDE}"},
    ),
    Mistake(
        "the decay comes after the step and is not multiplied by the learning rate",
        "衰减放到了走完这一步之后，而且没有乘学习率",
        {BESIDE: "", MOVE: f"{MOVE}\nθ = θ - weight_decay * θ"},
    ),
    Mistake(
        "the sign of the weight decay is wrong, so it lets the weights grow",
        "权重衰减的符号反了，权重不减反增",
        {BESIDE: "θ = θ + lr * weight_decay * θ"},
    ),
    Mistake(
        "the decay is added to the first moment and so divided by the root too; AdamW keeps it out of the quotient",
        "衰减加到了一阶矩上，于是也要除以那个根。AdamW 让它留在商的外面",
        {BESIDE: "", DIVIDE: "d = (m_hat + weight_decay * θ) / (sqrt(v_hat) + eps)"},
    ),
]

_SGD = [
    Mistake(
        "`momentum` has no effect, as nothing is kept from step to step",
        "`momentum` 没有起作用，前一步的缓冲没有留到下一步",
        {BUFFER: "b = g"},
    ),
    Mistake(
        "the buffer is an average, with `1 - momentum` before the gradient; torch's is a sum",
        "缓冲写成了平均，梯度前面乘了 `1 - momentum`。torch 的缓冲是和",
        {BUFFER: "b = momentum * b + (1 - momentum) * g"},
    ),
    Mistake(
        "dampening acts on the first step already; torch starts the buffer with the whole first gradient",
        "第一步就用了阻尼（dampening）。torch 让缓冲从完整的第一个梯度开始",
        {BUFFER: "b = momentum * b + (1 - dampening) * g"},
    ),
    Mistake(
        "`dampening` has no effect",
        "`dampening` 没有起作用",
        {BUFFER: "b = momentum * b + g"},
    ),
    Mistake(
        "the buffer starts at 0 and takes up no gradient in the first step",
        "缓冲从 0 开始，第一步没有把梯度加进去",
        {BUFFER: "b = momentum * b + (1 - dampening) * g if t > 1 else (0 if momentum else 1) * g"},
    ),
    Mistake(
        "the buffer is the first gradient itself, so what clears the gradient clears it too; keep a `clone()`",
        "缓冲直接用了第一个梯度本身，不是它的副本，梯度清零时缓冲也跟着变了。要用 `clone()`",
        {DECAY: f"{DECAY} if weight_decay else g", BUFFER: BUFFER.replace("1 * g", "g")},
    ),
    Mistake("`nesterov` has no effect", "`nesterov` 没有起作用", {LOOK: "d = b"}),
    Mistake(
        "Nesterov's look-ahead is taken even where `nesterov` is False",
        "`nesterov` 是 False 时也用了 Nesterov 的写法",
        {LOOK: "d = g + momentum * b"},
    ),
    Mistake(
        "Nesterov's look-ahead adds the buffer without the factor `momentum`",
        "Nesterov 的一步里，缓冲忘了乘 `momentum`",
        {LOOK: "d = g + b if nesterov else b"},
    ),
    Mistake(
        "Nesterov's look-ahead lacks this step's gradient",
        "Nesterov 的一步里少了当前的梯度",
        {LOOK: "d = momentum * b if nesterov else b"},
    ),
    Mistake(
        "Nesterov's look-ahead has the factor `momentum` at the gradient, not at the buffer",
        "Nesterov 的一步里，`momentum` 乘到了梯度上，应该乘缓冲",
        {LOOK: "d = b + momentum * g if nesterov else b"},
    ),
    Mistake(
        "Nesterov's look-ahead is stored in the buffer; it serves this step alone",
        "把 Nesterov 往前看的结果存回了缓冲。它只用于这一步，不该存",
        {LOOK: f"{LOOK}\nb = d"},
    ),
    Mistake(
        "the learning rate stands inside the buffer, so after a change old gradients still count with the old rate",
        "学习率写进了缓冲里面，学习率改变以后，旧的梯度还按旧的学习率算",
        {BUFFER: "b = momentum * b + lr * (1 - dampening) * g if t > 1 else lr * g",
         LOOK: "d = lr * g + momentum * b if nesterov else b", MOVE: "θ = θ - d"},
    ),
]  # fmt: skip

MISTAKES = {
    "SGD": [*_SGD, *_inside(MOVE), *_always(MOVE), *_COUNTS],
    "Adagrad": [*ADAGRAD, *_inside(MOVE), *_always(MOVE), *_COUNTS],
    "RMSprop": [*RMSPROP, *_inside(ROLLED), *_always(ROLLED)],
    "Adam": [*ADAM, *_inside(MOVE), *_always(MOVE), *_COUNTS],
    "AdamW": [*ADAM, *_BESIDE, *_always(MOVE), *_COUNTS],
}
