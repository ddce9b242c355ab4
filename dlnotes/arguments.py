r"""Numbers and choices given as arguments: refused by name, with what came and what was expected."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from torch import Tensor


def check_number(name: str, value: Any) -> None:
    r"""Raise ``TypeError`` for what is no real number, ``"1e-3"`` for one, as YAML reads it; a tensor may hold one.

    >>> check_number("lr", "1e-3")
    Traceback (most recent call last):
    ...
    TypeError: lr must be a number, got '1e-3'
    """
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} must be one number, got a tensor of shape {tuple(value.shape)}")
    if not isinstance(value, numbers.Real | Tensor):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_not_negative(**values: Any) -> None:
    r"""Raise ``ValueError`` for the first value that is negative or not a number, naming it.

    >>> check_not_negative(lr=0.1, momentum=-1.0)
    Traceback (most recent call last):
    ...
    ValueError: momentum must be >= 0, got -1.0
    """
    for name, value in values.items():
        check_number(name, value)
        if not value >= 0:  # also true for NaN
            raise ValueError(f"{name} must be >= 0, got {value}")
        if value == math.inf:
            raise ValueError(f"{name} must be finite, got {value}")


def check_below_one(**values: Any) -> None:
    r"""Raise ``ValueError`` for the first value outside [0, 1), naming it.

    >>> check_below_one(alpha=1.0)
    Traceback (most recent call last):
    ...
    ValueError: alpha must be in [0, 1), got 1.0
    """
    for name, value in values.items():
        check_number(name, value)
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def check_choice(name: str, value: Any, known: Iterable[Any]) -> None:
    r"""Raise ``ValueError`` for what is none of the ``known``, naming them.

    >>> check_choice("mode", "max.", ("min", "max"))
    Traceback (most recent call last):
    ...
    ValueError: mode must be one of ['min', 'max'], got 'max.'
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")


def check_whole(name: str, value: Any, least: int = 1, *, optional: bool = False) -> None:
    r"""Raise unless ``value`` is a whole number, at least ``least``; or ``None``, if it is ``optional``.

    Raises:
        TypeError: it is no ``int``: 1.5, NaN, a string, True.
        ValueError: it is too small.

    >>> check_whole("patience", 0)
    Traceback (most recent call last):
    ...
    ValueError: patience must be >= 1, got 0
    >>> check_whole("every", 1.5, optional=True)
    Traceback (most recent call last):
    ...
    TypeError: every must be >= 1 or None, and a whole number (an int), got 1.5
    """
    if value is None and optional:
        return
    expected = f"{name} must be >= {least}" + (" or None" if optional else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{expected}, and a whole number (an int), got {value!r}")
    if int(value) < least:
        raise ValueError(f"{expected}, got {value}")
