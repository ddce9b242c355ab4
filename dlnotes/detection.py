r"""A one-stage detector, small enough to train on a CPU in a minute, and two ways to say which anchor is to learn what.

Losses and predictions have the interface of torchvision's detectors: images, and a list with a dict of ``boxes`` and
``labels`` for each.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.anchors import decode_boxes, grid_anchors
from dlnotes.bags import matched_probability, mean_max_loss, negative_bag_loss
from dlnotes.box_losses import generalized_box_iou_loss
from dlnotes.boxes import box_iou, clip_boxes_to_image
from dlnotes.focal import sigmoid_focal_loss
from dlnotes.step import TrainStep
from dlnotes.suppression import batched_nms

Target = dict[str, Tensor]
Output = dict[str, Tensor]
BoxLoss = Callable[[Tensor, Tensor], Tensor]


class Detector(nn.Module):
    r"""Three strides of two, one grid of anchors; for each anchor a logit a class and four numbers that move it.

    Args:
        num_classes: C.
        sizes: of the anchors in pixels, default 14 and 24.
        width: channels, default 48.

    Shape:
        images (N, 3, H, W), H and W multiples of 8; the output is a dict of ``logits`` (N, A, C), ``boxes`` (N, A, 4),
        decoded corners, and ``anchors`` (A, 4).

    Raises:
        ValueError: images of another form.

    The classes' bias starts so that everything is background with 0.99, without which the many negatives are all that
    is learnt at first. Sources: Liu et al., *SSD* (2016); Lin et al., *Focal Loss for Dense Object Detection* (2017).

    >>> output = Detector(3)(torch.zeros(2, 3, 64, 64))
    >>> output["logits"].shape, output["boxes"].shape
    (torch.Size([2, 128, 3]), torch.Size([2, 128, 4]))
    """

    stride = 8

    def __init__(self, num_classes: int, sizes: tuple[float, ...] = (14.0, 24.0), width: int = 48):
        super().__init__()
        self.num_classes, self.sizes = num_classes, sizes
        layers: list[nn.Module] = []
        for before, after, stride in ((3, width // 2, 2), (width // 2, width, 2), (width, width, 2), (width, width, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
        self.backbone = nn.Sequential(*layers)
        self.classes = nn.Conv2d(width, len(sizes) * num_classes, 3, padding=1)
        self.moves = nn.Conv2d(width, len(sizes) * 4, 3, padding=1)
        for head in (self.classes, self.moves):
            nn.init.normal_(head.weight, std=0.01)
        nn.init.constant_(self.classes.bias, -4.595)  # pyright: ignore[reportArgumentType]  # log(0.01 / 0.99)
        nn.init.zeros_(self.moves.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Output:
        r"""What every anchor says."""
        if images.dim() != 4 or images.size(1) != 3 or any(side % self.stride for side in images.shape[2:]):
            raise ValueError(f"images must be (N, 3, H, W) with sides of multiples of 8, got {tuple(images.shape)}")
        features = self.backbone(images - 0.5)
        grid = (features.size(2), features.size(3))
        anchors = grid_anchors(grid, self.stride, self.sizes, device=images.device)
        logits, moves = (
            head(features).permute(0, 2, 3, 1).reshape(len(images), len(anchors), -1)  # (N, A, C or 4)
            for head in (self.classes, self.moves)
        )
        boxes = decode_boxes(moves, anchors.expand(len(images), -1, -1))
        return {"logits": logits, "boxes": boxes, "anchors": anchors}


def fixed_assignment_loss(
    output: Output, targets: list[Target], box_loss: BoxLoss = generalized_box_iou_loss, high: float = 0.5,
    low: float = 0.4,
) -> dict[str, Tensor]:  # fmt: skip
    r"""Anchors learn what they overlap: focal loss for all, box loss for positives, both over the number of positives.

    An anchor is positive for the object with which its IoU is largest if that is at least ``high``, and the best anchor
    of an object is so always; below ``low`` it is negative; in between it is left out.

    Args:
        output: a :class:`Detector`'s.
        targets: for each image a dict of ``boxes`` (G, 4) and ``labels`` (G,).
        box_loss: of predicted and true boxes, (P, 4) each; (P,) or (P, 4) losses. Default GIoU.
        high: IoU from which an anchor is positive, default 0.5.
        low: IoU below which it is negative, default 0.4.

    Returns:
        ``loss``, its parts ``classes`` and ``boxes``, and ``count``, what they are means over: the positives.

    Without any object only the classes learn, and the moves have gradients of 0. Source: Lin et al., *Focal Loss for
    Dense Object Detection* (2017), section 4.

    >>> output = Detector(3)(torch.zeros(1, 3, 64, 64))
    >>> target = {"boxes": torch.tensor([[8.0, 8.0, 22.0, 22.0]]), "labels": torch.tensor([1])}
    >>> fixed_assignment_loss(output, [target])["count"]
    tensor(1)
    """
    wanted, weights = torch.zeros_like(output["logits"]), torch.ones_like(output["logits"])
    predicted, true = [output["boxes"][0, :0]], [output["boxes"][0, :0].detach()]
    for i, target in enumerate(targets):
        owner, best = assign(output["anchors"], target["boxes"])
        positive = (best >= high) & (owner >= 0)
        weights[i, (best >= low) & ~positive] = 0
        wanted[i, positive, target["labels"][owner[positive]]] = 1
        predicted.append(output["boxes"][i, positive])
        true.append(target["boxes"][owner[positive]].to(output["boxes"].dtype))
    count = torch.tensor(sum(map(len, true)), device=weights.device)
    divisor = count.clamp(min=1)
    classes = (weights * sigmoid_focal_loss(output["logits"], wanted)).sum() / divisor
    boxes = box_loss(torch.cat(predicted), torch.cat(true)).sum() / divisor
    return {"loss": classes + boxes, "classes": classes, "boxes": boxes, "count": divisor}


def assign(anchors: Float[Tensor, "a 4"], boxes: Float[Tensor, "g 4"]) -> tuple[Tensor, Tensor]:
    r"""For each anchor the object that it overlaps most, −1 where there are none, and how much: at least 1 if it is
    the best anchor of an object.

    >>> assign(torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]]), torch.tensor([[0.0, 0.0, 8.0, 4.0]]))
    (tensor([0, 0]), tensor([1., 0.]))
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, device=anchors.device), anchors.new_zeros(len(anchors))
    overlaps = box_iou(boxes, anchors)  # (G, A)
    best, owner = overlaps.max(0)
    favourites = overlaps.argmax(1)
    owner[favourites] = torch.arange(len(boxes), device=anchors.device)
    best[favourites] = 1.0
    return owner, best


