r"""The Transformer, in the place of torch's: its names, arguments and state dict, and decoding with a cache.

Masks follow :func:`~dlnotes.attention.attend`: **True means may look**, the opposite of :mod:`torch.nn`'s classes of
these names, whose masks are given as ``~mask``; floating masks are added, as there. A ``…_mask`` is (L, S), or
(N · nhead, L, S), for L queries and S keys; a ``…_key_padding_mask`` is (N, S), True where a token stands, as
:func:`~dlnotes.attention.padding_mask` tells.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.arguments import check_whole
from dlnotes.cache import DecoderCache, KeyValues
from dlnotes.multihead import MultiHeadAttention
from dlnotes.norms import LayerNorm
from dlnotes.transforming import Activation, activation_of, check_sequence, check_sizes, hidden, look


class TransformerEncoderLayer(nn.Module):
    r"""Every word looks at all words, then is changed by itself; what each step finds is added to what was there.

    With :math:`A` for multi-head self-attention, :math:`F(x) = W_2\, f(W_1 x + b_1) + b_2`, :math:`N` for layer norm:

    .. math::
        \text{post-norm:}\quad y = N_1(x + A(x)), \quad z = N_2(y + F(y)) \qquad
        \text{pre-norm:}\quad y = x + A(N_1(x)), \quad z = y + F(N_2(y))

    Args:
        d_model: width of a word's vector; a multiple of ``nhead``.
        nhead: how many heads the attention has.
        dim_feedforward: width inside :math:`F`, default 2048.
        dropout: of the attention's weights, inside of :math:`F` and of both results, in [0, 1), default 0.1.
        activation: :math:`f`: ``"relu"``, ``"gelu"`` or a function, default relu.
        layer_norm_eps: default 1e-5.
        batch_first: (batch, length, width) instead of (length, batch, width), default False.
        norm_first: pre-norm, default False.
        bias: whether linear layers and norms have biases, default True.
        device, dtype: of the parameters.

    Raises:
        ValueError, TypeError: numbers that do not fit each other; an activation that is neither.

    Equal to :class:`torch.nn.TransformerEncoderLayer`, forward and backward; state dicts load either way. Differs: the
    masks (see :mod:`dlnotes.transformer`); what a row that may look nowhere gives (see
    :class:`~dlnotes.multihead.MultiHeadAttention`); there is no second path for evaluation, which in torch may set
    padding to 0. Sources: Vaswani et al., *Attention Is All You Need* (2017), section 3; Xiong et al., *On Layer
    Normalization in the Transformer Architecture* (2020).

    >>> layer = TransformerEncoderLayer(d_model=8, nhead=2, batch_first=True)
    >>> layer(torch.randn(4, 5, 8)).shape
    torch.Size([4, 5, 8])
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Activation = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        check_sizes(d_model, nhead, dim_feedforward)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.activation = activation_of(activation)

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        r"""(N, S, d_model), or as ``batch_first`` says, or (S, d_model) of one sentence, to the same shape."""
        attention = self.self_attn
        check_sequence("src", src, attention)
        masks = hidden("src", src_mask, src_key_padding_mask, attention, src, src)
        x = src
        if self.norm_first:
            x = x + self.dropout1(look(attention, y := self.norm1(x), y, masks, is_causal))
            return x + self.dropout2(self._feed_forward(self.norm2(x)))
        x = self.norm1(x + self.dropout1(look(attention, x, x, masks, is_causal)))
        return self.norm2(x + self.dropout2(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerDecoderLayer(nn.Module):
    r"""Every word looks at the words before it, then at the source, the memory, then is changed by itself.

    With :math:`C(x)` for attention whose queries are the words and whose keys and values are the memory, and the rest
    as in :class:`TransformerEncoderLayer`, whose arguments and errors these are:

    .. math::
        \text{post-norm:}\quad x_1 = N_1(x + A(x)), \quad x_2 = N_2(x_1 + C(x_1)), \quad x_3 = N_3(x_2 + F(x_2))

    and pre-norm likewise. Equal to :class:`torch.nn.TransformerDecoderLayer`; differs as the encoder's layer does.

    >>> layer = TransformerDecoderLayer(d_model=8, nhead=2, batch_first=True)
    >>> layer(torch.randn(4, 5, 8), memory=torch.randn(4, 7, 8), tgt_is_causal=True).shape
    torch.Size([4, 5, 8])
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Activation = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        check_sizes(d_model, nhead, dim_feedforward)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
        self.multihead_attn = MultiHeadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(dropout) for _ in range(3))
        self.activation = activation_of(activation)

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False, *,
        cache: tuple[KeyValues, KeyValues] | None = None,
    ) -> Tensor:  # fmt: skip
        r"""(N, T, d_model) with a memory (N, S, d_model) to (N, T, d_model); see :class:`TransformerDecoder`."""
        own, fixed = (None, None) if cache is None else cache
        check_sequence("tgt", tgt, self.self_attn)
        if fixed is None or not fixed.complete:
            check_sequence("memory", memory, self.multihead_attn, tgt)
        self_masks = hidden("tgt", tgt_mask, tgt_key_padding_mask, self.self_attn, tgt, tgt, own)
        masks = hidden("memory", memory_mask, memory_key_padding_mask, self.multihead_attn, tgt, memory, fixed)
        own_attn, cross, x = self.self_attn, self.multihead_attn, tgt
        if self.norm_first:
            x = x + self.dropout1(look(own_attn, y := self.norm1(x), y, self_masks, tgt_is_causal, own))
            x = x + self.dropout2(look(cross, self.norm2(x), memory, masks, memory_is_causal, fixed))
            return x + self.dropout3(self._feed_forward(self.norm3(x)))
        x = self.norm1(x + self.dropout1(look(own_attn, x, x, self_masks, tgt_is_causal, own)))
        x = self.norm2(x + self.dropout2(look(cross, x, memory, masks, memory_is_causal, fixed)))
        return self.norm3(x + self.dropout3(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoder(nn.Module):
    r"""Layers one upon the other, and a last norm; pre-norm needs it, since nothing else ends its sum.

    Args:
        encoder_layer: copied ``num_layers`` times, weights included: all begin equal, as torch's do.
            :class:`Transformer` draws them anew.
        num_layers: how many.
        norm: applied at the end, default None.

    Equal to :class:`torch.nn.TransformerEncoder`, without the options of its nested tensors.

    >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, batch_first=True), num_layers=3)
    >>> encoder(torch.randn(4, 5, 8)).shape
    torch.Size([4, 5, 8])
    """

    def __init__(self, encoder_layer: nn.Module, num_layers: int, norm: nn.Module | None = None):
        super().__init__()
        check_whole("num_layers", num_layers)
        self.layers = nn.ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:  # fmt: skip
        r"""(N, S, d_model) to the memory, of the same shape. ``is_causal`` None is False: a mask says it itself."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(nn.Module):
    r"""Layers that look at their own words and at a memory, one upon the other, and a last norm.

    Args:
        decoder_layer, num_layers, norm: as for :class:`TransformerEncoder`.

    Equal to :class:`torch.nn.TransformerDecoder`. It also decodes token by token: with a ``cache`` (see
    :meth:`new_cache`) ``tgt`` holds the new tokens alone, the target's masks are over all tokens so far, and the
    memory is looked at in the first call only, in which its keys are computed.

    >>> decoder = TransformerDecoder(TransformerDecoderLayer(8, 2, batch_first=True), num_layers=3).eval()
    >>> tgt, memory = torch.randn(4, 5, 8), torch.randn(4, 7, 8)
    >>> whole = decoder(tgt, memory, tgt_is_causal=True)
    >>> cache = decoder.new_cache()
    >>> pieces = [decoder(token, memory, tgt_is_causal=True, cache=cache) for token in tgt.split(1, dim=1)]
    >>> torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)
    True
    """

    def __init__(self, decoder_layer: nn.Module, num_layers: int, norm: nn.Module | None = None):
        super().__init__()
        check_whole("num_layers", num_layers)
        self.layers = nn.ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def new_cache(self) -> DecoderCache:
        r"""An empty cache, for one batch of sentences."""
        return DecoderCache(self.num_layers)

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None, memory_is_causal: bool = False, *, cache: DecoderCache | None = None,
    ) -> Tensor:  # fmt: skip
        r"""(N, T, d_model) with a memory (N, S, d_model) to (N, T, d_model)."""
        if cache is not None and len(cache.layers) != self.num_layers:
            raise ValueError(f"cache must be for {self.num_layers} layers, got one for {len(cache.layers)}")
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for number, layer in enumerate(self.layers):
            of_layer = {} if cache is None else {"cache": cache.layers[number]}
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal, **of_layer)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(nn.Module):
    r"""Encoder and decoder, of vectors to vectors: embeddings, positions and the last projection are the caller's.

    :class:`~dlnotes.seq2seq.Seq2Seq` has them. Arguments and errors are those of :class:`TransformerEncoderLayer`, and

    Args:
        num_encoder_layers, num_decoder_layers: default 6.
        custom_encoder, custom_decoder: modules in place of ours, default None.

    Equal to :class:`torch.nn.Transformer`: same seed, same parameters; state dicts load either way, as they are.
    Differs as the layers do; and ``…_is_causal`` None is False, where torch compares the mask with a causal one.

    >>> model = Transformer(d_model=8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> model(torch.randn(4, 7, 8), torch.randn(4, 5, 8), tgt_is_causal=True).shape
    torch.Size([4, 5, 8])
    >>> theirs = torch.nn.Transformer(d_model=8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> model.load_state_dict(theirs.state_dict())
    <All keys matched successfully>
    """

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        custom_encoder: nn.Module | None = None, custom_decoder: nn.Module | None = None,
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        if custom_encoder is None:
            layer = TransformerEncoderLayer(*options, **where)
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm)
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*options, **where)
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm)
        self.encoder, self.decoder = custom_encoder, custom_decoder
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None, tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        r"""(N, S, d_model) and (N, T, d_model) to (N, T, d_model)."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)
