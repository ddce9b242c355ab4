import copy

import pytest
import torch
from training import make_model, make_runner

from dlnotes import checkpoint
from dlnotes.averaging import EMA
from dlnotes.hooks import POINTS, EarlyStopping, Hook, collect
from dlnotes.logs import Log, Progress
from dlnotes.pretrained import load_pretrained
from dlnotes.saving import Checkpoint


class Record(Hook):
    """Write down every point it is called at."""

    def __init__(self):
        self.seen = []


for point in POINTS:
    setattr(Record, point, lambda self, runner, point=point: self.seen.append(point))


def test_every_point_is_called_in_the_documented_order(tmp_path):
    record = Record()
    runner = make_runner([record, Checkpoint(tmp_path)])
    runner.train(epochs=2)
    iteration = ["before_train_iter", "after_train_iter"] * 6  # 22 samples in batches of 4
    validation = ["before_val", "before_val_epoch"] + ["before_val_iter", "after_val_iter"] * 3
    epoch = ["before_train_epoch", *iteration, *validation, "after_val_epoch", "after_val", "after_train_epoch"]
    epoch.append("before_save_checkpoint")
    assert record.seen == ["before_run", "before_train", *epoch, *epoch, "after_train", "after_run"]
    first_seen = list(dict.fromkeys(record.seen))
    assert first_seen == [point for point in POINTS if point != "after_load_checkpoint"]


def test_resuming_calls_after_load_checkpoint(tmp_path):
    make_runner([Record(), Checkpoint(tmp_path)]).train(epochs=1)
    record = Record()
    runner = make_runner([record, Checkpoint(tmp_path)])
    runner.resume(tmp_path / "last.pt")
    assert record.seen == ["after_load_checkpoint"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("after_trian_iter", "did you mean after_train_iter?"),
        ("on_train_epoch_end", "is not a hook point"),
        ("before_everything", "is not a hook point"),
        ("aftertrain_epoch", "did you mean after_train_epoch?"),
    ],
)
def test_unknown_points_are_refused_at_construction(name, hint):
    wrong = type("Wrong", (Hook,), {name: lambda self, runner: None})
    with pytest.raises(TypeError, match=rf"Wrong\.{name}.*{hint.replace('?', '.')}"):
        make_runner([wrong()])


def test_only_hooks_are_hooks():
    with pytest.raises(Exception, match="[Hh]ook"):
        collect(["after_train"])
    with pytest.raises(TypeError, match="hooks must be Hook objects, got 'after_train'"):
        collect.__wrapped__(["after_train"])


def test_higher_priority_runs_later_and_equal_ones_in_order():
    calls = []

    def make(name, priority):
        body = {"priority": priority, "after_train": lambda self, runner: calls.append(name)}
        return type(name, (Hook,), body)()

    make_runner([make("late", 100), make("a", 0), make("b", 0)]).train(epochs=1)
    assert calls == ["a", "b", "late"]


def test_log_prints_the_history(capsys):
    runner = make_runner([Log(every=2)])
    runner.train(epochs=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["epoch", "2", "iteration", "12"],
        ["epoch", "4", "iteration", "24"],
    ]
    assert f"val_loss {runner.history[-1]['val_loss']:.4g}" in lines[-1]
    with pytest.raises(ValueError, match="every must be >= 1, got 0"):
        Log(every=0)


def test_progress_counts_every_iteration(capsys):
    progress = Progress()
    make_runner([progress]).train(epochs=2)
    shown = capsys.readouterr().err
    assert "epoch 1:   0%" in shown
    assert "epoch 2" in shown
    assert "0/6" in shown
    assert progress.bar is None


def test_checkpoint_keeps_the_best_weights_and_the_last_run(tmp_path):
    scores = iter([0.2, 0.9, 0.5])
    folder = tmp_path / "new" / "folder"
    models = []

    class Copy(Hook):
        def after_val_epoch(self, runner):
            models.append(copy.deepcopy(runner.step.model.state_dict()))

    runner = make_runner([Checkpoint(folder, monitor="val_score", mode="max"), Copy()])
    score = [0.0]
    runner._metrics = {"score": lambda output, target: torch.tensor(score[0])}
    for epoch in range(3):
        score[0] = next(scores)
        runner.train(epochs=epoch + 1)
    best, last = (checkpoint.load(folder / name) for name in ("best.pt", "last.pt"))
    assert best["epoch"] == 2
    assert best["metrics"]["val_score"] == pytest.approx(0.9)
    assert last["epoch"] == 3
    assert all(torch.equal(value, models[1][name]) for name, value in best["model"].items())
    fresh = make_model()
    load_pretrained(fresh, folder / "best.pt")
    assert torch.equal(fresh[0].weight, models[1]["0.weight"])
    with pytest.raises(checkpoint.CheckpointError, match="holds weights, not a run"):
        make_runner().resume(folder / "best.pt")


def test_a_name_that_is_not_measured(tmp_path):
    for hook in (Checkpoint(tmp_path, monitor="accuracy"), EarlyStopping("accuracy")):
        with pytest.raises(KeyError, match="no 'accuracy' in the validation's results, which are .*'val_accuracy'"):
            make_runner([hook]).train(epochs=1)


