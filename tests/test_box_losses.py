import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.box_losses import box_iou_loss, complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss
from dlnotes.boxes import box_iou, generalized_box_iou

LOSSES = [box_iou_loss, generalized_box_iou_loss, distance_box_iou_loss, complete_box_iou_loss]
each = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
POINT, FLAT, TALL, UNIT = [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 5.0, 1.0], [3.0, 0.0, 3.0, 4.0], [0.0, 0.0, 1.0, 1.0]
EXTREMES = {
    "equal": (UNIT, UNIT),
    "apart": (UNIT, [50.0, 60.0, 70.0, 90.0]),
    "touching": (UNIT, [1.0, 0.0, 2.0, 1.0]),
    "nested": (UNIT, [0.2, 0.2, 0.4, 0.4]),
    "equal points": (POINT, POINT),
    "two points": (POINT, [2.0, 2.0, 2.0, 2.0]),
    "a point inside": (POINT, [0.0, 0.0, 2.0, 2.0]),
    "flat": (FLAT, FLAT),
    "flat and tall": (FLAT, TALL),
    "tall": (TALL, TALL),
    "flat and a box": (FLAT, UNIT),
    "a box and tall": (UNIT, TALL),
    "tiny": ([0.0, 0.0, 1e-30, 1e-30], [0.0, 0.0, 1e-30, 2e-30]),
    "hardly tall": ([0.0, 0.0, 1e-35, 0.0], UNIT),
    "huge": ([-1e30, -1e30, 1e30, 1e30], [-1e30, 0.0, 1e30, 1e30]),
    "largest": ([-3e38, -3e38, 3e38, 3e38], UNIT),
}


def boxes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner, size = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 10 for _ in range(2))
    return torch.cat([corner, corner + size], dim=1)


