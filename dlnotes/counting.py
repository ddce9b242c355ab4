r"""What a Transformer costs, by formula: its parameters, and the floating-point operations of a forward pass.

An operation is a product or a sum, so that a matrix product :math:`(m \times k)(k \times n)` costs :math:`2mkn`, as
:class:`torch.utils.flop_counter.FlopCounterMode` counts; what is done number by number (norms, softmax, activations,
biases) costs little beside them and is left out, there as here. Training costs three times the forward pass: each
matrix product is followed by two in the backward pass, for its two gradients.
"""

from dlnotes.arguments import check_whole


def transformer_parameters(
    d_model: int = 512, num_encoder_layers: int = 6, num_decoder_layers: int = 6, dim_feedforward: int = 2048,
    bias: bool = True,
) -> int:  # fmt: skip
    r"""How many numbers a :class:`~dlnotes.transformer.Transformer` learns; the number of heads does not matter.

    With :math:`a = 4d^2 + 4d` for an attention, :math:`f = 2 d d_f + d_f + d` for a feed-forward step and
    :math:`n = 2d` for a norm:

    .. math:: L_e\,(a + f + 2n) + L_d\,(2a + f + 3n) + 2n

    Without biases :math:`a = 4d^2`, :math:`f = 2 d d_f`, :math:`n = d`.

    Args:
        d_model: :math:`d`.
        num_encoder_layers: :math:`L_e`.
        num_decoder_layers: :math:`L_d`.
        dim_feedforward: :math:`d_f`.
        bias: default True.

    Raises:
        ValueError, TypeError: a number is below 1 or not whole.

    >>> transformer_parameters()  # the base model of Vaswani et al. (2017), without its embeddings
    44140544
    """
    d, f = d_model, dim_feedforward
    _check(d_model=d, num_encoder_layers=num_encoder_layers, num_decoder_layers=num_decoder_layers, dim_feedforward=f)
    attention, feed_forward, norm = 4 * d * d, 2 * d * f, d
    if bias:
        attention, feed_forward, norm = attention + 4 * d, feed_forward + f + d, 2 * d
    encoder = num_encoder_layers * (attention + feed_forward + 2 * norm)
    decoder = num_decoder_layers * (2 * attention + feed_forward + 3 * norm)
    return encoder + decoder + 2 * norm


def seq2seq_parameters(
    src_vocab: int, tgt_vocab: int, d_model: int = 512, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
    dim_feedforward: int = 2048, bias: bool = True, *, tie_output: bool = True, tie_embeddings: bool = False,
) -> int:  # fmt: skip
    r"""The same of a :class:`~dlnotes.seq2seq.Seq2Seq`: its Transformer, its tables and the bias of its scores.

    >>> seq2seq_parameters(1000, 2000, d_model=64, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=256)
    427728
    >>> untied = seq2seq_parameters(37000, 37000, tie_output=False)
    >>> tied = seq2seq_parameters(37000, 37000, tie_embeddings=True)
    >>> untied - tied == 2 * 37000 * 512
    True
    """
    _check(src_vocab=src_vocab, tgt_vocab=tgt_vocab)
    tables = (0 if tie_embeddings else src_vocab) + tgt_vocab + (0 if tie_output else tgt_vocab)
    body = transformer_parameters(d_model, num_encoder_layers, num_decoder_layers, dim_feedforward, bias)
    return body + tables * d_model + tgt_vocab


def transformer_flops(
    source: int, target: int, d_model: int = 512, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
    dim_feedforward: int = 2048, *, tgt_vocab: int = 0,
) -> int:  # fmt: skip
    r"""Operations of one forward pass over one sentence of ``source`` tokens and its translation of ``target``.

    With :math:`S` and :math:`T` for their lengths, an encoder layer costs

    .. math:: 2S\,(4d^2 + 2 d d_f) + 4 S^2 d,

    four projections, two feed-forward products, and the scores and sums of attention; a decoder layer

    .. math:: 2T\,(6d^2 + 2 d d_f) + 2S\,(2d^2) + 4 T^2 d + 4 T S d,

    where the keys and values of the memory stand in the second term. Causal attention is counted in full, as the
    kernel that skips what it hides is not everywhere. Scores over :math:`V` tokens add :math:`2 T d V`.

    Args:
        source: :math:`S`, padding included.
        target: :math:`T`, likewise.
        d_model: as for :func:`transformer_parameters`.
        num_encoder_layers: likewise.
        num_decoder_layers: likewise.
        dim_feedforward: likewise.
        tgt_vocab: :math:`V`; 0 (default) for a Transformer without scores.

    Raises:
        ValueError, TypeError: a number is below 1 (``tgt_vocab``: 0) or not whole.

    >>> one, four = (transformer_flops(n, n) for n in (1000, 4000))
    >>> 4 < four / one < 16  # between a cost for each token and one for each pair of tokens
    True
    """
    s, t, d, f = source, target, d_model, dim_feedforward
    _check(source=s, target=t, d_model=d, dim_feedforward=f)
    _check(num_encoder_layers=num_encoder_layers, num_decoder_layers=num_decoder_layers)
    check_whole("tgt_vocab", tgt_vocab, 0)
    encoder = 2 * s * (4 * d * d + 2 * d * f) + 4 * s * s * d
    decoder = 2 * t * (6 * d * d + 2 * d * f) + 2 * s * (2 * d * d) + 4 * t * t * d + 4 * t * s * d
    return num_encoder_layers * encoder + num_decoder_layers * decoder + 2 * t * d * tgt_vocab


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        check_whole(name, size)
