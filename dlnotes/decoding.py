r"""Writing a translation token by token: the best token each time, or a beam of several beginnings at once.

Both read the source once, remember what they have computed (:mod:`dlnotes.cache`), and go on with the sentences alone
that are not complete. They never write PAD, BEGIN or UNKNOWN.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dlnotes.arguments import check_not_negative, check_whole
from dlnotes.cache import DecoderCache
from dlnotes.modes import evaluating
from dlnotes.text import BEGIN, END, PAD, UNKNOWN

LARGEST = 700  # below the logarithm of the largest float


@runtime_checkable
class Decodes(Protocol):
    r"""What decoding needs of a model, a module: :class:`~dlnotes.seq2seq.Seq2Seq`'s methods of these names.

    >>> from dlnotes.seq2seq import Seq2Seq
    >>> model: Decodes = Seq2Seq(5, 5, d_model=4, nhead=1, num_encoder_layers=1, num_decoder_layers=1)
    """

    def encode(self, src: Tensor) -> tuple[Tensor, Tensor]:
        r"""The memory and where a token stands in it, (N, S, d) and (N, S)."""
        ...

    def decode(self, tgt: Tensor, memory: Tensor, seen: Tensor, *, cache: DecoderCache | None = None) -> Tensor:
        r"""Scores of the next token, (N, T, V)."""
        ...

    def new_cache(self) -> DecoderCache:
        r"""For one batch."""
        ...


class Hypothesis(NamedTuple):
    r"""A translation that decoding has found.

    Attributes:
        tokens: without BEGIN and END.
        log_prob: the sum of its tokens' log-probabilities, END included.
        score: :math:`\log p / n^\alpha` for :math:`n` tokens, END included; what a beam search compares.
        ended: whether END was written; else it was cut off where it had become too long.

    >>> Hypothesis([7, 9], log_prob=-0.6, score=-0.2, ended=True).tokens
    [7, 9]
    """

    tokens: list[int]
    log_prob: float
    score: float
    ended: bool


def greedy(model: Decodes, src: Tensor, max_len: int | Sequence[int], *, cached: bool = True) -> list[Hypothesis]:
    r"""The most probable token each time, for every sentence of a batch.

    Args:
        model: a module, which computes in evaluation mode here.
        src: tokens, (N, S), as :func:`dlnotes.buckets.collate` gives them.
        max_len: the most tokens to write, END included; one number, or one for every sentence.
        cached: False computes all tokens anew each time, which gives the same. Default True.

    Raises:
        ValueError: ``max_len`` is below 1, or there are not N of it.
        FloatingPointError: the model's scores are NaN.

    >>> from dlnotes.seq2seq import Seq2Seq
    >>> _ = torch.manual_seed(0)
    >>> model = Seq2Seq(9, 9, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1)
    >>> found = greedy(model, torch.tensor([[4, 5, 2], [6, 2, 0]]), max_len=3)
    >>> [len(hypothesis.tokens) for hypothesis in found]
    [3, 3]
    """
    return [
        hypotheses[0] for hypotheses in beam_search(model, src, max_len, beams=1, length_penalty=0.0, cached=cached)
    ]


def beam_search(
    model: Decodes,
    src: Tensor,
    max_len: int | Sequence[int],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    cached: bool = True,
) -> list[list[Hypothesis]]:
    r"""Several beginnings at once: each time the most probable continuations of all take the places of the beam.

    One that ends with END keeps its place. Hypotheses are compared by :math:`\log p / n^\alpha`, since a sum of
    logarithms falls with every token and would prefer the short. A sentence is done when no beginning can win any
    more: its :math:`\log p` can only fall, and :math:`n` grow to the most :math:`m`, so that its score stays below
    :math:`\log p / m^\alpha`.

    Args:
        model: a module, which computes in evaluation mode here.
        src: tokens, (N, S), as :func:`dlnotes.buckets.collate` gives them.
        max_len: :math:`m`, the most tokens to write, END included; one number, or one for every sentence.
        beams: the places, default 4; with 1 it is :func:`greedy`.
        length_penalty: :math:`\alpha \ge 0`, default 1: the mean over the tokens.
        cached: False computes all tokens anew each time, which gives the same. Default True.

    Returns:
        For every sentence at most ``beams`` hypotheses, the best first; one that was cut off comes after all that
        ended.

    Raises:
        ValueError: a number is out of range, or there are not N of ``max_len``. TypeError: it is not whole.
        FloatingPointError: the model's scores are NaN.

    Sources: Sutskever, Vinyals and Le, *Sequence to Sequence Learning* (2014), section 3.2; Huang, Zhao and Ma, *When
    to Finish?* (2017), for the end. Differs from Wu et al. (2016), whose penalty is :math:`((5 + n) / 6)^\alpha`.

    >>> from dlnotes.seq2seq import Seq2Seq
    >>> _ = torch.manual_seed(0)
    >>> model = Seq2Seq(9, 9, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1)
    >>> (found,) = beam_search(model, torch.tensor([[4, 5, 2]]), max_len=5)
    >>> found[0].score >= found[-1].score
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a module, got a {type(model).__name__}")
    check_whole("beams", beams)
    check_not_negative(length_penalty=length_penalty)
    most = list(max_len) if isinstance(max_len, Iterable) else [max_len] * len(src)
    if len(most) != len(src):
        raise ValueError(f"max_len must be one number or one for each of {len(src)} sentences, got {len(most)}")
    for number in most:
        check_whole("max_len", number)
    if not most:
        return []
    length_penalty = float(length_penalty)
    if length_penalty * math.log(max(most)) > LARGEST:
        raise ValueError(f"length_penalty must keep {max(most)} ** length_penalty finite, got {length_penalty}")
    found: list[list[Hypothesis]] = [[] for _ in most]
    cut: list[list[Hypothesis]] = [[] for _ in most]
    sentences = list(range(len(most)))  # those under way, in the order of the rows
    with torch.no_grad(), evaluating(model):
        prefixes = _Prefixes(model, src, beams, cached)
        log_probs = torch.full((len(src), beams), -math.inf, device=src.device)
        log_probs[:, 0] = 0  # all begin alike: one of them goes on
        for length in range(1, max(most) + 1):
            totals = log_probs[..., None] + prefixes.next().unflatten(0, (-1, beams))  # (sentences, beams, vocabulary)
            best, places = totals.flatten(1).topk(min(beams, totals[0].numel()))
            parents, tokens = places // totals.shape[-1], places % totals.shape[-1]
            rows: list[list[int]] = []  # the parents, of the sentences that go on
            news: list[list[int]] = []
            alive: list[list[float]] = []
            going: list[int] = []
            for place, sentence in enumerate(sentences):
                first = place * beams
                live: list[tuple[float, int, int]] = []
                candidates = zip(best[place].tolist(), parents[place].tolist(), tokens[place].tolist(), strict=True)
                for total, parent, token in list(candidates)[: beams - len(found[sentence])]:
                    if total == -math.inf:
                        continue
                    if token == END:
                        written = prefixes.tokens(first + parent)
                        found[sentence].append(Hypothesis(written, total, total / length**length_penalty, ended=True))
                    else:
                        live.append((total, first + parent, token))
                if not live:
                    continue
                if length == most[sentence]:
                    cut[sentence] = [
                        Hypothesis([*prefixes.tokens(row), token], total, total / length**length_penalty, ended=False)
                        for total, row, token in live
                    ]
                    continue
                bound = live[0][0] / most[sentence] ** length_penalty
                if any(hypothesis.score >= bound for hypothesis in found[sentence]):
                    continue
                live += [(-math.inf, first, PAD)] * (beams - len(live))
                going.append(sentence)
                alive.append([total for total, _, _ in live])
                rows.append([row for _, row, _ in live])
                news.append([token for _, _, token in live])
            if not going:
                break
            prefixes.extend(rows, news, all_go_on=going == sentences)
            sentences, log_probs = going, torch.tensor(alive, device=src.device)
    for ended, others in zip(found, cut, strict=True):
        ended.sort(key=lambda hypothesis: -hypothesis.score)
        ended += others[: beams - len(ended)]
    return found


