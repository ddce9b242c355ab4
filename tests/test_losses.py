import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dlnotes.losses import binary_cross_entropy_with_logits as ours
from dlnotes.losses import cross_entropy

EACH_REDUCTION = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
IGNORED = -100


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def same(found, wanted, inputs, tolerance=1e-12):
    """Two losses of the same inputs, with their gradients."""
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad((loss * loss.detach().cos()).sum(), inputs) for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


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


@EACH_REDUCTION
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (1,), ()], ids=str)
def test_weights_are_those_of_torch(shape, reduction):
    logits, target = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).sigmoid()
    if len(shape) > 2:
        logits, target = draw(*shape).requires_grad_(), draw(*shape, seed=1).sigmoid()
    weight, pos_weight = draw(*shape[-2:], seed=2).exp(), draw(*shape[-1:], seed=3).exp()
    for options in ({"weight": weight}, {"pos_weight": pos_weight}, {"weight": weight, "pos_weight": pos_weight}):
        expected = F.binary_cross_entropy_with_logits(logits, target, reduction=reduction, **options)
        same(ours(logits, target, reduction, **options), expected, [logits])


def test_weights_of_another_shape():
    for name in ("weight", "pos_weight"):
        for shape in ((2,), (4, 5, 3)):
            with pytest.raises(ValueError, match=rf"{name} must broadcast to input's shape \(5, 3\), got"):
                ours(draw(5, 3), draw(5, 3).sigmoid(), **{name: torch.ones(shape)})


def test_16_bits_are_computed_in_float32():
    logits = torch.full((3,), 70_000.0).to(torch.bfloat16).requires_grad_()
    loss = ours(logits, torch.zeros(3), "sum")  # float16 has no number for it
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(3 * logits[0].item())
    z = torch.tensor([12.0] * 8000, dtype=torch.float16)
    assert ours(z, torch.zeros_like(z), "sum").item() == pytest.approx(8000 * 12, rel=1e-5)
    hot = torch.zeros(8000, 3, dtype=torch.float16)
    hot[:, 0] = 12
    assert cross_entropy(hot, torch.ones(8000, dtype=torch.int64), reduction="sum").item() == pytest.approx(
        96000, rel=1e-5
    )


def test_whole_numbers_are_refused(unchecked):
    with pytest.raises(TypeError, match=r"target must be of floating point, got torch.int64"):
        ours(torch.zeros(2), torch.ones(2, dtype=torch.int64))


def test_the_mean_of_nothing_is_nothing():
    nothing, rows = torch.zeros(0, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    classes = torch.zeros(0, dtype=torch.int64)
    for loss in (ours(nothing, torch.zeros(0)), cross_entropy(rows, classes), cross_entropy(rows, torch.zeros(0, 3))):
        assert loss.item() == 0
        loss.backward()
    assert nothing.grad.shape == (0,)
    assert rows.grad.shape == (0, 3)


# ---- cross-entropy


def targets_of(logits, seed=1):
    """Classes, some ignored, for logits whose classes are the second dimension."""
    shape = logits.shape[:1] + logits.shape[2:] if logits.dim() > 1 else ()
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(logits.shape[min(1, logits.dim() - 1)], shape, generator=generator)
    ignored = torch.arange(target.numel()).view(shape) % 3 == 1
    return target.masked_fill(ignored, IGNORED)


@EACH_REDUCTION
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 5), (2, 3, 4, 5), (2, 1)], ids=str)
def test_cross_entropy_is_that_of_torch(shape, smoothing, weighted, reduction):
    logits = (3 * draw(*shape)).requires_grad_()
    classes = shape[min(1, len(shape) - 1)]
    weight = draw(classes, seed=2).exp() if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
    for target in (targets_of(logits), draw(*shape, seed=3).softmax(min(1, len(shape) - 1))):
        same(cross_entropy(logits, target, **options), F.cross_entropy(logits, target, **options), [logits])


def by_definition(logits, target, weight, smoothing):
    """The mean, sample by sample, of those that are not ignored: the smoothed truth, written out."""
    losses, total = [], 0.0
    for z, y in zip(logits, target.tolist(), strict=True):
        if y != IGNORED:
            truth = (1 - smoothing) * F.one_hot(torch.tensor(y), len(z)).double() + smoothing / len(z)
            losses.append(-(weight * truth * (z - z.exp().sum().log())).sum())
            total += weight[y].item()
    return torch.stack(losses).sum() / total


@given(seed=st.integers(0, 500), smoothing=st.sampled_from([0.0, 0.2, 1.0]))
def test_cross_entropy_by_definition(seed, smoothing):
    logits = draw(6, 4, seed=seed).requires_grad_()
    target, weight = targets_of(logits, seed), draw(4, seed=seed + 1).exp()
    found = cross_entropy(logits, target, weight, label_smoothing=smoothing)
    same(found, by_definition(logits, target, weight, smoothing), [logits])