def test_early_stopping_counts_validations_without_improvement():
    losses = iter([1.0, 0.5, 0.6, 0.45, 0.5, 0.44, 0.43])
    hook = EarlyStopping(patience=3, min_delta=0.1)

    class Script(Hook):
        priority = -1

        def after_val_epoch(self, runner):
            runner.metrics["val_loss"] = next(losses)

    runner = make_runner([Script(), hook])
    runner.train(epochs=100)
    assert runner.epoch == 5  # best 0.5 at epoch 2, then three that are not better by 0.1
    assert "val_loss has not improved for 3 validations" in runner.stop_reason
    with pytest.warns(UserWarning, match=r"was stopped \(val_loss has not improved.*runner.stop_reason = None"):
        runner.train(epochs=100)
    assert runner.epoch == 5  # a stopped run stays stopped


def test_ema_is_the_average_and_is_what_validation_sees():
    ema, trained, judged = EMA(decay=0.5), [], []

    class Watch(Hook):
        def before_train(self, runner):
            trained.append(runner.step.model[0].weight.detach().clone())

        def after_train_iter(self, runner):
            trained.append(runner.step.model[0].weight.detach().clone())

        def after_val_epoch(self, runner):
            judged.append(runner.step.model[0].weight.detach().clone())

    runner = make_runner([ema, Watch()])
    runner.train(epochs=1)
    expected = trained[0]
    for weight in trained[1:]:
        expected = 0.5 * expected + 0.5 * weight
    torch.testing.assert_close(judged[0], expected)
    assert torch.equal(runner.step.model[0].weight, trained[-1])  # training goes on with its own weights


def test_ema_puts_the_weights_back_when_validation_fails():
    ema = EMA(decay=0.9)
    runner = make_runner([ema])
    runner.train(epochs=1)
    before = runner.step.model[0].weight.clone()
    runner._metrics = {"broken": lambda output, target: 1 / 0}
    with pytest.raises(ZeroDivisionError):
        runner.validate()
    assert torch.equal(runner.step.model[0].weight, before)


def test_ema_weights_are_the_best_weights(tmp_path):
    ema = EMA(decay=0.9)
    runner = make_runner([ema, Checkpoint(tmp_path, monitor="val_loss")])
    runner.train(epochs=1)
    best = checkpoint.load(tmp_path / "best.pt")["model"]
    assert torch.equal(best["0.weight"], ema.averages[0])
    assert not torch.equal(best["0.weight"], runner.step.model[0].weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Checkpoint("x", every=0), "every must be >= 1 or None, got 0"),
        (lambda: Checkpoint("x", monitor="a", mode="best"), "mode must be 'min' or 'max', got 'best'"),
        (lambda: EarlyStopping(patience=0), "patience must be >= 1, got 0"),
        (lambda: EarlyStopping(min_delta=-1.0), "min_delta must be >= 0, got -1.0"),
        (lambda: EMA(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_help_shows_the_points_in_their_order():
    table = [line.split()[0] for line in Hook.__doc__.splitlines() if line.strip().startswith(("before_", "after_"))]
    assert table == list(POINTS)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"state_dict": lambda self: {}}, "Half has state_dict and no load_state_dict"),
        ({"load_state_dict": lambda self, state: None}, "Half has load_state_dict and no state_dict"),
    ],
)
def test_a_memory_that_would_not_be_restored_is_refused_at_construction(methods, words):
    with pytest.raises(TypeError, match=words):
        make_runner([type("Half", (Hook,), methods)()])


def test_hooks_show_how_they_were_made():
    assert repr(EMA(0.9)) == "EMA(decay=0.9, warmup=False)"
    assert repr(Checkpoint("run", every=5)).endswith("every=5, monitor=None, mode=None, keep=1)")
    assert repr(EarlyStopping("val_accuracy", 3)) == (
        "EarlyStopping(monitor='val_accuracy', patience=3, mode='max', min_delta=0.0)"
    )
    runner = make_runner([Log()])
    assert repr(runner) == "Runner(Sequential, epoch=0, iteration=0, hooks=[Log(every=1)])"


def test_hooks_cannot_be_added_in_silence():
    runner = make_runner([Log()])
    with pytest.raises(AttributeError, match="append"):
        runner.hooks.append(EMA())


def test_every_method_is_called_although_others_fail():
    calls = []

    def make(name, error):
        def call(self, runner):
            calls.append(name)
            if error:
                raise error

        return type(name, (Hook,), {"after_train": call, "after_run": call})()

    runner = make_runner([make("a", KeyError("first")), make("b", None), make("c", OSError("second"))])
    with pytest.raises(KeyError, match="first") as caught:
        runner.train(1)
    assert calls == ["a", "b", "c"] * 2
    assert len(caught.value.__notes__) == 3


def test_a_hook_with_another_runs_memory_is_refused():
    stopping = EarlyStopping(patience=3)
    make_runner([stopping]).train(1)
    with pytest.raises(ValueError, match="EarlyStopping holds the memory of another run"):
        make_runner([stopping]).train(1)
