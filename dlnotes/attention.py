r"""Attention: every query looks at the keys, and takes of each value as much as its key resembles the query.

The formula stands in :func:`attention_weights`; :func:`attend` takes it, or torch's kernel for the same, which never
writes the weights down. In a boolean mask **True means: may look**, as in
:func:`torch.nn.functional.scaled_dot_product_attention`. In :class:`torch.nn.MultiheadAttention`, and so in our
:class:`~dlnotes.multihead.MultiHeadAttention`, which takes its place, True means the opposite: hidden.
"""

import math
from collections.abc import Sequence
from typing import Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_below_one, check_whole


def attention_weights(
    query: Float[Tensor, "*heads queries width"],
    key: Float[Tensor, "*heads keys width"],
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*heads queries keys"]:
    r"""How much every query takes of every key: rows that sum to 1.

    .. math:: A = \operatorname{softmax}\left(\frac{QK^\top}{\sqrt{d}} + M\right), \qquad
        M_{ij} = \begin{cases} 0 & \text{query } i \text{ may look at key } j \\ -\infty & \text{otherwise}\end{cases}

    A row that may look nowhere has weights 0, where the formula says 0/0; every gradient is finite, 0 in that row.

    Args:
        query: :math:`Q`, (..., queries, width :math:`d`).
        key: :math:`K`, (..., keys, width), with query's leading dimensions.
        mask: boolean, True: may look; or floating, added as :math:`M`. It must broadcast to (..., queries, keys).
            Default: all may be seen.
        causal: whether no query may look past its own place; the last query sees all keys, see
            :func:`causal_mask`. With a mask both hold. Default False.
        scale: what the scores are multiplied by, default :math:`1/\sqrt{d}`.

    Raises:
        ValueError: shapes do not fit, the width is 0, or scale is not finite.
        TypeError: numbers that are not floating, or a mask that is neither boolean nor floating.

    Source: Vaswani et al., *Attention Is All You Need* (2017), section 3.2.1.

    >>> words = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> attention_weights(words, words, scale=0.5)  # the first resembles itself and the third
    tensor([[0.4683, 0.0634, 0.4683],
            [0.0634, 0.4683, 0.4683],
            [0.1065, 0.1065, 0.7870]])
    """
    _check(query, key, key, scale)
    mask = _whole_mask(query, key, mask, causal)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)  # scaled first: float16 ends at 65504
    if mask is None:
        return scores.softmax(dim=-1)
    hidden = ~mask if mask.dtype == torch.bool else mask == -math.inf
    if mask.is_floating_point():
        scores = scores + mask.masked_fill(hidden, 0)
    # A row that may look nowhere sees all until it gets its 0: NaN never arises, in gradients neither.
    nowhere = hidden.all(dim=-1, keepdim=True)
    weights = scores.masked_fill(hidden & ~nowhere, -math.inf).softmax(dim=-1)
    return weights.masked_fill(nowhere, 0)


@overload
def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False,
    dropout: float = 0.0, scale: float | None = None, enable_gqa: bool = False, need_weights: Literal[False] = False,
) -> Tensor: ...  # fmt: skip