@EACH_REDUCTION
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_what_is_ignored_is_as_if_absent(smoothing, weighted, reduction):
    logits = draw(9, 4).requires_grad_()
    target = targets_of(logits)
    kept = target != IGNORED
    assert 0 < kept.sum() < 9
    options = {"label_smoothing": smoothing, "weight": draw(4, seed=2).exp() if weighted else None}
    found = cross_entropy(logits, target, reduction=reduction, **options)
    if reduction == "none":
        assert not found[~kept].any()
        found = found[kept]
    same(found, cross_entropy(logits[kept], target[kept], reduction=reduction, **options), [logits])


@pytest.mark.parametrize("weight", [None, torch.tensor([0.0, 1.0, 1.0])], ids=["plain", "weight 0"])
def test_where_nothing_counts_the_mean_is_0(weight):
    logits = torch.ones(2, 3, requires_grad=True)
    target = torch.tensor([IGNORED, IGNORED] if weight is None else [0, 0])
    loss = cross_entropy(logits, target, weight)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_another_class_can_be_ignored():
    logits = draw(3, 4)
    found = cross_entropy(logits, torch.tensor([1, 255, 2]), ignore_index=255)
    torch.testing.assert_close(found, F.cross_entropy(logits[[0, 2]], torch.tensor([1, 2])))


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0]], dtype=torch.float64)  # probabilities 1/2, 1/4, 1/4
    assert cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(math.log(2))
    smoothed = cross_entropy(logits, torch.tensor([0]), label_smoothing=0.3)  # 0.8 log 2 + 0.2 log 4
    assert smoothed.item() == pytest.approx(1.2 * math.log(2))


def test_cross_entropy_gradient_check():
    logits = draw(4, 3).requires_grad_()
    target, weight = torch.tensor([0, IGNORED, 2, 1]), torch.tensor([1.0, 2.0, 0.5]).double()
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, target, weight, label_smoothing=0.1), logits)


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_cross_entropy_of_large_logits_is_finite(size):
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1, 1]), label_smoothing=0.1)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].tolist() == pytest.approx([0.475, -0.475])  # certain and wrong: it still learns


@pytest.mark.parametrize(
    ("logits", "target", "options", "words"),
    [
        ((2, 3), torch.tensor([0, 1]), {"label_smoothing": 1.5}, r"label_smoothing must be in \[0, 1\], got 1.5"),
        ((2, 3), torch.tensor([0, 1]), {"label_smoothing": math.nan}, r"label_smoothing must be in \[0, 1\], got nan"),
        ((2, 3), torch.tensor([0, 1]), {"reduction": "max"}, "reduction must be one of"),
        (
            (2, 3),
            torch.tensor([0]),
            {},
            r"target must have shape \(2,\), input's \(2, 3\) without the classes, got \(1,\)",
        ),
        ((2, 3, 4), torch.tensor([0, 1]), {}, r"target must have shape \(2, 4\)"),
        ((2, 3), torch.ones(2), {}, r"target must have shape \(2, 3\), input's, got \(2,\)"),
        ((2, 3), torch.tensor([0, 1]), {"weight": torch.ones(2)}, r"weight must have shape \(3,\), .* got \(2,\)"),
        ((), torch.tensor(0), {}, "input must be .* got a single number"),
        ((2, 0), torch.tensor([0, 1]), {}, r"at least one class, got shape \(2, 0\)"),
    ],
)
def test_cross_entropy_errors_name_the_argument(logits, target, options, words):
    with pytest.raises(ValueError, match=words):
        cross_entropy(torch.zeros(logits), target, **options)


def test_cross_entropy_of_other_types(unchecked):
    classes = torch.tensor([0])
    with pytest.raises(TypeError, match="input must be of floating point, got torch.int64"):
        cross_entropy(torch.zeros(1, 3, dtype=torch.int64), classes)
    with pytest.raises(TypeError, match="target must be classes, whole numbers or probabilities, got torch.bool"):
        cross_entropy(torch.zeros(1, 3), torch.tensor([True]))
    with pytest.raises(TypeError, match="weight must be of floating point"):
        cross_entropy(torch.zeros(1, 3), classes, torch.tensor([1, 1, 1]))
    with pytest.raises(TypeError, match="label_smoothing must be a number, got '0.1'"):
        cross_entropy(torch.zeros(1, 3), classes, label_smoothing="0.1")
    with pytest.raises(IndexError, match="Target 3 is out of bounds"):
        cross_entropy(torch.zeros(1, 3), torch.tensor([3]))
