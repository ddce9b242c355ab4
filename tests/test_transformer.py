import inspect
import math

import pytest
import torch
from alone import runs_alone
from torch import nn
from torch.nn import functional as F

from dlnotes import transformer
from dlnotes.attention import causal_mask, padding_mask
from dlnotes.cache import DecoderCache
from dlnotes.transformer import Transformer, TransformerDecoder, TransformerDecoderLayer, TransformerEncoderLayer

DOUBLE = {"dtype": torch.float64}
# Torch's own, of its nested tensors, and of a boolean mask beside a floating one, which it would rather not have.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}:UserWarning")
    for words in ("enable_nested_tensor", ".*mismatched .* mask")
]
SIZES = {"d_model": 8, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 12}


def pair(seed=0, **options):
    """Ours and torch's, with the same parameters, of which none is as it was initialised."""
    torch.manual_seed(seed)
    options = SIZES | {"dropout": 0.0, "batch_first": True} | DOUBLE | options
    theirs = nn.Transformer(**options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.4)
    ours = Transformer(**options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def draw(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, **DOUBLE).requires_grad_() for shape in shapes]


def gradients(module, output, inputs):
    return torch.autograd.grad(output.sin().sum(), [*inputs, *module.parameters()])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"bias": False}, {"layer_norm_eps": 0.1}])
@pytest.mark.parametrize("masked", ["nothing", "padding", "all"])
def test_equals_torchs(norm_first, batch_first, options, masked):
    """Output and all gradients, on torch's own state dict; a mask of ours is the opposite of one of theirs."""
    ours, theirs = pair(norm_first=norm_first, batch_first=batch_first, **options)
    src, tgt = draw((3, 5, 8), (3, 4, 8)) if batch_first else draw((5, 3, 8), (4, 3, 8))
    boolean, floating = {}, {"src_mask": torch.randn(5, 5, **DOUBLE), "memory_mask": torch.randn(4, 5, **DOUBLE)}
    if masked != "nothing":
        boolean["src_key_padding_mask"] = boolean["memory_key_padding_mask"] = padding_mask([5, 2, 3])
        boolean["tgt_key_padding_mask"] = padding_mask([2, 4, 1])
    if masked == "all":
        boolean["tgt_mask"] = causal_mask(4)
        boolean["src_mask"] = (torch.rand(6, 5, 5) < 0.5) | torch.eye(5, dtype=torch.bool)
        floating = {"memory_mask": torch.randn(6, 4, 5, **DOUBLE)}
        boolean["memory_key_padding_mask"] = torch.zeros(3, 5, **DOUBLE).masked_fill(
            ~padding_mask([5, 2, 3]), -math.inf
        )
    floating = {} if masked == "padding" else floating
    expected = {name: ~mask if mask.dtype == torch.bool else mask for name, mask in boolean.items()}
    output, wanted = ours(src, tgt, **boolean, **floating), theirs(src, tgt, **expected, **floating)
    torch.testing.assert_close(output, wanted, rtol=1e-10, atol=1e-10)
    found, wanted = gradients(ours, output, [src, tgt]), gradients(theirs, wanted, [src, tgt])
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


def test_same_seed_same_parameters_and_outputs():
    models = []
    for kind in (Transformer, nn.Transformer):
        torch.manual_seed(3)
        models.append(kind(**SIZES, dropout=0.3, batch_first=True))
    ours, theirs = models
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    src, tgt = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    assert not torch.allclose(ours(src, tgt), ours(src, tgt))  # dropout
    torch.testing.assert_close(ours.eval()(src, tgt), theirs.eval()(src, tgt))
    theirs.load_state_dict(ours.state_dict())


def test_defaults_and_order_are_torchs():
    for name in ("TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"):
        for method in ("__init__", "forward"):
            ours, theirs = (
                inspect.signature(getattr(getattr(place, name), method)).parameters for place in (transformer, nn)
            )
            assert [key for key in ours if key != "cache"] == list(theirs)
            assert all(ours[key].default == theirs[key].default for key in theirs), name