@overload
def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False,
    dropout: float = 0.0, scale: float | None = None, enable_gqa: bool = False, need_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def attend(
    query: Float[Tensor, "*heads queries width"],
    key: Float[Tensor, "*groups keys width"],
    value: Float[Tensor, "*groups keys out"],
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
    need_weights: bool = False,
) -> Float[Tensor, "*heads queries out"] | tuple[Tensor, Tensor]:
    r"""A soft lookup: the values, averaged with the weights of :func:`attention_weights`.

    .. math:: \operatorname{attend}(Q, K, V) = \operatorname{softmax}\left(\frac{QK^\top}{\sqrt{d}} + M\right) V

    A row that may look nowhere gives 0, and so do its gradients, whether or not weights are asked for.

    Args:
        query: :math:`Q`, as for :func:`attention_weights`, and so are key, mask, causal and scale.
        key: :math:`K`, (..., keys, width).
        value: :math:`V`, (..., keys, out): a row for each of key's.
        mask: boolean, True: may look; or floating, added to the scores. Default: all may be seen.
        causal: whether no query may look past its own place. Default False.
        scale: of the scores, default :math:`1/\sqrt{d}`.
        dropout: the chance of a weight to be dropped, in [0, 1), default 0. As in torch's function it acts whenever
            it is not 0: a function does not know whether it trains. A module passes 0 in evaluation.
        enable_gqa: grouped heads: key and value may have fewer heads (their third dimension from the end) than query,
            a divisor of its number; neighbouring queries' heads share one. Default False.
        need_weights: whether to return (output, weights), the weights after dropout. Default False: the output alone,
            by :func:`torch.nn.functional.scaled_dot_product_attention`, which on a CPU cannot be differentiated twice.

    Returns:
        (..., queries, out), and if asked the weights, (..., queries, keys).

    Raises:
        ValueError, TypeError: as for :func:`attention_weights`, and for dropout out of range.

    Differs from ``scaled_dot_product_attention``: ``causal`` stands at the lower right (there upper left, so that with
    fewer queries than keys, as behind a cache, the last query sees only the first keys), and goes with a mask.

    >>> keys, values = torch.eye(2), torch.tensor([[10.0], [20.0]])
    >>> attend(torch.tensor([[9.0, 0.0], [0.0, 0.0]]), keys, values)  # like the first key; like both
    tensor([[10.0172],
            [15.0000]])
    >>> attend(keys, keys, values, torch.tensor([[False, False], [False, True]]))
    tensor([[ 0.],
            [20.]])
    """
    check_below_one(dropout=dropout)
    if enable_gqa:
        key, value = repeat_heads(key, query), repeat_heads(value, query)
    _check(query, key, value, scale)
    if need_weights:
        weights = attention_weights(query, key, mask, causal=causal, scale=scale)
        weights = F.dropout(weights, dropout)
        return weights @ value, weights
    # Torch's corner is ours where queries and keys are as many; its kernel scales what causal hides, -inf, too.
    square = causal and mask is None and query.shape[-2] == key.shape[-2]
    square = square and (scale is None or scale > 0)
    mask = _whole_mask(query, key, mask, causal and not square)
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, square, scale=scale)


