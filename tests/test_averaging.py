import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from training import make_data, make_model, make_runner, make_step

from dlnotes import averaging
from dlnotes.averaging import EMA, recalibrate
from dlnotes.checkpoint import CheckpointError
from dlnotes.evaluation import evaluate
from dlnotes.hooks import Hook
from dlnotes.modes import freeze
from dlnotes.norms import BatchNorm1d, InstanceNorm1d
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint


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
    ema.start(runner.step.model)
    other = make_model()
    fresh = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError, match="has no buffers, and the batch norm '1' has seen no batch here: load"):
        ema.apply(other)
    assert all(torch.equal(value, fresh[name]) for name, value in other.state_dict().items())
    runner.train(1)
    ema.apply(other)  # the statistics of the average go with it
    assert other[1].num_batches_tracked == len(runner.train_loader)
    with ema.averaged(runner.step.model):
        same = runner.step.model.state_dict()
        assert all(torch.equal(value, same[name]) for name, value in other.state_dict().items())
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


# ---- batch norm's statistics


def make_net(kind=nn.BatchNorm1d, dropout=0.0):
    return nn.Sequential(nn.Linear(3, 8), kind(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 8), kind(8), nn.Tanh())


def batches_of(size=4, samples=22):
    x, y = make_data(samples).tensors
    return list(zip((5 * x + 3).split(size), y.split(size), strict=True))


class Judged(Hook):
    """What the model holds while it is judged, and what the trained one holds."""

    priority = 1

    def before_train(self, runner):
        self.states, self.trained = [], []

    def after_train_iter(self, runner):
        self.last = copy.deepcopy(runner.step.model.state_dict())

    def before_val_epoch(self, runner):
        self.states.append(copy.deepcopy(runner.step.model.state_dict()))
        self.trained.append(self.last)


def statistics(state):
    return {name: value for name, value in state.items() if "running" in name}


def distance(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in statistics(one))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, BatchNorm1d], ids=["torch's", "ours"])
def test_the_judged_network_has_the_statistics_of_the_averaged_weights(kind):
    """The oracle is torch's: the averaged weights in a new network, and update_bn over the training data."""
    torch.manual_seed(0)
    batches, ema, judged = batches_of(), EMA(0.9), Judged()
    step = make_step(make_net(kind))
    runner = Runner(step, batches, batches_of(10, 10), hooks=[ema, judged])
    runner.train(3)
    losses = {"right": [], "foreign": []}
    for state, trained in zip(judged.states, judged.trained, strict=True):
        oracle = make_net()
        oracle.load_state_dict(state)
        torch.optim.swa_utils.update_bn([x for x, _ in batches], oracle)
        torch.testing.assert_close(statistics(state), statistics(oracle.state_dict()), rtol=1e-4, atol=1e-5)
        assert state["1.num_batches_tracked"] == len(batches)
        assert distance(state, trained) > 0.3  # those of the trained weights are far from it
        for kind_of, found in (("right", state), ("foreign", state | statistics(trained))):
            oracle.load_state_dict(found)
            make = make_step(oracle.eval())
            losses[kind_of].append(evaluate(make, batches_of(10, 10))["loss"])
    assert [record["val_loss"] for record in runner.history] == pytest.approx(losses["right"], rel=1e-4)
    assert all(abs(a - b) > 0.01 for a, b in zip(losses["right"], losses["foreign"], strict=True))
    assert distance(runner.step.model.state_dict(), judged.trained[-1]) == 0  # and training's are back


def test_statistics_at_the_end_of_a_run_without_validation_and_of_one_resumed(tmp_path):
    torch.manual_seed(0)
    runner = Runner(make_step(make_net()), batches_of(), hooks=[ema := EMA(0.9), Checkpoint(tmp_path)])
    runner.train(2)
    oracle = make_net()
    ema.apply(oracle)
    state = copy.deepcopy(oracle.state_dict())
    torch.optim.swa_utils.update_bn([x for x, _ in batches_of()], oracle)
    torch.testing.assert_close(statistics(state), statistics(oracle.state_dict()), rtol=1e-4, atol=1e-5)
    runner.save(tmp_path / "end.pt")
    again = Runner(make_step(make_net()), batches_of(), hooks=[other := EMA(0.9), Checkpoint(tmp_path / "2")])
    again.resume(tmp_path / "end.pt")
    assert other.statistics.keys() == ema.statistics.keys()
    assert all(torch.equal(other.statistics[name], value) for name, value in ema.statistics.items())
    saved = ema.state_dict()
    del saved["statistics"], saved["calibrated"]  # as it was written before there were any
    EMA(0.9).load_state_dict(saved)


