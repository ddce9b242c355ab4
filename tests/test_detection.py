import jaxtyping
import pytest
import torch
from torch.nn import functional as F

from dlnotes.bags import mean_max_loss
from dlnotes.box_losses import complete_box_iou_loss, generalized_box_iou_loss
from dlnotes.boxes import box_iou
from dlnotes.detection import (
    DetectionStep,
    Detector,
    assign,
    detections,
    fixed_assignment_loss,
    learned_matching_loss,
)
from dlnotes.optim import AdamW
from dlnotes.regression import normalized_regression_loss
from dlnotes.runner import Runner
from dlnotes.scenes import scenes

LOSSES = [fixed_assignment_loss, learned_matching_loss]
each = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
SOME = {"boxes": torch.tensor([[8.0, 8.0, 24.0, 24.0], [30.0, 30.0, 56.0, 60.0]]), "labels": torch.tensor([2, 0])}


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return Detector(3, width=16)


@each
@pytest.mark.parametrize("targets", [[NONE, NONE], [SOME, NONE], [SOME, SOME]], ids=["none", "one", "both"])
def test_every_parameter_has_a_finite_gradient(detector, loss, targets):
    found = loss(detector(torch.rand(2, 3, 64, 64)), targets)
    found["loss"].backward()
    assert found["loss"].isfinite()
    assert found["count"] >= 1
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert detector.classes.weight.grad.any()
    assert bool(detector.moves.weight.grad.any()) == any(len(target["labels"]) for target in targets)


def test_what_an_anchor_is_to_learn():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [40.0, 0.0, 50.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [44.0, 0.0, 60.0, 10.0]])
    owner, best = assign(anchors, boxes)
    assert owner.tolist() == [0, 0, 1]
    assert best.tolist() == pytest.approx([1, 8 / 12, 1])  # the last overlaps by 6/20, and nothing does more
    owner, best = assign(anchors, boxes[:0])
    assert owner.tolist() == [-1] * 3
    assert not best.any()


def test_fixed_assignment_by_hand(detector):
    output = detector(torch.rand(1, 3, 64, 64))
    found = fixed_assignment_loss(output, [SOME])
    overlaps = box_iou(SOME["boxes"], output["anchors"])
    owner, best = overlaps.argmax(0), overlaps.amax(0)
    positive = best >= 0.5
    for g, a in enumerate(overlaps.argmax(1).tolist()):
        owner[a], positive[a] = g, True
    total_classes = total_boxes = 0.0
    for a in range(len(positive)):
        if not positive[a] and best[a] >= 0.4:
            continue
        for c in range(3):
            p, yes = output["logits"][0, a, c].sigmoid().item(), bool(positive[a]) and SOME["labels"][owner[a]] == c
            p_t = torch.tensor(p if yes else 1 - p)
            total_classes -= ((0.25 if yes else 0.75) * (1 - p_t) ** 2 * p_t.log()).item()
        if positive[a]:
            pair = output["boxes"][0, a][None], SOME["boxes"][owner[a]][None]
            total_boxes += generalized_box_iou_loss(*pair).item()
    count = int(positive.sum())
    assert found["count"].item() == count
    assert found["classes"].item() == pytest.approx(total_classes / count, rel=1e-3)
    assert found["boxes"].item() == pytest.approx(total_boxes / count, rel=1e-5)
    assert found["loss"].item() == pytest.approx(found["classes"].item() + found["boxes"].item())


def test_the_positive_part_of_learned_matching_by_hand(detector):
    output = detector(torch.rand(1, 3, 64, 64))
    found = learned_matching_loss(output, [SOME], bag=4)
    wanted = 0.0
    for box, label in zip(SOME["boxes"], SOME["labels"].tolist(), strict=True):
        bag = box_iou(box[None], output["anchors"])[0].argsort(descending=True)[:4]
        costs = generalized_box_iou_loss(output["boxes"][0, bag], box.expand(4, 4))
        wanted += mean_max_loss(F.logsigmoid(output["logits"][0, bag, label]) - 1.5 * costs).item()
    assert found["count"].item() == 2
    assert found["positive"].item() == pytest.approx(0.5 * wanted / 2, rel=1e-4)


@each
@pytest.mark.parametrize("box_loss", [complete_box_iou_loss, normalized_regression_loss])
def test_box_losses_can_be_exchanged(detector, loss, box_loss):
    reduced = {"reduction": "none"}
    found = loss(detector(torch.rand(2, 3, 64, 64)), [SOME, NONE], lambda a, b: box_loss(a, b, **reduced))
    assert found["loss"].isfinite()


def test_detections_are_suppressed_by_class_and_clipped():
    boxes = torch.tensor([[[-5.0, 0.0, 10.0, 10.0], [-5.0, 0.0, 10.0, 10.5], [30.0, 30.0, 50.0, 50.0]]])
    logits = torch.full((1, 3, 2), -9.0)
    logits[0, 0, 0], logits[0, 1, 0], logits[0, 1, 1], logits[0, 2, 1] = 2.0, 3.0, 1.0, 0.0
    (found,) = detections({"boxes": boxes, "logits": logits}, (40, 40))
    assert found["labels"].tolist() == [0, 1, 1]
    assert found["boxes"].tolist() == [[0.0, 0.0, 10.0, 10.5], [0.0, 0.0, 10.0, 10.5], [30.0, 30.0, 40.0, 40.0]]
    assert found["scores"].tolist() == pytest.approx(torch.tensor([3.0, 1.0, 0.0]).sigmoid().tolist())
    (first,) = detections({"boxes": boxes, "logits": logits}, (40, 40), most=1)
    assert len(first["scores"]) == 1


@each
def test_the_runner_trains_it(detector, loss):
    images, targets = scenes(4, torch.Generator().manual_seed(0), empty=0.3)
    step = DetectionStep(detector, loss, AdamW(detector.parameters(), lr=3e-3))
    runner = Runner(step, [(images, targets)])
    runner.train(epochs=12)
    assert runner.history[-1]["loss"] < 0.8 * runner.history[0]["loss"]


def test_images_of_another_form(detector, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for shape in ((1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\) with sides of multiples of 8, got"):
            detector(torch.zeros(shape))
