import collections

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes import checkpoint
from dlnotes.parts import plain
from dlnotes.step import TrainStep


def make(schedule):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=np.float64(0.5), betas=(np.float64(0.5), np.float64(0.75)))
    return TrainStep(model, nn.functional.mse_loss, optimizer, scheduler=schedule(optimizer))


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: np.float64(0.5) ** t),
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, np.array([1, 3])),
    ],
)
def test_numbers_of_numpys_are_saved_as_pythons(schedule, tmp_path):
    step, again = make(schedule), make(schedule)
    batch = torch.ones(4, 2), torch.ones(4, 1)
    step([batch])
    checkpoint.save(tmp_path / "a.pt", step.state_dict())
    again.load_state_dict(checkpoint.load(tmp_path / "a.pt"))
    for _ in range(3):
        assert step([batch]) == again([batch])
        assert step.learning_rates() == again.learning_rates()
    assert torch.equal(step.model.weight, again.model.weight)


def test_plain():
    Pair = collections.namedtuple("Pair", "a b")
    tree = {
        np.int64(3): [np.float64(0.5), np.bool_(True), np.array(2)],
        "pair": Pair(np.float32(0.25), 1),
        "counter": collections.Counter({np.int64(5): np.int64(2)}),
        "ordered": collections.OrderedDict(a=np.float64(1.5)),
    }
    found = plain(tree)
    assert found == {
        3: [0.5, True, 2],
        "pair": Pair(0.25, 1),
        "counter": collections.Counter({5: 2}),
        "ordered": collections.OrderedDict(a=1.5),
    }
    assert [type(value) for value in found[3]] == [float, bool, int]
    assert [type(value) for value in found.values()] == [list, Pair, collections.Counter, collections.OrderedDict]
    assert {type(key) for key in found} == {int, str}
    assert type(tree["pair"].a) is np.float32  # nothing is changed in place


def test_what_holds_no_numbers_of_numpys_is_returned_itself():
    tree = {"a": [1, (2.0, torch.ones(1))], "b": np.ones(2)}
    assert plain(tree) is tree
