import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes import suppression
from dlnotes.boxes import box_iou
from dlnotes.suppression import batched_nms, nms, soft_nms


def crowd(n, seed=0, objects=4, dtype=torch.float32):
    """Boxes around a few objects, with scores of which some are equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 60, (objects, 2), generator=generator)[torch.arange(n) % objects]
    size = torch.randint(8, 30, (n, 2), generator=generator)
    corner = corner + torch.randint(0, 9, (n, 2), generator=generator)
    scores = torch.randint(0, 50, (n,), generator=generator) / 50
    return torch.cat([corner, corner + size], dim=1).to(dtype), scores.to(dtype)


def one_by_one(boxes, scores, threshold, idxs=None):
    """The definition: from the best on, a box stays if none that stays overlaps it."""
    kept = []
    for j in sorted(range(len(scores)), key=lambda j: -scores[j].item()):  # sorted keeps the order of equals
        rivals = [i for i in kept if idxs is None or idxs[i] == idxs[j]]
        if all((box_iou(boxes[i][None], boxes[j][None]) <= threshold).item() for i in rivals):
            kept.append(j)
    return kept


@pytest.mark.parametrize("block", [1, 3, 256])
@given(seed=st.integers(0, 100), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_nms_is_its_definition(block, seed, threshold):
    boxes, scores = crowd(24, seed)
    before, suppression.BLOCK = suppression.BLOCK, block
    try:
        found = nms(boxes, scores, threshold)
    finally:
        suppression.BLOCK = before
    assert found.dtype == torch.int64
    assert found.tolist() == one_by_one(boxes, scores, threshold)


@given(seed=st.integers(0, 100))
def test_classes_do_not_touch_each_other(seed):
    boxes, scores = crowd(24, seed)
    idxs = torch.randint(-2, 3, (24,), generator=torch.Generator().manual_seed(seed))
    found = batched_nms(boxes, scores, idxs, 0.5)
    assert found.tolist() == one_by_one(boxes, scores, 0.5, idxs.tolist())
    alone = [idx[nms(boxes[idx], scores[idx], 0.5)] for c in range(-2, 3) if len(idx := (idxs == c).nonzero()[:, 0])]
    assert sorted(found.tolist()) == sorted(torch.cat(alone).tolist())


def test_a_chain_is_followed_to_its_end():
    # Each overlaps the next alone: the first drops the second, which so cannot drop the third, and so on.
    x = torch.arange(40.0) * 4
    boxes = torch.stack([x, torch.zeros(40), x + 10, torch.full((40,), 10.0)], dim=1)
    assert nms(boxes, torch.arange(40.0).flip(0), 0.4).tolist() == list(range(0, 40, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_keep_what_float32_keeps(dtype):
    boxes, scores = crowd(200, seed=2, objects=20, dtype=dtype)
    boxes = boxes + 1000 * (torch.arange(200) % 5)[:, None].to(dtype)  # far out, where an offset would round
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    idxs = torch.arange(200) % 80
    wanted = batched_nms(boxes.double(), scores.double(), idxs, 0.5)
    assert batched_nms(boxes, scores, idxs, 0.5).tolist() == wanted.tolist()


def test_nothing_to_suppress():
    none = torch.zeros(0, 4), torch.zeros(0)
    assert nms(*none, 0.5).tolist() == []
    assert batched_nms(*none, torch.zeros(0, dtype=torch.int64), 0.5).dtype == torch.int64
    assert [x.shape for x in soft_nms(*none)] == [(0,), (0,)]


def test_flat_boxes_stay():
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0]] * 3 + [[0.0, 0.0, 5.0, 0.0]] * 2)
    assert nms(boxes, torch.ones(5), 0.5).tolist() == [0, 1, 2, 3, 4]


# ---- soft


@given(seed=st.integers(0, 100), sigma=st.sampled_from([0.1, 0.5, 2.0]))
def test_soft_nms_is_its_definition(seed, sigma):
    boxes, scores = crowd(15, seed, dtype=torch.float64)
    scores = scores + torch.arange(15) * 1e-6  # no two equal
    left = {i: scores[i].item() for i in range(15)}
    wanted = []
    while left := {i: s for i, s in left.items() if s >= 0.05}:
        best = max(left, key=lambda i: left[i])
        wanted.append((best, left.pop(best)))
        for i in left:
            left[i] *= math.exp(-(box_iou(boxes[best][None], boxes[i][None]).item() ** 2) / sigma)
    index, lowered = soft_nms(boxes, scores, sigma, 0.05)
    assert index.tolist() == [i for i, _ in wanted]
    assert lowered.tolist() == pytest.approx([s for _, s in wanted])
    assert lowered.tolist() == sorted(lowered.tolist(), reverse=True)


def test_soft_nms_leaves_its_input_alone():
    boxes, scores = crowd(8)
    copy = scores.clone()
    soft_nms(boxes, scores)
    assert torch.equal(scores, copy)


# ---- what is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b, s: nms(b, s[:2], 0.5), r"scores must have shape \(4,\), one a box, got \(2,\)"),
        (lambda b, s: nms(b, s.index_fill(0, torch.tensor(2), math.nan), 0.5), r"scores\[2\] is NaN"),
        (lambda b, s: nms(b, s, 1.5), r"iou_threshold must be in \[0, 1\], got 1.5"),
        (lambda b, s: nms(b, s, -0.5), "iou_threshold must be >= 0, got -0.5"),
        (lambda b, s: nms(b, s, math.nan), "iou_threshold must be >= 0, got nan"),
        (lambda b, s: nms(-b, s, 0.5), r"boxes\[0\] is inverted"),
        (lambda b, s: batched_nms(b, s, torch.zeros(3, dtype=torch.int64), 0.5), r"idxs must have shape \(4,\)"),
        (lambda b, s: soft_nms(b, s, 0.0), "sigma must be > 0, got 0.0"),
        (lambda b, s: soft_nms(b, s, math.nan), "sigma must be >= 0, got nan"),
        (lambda b, s: soft_nms(b, s, 0.5, -1.0), "score_threshold must be >= 0, got -1.0"),
        (lambda b, s: soft_nms(b, -1 - s), "scores must be at least 0, got -"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call(*crowd(4))
