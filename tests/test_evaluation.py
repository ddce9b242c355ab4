import collections
import inspect
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training import make_data, make_model, make_runner, make_step

from dlnotes import checkpoint
from dlnotes.averaging import EMA
from dlnotes.evaluation import Tally, accuracy, checked, evaluate, holding, predict
from dlnotes.hooks import Hook
from dlnotes.protocol import Evaluation
from dlnotes.runner import Runner
from dlnotes.step import TrainStep


class F1:
    """Of two classes: no mean over batches. The interface is torchmetrics'."""

    def __init__(self):
        self.resets = 0

    def reset(self):
        self.resets += 1
        self.hits = self.wrong = 0

    def update(self, output, target):
        predicted = output.argmax(1)
        self.hits += (predicted * target).sum().item()
        self.wrong += (predicted != target).sum().item()

    def compute(self):
        return torch.tensor(2 * self.hits / (2 * self.hits + self.wrong))


class Module(nn.Module):
    """A metric that is a module, with tensors and a dict of values, as torchmetrics has them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2))

    def reset(self):
        self.total = torch.zeros_like(self.total)

    def update(self, output, target):
        self.total += torch.stack([target.sum(), torch.tensor(len(target))])

    def compute(self):
        return {"ones": self.total[0], "all": self.total[1]}


def test_metrics_with_a_memory_are_computed_once_over_everything():
    f1, module = F1(), Module()
    runner = make_runner()
    runner._metrics = {"f1": f1, "count": module, "accuracy": accuracy}
    x, y = make_data(10, seed=1).tensors
    predicted = runner.predict([(x,)]).argmax(1)
    hits = (predicted * y).sum().item()
    expected = 2 * hits / (2 * hits + (predicted != y).sum().item())
    for _ in range(2):  # forgotten in between
        result = runner.validate()
        assert result["val_f1"] == pytest.approx(expected)
        assert (result["val_count_ones"], result["val_count_all"]) == (y.sum().item(), 10)
        assert result["val_accuracy"] == pytest.approx((predicted == y).float().mean().item())
    assert f1.resets == 2
    assert list(result) == ["val_loss", "val_accuracy", "val_f1", "val_count_ones", "val_count_all"]


def test_a_metric_may_be_a_float():
    runner = make_runner()
    runner._metrics = {"rows": lambda output, target: float(len(target))}
    assert runner.validate()["val_rows"] == (16 + 16 + 4) / 10


def test_a_metric_that_computes_no_number():
    class Wrong(F1):
        def compute(self):
            return torch.ones(2)

    runner = make_runner()
    runner._metrics = {"wrong": Wrong()}
    with pytest.raises(TypeError, match=r"metrics: wrong must compute a number, got tensor\(\[1\., 1\.\]\)"):
        runner.validate()


@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 1, 2)])
def test_the_accuracy_of_a_single_logit_is_refused(shape):
    with pytest.raises(ValueError, match=r"two classes or more.*of a single logit the accuracy is \(\(output > 0\)"):
        accuracy(torch.ones(shape), torch.ones(4))


def test_a_batch_without_samples_leaves_metrics_as_they_are():
    def rows(output, target):
        return (output.sum(1) * 0 + len(target)).mean()

    f1 = F1()
    runner = make_runner()
    runner._metrics = {"rows": rows, "f1": f1}
    whole = make_data(10, seed=1).tensors
    empty = whole[0][:0], whole[1][:0]
    expected = evaluate(runner.step, [whole], runner._metrics)
    assert evaluate(runner.step, [empty, whole, empty], runner._metrics) == expected
    assert expected["rows"] == 10
    with pytest.raises(ValueError, match="loader gave no batches"):
        evaluate(runner.step, [empty], runner._metrics)


def test_losses_weigh_by_what_they_are_means_over():
    tally = Tally({"rows": lambda output, target: 1.0}, nn.Linear(1, 1))
    tally.add(Evaluation(None, None, {"loss": 4.0, "part": 2.0}, count=1, samples=3))
    tally.add(Evaluation(None, None, {"loss": 0.0, "part": 0.0}, count=3, samples=1))
    tally.add(Evaluation(None, None, {"loss": math.nan, "part": math.nan}, count=0, samples=2))  # nothing counts
    assert tally.results() == {"loss": 1.0, "part": 0.5, "rows": 1.0}
    empty = Tally({}, nn.Linear(1, 1))
    empty.add(Evaluation(None, None, {"loss": 0.0}, count=0, samples=2))
    with pytest.raises(ValueError, match="nothing for the loss to average over"):
        empty.results()


def test_validation_with_padding_is_the_mean_over_tokens():
    def per_token(output, target):
        loss = nn.functional.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)
        return {"loss": loss, "count": (target != -100).sum()}

    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    x, y = torch.randn(4, 3, 2), torch.randint(3, (4, 3))
    y[0, 1:] = y[2] = -100
    step = TrainStep(model, per_token, torch.optim.SGD(model.parameters(), lr=0.0))
    batches = [(x[:1], y[:1]), (x[1:3], y[1:3]), (x[3:], y[3:])]
    runner = Runner(step, batches, batches)
    runner.train(1)
    with torch.no_grad():
        whole = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100).item()
    assert runner.history[0]["val_loss"] == pytest.approx(whole, rel=1e-5)
    assert runner.history[0]["loss"] == pytest.approx(whole, rel=1e-5)  # history too; the rate is 0


def test_names_of_losses_are_taken():
    with pytest.raises(ValueError, match="'loss' is the name of the loss"):
        Runner(make_step(), [], metrics={"loss": accuracy})
    tally = Tally({"part": accuracy}, nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"\['part'\] are names of losses"):
        tally.add(Evaluation(None, None, {"loss": 1.0, "part": 1.0}, 1, 1))


def test_evaluate_with_other_weights_leaves_no_trace(tmp_path):
    runner = make_runner([ema := EMA(0.9)])
    runner.train(2)
    x, y = make_data(7, seed=3).tensors
    loader, own = DataLoader(TensorDataset(x, y), 3), runner.step.model.state_dict()
    own = {name: value.clone() for name, value in own.items()}
    better = make_model()
    checkpoint.save(tmp_path / "best.pt", {"model": better.state_dict()})
    expected = {}
    for name, weights in {"own": own, "better": better.state_dict()}.items():
        model = make_model()
        model.load_state_dict(weights)
        expected[name] = nn.functional.cross_entropy(model.eval()(x), y).item()
    assert runner.evaluate(loader)["loss"] == pytest.approx(expected["own"], rel=1e-5)
    for weights in (tmp_path / "best.pt", str(tmp_path / "best.pt"), better.state_dict()):
        assert runner.evaluate(loader, weights)["loss"] == pytest.approx(expected["better"], rel=1e-5)
    averaged = runner.evaluate(loader, ema)
    assert averaged != runner.evaluate(loader)
    assert set(averaged) == {"loss", "accuracy"}
    assert all(torch.equal(value, own[name]) for name, value in runner.step.model.state_dict().items())
    assert all(module.training for module in runner.step.model)
    torch.testing.assert_close(runner.predict(loader, better.state_dict()), better.eval()(x).detach())


def test_the_own_weights_come_back_after_an_error():
    model = make_model()
    before = model[0].weight.clone()
    with pytest.raises(ZeroDivisionError), holding(model, make_model().state_dict()):
        assert not torch.equal(model[0].weight, before)
        raise ZeroDivisionError
    assert torch.equal(model[0].weight, before)
    with pytest.raises(checkpoint.CheckpointError), holding(model, {"0.weight": torch.zeros(1)}):
        raise AssertionError("it was accepted")


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("wrap", "check"),
    [
        (lambda y: y, lambda p: p),
        (lambda y: {"y": y, "z": [*y]}, lambda p: p["y"] if len(p["z"]) == 5 else None),
        (lambda y: (y, y + 1), lambda p: p[1] - 1),
        (lambda y: Pair(y, None), lambda p: p.a if p.b == [None] * 3 else None),
        (lambda y: [row for row in y], lambda p: torch.stack(p)),
    ],
)
def test_predictions_of_every_form_are_joined(wrap, check):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2)

        def forward(self, x):
            return wrap(self.net(x))

    model = Wrapped()
    step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    x = torch.randn(5, 3)
    predictions = predict(step, DataLoader(x, 2))
    torch.testing.assert_close(check(predictions), model.net(x))
    assert not check(predictions).requires_grad
    with_targets = predict(step, DataLoader(TensorDataset(x, torch.zeros(5, 2)), 2))
    torch.testing.assert_close(check(with_targets), model.net(x))


def test_loaders_without_batches():
    for function in (evaluate, predict):
        with pytest.raises(ValueError, match="loader gave no batches"):
            function(make_step(), [])


def test_accuracy():
    scores = torch.tensor([[[3.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]])  # (2 samples, 2 classes, 2 places)
    assert accuracy(scores, torch.tensor([[0, 1], [1, 0]])) == 0.75
    with pytest.raises(ValueError, match=r"target must have the shape \(2, 2\), got \(2,\)"):
        accuracy(scores, torch.tensor([0, 1]))


def test_wrong_metrics_are_named_before_training():
    class Counts:
        def update(self, output, target):
            pass

    for metrics, message in (
        ([accuracy], "metrics must be a dict of names and functions, got a list"),
        ({"f1": Counts}, r"metrics: f1 must be .*, got a class: write Counts\(\)"),
        ({"f1": Counts()}, "metrics: f1 must be a function or have reset, update and compute"),
    ):
        with pytest.raises(TypeError, match=message):
            checked.__wrapped__(metrics)
    step = make_step()
    with pytest.raises(TypeError, match=r"metrics: shapes must compute a number, got tensor\("):
        evaluate(step, [make_data(4).tensors], {"shapes": lambda output, target: output})


def test_a_look_at_other_data_changes_no_training():
    ends = []
    for looks in (False, True):

        class Look(Hook):
            def after_train_epoch(self, runner, looks=looks):
                if looks:
                    runner.evaluate(DataLoader(make_data(10, seed=1), batch_size=4, shuffle=True))
                    runner.predict(DataLoader(make_data(10, seed=1).tensors[0], batch_size=4, shuffle=True))

        runner = make_runner([Look()])
        runner.train(3)
        ends.append(runner.step.model[0].weight.detach().clone())
    assert torch.equal(*ends)


def test_a_step_that_evaluates_to_something_else():
    class Wrong(TrainStep):
        def evaluate(self, batch):
            return tuple(super().evaluate(batch))

    model = make_model()
    step = Wrong(model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    tally = Tally({}, model)
    with pytest.raises(TypeError, match=r"step\.evaluate must return an Evaluation .*, got a tuple"):
        inspect.unwrap(Tally.add)(tally, step.evaluate(make_data(4).tensors))


def test_a_look_at_other_data_inside_a_validation_leaves_its_metrics_alone():
    class Look(Hook):
        def after_val_iter(self, runner):
            self.seen = runner.evaluate(DataLoader(make_data(7, seed=3), 3))

    results = []
    for hooks in ([], [look := Look()]):
        runner = make_runner(hooks)
        runner._metrics = {"f1": F1(), "count": Module(), "accuracy": accuracy}
        results.append(runner.validate())
    assert results[0] == results[1]
    assert look.seen == runner.evaluate(DataLoader(make_data(7, seed=3), 3))


def test_a_validation_inside_of_a_validation_is_refused():
    class Again(Hook):
        def after_val_iter(self, runner):
            runner.validate()

    with pytest.raises(RuntimeError, match=r"a validation is under way; call runner\.evaluate"):
        make_runner([Again()]).validate()
