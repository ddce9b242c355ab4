r"""The rules of the optimizers line by line, and what a mistake is: a line that stands in another's place.

They are written without torch, so that what judges a reader's optimizer is a second way to the same numbers. The names
are torch's; ``θ`` is a parameter, ``g`` its gradient, ``t`` counts the parameter's updates from 1, ``d`` is the
direction of the step, and what a rule keeps from step to step is ``b``, ``s``, ``v``, ``a``, ``m`` or ``top``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    r"""One optimizer: what its state starts with, and the lines of a step.

    >>> RULES["SGD"].step[-1]
    'θ = θ - lr * d'
    """

    start: tuple[str, ...]
    step: tuple[str, ...]


@dataclass(frozen=True)
class Mistake:
    r"""A mistake in words, and the lines that it puts in place of others; a line may become several, or none.

    ``run`` names a mistake in how the rule is applied: ``"shared"``, all parameters have one state; ``"each"``, the
    count goes up with every parameter; ``"shared each"``, both; ``"calls"``, the count goes up even where a parameter
    has no gradient.

    >>> Mistake("the step goes uphill", "走的是上坡", {MOVE: "θ = θ + lr * d"}).changes()
    [('θ = θ - lr * d', 'θ = θ + lr * d')]
    """

    en: str
    zh: str
    lines: dict[str, str]
    run: str = ""

    def changes(self) -> list[tuple[str, str]]:
        r"""The pairs (right line, wrong line) to be shown; none where a line is missing or became several."""
        simple = all(wrong and "\n" not in wrong for wrong in self.lines.values())
        return list(self.lines.items()) if simple else []


SIGN = "g = -g if maximize else g"
DECAY = "g = g + weight_decay * θ"
BESIDE = "θ = θ - lr * weight_decay * θ"
MOVE = "θ = θ - lr * d"
ROLLED = "θ = θ - lr * b"
BUFFER = "b = momentum * b + (1 - dampening) * g if t > 1 else 1 * g"
LOOK = "d = g + momentum * b if nesterov else b"
SUM = "s = s + g**2"
DIVIDE_S = "d = g / (sqrt(s) + eps) / (1 + (t - 1) * lr_decay)"
MEAN_SQUARE = "v = alpha * v + (1 - alpha) * g**2"
CENTRE = "s = v - a**2 if centered else v"
DIVIDE_V = "d = g / (sqrt(s) + eps)"
ROLL = "b = momentum * b + d"
M = "m = beta1 * m + (1 - beta1) * g"
V = "v = beta2 * v + (1 - beta2) * g**2"
TOP = "top = maximum(top, v) if amsgrad else v"
M_HAT = "m_hat = m / (1 - beta1**t)"
V_HAT = "v_hat = top / (1 - beta2**t)"
DIVIDE = "d = m_hat / (sqrt(v_hat) + eps)"

RULES = {
    "SGD": Rule(("b = 0",), (SIGN, DECAY, BUFFER, LOOK, MOVE)),
    "Adagrad": Rule(("s = initial_accumulator_value",), (SIGN, DECAY, SUM, DIVIDE_S, MOVE)),
    "RMSprop": Rule(
        ("v = 0", "a = 0", "b = 0"),
        (SIGN, DECAY, MEAN_SQUARE, "a = alpha * a + (1 - alpha) * g", CENTRE, DIVIDE_V, ROLL, ROLLED),
    ),
    "Adam": Rule(("m = 0", "v = 0", "top = 0"), (SIGN, DECAY, M, V, TOP, M_HAT, V_HAT, DIVIDE, MOVE)),
    "AdamW": Rule(("m = 0", "v = 0", "top = 0"), (SIGN, BESIDE, M, V, TOP, M_HAT, V_HAT, DIVIDE, MOVE)),
}
