import math

import jaxtyping
import pytest
import torch
from alone import runs_alone
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dlnotes.attention import attend, attention_weights, causal_mask, combine_masks, padding_mask, repeat_heads

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shapes, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_() for s in shapes]


def one_by_one(query, key, value, mask, scale=None):
    """Each query meets only the keys that it may see: nothing is masked, the others are not there."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    seen = torch.ones((), dtype=torch.bool) if mask is None else mask if mask.dtype == torch.bool else mask > -math.inf
    added = torch.zeros((), dtype=query.dtype) if mask is None or mask.dtype == torch.bool else mask
    shape = (*query.shape[:-1], key.shape[-2])
    seen, added = seen.expand(shape), added.expand(shape)
    outputs, weights = query.new_zeros(*shape[:-1], value.shape[-1]), query.new_zeros(shape)
    for *heads, i in [place.tolist() for place in torch.ones(shape[:-1]).nonzero()]:
        at = tuple(heads)
        keys = seen[(*at, i)].nonzero().flatten().tolist()
        powers = [(scale * query[(*at, i)].dot(key[(*at, j)]) + added[(*at, i, j)]).exp() for j in keys]
        for j, power in zip(keys, powers, strict=True):
            share = power / sum(powers)
            weights = weights.index_put(tuple(torch.tensor(n) for n in (*at, i, j)), share)
            outputs = outputs.index_put(
                tuple(torch.tensor(n) for n in (*at, i)), share * value[(*at, j)], accumulate=True
            )
    return outputs, weights


def masks(shape, kind, seed):
    """A mask that hides at random, whole rows too."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "none":
        return None
    seen = torch.rand(shape, generator=generator) < 0.6
    seen &= torch.rand((*shape[:-1], 1), generator=generator) < 0.7
    added = torch.randn(shape, generator=generator, dtype=torch.float64)
    return seen if kind == "boolean" else added if kind == "added" else added.masked_fill(~seen, -math.inf)


