r"""Non-maximum suppression: of boxes that show the same object, the one with the highest score stays."""

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from dlnotes.arguments import check_not_negative
from dlnotes.boxes import box_iou, corners

BLOCK = 256  # boxes compared at once with all that are left: 10⁴ boxes never need their 10⁸ overlaps


def nms(
    boxes: Num[Tensor, "n 4"], scores: Float[Tensor, " scores"], iou_threshold: float
) -> Int[Tensor, " kept"]:  # fmt: skip
    r"""Keep the best box, drop those that overlap it by more than ``iou_threshold``, go on with the best left.

    Whether a box stays depends on better ones alone, so in order of score

    .. math:: k_j = \lnot \bigvee_{i < j} \left(k_i \wedge \operatorname{IoU}_{ij} > t\right)

    has one solution. It is found block by block, by repeating the formula until nothing changes.

    Args:
        boxes: (N, 4) corners.
        scores: (N,), the higher the better. Of equal scores the first box is the better.
        iou_threshold: :math:`t` in [0, 1].

    Returns:
        indices of the boxes that stay, best first, ``int64``.

    Raises:
        ValueError: shapes differ, a score is NaN, ``iou_threshold`` is out of range, or as
            :func:`~dlnotes.boxes.corners`.

    As ``torchvision.ops.nms``. Source: Felzenszwalb et al., *Object Detection with Discriminatively Trained Part-Based
    Models* (2010), section 7.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)
    tensor([1, 2])
    """
    return _suppress(boxes, scores, None, iou_threshold)


def batched_nms(
    boxes: Num[Tensor, "n 4"], scores: Float[Tensor, " scores"], idxs: Int[Tensor, " idxs"], iou_threshold: float
) -> Int[Tensor, " kept"]:
    r"""Non-maximum suppression in which boxes of different classes do not touch each other.

    Args:
        boxes: (N, 4) corners.
        scores: (N,), the higher the better.
        idxs: (N,), the class (or the image) of each box.
        iou_threshold: in [0, 1].

    Returns:
        indices of the boxes that stay, best first, of all classes together.

    Raises:
        ValueError: as :func:`nms`.

    As ``torchvision.ops.batched_nms``, which moves the classes apart by adding offsets to the coordinates: in float16
    they round, and boxes are kept that should not be. Here classes are compared.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> batched_nms(boxes, torch.tensor([0.8, 0.9]), torch.tensor([0, 1]), 0.5)
    tensor([1, 0])
    """
    return _suppress(boxes, scores, idxs, iou_threshold)


def _suppress(boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float) -> Tensor:
    boxes = _scored(boxes, scores, idxs).detach()
    check_not_negative(iou_threshold=iou_threshold)
    if iou_threshold > 1:
        raise ValueError(f"iou_threshold must be in [0, 1], got {iou_threshold}")
    left = scores.detach().argsort(descending=True, stable=True)
    kept = [left[:0]]
    while len(left):
        block = left[:BLOCK]
        overlaps = box_iou(boxes[block], boxes[left]) > iou_threshold  # (block, left)
        if idxs is not None:
            overlaps &= idxs[block][:, None] == idxs[left]
        better = overlaps[:, : len(block)].triu(1)  # (i, j): i is better than j and overlaps it
        stays = torch.ones_like(block, dtype=torch.bool)
        while not torch.equal(stays, new := ~(better & stays[:, None]).any(0)):
            stays = new
        kept.append(block[stays])
        left = left[len(block) :][~overlaps[stays, len(block) :].any(0)]
    return torch.cat(kept)


def soft_nms(
    boxes: Num[Tensor, "n 4"], scores: Float[Tensor, " scores"], sigma: float = 0.5, score_threshold: float = 0.001
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " kept"]]:
    r"""Suppression that lowers the scores of overlapping boxes in place of dropping them.

    .. math:: s_j \leftarrow s_j\, e^{-\operatorname{IoU}(M, b_j)^2 / \sigma}

    for every box left, after each choice of the best one :math:`M`.

    Args:
        boxes: (N, 4) corners.
        scores: (N,), at least 0.
        sigma: :math:`\sigma > 0`, default 0.5; the smaller, the harder.
        score_threshold: boxes whose score falls below it are dropped, default 0.001.

    Returns:
        indices of the boxes that stay, and their scores, both in order of the lowered scores, best first.

    Raises:
        ValueError: as :func:`nms`; a score is negative; ``sigma`` or ``score_threshold`` is out of range.

    Source: Bodla et al., *Soft-NMS* (2017).

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]])
    >>> soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]))
    (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.4852]))
    """
    boxes = _scored(boxes, scores, None).detach()
    check_not_negative(sigma=sigma, score_threshold=score_threshold)
    if sigma == 0:
        raise ValueError(f"sigma must be > 0, got {sigma}")
    left, lowered = torch.arange(len(scores), device=scores.device), scores.detach().to(boxes.dtype, copy=True)
    if len(left) and lowered.min() < 0:
        raise ValueError(f"scores must be at least 0, got {lowered.min().item()}")
    kept: list[int] = []
    while len(left := left[lowered[left] >= score_threshold]):
        best = left[lowered[left].argmax()]
        kept.append(int(best))
        left = left[left != best]
        lowered[left] *= (-box_iou(boxes[best][None], boxes[left])[0].square() / sigma).exp()
    index = torch.tensor(kept, dtype=torch.int64, device=scores.device)
    return index, lowered[index].to(scores.dtype)


def _scored(boxes: Tensor, scores: Tensor, idxs: Tensor | None) -> Tensor:
    r"""The boxes as one computes with them, after a look at their scores and classes."""
    found = corners("boxes", boxes)
    if found.dim() != 2:
        raise ValueError(f"boxes must have shape (N, 4), got {tuple(boxes.shape)}")
    for name, values in (("scores", scores), ("idxs", idxs)):
        if values is not None and tuple(values.shape) != (len(boxes),):
            raise ValueError(f"{name} must have shape ({len(boxes)},), one a box, got {tuple(values.shape)}")
    if scores.isnan().any():
        raise ValueError(f"scores[{int(scores.isnan().nonzero()[0])}] is NaN")
    return found