def test_nothing_is_recomputed_in_what_is_frozen_nor_without_running_statistics():
    model = make_net()
    model[1](torch.randn(5, 8))
    freeze(model[1])
    before = copy.deepcopy(model[1].state_dict())
    runner = Runner(make_step(model), batches_of(), batches_of(), hooks=[EMA(0.9), judged := Judged()])
    runner.train(1)
    assert all(torch.equal(judged.states[0][f"1.{name}"], before[name]) for name in statistics(before))
    assert distance(judged.states[0], judged.trained[0]) > 0
    plain = Runner(make_step(nn.Linear(3, 2)), Once(batches_of()), batches_of(), hooks=[EMA(0.9)])
    plain.train(1)
    assert plain.train_loader.begun == 1


class Once:
    def __init__(self, batches):
        self.batches, self.begun = batches, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.batches)


def test_the_loader_given_is_gone_through_whole_and_the_runs_own_for_a_while(monkeypatch):
    monkeypatch.setattr(averaging, "BATCHES", 2)
    for given, seen in ((None, 2), (batches_of(11), 2), (batches_of(2), 11)):
        ema = EMA(0.9, loader=given)
        Runner(make_step(make_net()), batches_of(), batches_of(), hooks=[ema]).train(1)
        assert ema.statistics["1.num_batches_tracked"] == seen


@pytest.mark.parametrize("options", [{}, {"val_every": 2}, {"generator": True}])
def test_training_is_not_disturbed(options):
    """Shuffling and dropout draw the same numbers with and without it."""
    runs = [make_runner(hooks, **options) for hooks in ([], [EMA(0.9)])]
    for runner in runs:
        torch.manual_seed(1)
        runner.train(2)
    states = [runner.step.model.state_dict() for runner in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
def test_workers_in_the_middle_of_an_epoch_go_on():
    data = make_data()
    weights = []
    for hooks in ([], [EMA(0.9)]):
        torch.manual_seed(0)
        loader = DataLoader(data, 4, shuffle=True, num_workers=1, persistent_workers=True)
        runner = Runner(make_step(make_model()), loader, batches_of(), hooks=hooks, val_every=2)
        runner.train(2)
        weights.append(runner.step.model[0].weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_recalibrate_equals_update_bn(momentum):
    ours, theirs = make_net(BatchNorm1d), make_net()
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        model[1].momentum = momentum
        model(torch.randn(4, 3))
    inputs = [x for x, _ in batches_of()]
    recalibrate(ours, inputs, ours)
    torch.optim.swa_utils.update_bn(inputs, theirs)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()))
    assert ours[1].momentum == momentum
    assert all(module.training for module in ours)
    assert not ours[1]._forward_pre_hooks


def test_recalibrate_leaves_out_dropout_and_knows_instance_norm():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3))
    x = torch.randn(50, 3)
    recalibrate(model, [x], model)
    torch.testing.assert_close(model[1].running_mean, x.mean(0))
    x = torch.randn(3, 4, 2, 5)
    for norm in (nn.InstanceNorm1d(2, track_running_stats=True), InstanceNorm1d(2, track_running_stats=True)):
        recalibrate(norm.eval(), x, norm)
        torch.testing.assert_close(norm.running_mean, x.mean((0, 1, 3)))
        torch.testing.assert_close(norm.running_var, x.var(3).mean((0, 1)))
        assert not norm.training


def test_recalibrate_that_fails_changes_nothing():
    model = make_net()
    model(torch.randn(4, 3))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="loader gave no batches"):
        recalibrate(model, [], model)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        recalibrate(model, [torch.randn(4, 3), torch.randn(1, 3)], model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model)
    assert model[1].momentum == 0.1
    recalibrate(nn.Linear(1, 1), [], model)  # there is nothing to do
