import math

import pytest
import torch
from alone import runs_alone
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dlnotes.attention import causal_mask, padding_mask
from dlnotes.multihead import MultiHeadAttention

DOUBLE = {"dtype": torch.float64}
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def pair(embed_dim=6, num_heads=2, seed=0, **options):
    """Ours and torch's, with the same parameters; the biases are not 0."""
    torch.manual_seed(seed)
    theirs = nn.MultiheadAttention(embed_dim, num_heads, **options, **DOUBLE)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = MultiHeadAttention(embed_dim, num_heads, **options, **DOUBLE)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def draw(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, **DOUBLE).requires_grad_() for shape in shapes]


def masks(batch, heads, queries, keys, attention, padding, batched, seed):
    """Torch's masks of the kinds asked for, which leave every row the first key."""
    generator = torch.Generator().manual_seed(seed)
    shape = (queries, keys) if "2" in attention else (batch * heads, queries, keys)
    attn_mask, key_padding_mask = None, None
    if attention != "none":
        attn_mask = torch.rand(shape, generator=generator) < 0.5
        attn_mask[..., 0] = False
    if padding != "none":
        key_padding_mask = torch.rand((batch, keys), generator=generator) < 0.5
        key_padding_mask[:, 0] = False
        key_padding_mask = key_padding_mask if batched else key_padding_mask[0]
    if "added" in attention:
        noise = torch.randn(shape, generator=generator, **DOUBLE)
        attn_mask = noise.masked_fill(attn_mask, -math.inf)
    if "added" in padding:
        noise = torch.randn(key_padding_mask.shape, generator=generator, **DOUBLE)
        key_padding_mask = noise.masked_fill(key_padding_mask, -math.inf)
    return attn_mask, key_padding_mask


def assert_same(ours, theirs, inputs, **arguments):
    """Output, weights, and the gradients of inputs and parameters."""
    results = []
    for module in (ours, theirs):
        output, weights = module(*inputs, **arguments)
        upstream = torch.linspace(-1, 2, output.numel(), **DOUBLE).reshape(output.shape)
        loss = (output * upstream).sum()
        if weights is not None:
            loss = loss + (weights**2).sum()
        wanted = [*dict.fromkeys(inputs), *module.parameters()]
        results.append([output, weights, *torch.autograd.grad(loss, wanted)])
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **TIGHT)


@settings(max_examples=80)
@given(
    heads=st.sampled_from([1, 2, 3]),
    bias=st.booleans(),
    add_bias_kv=st.booleans(),
    add_zero_attn=st.booleans(),
    widths=st.sampled_from([{}, {"kdim": 4}, {"vdim": 5}, {"kdim": 4, "vdim": 5}]),
    batch_first=st.booleans(),
    batched=st.booleans(),
    batch=st.integers(1, 3),
    lengths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    attention=st.sampled_from(["none", "2", "3", "2 added", "3 added"]),
    padding=st.booleans(),
    output=st.sampled_from([{"need_weights": False}, {}, {"average_attn_weights": False}]),
    seed=st.integers(0, 99),
)
def test_equals_torch_in_every_option(
    heads, bias, add_bias_kv, add_zero_attn, widths, batch_first, batched, batch, lengths, attention, padding, output,
    seed,
):  # fmt: skip
    options = {"bias": bias, "add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn, "batch_first": batch_first}
    ours, theirs = pair(6, heads, seed, **options, **widths)
    batch = batch if batched else 1
    queries, keys = lengths
    shapes = [(queries, 6), (keys, ours.kdim), (keys, ours.vdim)]
    if batched:
        shapes = [(batch, n, w) if batch_first else (n, batch, w) for n, w in shapes]
    inputs = draw(*shapes, seed=seed)
    kind = "none" if not padding else "added" if "added" in attention else "boolean"  # torch warns of a mixture
    attn_mask, key_padding_mask = masks(batch, heads, queries, keys, attention, kind, batched, seed)
    assert_same(ours, theirs, inputs, attn_mask=attn_mask, key_padding_mask=key_padding_mask, **output)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 6)])
@pytest.mark.parametrize("need_weights", [False, True])
def test_equals_torch_where_tensors_are_the_same(batch_first, shape, need_weights):
    ours, theirs = pair(batch_first=batch_first)
    x, memory = draw(shape, shape, seed=1)
    assert_same(ours, theirs, [x, x, x], need_weights=need_weights)
    for inputs in ([x, memory, memory], [x, x, memory], [x, memory, x]):
        assert_same(ours, theirs, inputs, need_weights=need_weights)


