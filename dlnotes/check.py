r"""Judges code that a reader wrote, by the trials that hold this package to torch, and answers in words.

Every check returns a :class:`Verdict`, in English and in Chinese: :func:`optimizer`, :func:`norm`, :func:`attention`.
"""

import difflib
import html
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes import attention_mistakes, attention_trials, layer_judging, norm_mistakes, norm_rules, norm_trials
from dlnotes.attention import attend as _attend
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
    _look("like", like, RULES)
    _callable("make", make, hasattr(make, "step") and not isinstance(make, type))
    return Verdict(*judge(make, like))


def norm(make: Callable[..., Any], like: str) -> Verdict:
    r"""Compare a norm of one's own with torch's of the name ``like``.

    It is called in training and in evaluation, with input of several shapes, once far from zero, and with each option
    that it takes. Output, gradients, running statistics and what it starts with must be torch's; where they are not,
    the first number that differs is told, and the mistake, if the norm with a usual mistake gives the reader's numbers.

    Args:
        make: a class with torch's constructor, ``MyNorm(num_features, eps=…)``, whose objects can be called; or a
            function that makes one. What it learns and keeps has torch's names, ``weight``, ``bias``,
            ``running_mean``, ``running_var``; ``gamma``, ``beta``, ``moving_mean`` and ``moving_var`` are known too.
            Or the norm alone, a function of ``x`` or ``input``, to which is given by name what it takes of weight,
            bias, running statistics, ``training``, ``eps``, ``momentum``, ``num_groups`` and ``normalized_shape``.
            Options that it does not take are not tried.
        like: ``"BatchNorm1d"``, ``"BatchNorm2d"``, ``"LayerNorm"``, ``"InstanceNorm1d"``, ``"InstanceNorm2d"``,
            ``"GroupNorm"`` or ``"RMSNorm"``.

    Returns:
        A verdict; what the code raises is part of it.

    Raises:
        ValueError: there is no norm of that name.
        TypeError: ``make`` cannot be called, a norm already made for one.

    Not judged: errors, input without a batch, ``momentum=None``, 16-bit numbers; the default ``eps`` of RMS norm, which
    changes with torch's precision, so that it must be taken.

    >>> def layer_norm(x, weight, bias, eps=1e-5):
    ...     return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias
    >>> verdict = norm(layer_norm, like="LayerNorm")
    >>> print(*verdict.en.split(". ")[3:5], sep=". ")
    The variance divides by n - 1, not by n; in torch it is `var(correction=0)`. ε stands outside the root
    """
    _look("like", like, norm_trials.OPTIONS)
    _callable("make", make, isinstance(make, nn.Module))
    name, needed, several = _name(make), {}, True
    if norm_trials.is_function(make):
        several = "normalized_shape" in inspect.signature(make).parameters
        make, own, needed = norm_trials.made_of(make, like)
        torchs = norm_trials.taken(getattr(nn, like), like)[0]
    else:
        torchs, own, several = norm_trials.taken(make, like)
        needed = {option: torchs[option] for option, default in own.items() if default is inspect.Parameter.empty}
    if like == "RMSNorm" and "eps" not in own:
        return Verdict(False, f"`{name}` takes no `eps`.", f"`{name}` 没有参数 `eps`。")
    cases = [trial.case() for trial in norm_trials.trials(like, own, needed, several)]
    usual = norm_mistakes.defaults(own, torchs) + norm_mistakes.mistakes(like)
    missing = [option for option in torchs if option not in own] + ["normalized_shape=(2, 3)"] * (not several)
    words = f"torch's {like}", f"torch 的 {like}"
    theirs = norm_rules.with_mistakes
    judged = layer_judging.judge(
        name, words, make, getattr(nn, like), cases, usual, lambda found: theirs(like, found), missing
    )
    return Verdict(*judged)


def attention(attend: Callable[..., Any]) -> Verdict:
    r"""Compare an attention of one's own with :func:`dlnotes.attention.attend`, and so with torch's.

    It meets unequal lengths and widths, heads, boolean masks in which **True means: may look**, a row that may look
    nowhere, which gives 0 and gradients 0, and large scores. Where output or gradients differ, the first number that
    does is told, and the mistake, if attention with a usual mistake gives the reader's numbers.

    Args:
        attend: a function ``attend(query, key, value, mask=None)`` of tensors (..., length, width), or a module that
            is called so; of a tuple the output comes first. With a keyword ``causal``, it must stand at the lower
            right, and go with a mask. What it does not take is not tried.

    Returns:
        A verdict; what the code raises is part of it.

    Raises:
        TypeError: ``attend`` cannot be called, or is a class.

    Not judged: masks that are added, dropout, other scales.

    >>> verdict = attention(lambda q, k, v: (q @ k.mT).softmax(-1) @ v)
    >>> print(verdict.en.split(". ", 1)[1])  # doctest: +ELLIPSIS
    With query (4, 4), key (4, 4), value (4, 4), entry [0, 0] of ... The scores are not divided by √d. Your numbers ...
    """
    _callable("attend", attend, isinstance(attend, type))
    masks, needs_mask, causal = attention_trials.taken(attend)

    def with_mask(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: bool) -> Any:
        everywhere = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool)
        return attend(query, key, value, everywhere if mask is None else mask, **options)

    cases = [trial.case() for trial in attention_trials.trials(masks, causal)]
    usual, theirs = attention_mistakes.MISTAKES, attention_mistakes.with_mistakes
    missing = ["mask"] * (not masks) + ["causal"] * (not causal)
    words = "torch's attention", "torch 的注意力"
    ours = with_mask if needs_mask else attend
    return Verdict(*layer_judging.judge(_name(attend), words, ours, _attend, cases, usual, theirs, missing))


def _name(code: Any) -> str:
    return getattr(code, "__name__", type(code).__name__)


def _look(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        close = difflib.get_close_matches(str(value), known, 1, 0.4)
        guess = f"; {close[0]!r}?" if close else ""
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{guess}")


def _callable(name: str, value: Any, wrong: bool) -> None:
    if wrong or not callable(value):
        kind = "a function or a module" if name == "attend" else "a class or a function, not what it makes"
        raise TypeError(f"{name} must be {kind}; got a {type(value).__name__}")
