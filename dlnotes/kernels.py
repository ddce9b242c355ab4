r"""The rules of :mod:`dlnotes.optim` for many parameters at once, by kernels that torch has for the same mathematics.

Each kernel takes the parameters of a group, their gradients and their states, updates all in place and returns True;
or it returns False where torch has no kernel for them, having touched nothing. Tests prove each equal to its rule.

A kernel pairs the elements of parameter, gradient and states by their place in memory, so :func:`run` gives it only
those that lie there in the same way. Small tensors go through it on one thread: each would open a parallel region of
its own, whose threads wait for each other longer than they work, and for very long beside a busy process.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import LibController, ThreadpoolController
from torch import Tensor

Group = dict[str, Any]
State = dict[str, Any]
Tensors = list[Tensor]
Places = Sequence[int]
Kernel = Callable[[Tensors, Tensors, Sequence[State], Group], bool]

DEVICES = ("cpu", "cuda")
PLAIN = {Tensor, torch.nn.Parameter}  # a subclass may keep its numbers elsewhere
SMALL = 32768  # elements, below which torch's own pointwise operations stay on one thread as well
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def run(
    kernel: Kernel, parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group
) -> Sequence[int]:
    r"""Give the kernel all that it may take, in portions of one kind; return the places of what is left to the rule.

    >>> w, g = [torch.ones(2), torch.ones(2, 3).t()], [torch.ones(2), torch.ones(3, 2)]
    >>> options = {"lr": 0.5, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    >>> run(sgd, w, g, [{}, {}], options), w[0]  # the transposed one is left
    ([1], tensor([0.5000, 0.5000]))
    """
    portions = sort(parameters, gradients, states)
    left = portions.pop(None, [])
    for (device, _, small), places in portions.items():
        lists: list[Any] = [parameters, gradients, states]
        if len(places) < len(parameters):
            lists = [[values[i] for i in places] for values in lists]
        if not (_serially if small and device.type == "cpu" else _as_it_is)(kernel, *lists, group):
            left = [*left, *places]
    return left


def sort(parameters: Tensors, gradients: Tensors, states: Sequence[State]) -> dict[Any, Places]:
    r"""The places of what one call of a kernel may take, by device, type and whether they are small; None: none may.

    A parameter may go to a kernel if its gradient and its states are of its shape, type and device and lie in memory
    as it does, without gaps. The step count, one number, is no such state.

    >>> w = [torch.zeros(2), torch.zeros(200, 200), torch.zeros(2, 3).t()]
    >>> [(key and key[-1], list(places)) for key, places in sort(w, w, [{}, {}, {}]).items()]
    [(True, [0]), (False, [1]), (None, [2])]
    """
    if not parameters:
        return {}
    first, names = parameters[0], [name for name in states[0] if name != "step"]
    columns: list[Any] = [parameters, gradients, *([state.get(name) for state in states] for name in names)]
    tensors, sizes = [tensor for column in columns for tensor in column], [p.shape for p in parameters]
    alike = (  # all of them at once, which is much faster than one by one
        {*map(type, tensors)} <= PLAIN
        and all(map(Tensor.is_contiguous, tensors))
        and {t.dtype for t in tensors} == {first.dtype}
        and (all([t.is_cpu for t in tensors]) or {t.device for t in tensors} == {first.device})
        and {*map(len, states)} == {len(states[0])}
        and all([t.shape for t in column] == sizes for column in columns[1:])
    )
    small = {size.numel() < SMALL for size in sizes}
    if alike and len(small) == 1 and first.device.type in DEVICES:
        return {(first.device, first.dtype, small.pop()): range(len(parameters))}
    portions: dict[Any, Any] = {}
    for i, (parameter, gradient, state) in enumerate(zip(parameters, gradients, states, strict=True)):
        others = [value for name, value in state.items() if name != "step" and value is not None]
        fits = parameter.device.type in DEVICES and _lie_alike([parameter, gradient, *others])
        key = (parameter.device, parameter.dtype, parameter.numel() < SMALL) if fits else None
        portions.setdefault(key, []).append(i)
    return portions


def _lie_alike(tensors: Sequence[Any]) -> bool:
    if not {*map(type, tensors)} <= PLAIN or len({(t.shape, t.dtype, t.device) for t in tensors}) > 1:
        return False
    layouts = [torch.contiguous_format, CHANNELS_LAST.get(tensors[0].dim(), torch.contiguous_format)]
    return any(all(t.is_contiguous(memory_format=layout) for t in tensors) for layout in layouts)


def _as_it_is(kernel: Kernel, *arguments: Any) -> bool:
    return kernel(*arguments)


def _serially(kernel: Kernel, *arguments: Any) -> bool:
    """Call the kernel on one thread, this thread's own setting, which nothing else in the process sees."""
    threads = torch.get_num_threads()  # asked first, so that torch has set this thread up
    libraries = _openmp() if threads > 1 else []
    for library in libraries:
        library.set_num_threads(1)
    try:
        return kernel(*arguments)
    finally:
        for library in libraries:
            library.set_num_threads(threads)


@cache
def _openmp() -> list[LibController]:
    """Torch's OpenMP; empty where torch was built with threads of another kind."""
    folder = str(Path(torch.__file__).parent)
    return [
        lib
        for lib in ThreadpoolController().lib_controllers
        if lib.user_api == "openmp" and lib.filepath.startswith(folder)
    ]


def count(states: Sequence[State]) -> Tensors:
    r"""Add one to the step count of each state; return the counts.

    They are laid side by side in one tensor first, each still a tensor of its own in its state, where they are not so
    already: 300 additions to one number each take longer than Adam's arithmetic.

    >>> states = [{"step": torch.tensor(3.0)}, {"step": torch.tensor(4.0)}]
    >>> count(states), states[0]["step"]._base
    ([tensor(4.), tensor(5.)], tensor([4., 5.]))
    """
    steps = _column(states, "step")
    whole = steps[0]._base
    if whole is None or whole.numel() != len(steps) or not all(step._base is whole for step in steps):
        whole = torch.stack(steps)
        steps = list(whole.unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
    whole.add_(1)
    return steps


def _column(states: Sequence[State], name: str) -> Tensors:
    return list(map(itemgetter(name), states))


def sgd(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.SGD`, except for the first step with momentum, which starts the buffers.

    >>> w, g = torch.tensor([1.0]), torch.tensor([2.0])
    >>> options = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    >>> sgd([w], [g], [{}], options), w
    (True, tensor([0.8000]))
    """
    if group["momentum"] and not all(state.get("momentum_buffer") is not None for state in states):
        return False
    if parameters[0].device.type == "cpu" and parameters[0].dtype not in (torch.float32, torch.float64):
        return False  # up to torch 2.13 its kernel leaves whole blocks of 16-bit parameters out
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
    options = {name: group[name] for name in ("lr", "lr_decay", "weight_decay", "eps")}
    lists = (parameters, gradients, _column(states, "sum"), count(states))
    torch._fused_adagrad_(*lists, **options, maximize=False)
    return True


def rmsprop(parameters: Tensors, gradients: Tensors, states: Sequence[State], group: Group) -> bool:
    r"""The rule of :class:`dlnotes.optim.RMSprop`.

    Torch has no kernel of it, but Adam's is one when both its means are taken as they are: with :math:`\beta_1 = 0` the
    first is the gradient, and after endlessly many steps no correction is left. Momentum and centring have none, and
    go line by line over all small tensors; large ones are better left to the rule, which keeps each in the cache.

    >>> w, g = torch.tensor([1.0]), torch.tensor([2.0])
    >>> state = {"step": torch.tensor(0.0), "square_avg": torch.zeros(1)}
    >>> options = {"lr": 0.1, "alpha": 0.75, "eps": 0, "weight_decay": 0, "momentum": 0, "centered": False}
    >>> rmsprop([w], [g], [state], options), w
    (True, tensor([0.8000]))
    """
    alpha, rate = group["alpha"], group["lr"]
    plain = not group["momentum"] and not group["centered"] and alpha < 1
    if not plain and parameters[0].is_cpu and parameters[0].numel() >= SMALL:
        return False
    count(states)
    if group["weight_decay"]:
        gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
    if plain:  # the gradient stands in for the first mean, which the kernel writes back as it was
        forever = [torch.full((), 1e30, device=parameters[0].device)] * len(parameters)
        options: Any = {"lr": rate, "beta1": 0.0, "beta2": alpha, "eps": group["eps"], "weight_decay": 0.0}
        options |= {"amsgrad": False, "maximize": False}
        lists = (parameters, gradients, gradients, _column(states, "square_avg"), [], forever)
        torch._fused_adam_(*lists, **options)
        return True
    squares = _column(states, "square_avg")
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - alpha)
    if group["centered"]:
        means = _column(states, "grad_avg")
        torch._foreach_lerp_(means, gradients, 1 - alpha)
        floors = torch._foreach_mul(squares, torch.finfo(squares[0].dtype).eps)
        squares = list(torch._foreach_addcmul(squares, means, means, -1))
        torch._foreach_maximum_(squares, floors)
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
    means, squares = _column(states, "exp_avg"), _column(states, "exp_avg_sq")
    largest = _column(states, "max_exp_avg_sq") if group["amsgrad"] else []
    steps = count(states)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    options = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad")}
    options |= {"beta1": group["betas"][0], "beta2": group["betas"][1], "maximize": False}
    kernel(parameters, gradients, means, squares, largest, steps, **options)
    return True
