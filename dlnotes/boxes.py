r"""Boxes in images: formats, areas, overlaps. x runs to the right, y down, and a box is (x1, y1, x2, y2) unless said.

Boxes of 16 bits, and whole numbers, are computed in float32: in float16 an area ends at 65504, which is 256 × 256
pixels. A box with :math:`x_2 < x_1` or :math:`y_2 < y_1` is refused, and one that holds NaN is said to hold NaN.
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor

from dlnotes.arguments import check_choice

FORMATS = ("xyxy", "xywh", "cxcywh")
LARGEST = {torch.float32: 1e18, torch.float64: 1e150}  # beyond, an area is infinite or nearly


def corners(name: str, boxes: Num[Tensor, "*batch four"]) -> Float[Tensor, "*batch four"]:
    r"""The boxes as one computes with them: checked, in float32 or better; in float64 if their areas need it.

    Args:
        name: of the argument, for errors.
        boxes: (…, 4) corners; (0, 4) is no box.

    Raises:
        ValueError: another shape; or a box, named by its index, that holds NaN or infinity, or is inverted.
        TypeError: boolean or complex numbers.

    >>> corners("boxes", torch.tensor([[0, 0, 2, 1]]))
    tensor([[0., 0., 2., 1.]])
    >>> corners("boxes", torch.tensor([[0.0, 0.0, 2.0, 1.0], [3.0, 0.0, 2.0, 1.0]]))
    Traceback (most recent call last):
    ...
    ValueError: boxes[1] is inverted, x2 < x1: [3.0, 0.0, 2.0, 1.0]
    """
    boxes = _fours(name, boxes)
    if not boxes.numel():
        return boxes
    values = boxes.detach()
    least = (values[..., 2:] - values[..., :2]).amin()
    side, low, high = torch.stack([least, *torch.aminmax(values)]).tolist()  # NaN stays NaN in each
    limit = LARGEST[boxes.dtype]
    if side >= 0 and -limit <= low and high <= limit:
        return boxes
    _explain(name, values)
    return boxes.double()


def _fours(name: str, boxes: Tensor) -> Tensor:
    if boxes.dtype == torch.bool or boxes.is_complex():
        raise TypeError(f"{name} must be real numbers, got {boxes.dtype}")
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"{name} must have shape (…, 4), got {tuple(boxes.shape)}")
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))


def _explain(name: str, boxes: Tensor) -> None:
    r"""Raise for the first box that is none."""
    unusual = (boxes[..., 2:] < boxes[..., :2]).any(-1) | ~boxes.isfinite().all(-1)
    unusual |= boxes.abs().amax(-1) > LARGEST[torch.float64]
    for place in unusual.nonzero()[:1].tolist():
        box = boxes[tuple(place)].tolist()
        where = f"{name}{place if place else ''}"
        if any(math.isnan(x) for x in box):
            raise ValueError(f"{where} holds NaN: {box}")
        if not all(abs(x) <= LARGEST[torch.float64] for x in box):
            raise ValueError(f"{where} is not finite, or beyond {LARGEST[torch.float64]}: {box}")
        raise ValueError(f"{where} is inverted, {'x2 < x1' if box[2] < box[0] else 'y2 < y1'}: {box}")


def box_convert(boxes: Num[Tensor, "*batch 4"], in_fmt: str, out_fmt: str) -> Num[Tensor, "*batch 4"]:
    r"""Boxes in another format.

    ``xyxy``: left, top, right, bottom. ``xywh``: left, top, width, height, as COCO's files have it. ``cxcywh``: the
    centre, width and height, as YOLO's and DETR's have it:

    .. math:: c_x = \tfrac{1}{2}(x_1 + x_2), \qquad c_y = \tfrac{1}{2}(y_1 + y_2), \qquad w = x_2 - x_1, \qquad
        h = y_2 - y_1

    Args:
        boxes: (…, 4) in the format ``in_fmt``; no box is refused, since formats are what it is to find out.
        in_fmt: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``.
        out_fmt: one of the same.

    Returns:
        boxes of the same type and shape; whole numbers become float32 where halves may arise, with ``cxcywh``.

    Raises:
        ValueError: another shape or format.

    As ``torchvision.ops.box_convert``; 16 bits are rounded once, at the end.

    >>> box_convert(torch.tensor([[10.0, 20.0, 30.0, 50.0]]), "xyxy", "cxcywh")
    tensor([[20., 35., 20., 30.]])
    """
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        check_choice(name, fmt, FORMATS)
    x = _fours("boxes", boxes)
    if in_fmt == out_fmt:
        return boxes.clone()
    first, second = x[..., :2], x[..., 2:]  # (…, 2) each
    size = second - first if in_fmt == "xyxy" else second
    corner = first - size / 2 if in_fmt == "cxcywh" else first
    if out_fmt == "xyxy":
        second = corner + size
    else:
        corner, second = corner + size / 2 if out_fmt == "cxcywh" else corner, size
    found = torch.cat([corner, second], dim=-1)
    whole = not boxes.is_floating_point() and "cxcywh" in (in_fmt, out_fmt)
    return found if whole else found.to(boxes.dtype)


def box_area(boxes: Num[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    r"""Width times height, :math:`(x_2 - x_1)(y_2 - y_1)`.

    Raises:
        ValueError, TypeError: as :func:`corners`.

    As ``torchvision.ops.box_area``, in float32 for 16 bits and whole numbers; inverted boxes have none.

    >>> box_area(torch.tensor([[10.0, 20.0, 30.0, 50.0], [1.0, 1.0, 1.0, 9.0]]))
    tensor([600.,   0.])
    """
    x = corners("boxes", boxes)
    return ((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1])).to(torch.promote_types(boxes.dtype, torch.float32))


def box_iou(boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    r"""Intersection over union of each box with each: the share of what both cover that both cover together.

    .. math:: \operatorname{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|}, \qquad |A \cup B| = |A| + |B| - |A \cap B|

    It lies in [0, 1], rounding included; 1 means equal boxes. Where both areas are 0 it is defined as 0.

    Args:
        boxes1: (N, 4) corners.
        boxes2: (M, 4) corners.

    Returns:
        (N, M), in float32 for 16 bits and whole numbers.

    Raises:
        ValueError, TypeError: as :func:`corners`.

    As ``torchvision.ops.box_iou``, which gives NaN for two empty areas. Source: Jaccard, *The Distribution of the
    Flora in the Alpine Zone* (1912).

    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 1.0]]))
    tensor([[0.1429, 0.5000]])
    """
    dtype, a, b = _pairs(boxes1, boxes2)
    return _iou(a, b)[0].to(dtype)


def generalized_box_iou(boxes1: Num[Tensor, "n 4"], boxes2: Num[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    r"""IoU less the share of the enclosing box :math:`C` that neither covers, so that distant boxes differ too.

    .. math:: \operatorname{GIoU}(A, B) = \operatorname{IoU}(A, B) - \frac{|C| - |A \cup B|}{|C|}

    It lies in (−1, 1] and is at most the IoU, rounding included. Where :math:`|C| = 0` nothing is taken off.

    Args:
        boxes1: (N, 4) corners.
        boxes2: (M, 4) corners.

    Returns:
        (N, M), in float32 for 16 bits and whole numbers.

    Raises:
        ValueError, TypeError: as :func:`corners`.

    As ``torchvision.ops.generalized_box_iou``, which gives NaN where :func:`box_iou`'s does. Source: Rezatofighi et
    al., *Generalized Intersection over Union* (2019).

    >>> generalized_box_iou(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]]))
    tensor([[-0.5000]])
    """
    dtype, a, b = _pairs(boxes1, boxes2)
    iou, union = _iou(a, b)
    width = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    height = torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])
    enclosing = width * height
    return (iou - _ratio((enclosing - union).clamp(min=0), enclosing)).to(dtype)


def _pairs(boxes1: Tensor, boxes2: Tensor) -> tuple[torch.dtype, list[Tensor], list[Tensor]]:
    r"""The type of the result, and both sets' columns x1, y1, x2, y2, (N, 1) and (M,)."""
    a, b = corners("boxes1", boxes1), corners("boxes2", boxes2)
    for name, boxes in (("boxes1", a), ("boxes2", b)):
        if boxes.dim() != 2:
            raise ValueError(f"{name} must have shape (N, 4), got {tuple(boxes.shape)}")
    dtype = torch.promote_types(torch.promote_types(boxes1.dtype, boxes2.dtype), torch.float32)
    both = torch.promote_types(a.dtype, b.dtype)
    return dtype, list(a.to(both)[:, None].unbind(-1)), list(b.to(both).unbind(-1))