def test_equals_the_formula_head_by_head():
    ours, _ = pair(6, 3, batch_first=True)
    (x,) = draw((2, 5, 6))
    w, b = ours.in_proj_weight, ours.in_proj_bias
    found = []
    for h in range(3):
        q, k, v = (x @ w[6 * i + 2 * h : 6 * i + 2 * h + 2].T + b[6 * i + 2 * h : 6 * i + 2 * h + 2] for i in range(3))
        scores = torch.einsum("nqd,nkd->nqk", q, k) / math.sqrt(2)
        powers = scores.exp()
        found.append(torch.einsum("nqk,nkd->nqd", powers / powers.sum(-1, keepdim=True), v))
    expected = torch.cat(found, dim=-1) @ ours.out_proj.weight.T + ours.out_proj.bias
    for need_weights in (False, True):
        torch.testing.assert_close(ours(x, x, x, need_weights=need_weights)[0], expected, **TIGHT)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"add_bias_kv": True},
        {"kdim": 4, "vdim": 6},
        {"vdim": 3, "bias": False, "add_bias_kv": True},
    ],
)
def test_state_dicts_and_seeds_are_torchs(options):
    modules = []
    for kind in (MultiHeadAttention, nn.MultiheadAttention):
        torch.manual_seed(3)
        modules.append(kind(8, 2, **options))
    ours, theirs = modules
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.out_proj.weight, ours.out_proj.weight)
    ours.load_state_dict(theirs.state_dict())


def test_arguments_stand_in_torchs_order():
    arguments = [8, 2, 0.25, False, True, True, 4, 5, True, "cpu", torch.float64]
    ours, theirs = MultiHeadAttention(*arguments), nn.MultiheadAttention(*arguments)
    for name in ("embed_dim", "num_heads", "dropout", "add_zero_attn", "kdim", "vdim", "batch_first", "head_dim"):
        assert getattr(ours, name) == getattr(theirs, name)
    inputs = [torch.ones(1, 2, w, **DOUBLE) for w in (8, 4, 5)]
    hidden, rest = torch.tensor([[False, True]]), torch.zeros(2, 2, dtype=torch.bool)
    ours.load_state_dict(theirs.state_dict())
    for module in (ours, theirs):
        module.eval()
    found, expected = (module(*inputs, hidden, True, rest, False, False) for module in (ours, theirs))
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 4, "vdim": 3}])
@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_heads_equal_repeated_ones(groups, options):
    torch.manual_seed(0)
    grouped = MultiHeadAttention(8, 4, num_kv_heads=groups, batch_first=True, **options, **DOUBLE)
    full = nn.MultiheadAttention(8, 4, batch_first=True, **options, **DOUBLE)
    for parameter in grouped.parameters():
        nn.init.normal_(parameter, std=0.5)

    def repeat(rows):
        return rows.unflatten(0, (groups, 2)).repeat_interleave(4 // groups, dim=0).flatten(0, 1)

    state = {}
    for name, rows in grouped.state_dict().items():
        if name in ("in_proj_weight", "in_proj_bias"):
            q, k, v = rows.split([8, 2 * groups, 2 * groups])
            rows = torch.cat([q, repeat(k), repeat(v)])
        elif name in ("k_proj_weight", "v_proj_weight"):
            rows = repeat(rows)
        elif name.startswith("bias_"):
            rows = repeat(rows.flatten())[None, None]
        state[name] = rows
    full.load_state_dict(state)
    q, k, v = draw((2, 3, 8), (2, 5, grouped.kdim), (2, 5, grouped.vdim))
    hidden = causal_mask(3, 5).logical_not()
    for need_weights in (False, True):
        results = []
        for module in (grouped, full):
            output, weights = module(q, k, v, attn_mask=hidden, need_weights=need_weights)
            results.append([output, weights, *torch.autograd.grad((output**2).sum(), (q, k, v))])
        for a, b in zip(*results, strict=True):
            if a is not None:
                torch.testing.assert_close(a, b, **TIGHT)
    fewer = sum(p.numel() for p in full.parameters()) - sum(p.numel() for p in grouped.parameters())
    width = (grouped.kdim + grouped.vdim) + 2 + 2 * ("add_bias_kv" in options)  # weights, biases, extra keys
    assert fewer == (8 - 2 * groups) * width


@pytest.mark.parametrize("need_weights", [False, True])
def test_the_same_in_training_and_evaluation_with_and_without_grad(need_weights):
    """Torch's module has a path of its own for evaluation without grad."""
    ours, theirs = pair(batch_first=True)
    (x,) = draw((3, 5, 6))
    hidden = ~padding_mask([2, 3, 3], 5)
    expected = theirs.train()(x, x, x, key_padding_mask=hidden, need_weights=need_weights)[0]
    for training in (True, False):
        for grad in (True, False):
            ours.train(training)
            with torch.set_grad_enabled(grad):
                output, weights = ours(x, x, x, key_padding_mask=hidden, need_weights=need_weights)
            torch.testing.assert_close(output, expected, **TIGHT)
            assert (weights is not None) == need_weights
            with torch.inference_mode():
                torch.testing.assert_close(
                    ours(x, x, x, key_padding_mask=hidden, need_weights=need_weights)[0], expected, **TIGHT
                )


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_is_off_in_evaluation(need_weights):
    module = MultiHeadAttention(6, 2, dropout=0.5, batch_first=True, **DOUBLE)
    still = MultiHeadAttention(6, 2, batch_first=True, **DOUBLE)
    still.load_state_dict(module.state_dict())
    (x,) = draw((2, 9, 6))
    run = lambda module: module(x, x, x, need_weights=need_weights)[0]  # noqa: E731
    assert not torch.allclose(run(module), run(module))
    torch.testing.assert_close(run(module.eval()), run(still), **TIGHT)


@pytest.mark.parametrize("need_weights", [False, True])
def test_weights_dropped_are_those_returned_as_in_torch(need_weights):
    ours, theirs = pair(dropout=0.5)
    (x,) = draw((7, 2, 6))
    results = []
    for module in (ours, theirs):
        torch.manual_seed(5)
        results.append(module(x, x, x, need_weights=need_weights, average_attn_weights=False))
    if need_weights:
        torch.testing.assert_close(*results, **TIGHT)  # the same draws: one of the shape of the weights
        assert results[0][1].eq(0).any()
    else:
        assert results[0][1] is results[1][1] is None


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("floating", [False, True])
def test_a_row_that_looks_nowhere(need_weights, floating):
    """Attention 0, weights 0, finite gradients; in every mode."""
    ours, _ = pair(batch_first=True)
    (x,) = draw((2, 3, 6))
    hidden = torch.zeros(3, 3, dtype=torch.bool)
    hidden[1] = True
    hidden = torch.zeros(3, 3, **DOUBLE).masked_fill(hidden, -math.inf) if floating else hidden
    padded = torch.tensor([[False] * 3, [True] * 3])
    output, weights = ours(x, x, x, attn_mask=hidden, key_padding_mask=padded, need_weights=need_weights)
    for row in (output[0, 1], *output[1]):
        torch.testing.assert_close(row, ours.out_proj.bias, **TIGHT)
    gradients = torch.autograd.grad((output**2).sum(), [x, *ours.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
    if need_weights:
        assert weights[0, 1].eq(0).all()
        assert weights[1].eq(0).all()
    with torch.no_grad():
        alone = ours.eval()(x, x, x, attn_mask=hidden, need_weights=need_weights)[0]
    torch.testing.assert_close(alone[:, 1], ours.out_proj.bias.expand(2, 6), **TIGHT)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}])
