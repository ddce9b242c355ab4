"""Losses forward and backward, and suppression, ours beside torch's and torchvision's: python benchmarks/losses.py

Where torchvision is not installed, its losses are computed as it publishes them, and suppression box by box.
"""

import argparse
import functools
import importlib.util
import math
from collections.abc import Callable

import neighbours
import torch
from timing import compare, record
from torch import Tensor
from torch.nn import functional as F

from dlnotes import box_losses, focal, losses, regression
from dlnotes.boxes import box_iou
from dlnotes.device import default_device
from dlnotes.suppression import nms

BOXES, CLASSES, WORDS, CANDIDATES = 100_000, 20, 4096, 10_000
TORCHVISION = importlib.util.find_spec("torchvision") is not None
THEIRS = "torchvision" if TORCHVISION else "torchvision's formula"
EPS = 1e-7


def iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of pairs of boxes, as torchvision computes them: the intersection is filled in where there is one."""
    x1, y1, x2, y2 = a.unbind(dim=-1)
    x1g, y1g, x2g, y2g = b.unbind(dim=-1)
    left, top, right, bottom = torch.max(x1, x1g), torch.max(y1, y1g), torch.min(x2, x2g), torch.min(y2, y2g)
    meets = (bottom > top) & (right > left)
    shared = torch.zeros_like(x1)
    shared[meets] = (right[meets] - left[meets]) * (bottom[meets] - top[meets])
    union = (x2 - x1) * (y2 - y1) + (x2g - x1g) * (y2g - y1g) - shared
    return shared / (union + EPS), union


def enclosing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box that holds both."""
    x1, y1, x2, y2 = a.unbind(dim=-1)
    x1g, y1g, x2g, y2g = b.unbind(dim=-1)
    return torch.max(x2, x2g) - torch.min(x1, x1g), torch.max(y2, y2g) - torch.min(y1, y1g)


def generalized(a: Tensor, b: Tensor) -> Tensor:
    """The GIoU loss."""
    iou, union = iou_and_union(a, b)
    width, height = enclosing(a, b)
    area = width * height
    return 1 - (iou - (area - union) / (area + EPS))


def distance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The DIoU loss, and the IoU."""
    iou, _ = iou_and_union(a, b)
    width, height = enclosing(a, b)
    x1, y1, x2, y2 = a.unbind(dim=-1)
    x1g, y1g, x2g, y2g = b.unbind(dim=-1)
    apart = ((x2 + x1) / 2 - (x1g + x2g) / 2) ** 2 + ((y2 + y1) / 2 - (y1g + y2g) / 2) ** 2
    return 1 - iou + apart / (width**2 + height**2 + EPS), iou


def complete(a: Tensor, b: Tensor) -> Tensor:
    """The CIoU loss."""
    loss, iou = distance(a, b)
    x1, y1, x2, y2 = a.unbind(dim=-1)
    x1g, y1g, x2g, y2g = b.unbind(dim=-1)
    angle = torch.atan((x2g - x1g) / (y2g - y1g)) - torch.atan((x2 - x1) / (y2 - y1))
    v = (4 / math.pi**2) * torch.pow(angle, 2)
    with torch.no_grad():
        alpha = v / (1 - iou + v + EPS)
    return loss + alpha * v


def sigmoid_focal(inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2) -> Tensor:
    """The focal loss."""
    p = torch.sigmoid(inputs)
    cross_entropy = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * cross_entropy * (1 - p_t) ** gamma


def greedy(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppression as its definition says it, one box after the other."""
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        kept.append(left[0])
        left = left[1:][box_iou(boxes[left[0]][None], boxes[left[1:]])[0] <= iou_threshold]
    return torch.stack(kept)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "generalized_box_iou_loss": generalized,
    "distance_box_iou_loss": lambda a, b: distance(a, b)[0],
    "complete_box_iou_loss": complete,
    "sigmoid_focal_loss": sigmoid_focal,
}


