r"""Mixed precision: where to compute in 16 bits, and how to keep FP16 gradients from rounding to zero."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
LARGEST_FLOAT32 = torch.finfo(torch.float32).max


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
        ValueError: an argument is out of its range.
        RuntimeError: methods are called out of order (``unscale_`` twice, ``update`` before any ``step``).

    Decides as :class:`torch.amp.GradScaler` does and has the same state dict. Differs: ``step`` returns
    whether it stepped, it is a plain Python object that reads one flag back per step, and there is no
    ``device`` argument. Source: Micikevicius et al., *Mixed Precision Training* (2018), section 3.2.

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
        if not 0 < init_scale <= LARGEST_FLOAT32:
            raise ValueError(f"init_scale must be positive and finite in float32, got {init_scale}")
        if not growth_factor > 1:
            raise ValueError(f"growth_factor must be > 1, got {growth_factor}")
        if not 0 < backoff_factor < 1:
            raise ValueError(f"backoff_factor must be between 0 and 1, got {backoff_factor}")
        if growth_interval < 1:
            raise ValueError(f"growth_interval must be >= 1, got {growth_interval}")
        self.enabled = enabled
        self._scale = float(init_scale)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._growth_tracker = growth_interval, 0
        # For each optimizer unscaled since the last update: did it have an infinite or NaN gradient?
        self._overflowed: dict[int, bool] = {}

    def get_scale(self) -> float:
        r"""The current scale :math:`s`; 1 when not enabled."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Tensor) -> Tensor:
        r"""The loss times :math:`s`: call ``backward`` on what it returns."""
        return loss * self._scale if self.enabled else loss

    def unscale_(self, optimizer: Optimizer) -> None:
        r"""Divide the gradients of the optimizer's parameters by :math:`s`, in place, and look for inf and NaN.

        Call it before clipping, which must see true gradients; ``step`` calls it where you did not.
        """
        if not self.enabled:
            return
        if id(optimizer) in self._overflowed:
            raise RuntimeError("unscale_ was already called on this optimizer since the last update")
        groups = optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        if not gradients:
            raise RuntimeError("no parameter of the optimizer has a gradient: call backward first")
        with torch.no_grad():
            finite = [gradient.mul_(1 / self._scale).isfinite().all() for gradient in gradients]
            flags = torch.stack([flag.to(finite[0].device) for flag in finite])
        self._overflowed[id(optimizer)] = not flags.all().item()

    def step(self, optimizer: Optimizer) -> bool:
        r"""Call ``optimizer.step()`` unless a gradient is infinite or NaN; return whether it was called."""
        if self.enabled:
            if id(optimizer) not in self._overflowed:
                self.unscale_(optimizer)
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
            self._scale *= self._backoff_factor
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                grown = self._scale * self._growth_factor
                self._scale = grown if grown <= LARGEST_FLOAT32 else self._scale
                self._growth_tracker = 0
        self._overflowed = {}

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

    def load_state_dict(self, state: dict[str, float]) -> None:
        r"""Take over a state saved by this class or by torch's.

        Raises:
            ValueError: a key is missing, or the scale is not a positive finite number.
        """
        if not self.enabled:
            return
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ValueError(f"the state of a GradScaler needs {missing}, got {sorted(state)}")
        if not (state["scale"] > 0 and math.isfinite(state["scale"])):
            raise ValueError(f"scale must be positive and finite, got {state['scale']}")
        self._scale = state["scale"]
        self._growth_factor, self._backoff_factor = state["growth_factor"], state["backoff_factor"]
        self._growth_interval, self._growth_tracker = int(state["growth_interval"]), int(state["_growth_tracker"])