@pytest.mark.parametrize("padded", [False, True])
def test_is_causal_hides_what_comes_later(options, need_weights, padded):
    ours, theirs = pair(batch_first=True, **options)
    (x,) = draw((2, 5, 6))
    later = ~causal_mask(5)
    hidden = {"key_padding_mask": ~padding_mask([3, 5])} if padded else {}
    expected = theirs(x, x, x, attn_mask=later, need_weights=need_weights, **hidden)
    for arguments in ({"is_causal": True}, {"is_causal": True, "attn_mask": later}, {"attn_mask": later}):
        found = ours(x, x, x, need_weights=need_weights, **hidden, **arguments)
        for a, b in zip(found, expected, strict=True):
            if a is not None:
                torch.testing.assert_close(a, b, **TIGHT)
    # no hint that may be wrong: both masks hold
    band = torch.ones(5, 5, dtype=torch.bool).tril(-2)
    both = ours(x, x, x, attn_mask=band, is_causal=True, need_weights=need_weights, **hidden)[0]
    torch.testing.assert_close(
        both, ours(x, x, x, attn_mask=band | later, need_weights=need_weights, **hidden)[0], **TIGHT
    )


def test_fewer_queries_than_keys_end_with_the_last():
    ours, _ = pair(batch_first=True)
    (x,) = draw((2, 6, 6))
    whole = ours(x, x, x, is_causal=True)[0]
    part = ours(x[:, 4:], x, x, is_causal=True, need_weights=False)[0]
    torch.testing.assert_close(part, whole[:, 4:], **TIGHT)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_padded_batch_equals_the_sentences_alone(left, causal, batch_first, need_weights):
    ours, _ = pair(batch_first=batch_first)
    lengths, width = [1, 4, 2], 4
    (x,) = draw((3, width, 6))
    hidden = ~padding_mask(lengths, width, left=left)
    inputs = x if batch_first else x.transpose(0, 1)
    output, _ = ours(inputs, inputs, inputs, hidden, need_weights, is_causal=causal)
    output = output if batch_first else output.transpose(0, 1)
    for sentence, length in enumerate(lengths):
        places = slice(width - length, width) if left else slice(length)
        own = x[sentence, places]
        torch.testing.assert_close(output[sentence, places], ours(own, own, own, is_causal=causal)[0], **TIGHT)


