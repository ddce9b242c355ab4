r"""Scenes to detect things in: ellipses, rectangles and triangles of any colour, some behind others, among clutter.

They are drawn by tensor operations from a generator, so that every machine has the same ones without a download; the
boxes are known exactly.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dlnotes.arguments import check_choice, check_not_negative, check_whole
from dlnotes.boxes import box_iou

SHAPES = ("ellipse", "rectangle", "triangle")
Target = dict[str, Tensor]


def scenes(
    n: int, generator: torch.Generator, *, size: int = 64, most: int = 4, empty: float = 0.1, overlap: float = 0.2,
    clutter: int = 6,
) -> tuple[Float[Tensor, "n 3 size size"], list[Target]]:  # fmt: skip
    r"""``n`` images and what is in each, as torchvision's detectors take their targets.

    Neither colour nor size tells the class, only the shape. Sides are a sixth to a half of the image's. The clutter,
    which no target names, is thin strokes and grain.

    Args:
        n: how many images.
        generator: from which everything is drawn, of the CPU; the same state gives the same scenes.
        size: side of an image in pixels, at least 16; default 64.
        most: objects in an image, 1 to so many, default 4; what finds no room is left out.
        empty: share of images without objects, in [0, 1], default 0.1.
        overlap: the largest IoU of two objects in an image, in [0, 1], default 0.2. The later one is in front.
        clutter: strokes in an image, default 6.

    Returns:
        images (n, 3, size, size) in [0, 1], and for each a dict of ``boxes`` (G, 4), corners in pixels, and
        ``labels`` (G,), places in :data:`SHAPES`; of an image without objects they are (0, 4) and (0,).

    Raises:
        ValueError: a number is out of range.
        TypeError: a number that is to be whole is not.

    >>> images, targets = scenes(2, torch.Generator().manual_seed(0))
    >>> images.shape, targets[0]["boxes"].shape[1]
    (torch.Size([2, 3, 64, 64]), 4)
    """
    for name, value, least in (("n", n, 0), ("size", size, 16), ("most", most, 1), ("clutter", clutter, 0)):
        check_whole(name, value, least)
    check_not_negative(empty=empty, overlap=overlap)
    if empty > 1 or overlap > 1:
        raise ValueError(f"empty and overlap must be in [0, 1], got {empty} and {overlap}")
    images, targets = torch.empty(n, 3, size, size), list[Target]()
    for image in images:
        image[:] = 0.2 + 0.6 * torch.rand(3, 1, 1, generator=generator)  # the ground
        image += 0.05 * torch.randn(image.shape, generator=generator)
        for _ in range(clutter):
            _paint(image, stroke(torch.rand(4, generator=generator) * size, size), generator)
        targets.append(_objects(image, generator, most, empty, overlap))
    return images.clamp_(0, 1), targets


def _objects(image: Tensor, generator: torch.Generator, most: int, empty: float, overlap: float) -> Target:
    r"""Paint objects into an image; what they are."""
    size, boxes, labels = image.size(-1), image.new_zeros(0, 4), list[int]()
    count = int(torch.randint(1, most + 1, (), generator=generator))
    if torch.rand((), generator=generator) < empty:
        count = 0
    for _ in range(count):
        sides = size * (1 / 6 + torch.rand(2, generator=generator) / 3)
        corner = (size - sides) * torch.rand(2, generator=generator)
        label = int(torch.randint(len(SHAPES), (), generator=generator))
        box = torch.cat([corner, corner + sides])[None].round()
        if (box_iou(box, boxes) <= overlap).all():
            _paint(image, shape(SHAPES[label], box[0], size), generator)
            boxes, labels = torch.cat([boxes, box]), [*labels, label]
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}


def _paint(image: Tensor, inside: Tensor, generator: torch.Generator) -> None:
    r"""A colour that differs from the image's mean, with a little grain."""
    colour = torch.rand(3, 1, 1, generator=generator)
    ground = image.mean((1, 2), keepdim=True)
    colour = torch.where((colour - ground).abs() < 0.25, (ground + 0.5) % 1, colour)
    grain = 0.05 * torch.randn(image.shape, generator=generator)
    image.copy_(torch.where(inside, colour + grain, image))


def shape(name: str, box: Float[Tensor, "4"], size: int) -> Bool[Tensor, "size size"]:
    r"""The pixels whose centres lie inside a shape that touches all four sides of a box.

    .. math:: u = \frac{x - c_x}{w/2}, \quad v = \frac{y - c_y}{h/2}; \qquad \text{ellipse: } u^2 + v^2 \le 1, \quad
        \text{rectangle: } |u|, |v| \le 1, \quad \text{triangle: } 2|u| \le 1 + v \le 2

    Args:
        name: one of :data:`SHAPES`.
        box: (4,) corners in pixels.
        size: side of the image.

    Raises:
        ValueError: another name.

    >>> shape("triangle", torch.tensor([0.0, 0.0, 4.0, 2.0]), 4).int()
    tensor([[0, 1, 1, 0],
            [1, 1, 1, 1],
            [0, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    check_choice("name", name, SHAPES)
    centres = torch.arange(size) + 0.5
    x1, y1, x2, y2 = box.tolist()
    u = ((centres - (x1 + x2) / 2) / ((x2 - x1) / 2))[None]  # (1, size)
    v = ((centres - (y1 + y2) / 2) / ((y2 - y1) / 2))[:, None]
    if name == "ellipse":
        return u * u + v * v <= 1
    if name == "rectangle":
        return (u.abs() <= 1) & (v.abs() <= 1)
    return (2 * u.abs() <= 1 + v) & (v <= 1)


def stroke(ends: Float[Tensor, "4"], size: int, width: float = 1.5) -> Bool[Tensor, "size size"]:
    r"""The pixels whose centres lie within half a ``width`` of the line from (x1, y1) to (x2, y2).

    >>> stroke(torch.tensor([0.5, 0.5, 2.5, 0.5]), 3, 1.0).int()
    tensor([[1, 1, 1],
            [0, 0, 0],
            [0, 0, 0]], dtype=torch.int32)
    """
    centres = torch.arange(size) + 0.5
    x1, y1, x2, y2 = ends.tolist()
    x, y = centres[None] - x1, centres[:, None] - y1
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    along = ((x * (x2 - x1) + y * (y2 - y1)) / length**2).clamp(0, 1)  # the nearest place on the line
    return (x - along * (x2 - x1)).square() + (y - along * (y2 - y1)).square() <= (width / 2) ** 2
