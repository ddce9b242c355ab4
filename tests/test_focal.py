import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dlnotes.focal import sigmoid_focal_loss, softmax_focal_loss
from dlnotes.losses import cross_entropy

GAMMAS = [0.0, 0.1, 0.5, 1.0, 2.0, 5.0]
ALPHAS = [-1.0, 0.0, 0.25, 1.0]


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(inputs, targets, alpha=0.25, gamma=2.0):
    """The paper's formula, p_t by cases, with the loss of plain torch."""
    p = inputs.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets) if alpha >= 0 else 1.0
    return alpha_t * (1 - p_t) ** gamma * F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")


@given(
    seed=st.integers(0, 500), gamma=st.sampled_from(GAMMAS), alpha=st.sampled_from(ALPHAS), soft=st.booleans(),
    reduction=st.sampled_from(["none", "mean", "sum"]),
)  # fmt: skip
def test_is_the_published_formula(seed, gamma, alpha, soft, reduction):
    z = (3 * draw(4, 5, seed=seed)).requires_grad_()
    y = draw(4, 5, seed=seed + 1).sigmoid()
    y = y if soft else y.round()
    found = sigmoid_focal_loss(z, y, alpha, gamma, reduction)
    wanted = published(z, y, alpha, gamma)
    wanted = {"none": wanted, "mean": wanted.mean(), "sum": wanted.sum()}[reduction]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((loss * loss.detach().cos()).sum(), z) for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(sigmoid_focal_loss(z, y, alpha, gamma, reduction), found)


def test_defaults_are_those_of_torchvision():
    z, y = draw(3, 4), draw(3, 4, seed=1).sigmoid().round()
    torch.testing.assert_close(sigmoid_focal_loss(z, y), published(z, y, 0.25, 2.0))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradients_and_their_gradients(gamma, soft):
    z = (2 * draw(6)).requires_grad_()
    y = draw(6, seed=1).sigmoid()
    y = y if soft else y.round()
    assert torch.autograd.gradcheck(lambda z: sigmoid_focal_loss(z, y, gamma=gamma), z)
    assert torch.autograd.gradgradcheck(lambda z: sigmoid_focal_loss(z, y, gamma=gamma), z)


def test_by_hand():
    # a positive given 3/4, without alpha: (1/4)² log(4/3); a negative: (3/4)² log 4
    z = torch.tensor([math.log(3.0)] * 2, dtype=torch.float64)
    found = sigmoid_focal_loss(z, torch.tensor([1.0, 0.0]).double(), alpha=-1)
    assert found.tolist() == pytest.approx([math.log(4 / 3) / 16, 9 / 16 * math.log(4)])


def test_alpha_is_the_weight_of_positives():
    z, y = torch.zeros(2), torch.tensor([1.0, 0.0])
    positive, negative = sigmoid_focal_loss(z, y, alpha=0.25).tolist()
    assert 3 * positive == pytest.approx(negative)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_certain_predictions_have_finite_losses_and_gradients(gamma, dtype):
    sizes = torch.tensor([0.0, 1.0, 20.0, 90.0, 100.0, 1000.0, 60000.0])
    z = torch.cat([sizes, -sizes]).to(dtype).requires_grad_()
    for y in (0.0, 0.5, 1.0):
        targets = torch.full_like(z, y, requires_grad=False)
        loss = sigmoid_focal_loss(z, targets, 0.25, gamma)
        (slope,) = torch.autograd.grad(loss.sum(), z)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert loss.isfinite().all()
        assert slope.isfinite().all()
    wrong = slope[7:]  # the last targets are positive: a certain miss pushes with its whole weight
    assert wrong[2:].tolist() == pytest.approx([-0.25] * 5, rel=1e-2)


def test_a_right_answer_is_not_rounded_away():
    z = torch.tensor([-20.0, 20.0])
    found = sigmoid_focal_loss(z, torch.tensor([0.0, 1.0]), alpha=-1, gamma=0.5)
    assert found.tolist() == pytest.approx([math.exp(-20) ** 1.5] * 2, rel=1e-5)


