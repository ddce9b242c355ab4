r"""One equation for all optimizers, :math:`\theta_{t+1} = \theta_t - (\eta_t/\sigma_t)\, m_t`, as one function.

:mod:`dlnotes.optim` holds the same rules as classes for training; tests prove them equal to this.
"""

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
Weights = tuple[float, float]
Weighted = tuple[Tensor, float]  # a sum, and the sum of its weights


@torch.no_grad()
def general_update(
    parameter: Tensor, gradient: Tensor, state: State, *, rate: float, momentum: Weights = (0.0, 1.0),
    scale: Weights | None = None, eps: float = 0.0, corrected: bool = False, lookahead: bool = False,
    divide_first: bool = False, centered: bool = False, largest: bool = False, weight_decay: float = 0.0,
    decoupled: bool = False, clip: float = math.inf,
) -> Tensor:  # fmt: skip
    r"""The parameter after one step of the general update.

    .. math::
        m_t = a\, m_{t-1} + b\, g_t, \qquad s_t = c\, s_{t-1} + d\, g_t^2, \qquad \sigma_t = \sqrt{s_t} + \epsilon,
        \qquad \theta_{t+1} = \theta_t - \frac{\eta_t}{\sigma_t}\, m_t

    Args:
        parameter: :math:`\theta_t`, floating; it stays as it is.
        gradient: the loss's gradient there, of the same shape.
        state: empty before the first step, then as this function left it. It keeps the pairs (sum, its weights'
            sum) ``"m"`` and ``"s"``; another start than zero can be put in.
        rate: :math:`\eta_t`, for this step: a schedule is asked by the caller.
        momentum: :math:`(a, b)`, how gradients are summed: kept of the old, taken of the new. Default (0, 1).
        scale: :math:`(c, d)`, the same for their squares; None, the default, is :math:`\sigma_t = 1`.
        eps: :math:`\epsilon`, default 0.
        corrected: divide both sums by the sum of their weights, which makes them means; default False.
        lookahead: step along :math:`a\, m_t + b\, g_t`, as Nesterov; default False.
        divide_first: sum :math:`g_t/\sigma_t` in place of :math:`g_t`, as RMSProp with momentum; default False.
        centered: take the square of the mean gradient off :math:`s_t`, never below its rounding error; default False.
        largest: the largest :math:`s` so far in place of :math:`s_t`, as AMSGrad; default False.
        weight_decay: :math:`\lambda`, default 0: adds :math:`\lambda\theta_t` to the clipped gradient.
        decoupled: multiply the parameter by :math:`1 - \eta_t\lambda` instead, default False.
        clip: the gradient is first shortened to this norm, default infinity. For a model in several tensors clip
            their common norm before.

    Raises:
        TypeError: the parameter is not of a real floating type.
        ValueError: shapes or types differ, a number is out of range, or an option has no scale to work on.

    Differs from torch where a gradient hardly changes: the centred :math:`s_t` is then a difference of nearly equal
    numbers, which rounds to less than 0, and torch's RMSprop divides by the root of that, NaN.

    Sources: Kingma and Ba, *Adam* (2015); Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019).

    >>> theta, state = torch.tensor([1.0, 100.0]), {}
    >>> adam = {"momentum": (0.9, 0.1), "scale": (0.999, 0.001), "eps": 1e-8, "corrected": True}
    >>> for _ in range(2):
    ...     theta = general_update(theta, 2 * theta, state, rate=0.1, **adam)
    >>> theta
    tensor([ 0.8004, 99.8000])
    """
    _check(parameter, gradient, state, momentum, scale, rate=rate, eps=eps, weight_decay=weight_decay, clip=clip)
    if scale is None and (eps or divide_first or centered or largest):
        raise ValueError("scale: eps, divide_first, centered and largest need a pair (kept, taken), got None")

    # the 1e-6 is that of torch's clip_grad_norm_
    if clip < math.inf:
        gradient = gradient * (clip / (gradient.norm() + 1e-6)).clamp(max=1)
    if decoupled:
        parameter = parameter * (1 - rate * weight_decay)
    else:
        gradient = gradient + weight_decay * parameter

    sigma = torch.ones_like(parameter)
    if scale is not None:
        s, weight = _collect(state, "s", gradient**2, scale)
        if largest:
            s = state["largest"] = torch.maximum(s, state.get("largest", s))
        if corrected:
            s = s / weight
        if centered:
            mean, weight = _collect(state, "mean", gradient, scale)
            variance = s - (mean / weight if corrected else mean) ** 2
            s = variance.maximum(s * torch.finfo(s.dtype).eps)  # below that it is rounding
        sigma = s.sqrt() + eps
    if divide_first:
        gradient, sigma = gradient / sigma, torch.ones_like(sigma)

    m, weight = _collect(state, "m", gradient, momentum)
    if lookahead:  # as if the same gradient came once more; the state does not keep it
        m, weight = _collect(dict(state), "m", gradient, momentum)
    if corrected:
        m = m / weight
    return parameter - (rate / sigma) * m


def _collect(state: State, name: str, value: Tensor, weights: Weights) -> Weighted:
    keep, take = weights
    total, weight = state.get(name, (torch.zeros_like(value), 0.0))
    state[name] = (keep * total + take * value, keep * weight + take)
    return state[name]


def _check(
    parameter: Tensor, gradient: Tensor, state: State, momentum: Weights, scale: Weights | None, **numbers: float
) -> None:
    if not parameter.is_floating_point():
        raise TypeError(f"parameter: expected a real floating type, got {parameter.dtype}")
    kept = {f"state[{name!r}]": value[0] if isinstance(value, tuple) else value for name, value in state.items()}
    for name, tensor in ({"gradient": gradient} | kept).items():
        if tensor.shape != parameter.shape:
            raise ValueError(f"{name}: expected the shape {tuple(parameter.shape)}, got {tuple(tensor.shape)}")
        if tensor.dtype != parameter.dtype:
            raise ValueError(f"{name}: expected {parameter.dtype}, got {tensor.dtype}")
    for name, (keep, take) in {"momentum": momentum, "scale": scale or momentum}.items():
        if not (0 <= keep < math.inf and 0 < take < math.inf):  # false for NaN too
            raise ValueError(f"{name}: expected (kept, taken) with kept >= 0 and taken > 0, got ({keep}, {take})")
    for name, value in numbers.items():
        if name == "clip" and not value > 0:
            raise ValueError(f"clip: expected a number > 0, got {value}")
        if name != "clip" and not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a number >= 0, got {value}")