def test_one_sentence_without_a_batch():
    ours, theirs = pair()
    src, tgt = draw((5, 8), (4, 8))
    masks = {"tgt_mask": causal_mask(4), "src_key_padding_mask": padding_mask([3], 5)[0]}
    wanted = theirs(src, tgt, **{name: ~mask for name, mask in masks.items()})
    torch.testing.assert_close(ours(src, tgt, **masks), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_first", [False, True])
def test_later_tokens_change_nothing_before(norm_first):
    ours, _ = pair(norm_first=norm_first)
    src, tgt = draw((2, 5, 8), (2, 6, 8))
    output = ours(src, tgt, tgt_is_causal=True)
    torch.testing.assert_close(output, ours(src, tgt, tgt_mask=causal_mask(6)), rtol=1e-12, atol=1e-12)
    for place in range(6):
        (gradient,) = torch.autograd.grad(output[:, place].sum(), tgt, retain_graph=True)
        assert gradient[:, place + 1 :].eq(0).all()
        assert gradient[:, : place + 1].ne(0).any(dim=-1).all()
    changed = torch.cat([tgt[:, :3], torch.full((2, 3, 8), 1e6, **DOUBLE)], dim=1)
    assert torch.equal(ours(src, changed, tgt_is_causal=True)[:, :3], output[:, :3])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_real_output(norm_first, training):
    """A pad vector set to a million: what stands there is never looked at."""
    ours, _ = pair(norm_first=norm_first)
    ours.train(training)
    (src, tgt), sources, targets = draw((3, 5, 8), (3, 4, 8)), padding_mask([5, 2, 3]), padding_mask([2, 4, 1])
    masks = {"src_key_padding_mask": sources, "memory_key_padding_mask": sources, "tgt_key_padding_mask": targets}
    output = ours(src, tgt, tgt_is_causal=True, **masks)
    filled = [x.masked_fill(~mask[..., None], 1e6) for x, mask in ((src, sources), (tgt, targets))]
    assert torch.equal(ours(*filled, tgt_is_causal=True, **masks)[targets], output[targets])
    for sentence, (s, t) in enumerate([(5, 2), (2, 4), (3, 1)]):  # and alone it gives the same
        alone = ours(src[sentence : sentence + 1, :s], tgt[sentence : sentence + 1, :t], tgt_is_causal=True)
        torch.testing.assert_close(output[sentence, :t], alone[0], rtol=1e-10, atol=1e-10)


def test_a_sentence_of_padding_alone_is_finite():
    ours, _ = pair()
    src, tgt = draw((2, 3, 8), (2, 3, 8))
    masks = {f"{name}_key_padding_mask": padding_mask([0, 3]) for name in ("src", "tgt", "memory")}
    output = ours(src, tgt, **masks)
    assert all(gradient.isfinite().all() for gradient in gradients(ours, output, [src, tgt]))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("parts", [(1,) * 6, (2, 1, 3), (6,)])
def test_the_cache_changes_nothing(norm_first, batch_first, parts):
    ours, _ = pair(norm_first=norm_first, batch_first=batch_first)
    memory, tgt = draw((3, 5, 8), (3, 6, 8)) if batch_first else draw((5, 3, 8), (6, 3, 8))
    mask = {"memory_key_padding_mask": padding_mask([5, 2, 3])}
    whole = ours.decoder(tgt, memory, tgt_is_causal=True, **mask)
    cache, pieces = ours.decoder.new_cache(), tgt.split(parts, dim=int(batch_first))
    found = [ours.decoder(piece, memory, tgt_is_causal=True, cache=cache, **mask) for piece in pieces]
    torch.testing.assert_close(torch.cat(found, dim=int(batch_first)), whole, rtol=1e-10, atol=1e-10)
    assert len(cache) == 6


def test_the_memorys_keys_are_computed_once(monkeypatch):
    ours, _ = pair()
    memory, tgt = draw((3, 5, 8), (3, 4, 8))
    cache, rows, linear = ours.decoder.new_cache(), [], F.linear
    ours.decoder(tgt[:, :1], memory, cache=cache)
    monkeypatch.setattr(F, "linear", lambda x, *rest: rows.append(x.shape[1]) or linear(x, *rest))
    for token in tgt[:, 1:].split(1, dim=1):
        ours.decoder(token, memory, tgt_is_causal=True, cache=cache)
    assert set(rows) == {1}  # of no product more than the new token comes in


def test_sentences_leave_and_share_a_cache():
    ours, _ = pair()
    memory, tgt = draw((3, 5, 8), (3, 3, 8))
    cache, rows = ours.decoder.new_cache(), torch.tensor([2, 0, 2])
    ours.decoder(tgt[:, :2], memory, tgt_is_causal=True, cache=cache)
    cache.select(rows)
    found = ours.decoder(tgt[:, 2:], memory[rows], tgt_is_causal=True, cache=cache)
    mixed = torch.cat([tgt[rows, :2], tgt[:, 2:]], dim=1)
    whole = ours.decoder(mixed, memory[rows], tgt_is_causal=True)
    torch.testing.assert_close(found, whole[:, 2:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_first", [False, True])
def test_autocast(norm_first):
    torch.manual_seed(0)
    model = Transformer(**SIZES, batch_first=True, norm_first=norm_first, dropout=0.0)
    src, tgt = torch.randn(2, 5, 8), torch.randn(2, 4, 8, requires_grad=True)
    masks = {"src_key_padding_mask": padding_mask([5, 3]), "memory_key_padding_mask": padding_mask([5, 3])}
    exact = model(src, tgt, tgt_is_causal=True, **masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(src, tgt, tgt_is_causal=True, **masks)
    torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.1)
    found = torch.autograd.grad(output.float().square().sum(), [tgt, *model.parameters()])
    assert all(gradient.isfinite().all() for gradient in found)


def test_custom_halves_take_the_place_of_ours():
    class Half(nn.Module):
        def forward(self, x, *rest):
            return x + 1

    model = Transformer(**SIZES, dropout=0.0, custom_encoder=(half := Half()))
    assert model.encoder is half
    assert Transformer(**SIZES, custom_decoder=half).decoder is half
    x = torch.randn(3, 2, 8)
    torch.testing.assert_close(model(x, x), model.decoder(x, x + 1))


@pytest.mark.parametrize("kind", [TransformerEncoderLayer, TransformerDecoderLayer])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"nhead": 3}, ValueError, "d_model must be a multiple of nhead, 3, got 8"),
        ({"d_model": 0}, ValueError, "d_model must be >= 1, got 0"),
        ({"dim_feedforward": 0}, ValueError, "dim_feedforward must be >= 1, got 0"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
        ({"activation": "tanh"}, ValueError, r"activation must be one of \['relu', 'gelu'\] or a function, got 'tanh'"),
    ],
)
def test_bad_options(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**{"d_model": 8, "nhead": 2} | options)