def _iou(a: list[Tensor], b: list[Tensor]) -> tuple[Tensor, Tensor]:
    r"""IoU and union, each with each."""
    width = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])  # (N, M), negative where apart
    height = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    intersection = width.clamp(min=0) * height.clamp(min=0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return _ratio(intersection, union), union


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    r"""A share of at most 1; of nothing it is 0, and its gradients too."""
    some = whole > 0
    return (part / whole.where(some, 1)).clamp(max=1).where(some, 0)


def clip_boxes_to_image(boxes: Num[Tensor, "*batch 4"], size: tuple[int, int]) -> Num[Tensor, "*batch 4"]:
    r"""The part of each box inside an image: x in [0, width], y in [0, height].

    Args:
        boxes: (…, 4) corners. What lies outside becomes flat, at the edge.
        size: (height, width), the order of an image's shape.

    Raises:
        ValueError, TypeError: as :func:`corners`; or ``size`` is not two numbers ≥ 0.

    As ``torchvision.ops.clip_boxes_to_image``.

    >>> clip_boxes_to_image(torch.tensor([[-5.0, 10.0, 120.0, 90.0]]), size=(80, 100))
    tensor([[  0.,  10., 100.,  80.]])
    """
    corners("boxes", boxes)
    if len(size) != 2 or not all(0 <= side < math.inf for side in size):
        raise ValueError(f"size must be (height, width), both at least 0, got {size}")
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)  # (…, 2) each
    return torch.stack([x, y], dim=-1).flatten(-2)
