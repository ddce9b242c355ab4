r"""How good detections are: average precision, as COCO defines it."""

import importlib
from typing import Any

from torch import Tensor

from dlnotes.boxes import box_convert

Target = dict[str, Tensor]


def average_precision(found: list[dict[str, Tensor]], targets: list[Target]) -> dict[str, float]:
    r"""Mean average precision by faster-coco-eval, as COCO defines it: at an IoU of 0.5, and over 0.5, 0.55, … 0.95.

    Args:
        found: for each image ``boxes``, ``labels`` and ``scores``, as :func:`detections` gives them.
        targets: for each image ``boxes`` and ``labels``.

    Returns:
        ``ap50`` and ``ap``, from 0 to 1; classes of which there is no object do not count.

    Raises:
        ModuleNotFoundError: the package ``faster-coco-eval`` is missing.
        ValueError: not as many of one as of the other, or no object in any image, of which nothing is precise.

    Source: Lin et al., *Microsoft COCO* (2014).

    >>> average_precision([], [])
    Traceback (most recent call last):
    ...
    ValueError: targets must have an object at least
    """
    if len(found) != len(targets):
        raise ValueError(f"found must have one entry an image, {len(targets)}, got {len(found)}")
    if not any(len(target["labels"]) for target in targets):
        raise ValueError("targets must have an object at least")
    try:
        coco: Any = importlib.import_module("faster_coco_eval")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("average_precision needs faster-coco-eval: pip install faster-coco-eval") from error
    true, guesses = _entries(targets), _entries(found)
    classes = sorted({entry["category_id"] for entry in true})
    described = {
        "images": [{"id": i} for i in range(len(targets))],
        "categories": [{"id": c, "name": str(c)} for c in classes],
        "annotations": [entry | {"id": k, "iscrowd": 0} for k, entry in enumerate(true, start=1)],
    }
    guesses = [entry for entry in guesses if entry["category_id"] in classes]
    if not guesses:
        return {"ap50": 0.0, "ap": 0.0}
    truth = coco.COCO(described)
    evaluation = coco.COCOeval_faster(truth, truth.loadRes(guesses), iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"ap50": float(evaluation.stats[1]), "ap": float(evaluation.stats[0])}


def _entries(images: list[dict[str, Tensor]]) -> list[dict[str, Any]]:
    r"""Boxes in COCO's form, one dict each."""
    entries: list[dict[str, Any]] = []
    for i, image in enumerate(images):
        boxes = box_convert(image["boxes"].double(), "xyxy", "xywh").tolist()
        scores = image["scores"].tolist() if "scores" in image else [None] * len(boxes)
        for box, label, score in zip(boxes, image["labels"].tolist(), scores, strict=True):
            entry = {"image_id": i, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            entries.append(entry if score is None else entry | {"score": score})
    return entries
