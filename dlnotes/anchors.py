r"""Anchors: boxes at fixed places, and boxes written as what differs from them, which is what a detector predicts."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor

from dlnotes.arguments import check_number, check_whole
from dlnotes.boxes import box_convert, corners

LARGEST_SCALE = math.log(1000 / 16)  # of exp: what an untrained network says must not become infinite


def grid_anchors(
    grid: tuple[int, int], stride: float, sizes: Sequence[float], ratios: Sequence[float] = (1.0,),
    device: torch.device | str | None = None,
) -> Float[Tensor, "anchors 4"]:  # fmt: skip
    r"""Anchors of every size and ratio around the centre of every cell of a grid.

    A size :math:`s` is the root of the area, a ratio :math:`\rho` is height over width:
    :math:`w = s/\sqrt\rho`, :math:`h = s\sqrt\rho`. Cell (i, j) has its centre at
    :math:`x = (j + \tfrac12)\,\text{stride}`, :math:`y = (i + \tfrac12)\,\text{stride}`.

    Args:
        grid: (rows, columns) of cells, the last two dimensions of a feature map.
        stride: side of a cell in pixels.
        sizes: :math:`s` in pixels.
        ratios: :math:`\rho`, default 1 alone.
        device: where they are to be.

    Returns:
        (rows · columns · sizes · ratios, 4) corners; the cells row by row, in each the sizes in turn, for each the
        ratios.

    Raises:
        ValueError: a number is not above 0 or not finite, or there are no sizes or ratios.
        TypeError: rows or columns are no whole numbers.

    Source: Ren et al., *Faster R-CNN* (2015), section 3.1.1, there without the half cell.

    >>> grid_anchors((1, 2), 8, sizes=[8], ratios=[1.0, 4.0])
    tensor([[ 0.,  0.,  8.,  8.],
            [ 2., -4.,  6., 12.],
            [ 8.,  0., 16.,  8.],
            [10., -4., 14., 12.]])
    """
    for name, cells in zip(("rows of grid", "columns of grid"), grid, strict=True):
        check_whole(name, cells)
    for name, values in (("stride", [stride]), ("sizes", sizes), ("ratios", ratios)):
        for value in values:
            check_number(name, value)
        if not values or not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name} must be above 0 and finite, got {values}")
    shapes = torch.tensor([[s / math.sqrt(r), s * math.sqrt(r)] for s in sizes for r in ratios], device=device)
    y, x = ((torch.arange(cells, device=device) + 0.5) * stride for cells in grid)
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 2)  # (cells, 1, 2)
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=-1).view(-1, 4)


def encode_boxes(boxes: Num[Tensor, "*batch 4"], anchors: Num[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    r"""Boxes as a detector is to predict them: moved in units of the anchor's sides, scaled by logarithms.

    .. math:: t = \left(\frac{c_x - a_x}{a_w}, \frac{c_y - a_y}{a_h}, \log\frac{w}{a_w}, \log\frac{h}{a_h}\right)

    Args:
        boxes: (…, 4) corners.
        anchors: (…, 4) corners, one for each box.

    Returns:
        (…, 4), in float32 for 16 bits.

    Raises:
        ValueError: shapes differ, a box or an anchor has a side of length 0, or as :func:`~dlnotes.boxes.corners`.

    :func:`decode_boxes` is its inverse. Source: Girshick et al., *Rich Feature Hierarchies for Accurate Object
    Detection* (2014), appendix C.

    >>> encode_boxes(torch.tensor([[4.0, 0.0, 12.0, 16.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    tensor([[0.5000, 0.5000, 0.0000, 0.6931]])
    """
    x, a = _sided("boxes", boxes), _sided("anchors", anchors)
    if x.shape != a.shape:
        raise ValueError(f"anchors must have boxes' shape {tuple(boxes.shape)}, got {tuple(anchors.shape)}")
    moved = (x[..., :2] - a[..., :2]) / a[..., 2:]
    return torch.cat([moved, (x[..., 2:] / a[..., 2:]).log()], dim=-1)


def decode_boxes(deltas: Float[Tensor, "*batch 4"], anchors: Num[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    r"""What :func:`encode_boxes` wrote, as corners again; always boxes, never inverted.

    .. math:: c_x = a_x + a_w t_x, \quad c_y = a_y + a_h t_y, \quad w = a_w e^{t_w}, \quad h = a_h e^{t_h}

    with :math:`t_w` and :math:`t_h` at most :math:`\log(1000/16)`, as in torchvision's detectors.

    Args:
        deltas: (…, 4), as a network gives them.
        anchors: (…, 4) corners, one for each.

    Returns:
        (…, 4) corners, in float32 for 16 bits.

    Raises:
        ValueError: shapes differ, an anchor has a side of length 0, or as :func:`~dlnotes.boxes.corners`.

    >>> decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.6931472]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    tensor([[ 4., -4., 12., 12.]])
    """
    a = _sided("anchors", anchors)
    t = deltas.to(torch.promote_types(deltas.dtype, torch.float32))
    if t.shape != a.shape:
        raise ValueError(f"anchors must have deltas' shape {tuple(deltas.shape)}, got {tuple(anchors.shape)}")
    centre = a[..., :2] + a[..., 2:] * t[..., :2]
    size = a[..., 2:] * t[..., 2:].clamp(max=LARGEST_SCALE).exp()
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def _sided(name: str, boxes: Tensor) -> Tensor:
    r"""Boxes as centre and size, none of it flat."""
    found = box_convert(corners(name, boxes), "xyxy", "cxcywh")
    flat = (found[..., 2:] == 0).any(-1)
    if flat.any():
        place = flat.nonzero()[0].tolist()
        raise ValueError(f"{name}{place} has a side of length 0: {boxes[tuple(place)].tolist()}")
    return found