class _Prefixes:
    """The beginnings under way, a row each, ``beams`` rows a sentence, and what the model says comes next."""

    def __init__(self, model: Decodes, src: Tensor, beams: int, cached: bool):
        self.model = model
        memory, seen = model.encode(src)
        self.memory, self.seen = memory.repeat_interleave(beams, 0), seen.repeat_interleave(beams, 0)
        self.written = torch.full((len(self.memory), 1), BEGIN, device=src.device)
        self.cache = model.new_cache() if cached else None

    def next(self) -> Tensor:
        """Log-probabilities of the next token, (rows, vocabulary), of what may not come -inf."""
        new = self.written if self.cache is None else self.written[:, -1:]
        scores = self.model.decode(new, self.memory, self.seen, cache=self.cache)[:, -1]
        if scores.shape[-1] <= UNKNOWN:
            raise ValueError(f"model must score the {UNKNOWN + 1} special tokens at least, got {scores.shape[-1]}")
        log_probs = scores.float().log_softmax(dim=-1)
        if log_probs.isnan().any():
            raise FloatingPointError("the model's scores are NaN")
        log_probs[:, [PAD, BEGIN, UNKNOWN]] = -math.inf
        return log_probs

    def tokens(self, row: int) -> list[int]:
        return self.written[row, 1:].tolist()

    def extend(self, rows: list[list[int]], tokens: list[list[int]], all_go_on: bool) -> None:
        """Go on from these rows, with these tokens after them."""
        index = torch.tensor(rows, device=self.written.device).flatten()
        new = torch.tensor(tokens, device=self.written.device).reshape(-1, 1)
        self.written = torch.cat([self.written[index], new], dim=1)
        unmoved = all_go_on and index.equal(torch.arange(len(self.memory), device=index.device))
        if not all_go_on:
            self.memory, self.seen = self.memory[index], self.seen[index]
        if self.cache is not None and not unmoved:
            (self.cache.reorder if all_go_on else self.cache.select)(index)