def published(name, a, b, eps=1e-7):
    """One pair's loss, box by box as the papers write it, with torchvision's eps."""
    zero = a.new_zeros(())
    overlap = [torch.min(a[i + 2], b[i + 2]) - torch.max(a[i], b[i]) for i in (0, 1)]
    inter = overlap[0] * overlap[1] if overlap[0] > 0 and overlap[1] > 0 else zero
    (wa, ha), (wb, hb) = a[2:] - a[:2], b[2:] - b[:2]
    union = wa * ha + wb * hb - inter
    iou = inter / (union + eps)
    around = torch.max(a[2:], b[2:]) - torch.min(a[:2], b[:2])
    if name == "box_iou_loss":
        return 1 - iou
    if name == "generalized_box_iou_loss":
        hull = around.prod()
        return 1 - (iou - (hull - union) / (hull + eps))
    apart = (((a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2) ** 2).sum()
    loss = 1 - iou + apart / ((around**2).sum() + eps)
    if name == "distance_box_iou_loss":
        return loss
    v = 4 / math.pi**2 * (torch.atan(wb / hb) - torch.atan(wa / ha)) ** 2
    return loss + (v / (1 - iou + v + eps)).detach() * v


@each
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@given(seed=st.integers(0, 60), eps=st.sampled_from([1e-7, 1e-3]))
def test_is_the_published_formula(loss, reduction, seed, eps):
    a, b = boxes(4, seed).requires_grad_(), boxes(4, seed + 1).requires_grad_()
    found = loss(a, b, reduction, eps)
    wanted = torch.stack([published(loss.__name__, x, y, eps) for x, y in zip(a, b, strict=True)])
    wanted = {"none": wanted, "mean": wanted.mean(), "sum": wanted.sum()}[reduction]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad((value * value.detach().cos()).sum(), [a, b]) for value in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


def test_agrees_with_the_overlaps_of_each_with_each():
    a, b = boxes(9), boxes(9, seed=1)
    torch.testing.assert_close(box_iou_loss(a, b), 1 - box_iou(a, b).diagonal(), rtol=0, atol=1e-6)
    giou = generalized_box_iou(a, b).diagonal()
    torch.testing.assert_close(generalized_box_iou_loss(a, b), 1 - giou, rtol=0, atol=1e-6)


@each
def test_gradients(loss):
    a, b = boxes(5).requires_grad_(), boxes(5, seed=1)
    if loss is complete_box_iou_loss:  # its α is no constant for who changes the boxes and looks
        b = a.detach() + 3 * torch.tensor([1.0, 0.5, 1.0, 0.5], dtype=torch.float64)  # sides alike: v = 0
    assert torch.autograd.gradcheck(lambda a: loss(a, b), a)


@each
def test_bounds(loss):
    a, b = boxes(300), torch.cat([boxes(150, seed=1), boxes(150, seed=2) + 30])
    found, most = loss(a, b), {"box_iou_loss": 1.0, "complete_box_iou_loss": 3.0}.get(loss.__name__, 2.0)
    assert ((found >= 0) & (found <= most)).all()
    torch.testing.assert_close(loss(a, a), torch.zeros(300, dtype=torch.float64), rtol=0, atol=1e-3)
    torch.testing.assert_close(found, loss(b, a))
    torch.testing.assert_close(loss(7 * a, 7 * b), found, rtol=0, atol=1e-5)  # but for eps, no scale


def test_apart_only_the_iou_loss_is_silent():
    a = torch.tensor([UNIT], requires_grad=True)
    pushes = [torch.autograd.grad(loss(a, torch.tensor([[5.0, 0.0, 6.0, 1.0]])).sum(), a)[0] for loss in LOSSES]
    assert [bool(push.any()) for push in pushes] == [False, True, True, True]
    assert all(push[0, 2] < 0 for push in pushes[1:])  # the near edge moves towards the target


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", EXTREMES)
def test_extremes_are_finite(loss, case, dtype):
    for pair in (EXTREMES[case], EXTREMES[case][::-1]):
        a, b = (torch.tensor([box], dtype=dtype, requires_grad=True) for box in pair)
        found = loss(a, b)
        found.sum().backward()
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert a.grad.isfinite().all()
        assert b.grad.isfinite().all()


def test_extremes_by_hand():
    huge = [torch.tensor([box]) for box in EXTREMES["huge"]]  # half the area; centres 1e30/2 apart
    assert box_iou_loss(*huge).item() == pytest.approx(0.5)
    assert generalized_box_iou_loss(*huge).item() == pytest.approx(0.5)
    assert distance_box_iou_loss(*huge).item() == pytest.approx(0.5 + 0.25 / 8)
    points = [torch.tensor([POINT])] * 2
    assert [loss(*points).item() for loss in LOSSES] == [1, 1, 1, 1]
    flats = torch.tensor([FLAT]), torch.tensor([TALL])
    assert complete_box_iou_loss(*flats).item() == pytest.approx(1 + 1.25 / 41 + 1 / 2)  # v = 1, α = 1/2


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_computed_in_float32(loss, dtype):
    a, b = (100 * boxes(5, seed) for seed in (0, 1))
    a, b = a.to(dtype).requires_grad_(), b.to(dtype)  # up to 2000 pixels: areas beyond float16
    found = loss(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(a.float(), b.float()))
    found.sum().backward()
    assert a.grad.dtype == dtype
    assert a.grad.isfinite().all()


@each
def test_no_boxes_cost_nothing(loss):
    parameter = torch.ones(4, requires_grad=True)
    for reduction in ("mean", "sum"):
        found = loss(torch.zeros(0, 4) * parameter, torch.zeros(0, 4), reduction)
        assert found.item() == 0
        parameter.grad = None
        found.backward()
        assert parameter.grad.tolist() == [0] * 4
    assert loss(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


@each
def test_a_nan_is_reported_as_nan(loss):
    good, bad = torch.tensor([UNIT, UNIT]), torch.tensor([UNIT, [0.0, 0.0, math.nan, 1.0]])
    with pytest.raises(ValueError, match=r"boxes1\[1\] holds NaN: \[0.0, 0.0, nan, 1.0\]"):
        loss(bad, good)
    with pytest.raises(ValueError, match=r"boxes2\[1\] holds NaN"):
        loss(good, bad)


@each
def test_errors(loss):
    good = torch.tensor([UNIT, UNIT])
    with pytest.raises(ValueError, match=r"boxes2\[0\] is inverted, x2 < x1: \[-0.0, -0.0, -1.0, -1.0\]"):
        loss(good, -good)
    with pytest.raises(ValueError, match=r"boxes2 must have boxes1's shape \(2, 4\), got \(1, 4\)"):
        loss(good, good[:1])
    with pytest.raises(ValueError, match="reduction must be one of .* got 'max'"):
        loss(good, good, "max")
    for eps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"eps must be > 0 and finite, got {eps}"):
            loss(good, good, eps=eps)