def repeat_heads(
    x: Float[Tensor, "*groups keys width"], query: Float[Tensor, "*heads queries _"]
) -> Float[Tensor, "*heads keys width"]:
    r"""Keys or values of grouped heads, each repeated for the neighbouring heads of ``query`` that share it.

    Args:
        x: (..., groups, keys, width).
        query: (..., heads, queries, any); heads is a multiple of groups.

    Raises:
        ValueError: it is not, or there are no heads.

    Source: Ainslie et al., *GQA* (2023).

    >>> repeat_heads(torch.tensor([[[1.0]], [[2.0]]]), torch.zeros(4, 1, 1)).flatten()
    tensor([1., 1., 2., 2.])
    """
    if min(x.dim(), query.dim()) < 3:
        raise ValueError(
            f"heads need the shape (..., heads, length, width), got {tuple(x.shape)}, {tuple(query.shape)}"
        )
    heads, groups = query.shape[-3], x.shape[-3]
    if groups == 0 or heads % groups:
        raise ValueError(f"query's heads must be a multiple of key's and value's, got {heads} and {groups}")
    return x if heads == groups else x.repeat_interleave(heads // groups, dim=-3)


def causal_mask(
    queries: int, keys: int | None = None, device: torch.device | str | None = None
) -> Bool[Tensor, "queries keys"]:
    r"""Where a query may look if it must not see what comes later: True there.

    The corner is the lower right: query :math:`i` of :math:`L` may look at key :math:`j` of :math:`S` if
    :math:`j \le i + S - L`. The last query sees all keys; with fewer queries than keys, those of a cache come first.

    Args:
        queries: their number :math:`L`.
        keys: their number :math:`S`, default as many.
        device: where the mask lies, default torch's.

    Raises:
        ValueError, TypeError: a number that is negative or not whole.

    >>> causal_mask(2, 4)
    tensor([[ True,  True,  True, False],
            [ True,  True,  True,  True]])
    """
    check_whole("queries", queries, 0)
    check_whole("keys", keys, 0, optional=True)
    keys = queries if keys is None else keys
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def padding_mask(
    lengths: Tensor | Sequence[int], width: int | None = None, *, left: bool = False
) -> Bool[Tensor, "batch width"]:
    r"""Which places of a padded batch hold a token: True there.

    For :func:`attend` give it the missing dimensions, ``mask[:, None]`` or with heads ``mask[:, None, None]``; for
    ``key_padding_mask``, where True means hidden, give ``~mask``.

    Args:
        lengths: how many tokens each sentence has, on the device where the mask shall lie.
        width: the length that all are padded to, default the longest.
        left: whether the padding comes first; such tokens need positions of their own, see
            :func:`dlnotes.positions.count_positions`. Default False.

    Raises:
        ValueError: lengths are no row of numbers, or one is negative or larger than ``width``.
        TypeError: they are not whole.

    >>> padding_mask([1, 3])
    tensor([[ True, False, False],
            [ True,  True,  True]])
    >>> padding_mask([1, 3], left=True)[0]
    tensor([False, False,  True])
    """
    sizes = torch.as_tensor(lengths)
    if sizes.dim() != 1:
        raise ValueError(f"lengths must be a row of numbers, got the shape {tuple(sizes.shape)}")
    if sizes.numel() and (sizes.is_floating_point() or sizes.is_complex() or sizes.dtype == torch.bool):
        raise TypeError(f"lengths must be whole numbers, got {sizes.dtype}")
    check_whole("width", width, 0, optional=True)
    low, high = (int(sizes.min()), int(sizes.max())) if sizes.numel() else (0, 0)
    width = high if width is None else width
    if low < 0 or high > width:
        raise ValueError(f"lengths must be from 0 to width, {width}, got {low if low < 0 else high}")
    places = torch.arange(width, device=sizes.device)
    return (places.flip(0) if left else places) < sizes[:, None]


def combine_masks(mask: Tensor, other: Tensor) -> Tensor:
    r"""Two masks as one: a query may look where both let it, and what they add is added.

    Args:
        mask: as for :func:`attention_weights`.
        other: another, which must broadcast with the first.

    Returns:
        A boolean mask of two such, else a floating one.

    >>> combine_masks(torch.tensor([True, False]), torch.tensor([0.5, 1.0]))
    tensor([0.5000,   -inf])
    """
    if mask.dtype == torch.bool and other.dtype == torch.bool:
        return mask & other
    if mask.dtype == torch.bool:
        return torch.where(mask, other, -math.inf)
    return torch.where(other, mask, -math.inf) if other.dtype == torch.bool else mask + other


def _check(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() < 2:
            raise ValueError(f"{name} must have the shape (..., length, width), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"{name} must be floating, got {x.dtype}")
    if query.shape[-1] == 0 or key.shape[-1] != query.shape[-1] or key.shape[:-2] != query.shape[:-2]:
        wanted = f"query's leading dimensions and its width, not 0: {tuple(query.shape)}"
        raise ValueError(f"key must have {wanted}, got {tuple(key.shape)}")
    if value.shape[:-1] != key.shape[:-1]:
        raise ValueError(f"value must have a row for each of key's {tuple(key.shape)}, got {tuple(value.shape)}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be finite, got {scale}")


def _whole_mask(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """The mask, fit for the scores, and what causal hides."""
    shape = (*query.shape[:-1], key.shape[-2])
    if mask is not None:
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(f"mask must be boolean (True: may look) or floating (added), got {mask.dtype}")
        if mask.dim() > len(shape) or any(m not in (1, n) for m, n in zip(mask.shape[::-1], shape[::-1], strict=False)):
            raise ValueError(f"mask must broadcast to (..., queries, keys) {shape}, got {tuple(mask.shape)}")
        mask = mask if mask.dtype == torch.bool else mask.to(query.dtype)
    if not causal:
        return mask
    below = causal_mask(shape[-2], shape[-1], query.device)
    return below if mask is None else combine_masks(mask, below)
