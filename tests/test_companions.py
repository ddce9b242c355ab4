"""torchmetrics and TensorBoard, as users have them: a small convolutional net on digits with both.

Neither is among what the tests need; where one is not installed its tests are skipped.
"""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlnotes.averaging import EMA
from dlnotes.data import digits
from dlnotes.evaluation import accuracy
from dlnotes.hooks import EarlyStopping, Hook
from dlnotes.logs import TensorBoard
from dlnotes.optim import SGD
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.step import TrainStep

# What they warn about is theirs; what this package would warn about fails as everywhere.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings(r"error:::dlnotes\..*")]


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )


def loaders():
    data = digits()
    train = TensorDataset(data.x_train[:320], data.y_train[:320])
    return DataLoader(train, 32, shuffle=True), DataLoader(TensorDataset(data.x_test, data.y_test), 100)


def make_runner(hooks=(), metrics=None, **options):
    model = make_net()
    step = TrainStep(model, nn.functional.cross_entropy, SGD(model.parameters(), lr=0.05, momentum=0.9), **options)
    return Runner(step, *loaders(), metrics=metrics, hooks=hooks)


def metrics():
    classification = pytest.importorskip("torchmetrics.classification")
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection(
        {"precision": classification.MulticlassPrecision(10), "recall": classification.MulticlassRecall(10)}
    )
    return {
        "f1": classification.MulticlassF1Score(10, average="macro"),
        "auroc": classification.MulticlassAUROC(10),
        "of": collection,
        "accuracy": accuracy,
    }


def test_torchmetrics_over_the_whole_of_the_data(tmp_path):
    functional = pytest.importorskip("torchmetrics.functional.classification")

    class Look(Hook):
        def after_val_iter(self, runner):
            runner.evaluate(runner.val_loader, weights=runner.hooks[0])

    hooks = [EMA(0.9), EarlyStopping("val_auroc", mode="max"), Checkpoint(tmp_path, monitor="val_f1", mode="max")]
    runner = make_runner(hooks, metrics(), amp="bf16", clip_norm=1.0, accumulate=2)
    runner.train(2)
    data, last = digits(), runner.history[-1]
    scores = runner.predict([(data.x_test,)], weights=hooks[0])
    expected = {
        "val_f1": functional.multiclass_f1_score(scores, data.y_test, 10, average="macro"),
        "val_auroc": functional.multiclass_auroc(scores, data.y_test, 10),
        "val_of_precision": functional.multiclass_precision(scores, data.y_test, 10),
        "val_of_recall": functional.multiclass_recall(scores, data.y_test, 10),
        "val_accuracy": accuracy(scores, data.y_test),
    }
    for name, value in expected.items():
        assert last[name] == pytest.approx(value.item(), abs=0.01), name
    assert last["val_f1"] > 0.3
    best = runner.evaluate(runner.val_loader, weights=tmp_path / "best.pt")
    assert best["f1"] == pytest.approx(last["val_f1"], abs=0.02)
    looking = make_runner([EMA(0.9), Look()], metrics(), amp="bf16", clip_norm=1.0, accumulate=2)
    looking.train(1)
    assert looking.history[0] == runner.history[0]  # other data judged inside the validation


def test_a_metric_of_vectors_is_told():
    classification = pytest.importorskip("torchmetrics.classification")
    runner = make_runner(metrics={"f1": classification.MulticlassF1Score(10, average=None)})
    with pytest.raises(TypeError, match="metrics: f1 must compute a number, got tensor"):
        runner.validate()
    with pytest.raises(TypeError, match=r"metrics: f1 must be .*, got a class: write MulticlassF1Score\(\)"):
        make_runner(metrics={"f1": classification.MulticlassF1Score})


def events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_shows_the_history_also_of_a_run_that_was_killed_and_resumed(tmp_path):
    pytest.importorskip("tensorboard")

    class Kill(Hook):
        priority = 200

        def after_train_iter(self, runner):
            if runner.iteration == 17:
                raise KeyError("killed")

    def hooks():
        return [TensorBoard(tmp_path / "board", every=5), Checkpoint(tmp_path / "run")]

    with pytest.raises(KeyError):
        make_runner([*hooks(), Kill()]).train(3)
    resumed = make_runner(hooks())
    assert resumed.resume_if_possible(tmp_path / "run")
    assert resumed.iteration == 10
    resumed.train(3)
    seen = events(tmp_path / "board")
    assert [step for step, _ in seen["update/loss"]] == [5, 10, 15, 20, 25, 30]  # 15 was drawn twice, and once dropped
    for name in ("loss", "val_loss", "lr"):
        expected = [(record["iteration"], pytest.approx(record[name], rel=1e-6)) for record in resumed.history]
        assert seen[f"epoch/{name}"] == expected
    with pytest.raises(FileExistsError, match="holds an older run"):
        make_runner([TensorBoard(tmp_path / "board")]).train(1)
