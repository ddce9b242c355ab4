import math

import pytest
import torch
from torch import nn

from dlnotes.gradients import Look, Multiply, clip_, gradients, norm, why_refused


def some(seed=0, scale=1.0, dtypes=(torch.float32,)):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (), (2, 1, 3)]
    return [scale * torch.randn(shape, generator=generator).to(dtype) for shape in shapes for dtype in dtypes]


def parameters_with(given):
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in given]
    for parameter, gradient in zip(parameters, given, strict=True):
        parameter.grad = gradient.clone()
    return parameters


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_norm", [0.1, 3.0, 1e3])
def test_clips_as_torch_bit_for_bit(seed, max_norm):
    given = some(seed)
    parameters = parameters_with(given)
    expected = nn.utils.clip_grad_norm_(parameters, max_norm)
    assert clip_(given, max_norm) == expected.item()
    assert all(torch.equal(ours, p.grad) for ours, p in zip(given, parameters, strict=True))


def test_clips_gradients_of_several_types():
    given = some(dtypes=(torch.float32, torch.float64, torch.bfloat16))
    before = torch.cat([g.double().flatten() for g in given])
    assert clip_(given, 1.0) == pytest.approx(before.norm().item(), rel=1e-2)
    after = torch.cat([g.double().flatten() for g in given])
    torch.testing.assert_close(after, before / before.norm(), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_a_norm_whose_square_overflows_clips_too(scale):
    given = some(scale=scale)
    true = math.sqrt(sum(g.double().pow(2).sum().item() for g in given))
    assert torch.linalg.vector_norm(torch.cat([g.flatten() for g in given])).isinf()
    assert clip_(given, 1.0) == pytest.approx(true)
    assert norm(given).item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_seen_and_not_clipped(bad):
    given = some()
    given[1][3] = bad
    before = [g.clone() for g in given]
    assert not math.isfinite(clip_(given, 1.0))
    assert all(torch.equal(ours, old) or bad != bad for ours, old in zip(given, before, strict=True))
    assert torch.equal(given[0], before[0])


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64, torch.bfloat16), (torch.float16, torch.float32)])
def test_looking_changes_nothing_and_finds_each_place(dtypes):
    multiply_ = Multiply()
    given = some(dtypes=dtypes)
    before = [g.clone() for g in given]
    assert multiply_(given, 1.0)
    assert all(torch.equal(ours, old) for ours, old in zip(given, before, strict=True))
    for tensor in given:
        for bad in (math.nan, math.inf, -math.inf):
            keep = tensor.clone()
            tensor.view(-1)[-1] = bad
            assert not multiply_(given, 1.0)
            tensor.copy_(keep)
            assert multiply_(given, 1.0)  # and it forgets


def test_multiplies_on_devices_without_the_kernel_alike(monkeypatch):
    given = [some(dtypes=(torch.float32, torch.float64)) for _ in range(2)]
    assert Multiply()(given[0], 0.3)
    monkeypatch.setattr("dlnotes.gradients.KERNEL_DEVICES", ())
    assert Multiply()(given[1], 0.3)
    for kernel, plain in zip(*given, strict=True):
        torch.testing.assert_close(kernel, plain, rtol=1e-7, atol=0)
    given[1][0][0, 0] = math.nan
    assert not Multiply()(given[1], 1.0)


def test_the_gradients_share_memory_whatever_their_form():
    sparse = nn.Embedding(4, 2, sparse=True)
    expanded, imaginary = torch.zeros(3, requires_grad=True), torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    unused = torch.zeros(1, requires_grad=True)
    (sparse(torch.tensor([1, 1, 2])).sum() + (imaginary * 1j).real.sum()).backward()
    expanded.grad = torch.ones(1).expand(3)
    optimizer = torch.optim.SGD([{"params": [sparse.weight, unused]}, {"params": [expanded, imaginary]}], lr=1.0)
    found = gradients(optimizer)
    assert [tuple(g.shape) for g in found] == [(2, 2), (3,), (2, 2)]
    assert all(g.is_floating_point() and not g.is_sparse for g in found)
    for gradient in found:
        gradient.mul_(2)
    assert sparse.weight.grad.to_dense().tolist() == [[0, 0], [4, 4], [2, 2], [0, 0]]
    assert expanded.grad.tolist() == [2, 2, 2]
    assert imaginary.grad.tolist() == [-2j, -2j]
    with pytest.raises(RuntimeError, match="no parameter of the optimizer has a gradient"):
        gradients(torch.optim.SGD([unused], lr=1.0))


def test_a_long_list_of_names_is_cut():
    model = nn.Sequential(*[nn.Linear(1, 1, bias=False) for _ in range(8)])
    for parameter in model.parameters():
        parameter.grad = torch.full((1, 1), math.nan)
    assert "that of 0.weight, 1.weight, 2.weight, 3.weight, 4.weight and 3 more, and no" in why_refused(model, 1.0)


def with_gradients(*gradients):
    """An optimizer over parameters that have these gradients."""
    parameters = []
    for gradient in gradients:
        kind = gradient.dtype
        parameters.append(torch.nn.Parameter(torch.zeros(gradient.shape, dtype=kind)))
        parameters[-1].grad = gradient
    return torch.optim.SGD([*parameters, torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: torch.tensor([1.0, bad]),
        lambda bad: torch.tensor([1.0, bad], dtype=torch.float64),
        lambda bad: torch.tensor([1.0, bad]).bfloat16(),
        lambda bad: torch.tensor([[1.0, 2.0], [bad, 4.0]]).t(),
        lambda bad: torch.tensor([1.0, bad])[:, None].expand(2, 3),
        lambda bad: torch.tensor([[0.0, bad], [0.0, 0.0]]).to_sparse(),
        lambda bad: torch.tensor([1.0, complex(0, bad)]),
    ],
)
def test_look_finds_what_is_not_finite_whatever_its_kind(make):
    finite, plain = Look(torch.device("cpu")), torch.ones(3)
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not finite(with_gradients(plain, make(bad)))
        assert not finite(with_gradients(make(bad), plain))
        assert finite(with_gradients(plain, make(2.0)))  # and the one before has left nothing behind
    assert plain.equal(torch.ones(3))


def test_look_knows_numbers_that_float32_does_not():
    assert Look(torch.device("cpu"))(with_gradients(torch.tensor([1e300, 1.0], dtype=torch.float64)))


def test_look_says_that_there_is_nothing_to_look_at():
    with pytest.raises(RuntimeError, match="no parameter of the optimizer has a gradient"):
        Look(torch.device("cpu"))(with_gradients())
