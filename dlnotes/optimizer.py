r"""What all optimizers share: groups, checks, and the choice between the readable rule and torch's fused kernel."""

import difflib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from dlnotes import kernels
from dlnotes.arguments import check_not_negative
from dlnotes.kernels import Group, Kernel, State


class RuleOptimizer(Optimizer):
    r"""An optimizer given by a rule for one parameter, ``update``, and perhaps a kernel for many, ``fused``.

    A subclass writes its rule in ``update`` as readable in-place operations. ``fused`` may name a function of
    :mod:`dlnotes.kernels` that does the same for many parameters; ``step`` prefers it for all parameters that lie in
    memory as their gradients and states do. ``fused = None`` takes it away. Every tensor in a state has its
    parameter's shape or is a single number; ``names`` lists those that a state may hold, where the class knows.

    Args:
        params: parameters, or parameter groups, as for every torch optimizer.
        defaults: the hyper-parameters of a group that does not name its own.

    Raises:
        TypeError: a parameter is not of a real floating type, or a hyper-parameter is no number; or ``params`` is a
            model in place of its parameters.
        ValueError: a hyper-parameter is out of range, or a group has one that looks misspelt; no group is added.
        RuntimeError: a gradient is sparse; no parameter was updated.

    A NaN or infinite gradient spreads to the parameter, as in torch; the training step of this package refuses to
    make such an update. Differs from torch: ``load_state_dict`` compares shapes and names before it loads anything, and
    ``torch.compile(optimizer.step)`` works and changes nothing.

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
    names: ClassVar[tuple[str, ...]] = ()
    not_negative: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParamsT, defaults: Mapping[str, Any]):
        if isinstance(params, nn.Module):
            raise TypeError(f"params must be parameters, got a {type(params).__name__}: write model.parameters()")
        super().__init__(params, dict(defaults))

    def check(self, group: Group) -> None:
        r"""Raise for a hyper-parameter of this group that is out of range; ``not_negative`` names what must be that."""
        check_not_negative(**{name: group[name] for name in self.not_negative})

    def add_param_group(self, param_group: Group) -> None:
        r"""Add a group of parameters; what it does not set comes from the defaults."""
        group = dict(param_group)
        if isinstance(group.get("params"), Tensor):
            group["params"] = [group["params"]]
        if not isinstance(group.get("params"), set | None):  # torch itself refuses a set, which has no order
            group["params"] = list(group["params"])
            for entry in group["params"]:
                parameter = entry[1] if isinstance(entry, tuple) else entry  # torch takes (name, parameter) too
                if isinstance(parameter, Tensor) and not parameter.is_floating_point():
                    raise TypeError(f"parameters must be of a real floating type, got {parameter.dtype}")
        for name in group.keys() - self.defaults.keys():
            close = ["lr"] if name == "learning_rate" else difflib.get_close_matches(name, self.defaults, 1, 0.8)
            if close:
                raise ValueError(f"unknown option {name!r} in a parameter group; did you mean {close[0]!r}?")
        self.check(self.defaults | group)
        super().add_param_group(group)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        r"""Take over a state of this optimizer or of torch's of the same name.

        Raises:
            ValueError: the groups, or the names or shapes in a parameter's state, are not this optimizer's, or a
                hyper-parameter is out of range; nothing was loaded.
        """
        problems = state_problems(self, state_dict)
        if problems:
            lines = "\n  ".join(problems)
            raise ValueError(f"the state does not fit this {type(self).__name__}; nothing was loaded:\n  {lines}")
        for group in state_dict["param_groups"]:
            self.check(self.defaults | group)
        super().load_state_dict(dict(state_dict))
        for group in self.param_groups:  # a state of an older version lacks the newest options
            group.pop("differentiable", None)  # which torch adds in loading
            group.update(
                {name: self.defaults[name] for name in self.defaults.keys() - group.keys() - {"differentiable"}}
            )
        for parameter, state in self.state.items():
            for name, value in state.items():
                if name == "step":  # the kernels count on the parameter's device
                    step = torch.as_tensor(value, dtype=torch.float32, device=parameter.device)
                    state[name] = step.reshape(())
                elif isinstance(value, Tensor) and value.dim() and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore
        r"""Update every parameter that has a gradient; ``closure``, if given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # a compiled step runs as it is: torch.compile has no way through the kernels, nor around a step count
        (_update_all if torch.compiler.is_compiling() else RuleOptimizer._update_all)(self)
        return loss

    def _update_all(self) -> None:
        for group in self.param_groups:  # before any is updated
            if any([p.grad.is_sparse for p in group["params"] if p.grad is not None]):
                name = type(self).__name__
                raise RuntimeError(f"{name} does not support sparse gradients; set sparse=False in the embedding")
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            if group.get("maximize"):
                gradients = [-gradient for gradient in gradients]
            states = [self.state[p] for p in parameters]
            if not all(states):
                for parameter, state in zip(parameters, states, strict=True):
                    if not state:
                        self.start(parameter, state, group)
            left, kernel, numbers = range(len(parameters)), type(self).fused, _numbers(group)
            if kernel is not None:
                left = kernels.run(kernel, parameters, gradients, states, numbers)
            for i in left:
                self.update(parameters[i], gradients[i], states[i], numbers)

    def start(self, parameter: Tensor, state: State, group: Group) -> None:
        r"""Fill the state of a parameter before its first update."""

    @abstractmethod
    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        r"""Update one parameter, and its state, in place."""


