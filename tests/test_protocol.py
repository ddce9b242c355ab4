import inspect

import pytest
import torch
from torch import nn
from training import make_data, make_model, make_step

from dlnotes.protocol import METHODS, Evaluation, check_logs, check_step
from dlnotes.runner import Runner

BATCHES = [tuple(tensor[:4] for tensor in make_data().tensors)] * 3


class Own:
    """A step of one's own, of the least that will do."""

    accumulate = 1

    def __init__(self, logs=None):
        self.model = make_model()
        self.logs = {"loss": 0.5, "count": 4, "samples": 4, "skipped": 0} if logs is None else logs

    def __call__(self, batches):
        return self.logs

    def evaluate(self, batch):
        return Evaluation(None, None, {"loss": 0.5}, 4.0, 4)

    def predict(self, batch):
        return self.model(batch[0])

    def learning_rates(self):
        return {"lr": 0.1}

    def state_dict(self):
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])

    def mismatches(self, state):
        return []


def build(step):
    """A Runner, past the type checker of the tests."""
    runner = object.__new__(Runner)
    inspect.unwrap(Runner.__init__)(runner, step, BATCHES, BATCHES)
    return runner


def test_a_step_of_ones_own_is_run():
    runner = build(Own())
    runner.train(2)
    assert [(r["loss"], r["val_loss"]) for r in runner.history] == [(0.5, 0.5)] * 2


@pytest.mark.parametrize("name", ["model", "accumulate", *METHODS])
def test_every_member_that_is_missing_is_named_when_the_runner_is_built(name):
    step = type("Half", (), {n: v for n, v in vars(Own).items() if n not in (name, "__init__", "__dict__")})()
    if name != "model":
        step.model = make_model()
    with pytest.raises(TypeError, match=rf"step must be a Step .*, and a Half has no {name}$"):
        build(step)


def test_what_is_no_step():
    cases = {
        "got a class: write Own": Own,
        r"got a Linear, a model: write TrainStep\(model, loss, optimizer\)": nn.Linear(1, 1),
        "a int has no model, accumulate, __call__": 3,
    }
    for words, step in cases.items():
        with pytest.raises(TypeError, match=words):
            build(step)
    step = Own()
    step.model = "a model"
    with pytest.raises(TypeError, match=r"step\.model must be a module, .* got 'a model'"):
        build(step)
    for accumulate, error in ((0, ValueError), (1.5, TypeError)):
        step = Own()
        step.accumulate = accumulate
        with pytest.raises(error, match=r"step\.accumulate must be >= 1.* got"):
            check_step(step)
    check_step(make_step())


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ({"count": 4, "skipped": 0, "extra": 1}, "loss is missing among .*'count', 'extra', 'skipped'"),
        ({"loss": 0.5, "skipped": 0}, "count is missing"),
        ({"loss": 0.5, "count": 4}, "skipped is missing"),
        ({}, "loss, count, skipped is missing"),
        (None, "must return a dict of what there is to log, got NoneType"),
        (0.5, "got float"),
        ({"loss": torch.tensor(0.5), "count": 4, "skipped": 0}, r"loss is a Tensor; write \.item\(\)"),
        ({"loss": "low", "count": 4, "skipped": 0}, "loss is a str"),
    ],
)
def test_logs_that_are_not_as_they_must_be_are_told_at_their_first_use(logs, words):
    step = Own()
    step.logs = logs
    runner = build(step)
    with pytest.raises(TypeError, match=f"^step: .*{words}") as caught:
        runner.train(1)
    assert runner.error is caught.value


def test_another_error_is_not_taken_for_that_of_logs():
    runner = build(Own())
    runner.logs = {}
    runner.train_loader = [1]
    runner.step = make_step()
    with pytest.raises(ValueError, match="how many samples"):
        runner.train(1)
    check_logs({"loss": 0.5, "count": 4, "skipped": 0})


@pytest.mark.parametrize("loader", [3, list, None])
def test_what_gives_no_batches(loader):
    with pytest.raises(TypeError, match="train_loader must give batches"):
        inspect.unwrap(Runner.__init__)(object.__new__(Runner), Own(), loader)
    if loader is not None:
        with pytest.raises(TypeError, match="val_loader must give batches"):
            inspect.unwrap(Runner.__init__)(object.__new__(Runner), Own(), BATCHES, loader)
