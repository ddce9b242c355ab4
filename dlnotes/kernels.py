r"""The rules of :mod:`dlnotes.optim` for many parameters at once, by kernels that torch has for the same mathematics.

Each function takes the parameters of a group, their gradients and their states, updates all in place and returns True;
or it returns False where torch has no kernel for them, having touched nothing. Tests prove each equal to its rule.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
State = dict[str, Any]
Tensors = list[Tensor]
Kernel = Callable[[Tensors, Tensors, Sequence[State], Group], bool]


def _column(states: Sequence[State], name: str) -> list[Tensor]:
    return [state[name] for state in states]


def count(steps: Tensors) -> None:
    r"""Add one to every step count; where they fill one tensor, see :func:`dlnotes.optimizer.pack_steps`, in one go.

    >>> packed = torch.zeros(300)
    >>> count(list(packed.unbind())); packed.sum()
    tensor(300.)
    """
    whole = steps[0]._base
    if whole is not None and whole.numel() == len(steps) and all(step._base is whole for step in steps):
        whole.add_(1)
    else:
        torch._foreach_add_(steps, 1)


def sgd(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.SGD`, except for the first step with momentum, which starts the buffers.

    >>> w, g = torch.tensor([1.0]), torch.tensor([2.0])
    >>> options = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    >>> sgd([w], [g], [{}], options), w
    (True, tensor([0.8000]))
    """
    if group["momentum"] and not all(state.get("momentum_buffer") is not None for state in states):
        return False
    buffers = _column(states, "momentum_buffer") if group["momentum"] else []
    names = ("weight_decay", "momentum", "lr", "dampening", "nesterov")
    options = {name: group[name] for name in names}
    torch._fused_sgd_(parameters, gradients, buffers, **options, maximize=False, is_first_step=False)
    return True


def adagrad(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.Adagrad`, on the CPU: older versions of torch have no other kernel for it.

    >>> w, g, state = torch.tensor([1.0]), torch.tensor([2.0]), {"step": torch.tensor(0.0), "sum": torch.zeros(1)}
    >>> adagrad([w], [g], [state], {"lr": 0.1, "lr_decay": 0, "weight_decay": 0, "eps": 0}), w
    (True, tensor([0.9000]))
    """
    if parameters[0].device.type != "cpu":
        return False
    steps = _column(states, "step")
    count(steps)
    options = {name: group[name] for name in ("lr", "lr_decay", "weight_decay", "eps")}
    lists = (parameters, gradients, _column(states, "sum"), steps)
    torch._fused_adagrad_(*lists, **options, maximize=False)
    return True


def rmsprop(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.RMSprop`, line by line for all tensors: torch has no kernel of the whole.

    >>> w, g = torch.tensor([1.0]), torch.tensor([2.0])
    >>> state = {"step": torch.tensor(0.0), "square_avg": torch.zeros(1)}
    >>> options = {"lr": 0.1, "alpha": 0.75, "eps": 0, "weight_decay": 0, "momentum": 0, "centered": False}
    >>> rmsprop([w], [g], [state], options), w
    (True, tensor([0.8000]))
    """
    alpha, rate = group["alpha"], float(group["lr"])
    count(_column(states, "step"))
    if group["weight_decay"]:
        gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
    squares = _column(states, "square_avg")
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - alpha)
    if group["centered"]:
        means = _column(states, "grad_avg")
        torch._foreach_lerp_(means, gradients, 1 - alpha)
        squares = list(torch._foreach_addcmul(squares, means, means, -1))
    divisors = torch._foreach_sqrt(squares)
    torch._foreach_add_(divisors, group["eps"])
    if group["momentum"]:
        buffers = _column(states, "momentum_buffer")
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, gradients, divisors)
        torch._foreach_add_(parameters, buffers, alpha=-rate)
    else:
        torch._foreach_addcdiv_(parameters, gradients, divisors, -rate)
    return True


def adam(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.Adam` and :class:`dlnotes.optim.AdamW`.

    >>> w, g = torch.tensor([1.0]), torch.tensor([2.0])
    >>> state = {"step": torch.tensor(0.0), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    >>> options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 0, "weight_decay": 0, "amsgrad": False}
    >>> adam([w], [g], [state], options | {"decoupled_weight_decay": False}), w
    (True, tensor([0.9000]))
    """
    steps, means, squares = (_column(states, name) for name in ("step", "exp_avg", "exp_avg_sq"))
    largest = _column(states, "max_exp_avg_sq") if group["amsgrad"] else []
    count(steps)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    options = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad")}
    options |= {"beta1": group["betas"][0], "beta2": group["betas"][1], "maximize": False}
    kernel(parameters, gradients, means, squares, largest, steps, **options)
    return True