_update_all = torch._disable_dynamo(RuleOptimizer._update_all)  # pyright: ignore


def _numbers(group: Group) -> Group:
    """The group with plain numbers for learning rate and betas, which may be tensors, as in torch."""
    if isinstance(group.get("lr"), Tensor):
        group = group | {"lr": group["lr"].item()}
    if isinstance(group.get("betas", (0,))[0], Tensor):
        group = group | {"betas": tuple(beta.item() for beta in group["betas"])}
    return group


def state_problems(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> list[str]:
    r"""In what a saved state does not fit an optimizer, a line each; nothing is loaded.

    Compared are the sizes of the groups, and for the optimizers of this package and those of torch that keep a state
    element by element the shapes in the state of each parameter; for ours the names in it too.

    >>> w = torch.zeros(3, requires_grad=True)
    >>> saved = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    >>> state_problems(torch.optim.SGD([w]), saved)
    ['momentum_buffer of parameter 0 (group 0): shape (2,) given, (3,) expected']
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    sizes, own_sizes = ([len(group["params"]) for group in groups] for groups in (saved, own))
    if sizes != own_sizes:
        return [f"groups of {sizes} parameters in the checkpoint, {own_sizes} in this run"]
    lines: list[str] = []
    for number, (group, own_group) in enumerate(zip(saved, own, strict=True)):
        for place, parameter in zip(group["params"], own_group["params"], strict=True):
            state = state_dict["state"].get(place) or {}
            where = f"of parameter {place} (group {number})"
            if isinstance(optimizer, RuleOptimizer):
                lines += [f"{name} {where}: missing" for name in _missing(optimizer, parameter, state, group)]
                unknown = [name for name in state if optimizer.names and name not in ("step", *optimizer.names)]
                lines += [f"{name} {where}: unknown to {type(optimizer).__name__}" for name in unknown]
            elif not _elementwise(optimizer):
                continue
            for name, value in state.items():
                given = tuple(value.shape) if isinstance(value, Tensor) else ()
                expected = () if name == "step" else tuple(parameter.shape)
                if given not in ((), expected) and not (name == "step" and given == (1,)):
                    lines.append(f"{name} {where}: shape {given} given, {expected} expected")
    return lines


def _missing(optimizer: RuleOptimizer, parameter: Tensor, state: State, group: Group) -> list[str]:
    if not state:
        return []
    needed: State = {}
    optimizer.start(parameter.detach().to("meta"), needed, optimizer.defaults | group)
    return [name for name in needed if name not in state]


def _elementwise(optimizer: Optimizer) -> bool:
    others = (torch.optim.LBFGS, torch.optim.Adafactor)
    return type(optimizer).__module__.startswith("torch.optim.") and not isinstance(optimizer, others)