def test_bad_stacks():
    layer = TransformerDecoderLayer(8, 2)
    with pytest.raises(ValueError, match="num_layers must be >= 1, got 0"):
        TransformerDecoder(layer, 0)
    x = torch.zeros(1, 1, 8)
    with pytest.raises(ValueError, match="cache must be for 2 layers, got one for 3"):
        TransformerDecoder(layer, 2)(x, x, cache=DecoderCache(3))


@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        ((3, 5, 7), (3, 4, 8), r"src must have the shape \(batch, length, 8\), or .* got \(3, 5, 7\)"),
        ((3, 5, 8), (8,), r"tgt must have the shape \(batch, length, 8\), or .* got \(8,\)"),
        ((3, 5, 8), (2, 4, 8), r"memory must have tgt's batch, \(2, 4, 8\), got \(3, 5, 8\)"),
        ((3, 5, 8), (4, 8), r"memory must have tgt's batch, \(4, 8\), got \(3, 5, 8\)"),
    ],
)
def test_wrong_inputs(src, tgt, message):
    for norm_first in (False, True):
        with pytest.raises(ValueError, match=message):
            pair(norm_first=norm_first)[0](torch.zeros(src, **DOUBLE), torch.zeros(tgt, **DOUBLE))


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({"src_mask": (4, 5)}, ValueError, r"src_mask must have the shape \(5, 5\) or \(6, 5, 5\), got \(4, 5\)"),
        ({"tgt_mask": (3, 4, 4)}, ValueError, r"tgt_mask must have the shape \(4, 4\) or \(6, 4, 4\), got \(3, 4, 4\)"),
        ({"memory_mask": (5, 4)}, ValueError, r"memory_mask must have the shape \(4, 5\) or \(6, 4, 5\), got \(5, 4\)"),
        ({"src_key_padding_mask": (5,)}, ValueError, r"src_key_padding_mask must have the shape \(3, 5\), got \(5,\)"),
        ({"tgt_key_padding_mask": (3, 5)}, ValueError, r"tgt_key_padding_mask must have the shape \(3, 4\)"),
        ({"memory_key_padding_mask": (3, 4)}, ValueError, r"memory_key_padding_mask must have the shape \(3, 5\)"),
    ],
)
def test_wrong_masks(masks, error, message):
    ours, _ = pair()
    src, tgt = draw((3, 5, 8), (3, 4, 8))
    with pytest.raises(error, match=message):
        ours(src, tgt, **{name: torch.ones(shape, dtype=torch.bool) for name, shape in masks.items()})
    with pytest.raises(TypeError, match=r"must be boolean \(True: may look\) or floating \(added\), got torch.uint8"):
        ours(src, tgt, **{name: torch.ones(shape, dtype=torch.uint8) for name, shape in masks.items()})


COMPILED = """
import torch
from dlnotes.attention import padding_mask
from dlnotes.transformer import Transformer

torch.manual_seed(0)
for norm_first in (False, True):
    torch._dynamo.reset()
    model = Transformer(8, 2, 1, 1, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    src, tgt, mask = torch.randn(2, 5, 8), torch.randn(2, 4, 8), padding_mask([5, 3])
    results = []
    for f in (model, compiled):
        output = f(src, tgt, src_key_padding_mask=mask, memory_key_padding_mask=mask, tgt_is_causal=True)
        results.append([output, *torch.autograd.grad(output.sin().sum(), list(model.parameters()))])
    torch.testing.assert_close(*results)
"""


@pytest.mark.slow
def test_compiles_as_one_graph():
    runs_alone(COMPILED)
