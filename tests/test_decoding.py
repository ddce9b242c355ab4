import itertools
import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.buckets import pad
from dlnotes.cache import DecoderCache
from dlnotes.decoding import beam_search, greedy
from dlnotes.seq2seq import Seq2Seq
from dlnotes.text import BEGIN, END, PAD, UNKNOWN


def untrained(seed=0, vocab=12, **options):
    """A model whose choices differ from sentence to sentence: its scores are far apart."""
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "dim_feedforward": 32}
    model = Seq2Seq(20, vocab, **sizes, **options, tie_output=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def sources(count=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
    return [[*torch.randint(4, 20, (length,), generator=generator).tolist(), END] for length in lengths]


class Table(nn.Module):
    """Probabilities of the next token by the tokens written so far; the source is the number of a table."""

    def __init__(self, *tables, vocab=8):
        super().__init__()
        self.tables, self.vocab = tables, vocab

    def encode(self, src):
        return src[:, :1, None].float(), torch.ones_like(src[:, :1], dtype=torch.bool)

    def new_cache(self):
        return DecoderCache(1)

    def decode(self, tgt, memory, seen, *, cache=None):
        assert cache is None
        assert not self.training
        scores = torch.full((*tgt.shape, self.vocab), -math.inf)
        for row, (tokens, table) in enumerate(zip(tgt.tolist(), memory.flatten().int().tolist(), strict=True)):
            for token, probability in self.tables[table].get(tuple(tokens[1:]), {END: 1.0}).items():
                scores[row, -1, token] = math.log(probability)
        return scores


A, B, C = 4, 5, 6
# “A” ends early, at log 0.37; “B B” at log 0.315: the longer one's mean is better
LATE = {(): {A: 0.37, B: 0.33, C: 0.3}, (A,): {END: 1.0}, (B,): {B: 0.955, C: 0.045}, (B, B): {END: 1.0}}


@pytest.mark.parametrize(("length_penalty", "winner"), [(0.0, [A]), (1.0, [B, B])])
def test_a_beam_is_not_done_with_the_first_that_ends(length_penalty, winner):
    (found,) = beam_search(Table(LATE), torch.tensor([[0]]), 10, beams=2, length_penalty=length_penalty, cached=False)
    assert found[0].tokens == winner
    for hypothesis in found:
        length = len(hypothesis.tokens) + 1
        assert hypothesis.score == pytest.approx(hypothesis.log_prob / length**length_penalty)


def test_it_is_done_when_no_beginning_can_win():
    """With penalty 0 the first ended one at 0.37 beats all that is left, 0.33: no further step is made."""
    steps = []
    table = Table(LATE)
    decode = table.decode
    table.decode = lambda tgt, *rest, **more: steps.append(tgt.shape[1]) or decode(tgt, *rest, **more)
    beam_search(table, torch.tensor([[0]]), 10, beams=2, length_penalty=0.0, cached=False)
    assert steps == [1, 2]
    steps.clear()
    beam_search(table, torch.tensor([[0]]), 10, beams=2, length_penalty=1.0, cached=False)
    assert steps == [1, 2, 3]


def test_what_has_ended_keeps_its_place():
    """Two places: “A” ends in one, so that of B's two continuations only the better one goes on."""
    table = {
        (): {A: 0.5, B: 0.5},
        (A,): {END: 1.0},
        (B,): {B: 0.6, C: 0.4},
        (B, B): {END: 0.5, C: 0.5},
        (B, B, C): {END: 1.0},
    }
    (found,) = beam_search(Table(table), torch.tensor([[0]]), 10, beams=2, length_penalty=3.0, cached=False)
    assert len(found) == 2
    assert [A] in [hypothesis.tokens for hypothesis in found]
    for source, width in ((pad(sources()), 3), (pad(sources()), 2)):
        assert all(len(hypotheses) <= width for hypotheses in beam_search(untrained(), source, 12, beams=width))


def test_the_best_token_may_lead_astray():
    garden = {(): {A: 0.6, B: 0.4}, (A,): {A: 0.5, B: 0.5}, (B,): {C: 1.0}}
    assert greedy(Table(garden), torch.tensor([[0]]), 5, cached=False)[0].tokens in ([A, A], [A, B])
    (found,) = beam_search(Table(garden), torch.tensor([[0]]), 5, beams=2, length_penalty=0.0, cached=False)
    assert found[0].tokens == [B, C]
    assert math.exp(found[0].log_prob) == pytest.approx(0.4)


def test_wide_enough_it_finds_the_best_of_all():
    """Against every sentence of at most three tokens, one by one."""
    model, src = untrained(vocab=8), pad(sources(5))
    for length_penalty in (0.0, 0.7, 1.0):
        for sentence, hypotheses in zip(
            src, beam_search(model, src, 3, beams=64, length_penalty=length_penalty), strict=True
        ):
            scores = {}
            for tokens in itertools.chain.from_iterable(itertools.product(range(4, 8), repeat=n) for n in range(3)):
                read = torch.tensor([[BEGIN, *tokens]])
                log_probs = model(sentence[None], read)[0].log_softmax(dim=-1)
                total = sum(log_probs[i, token].item() for i, token in enumerate([*tokens, END]))
                scores[tokens] = total / (len(tokens) + 1) ** length_penalty
            best = max(scores, key=scores.get)
            assert tuple(hypotheses[0].tokens) == best
            assert hypotheses[0].score == pytest.approx(scores[best], rel=1e-4)


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_cache_changes_no_token(beams, norm_first):
    model, src = untrained(norm_first=norm_first), pad(sources())
    with_it, without = (beam_search(model, src, 12, beams=beams, cached=cached) for cached in (True, False))
    assert [[h.tokens for h in found] for found in with_it] == [[h.tokens for h in found] for found in without]
    torch.testing.assert_close(
        *(torch.tensor([f[0].log_prob for f in every]) for every in (with_it, without)), rtol=1e-4, atol=1e-4
    )
    if beams == 1:
        assert greedy(model, src, 12) == [found[0]._replace(score=found[0].log_prob) for found in with_it]


@pytest.mark.parametrize("beams", [1, 4])
def test_the_batch_changes_no_token(beams):
    """Alone, in sevens, all together: padding and neighbours are seen by no one, each has a limit of its own."""
    model, given = untrained(), sources(30)
    limits = [2 * len(source) for source in given]

    def in_batches(size):
        found = []
        for start in range(0, len(given), size):
            part = slice(start, start + size)
            found += beam_search(model, pad(given[part]), limits[part], beams=beams)
        return [[h.tokens for h in hypotheses] for hypotheses in found]

    together = in_batches(30)
    assert in_batches(1) == in_batches(7) == together
    assert len({len(hypotheses[0]) for hypotheses in together}) > 2  # some end early, some late


def test_what_greedy_writes_is_the_models_best_each_time():
    model, src = untrained(), pad(sources())
    for sentence, found in zip(src, greedy(model, src, 10), strict=True):
        read = torch.tensor([[BEGIN, *found.tokens]])
        log_probs = model(sentence[None], read)[0].log_softmax(dim=-1)
        log_probs[:, [PAD, BEGIN, UNKNOWN]] = -math.inf
        best = log_probs.argmax(dim=-1).tolist()
        assert best[: len(found.tokens)] == found.tokens
        assert found.ended == (len(found.tokens) < 10)
        if found.ended:
            assert best[-1] == END
        places = [*found.tokens, END][: len(best) - (not found.ended)]
        assert found.log_prob == pytest.approx(sum(log_probs[i, t].item() for i, t in enumerate(places)), rel=1e-4)


def test_the_longest_allowed():
    endless = {(A,) * n: {A: 1.0} for n in range(9)}
    (found,) = beam_search(Table(endless), torch.tensor([[0]]), 4, beams=2, cached=False)
    assert [(h.tokens, h.ended) for h in found] == [([A] * 4, False)]
    mixed = {(): {A: 0.7, B: 0.3}, (A,): {A: 1.0}, (A, A): {A: 1.0}, (B,): {END: 1.0}}
    (found,) = beam_search(Table(mixed), torch.tensor([[0]]), 3, beams=2, cached=False)
    assert [(h.tokens, h.ended) for h in found] == [([B], True), ([A] * 3, False)]  # what ended comes first
    found = beam_search(Table(endless), torch.tensor([[0], [0]]), [2, 4], beams=1, cached=False)
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [2, 4]


def test_dropout_sleeps_and_the_mode_comes_back():
    model = untrained(dropout=0.5).train()
    assert greedy(model, pad(sources()), 8) == greedy(model, pad(sources()), 8)
    assert model.training


def test_special_tokens_are_never_written():
    model = untrained()
    with torch.no_grad():
        model.output.bias[[PAD, BEGIN, UNKNOWN]] = 100.0
    for found in beam_search(model, pad(sources()), 8, beams=3):
        assert not {PAD, BEGIN, UNKNOWN, END} & {token for h in found for token in h.tokens}


def test_nothing_there_and_a_beam_wider_than_the_vocabulary():
    model = untrained(vocab=5)
    assert beam_search(model, torch.zeros(0, 3, dtype=torch.long), 5) == []
    (found,) = beam_search(model, torch.tensor([[4, END]]), 1, beams=9)
    assert {tuple(h.tokens) for h in found} == {(), (4,)}


def test_bad_arguments():
    model, src = untrained(), pad(sources(2))
    with pytest.raises(ValueError, match="beams must be >= 1, got 0"):
        beam_search(model, src, 5, beams=0)
    with pytest.raises(ValueError, match="length_penalty must be >= 0, got -1.0"):
        beam_search(model, src, 5, length_penalty=-1.0)
    with pytest.raises(ValueError, match="max_len must be >= 1, got 0"):
        greedy(model, src, [5, 0])
    with pytest.raises(ValueError, match="max_len must be one number or one for each of 2 sentences, got 3"):
        greedy(model, src, [5, 5, 5])
    with torch.no_grad():
        model.output.bias[5] = math.nan
    with pytest.raises(FloatingPointError, match="the model's scores are NaN"):
        greedy(model, src, 5)


def test_numbers_that_are_none(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # no type checker in between
    src = torch.tensor([[4, 2]])
    assert greedy(untrained(), src, np.int64(3)) == greedy(untrained(), src, 3)
    assert greedy(untrained(), src, np.array([3])) == greedy(untrained(), src, 3)
    with pytest.raises(TypeError, match="max_len must be >= 1, and a whole number"):
        greedy(untrained(), src, 3.5)
    with pytest.raises(ValueError, match=r"length_penalty must keep 20 \*\* length_penalty finite, got 400.0"):
        beam_search(untrained(), src, 20, length_penalty=400)
    assert all(math.isfinite(found.score) for found in beam_search(untrained(), src, 20, length_penalty=200)[0])
    with pytest.raises(ValueError, match="model must score the 4 special tokens at least, got 3"):
        greedy(untrained(vocab=3), src, 3)
