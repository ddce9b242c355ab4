import math

import pytest
import torch
from alone import runs_alone
from torch import nn
from torch.nn import functional as F

from dlnotes.seq2seq import Seq2Seq

DOUBLE = {"dtype": torch.float64}
SIZES = {"d_model": 8, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 12}
SRC = torch.tensor([[4, 5, 6, 7, 2], [7, 2, 0, 0, 0], [5, 4, 2, 0, 0]])
TGT = torch.tensor([[1, 9, 8, 7], [1, 9, 0, 0], [1, 4, 5, 0]])


def model(seed=0, **options):
    torch.manual_seed(seed)
    return Seq2Seq(10, 12, **SIZES | {"dropout": 0.0} | DOUBLE | options)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("tie_output", [False, True])
def test_is_what_the_formula_says(norm_first, tie_output):
    """Torch's Transformer between tables and scores, written out here; forward and backward."""
    ours = model(norm_first=norm_first, tie_output=tie_output)
    theirs = nn.Transformer(**SIZES, dropout=0.0, batch_first=True, norm_first=norm_first, **DOUBLE)
    theirs.load_state_dict(ours.transformer.state_dict())
    places = torch.arange(5, **DOUBLE)[:, None] / 10000 ** (torch.arange(0, 8, 2, **DOUBLE) / 8)
    positions = torch.stack([places.sin(), places.cos()], dim=-1).flatten(1)
    x = ours.src_embedding.weight[SRC] * math.sqrt(8) + positions
    y = ours.tgt_embedding.weight[TGT] * math.sqrt(8) + positions[:4]
    padding = {"src_key_padding_mask": SRC == 0, "memory_key_padding_mask": SRC == 0}
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    table = ours.tgt_embedding.weight if tie_output else ours.output.weight
    wanted = theirs(x, y, tgt_mask=later, **padding) @ table.T + ours.output.bias
    found = ours(SRC, TGT)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert (ours.output.weight is ours.tgt_embedding.weight) == tie_output


