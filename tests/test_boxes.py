import math
from fractions import Fraction

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.boxes import FORMATS, box_area, box_convert, box_iou, clip_boxes_to_image, corners, generalized_box_iou

EXTREMES = [
    [0.0, 0.0, 1.0, 1.0],
    [0.0, 0.0, 0.0, 0.0],  # a point
    [0.0, 0.0, 5.0, 0.0],  # flat
    [3.0, 0.0, 3.0, 4.0],
    [-1e30, -1e30, 1e30, 1e30],
    [1e37, 1e37, 3e38, 3e38],
    [1e-30, 0.0, 2e-30, 1e-30],
    [7.0, 7.0, 9.0, 8.0],
]


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def boxes(n, seed=0, dtype=torch.float64, whole=False):
    generator = torch.Generator().manual_seed(seed)
    corner, size = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 10 for _ in range(2))
    found = torch.cat([corner, corner + size], dim=1)
    return (found.round() if whole else found).to(dtype)


def exact(a, b):
    """IoU and GIoU of two boxes in fractions, which do not round."""
    a, b = [Fraction(x) for x in a], [Fraction(x) for x in b]

    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    shared = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    shared = area(shared) if shared[2] > shared[0] and shared[3] > shared[1] else Fraction(0)
    union = area(a) + area(b) - shared
    around = area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    iou = shared / union if union else Fraction(0)
    return iou, iou - (around - union) / around if around else iou


# ---- overlaps


@given(seed=st.integers(0, 300), whole=st.booleans())
def test_overlaps_are_exact(seed, whole):
    a, b = boxes(4, seed, whole=whole), boxes(3, seed + 1, whole=whole)
    for found, which in ((box_iou(a, b), 0), (generalized_box_iou(a, b), 1)):
        wanted = [[float(exact(x, y)[which]) for y in b.tolist()] for x in a.tolist()]
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_iou_is_what_counting_pixels_says():
    a, b = boxes(5, whole=True), boxes(4, seed=1, whole=True)
    cells = torch.arange(21) + 0.5

    def inside(x):
        columns, rows = ((cells > x[i]) & (cells < x[i + 2]) for i in (0, 1))
        return rows[:, None] & columns

    for i, x in enumerate(a):
        for j, y in enumerate(b):
            union = (inside(x) | inside(y)).sum()
            wanted = (inside(x) & inside(y)).sum() / union if union else torch.tensor(0.0)
            assert box_iou(a, b)[i, j].item() == pytest.approx(wanted.item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(seed=st.integers(0, 300), scale=st.sampled_from([1e-3, 1.0, 100.0, 1000.0]))
def test_overlaps_stay_within_their_bounds(dtype, seed, scale):
    a = (boxes(12, seed) * scale).to(dtype)
    near = torch.nextafter(a.float(), a.float() + 1).to(dtype)  # nearly equal: where rounding would go beyond 1
    b = torch.cat([a, torch.cat([a[:, :2], near[:, 2:]], dim=1), boxes(6, seed + 1).to(dtype)])
    iou, giou = box_iou(a, b), generalized_box_iou(a, b)
    assert iou.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert ((giou > -1) & (giou <= iou)).all()
    assert (iou.diagonal()[box_area(a) > 0] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(dtype):
    a = torch.tensor(EXTREMES, dtype=dtype)
    for overlap in (box_iou, generalized_box_iou):
        found = overlap(a, a)
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert (found <= 1).all()
        x = a.clone().requires_grad_()
        overlap(x, a).sum().backward()
        assert x.grad.isfinite().all()
    iou = box_iou(a, a)
    assert (iou.diagonal() == 1).tolist() == [i not in (1, 2, 3) for i in range(8)]  # what has no area shares none


def test_float16_areas_do_not_overflow():
    large = torch.tensor([[0.0, 0.0, 1000.0, 1000.0], [0.0, 0.0, 1000.0, 500.0]], dtype=torch.float16)
    assert box_area(large).tolist() == [1e6, 5e5]
    assert box_iou(large, large).tolist() == [[1, 0.5], [0.5, 1]]


def test_whole_numbers():
    found = box_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[0, 0, 2, 1]]))
    assert found.dtype == torch.float32
    assert found.item() == 0.5
    assert box_area(torch.tensor([[0, 0, 2, 3]])).tolist() == [6.0]


def test_gradients():
    a, b = boxes(3).requires_grad_(), boxes(2, seed=1)
    assert torch.autograd.gradcheck(lambda a: box_iou(a, b), a)
    assert torch.autograd.gradcheck(lambda a: generalized_box_iou(a, b), a)


def test_no_boxes():
    none, some = torch.zeros(0, 4), boxes(3, dtype=torch.float32)
    for overlap in (box_iou, generalized_box_iou):
        assert overlap(none, some).shape == (0, 3)
        assert overlap(some, none).shape == (3, 0)
        assert overlap(none, none).shape == (0, 0)
    assert box_area(none).shape == (0,)
    assert box_convert(none, "xyxy", "cxcywh").shape == (0, 4)
    assert clip_boxes_to_image(none, (5, 5)).shape == (0, 4)


