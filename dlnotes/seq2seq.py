r"""A Transformer from tokens to tokens: embeddings, positions, encoder, decoder, and a score for every next token."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.arguments import check_below_one, check_whole
from dlnotes.cache import DecoderCache
from dlnotes.modes import evaluating
from dlnotes.positions import sinusoidal
from dlnotes.transformer import Transformer
from dlnotes.transforming import Activation


class Seq2Seq(nn.Module):
    r"""Scores for the next token of a target, given a source and the target's tokens so far.

    With the tables :math:`E_s`, :math:`E_t`, sinusoidal positions :math:`PE`, and :math:`W = E_t` if tied:

    .. math::
        x_i = \sqrt{d}\, E_s[s_i] + PE(i), \qquad y_i = \sqrt{d}\, E_t[t_i] + PE(i), \qquad
        z = \operatorname{Transformer}(x, y)\, W^\top + b

    The tables begin with variance :math:`1/(4d)`: the scores of a tied model then differ little, and its first loss
    is near :math:`\ln V`.

    Args:
        src_vocab: how many tokens the source has.
        tgt_vocab: how many the target has.
        d_model, nhead, num_encoder_layers, num_decoder_layers, dim_feedforward, dropout, activation, layer_norm_eps,
            norm_first, bias: as for :class:`~dlnotes.transformer.Transformer`; dropout is also of :math:`x`, :math:`y`.
        padding_idx: the token that fills short sentences at their end, in source and target, default 0. No other looks
            at it.
        tie_output: whether the last projection is the target's table, default True; it has a bias :math:`b` always.
        tie_embeddings: whether source and target have one table, which needs one vocabulary; default False.
        device, dtype: of the parameters.

    Raises:
        ValueError, TypeError: a number is too small or not whole; ``padding_idx`` is no token; two vocabularies tied.

    Everything is batch first. Sources: Vaswani et al., *Attention Is All You Need* (2017), sections 3.4 and 3.5; Press
    and Wolf, *Using the Output Embedding to Improve Language Models* (2017), for the tie.

    >>> _ = torch.manual_seed(0)
    >>> model = Seq2Seq(src_vocab=20, tgt_vocab=30, d_model=8, nhead=2, dim_feedforward=16).eval()
    >>> src, tgt = torch.tensor([[4, 5, 6], [7, 0, 0]]), torch.tensor([[1, 9, 8, 7], [1, 9, 0, 0]])
    >>> scores = model(src, tgt)
    >>> scores.shape
    torch.Size([2, 4, 30])

    Token by token, with a cache, the same:

    >>> memory, seen = model.encode(src)
    >>> cache = model.new_cache()
    >>> pieces = [model.decode(token, memory, seen, cache=cache) for token in tgt.split(1, dim=1)]
    >>> torch.allclose(torch.cat(pieces, dim=1)[0], scores[0], atol=1e-5)
    True
    """

    def __init__(
        self, src_vocab: int, tgt_vocab: int, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6,
        num_decoder_layers: int = 6, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5, norm_first: bool = False, bias: bool = True, *, padding_idx: int = 0,
        tie_output: bool = True, tie_embeddings: bool = False,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        for name, size in (("src_vocab", src_vocab), ("tgt_vocab", tgt_vocab)):
            check_whole(name, size)
        check_whole("padding_idx", padding_idx, 0)
        check_below_one(dropout=dropout)
        both = min(src_vocab, tgt_vocab)
        if padding_idx >= both:
            raise ValueError(f"padding_idx must be a token of both, below {both}, got {padding_idx}")
        if tie_embeddings and src_vocab != tgt_vocab:
            raise ValueError(f"tie_embeddings needs one vocabulary, got {src_vocab} tokens and {tgt_vocab}")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.transformer = Transformer(
            d_model, nhead, num_encoder_layers, num_decoder_layers, dim_feedforward, dropout, activation,
            layer_norm_eps=layer_norm_eps, batch_first=True, norm_first=norm_first, bias=bias, **where,
        )  # fmt: skip
        self.src_embedding = nn.Embedding(src_vocab, d_model, padding_idx, **where)
        self.tgt_embedding = nn.Embedding(tgt_vocab, d_model, padding_idx, **where)
        if tie_embeddings:
            self.tgt_embedding = self.src_embedding
        self.output = nn.Linear(d_model, tgt_vocab, **where)
        if tie_output:
            self.output.weight = self.tgt_embedding.weight
        self.dropout = nn.Dropout(dropout)
        self.padding_idx, self.d_model = padding_idx, d_model
        with torch.no_grad():
            for table in (self.src_embedding, self.tgt_embedding, self.output):
                table.weight.normal_(std=0.5 / math.sqrt(d_model))
            for table in (self.src_embedding, self.tgt_embedding):
                table.weight[padding_idx] = 0
            self.output.bias.zero_()

    def forward(self, src: Tensor, tgt: Tensor) -> Float[Tensor, "batch target vocab"]:
        r"""Scores for the token after each of ``tgt``'s, which begins with BEGIN: :math:`z`, no probabilities.

        Args:
            src: tokens, (N, S), int64 or int32.
            tgt: tokens, (N, T); none sees a later one.

        Raises:
            ValueError: no (batch, length), or two batches. TypeError: tokens that are not whole.
            IndexError: a token that is none of the vocabulary's. A compiled model leaves that to torch.
        """
        memory, seen = self.encode(src)
        return self.decode(tgt, memory, seen)

    def encode(self, src: Tensor) -> tuple[Float[Tensor, "batch source width"], Bool[Tensor, "batch source"]]:
        r"""The memory, (N, S, d_model), and where in it a token stands, for :meth:`decode`."""
        seen = src != self.padding_idx
        x = self._embed("src", self.src_embedding, src, 0)
        return self.transformer.encoder(x, src_key_padding_mask=seen), seen

    def decode(
        self, tgt: Tensor, memory: Float[Tensor, "batch source width"],
        seen: Bool[Tensor, "batch source"], *, cache: DecoderCache | None = None,
    ) -> Float[Tensor, "batch target vocab"]:  # fmt: skip
        r"""Scores as :meth:`forward`'s, from what :meth:`encode` gave.

        With a ``cache`` ``tgt`` holds the new tokens alone, whose places come after those that it remembers.
        """
        x = self._embed("tgt", self.tgt_embedding, tgt, 0 if cache is None else len(cache))
        mask = {"memory_key_padding_mask": seen, "tgt_is_causal": True, "cache": cache}
        return self.output(self.transformer.decoder(x, memory, **mask))

    def cross_attention(self, src: Tensor, tgt: Tensor) -> Float[Tensor, "layers batch heads target source"]:
        r"""Where every token of the target looks in the source, in each layer and head; rows sum to 1.

        The row of a token is that with which the *next* one is scored. No gradients are kept.
        """
        found: list[Tensor] = []

        def with_weights(module: nn.Module, inputs: Any, options: Any) -> tuple[Any, Any]:
            return (*inputs[:4], True, *inputs[5:]), options | {"average_attn_weights": False}

        layers: Any = self.transformer.decoder.layers
        handles = [
            handle
            for layer in layers
            for handle in (
                layer.multihead_attn.register_forward_pre_hook(with_weights, with_kwargs=True),
                layer.multihead_attn.register_forward_hook(lambda module, inputs, output: found.append(output[1])),
            )
        ]
        try:
            with torch.no_grad(), evaluating(self):
                self(src, tgt)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(found)

    def new_cache(self) -> DecoderCache:
        r"""An empty cache, for one batch of sentences."""
        return self.transformer.decoder.new_cache()  # pyright: ignore[reportCallIssue]

    def _embed(self, name: str, table: nn.Embedding, tokens: Tensor, first: int) -> Tensor:
        if tokens.dim() != 2:
            raise ValueError(f"{name} must have the shape (batch, length), got {tuple(tokens.shape)}")
        if tokens.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must be int32 or int64, got {tokens.dtype}")
        if tokens.numel() and tokens.is_cpu and not torch.compiler.is_compiling():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= table.num_embeddings:
                wrong, end = (low if low < 0 else high), table.num_embeddings - 1
                raise IndexError(f"{name} must hold tokens from 0 to {end}, got {wrong}")
        x = table(tokens) * math.sqrt(self.d_model)
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        return self.dropout(x + sinusoidal(places, self.d_model, dtype=x.dtype))
