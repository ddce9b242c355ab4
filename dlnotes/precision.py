r"""Mixed precision: where to compute in 16 bits, and how to keep FP16 gradients from rounding to zero."""

import math
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from dlnotes.gradients import Multiply, gradients

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
LARGEST_FLOAT32 = torch.finfo(torch.float32).max
SMALLEST_FLOAT32 = torch.finfo(torch.float32).tiny  # the smallest whose reciprocal is finite too


def autocast(amp: str | None, device: torch.device) -> AbstractContextManager[object]:
    r"""A context in which torch computes matrix products in 16 bits: :class:`torch.autocast`, or nothing.

    Args:
        amp: ``"fp16"``, ``"bf16"``, or ``None`` for full precision.
        device: where the computation runs.

    Raises:
        ValueError: ``amp`` is none of the three.

    >>> layer = torch.nn.Linear(2, 2)
    >>> with autocast("bf16", torch.device("cpu")):
    ...     print(layer(torch.ones(1, 2)).dtype)
    torch.bfloat16
    """
    if amp is None:
        return nullcontext()
    if amp not in DTYPES:
        raise ValueError(f"amp must be None or one of {list(DTYPES)}, got {amp!r}")
    return torch.autocast(device.type, dtype=DTYPES[amp])


class GradScaler:
    r"""Dynamic loss scaling: keep FP16 gradients above the underflow threshold by scaling the loss.

    An FP16 number below :math:`2^{-25}` rounds to zero. Backpropagation is linear in the loss :math:`L`, so
    :math:`\nabla (sL) = s \nabla L`: scale the loss by :math:`s`, run backward, divide the gradients by
    :math:`s`. The scale adapts itself:

    .. math::
        s \leftarrow \begin{cases}
            b\, s & \text{some gradient is infinite or NaN: the step is skipped} \\
            g\, s & \text{after every } n \text{ steps without one} \\
            s & \text{otherwise}
        \end{cases}

    Args:
        init_scale: the first :math:`s`, default :math:`2^{16}`.
        growth_factor: :math:`g > 1`, default 2.
        backoff_factor: :math:`0 < b < 1`, default 0.5.
        growth_interval: :math:`n`, default 2000.
        enabled: if False every method passes its argument through.

    Raises:
        ValueError: an argument is out of its range; a gradient to unscale is FP16 itself.
        RuntimeError: methods are called out of order (``unscale_`` or ``step`` twice, ``update`` before any ``step``).

    Decides as :class:`torch.amp.GradScaler` does, keeps its scale in float32 as that does, and has the same state
    dict. Differs: ``unscale_`` returns whether all gradients are finite, and ``step`` whether it stepped; it is a plain
    Python object that reads one flag back per step, without a ``device`` argument; a gradient that overflows only when
    it is divided by an :math:`s` below 1 is not stepped; the scale does not fall to 0 but stays at the smallest normal
    float32, :math:`2^{-126}`. Source: Micikevicius et al., *Mixed Precision Training* (2018), section 3.2.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer, scaler = torch.optim.SGD([w], lr=0.1), GradScaler(init_scale=4.0)
    >>> scaler.scale((float("inf") * w).sum()).backward()
    >>> scaler.step(optimizer)  # skipped
    False
    >>> scaler.update()
    >>> scaler.get_scale()
    2.0
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self.enabled = enabled
        self._set("init_scale", init_scale, growth_factor, backoff_factor, growth_interval, 0)
        # For each optimizer unscaled since the last update: did it have an infinite or NaN gradient? Has it stepped?
        self._overflowed: dict[int, bool] = {}
        self._stepped: set[int] = set()
        self._multiply_ = Multiply()

    def _set(self, name: str, scale: float, growth: float, backoff: float, interval: float, tracker: float) -> None:
        if not SMALLEST_FLOAT32 <= scale <= LARGEST_FLOAT32:  # also true for NaN
            raise ValueError(f"{name} must be positive and finite, got {scale}, which as a float32 is not")
        if not (growth > 1 and math.isfinite(growth)):
            raise ValueError(f"growth_factor must be > 1 and finite, got {growth}")
        if not 0 < backoff < 1:
            raise ValueError(f"backoff_factor must be between 0 and 1, got {backoff}")
        for what, value, least in (("growth_interval", interval, 1), ("_growth_tracker", tracker, 0)):
            if not (least <= value < math.inf and value == int(value)):
                raise ValueError(f"{what} must be >= {least} and whole, got {value}")
        self._scale, self._growth_factor, self._backoff_factor = _float32(scale), float(growth), float(backoff)
        self._growth_interval, self._growth_tracker = int(interval), int(tracker)

    def get_scale(self) -> float:
        r"""The current scale :math:`s`; 1 when not enabled."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Tensor) -> Tensor:
        r"""The loss times :math:`s`: call ``backward`` on what it returns."""
        return loss * self._scale if self.enabled else loss

    def unscale_(self, optimizer: Optimizer) -> bool:
        r"""Divide the gradients of the optimizer's parameters by :math:`s`, in place; return whether all are finite.

        Call it before clipping, which must see true gradients; ``step`` calls it where you did not.
        """
        if not self.enabled:
            return True
        if id(optimizer) in self._overflowed:
            raise RuntimeError("unscale_ was already called on this optimizer since the last update")
        found = gradients(optimizer)
        if any(gradient.dtype is torch.float16 for gradient in found):
            raise ValueError("FP16 gradients cannot be unscaled: keep the parameters in float32, and use autocast")
        with torch.no_grad():
            finite = self._multiply_(found, 1 / self._scale)
            if self._scale < 1:  # the quotients can overflow
                finite = self._multiply_(found, 1.0) and finite
        self._overflowed[id(optimizer)] = not finite
        return finite

    def step(self, optimizer: Optimizer) -> bool:
        r"""Call ``optimizer.step()`` unless a gradient is infinite or NaN; return whether it was called."""
        if self.enabled:
            if id(optimizer) in self._stepped:
                raise RuntimeError("step was already called on this optimizer since the last update")
            if id(optimizer) not in self._overflowed:
                self.unscale_(optimizer)
            self._stepped.add(id(optimizer))
            if self._overflowed[id(optimizer)]:
                return False
        optimizer.step()
        return True

    def update(self) -> None:
        r"""Adapt the scale to what the steps since the last update found."""
        if not self.enabled:
            return
        if not self._overflowed:
            raise RuntimeError("update needs a step or unscale_ before it")
        if any(self._overflowed.values()):
            self._scale = max(_float32(self._scale * self._backoff_factor), SMALLEST_FLOAT32)
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                grown = self._scale * self._growth_factor
                self._scale = _float32(grown) if grown <= LARGEST_FLOAT32 else self._scale
                self._growth_tracker = 0
        self.forget()

    def forget(self) -> None:
        r"""Drop what was found since the last update, as after an interrupt between ``unscale_`` and ``update``."""
        self._overflowed, self._stepped = {}, set()

    def state_dict(self) -> dict[str, float]:
        r"""The scale, its rule and the count of good steps, under torch's names; empty when not enabled."""
        if not self.enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        r"""Take over a state saved by this class or by torch's, and forget what was found since the last update.

        Raises:
            ValueError: a key is missing or a value is out of its range; nothing was taken over.
        """
        if not self.enabled:
            return
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ValueError(f"the state of a GradScaler needs {missing}, got {sorted(state)}")
        self._set("scale", *(state[name] for name in self.state_dict()))
        self.forget()


def _float32(value: float) -> float:
    r"""The nearest float32."""
    return struct.unpack("f", struct.pack("f", value))[0]
