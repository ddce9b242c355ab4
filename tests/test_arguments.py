import inspect

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.arguments import check_below_one, check_not_negative, check_number, check_whole
from dlnotes.averaging import EMA
from dlnotes.finder import range_test
from dlnotes.hooks import Best, EarlyStopping
from dlnotes.logs import Log, TensorBoard
from dlnotes.optim import SGD
from dlnotes.optimizer import RuleOptimizer
from dlnotes.saving import Checkpoint
from dlnotes.step import TrainStep

MODEL = nn.Linear(1, 1)


def call(what, **options):
    """Call a function or make an object, past the type checker of the tests, to see the package's own messages."""
    if isinstance(what, type):
        return inspect.unwrap(what.__init__)(object.__new__(what), **options)
    return inspect.unwrap(what)(**options)


def test_checks_name_the_value():
    check_not_negative(lr=0.0)
    check_below_one(beta=0.0)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="eps must be >= 0"):
            check_not_negative(lr=1.0, eps=bad)
    with pytest.raises(ValueError, match="eps must be finite, got inf"):
        check_not_negative(eps=float("inf"))
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"beta must be in \[0, 1\)"):
            check_below_one(beta=bad)


def test_what_is_no_number():
    for value in ("1e-3", None, [0.1]):
        with pytest.raises(TypeError, match="lr must be a number, got"):
            check_number("lr", value)
    with pytest.raises(ValueError, match=r"lr must be one number, got a tensor of shape \(2,\)"):
        check_number("lr", torch.ones(2))


@pytest.mark.parametrize("value", [1.5, 2.0, float("nan"), "3", True, None, torch.tensor(3)])
def test_what_is_not_whole(value):
    with pytest.raises(TypeError, match="every must be >= 1, and a whole number"):
        check_whole("every", value)


def test_whole_numbers():
    for value in (1, np.int64(3), 10**30):
        check_whole("every", value)
    check_whole("every", None, optional=True)
    for value, least in ((0, 1), (-3, 1), (1, 2)):
        with pytest.raises(ValueError, match=f"every must be >= {least} or None, got {value}"):
            check_whole("every", value, least, optional=True)


@pytest.mark.parametrize("model", [nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1))])
def test_a_model_in_place_of_its_parameters(model):
    init = inspect.unwrap(RuleOptimizer.__init__)  # which every optimizer of ours calls
    with pytest.raises(TypeError, match=r"params must be parameters, got a .*: write model\.parameters\(\)"):
        init(object.__new__(SGD), model, {"lr": 0.1})


STEP = {"model": MODEL, "loss": nn.functional.mse_loss, "optimizer": torch.optim.SGD(MODEL.parameters(), lr=0.1)}


@pytest.mark.parametrize("value", [1.5, float("nan"), "3"])
@pytest.mark.parametrize(
    ("what", "name", "others"),
    [
        (EarlyStopping, "patience", {}),
        (Checkpoint, "every", {"folder": "run"}),
        (Checkpoint, "keep", {"folder": "run"}),
        (Log, "every", {}),
        (TensorBoard, "every", {"folder": "run"}),
        (range_test, "updates", {"step": TrainStep(**STEP), "loader": []}),
    ],
)
def test_every_count_must_be_whole(what, name, others, value):
    words = rf"^{name} must be >= \d( or None)?, and a whole number \(an int\), got {value!r}"
    with pytest.raises(TypeError, match=words):
        call(what, **others, **{name: value})


@pytest.mark.parametrize(
    ("what", "name", "others", "range_"),
    [
        (Best, "min_delta", {"monitor": "val_loss"}, "must be >= 0"),
        (EMA, "decay", {}, r"must be in \[0, 1\)"),
        (range_test, "start", {"step": TrainStep(**STEP), "loader": []}, "and end: 0 < start < end is needed"),
        (TrainStep, "clip_norm", STEP, "must be > 0 or None"),
    ],
)
def test_every_number_must_be_one_and_in_its_range(what, name, others, range_):
    with pytest.raises(TypeError, match=f"^{name} must be a number, got '0.5'"):
        call(what, **others, **{name: "0.5"})
    for value in (float("nan"), -1.0):
        with pytest.raises(ValueError, match=f"^{name} {range_}"):
            call(what, **others, **{name: value})


def test_infinity_is_no_improvement_that_can_be_reached():
    with pytest.raises(ValueError, match="min_delta must be finite, got inf"):
        EarlyStopping(min_delta=float("inf"))
