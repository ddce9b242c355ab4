import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.bags import log_sum_exp_loss, matched_probability, mean_max_loss, negative_bag_loss, noisy_or_loss
from dlnotes.focal import sigmoid_focal_loss

LOSSES = [noisy_or_loss, log_sum_exp_loss, mean_max_loss]
each = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def probabilities(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(name, p):
    """A bag's probability as the papers write it, in probabilities."""
    if name == "noisy_or_loss":
        return 1 - (1 - p).prod(-1)
    if name == "log_sum_exp_loss":
        return p.mean(-1)
    weights = 1 / (1 - p).clamp(min=1e-12)
    return (weights / weights.sum(-1, keepdim=True) * p).sum(-1)


@each
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@given(seed=st.integers(0, 200), power=st.sampled_from([1, 4, 0.1]))
def test_is_the_published_formula(loss, reduction, seed, power):
    p = (probabilities(3, 5, seed=seed) ** power).clamp(1e-6, 1 - 1e-3).requires_grad_()
    found, wanted = loss(p.log(), reduction), -published(loss.__name__, p).log()
    wanted = {"none": wanted, "mean": wanted.mean(), "sum": wanted.sum()}[reduction]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    slopes = [torch.autograd.grad((x * x.detach().cos()).sum(), p) for x in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-10)


@each
def test_gradients(loss):
    a = probabilities(3, 4).log().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: loss(a), a)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_all_probabilities_from_0_to_1_are_finite(loss, dtype):
    exponents = torch.tensor([0.0, -1e-30, -1e-8, -1e-3, -1.0, -20.0, -29.9, -31.0, -100.0, -1000.0, -6e4, -math.inf])
    for a in (exponents[:, None], torch.cartesian_prod(exponents, exponents)):
        a = a.to(dtype).requires_grad_()
        losses = loss(a, "none")
        losses.sum().backward()
        assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert losses.isfinite().all()
        assert (losses >= -1e-6).all()
        assert a.grad.isfinite().all()


@each
def test_a_hopeless_bag_still_learns(loss):
    a = torch.full((1, 4), -500.0, requires_grad=True)  # probabilities of e⁻⁵⁰⁰: none in float64
    loss(a).backward()
    assert a.grad.tolist() == [pytest.approx([-0.25] * 4, rel=1e-5)]


@each
def test_a_bag_of_one_is_its_candidate(loss):
    a = probabilities(6, 1).log()
    torch.testing.assert_close(loss(a, "none"), -a[:, 0])


def test_mean_max_goes_from_mean_to_max():
    poor, good = probabilities(1, 8) * 0.01, probabilities(1, 8)
    good[0, 3] = 1 - 1e-9
    torch.testing.assert_close(mean_max_loss(poor.log()).neg().exp(), poor.mean(), rtol=0.01, atol=0)
    torch.testing.assert_close(mean_max_loss(good.log()).neg().exp(), good.max(), rtol=1e-6, atol=0)


def test_log_sum_exp_goes_from_mean_to_max():
    p = probabilities(5, 7)
    sizes = [log_sum_exp_loss(p.log(), "none", r).neg().exp() for r in (1e-6, 1.0, 3.0, 1e4)]
    torch.testing.assert_close(sizes[0], p.log().mean(-1).exp(), rtol=1e-5, atol=0)  # the geometric mean
    torch.testing.assert_close(sizes[1], p.mean(-1))
    torch.testing.assert_close(sizes[2], (p**3).mean(-1) ** (1 / 3))
    torch.testing.assert_close(sizes[3], p.amax(-1), rtol=1e-3, atol=0)


def test_noisy_or_joins_its_two_branches():
    a = torch.tensor([-29.999, -30.001], dtype=torch.float64)[:, None].repeat(1, 3)
    torch.testing.assert_close(noisy_or_loss(a, "none"), -a[:, 0] - math.log(3), rtol=1e-12, atol=1e-12)


@each
def test_no_objects_cost_nothing(loss):
    parameter = torch.ones(5, requires_grad=True)
    for reduction in ("mean", "sum"):
        found = loss(-torch.zeros(0, 5) * parameter, reduction)
        parameter.grad = None
        found.backward()
        assert found.item() == 0
        assert parameter.grad.tolist() == [0] * 5


