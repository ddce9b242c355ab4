import copy

import pytest
import torch
from torch import nn
from training import make_data, make_model, make_runner, make_step

from dlnotes.averaging import EMA
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import Hook
from dlnotes.modes import freeze
from dlnotes.runner import Runner


class See(Hook):
    """The trained weights after every update."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner):
        self.weights.append(runner.step.model[0].weight.detach().clone())


def failing(point, priority):
    def fail(self, runner):
        raise ZeroDivisionError(point)

    return type("Failing", (Hook,), {point: fail, "priority": priority})()


@pytest.mark.parametrize("priority", [-1, 1], ids=["before EMA", "after EMA"])
@pytest.mark.parametrize(
    "point", ["before_val", "before_val_epoch", "before_val_iter", "after_val_iter", "after_val_epoch", "after_val"]
)
def test_the_trained_weights_come_back_whatever_fails(point, priority):
    see = See()
    runner = make_runner([see, EMA(0.9), failing(point, priority)])
    with pytest.raises(ZeroDivisionError, match=point):
        runner.train(1)
    assert torch.equal(runner.step.model[0].weight, see.weights[-1])
    assert [module.training for module in runner.step.model] == [True] * 5


def test_two_failures_are_told_and_the_first_is_raised():
    runner = make_runner([EMA(0.9), failing("before_val_epoch", 0), failing("after_val", 0)])
    with pytest.raises(ZeroDivisionError, match="before_val_epoch") as caught:
        runner.train(1)
    assert "after_val" in caught.value.__notes__[0]


def test_interrupted_in_the_middle_of_the_exchange(monkeypatch):
    runner = make_runner([see := See(), ema := EMA(0.9)])
    runner.train(1)
    copies = iter([None] * 3)
    to = torch.Tensor.to

    def interrupted(tensor, *options):
        if next(copies, "interrupt") == "interrupt":
            raise KeyboardInterrupt
        return to(tensor, *options)

    monkeypatch.setattr(torch.Tensor, "to", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ema.before_val(runner)
    monkeypatch.undo()
    ema.after_val(runner)
    assert torch.equal(runner.step.model[0].weight, see.weights[-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_average_of_16_bit_weights_moves(dtype):
    model, ema = nn.Linear(1, 1, bias=False, dtype=dtype), EMA(0.999)
    with torch.no_grad():
        model.weight.fill_(1.0)
        ema.start(model)
        model.weight.fill_(1.5)
    runner = Runner(make_step(), [])
    runner.step.model = model
    for _ in range(5000):
        ema.after_train_iter(runner)
    assert ema.averages[0].dtype == torch.float32
    assert ema.averages[0].item() == pytest.approx(1.5 - 0.5 * 0.999**5000, abs=1e-4)
    with ema.averaged(model):
        assert model.weight.dtype == dtype
        assert model.weight.item() == pytest.approx(1.4966, abs=0.005)
    assert model.weight.item() == 1.5


def test_warm_up_forgets_the_start():
    ema, see = EMA(0.999, warmup=True), See()
    runner = make_runner([see, ema])
    expected = runner.step.model[0].weight.detach().clone()
    runner.train(2)
    for t, weight in enumerate(see.weights, 1):
        decay = min(0.999, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(ema.averages[0], expected)
    assert ema.updates == 12


def test_apply_makes_the_average_the_weights():
    runner = make_runner([ema := EMA(0.5)])
    runner.train(1)
    other = make_model()
    fresh = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError, match="has no buffers, and the batch norm '1' has seen no batch here: load"):
        ema.apply(other)
    assert all(torch.equal(value, fresh[name]) for name, value in other.state_dict().items())
    other.load_state_dict(runner.step.model.state_dict())
    ema.apply(other)
    for average, parameter in zip(ema.averages, other.parameters(), strict=True):
        assert torch.equal(average, parameter)
    ema.apply(runner.step.model)
    assert torch.equal(runner.step.model[0].weight, ema.averages[0])
    result = runner.evaluate(runner.val_loader, weights=ema)
    assert result == runner.evaluate(runner.val_loader)
    with pytest.raises(CheckpointError, match=r"of another model than this one: \['0\.bias', '0\.weight'"):
        ema.apply(nn.Sequential(nn.Linear(3, 9)))
    swapped = copy.deepcopy(runner.step.model)
    swapped[1]._parameters = dict(reversed(swapped[1]._parameters.items()))
    with pytest.raises(CheckpointError, match="the order of the parameters"):
        ema.apply(swapped)


def test_whole_numbers_have_no_average():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.arange(3), requires_grad=False)
            self.scale = nn.Parameter(torch.ones(1))

    ema = EMA(0.9)
    ema.start(Quantised())
    assert [average.dtype for average in ema.averages] == [torch.float32]


def test_validation_before_the_run_sees_the_weights_as_they_are():
    runner = make_runner([EMA(0.9)])
    assert runner.validate() == {f"val_{n}": v for n, v in runner.evaluate(runner.val_loader).items()}
    assert len(make_data()) == 22


def test_a_second_average_is_refused_and_one_that_is_not_there_yet_is_told():
    with pytest.raises(ValueError, match="EMA: a validation judges one average, so a run has one EMA"):
        make_runner([EMA(0.9), EMA(0.5)]).train(1)
    with pytest.raises(CheckpointError, match="there is no average yet"):
        EMA(0.9).apply(make_model())


def test_a_batch_norm_that_the_run_itself_never_fed_is_no_hindrance():
    model = make_model()
    freeze(model[1])
    runner = make_runner([ema := EMA(0.5)], model=model)
    runner.train(1)
    assert model[1].num_batches_tracked == 0
    ema.apply(model)
    assert torch.equal(model[0].weight, ema.averages[0])
