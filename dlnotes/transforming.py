r"""What the Transformer's layers share: their sizes, sequences and masks checked by name, and the look itself."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_whole
from dlnotes.cache import KeyValues
from dlnotes.multihead import MultiHeadAttention

Activation = str | Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def check_sizes(d_model: int, nhead: int, dim_feedforward: int) -> None:
    r"""Refuse widths that are not whole, or whose heads would not be.

    >>> check_sizes(d_model=8, nhead=3, dim_feedforward=16)
    Traceback (most recent call last):
    ...
    ValueError: d_model must be a multiple of nhead, 3, got 8
    """
    for name, size in (("d_model", d_model), ("nhead", nhead), ("dim_feedforward", dim_feedforward)):
        check_whole(name, size)
    if d_model % nhead:
        raise ValueError(f"d_model must be a multiple of nhead, {nhead}, got {d_model}")


def activation_of(activation: Activation) -> Callable[[Tensor], Tensor]:
    r"""The function of this name, or the function given.

    >>> activation_of("gelu") is torch.nn.functional.gelu
    True
    """
    function = ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
    if function is None:
        raise ValueError(f"activation must be one of {list(ACTIVATIONS)} or a function, got {activation!r}")
    if not callable(function):
        raise TypeError(f"activation must be one of {list(ACTIVATIONS)} or a function, got {activation!r}")
    return function


def check_sequence(name: str, x: Tensor, attention: MultiHeadAttention, other: Tensor | None = None) -> None:
    r"""Refuse what is no batch of sequences (nor a single one), or has not the batch of ``other``, the target.

    >>> attention = MultiHeadAttention(8, 2, batch_first=True)
    >>> check_sequence("src", torch.zeros(4, 5, 7), attention)
    Traceback (most recent call last):
    ...
    ValueError: src must have the shape (batch, length, 8), or (length, 8) of one sentence, got (4, 5, 7)
    """
    width, first = attention.embed_dim, attention.batch_first
    if x.dim() not in (2, 3) or x.shape[-1] != width:
        form = f"({'batch, length' if first else 'length, batch'}, {width})"
        raise ValueError(
            f"{name} must have the shape {form}, or (length, {width}) of one sentence, got {tuple(x.shape)}"
        )
    if other is not None and (x.dim() != other.dim() or _sizes(x, first)[0] != _sizes(other, first)[0]):
        raise ValueError(f"{name} must have tgt's batch, {tuple(other.shape)}, got {tuple(x.shape)}")


def hidden(
    name: str, mask: Tensor | None, padding: Tensor | None, attention: MultiHeadAttention, queries: Tensor,
    keys: Tensor, cache: KeyValues | None = None,
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    r"""Our masks, where True means may look, as the attention's, where True means hidden: its padding, then its mask.

    Args:
        name: ``"src"``, ``"tgt"`` or ``"memory"``, for the words of an error.
        mask: (L, S) or (N · nhead, L, S).
        padding: (N, S), or (S) of a single sentence.
        attention: the module that will get them.
        queries: what it will look with.
        keys: what it will look at.
        cache: keys that come before those, or, if it is complete, stand in their place.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: a mask that is neither boolean nor floating.

    >>> attention, x = MultiHeadAttention(8, 2, batch_first=True), torch.zeros(1, 2, 8)
    >>> hidden("src", torch.tensor([[True, False], [True, True]]), None, attention, x, x)
    (None, tensor([[False,  True],
            [False, False]]))
    """
    if mask is None and padding is None:
        return None, None
    batch, length = _sizes(queries, attention.batch_first)
    complete = cache is not None and cache.complete
    before, new = 0 if cache is None else len(cache), 0 if complete else _sizes(keys, attention.batch_first)[1]
    seen, n = before + new, batch * attention.num_heads
    of_padding = (batch, seen) if queries.dim() == 3 else (seen,)
    masks = _hidden(f"{name}_key_padding_mask", padding, of_padding), _hidden(f"{name}_mask", mask, (length, seen), n)
    return masks


def look(
    attention: MultiHeadAttention, x: Tensor, keys: Tensor, masks: tuple[Tensor | None, Tensor | None],
    is_causal: bool, cache: KeyValues | None = None,
) -> Tensor:  # fmt: skip
    r"""What the attention finds, with masks as :func:`hidden` gives them; weights are never written down.

    >>> attention, x = MultiHeadAttention(8, 2, batch_first=True), torch.zeros(1, 2, 8)
    >>> look(attention, x, x, (None, None), is_causal=True).shape
    torch.Size([1, 2, 8])
    """
    padding, mask = masks
    return attention(x, keys, keys, padding, False, mask, is_causal=is_causal, cache=cache)[0]


def _sizes(x: Tensor, batch_first: bool) -> tuple[int, int]:
    """Sentences and their length."""
    if x.dim() == 2:
        return 1, x.shape[0]
    return (x.shape[0], x.shape[1]) if batch_first else (x.shape[1], x.shape[0])


def _hidden(name: str, mask: Tensor | None, shape: tuple[int, ...], heads: int | None = None) -> Tensor | None:
    if mask is None:
        return None
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name} must be boolean (True: may look) or floating (added), got {mask.dtype}")
    if mask.shape != shape and (heads is None or mask.shape != (heads, *shape)):
        choice = "" if heads is None else f" or {(heads, *shape)}"
        raise ValueError(f"{name} must have the shape {shape}{choice}, got {tuple(mask.shape)}")
    return ~mask if mask.dtype == torch.bool else mask