@each
@pytest.mark.parametrize(
    ("a", "options", "words"),
    [
        (torch.tensor([[0.1, -1.0]]), {}, "log_prob must be logarithms .* got 0.1.*, a probability above 1"),
        (torch.tensor([[math.nan, -1.0]]), {}, "log_prob must be logarithms .* got NaN"),
        (torch.zeros(3, 0), {}, r"bags \(…, K\) of at least one candidate, got shape \(3, 0\)"),
        (torch.zeros(3, 1), {"reduction": "max"}, "reduction must be one of .* got 'max'"),
    ],
)
def test_errors(loss, a, options, words):
    with pytest.raises(ValueError, match=words):
        loss(a, **options)


@pytest.mark.parametrize(("sharpness", "words"), [(0.0, "> 0, got 0.0"), (-1.0, ">= 0"), (math.inf, "finite")])
def test_sharpness_is_a_positive_number(sharpness, words):
    with pytest.raises(ValueError, match=f"sharpness must be {words}"):
        log_sum_exp_loss(torch.zeros(1, 2), sharpness=sharpness)


# ---- the negatives


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_unmatched_candidates_have_the_focal_loss(gamma):
    z = (3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).requires_grad_()
    found = negative_bag_loss(z, torch.zeros_like(z), gamma, "none")
    wanted = sigmoid_focal_loss(z, torch.zeros_like(z), alpha=-1, gamma=gamma)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: negative_bag_loss(z, probabilities(4, 3), gamma), z)


@given(seed=st.integers(0, 200), gamma=st.sampled_from([0.0, 0.5, 2.0]))
def test_negatives_are_the_published_formula(seed, gamma):
    z, m = 4 * probabilities(4, 3, seed=seed) - 2, probabilities(4, 3, seed=seed + 1)
    b = z.sigmoid() * (1 - m)
    for reduction, wanted in (("none", -(b**gamma) * (1 - b).log()), ("sum", (-(b**gamma) * (1 - b).log()).sum())):
        torch.testing.assert_close(negative_bag_loss(z, m, gamma, reduction), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_negatives_are_finite_at_the_extremes(gamma, dtype):
    z = torch.tensor([-6e4, -100.0, -20.0, 0.0, 20.0, 100.0, 6e4])
    for m in (0.0, 1e-7, 0.5, 1.0):
        x = z.to(dtype).requires_grad_()
        losses = negative_bag_loss(x, torch.full_like(z, m).to(dtype), gamma, "none")
        losses.sum().backward()
        assert losses.isfinite().all()
        assert x.grad.isfinite().all()
        assert m != 1 or losses.abs().max() < 1e-6
        assert m != 0 or x.grad[-1] == pytest.approx(1)  # certain and wrong


def test_no_candidates():
    z = torch.zeros(0, 3, requires_grad=True)
    for reduction in ("mean", "sum"):
        assert negative_bag_loss(z, torch.zeros(0, 3), reduction=reduction).item() == 0


def test_matched_by_hand():
    iou = torch.tensor([[0.9, 0.75, 0.3, 0.0], [0.5, 0.0, 0.4, 0.0], [0.7, 0.1, 0.8, 0.65]])
    found = matched_probability(iou, torch.tensor([1, 0, 1]), 3)
    assert found.shape == (4, 3)
    assert found[:, 1].tolist() == pytest.approx([1.0, 0.5, 1.0, 0.25], abs=1e-6)  # the better of the two objects
    assert not found[:, [0, 2]].any()  # of class 0 none overlaps enough
    assert not matched_probability(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 3).any()
    assert matched_probability(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 3).shape == (4, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z, m: negative_bag_loss(z, m + 1), r"matched must be probabilities in \[0, 1\]"),
        (lambda z, m: negative_bag_loss(z, m * math.nan), r"matched must be probabilities in \[0, 1\]"),
        (lambda z, m: negative_bag_loss(z, m, -1.0), "gamma must be >= 0, got -1.0"),
        (lambda z, m: negative_bag_loss(z, m, reduction="max"), "reduction must be one of"),
        (lambda z, m: negative_bag_loss(z, m[:1]), r"target must have input's shape \(2, 3\), got \(1, 3\)"),
        (lambda z, m: matched_probability(m, torch.tensor([0, 3]), 3), r"labels must be in 0 … 2, got \[0, 3\]"),
        (lambda z, m: matched_probability(m, torch.tensor([0]), 3), r"labels must have one class for each row of iou"),
        (lambda z, m: matched_probability(m, torch.tensor([0, 0]), 3, 1.0), r"low must be in \[0, 1\), got 1.0"),
    ],
)
def test_more_errors(unchecked, call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.zeros(2, 3), torch.ones(2, 3) / 2)