# ---- formats


@pytest.mark.parametrize("there", FORMATS)
@pytest.mark.parametrize("here", FORMATS)
def test_formats_make_round_trips(here, there):
    a = boxes(20)
    start = box_convert(a, "xyxy", here)
    torch.testing.assert_close(box_convert(box_convert(start, here, there), there, here), start, rtol=0, atol=1e-13)
    assert box_convert(start, here, here) is not start


def test_formats_by_hand():
    wanted = {"xyxy": [1.0, 2.0, 5.0, 10.0], "xywh": [1.0, 2.0, 4.0, 8.0], "cxcywh": [3.0, 6.0, 4.0, 8.0]}
    for here, a in wanted.items():
        for there, b in wanted.items():
            assert box_convert(torch.tensor([[a]]), here, there).tolist() == [[b]]
    whole = box_convert(torch.tensor([[0, 0, 3, 3]]), "xyxy", "cxcywh")
    assert whole.tolist() == [[1.5, 1.5, 3, 3]]
    assert box_convert(torch.tensor([[1, 1, 3, 3]]), "xyxy", "xywh").dtype == torch.int64


def test_16_bits_are_rounded_once():
    a = torch.tensor([[2047.0, 0.0, 2048.0, 2.0]], dtype=torch.float16)  # the middle needs one bit more
    assert box_convert(a, "xyxy", "cxcywh").tolist() == [[2048.0, 1.0, 1.0, 2.0]]
    assert box_convert(a, "xyxy", "cxcywh").dtype == torch.float16


def test_formats_that_there_are_not():
    for options in (("yxyx", "xyxy"), ("xyxy", "XYWH")):
        with pytest.raises(ValueError, match=r"_fmt must be one of \['xyxy', 'xywh', 'cxcywh'\], got"):
            box_convert(torch.zeros(1, 4), *options)


def test_clipping():
    a = torch.tensor([[-5.0, -5.0, 5.0, 5.0], [90.0, 70.0, 120.0, 90.0], [200.0, 10.0, 300.0, 20.0]])
    wanted = [[0.0, 0.0, 5.0, 5.0], [90.0, 70.0, 100.0, 80.0], [100.0, 10.0, 100.0, 20.0]]
    assert clip_boxes_to_image(a, (80, 100)).tolist() == wanted
    assert clip_boxes_to_image(a.half(), (80, 100)).dtype == torch.float16
    for size in ((-1, 5), (5, math.nan), (math.inf, 5)):
        with pytest.raises(ValueError, match=r"size must be \(height, width\), both at least 0"):
            clip_boxes_to_image.__wrapped__(a, size)


# ---- what is refused

USERS = [box_area, lambda x: box_iou(x, x), lambda x: generalized_box_iou(x, x), lambda x: corners("boxes", x)]


@pytest.mark.parametrize("use", [*USERS, lambda x: clip_boxes_to_image(x, (9, 9))])
@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([3.0, 0.0, 2.0, 1.0], r"\[1\] is inverted, x2 < x1: \[3.0, 0.0, 2.0, 1.0\]"),
        ([0.0, 3.0, 2.0, 1.0], r"\[1\] is inverted, y2 < y1: \[0.0, 3.0, 2.0, 1.0\]"),
        ([0.0, 0.0, math.nan, 1.0], r"\[1\] holds NaN: \[0.0, 0.0, nan, 1.0\]"),
        ([math.nan, 3.0, 2.0, 1.0], r"\[1\] holds NaN"),
        ([0.0, 0.0, math.inf, 1.0], r"\[1\] is not finite, or beyond 1e\+150: \[0.0, 0.0, inf, 1.0\]"),
        ([-math.inf, 0.0, -math.inf, 1.0], r"\[1\] is not finite"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_bad_boxes_are_named_by_index_and_value(use, box, words, dtype):
    with pytest.raises(ValueError, match="boxes1?" + words):
        use(torch.tensor([[0.0, 0.0, 1.0, 1.0], box], dtype=dtype))


def test_more_that_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"boxes must have shape \(…, 4\), got \(2, 5\)"):
        box_area(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"boxes2 must have shape \(N, 4\), got \(1, 2, 4\)"):
        box_iou(torch.zeros(2, 4), torch.zeros(1, 2, 4))
    with pytest.raises(TypeError, match="boxes must be real numbers, got torch.bool"):
        box_area(torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"boxes\[0, 1\] is inverted"):
        box_area(torch.tensor([[[0.0, 0, 1, 1], [1, 0, 0, 1]]]))
    with pytest.raises(ValueError, match=r"beyond 1e\+150"):
        box_area(torch.tensor([[0.0, 0.0, 1e200, 1.0]], dtype=torch.float64))