def learned_matching_loss(
    output: Output, targets: list[Target], box_loss: BoxLoss = generalized_box_iou_loss, bag: int = 16,
    beta: float = 1.5, alpha: float = 0.5,
) -> dict[str, Tensor]:  # fmt: skip
    r"""FreeAnchor: the anchors around an object are its bag, and which of them it belongs to is learnt.

    .. math:: L = \frac{\alpha}{G} \sum_{i} -\log P_i
        + \frac{1 - \alpha}{G K} \sum_{j, c} b_{jc}^{2}\,\bigl(-\log(1 - b_{jc})\bigr), \qquad
        p_{ij} = \sigma(z_{j y_i})\, e^{-\beta \ell_{ij}}

    with :math:`P_i` the mean-max (:func:`~dlnotes.bags.mean_max_loss`) of the bag's :math:`p_{ij}`, and :math:`b_{jc}`
    from :func:`~dlnotes.bags.negative_bag_loss`.

    Args:
        output: a :class:`Detector`'s.
        targets: for each image a dict of ``boxes`` (G, 4) and ``labels`` (G,).
        box_loss: as for :func:`fixed_assignment_loss`.
        bag: :math:`K`, the anchors of an object: those with the largest IoU. Default 16.
        beta: :math:`\beta`, how much a box that is off counts, default 1.5.
        alpha: the share of the positive part in [0, 1], default 0.5.

    Returns:
        ``loss``, its parts ``positive`` and ``negative``, and ``count``, the objects.

    Source: Zhang et al., *FreeAnchor: Learning to Match Anchors for Visual Object Detection* (2019).

    >>> output = Detector(3)(torch.zeros(1, 3, 64, 64))
    >>> none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    >>> learned_matching_loss(output, [none])["positive"]
    tensor(0., grad_fn=...)
    """
    bags, negatives = [output["boxes"].sum(-1)[0, :0, None].expand(0, bag)], [output["logits"].sum() * 0]
    for i, target in enumerate(targets):
        logits, boxes, labels = output["logits"][i], output["boxes"][i], target["labels"]
        true, count = target["boxes"].to(boxes.dtype), len(labels)
        near = box_iou(true, output["anchors"]).topk(bag, dim=1).indices  # (G, K)
        costs = box_loss(boxes[near].flatten(0, 1), true.repeat_interleave(bag, 0))  # (G·K,) or (G·K, 4)
        costs = (costs.sum(-1) if costs.dim() == 2 else costs).view(count, bag)
        bags.append(F.logsigmoid(logits[near, labels[:, None]]) - beta * costs)
        matched = matched_probability(box_iou(true, boxes), labels, logits.size(1))
        negatives.append(negative_bag_loss(logits, matched))
    objects = max(1, sum(map(len, bags)))
    positive = alpha * mean_max_loss(torch.cat(bags), "sum") / objects
    negative = (1 - alpha) * torch.stack(negatives).sum() / (objects * bag)
    count = torch.tensor(objects, device=positive.device)
    return {"loss": positive + negative, "positive": positive, "negative": negative, "count": count}


