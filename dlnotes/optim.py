r"""Optimizers, each a :class:`torch.optim.Optimizer` with torch's arguments and state dict."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT


def check_not_negative(**values: float) -> None:
    r"""Raise ``ValueError`` for the first value that is negative or not a number, naming it.

    >>> check_not_negative(lr=0.1, momentum=-1.0)
    Traceback (most recent call last):
    ...
    ValueError: momentum must be >= 0, got -1.0
    """
    for name, value in values.items():
        if not value >= 0:  # also true for NaN
            raise ValueError(f"{name} must be >= 0, got {value}")


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum and weight decay as options.

    With learning rate :math:`\eta`, momentum :math:`\mu`, dampening :math:`\tau`, weight decay
    :math:`\lambda` and gradient :math:`g_t = \nabla L(\theta_t) + \lambda\theta_t`:

    .. math::
        b_t = \mu b_{t-1} + (1-\tau) g_t \quad (b_1 = g_1), \qquad
        \theta_{t+1} = \theta_t - \eta\, b_t

    Nesterov's variant steps along :math:`g_t + \mu b_t`. Without momentum :math:`b_t = g_t`, which is gradient
    descent :math:`\theta_{t+1} = \theta_t - \eta\nabla L(\theta_t)`.

    Args:
        params: parameters, or parameter groups, as for every torch optimizer.
        lr: learning rate :math:`\eta`, default 1e-3.
        momentum: :math:`\mu`, default 0.
        dampening: :math:`\tau`, default 0.
        weight_decay: :math:`\lambda`, default 0.
        nesterov: Nesterov's variant, default False.

    Raises:
        ValueError: a hyper-parameter is negative or NaN, or Nesterov is asked for without momentum or with
            dampening.
        RuntimeError: a gradient is sparse.

    Equal to :class:`torch.optim.SGD` step by step, and its ``state_dict`` loads either way. It has no
    ``foreach``, ``fused``, ``maximize`` and ``differentiable``.
    Source: Sutskever et al., *On the importance of initialization and momentum in deep learning* (2013).

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ):
        check_not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(f"nesterov needs momentum > 0 and dampening 0, got {momentum} and {dampening}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        r"""Update every parameter that has a gradient; ``closure``, if given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise RuntimeError("SGD does not support sparse gradients; set sparse=False in the embedding")
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if group["momentum"]:
            state = self.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = gradient.clone()
            else:
                buffer.mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
            gradient = gradient.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
        parameter.add_(gradient, alpha=-group["lr"])
