import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.anchors import LARGEST_SCALE, decode_boxes, encode_boxes, grid_anchors
from dlnotes.boxes import box_area, box_convert


def boxes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner, size = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 10 for _ in range(2))
    return torch.cat([corner, corner + size + 1], dim=1)


def test_anchors_have_their_places_sizes_and_ratios():
    found = grid_anchors((3, 5), 8, sizes=[10, 20], ratios=[0.5, 1.0, 2.0])
    assert found.shape == (3 * 5 * 6, 4)
    cells = box_convert(found, "xyxy", "cxcywh").view(3, 5, 2, 3, 4)
    for i in range(3):
        for j in range(5):
            assert (cells[i, j, ..., 0] - (j + 0.5) * 8).abs().max() < 1e-4
            assert (cells[i, j, ..., 1] - (i + 0.5) * 8).abs().max() < 1e-4
    areas = box_area(found).view(15, 2, 3)
    torch.testing.assert_close(areas, torch.tensor([[100.0], [400.0]]).expand(15, 2, 3))
    torch.testing.assert_close(cells[..., 3] / cells[..., 2], torch.tensor([0.5, 1.0, 2.0]).expand(3, 5, 2, 3))


@given(seed=st.integers(0, 100))
def test_encoding_makes_round_trips(seed):
    x, anchors = boxes(6, seed), boxes(6, seed + 1)
    torch.testing.assert_close(decode_boxes(encode_boxes(x, anchors), anchors), x, rtol=1e-12, atol=1e-12)
    t = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(encode_boxes(decode_boxes(t, anchors), anchors), t, rtol=1e-10, atol=1e-10)


def test_encoding_by_definition():
    (x,), (a,) = boxes(1).tolist(), boxes(1, seed=1).tolist()
    width, height = a[2] - a[0], a[3] - a[1]
    wanted = [
        ((x[0] + x[2]) / 2 - (a[0] + a[2]) / 2) / width,
        ((x[1] + x[3]) / 2 - (a[1] + a[3]) / 2) / height,
        math.log((x[2] - x[0]) / width),
        math.log((x[3] - x[1]) / height),
    ]
    assert encode_boxes(boxes(1), boxes(1, seed=1))[0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_an_untrained_network_says_stays_a_box(dtype):
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(4, 4)
    t = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, -1000, -1000], [100, -100, 60000, 3], [0, 0, 0, 0]], dtype=dtype)
    t.requires_grad_()
    found = decode_boxes(t, anchors)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert (found[:, 2:] >= found[:, :2]).all()
    assert (found[0, 2] - found[0, 0]).item() == pytest.approx(8 * math.exp(LARGEST_SCALE))
    found.sum().backward()
    assert t.grad.isfinite().all()


def test_no_anchors():
    none = torch.zeros(0, 4)
    assert encode_boxes(none, none).shape == (0, 4)
    assert decode_boxes(none, none).shape == (0, 4)


def test_gradients():
    t, anchors = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), boxes(3)
    assert torch.autograd.gradcheck(lambda t: decode_boxes(t, anchors), t.requires_grad_())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grid_anchors((0, 1), 8, [8]), "rows of grid must be >= 1, got 0"),
        (lambda: grid_anchors((1, 1), 0, [8]), r"stride must be above 0 and finite, got \[0\]"),
        (lambda: grid_anchors((1, 1), 8, []), r"sizes must be above 0 and finite, got \[\]"),
        (lambda: grid_anchors((1, 1), 8, [8], [1.0, -1.0]), r"ratios must be above 0 and finite"),
        (lambda: grid_anchors((1, 1), 8, [math.inf]), r"sizes must be above 0 and finite"),
        (lambda: encode_boxes(torch.tensor([0.0, 0, 0, 1]), torch.ones(4)), r"boxes\[\] has a side of length 0"),
        (lambda: encode_boxes(boxes(2), boxes(2) * torch.tensor([[1], [0]])), r"anchors\[1\] has a side of length 0"),
        (lambda: encode_boxes(-boxes(2), boxes(2)), r"boxes\[0\] is inverted"),
        (
            lambda: encode_boxes.__wrapped__(boxes(2), boxes(3)),
            r"anchors must have boxes' shape .* got",
        ),
        (
            lambda: decode_boxes.__wrapped__(boxes(2), boxes(3)),
            r"anchors must have deltas' shape .* got",
        ),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
