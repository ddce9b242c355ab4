import random
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler, TensorDataset
from training import make_data, make_step

from dlnotes.randomness import Sources, begin, generators, samplers
from dlnotes.runner import Runner


def found(**roots):
    return list(generators(roots))


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def method(self):
        """Nothing."""


def test_generators_are_found_wherever_they_are():
    dice = random.Random(0)
    assert found(a=Holder(_secret=dice)) == ["a._secret"]
    assert found(a=[1, {"b": (dice,)}]) == ["a.1.b.0"]
    assert found(a=lambda: dice.random()) == ["a.dice"]
    assert found(a=partial(torch.randn, 3, generator=torch.Generator())) == ["a.keywords.generator"]
    assert found(a=Holder(x=Holder(y=dice)).method) == ["a.self.x.y"]
    assert found(a=Holder(x=dice), b=Holder(y=dice)) == ["a.x"]  # one, though there are two ways to it
    assert found(a=np.random.default_rng(0), b=np.random.RandomState(0)) == ["a", "b"]
    assert found(a=random.SystemRandom(), b=torch.zeros(3), c=None, d="text", e=Holder) == []


def test_a_circle_ends_and_a_long_list_is_left_out():
    circle = Holder(dice=random.Random(0))
    circle.again = circle
    assert found(a=circle) == ["a.dice"]
    assert found(a=[random.Random(0)] * 1000) == []


def test_a_closure_that_is_not_filled_yet():
    def outer():
        def inner():
            return later

        seen = found(a=inner)
        later = random.Random(0)
        return seen, found(a=inner), later

    assert outer()[:2] == ([], ["a.later"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.Generator().manual_seed(0),
        lambda: random.Random(0),
        lambda: np.random.RandomState(0),
        lambda: np.random.default_rng(0),
        lambda: np.random.Generator(np.random.MT19937(0)),
        lambda: np.random.Generator(np.random.Philox(0)),
        lambda: np.random.Generator(np.random.SFC64(0)),
    ],
)
def test_every_kind_of_generator_comes_back_from_a_file(make, tmp_path):
    def draw(dice):
        if isinstance(dice, torch.Generator):
            return torch.rand(3, generator=dice).tolist()
        return [float(dice.normal() if hasattr(dice, "normal") else dice.gauss(0, 1)) for _ in range(3)]

    dice = make()
    draw(dice)
    torch.save(Sources({}, it=dice).read(), tmp_path / "state.pt")
    expected, other = draw(dice), make()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert Sources({}, it=other).problems(state) == []
    assert draw(other) != expected  # looking at the state changed nothing
    Sources({}, it=other).write(state)
    assert draw(other) == expected


def test_what_does_not_fit_is_named():
    loader = DataLoader(make_data(), 4, shuffle=True, generator=torch.Generator())
    state = Sources({"train_loader": loader}).read()
    other = DataLoader(make_data(), 4, sampler=DistributedSampler(make_data(), 1, 0))
    (line,) = Sources({"train_loader": other}).problems(state)
    words = "['train_loader.generator'] in the checkpoint, [] in this run (make them in __init__)"
    assert line == f"the data loaders had other generators: {words}"
    plain = DataLoader(make_data(), 4)
    (line,) = Sources({"train_loader": other}).problems(Sources({"train_loader": plain}).read())
    assert "the samplers count otherwise: ['train_loader.sampler.drop_last', 'train_loader.sampler.epoch'" in line
    state["generators"]["train_loader.generator"] = state["torch"][:10]
    (line,) = Sources({"train_loader": loader}).problems(state)
    assert line.startswith("the state of the random generator train_loader.generator does not fit: ")


def test_samplers_inside_of_samplers():
    inner = DistributedSampler(make_data(), 1, 0)

    class Outer(Sampler):
        def __init__(self):
            self.base = inner

        def __iter__(self):
            return iter(BatchSampler(self.base, 4, False))

    loader = DataLoader(make_data(), batch_sampler=Outer())
    assert samplers(loader)["batch_sampler.base"] is inner
    list(begin(loader, 3))
    assert inner.epoch == 3
    assert samplers([1, 2]) == {}


def test_every_sampler_is_told_every_epoch_once():
    told = []

    class Told(DistributedSampler):
        def set_epoch(self, epoch):
            told.append(epoch)
            super().set_epoch(epoch)

    sampler = Told(make_data(), 1, 0, shuffle=True)
    loader = DataLoader(make_data(), batch_sampler=BatchSampler(sampler, 4, False))
    orders = []

    class Watching(TensorDataset):
        def __getitem__(self, index):
            orders.append(index)
            return super().__getitem__(index)

    loader.dataset.__class__ = Watching
    Runner(make_step(), loader).train(3)
    assert told == [0, 1, 2]
    assert orders[:22] != orders[22:44] != orders[44:]


def test_a_module_kept_by_a_data_set_is_not_searched():
    data = make_data()
    data.np = np  # its global generator is everyone's, not this data set's
    assert Sources({"train_loader": DataLoader(data, 4)}).read()["generators"] == {}
