r"""What all optimizers share: groups, checks, and the choice between the readable rule and torch's fused kernel."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from dlnotes.kernels import Group, Kernel, State, Tensors

FUSED_DEVICES = ("cpu", "cuda")


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


def check_below_one(**values: float) -> None:
    r"""Raise ``ValueError`` for the first value outside [0, 1), naming it.

    >>> check_below_one(alpha=1.0)
    Traceback (most recent call last):
    ...
    ValueError: alpha must be in [0, 1), got 1.0
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


class RuleOptimizer(Optimizer):
    r"""An optimizer given by a rule for one parameter, ``update``, and perhaps a kernel for many, ``fused``.

    A subclass writes its rule in ``update`` as readable in-place operations. ``fused`` may name a function of
    :mod:`dlnotes.kernels` that does the same for many parameters; ``step`` prefers it when all parameters of a group
    are contiguous and share one type and one device that the kernels know. ``fused = None`` takes it away.

    Args:
        params: parameters, or parameter groups, as for every torch optimizer.
        defaults: the hyper-parameters of a group that does not name its own.

    Raises:
        TypeError: a parameter is not of a real floating type.
        RuntimeError: a gradient is sparse.

    A NaN or infinite gradient spreads to the parameter, as in torch; the training step of this package refuses to
    make such an update.

    >>> class SignDescent(RuleOptimizer):
    ...     def update(self, parameter, gradient, state, group):
    ...         parameter.add_(gradient.sign(), alpha=-group["lr"])
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> (w**2).sum().backward()
    >>> SignDescent([w], {"lr": 0.5}).step()
    >>> w
    tensor([ 0.5000, -1.5000], requires_grad=True)
    """

    fused: ClassVar[Kernel | None] = None

    def __init__(self, params: ParamsT, defaults: Mapping[str, Any]):
        super().__init__(params, dict(defaults))

    def add_param_group(self, param_group: Group) -> None:
        r"""Add a group of parameters; what it does not set comes from the defaults."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if not parameter.is_floating_point():
                raise TypeError(f"parameters must be of a real floating type, got {parameter.dtype}")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        r"""Take over a state of this optimizer or of torch's of the same name."""
        super().load_state_dict(dict(state_dict))
        for group in self.param_groups:  # a state of an older version lacks the newest options
            group.update({name: value for name, value in self.defaults.items() if name not in group})
        for parameter, state in self.state.items():
            if "step" in state:  # the fused kernels count on the parameter's device
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=parameter.device)
        for group in self.param_groups:
            pack_steps([self.state[p] for p in group["params"] if p in self.state])

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore
        r"""Update every parameter that has a gradient; ``closure``, if given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            if any(gradient.is_sparse for gradient in gradients):
                name = type(self).__name__
                raise RuntimeError(f"{name} does not support sparse gradients; set sparse=False in the embedding")
            if group.get("maximize"):
                gradients = [-gradient for gradient in gradients]
            states = [self.state[p] for p in parameters]
            if not all(states):
                for parameter, state in zip(parameters, states, strict=True):
                    if not state:
                        self.start(parameter, state, group)
                pack_steps(states)
            kernel = type(self).fused if fusible(parameters, gradients) else None
            if kernel is None or not kernel(parameters, gradients, states, group):
                for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
                    self.update(parameter, gradient, state, group)
        return loss

    def start(self, parameter: Tensor, state: State, group: Group) -> None:
        r"""Fill the state of a parameter before its first update."""

    @abstractmethod
    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        r"""Update one parameter, and its state, in place."""


def pack_steps(states: Sequence[State]) -> None:
    r"""Lay the step counts of these states side by side in one tensor, each still a tensor of its own in its state.

    A kernel can then add to all of them at once: 300 additions to one number each take longer than Adam's arithmetic.
    States without a count, or with counts on several devices, stay as they are.

    >>> states = [{"step": torch.tensor(3.0)}, {"step": torch.tensor(4.0)}]
    >>> pack_steps(states)
    >>> states[1]["step"], states[0]["step"]._base
    (tensor(4.), tensor([3., 4.]))
    """
    counts = [state["step"] for state in states if "step" in state]
    if len({step.device for step in counts}) == 1:
        packed = torch.stack(counts).unbind()
        for state, step in zip((state for state in states if "step" in state), packed, strict=True):
            state["step"] = step


def fusible(parameters: Tensors, gradients: Tensors) -> bool:
    r"""Whether torch's fused kernels may take these: contiguous, of one type, on one device they know.

    >>> fusible([torch.zeros(2, 3)], [torch.zeros(2, 3)]), fusible([torch.zeros(2, 3).t()], [torch.zeros(3, 2)])
    (True, False)
    """
    if not parameters or parameters[0].device.type not in FUSED_DEVICES:
        return False
    device, dtype = parameters[0].device, parameters[0].dtype
    tensors = [*parameters, *gradients]
    return all(t.dtype is dtype and t.is_contiguous() and t.device == device for t in tensors)