def test_nothing_to_classify():
    z = torch.zeros(0, 20, requires_grad=True)
    for reduction in ("mean", "sum"):
        loss = sigmoid_focal_loss(z, torch.zeros(0, 20), reduction=reduction)
        assert loss.item() == 0
        loss.backward()


def test_no_positives():
    z = torch.zeros(3, 2, requires_grad=True)
    sigmoid_focal_loss(z, torch.zeros(3, 2), reduction="sum").backward()
    assert (z.grad > 0).all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_of_two_classes_is_sigmoid(gamma):
    z = (3 * draw(8)).requires_grad_()
    target = draw(8, seed=1).sigmoid().round()
    pair = torch.stack([torch.zeros_like(z), z], dim=1)
    found = softmax_focal_loss(pair, target.long(), gamma=gamma, reduction="none")
    wanted = sigmoid_focal_loss(z, target, alpha=-1, gamma=gamma)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(loss.sum(), z) for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_without_gamma_is_cross_entropy(weighted, reduction):
    z, target = draw(5, 3, 2).requires_grad_(), torch.tensor([[0, 1], [2, -100], [1, 1], [-100, -100], [0, 2]])
    weight = torch.tensor([1.0, 2.0, 0.5]).double() if weighted else None
    found = softmax_focal_loss(z, target, weight, reduction=reduction, gamma=0)
    torch.testing.assert_close(found, cross_entropy(z, target, weight, reduction=reduction), rtol=1e-12, atol=1e-12)


def test_softmax_by_definition():
    z, target, gamma = draw(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2]), 1.5
    p = z.exp() / z.exp().sum(1, keepdim=True)
    wanted = [-((1 - p[n, y]) ** gamma) * p[n, y].log() for n, y in enumerate(target.tolist())]
    torch.testing.assert_close(softmax_focal_loss(z, target, gamma=gamma), torch.stack(wanted).mean())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_gradients(gamma):
    z, target = draw(5, 3).requires_grad_(), torch.tensor([0, 1, 2, -100, 1])
    assert torch.autograd.gradcheck(lambda z: softmax_focal_loss(z, target, gamma=gamma), z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_of_certain_predictions_is_finite(gamma, dtype):
    rows = [[size, -size, 0.0] for size in (0.0, 5.0, 100.0, 1000.0, 60000.0)]
    for y in range(3):
        z = torch.tensor(rows, dtype=dtype, requires_grad=True)
        loss = softmax_focal_loss(z, torch.full((5,), y), gamma=gamma, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), z)
        assert loss.dtype == torch.float32
        assert loss.isfinite().all()
        assert slope.isfinite().all()
        assert y != 1 or (slope[1:, 1] < -0.9).all()  # certain and wrong


def test_softmax_where_nothing_counts():
    z = torch.ones(2, 3, requires_grad=True)
    loss = softmax_focal_loss(z, torch.tensor([-100, -100]))
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": -1.0}, "gamma must be >= 0, got -1.0"),
        ({"gamma": math.nan}, "gamma must be >= 0, got nan"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], or negative for no weights, got 1.5"),
        ({"alpha": math.nan}, r"alpha must be in \[0, 1\]"),
        ({"reduction": "max"}, "reduction must be one of .* got 'max'"),
    ],
)
def test_errors_name_the_argument(options, words):
    with pytest.raises(ValueError, match=words):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2), **options)
    options.pop("alpha", None)
    if options:
        with pytest.raises(ValueError, match=words):
            softmax_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), **options)


def test_targets_that_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"target must have input's shape \(2,\), got \(2, 1\)"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="targets must not require a gradient"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2, requires_grad=True))
    with pytest.raises(TypeError, match="target must be of floating point, got torch.int64"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeError, match="target must be classes, whole numbers, got torch.float32"):
        softmax_focal_loss(torch.zeros(2, 3), torch.zeros(2, 3))