def theirs(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Torchvision's loss, or its formula."""
    return getattr(importlib.import_module("torchvision.ops"), name) if TORCHVISION else FORMULAS[name]


def draw(seed: int) -> torch.Generator:
    """A generator on the CPU, so that every device has the same numbers."""
    return torch.Generator().manual_seed(seed)


def pairs(count: int | None = None) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes in an image of 640 pixels; most of them overlap."""
    corner, size, noise = (torch.rand(count or BOXES, 2, generator=draw(seed)) for seed in range(3))
    true = torch.cat([600 * corner, 600 * corner + 8 + 80 * size], dim=1)
    predicted = true + 20 * (torch.cat([noise, noise.flip(1)], dim=1) - 0.5)
    predicted = torch.cat([predicted[:, :2], torch.maximum(predicted[:, 2:], predicted[:, :2] + 1)], dim=1)
    return predicted.to(default_device()), true.to(default_device())


def answers() -> tuple[Tensor, Tensor]:
    """Logits of every box for every class, and labels of which one in a hundred is positive."""
    z = 2 * torch.randn(BOXES, CLASSES, generator=draw(0))
    y = (torch.rand(BOXES, CLASSES, generator=draw(1)) < 0.01).float()
    return z.to(default_device()), y.to(default_device())


def classified() -> tuple[Tensor, Tensor]:
    """Logits over a vocabulary and the right words."""
    z = torch.randn(WORDS, 1000, generator=draw(0))
    return z.to(default_device()), torch.randint(1000, (WORDS,), generator=draw(1)).to(default_device())


def both_ways(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss, and the input's gradient."""
    x.grad = None
    found = loss(x, target).mean()
    found.backward()
    assert x.grad is not None
    return found.detach(), x.grad


def candidates(
    make: Callable[[], tuple[Tensor, Tensor]], **forms: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Callable[[], object]]:
    """Each form forward and backward through the mean, on an input of its own, after a look at the numbers."""
    x, target = make()
    runs: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {}
    for form, loss in forms.items():
        runs[form.replace("theirs", THEIRS)] = functools.partial(both_ways, loss, x.clone().requires_grad_(), target)
    wanted = runs[next(name for name in runs if name != "ours")]()
    for found, want in zip(runs["ours"](), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-6)
    return dict(runs)


def suppressions() -> dict[str, Callable[[], object]]:
    """Suppression of candidates that lie around objects, about ten on each."""
    where = pairs(CANDIDATES // 10)[1].repeat(10, 1)
    boxes = where + (3 * torch.randn(where.shape, generator=draw(3))).to(where.device)
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)
    scores = torch.rand(len(boxes), generator=draw(4)).to(where.device)
    other = importlib.import_module("torchvision.ops").nms if TORCHVISION else greedy
    torch.testing.assert_close(nms(boxes, scores, 0.5), other(boxes, scores, 0.5))
    name = "torchvision" if TORCHVISION else "box by box"
    return {"ours": lambda: nms(boxes, scores, 0.5), name: lambda: other(boxes, scores, 0.5)}


def works() -> dict[str, Callable[[], dict[str, Callable[[], object]]]]:
    """What is compared."""
    found: dict[str, Callable] = {}
    for name in ("generalized", "distance", "complete"):
        loss = f"{name}_box_iou_loss"
        forms = {"ours": getattr(box_losses, loss), "theirs": theirs(loss)}
        found[f"{name[0].upper()}IoU loss, {BOXES:,} boxes"] = functools.partial(candidates, pairs, **forms)
    forms = {"ours": focal.sigmoid_focal_loss, "theirs": theirs("sigmoid_focal_loss")}
    found[f"focal loss ({BOXES:,}, {CLASSES})"] = functools.partial(candidates, answers, **forms)
    forms = {"ours": regression.smooth_l1_loss, "torch": F.smooth_l1_loss}
    found[f"smooth L1 ({BOXES:,}, 4)"] = functools.partial(candidates, pairs, **forms)
    smooth = {"label_smoothing": 0.1}
    forms = {
        "ours": functools.partial(losses.cross_entropy, **smooth),
        "torch": functools.partial(F.cross_entropy, **smooth),
    }
    found[f"cross-entropy with smoothing ({WORDS}, 1000)"] = functools.partial(candidates, classified, **forms)
    found[f"suppression of {CANDIDATES:,} boxes"] = suppressions
    return found


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each comparison (21)")
    parser.add_argument("--runs", type=int, default=40, help="single runs beside each kind of neighbours (40)")
    parser.add_argument("--only", default="", help="only what has this in its name; nothing is recorded")
    arguments = parser.parse_args()
    chosen = {work: make for work, make in works().items() if arguments.only in work}
    results = {}
    for work, make in chosen.items():
        print(work, flush=True)
        baseline = next(name for name in make() if name != "ours")
        results[work] = compare(make, baseline, arguments.rounds)
        for form, result in results[work].items():
            print("   ", form, result)
    if arguments.only:
        return
    neighbours.complete(results, chosen, arguments.runs, "")
    print("recorded in", record("losses", results, ("torchvision",)).name)


if __name__ == "__main__":
    main()
