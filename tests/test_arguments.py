import inspect

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.arguments import check_below_one, check_not_negative, check_number, check_whole
from dlnotes.optim import SGD
from dlnotes.optimizer import RuleOptimizer


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
