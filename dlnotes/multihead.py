r"""Attention with several heads, in the place of torch's: its arguments, its masks, its state dict."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.arguments import check_below_one, check_whole
from dlnotes.attention import attend, causal_mask, combine_masks
from dlnotes.cache import KeyValues


class MultiHeadAttention(nn.Module):
    r"""Several attentions side by side, each in a subspace of its own, and their results mixed.

    .. math::
        \operatorname{MultiHead}(Q, K, V) = \operatorname{concat}(h_1, \dots, h_H)\, W_O^\top + b_O, \qquad
        h_i = \operatorname{attend}(Q W_{Q,i}^\top + b_{Q,i},\; K W_{K,i}^\top + b_{K,i},\; V W_{V,i}^\top + b_{V,i})

    Args:
        embed_dim: width :math:`E` of the queries and of the output; a multiple of ``num_heads``.
        num_heads: how many heads :math:`H`, each :math:`E/H` wide.
        dropout: the chance of a weight to be dropped in training, in [0, 1), default 0.
        bias: whether the projections have biases, default True.
        add_bias_kv: a learned key and value after those of the input, which everyone may look at. Default False.
        add_zero_attn: a key and value of zeros after them, which everyone may look at. Default False.
        kdim, vdim: widths of the keys and values given, default :math:`E`.
        batch_first: (batch, length, width) instead of (length, batch, width), default False.
        device, dtype: where the parameters lie, and their type.
        num_kv_heads: grouped heads: how many heads the keys and values have, a divisor of ``num_heads``;
            neighbouring heads of the queries share them. Default: as many.

    Raises:
        ValueError, TypeError: numbers that do not fit each other, are too small or not whole.

    Equal to :class:`torch.nn.MultiheadAttention` in every option, forward and backward, on batches and on single
    sentences; same seed, same parameters; state dicts load either way (not those of grouped heads, which torch lacks).
    As there True **hides** in a boolean mask, the opposite of :func:`~dlnotes.attention.attend`. Differs:

    - A row that may look nowhere gives attention 0 (so the output is the last bias), weights 0 and finite gradients;
      torch's is NaN when weights are asked for, and in evaluation without grad, else as ours.
    - ``is_causal`` is no hint: it hides what comes later, alone or beside ``attn_mask``; torch's needs the mask and may
      then ignore it. With fewer queries than keys the last query sees all.
    - A boolean and a floating mask may be mixed, without a warning.
    - Nested tensors and dropout 1.0 are refused; bad input is a ValueError or TypeError, there often an AssertionError.

    Sources: Vaswani et al., *Attention Is All You Need* (2017), section 3.2.2; Ainslie et al., *GQA* (2023).

    >>> _ = torch.manual_seed(0)
    >>> attention = MultiHeadAttention(embed_dim=8, num_heads=2, batch_first=True)
    >>> words = torch.randn(1, 3, 8)
    >>> output, weights = attention(words, words, words, is_causal=True)
    >>> output.shape, weights.shape
    (torch.Size([1, 3, 8]), torch.Size([1, 3, 3]))
    >>> weights[0, 0]  # the first word sees itself alone
    tensor([1., 0., 0.], grad_fn=<SelectBackward0>)
    """

    # Torch's encoder layer asks this; were it True, the layer would pass forward by in evaluation.
    _qkv_same_embed_dim = False
    in_proj_weight: nn.Parameter | None  # of all three, if they have one width
    q_proj_weight: nn.Parameter  # these are None then
    k_proj_weight: nn.Parameter
    v_proj_weight: nn.Parameter
    in_proj_bias: nn.Parameter | None
    bias_k: nn.Parameter | None
    bias_v: nn.Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None, *, num_kv_heads: int | None = None,
    ):  # fmt: skip
        super().__init__()
        check_whole("embed_dim", embed_dim)
        check_whole("num_heads", num_heads)
        for name, number in (("kdim", kdim), ("vdim", vdim), ("num_kv_heads", num_kv_heads)):
            check_whole(name, number, optional=True)
        check_below_one(dropout=dropout)
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, {num_heads}, got {embed_dim}")
        if num_kv_heads is not None and num_heads % num_kv_heads:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads, {num_kv_heads}, got {num_heads}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first

        shared = self.num_kv_heads * self.head_dim
        self.widths = [embed_dim, shared, shared]  # what queries, keys and values are projected to
        packed = self.kdim == self.vdim == embed_dim
        shapes = {
            "in_proj_weight": (sum(self.widths), embed_dim) if packed else None,
            "q_proj_weight": None if packed else (embed_dim, embed_dim),
            "k_proj_weight": None if packed else (shared, self.kdim),
            "v_proj_weight": None if packed else (shared, self.vdim),
            "in_proj_bias": (sum(self.widths),) if bias else None,
            "bias_k": (1, 1, shared) if add_bias_kv else None,
            "bias_v": (1, 1, shared) if add_bias_kv else None,
        }
        for name, shape in shapes.items():  # in torch's order, which an optimizer's state dict counts by
            made = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, made)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        packed = self.in_proj_weight
        for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if packed is None else (packed,):
            nn.init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                nn.init.xavier_normal_(extra)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False, *, cache: KeyValues | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        r"""Look at the keys and return what was found, and the weights if they are needed.

        With :math:`N` sentences of :math:`L` queries and :math:`S` keys, batch first or second as said at construction:

        Args:
            query: (N, L, embed_dim); for a single sentence (L, embed_dim), and so on.
            key: (N, S, kdim).
            value: (N, S, vdim).
            key_padding_mask: (N, S), or (S). Boolean: True hides the key; floating: added to the scores.
            need_weights: default True. False is faster and takes less memory.
            attn_mask: (L, S), or for each sentence's heads (N · num_heads, L, S). Boolean: True hides; floating: added.
            average_attn_weights: the weights' mean over the heads, default True.
            is_causal: whether to hide what comes later, default False.
            cache: keys and values of earlier calls, which come before these and are kept with them; the masks are
                then over all. A filled cache that is ``fixed`` stands in place of key and value. Default None.

        Returns:
            The output, of query's shape, and the weights (after dropout in training), of shape (N, L, S) or
            (N, num_heads, L, S), or None. ``add_bias_kv`` and ``add_zero_attn`` add a key each.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: a mask that is neither boolean nor floating.
        """
        if cache is not None and cache.key is not None and cache.value is not None and cache.complete:
            self._check(query)
            q, k, v = self._split(self._project(query)[0]), cache.key, cache.value
        else:
            self._check(query, key, value)
            q, k, v = (self._split(x) for x in self._project(query, key, value))  # (N, heads, length, head_dim)
        before = 0 if cache is None or cache.complete else len(cache)
        mask = self._mask(q, k.shape[2] + before, key_padding_mask, attn_mask, batched=query.dim() == 3)
        if cache is not None:
            if cache.complete and k.shape[0] != q.shape[0]:
                raise ValueError(f"query must have the cache's sentences, {k.shape[0]}, got {q.shape[0]}")
            k, v = (k, v) if cache.complete else cache.extend(k, v)
        is_causal = is_causal and q.shape[2] != 1  # a single query is the last, which sees all
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([x, self._split(extra).expand(x.shape[0], -1, -1, -1)], dim=2)
                for x, extra in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        added = (self.bias_k is not None) + self.add_zero_attn
        if added and is_causal:
            below = causal_mask(q.shape[2], k.shape[2] - added, q.device)
            mask, is_causal = below if mask is None else combine_masks(mask, below), False
        if added and mask is not None:
            mask = F.pad(mask, (0, added), value=mask.dtype == torch.bool)  # everyone may look there

        dropout = self.dropout if self.training else 0.0
        grouped = self.num_kv_heads < self.num_heads
        if not need_weights:
            found = attend(q, k, v, mask, causal=is_causal, dropout=dropout, enable_gqa=grouped)
            return self.out_proj(self._join(found, query)), None
        found, weights = attend(q, k, v, mask, causal=is_causal, dropout=dropout, enable_gqa=grouped, need_weights=True)
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return self.out_proj(self._join(found, query)), weights if query.dim() == 3 else weights[0]

    def _check(self, query: Tensor, *key_and_value: Tensor) -> None:
        rest = "width" if query.dim() == 2 else "length, width" if self.batch_first else "batch, width"
        first = "batch" if query.dim() != 2 and self.batch_first else "length"
        widths = {"query": self.embed_dim, "key": self.kdim, "value": self.vdim}
        for (name, width), x in zip(widths.items(), (query, *key_and_value), strict=False):
            if x.is_nested:
                raise TypeError(f"{name} must be a plain tensor, got a nested one")
            if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != width:
                raise ValueError(f"{name} must have the shape ({first}, {rest} {width}), got {tuple(x.shape)}")
        if not key_and_value:
            return
        key, value = key_and_value
        if value.shape[:-1] != key.shape[:-1]:
            raise ValueError(f"value must have a row for each of key's {tuple(key.shape)}, got {tuple(value.shape)}")
        sentences = 0 if self.batch_first else 1
        if query.dim() == 3 and key.shape[sentences] != query.shape[sentences]:
            raise ValueError(f"key must have query's batch, {tuple(query.shape)}, got {tuple(key.shape)}")

    def _project(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, or the query alone."""
        packed, bias = self.in_proj_weight, self.in_proj_bias
        if packed is not None and len(inputs) == 3 and inputs[0] is inputs[1] and inputs[1] is inputs[2]:
            return F.linear(inputs[0], packed, bias).split(self.widths, dim=-1)
        own = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = own if packed is None else packed.split(self.widths)
        biases = (None, None, None) if bias is None else bias.split(self.widths)
        return tuple(F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=False))

    def _split(self, x: Tensor) -> Tensor:
        """The heads of a projection, as views: (N, heads, length, head_dim); of a single sentence N is 1."""
        heads = x.unflatten(-1, (-1, self.head_dim))
        if x.dim() == 2:
            return heads.transpose(0, 1)[None]
        return heads.transpose(1, 2) if self.batch_first else heads.permute(1, 2, 0, 3)

    def _join(self, found: Tensor, query: Tensor) -> Tensor:
        """The heads side by side again, in query's shape."""
        if query.dim() == 2:
            return found[0].transpose(0, 1).flatten(-2)
        return (found.transpose(1, 2) if self.batch_first else found.permute(2, 0, 1, 3)).flatten(-2)

    def _mask(
        self, q: Tensor, keys: int, key_padding_mask: Tensor | None, attn_mask: Tensor | None, batched: bool
    ) -> Tensor | None:
        """Torch's two masks as one of ours, where True means: may look."""
        batch, queries = q.shape[0], q.shape[2]
        padding, mask = None, None
        if key_padding_mask is not None:
            padding = _seen("key_padding_mask", key_padding_mask, (batch, keys) if batched else (keys,))
            padding = padding.reshape(batch, 1, 1, keys)
        if attn_mask is not None:
            one = attn_mask.dim() == 2
            mask = _seen("attn_mask", attn_mask, (queries, keys) if one else (batch * self.num_heads, queries, keys))
            mask = mask if one else mask.unflatten(0, (batch, self.num_heads))
        if padding is None or mask is None:
            return mask if padding is None else padding
        return combine_masks(padding, mask)


def _seen(name: str, mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name} must be boolean (True: hidden) or floating (added), got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {tuple(mask.shape)}")
    return ~mask if mask.dtype == torch.bool else mask
