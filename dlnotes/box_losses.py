r"""Losses of predicted boxes by how they overlap the true ones, pair by pair: IoU, GIoU, DIoU, CIoU.

.. math:: \ell = 1 - \operatorname{IoU} + P

where the penalty :math:`P` is 0 for the IoU loss, whose gradient vanishes for boxes that are apart; and for the others
makes a difference there too. They do not know the boxes' scale, but for :math:`\epsilon`.

Each takes (N, 4) corners and gives (N,) losses, computes 16 bits in float32, and is finite with finite gradients for
boxes flat, equal, apart and huge. Values and gradients are those of torchvision's functions of the same name.
Differs: the mean of nothing is 0, an inverted box is refused, and one with NaN is reported as such.
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor

from dlnotes.arguments import check_number
from dlnotes.boxes import corners
from dlnotes.reduction import check_reduction, reduce

Columns = tuple[Tensor, ...]  # x1, y1, x2, y2, each (N,)


def box_iou_loss(
    boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"], reduction: str = "none", eps: float = 1e-7
) -> Float[Tensor, " n"] | Float[Tensor, ""]:
    r"""One minus the IoU.

    .. math:: \ell = 1 - \frac{|A \cap B|}{|A \cup B| + \epsilon}

    Args:
        boxes1: predicted boxes (N, 4), corners.
        boxes2: the true box of each, (N, 4).
        reduction: ``"none"`` (default), ``"mean"`` or ``"sum"``.
        eps: :math:`\epsilon > 0` in squares of the boxes' unit, default 1e-7. Coordinates in [0, 1] may want less: an
            object of a thousandth of the image has an area of 1e-6.

    Raises:
        ValueError: shapes differ, ``eps`` is not above 0, or as :func:`~dlnotes.boxes.corners`.

    Source: Yu et al., *UnitBox* (2016), there the logarithm.

    >>> box_iou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5000])
    """
    dtype, a, b, eps = _prepare(boxes1, boxes2, reduction, eps)
    return reduce((1 - _iou(a, b, eps)[0]).to(dtype), reduction)


def generalized_box_iou_loss(
    boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"], reduction: str = "none", eps: float = 1e-7
) -> Float[Tensor, " n"] | Float[Tensor, ""]:
    r"""GIoU loss: the penalty is the share of the enclosing box :math:`C` that neither box covers.

    .. math:: P = \frac{|C| - |A \cup B|}{|C| + \epsilon}

    Arguments and errors are :func:`box_iou_loss`'s. Two equal points have loss 1: they cover nothing together. Source:
    Rezatofighi et al., *Generalized Intersection over Union* (2019).

    >>> generalized_box_iou_loss(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]]))
    tensor([1.5000])
    """
    dtype, a, b, eps = _prepare(boxes1, boxes2, reduction, eps)
    iou, union, (width, height) = _iou(a, b, eps)
    enclosing = width * height
    return reduce((1 - iou + (enclosing - union) / (enclosing + eps)).to(dtype), reduction)


def distance_box_iou_loss(
    boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"], reduction: str = "none", eps: float = 1e-7
) -> Float[Tensor, " n"] | Float[Tensor, ""]:
    r"""DIoU loss: the penalty is the centres' distance :math:`\rho`, over the enclosing box's diagonal :math:`c`.

    .. math:: P = \frac{\rho^2}{c^2 + \epsilon}

    Arguments and errors are :func:`box_iou_loss`'s. Source: Zheng et al., *Distance-IoU Loss* (2020).

    >>> distance_box_iou_loss(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]]))
    tensor([1.5294])
    """
    dtype, a, b, eps = _prepare(boxes1, boxes2, reduction, eps)
    iou, _, around = _iou(a, b, eps)
    return reduce((1 - iou + _distance(a, b, around, eps)).to(dtype), reduction)


def complete_box_iou_loss(
    boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"], reduction: str = "none", eps: float = 1e-7
) -> Float[Tensor, " n"] | Float[Tensor, ""]:
    r"""CIoU loss: DIoU's penalty, and one for another ratio of the sides.

    .. math:: P = \frac{\rho^2}{c^2 + \epsilon} + \alpha v, \qquad
        v = \frac{4}{\pi^2} \left(\arctan\frac{w_B}{h_B} - \arctan\frac{w_A}{h_A}\right)^2, \qquad
        \alpha = \frac{v}{1 - \operatorname{IoU} + v + \epsilon}

    :math:`\alpha` counts as a constant: no gradient goes through it. Arguments and errors are :func:`box_iou_loss`'s.
    Differs: ``atan2`` takes the angle, so that a height of 0 gives π/2 where torchvision's gradient is NaN; and a
    point, which has no ratio, counts as flat, with angle 0 and no gradient. Source: Zheng et al., *Distance-IoU
    Loss* (2020).

    >>> complete_box_iou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5345])
    """
    dtype, a, b, eps = _prepare(boxes1, boxes2, reduction, eps)
    iou, _, around = _iou(a, b, eps)
    v = (4 / math.pi**2) * (_angle(b) - _angle(a)).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return reduce((1 - iou + _distance(a, b, around, eps) + alpha * v).to(dtype), reduction)


def _prepare(
    boxes1: Tensor, boxes2: Tensor, reduction: str, eps: float
) -> tuple[torch.dtype, Columns, Columns, float]:  # fmt: skip
    r"""The type of the losses, both boxes' columns, and eps as one number that is above 0 in their precision."""
    check_reduction(reduction)
    check_number("eps", eps)
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be > 0 and finite, got {eps}")
    a, b = corners("boxes1", boxes1), corners("boxes2", boxes2)
    if a.dim() != 2:
        raise ValueError(f"boxes1 must have shape (N, 4), got {tuple(boxes1.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"boxes2 must have boxes1's shape {tuple(boxes1.shape)}, got {tuple(boxes2.shape)}")
    dtype = torch.promote_types(torch.promote_types(boxes1.dtype, boxes2.dtype), torch.float32)
    both = torch.promote_types(a.dtype, b.dtype)
    a, b = (boxes.to(both).t().contiguous().unbind() for boxes in (a, b))  # each column in one piece: twice as fast
    return dtype, a, b, max(float(eps), torch.finfo(both).tiny)


def _iou(a: Columns, b: Columns, eps: float) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    r"""IoU and union; and the sides of the smallest box that holds both, :math:`w_A + w_B` less what they share."""
    (wa, ha), (wb, hb) = ((box[2] - box[0], box[3] - box[1]) for box in (a, b))  # (N,) each
    width = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])  # negative where apart
    height = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    intersection = width.relu() * height.relu()  # of boxes that only touch it has slope 0
    union = wa * ha + wb * hb - intersection
    return intersection / (union + eps), union, (wa + wb - width, ha + hb - height)


def _distance(a: Columns, b: Columns, around: tuple[Tensor, Tensor], eps: float) -> Tensor:
    r"""DIoU's penalty; the corners' sums are twice the centres."""
    x, y = a[0] + a[2] - (b[0] + b[2]), a[1] + a[3] - (b[1] + b[3])
    width, height = around
    return (x * x + y * y) / (4 * (width * width + height * height + eps))


def _angle(box: Columns) -> Tensor:
    r"""The angle whose tangent is width over height; 0 for a point, whose slopes would be infinite."""
    width, height = box[2] - box[0], box[3] - box[1]
    point = width + height < math.sqrt(torch.finfo(width.dtype).tiny)
    return torch.atan2(width.masked_fill(point, 0), height.masked_fill(point, 1))
