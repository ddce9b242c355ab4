r"""Judges code that a reader wrote, by the trials that hold this package to torch, and answers in words.

Every check returns a :class:`Verdict`, in English and in Chinese. Today there is one, :func:`optimizer`.
"""

import difflib
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlnotes.judging import judge
from dlnotes.rules import RULES


@dataclass(frozen=True)
class Verdict:
    r"""The answer of a check: whether the code passed, and why, in two languages. True where it passed.

    Attributes:
        passed: whether every trial came out as in torch.
        en: the answer in English; code stands in backticks.
        zh: the same in Chinese.

    A notebook shows both languages, an edition of the book its own.

    >>> verdict = Verdict(True, "It is equal.", "两者相等。")
    >>> verdict
    ✓ It is equal.
    ✓ 两者相等。
    >>> bool(verdict)
    True
    """

    passed: bool
    en: str
    zh: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return "\n".join(f"{'✓' if self.passed else '✗'} {text}" for text in (self.en, self.zh))

    def _repr_html_(self) -> str:
        mark = "✓" if self.passed else "✗"
        return "\n".join(
            f'<!--dln:{lang}--><p lang="{lang}">{mark} {_with_code(text)}</p><!--/dln:{lang}-->'
            for lang, text in (("en", self.en), ("zh", self.zh))
        )


def _with_code(text: str) -> str:
    return re.sub("`(.*?)`", r"<code>\1</code>", html.escape(text, quote=False))


def optimizer(make: Callable[..., Any], like: str) -> Verdict:
    r"""Compare an optimizer of one's own with torch's of the name ``like``.

    It is taken through settings of its hyper-parameters, and through parameters of several shapes and types, with
    gradients that are zero, missing, or cleared in place. Where its numbers are not torch's, the first step that
    differs is told, and the mistake, if the rule with a usual mistake gives the reader's numbers.

    Args:
        make: a class with torch's constructor, ``MyAdam(params, lr=…, betas=…)``, and a method ``step()``; it need not
            be a :class:`torch.optim.Optimizer`. Or a function that makes one. Or the rule alone, a function
            ``rule(parameter, gradient, state, lr=…, betas=…)`` that returns the new parameter, ``state`` being a
            dictionary for each parameter, empty before its first step. Options that it does not take are not tried.
        like: ``"SGD"``, ``"Adagrad"``, ``"RMSprop"``, ``"Adam"`` or ``"AdamW"``.

    Returns:
        A verdict; what the code raises is part of it.

    Raises:
        ValueError: there is no optimizer of that name.
        TypeError: ``make`` cannot be called, an optimizer already made for one.

    >>> def descend(parameter, gradient, state, lr):
    ...     return parameter + lr * gradient
    >>> verdict = optimizer(descend, like="SGD")
    >>> verdict.passed
    False
    >>> import textwrap
    >>> print(textwrap.fill(verdict.en, 100))
    `descend` is not yet torch's SGD. With lr=0.1, step 1 takes entry 1 of the parameter from -0.7572692
    to -0.7571608; torch's goes to -0.7573775. The sign of the step is wrong, so it goes uphill. Your
    numbers are those of `θ = θ + lr * d` in place of `θ = θ - lr * d`.
    >>> print(verdict.zh.split("。")[2])
    步子的符号反了，走的是上坡
    """
    if like not in RULES:
        close = difflib.get_close_matches(str(like), RULES, 1, 0.4)
        guess = f"; {close[0]!r}?" if close else ""
        raise ValueError(f"like must be one of {', '.join(RULES)}, got {like!r}{guess}")
    if not callable(make) or (hasattr(make, "step") and not isinstance(make, type)):
        raise TypeError(f"make must be a class or a function, not what it makes; got a {type(make).__name__}")
    return Verdict(*judge(make, like))
