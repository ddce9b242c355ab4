r"""Batches, outputs and losses of any form: moved, cast, counted."""

import copy
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
TAKEN = re.compile("samples|skipped|grad_norm|epoch|iteration|lr(_.*)?|val_.*")  # in a step's logs, or a history


def each(function: Callable[[Any], Any], tree: Any) -> Any:
    r"""The same dict, list, tuple, named tuple or dataclass with ``function`` of each of its parts.

    Anything else (strings, numbers, ``None``) has no parts and stays as it is.

    >>> each(len, {"x": [1, 2], "y": "word"}), each(len, 3)
    ({'x': 2, 'y': 4}, 3)
    """
    if isinstance(tree, tuple):
        parts = [function(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, list):
        return [function(part) for part in tree]
    if isinstance(tree, Mapping):
        items = {key: function(value) for key, value in tree.items()}
        if type(tree) is dict or not isinstance(tree, MutableMapping):
            return items
        changed = copy.copy(tree)  # of the same class, whose constructor may take something else
        for key, value in items.items():
            changed[key] = value
        return changed
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        changed = copy.copy(tree)
        for field in dataclasses.fields(tree):  # also of a frozen one
            object.__setattr__(changed, field.name, function(getattr(tree, field.name)))
        return changed
    return tree


def apply(function: Callable[[Tensor], Any], tree: Any) -> Any:
    r"""The same nesting with ``function`` of every tensor in it.

    >>> apply(torch.Tensor.tolist, {"x": [torch.ones(2), "a name"], "y": (torch.zeros(1), None)})
    {'x': [[1.0, 1.0], 'a name'], 'y': ([0.0], None)}
    """
    return function(tree) if isinstance(tree, Tensor) else each(lambda part: apply(function, part), tree)


def to_device(tree: Any, device: torch.device) -> Any:
    r"""All tensors on ``device``; an object with a method ``to``, such as a packed sequence, is asked itself.

    >>> batch = to_device([torch.ones(2), {"target": torch.zeros(2)}], torch.device("meta"))
    >>> batch[0].device, batch[1]["target"].device
    (device(type='meta'), device(type='meta'))
    """
    if isinstance(tree, Tensor):
        return tree if tree.device == device else tree.to(device, non_blocking=True)
    if isinstance(tree, list):  # by far the commonest, and met at every step
        return [part if type(part) is Tensor and part.device == device else to_device(part, device) for part in tree]
    if not isinstance(tree, dict) and callable(getattr(tree, "to", None)):
        return tree.to(device)
    return each(lambda part: to_device(part, device), tree)


def to_float32(tree: Any) -> Any:
    r"""All tensors of 16-bit floating types as float32; other types as they are.

    >>> to_float32((torch.ones(1, dtype=torch.float16), torch.ones(1, dtype=torch.long)))
    (tensor([1.]), tensor([1]))
    """
    return apply(lambda tensor: tensor.float() if tensor.dtype in HALVES else tensor, tree)


def tensors(tree: Any) -> Iterator[Tensor]:
    r"""Every tensor in the nesting, in order.

    >>> [t.shape[0] for t in tensors({"x": torch.ones(2), "y": (torch.ones(3), "a name")})]
    [2, 3]
    """
    found: list[Tensor] = []
    apply(found.append, tree)
    yield from found


def rows(tree: Any) -> int:
    r"""How many samples a batch has: the first dimension, which all its tensors must share.

    Raises:
        ValueError: they do not, or there are none.

    >>> rows({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
    8
    >>> rows([torch.zeros(8, 3), torch.tensor(1.0)])
    Traceback (most recent call last):
    ...
    ValueError: how many samples has this batch? its tensors have the shapes (8, 3), (); all need one first dimension
    """
    shapes = [tuple(tensor.shape) for tensor in tensors(tree)]
    if not shapes:
        raise ValueError(f"how many samples has this batch? there is no tensor in this {type(tree).__name__}")
    if not all(shape and shape[0] == shapes[0][0] for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ValueError(
            f"how many samples has this batch? its tensors have the shapes {listed}; all need one first dimension"
        )
    return shapes[0][0]


def means(losses: Any, samples: int) -> tuple[dict[str, Any], float]:
    r"""What a loss function returned, by name, and what its values are means over: its ``"count"``, or the samples.

    Args:
        losses: the loss, a scalar tensor; or a dict with it as ``"loss"``, further scalars, and perhaps ``"count"``.
        samples: rows in the batch.

    Raises:
        TypeError: it is neither, or the dict has no tensor ``"loss"``.
        ValueError: a value is no scalar, a name is taken, or the count is negative or not finite.

    >>> means(torch.tensor(2.0), 8)
    ({'loss': tensor(2.)}, 8.0)
    >>> means({"loss": torch.tensor(2.0), "box": 1.5, "count": torch.tensor(3)}, 8)
    ({'loss': tensor(2.), 'box': 1.5}, 3.0)
    """
    if isinstance(losses, Tensor):
        if losses.dim():
            raise ValueError(f"loss must return a scalar, got shape {tuple(losses.shape)}")
        return {"loss": losses}, float(samples)
    if not isinstance(losses, Mapping) or not isinstance(losses.get("loss"), Tensor):
        what = sorted(losses) if isinstance(losses, Mapping) else type(losses).__name__
        raise TypeError(f"loss must return a scalar tensor, or a dict with one as 'loss', got {what}")
    named: dict[str, Any] = {"loss": losses["loss"]}
    for name, part in losses.items():
        if isinstance(part, Tensor) and part.dim():
            raise ValueError(f"loss must return a scalar, got shape {tuple(part.shape)} for {name!r}")
        if TAKEN.fullmatch(name):
            raise ValueError(f"loss: {name!r} cannot name a loss, since step or history log something else under it")
        if name not in ("loss", "count"):
            named[name] = part.detach() if isinstance(part, Tensor) else part  # a graph held by no one's backward
    count = value(losses.get("count", samples))
    if not 0 <= count < math.inf:
        raise ValueError(f"loss: its count must be >= 0 and finite, got {count}")
    return named, count


def value(number: Any) -> float:
    r"""A number, or what stands in a scalar tensor.

    >>> value(torch.tensor(3)), value(2)
    (3.0, 2.0)
    """
    return float(number.item() if isinstance(number, Tensor) else number)
