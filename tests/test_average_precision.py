import importlib

import pytest
import torch

from dlnotes.average_precision import average_precision

TARGETS = [
    {"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]), "labels": torch.tensor([0, 0])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def guesses(boxes, scores):
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    labels = torch.zeros(len(scores), dtype=torch.int64)
    return [{"boxes": torch.tensor(boxes), "labels": labels, "scores": torch.tensor(scores)}, none]


def test_by_hand():
    pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    perfect = guesses([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]], [0.9, 0.8])
    assert average_precision(perfect, TARGETS) == pytest.approx({"ap50": 1.0, "ap": 1.0})
    half = guesses([[0.0, 0.0, 10.0, 6.0]], [0.9])  # IoU 0.6 with one of two: recall 1/2 at 0.5, 0.55 and 0.6
    assert average_precision(half, TARGETS)["ap50"] == pytest.approx(51 / 101)
    assert average_precision(half, TARGETS)["ap"] == pytest.approx(0.3 * 51 / 101)
    none = [dict(zip(("boxes", "labels", "scores"), (x[:0] for x in p.values()), strict=True)) for p in perfect]
    assert average_precision(none, TARGETS) == {"ap50": 0.0, "ap": 0.0}


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match="found must have one entry an image, 2, got 0"):
        average_precision([], TARGETS)
    with pytest.raises(ValueError, match="targets must have an object at least"):
        average_precision(guesses([[0.0, 0.0, 1.0, 1.0]], [0.5])[1:], TARGETS[1:])

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install faster-coco-eval"):
        average_precision(guesses([[0.0, 0.0, 1.0, 1.0]], [0.5]), TARGETS)