@settings(max_examples=40)
@given(
    heads=st.sampled_from([(), (2,), (2, 1), (1, 3)]),
    queries=st.integers(1, 4),
    keys=st.integers(1, 4),
    kind=st.sampled_from(["none", "boolean", "added", "added and hidden"]),
    causal=st.booleans(),
    scale=st.sampled_from([None, 1.0, 0.0, -0.5]),
    broadcast=st.booleans(),
    seed=st.integers(0, 99),
)
def test_both_paths_equal_the_sum_over_what_is_seen(heads, queries, keys, kind, causal, scale, broadcast, seed):
    """Torch's kernel and the formula, each forced, against a loop: outputs, weights, gradients; grad mode both."""
    query, key, value = draw((*heads, queries, 3), (*heads, keys, 3), (*heads, keys, 3), seed=seed)
    mask = masks((queries, keys) if broadcast else (*heads, queries, keys), kind, seed)
    whole = mask
    if causal:
        below = torch.tensor([[j <= i + keys - queries for j in range(keys)] for i in range(queries)])
        if mask is None or mask.dtype == torch.bool:
            whole = below if mask is None else mask & below
        else:
            whole = mask.masked_fill(~below, -math.inf)
    expected, expected_weights = one_by_one(query, key, value, whole, scale)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    # where all rows look nowhere, the loop's output does not depend on anything
    gradients = torch.autograd.grad(
        (expected * upstream).sum() + 0 * (query.sum() + key.sum() + value.sum()), (query, key, value)
    )
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        kernel = F.scaled_dot_product_attention
        patch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k))
        for need_weights in (False, True):
            found = attend(query, key, value, mask, causal=causal, scale=scale, need_weights=need_weights)
            output = found[0] if need_weights else found
            with torch.no_grad():
                same = attend(query, key, value, mask, causal=causal, scale=scale, need_weights=need_weights)
            torch.testing.assert_close(same[0] if need_weights else same, output, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
            ours = torch.autograd.grad((output * upstream).sum(), (query, key, value))
            for a, b in zip(ours, gradients, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
            if need_weights:
                torch.testing.assert_close(found[1], expected_weights, rtol=1e-10, atol=1e-10)
        assert len(calls) == 2  # with and without grad, not when weights are needed


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", [(70, 70), (3, 1100), (1100, 40)])
@pytest.mark.parametrize("causal", [False, True])
def test_long_rows_that_look_nowhere(device, dtype, lengths, causal):
    """Longer than a kernel's blocks: whole blocks hidden, whole rows hidden."""
    queries, keys = lengths
    q, k, v = draw((2, 2, queries, 8), (2, 2, keys, 8), (2, 2, keys, 8), dtype=dtype, device=device)
    mask = torch.rand(2, 1, queries, keys, generator=torch.Generator().manual_seed(0)).to(device) < 0.5
    mask[0, :, :, : keys * 3 // 4] = False  # padded on the left
    mask[:, :, queries // 2] = False
    results = {}
    for need_weights in (False, True):
        found = attend(q, k, v, mask, causal=causal, need_weights=need_weights)
        output = found[0] if need_weights else found
        assert output[:, :, queries // 2].eq(0).all()
        results[need_weights] = [output, *torch.autograd.grad((output**2).sum(), (q, k, v))]
        assert results[need_weights][1][:, :, queries // 2].eq(0).all()
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    for a, b in zip(results[True], results[False], strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_row_that_looks_nowhere_is_zero(need_weights, floating, dtype):
    q, k, v = draw((1, 1, 2, 4), (1, 1, 3, 4), (1, 1, 3, 4), dtype=dtype)
    mask = torch.tensor([[False, False, False], [True, False, True]])
    mask = torch.zeros(2, 3, dtype=dtype).masked_fill(~mask, -math.inf) if floating else mask
    mask.requires_grad_(floating)
    with torch.autograd.set_detect_anomaly(True, check_nan=need_weights):  # NaN is nowhere, not even on the way
        found = attend(q, k, v, mask, need_weights=need_weights)
        output = found[0] if need_weights else found
        gradients = torch.autograd.grad(output.sum(), [q, k, v] + [mask] * floating)
    assert output[0, 0].abs().sum(dim=-1).gt(0).tolist() == [False, True]
    assert gradients[0][0, 0].abs().sum(dim=-1).gt(0).tolist() == [False, True]
    assert all(gradient.isfinite().all() for gradient in gradients)
    if need_weights:
        assert found[1][0, 0, 0].tolist() == [0, 0, 0]
        assert found[1][0, 0, 1, 1] == 0


def test_by_hand():
    # q.k / sqrt(4) = 0 and log 3: weights 1/4 and 3/4, of 8 and 16
    query = torch.tensor([[2 * math.log(3), 0, 0, 0]], dtype=torch.float64)
    key = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.float64)
    value = torch.tensor([[8.0], [16.0]], dtype=torch.float64)
    output, weights = attend(query, key, value, need_weights=True)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    assert output.item() == pytest.approx(14, rel=1e-12)
    assert attend(query, key, value).item() == pytest.approx(14, rel=1e-12)


def test_convention_true_may_look_as_in_torchs_function():
    q, k, v = draw((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5))
    mask = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[..., 0] = True
    for need_weights in (True, False):
        found = attend(q, k, v, mask, need_weights=need_weights)
        expected = F.scaled_dot_product_attention(q, k, v, mask)
        torch.testing.assert_close(found[0] if need_weights else found, expected, rtol=1e-10, atol=1e-10)
    assert attention_weights(q, k, mask)[~mask.expand(2, 3, 4, 6)].eq(0).all()


def test_convention_causal_stands_at_the_lower_right():
    assert causal_mask(2, 3).tolist() == [[True, True, False], [True, True, True]]
    assert causal_mask(3, 2).tolist() == [[False, False], [True, False], [True, True]]
    assert causal_mask(3).tolist() == causal_mask(3, 3).tolist() == torch.ones(3, 3).tril().bool().tolist()
    assert causal_mask(0, 2).shape == (0, 2)
    assert causal_mask(2, 0).shape == (2, 0)


@pytest.mark.parametrize("need_weights", [False, True])
def test_behind_a_cache_each_query_gives_the_row_of_the_whole(need_weights):
    q, k, v = draw((2, 2, 7, 4), (2, 2, 7, 4), (2, 2, 7, 4))
    whole = attend(q, k, v, causal=True)
    for start, end in ((6, 7), (3, 7), (2, 5)):
        part = attend(q[:, :, start:end], k[:, :, :end], v[:, :, :end], causal=True, need_weights=need_weights)
        part = part[0] if need_weights else part
        torch.testing.assert_close(part, whole[:, :, start:end], rtol=1e-12, atol=1e-12)
    # what comes later changes nothing before, to the bit
    later = [torch.cat([x[:, :, :4], 9 * x[:, :, 4:]], dim=2) for x in (q, k, v)]
    both = [attend(*x, causal=True, need_weights=need_weights) for x in ((q, k, v), later)]
    one, other = (x[0] if need_weights else x for x in both)
    assert torch.equal(one[:, :, :4], other[:, :, :4])
    assert not torch.equal(one[:, :, 4:], other[:, :, 4:])


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_padded_batch_equals_the_sentences_alone(left, causal, need_weights):
    lengths, width = [1, 3, 5, 0], 5
    x = draw((4, 2, width, 4))[0].detach()
    mask = padding_mask(lengths, width, left=left)
    x = x.masked_fill(~mask[:, None, :, None], 1e3)  # what the padding holds does not matter
    found = attend(x, x, x, mask[:, None, None], causal=causal, need_weights=need_weights)
    together = found[0] if need_weights else found
    for sentence, length in enumerate(lengths):
        places = slice(width - length, width) if left else slice(length)
        own = x[sentence, :, places]
        torch.testing.assert_close(
            together[sentence, :, places], attend(own, own, own, causal=causal), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_no_scale_brings_back_what_causal_hides(scale, need_weights):
    # Torch's kernel on a CPU multiplies its own causal -inf by the scale: NaN at 0.
    q, k, v = draw((2, 1, 3, 4), (2, 1, 3, 4), (2, 1, 3, 4))
    found = attend(q, k, v, causal=True, scale=scale, need_weights=need_weights)
    output = found[0] if need_weights else found
    expected, _ = one_by_one(q, k, v, causal_mask(3), scale)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


def test_permuted_words_give_permuted_rows():
    (x,) = draw((2, 5, 4))
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = x[:, order]
    torch.testing.assert_close(attend(moved, moved, moved), attend(x, x, x)[:, order], rtol=1e-12, atol=1e-12)


def test_unscaled_weights_are_sharper():
    q, k = draw((64, 64), (64, 64))
    entropy = [
        -(w * w.clamp(min=1e-300).log()).sum(-1).mean()
        for w in (attention_weights(q, k), attention_weights(q, k, scale=1.0))
    ]
    assert entropy[1] < entropy[0] / 2
    assert (q @ k.T).var().item() == pytest.approx(64, rel=0.1)  # which is why 1/sqrt(64) makes it 1


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_drops_and_scales(need_weights):
    q, k, v = draw((2, 2, 8, 4), (2, 2, 50, 4), (2, 2, 50, 4))
    torch.manual_seed(0)
    found = [attend(q, k, v, dropout=0.25, need_weights=need_weights) for _ in range(200)]
    outputs = torch.stack([x[0] if need_weights else x for x in found])
    assert not torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs.mean(0), attend(q, k, v), rtol=0, atol=0.1)
    assert torch.equal(attend(q, k, v, dropout=0.0), attend(q, k, v))
    if need_weights:
        output, weights = found[0]
        torch.testing.assert_close(weights @ v, output)
        kept = weights != 0
        assert 0.6 < kept.double().mean() < 0.9
        torch.testing.assert_close(weights[kept], (attention_weights(q, k) / 0.75)[kept])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_heads_equal_repeated_ones(groups, need_weights):
    q, k, v = draw((2, 4, 3, 5), (2, groups, 6, 5), (2, groups, 6, 5))
    found = attend(q, k, v, causal=True, enable_gqa=True, need_weights=need_weights)
    output = found[0] if need_weights else found
    shared = [h * groups // 4 for h in range(4)]  # neighbours share
    own = [x.detach()[:, shared].requires_grad_() for x in (k, v)]
    expected = attend(q, *own, causal=True)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        F.scaled_dot_product_attention(q, k, v, enable_gqa=True), attend(q, k, v, enable_gqa=True)
    )
    gradients = torch.autograd.grad((output**2).sum(), (k, v))
    for gradient, repeated in zip(gradients, torch.autograd.grad((expected**2).sum(), own), strict=True):
        summed = repeated.unflatten(1, (groups, 4 // groups)).sum(2)
        torch.testing.assert_close(gradient, summed, rtol=1e-12, atol=1e-12)
    assert repeat_heads(k, k) is k


def test_gradients_and_second_derivatives():
    q, k, v = draw((1, 3, 2), (1, 3, 2), (1, 3, 2))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    assert torch.autograd.gradcheck(lambda *x: attend(*x, mask), (q, k, v))
    formula = lambda *x: attend(*x, mask, need_weights=True)  # noqa: E731
    assert torch.autograd.gradcheck(formula, (q, k, v))
    assert torch.autograd.gradgradcheck(formula, (q, k, v))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["none", "boolean", "added and hidden"])
def test_half_precision_and_autocast(dtype, need_weights, kind):
    inputs = draw((2, 2, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8), dtype=torch.float32)
    mask = masks((5, 7), kind, seed=3)
    mask = mask.float() if mask is not None and mask.is_floating_point() else mask
    exact = attend(*inputs, mask)
    with torch.autocast("cpu", dtype=dtype):
        autocast = attend(*inputs, mask, need_weights=need_weights)
    half = attend(*(x.to(dtype) for x in inputs), mask, need_weights=need_weights)
    for found in (autocast, half):
        output = found[0] if need_weights else found
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
        gradients = torch.autograd.grad(output.float().sum(), inputs, retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("floating", [False, True])
def test_what_padding_holds_does_not_matter_in_float16(need_weights, floating):
    q, k, v = (x.detach() for x in draw((1, 1, 3, 64), (1, 1, 5, 64), (1, 1, 5, 64), dtype=torch.float16))
    mask = padding_mask([3], 5)
    expected = attend(q, k[..., :3, :], v[..., :3, :])
    far = k.masked_fill(~mask[..., None], 6e4)  # its scores are beyond float16
    mask = torch.zeros(1, 5).masked_fill(~mask, -math.inf) if floating else mask
    found = attend(q, far, v, mask, need_weights=need_weights)
    torch.testing.assert_close(found[0] if need_weights else found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("need_weights", [False, True])
def test_scores_beyond_float16_do_not_overflow(need_weights):
    q = torch.full((1, 1, 1, 64), 40.0, dtype=torch.float16)  # q.k is 102400, and the largest float16 65504
    found = attend(q, q, torch.ones_like(q), need_weights=need_weights)
    assert (found[0] if need_weights else found).eq(1).all()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_nothing_there(batch, queries, keys, hidden, need_weights):
    q, k, v = draw((batch, 2, queries, 4), (batch, 2, keys, 4), (batch, 2, keys, 4))
    mask = torch.ones(batch, 1, queries, keys, dtype=torch.bool) if hidden else None
    for causal in (False, True):
        found = attend(q, k, v, mask, causal=causal, need_weights=need_weights)
        output = found[0] if need_weights else found
        assert output.shape == q.shape
        assert output.eq(0).all()
        assert all(
            g.eq(0).all() for g in torch.autograd.grad(output.sum(), (q, k, v), allow_unused=True) if g is not None
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": (4,)}, ValueError, r"query must have the shape \(\.\.\., length, width\), got \(4,\)"),
        ({"key": (4,)}, ValueError, r"key must have the shape \(\.\.\., length, width\), got \(4,\)"),
        ({"query": (2, 3, 5)}, ValueError, r"key must have .* its width, not 0: \(2, 3, 5\), got \(2, 6, 4\)"),
        ({"key": (1, 6, 4), "value": (1, 6, 4)}, ValueError, r"key must have query's leading .* got \(1, 6, 4\)"),
        ({"query": (2, 3, 0), "key": (2, 6, 0)}, ValueError, "width, not 0"),
        ({"value": (2, 5, 4)}, ValueError, r"value must have a row for each of key's \(2, 6, 4\), got \(2, 5, 4\)"),
        ({"mask": (2, 6)}, ValueError, r"mask must broadcast to \(\.\.\., queries, keys\) \(2, 3, 6\), got \(2, 6\)"),
        ({"mask": (1, 2, 3, 6)}, ValueError, r"mask must broadcast to .*, got \(1, 2, 3, 6\)"),
    ],
)
def test_wrong_shapes(change, error, message):
    shapes = {"query": (2, 3, 4), "key": (2, 6, 4), "value": (2, 6, 4), "mask": (3, 6)} | change
    query, key, value = (torch.ones(shapes[name]) for name in ("query", "key", "value"))
    for need_weights in (False, True):
        with pytest.raises(error, match=message):
            attend(query, key, value, torch.ones(shapes["mask"], dtype=torch.bool), need_weights=need_weights)


@pytest.mark.usefixtures("unchecked")
def test_wrong_types_and_numbers():
    x = torch.ones(2, 4, 3, 5)
    with pytest.raises(TypeError, match=r"mask must be boolean \(True: may look\) or floating .*, got torch.int64"):
        attend(x, x, x, torch.ones(3, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="query must be floating, got torch.int64"):
        attend(x.long(), x, x)
    with pytest.raises(TypeError, match="key must be floating, got torch.bool"):
        attend(x, x.bool(), x)
    with pytest.raises(TypeError, match="value must be floating, got torch.int64"):
        attend(x, x, x.long())
    for dropout in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"dropout must be in \[0, 1\), got {dropout}"):
            attend(x, x, x, dropout=dropout)
    for scale in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"scale must be finite, got {scale}"):
            attend(x, x, x, scale=scale)
    for groups in (3, 0):
        few = torch.ones(2, groups, 3, 5)
        with pytest.raises(ValueError, match=rf"query's heads must be a multiple of .*, got 4 and {groups}"):
            attend(x, few, few, enable_gqa=True)
        with pytest.raises(ValueError, match="key must have query's leading dimensions"):
            attend(x, few, few)
    with pytest.raises(ValueError, match=r"heads need the shape .*, got \(3, 5\)"):
        attend(x[0, 0], x[0, 0], x[0, 0], enable_gqa=True)


def test_padding_masks():
    assert padding_mask([2, 0, 3]).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert padding_mask(torch.tensor([1]), 3, left=True).tolist() == [[False, False, True]]
    assert padding_mask([]).shape == (0, 0)
    assert padding_mask(torch.tensor([], dtype=torch.long), 4).shape == (0, 4)


@pytest.mark.usefixtures("unchecked")
def test_wrong_sizes_of_masks():
    with pytest.raises(ValueError, match="lengths must be from 0 to width, 2, got 3"):
        padding_mask([1, 3], 2)
    with pytest.raises(ValueError, match="lengths must be from 0 to width, 2, got -1"):
        padding_mask([1, -1], 2)
    with pytest.raises(ValueError, match=r"lengths must be a row of numbers, got the shape \(1, 2\)"):
        padding_mask(torch.ones(1, 2, dtype=torch.long))
    for wrong in ([1.5], [True], torch.tensor([1.0])):
        with pytest.raises(TypeError, match="lengths must be whole numbers, got torch"):
            padding_mask(wrong)
    for wrong in ({"queries": -1}, {"queries": 2, "keys": -1}):
        with pytest.raises(ValueError, match=r"must be >= 0.*got -1"):
            causal_mask(**wrong)
    with pytest.raises(TypeError, match=r"queries must be >= 0, and a whole number .*, got 2.0"):
        causal_mask(2.0)


def test_combined_masks():
    yes, added = torch.tensor([[True], [False]]), torch.tensor([0.5, -math.inf])
    assert combine_masks(yes, torch.tensor([True, False])).tolist() == [[True, False], [False, False]]
    expected = [[0.5, -math.inf], [-math.inf, -math.inf]]
    assert combine_masks(yes, added).tolist() == combine_masks(added, yes).tolist() == expected
    assert combine_masks(added, added).tolist() == [1.0, -math.inf]


COMPILED = """
import torch
from dlnotes.attention import attend

torch.manual_seed(0)
q, k, v = (torch.randn(2, 4, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
mask = torch.rand(6, 6) < 0.5
mask[2] = False
for options in ({}, {"causal": True}, {"mask": mask}, {"mask": mask, "causal": True}):
    for need_weights in (False, True):
        def f(q, k, v):
            found = attend(q, k[:, :2], v[:, :2], enable_gqa=True, need_weights=need_weights, **options)
            return found[0] if need_weights else found
        torch._dynamo.reset()
        one, other = f(q, k, v), torch.compile(f, fullgraph=True, backend="aot_eager")(q, k, v)
        torch.testing.assert_close(one, other)
        grads = [torch.autograd.grad(x.pow(2).sum(), (q, k, v)) for x in (one, other)]
        torch.testing.assert_close(*grads)
"""


@pytest.mark.slow
def test_compiles_as_one_graph():
    runs_alone(COMPILED)