def test_mixed_masks_are_both_obeyed():
    ours, theirs = pair(batch_first=True)
    (x,) = draw((2, 4, 6))
    padded = ~padding_mask([2, 4])
    added = torch.randn(4, 4, **DOUBLE)
    expected = theirs(x, x, x, padded.double().masked_fill(padded, -math.inf), attn_mask=added)
    for a, b in zip(ours(x, x, x, padded, attn_mask=added), expected, strict=True):
        torch.testing.assert_close(a, b, **TIGHT)
    low = added.float()  # another floating type than the input's
    torch.testing.assert_close(
        ours(x, x, x, attn_mask=low, need_weights=False)[0], ours(x, x, x, attn_mask=low.double())[0], **TIGHT
    )


@pytest.mark.parametrize("training", [True, False])
def test_takes_torchs_place_in_its_encoder(training):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True, **DOUBLE)
    ours = MultiHeadAttention(6, 2, batch_first=True, **DOUBLE)
    ours.load_state_dict(layer.self_attn.state_dict())
    (x,) = draw((2, 4, 6))
    later = nn.Transformer.generate_square_subsequent_mask(4, **DOUBLE)
    layer.train(training)
    with torch.no_grad():
        expected = layer(x, later, is_causal=True)
        layer.self_attn = ours.train(training)
        called = []
        ours.register_forward_hook(lambda *_: called.append(True))
        torch.testing.assert_close(layer(x, later, is_causal=True), expected, **TIGHT)
    assert called == [True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"num_kv_heads": 2}])
