import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dlnotes.losses import binary_cross_entropy_with_logits as ours


@given(
    shape=st.lists(st.integers(1, 5), max_size=3), seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 50.0])
)
def test_equals_torch_in_value_and_gradient(shape, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    for reduction in ("none", "mean", "sum"):
        loss = ours(logits, target, reduction=reduction)
        expected = F.binary_cross_entropy_with_logits(logits, target, reduction=reduction)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        gradient, expected_gradient = (torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected))
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)


def test_by_hand():
    # one coin of log-odds log 3 (probability 3/4): tails costs log 4, heads log(4/3)
    z = torch.tensor([math.log(3.0)] * 2, dtype=torch.float64, requires_grad=True)
    losses = ours(z, torch.tensor([0.0, 1.0], dtype=torch.float64), reduction="none")
    expected = torch.tensor([math.log(4), math.log(4 / 3)], dtype=torch.float64)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(
        torch.autograd.grad(losses.sum(), z)[0], torch.tensor([0.75, -0.25], dtype=torch.float64)
    )


def test_gradient_check():
    logits = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: ours(z, torch.full_like(z, 0.3)), logits)


@pytest.mark.parametrize("z", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_large_logits_neither_overflow_nor_lose_the_gradient(z, y):
    logit = torch.tensor(z, requires_grad=True)
    loss = ours(logit, torch.tensor(y))
    assert loss.item() == pytest.approx(max(z, 0) - y * z + math.log1p(math.exp(-abs(z))), rel=1e-6)
    loss.backward()
    assert logit.grad.item() == pytest.approx(torch.sigmoid(torch.tensor(z)).item() - y, abs=1e-6)


@pytest.mark.parametrize(("z", "y"), [(20.0, 1.0), (-20.0, 0.0), (50.0, 1.0), (-80.0, 0.0)])
def test_a_tiny_loss_is_not_rounded_away(z, y):
    loss = ours(torch.tensor(z), torch.tensor(y))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-abs(z))), rel=1e-6)
    double = F.binary_cross_entropy_with_logits(torch.tensor(z).double(), torch.tensor(y).double())
    assert loss.item() == pytest.approx(double.item(), rel=1e-6, abs=1e-14)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="reduction must be one of .* got 'max'"):
        ours(torch.zeros(2), torch.zeros(2), reduction="max")


def test_shapes_must_agree():
    # The type checker of the tests sees it first; without it the function's own ValueError does.
    with pytest.raises(Exception, match="target"):
        ours(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match=r"target must have input's shape \(2, 1\), got \(2,\)"):
        ours.__wrapped__(torch.zeros(2, 1), torch.zeros(2))
