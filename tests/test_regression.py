import math

import jaxtyping
import pytest
import torch
from torch.nn import functional as F

from dlnotes.regression import huber_loss, l1_loss, normalized_regression_loss, smooth_l1_loss

CASES = [
    (l1_loss, F.l1_loss, {}),
    *((smooth_l1_loss, F.smooth_l1_loss, {"beta": beta}) for beta in (0.0, 0.3, 1.0, 5.0)),
    *((huber_loss, F.huber_loss, {"delta": delta}) for delta in (0.3, 1.0, 5.0)),
]
IDS = [f"{ours.__name__}{options}" for ours, _, options in CASES]
each = pytest.mark.parametrize(("ours", "theirs", "options"), CASES, ids=IDS)


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes(n, seed=0):
    corner, size = draw(n, 2, seed=seed), draw(n, 2, seed=seed + 1).exp()
    return torch.cat([corner, corner + size], dim=1)


def by_cases(name, r, beta=1.0, delta=1.0):
    """One residual's loss, by the cases of its definition."""
    size = abs(r)
    if name == "huber_loss":
        return r * r / 2 if size < delta else delta * (size - delta / 2)
    if name == "l1_loss" or beta == 0:
        return size
    return r * r / (2 * beta) if size < beta else size - beta / 2


@each
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_equals_torch_and_the_definition(ours, theirs, options, reduction):
    x, y = (2 * draw(6, 4)).requires_grad_(), draw(6, 4, seed=1)
    found, wanted = (loss(x, y, reduction=reduction, **options) for loss in (ours, theirs))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(loss.sum(), x) for loss in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
    residuals = (x - y).flatten().tolist()
    single = torch.tensor([by_cases(ours.__name__, r, **options) for r in residuals], dtype=torch.float64)
    single = {"none": single.view(6, 4), "mean": single.mean(), "sum": single.sum()}[reduction]
    torch.testing.assert_close(found, single, rtol=1e-12, atol=1e-12)


@each
def test_gradients(ours, theirs, options):
    x = draw(7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ours(x, draw(7, seed=1), **options), x)


@each
def test_16_bits_are_computed_in_float32(ours, theirs, options):
    x = torch.full((1000,), 300.0, dtype=torch.float16, requires_grad=True)
    loss = ours(x, torch.zeros_like(x), "sum", **options)  # 300,000 for L1: float16 ends at 65504
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1000 * by_cases(ours.__name__, 300.0, **options))
    loss.backward()
    assert x.grad.isfinite().all()


@each
def test_extremes(ours, theirs, options):
    x = torch.tensor([0.0, 1e-40, 1e30, -1e30], requires_grad=True)
    losses = ours(x, torch.zeros(4), "none", **options)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert x.grad.isfinite().all()
    assert x.grad[0] == 0


@each
def test_nothing_to_regress(ours, theirs, options):
    parameter = torch.ones(4, requires_grad=True)
    for reduction in ("mean", "sum"):
        parameter.grad = None
        loss = ours(torch.zeros(0, 4) * parameter, torch.zeros(0, 4), reduction, **options)
        loss.backward()
        assert loss.item() == 0
        assert parameter.grad.tolist() == [0] * 4


def test_huber_is_a_scaled_smooth_l1():
    x, y = 3 * draw(20), draw(20, seed=1)
    torch.testing.assert_close(huber_loss(x, y, delta=0.7), 0.7 * smooth_l1_loss(x, y, beta=0.7))


def test_another_shape_is_refused(unchecked):
    for loss in (l1_loss, smooth_l1_loss, huber_loss, normalized_regression_loss):
        with pytest.raises(ValueError, match=r"target must have input's shape \(4, 1\), got \(4,\)"):
            loss(torch.zeros(4, 1), torch.zeros(4))
        with pytest.raises(TypeError, match="input must be of floating point, got torch.int64"):
            loss(torch.zeros(4, dtype=torch.int64), torch.zeros(4))
        with pytest.raises(ValueError, match="reduction must be one of .* got 'max'"):
            loss(torch.zeros(2, 4), torch.zeros(2, 4), "max")
    with pytest.raises(ValueError, match=r"target must be boxes \(…, 4\), got shape \(2, 3\)"):
        normalized_regression_loss(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        (smooth_l1_loss, {"beta": -1.0}, "beta must be >= 0, got -1.0"),
        (smooth_l1_loss, {"beta": math.nan}, "beta must be >= 0, got nan"),
        (huber_loss, {"delta": 0.0}, "delta must be > 0, got 0.0"),
        (huber_loss, {"delta": -1.0}, "delta must be >= 0, got -1.0"),
        (huber_loss, {"delta": math.inf}, "delta must be finite, got inf"),
        (normalized_regression_loss, {"beta": -1.0}, "beta must be >= 0"),
        (normalized_regression_loss, {"min_size": 0.0}, "min_size must be > 0, got 0.0"),
        (normalized_regression_loss, {"min_size": math.nan}, "min_size must be > 0, got nan"),
    ],
)
def test_errors_name_the_argument(loss, options, words):
    with pytest.raises(ValueError, match=words):
        loss(torch.zeros(2, 4), torch.zeros(2, 4), **options)


# ---- residuals in units of the target


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_normalized_is_smooth_l1_of_scaled_residuals(beta):
    x, y = (boxes(9) + 0.1 * draw(9, 4, seed=5)).requires_grad_(), boxes(9)
    found = normalized_regression_loss(x, y, "none", beta)
    for i, (box, true) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        width, height = true[2] - true[0], true[3] - true[1]
        residuals = [(a - b) / s for a, b, s in zip(box, true, [width, height] * 2, strict=True)]
        assert found[i].tolist() == pytest.approx([by_cases("smooth_l1_loss", r, beta) for r in residuals], abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: normalized_regression_loss(x, y, "sum", beta), x)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_normalized_does_not_know_the_scale_nor_the_place(scale):
    x, y = boxes(9) + 0.1 * draw(9, 4, seed=5), boxes(9)
    wanted = normalized_regression_loss(x, y, "none")
    torch.testing.assert_close(normalized_regression_loss(scale * x, scale * y, "none"), wanted)
    torch.testing.assert_close(normalized_regression_loss(x + 7, y + 7, "none"), wanted)
    torch.testing.assert_close(l1_loss(scale * x, scale * y), scale * l1_loss(x, y))


def test_normalized_is_finite_for_flat_targets():
    x = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 3, requires_grad=True)
    y = torch.tensor([[0.0, 0.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    loss = normalized_regression_loss(x, y, "none", min_size=1.0)
    loss.sum().backward()
    assert loss[0].tolist() == [0, 0, 0, 2]  # a height of 0 counts as 1
    assert loss[1].tolist() == [1, 1, 1, 1]
    assert not loss[2].any()
    assert x.grad.isfinite().all()
    assert normalized_regression_loss(x, y).isfinite()
