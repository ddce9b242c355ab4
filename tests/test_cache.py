import pytest
import torch

from dlnotes.attention import padding_mask
from dlnotes.cache import DecoderCache, KeyValues
from dlnotes.multihead import MultiHeadAttention

DOUBLE = {"dtype": torch.float64}


def attention(**options):
    torch.manual_seed(0)
    module = MultiHeadAttention(8, 4, batch_first=True, **options, **DOUBLE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize(
    "options", [{}, {"num_kv_heads": 2}, {"add_bias_kv": True, "add_zero_attn": True}, {"bias": False}]
)
@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1), (2, 3), (5,), (1, 4)])
@pytest.mark.parametrize("need_weights", [False, True])
def test_piece_by_piece_equals_the_whole(options, parts, need_weights):
    module, x = attention(**options), torch.randn(2, 5, 8, **DOUBLE)
    whole = module(x, x, x, is_causal=True)[0]
    cache, options = KeyValues(), {"is_causal": True, "need_weights": need_weights}
    found = [module(piece, piece, piece, cache=cache, **options)[0] for piece in x.split(parts, dim=1)]
    torch.testing.assert_close(torch.cat(found, dim=1), whole)
    assert len(cache) == 5


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5}])
def test_a_fixed_cache_projects_keys_once(options, monkeypatch):
    module = attention(**options)
    query, key = torch.randn(2, 3, 8, **DOUBLE), torch.randn(2, 4, module.kdim, **DOUBLE)
    value, hidden = torch.randn(2, 4, module.vdim, **DOUBLE), ~padding_mask([2, 4])
    whole = module(query, key, value, hidden)[0]
    cache, calls, linear = KeyValues(fixed=True), [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *a: calls.append(a) or linear(*a))
    nothing = torch.empty(0, 0, 0)  # is not looked at any more
    found = [module(query[:, :1], key, value, hidden, cache=cache)[0]]
    found += [module(query[:, i : i + 1], nothing, nothing, hidden, cache=cache)[0] for i in (1, 2)]
    torch.testing.assert_close(torch.cat(found, dim=1), whole)
    assert len(calls) == 4 + 2 + 2


def test_masks_are_over_all_keys():
    module, x = attention(), torch.randn(2, 4, 8, **DOUBLE)
    hidden = ~padding_mask([3, 4], left=True)
    whole = module(x, x, x, hidden, is_causal=True)[0]
    cache = KeyValues()
    module(x[:, :3], x[:, :3], x[:, :3], hidden[:, :3], is_causal=True, cache=cache)
    last = x[:, 3:]
    torch.testing.assert_close(module(last, last, last, hidden, is_causal=True, cache=cache)[0], whole[:, 3:])
    with pytest.raises(ValueError, match=r"key_padding_mask must have the shape \(2, 5\), got \(2, 1\)"):
        module(last, last, last, hidden[:, :1], cache=cache)
    assert len(cache) == 4  # the call that failed has left no trace


def test_gradients_flow_through_it():
    module, x = attention(), torch.randn(2, 4, 8, **DOUBLE).requires_grad_()
    cache = KeyValues()
    pieces = [module(piece, piece, piece, is_causal=True, cache=cache)[0] for piece in x.split(2, dim=1)]
    found = torch.autograd.grad(torch.cat(pieces, dim=1).square().sum(), [x, *module.parameters()])
    whole = module(x, x, x, is_causal=True)[0].square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(whole, [x, *module.parameters()]))


def test_rows_are_chosen_and_repeated():
    cache, drawn = DecoderCache(1), torch.randn(4, 3, 2, 1, 2)
    (own, memory) = cache.layers[0]
    own.extend(drawn[0], drawn[1])
    memory.extend(drawn[2], drawn[3])
    cache.reorder([0, 0, 1])
    assert torch.equal(own.key, drawn[0][[0, 0, 1]])
    assert torch.equal(memory.value, drawn[3])
    cache.select(torch.tensor([2, 0]))
    assert torch.equal(own.value, drawn[1][[1, 0]])
    assert torch.equal(memory.key, drawn[2][[2, 0]])
    assert len(cache) == 1
    KeyValues().select([0])  # nothing is there yet


def test_what_does_not_fit_is_refused():
    cache = KeyValues(fixed=True)
    cache.extend(torch.zeros(2, 4, 1, 2), torch.zeros(2, 4, 1, 2))
    with pytest.raises(ValueError, match="the cache is fixed and filled"):
        cache.extend(torch.zeros(2, 4, 1, 2), torch.zeros(2, 4, 1, 2))
    module, x = attention().float(), torch.zeros(3, 1, 8)
    with pytest.raises(ValueError, match="query must have the cache's sentences, 2, got 3"):
        module(x, x, x, cache=cache)
    with pytest.raises(ValueError, match=r"query must have the shape \(batch, length, width 8\), got \(3, 1, 5\)"):
        module(x[..., :5], x, x, cache=cache)
    grows = KeyValues()
    module(x, x, x, cache=grows)
    with pytest.raises(ValueError, match=r"key must be .* in the cache, \(3, 4, 1, 2\), got \(2, 4, 1, 2\)"):
        module(x[:2], x[:2], x[:2], cache=grows)
    assert len(grows) == 1
    assert repr(grows) == "KeyValues(fixed=False, key=(3, 4, 1, 2))"
    with pytest.raises(ValueError, match="num_layers must be >= 1, got 0"):
        DecoderCache(0)


def test_no_sentence_goes_on():
    cache = KeyValues()
    cache.extend(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 4))
    cache.select([])
    assert cache.key is not None
    assert cache.key.shape == (0, 1, 3, 4)
    cache.select(torch.tensor([], dtype=torch.long))
