r"""A loss as a function :math:`L(\theta)` of one vector: the parameters as a vector, and values without side effects.

A loss is written as a function without arguments that reads the parameters, as a training loop has it. Two things may
keep it from being a function of them: random numbers (dropout) and buffers that every call moves (the running
statistics of batch normalisation). :func:`evaluate` starts each call from the same state of both, and puts it back.
"""

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

Loss = Callable[[], Tensor]
Parameters = Iterable[Tensor]


def flatten(tensors: Parameters) -> Float[Tensor, " n"]:
    r"""All elements in one vector, tensor after tensor.

    >>> flatten([torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)])
    tensor([1., 2., 3.])
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Float[Tensor, " n"], like: Parameters) -> list[Tensor]:
    r"""The inverse of :func:`flatten`: pieces of ``vector`` in the shapes of ``like``.

    Raises:
        ValueError: the numbers of elements differ.

    >>> unflatten(torch.arange(3.0), [torch.zeros(1, 2), torch.zeros(())])
    [tensor([[0., 1.]]), tensor(2.)]
    """
    like = list(like)
    sizes = [tensor.numel() for tensor in like]
    if vector.numel() != sum(sizes):
        raise ValueError(f"vector must have {sum(sizes)} elements, got {vector.numel()}")
    return [piece.reshape(t.shape) for piece, t in zip(vector.split(sizes), like, strict=True)]


@torch.no_grad()
def move(parameters: Parameters, direction: Float[Tensor, " n"], length: float = 1.0) -> None:
    r"""Add ``length`` times ``direction`` to the parameters, in place.

    Raises:
        ValueError: the step is not finite, or the numbers of elements differ (the parameters are unchanged).

    >>> w = torch.zeros(2)
    >>> move([w], torch.tensor([1.0, -1.0]), 0.5); w
    tensor([ 0.5000, -0.5000])
    """
    parameters = checked(parameters)
    if not (direction * length).isfinite().all():
        raise ValueError(f"direction times length must be finite, got a direction with NaN or inf, or length {length}")
    for parameter, piece in zip(parameters, unflatten(direction, parameters), strict=True):
        parameter.add_(piece, alpha=length)


@contextmanager
def kept(parameters: Parameters) -> Generator[None, None, None]:
    r"""A place to move the parameters in: afterwards they are as before, bit for bit, whatever failed inside.

    >>> w = torch.ones(2)
    >>> with kept([w]):
    ...     move([w], torch.ones(2)); w.tolist()
    [2.0, 2.0]
    >>> w
    tensor([1., 1.])
    """
    parameters = list(parameters)
    start = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, saved in zip(parameters, start, strict=True):
                parameter.copy_(saved)


def checked(parameters: Parameters) -> list[Tensor]:
    r"""The parameters as a list, if they can be one vector.

    Raises:
        ValueError: there are none, or they are not of one real floating type on one device.

    >>> [tuple(parameter.shape) for parameter in checked(torch.nn.Linear(3, 1).parameters())]
    [(1, 3), (1,)]
    """
    listed = list(parameters)
    kinds = {(parameter.dtype, parameter.device) for parameter in listed}
    if len(kinds) != 1 or not listed[0].is_floating_point():
        found = sorted(f"{dtype} on {device}" for dtype, device in kinds) or "no tensors"
        raise ValueError(f"parameters must be tensors of one real floating type on one device, got {found}")
    return listed


def evaluate(loss: Loss, parameters: Parameters) -> Float[Tensor, ""]:
    r"""The loss's value, ready to be differentiated, from a call that leaves nothing behind.

    The buffers of every module that the loss calls, and the states of torch's generators (the CPU's and the one of
    the parameters' device) are afterwards as before. So calls in a row see the same dropout masks.

    Args:
        loss: a function without arguments that computes the loss from the parameters.
        parameters: the tensors that it is a function of.

    Raises:
        TypeError: the loss is not a tensor.
        ValueError: it has not one real element; or it has no gradient although one is wanted
            (:func:`torch.is_grad_enabled`).

    >>> norm = torch.nn.BatchNorm1d(1)
    >>> value = evaluate(lambda: norm(torch.randn(8, 1)).sum() ** 2, norm.parameters())
    >>> norm.running_mean, norm.num_batches_tracked
    (tensor([0.]), tensor(0))
    """
    device = checked(parameters)[0].device
    with _generators_kept(device), _buffers_kept():
        value = loss()
    if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loss must return a tensor, got {type(value).__name__}")
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(f"loss must return one real number, got the shape {tuple(value.shape)}, {value.dtype}")
    if torch.is_grad_enabled() and not value.requires_grad:
        raise ValueError("loss must depend on parameters that require a gradient; was it detached?")
    return value.reshape(())


@torch.no_grad()
def steady_value(loss: Loss, parameters: Parameters) -> Float[Tensor, ""]:
    r"""The loss's value, if a second call gives it again.

    What :func:`evaluate` holds still is enough for dropout and batch normalisation. A loss that takes the next batch
    of a loader, or draws from a generator of its own, is not a function of the parameters, and is refused.

    Raises:
        ValueError: the second call gives another value.

    >>> w, batches = torch.ones(1), iter([torch.tensor([1.0]), torch.tensor([2.0])])
    >>> steady_value(lambda: (w * next(batches)).sum(), [w])
    Traceback (most recent call last):
    ValueError: loss must be the same each time it is called (one batch, no generator of its own), got 1.0 and 2.0
    """
    first, second = evaluate(loss, parameters), evaluate(loss, parameters)
    room = 100 * torch.finfo(first.dtype).eps  # sums on a GPU may be made in another order
    if not torch.isclose(first, second, rtol=room, atol=0.0, equal_nan=True):
        raise ValueError(
            "loss must be the same each time it is called (one batch, no generator of its own), "
            f"got {first.item()} and {second.item()}"
        )
    return first


@contextmanager
def _generators_kept(device: torch.device) -> Generator[None, None, None]:
    module: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    where = (device,) if device.type == "cuda" else ()
    state = torch.get_rng_state(), module and module.get_rng_state(*where)
    try:
        yield
    finally:
        torch.set_rng_state(state[0])
        if module:
            module.set_rng_state(state[1], *where)


@contextmanager
def _buffers_kept() -> Generator[None, None, None]:
    """Put back the buffers of every module called inside: before its first call they are still as they were."""
    seen: dict[nn.Module, list[tuple[nn.Module, str, Tensor, Tensor]]] = {}
    thread = threading.get_ident()

    def remember(module: nn.Module, _: object) -> None:
        if threading.get_ident() == thread:  # the hook is global; another thread's modules may move on
            for part in module.modules():  # a module may write into the buffers of its parts
                if part not in seen:
                    named = part.named_buffers(recurse=False)
                    seen[part] = [(part, name, buffer, buffer.detach().clone()) for name, buffer in named]

    handle = register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        handle.remove()
        for part, name, buffer, saved in (entry for entries in seen.values() for entry in entries):
            if not torch.equal(buffer, saved):
                buffer.data.copy_(saved)  # .data: the graph just built is still good, and torch shall not refuse it
            setattr(part, name, buffer)  # a module may also have put another tensor in its place