def test_autocast_and_half_precision(dtype, need_weights, options):
    torch.manual_seed(0)
    module = MultiHeadAttention(16, 4, batch_first=True, **options)
    x = torch.randn(2, 5, 16, requires_grad=True)
    masks = {"key_padding_mask": ~padding_mask([0, 5]), "attn_mask": torch.zeros(5, 5)}
    exact = module(x, x, x, need_weights=need_weights, **masks)[0]
    with torch.autocast("cpu", dtype=dtype):
        output = module(x, x, x, need_weights=need_weights, **masks)[0]
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
    gradients = torch.autograd.grad((output.float() ** 2).sum(), [x, *module.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert output.dtype == dtype
    half = module.to(dtype)
    y = x.detach().to(dtype)
    output = half(y, y, y, need_weights=need_weights, **masks)[0]
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_nothing_there(batch, queries, keys, batch_first, need_weights):
    ours, _ = pair(batch_first=batch_first)
    q, k = (torch.ones((batch, n, 6) if batch_first else (n, batch, 6), **DOUBLE) for n in (queries, keys))
    for masks in ({}, {"attn_mask": torch.zeros(batch * 2, queries, keys, dtype=torch.bool)}):
        output, weights = ours(q, k, k, torch.zeros(batch, keys).bool(), need_weights, **masks)
        assert output.shape == q.shape
        assert weights is None or weights.shape == (batch, queries, keys)
        output.sum().backward()
        torch.testing.assert_close(output, ours.out_proj.bias.expand(output.shape))


def test_the_projections_of_one_tensor_are_one_product(monkeypatch):
    ours, _ = pair()
    x, y = draw((3, 2, 6), (3, 2, 6))
    calls = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *a: calls.append(a) or linear(*a))
    ours(x, x, x)
    assert len(calls) == 2  # and the one of out_proj
    ours(x, y, y)
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_heads": 4}, ValueError, "embed_dim must be a multiple of num_heads, 4, got 6"),
        ({"embed_dim": 0}, ValueError, "embed_dim must be >= 1, got 0"),
        ({"num_heads": 0}, ValueError, "num_heads must be >= 1, got 0"),
        ({"kdim": 0}, ValueError, "kdim must be >= 1 or None, got 0"),
        ({"vdim": -2}, ValueError, "vdim must be >= 1 or None, got -2"),
        ({"num_kv_heads": 2}, ValueError, "num_heads must be a multiple of num_kv_heads, 2, got 3"),
        ({"num_kv_heads": 0}, ValueError, "num_kv_heads must be >= 1 or None, got 0"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        MultiHeadAttention(**{"embed_dim": 6, "num_heads": 3} | options)


@pytest.mark.parametrize(
    ("inputs", "batch_first", "message"),
    [
        ([(6,), (6,), (6,)], False, r"query must have the shape \(length, batch, width 6\), got \(6,\)"),
        ([(1, 2, 3, 6)] * 3, True, r"query must have the shape \(batch, length, width 6\), got \(1, 2, 3, 6\)"),
        ([(3, 2, 5)] * 3, False, r"query must have the shape \(length, batch, width 6\), got \(3, 2, 5\)"),
        ([(3, 6), (4, 5), (4, 7)], False, r"key must have the shape \(length, width 4\), got \(4, 5\)"),
        ([(3, 2, 6), (4, 4), (4, 7)], False, r"key must have the shape \(length, batch, width 4\), got \(4, 4\)"),
        ([(3, 2, 6), (5, 2, 4), (5, 2, 4)], False, r"value must have the shape .* width 7\), got \(5, 2, 4\)"),
        ([(3, 2, 6), (5, 2, 4), (4, 2, 7)], False, r"value must have a row for each of key's .* got \(4, 2, 7\)"),
        ([(3, 2, 6), (5, 3, 4), (5, 3, 7)], False, r"key must have query's batch, \(3, 2, 6\), got \(5, 3, 4\)"),
        ([(3, 2, 6), (2, 2, 4), (2, 2, 7)], True, r"key must have query's batch, \(3, 2, 6\), got \(2, 2, 4\)"),
    ],
)
def test_wrong_inputs(inputs, batch_first, message):
    module = MultiHeadAttention(6, 2, kdim=4, vdim=7, batch_first=batch_first)
    with pytest.raises(ValueError, match=message):
        module(*(torch.ones(shape) for shape in inputs))


def test_wrong_masks():
    module = MultiHeadAttention(6, 2, batch_first=True)
    x, y = torch.ones(2, 3, 6), torch.ones(2, 4, 6)
    for wanted, shape in (((3, 4), (4, 3)), ((4, 3, 4), (2, 3, 4)), ((4, 3, 4), (12,))):
        with pytest.raises(ValueError, match=rf"attn_mask must have the shape \({str(wanted)[1:-1]}\), got"):
            module(x, y, y, attn_mask=torch.zeros(shape))
    with pytest.raises(ValueError, match=r"key_padding_mask must have the shape \(2, 4\), got \(2, 3\)"):
        module(x, y, y, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"key_padding_mask must have the shape \(4,\), got \(1, 4\)"):
        module(x[0], y[0], y[0], torch.zeros(1, 4))
    for name in ("attn_mask", "key_padding_mask"):
        with pytest.raises(
            TypeError, match=rf"{name} must be boolean \(True: hidden\) or floating .*, got torch.uint8"
        ):
            module(x, x, x, **{name: torch.zeros(3, 3, dtype=torch.uint8)})
    with pytest.raises(TypeError, match="query must be a plain tensor, got a nested one"):
        module(*[torch.nested.nested_tensor([torch.ones(2, 6)], layout=torch.jagged)] * 3)


COMPILED = """
import torch
from dlnotes.multihead import MultiHeadAttention

torch.manual_seed(0)
for options in ({}, {"kdim": 4, "vdim": 4}, {"add_bias_kv": True, "add_zero_attn": True}, {"num_kv_heads": 2}):
    for shape in ((2, 5, 8), (5, 8)):
        for need_weights in (False, True):
            torch._dynamo.reset()
            module = MultiHeadAttention(8, 4, batch_first=True, **options)
            compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
            x, memory = torch.randn(shape), torch.randn(*shape[:-1], module.kdim)
            hidden = torch.rand(5, 5) < 0.5
            for inputs, rest in (((x, memory, memory), {"attn_mask": hidden}), ((x, x, x), {"is_causal": True})):
                if module.kdim == 8 or x is not inputs[1]:
                    rest["need_weights"] = need_weights
                    results = []
                    for f in (module, compiled):
                        output, weights = f(*inputs, **rest)
                        grads = torch.autograd.grad(output.pow(2).sum(), list(module.parameters()))
                        results.append([output, *grads] + [weights] * need_weights)
                    torch.testing.assert_close(*results)
"""


@pytest.mark.slow
def test_compiles_as_one_graph():
    runs_alone(COMPILED)