@torch.no_grad()
def detections(
    output: Output, size: tuple[int, int], score: float = 0.05, iou_threshold: float = 0.5, most: int = 20
) -> list[dict[str, Tensor]]:
    r"""What is seen in each image: boxes, labels and scores, best first, one for each object.

    Args:
        output: a :class:`Detector`'s.
        size: (height, width) of the images; boxes end there.
        score: what is less sure is not told, default 0.05.
        iou_threshold: of the suppression, default 0.5.
        most: boxes in an image at most, default 20.

    >>> detections(Detector(3)(torch.zeros(1, 3, 64, 64)), (64, 64))[0]["boxes"].shape
    torch.Size([0, 4])
    """
    found: list[dict[str, Tensor]] = []
    for logits, boxes in zip(output["logits"].sigmoid(), output["boxes"], strict=True):
        anchor, label = (logits > score).nonzero(as_tuple=True)
        scores, clipped = logits[anchor, label], clip_boxes_to_image(boxes[anchor], size)
        kept = batched_nms(clipped, scores, label, iou_threshold)[:most]
        found.append({"boxes": clipped[kept], "labels": label[kept], "scores": scores[kept]})
    return found


class DetectionStep(TrainStep):
    r"""A :class:`~dlnotes.step.TrainStep` for batches ``(images, targets)`` whose targets are a list of dicts.

    >>> model = Detector(3)
    >>> step = DetectionStep(model, fixed_assignment_loss, torch.optim.SGD(model.parameters(), lr=0.01))
    >>> target = {"boxes": torch.tensor([[8.0, 8.0, 22.0, 22.0]]), "labels": torch.tensor([1])}
    >>> sorted(step([(torch.zeros(1, 3, 64, 64), [target])]))
    ['boxes', 'classes', 'count', 'loss', 'samples', 'skipped']
    """

    def batch_size(self, batch: Any) -> int:
        r"""The images."""
        return len(batch[0])