@pytest.mark.parametrize("tie_output", [False, True])
@pytest.mark.parametrize(("vocab", "d_model"), [(100, 32), (400, 64), (2000, 128), (4000, 256)])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_first_loss_is_that_of_knowing_nothing(tie_output, vocab, d_model, norm_first):
    torch.manual_seed(0)
    sizes = {"d_model": d_model, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2}
    untrained = Seq2Seq(vocab, vocab, **sizes, dim_feedforward=64, norm_first=norm_first, tie_output=tie_output)
    src, tgt = (torch.randint(1, vocab, (8, 12)) for _ in range(2))
    loss = F.cross_entropy(untrained(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())
    assert abs(loss.item() - math.log(vocab)) < 0.5


def test_tables_that_are_tied():
    both = Seq2Seq(12, 12, **SIZES, tie_embeddings=True)
    assert both.src_embedding is both.tgt_embedding
    assert both.output.weight is both.src_embedding.weight
    apart = Seq2Seq(12, 12, **SIZES, tie_output=False)
    assert len({id(table.weight) for table in (apart.src_embedding, apart.tgt_embedding, apart.output)}) == 3
    before = {name: tensor.clone() for name, tensor in both.state_dict().items()}
    again = Seq2Seq(12, 12, **SIZES, tie_embeddings=True)
    again.load_state_dict(before)
    assert again.output.weight is again.src_embedding.weight
    torch.testing.assert_close(again.eval()(SRC, TGT), both.eval()(SRC, TGT))


def test_the_same_seed_gives_the_same_model():
    for a, b in zip(model(3).parameters(), model(3).parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("norm_first", [False, True])
def test_later_tokens_change_nothing_before(norm_first):
    ours = model(norm_first=norm_first)
    scores = ours(SRC, TGT)
    for place in range(1, 4):
        changed = TGT.clone()
        changed[:, place:] = 11
        assert torch.equal(ours(SRC, changed)[:, :place], scores[:, :place])
        assert not torch.allclose(ours(SRC, changed)[:, place], scores[:, place])


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_changes_nothing(norm_first):
    ours = model(norm_first=norm_first)
    scores = ours(SRC, TGT)
    with torch.no_grad():  # untied here, or it would change the score of the token itself
        ours.output.weight = nn.Parameter(ours.output.weight.clone())
        ours.src_embedding.weight[0] = ours.tgt_embedding.weight[0] = 1e6
    filled = ours(SRC, TGT)
    for sentence, (s, t) in enumerate([(5, 4), (2, 2), (3, 3)]):
        assert torch.equal(filled[sentence, :t], scores[sentence, :t])
        alone = ours(SRC[sentence : sentence + 1, :s], TGT[sentence : sentence + 1, :t])[0]
        torch.testing.assert_close(scores[sentence, :t], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("parts", [(1, 1, 1, 1), (3, 1), (4,)])
def test_the_cache_changes_nothing(norm_first, parts):
    ours = model(norm_first=norm_first)
    memory, seen = ours.encode(SRC)
    cache = ours.new_cache()
    pieces = [ours.decode(piece, memory, seen, cache=cache) for piece in TGT.split(parts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), ours(SRC, TGT), rtol=1e-10, atol=1e-10)


def test_autocast_and_half_precision():
    ours = model(dtype=torch.float32)
    exact = ours(SRC, TGT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = ours(SRC, TGT)
    torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.1)
    output.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters())
    assert ours.bfloat16()(SRC, TGT).dtype == torch.bfloat16


def test_where_it_looks():
    ours = model(dropout=0.3)
    looks = ours.cross_attention(SRC, TGT)
    assert looks.shape == (2, 3, 2, 4, 5)
    torch.testing.assert_close(looks.sum(dim=-1), torch.ones(2, 3, 2, 4, **DOUBLE))
    assert looks[:, 1, ..., 2:].eq(0).all()  # padding
    assert ours.training
    # what the last layer finds with these weights is what it adds
    last, inputs = ours.eval().transformer.decoder.layers[-1].multihead_attn, []
    handle = last.register_forward_hook(lambda module, given, output: inputs.append((given, output[0])))
    before = ours(SRC, TGT)
    handle.remove()
    (_, memory, *_), output = inputs[0]
    value = (memory @ last.in_proj_weight[16:].T + last.in_proj_bias[16:]).unflatten(-1, (2, 4)).transpose(1, 2)
    wanted = last.out_proj((looks[-1] @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(output, wanted)
    assert torch.equal(ours(SRC, TGT), before)  # no hook is left
    with pytest.raises(IndexError, match="src must hold tokens"):
        ours.cross_attention(SRC + 4, TGT)
    assert not last._forward_hooks


def test_nothing_there():
    ours = model()
    assert ours(SRC[:0], TGT[:0]).shape == (0, 4, 12)
    assert ours(SRC[:, :0], TGT).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"src_vocab": 0}, "src_vocab must be >= 1, got 0"),
        ({"tgt_vocab": 0}, "tgt_vocab must be >= 1, got 0"),
        ({"padding_idx": 10}, "padding_idx must be a token of both, below 10, got 10"),
        ({"padding_idx": -1}, "padding_idx must be >= 0, got -1"),
        ({"tie_embeddings": True}, "tie_embeddings needs one vocabulary, got 10 tokens and 12"),
        ({"nhead": 3}, "d_model must be a multiple of nhead, 3, got 8"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**{"src_vocab": 10, "tgt_vocab": 12} | SIZES | options)


def test_bad_tokens():
    ours = model()
    with pytest.raises(ValueError, match=r"src must have the shape \(batch, length\), got \(5,\)"):
        ours(SRC[0], TGT)
    with pytest.raises(TypeError, match=r"tgt must be int32 or int64, got torch.float32"):
        ours(SRC, TGT.float())
    with pytest.raises(IndexError, match="src must hold tokens from 0 to 9, got 11"):
        ours(SRC + 4, TGT)
    with pytest.raises(IndexError, match="tgt must hold tokens from 0 to 11, got -1"):
        ours(SRC, TGT - 1)
    with pytest.raises(ValueError, match="memory must have tgt's batch"):
        ours(SRC, TGT[:2])
    torch.testing.assert_close(ours(SRC.int(), TGT.int()), ours(SRC, TGT))


COMPILED = """
import torch
from dlnotes.seq2seq import Seq2Seq

torch.manual_seed(0)
model = Seq2Seq(10, 12, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=12, dropout=0.0)
compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
src, tgt = torch.tensor([[4, 5, 6], [7, 2, 0]]), torch.tensor([[1, 9], [1, 0]])
results = []
for f in (model, compiled):
    output = f(src, tgt)
    results.append([output, *torch.autograd.grad(output.sin().sum(), list(model.parameters()))])
torch.testing.assert_close(*results)
"""


@pytest.mark.slow
def test_compiles_as_one_graph():
    runs_alone(COMPILED)
