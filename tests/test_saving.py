import os
import signal
import stat

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from training import make_data, make_runner, make_step

from dlnotes import checkpoint
from dlnotes.averaging import EMA
from dlnotes.hooks import EarlyStopping, Hook
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint


class Script(Hook):
    """Validation results as written down."""

    def __init__(self, values):
        self.values = iter(values)

    def after_val_epoch(self, runner):
        runner.metrics["val_loss"] = next(self.values)


def weights(path):
    return checkpoint.load(path)["metrics"]["val_loss"]


def test_a_new_run_does_not_replace_an_older_ones_files(tmp_path):
    make_runner([Checkpoint(tmp_path, monitor="val_loss")]).train(2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match=r"last\.pt is another run's.*resume_if_possible.*another folder"):
        make_runner([Checkpoint(tmp_path, monitor="val_loss")]).train(2)
    (tmp_path / "last.pt").unlink()
    make_runner([Checkpoint(tmp_path)]).train(2)  # a best.pt alone gets another name
    assert before["best.pt"] == (tmp_path / "best.old-1.pt").read_bytes()


def test_its_own_files_are_replaced(tmp_path):
    runner = make_runner([Checkpoint(tmp_path, monitor="val_loss")])
    runner.train(1)
    runner.train(2)
    (tmp_path / "copy.pt").write_bytes((tmp_path / "last.pt").read_bytes())
    for file in ("last.pt", "copy.pt"):
        again = make_runner([Checkpoint(tmp_path, monitor="val_loss")], seed=1)
        again.resume(tmp_path / file)
        again.train(3)
    elsewhere = tmp_path / "elsewhere.pt"
    runner.save(tmp_path / "elsewhere.pt")
    mine, others = tmp_path / "mine", tmp_path / "others"
    make_runner([Checkpoint(others, monitor="val_loss")], seed=2).train(1)
    mine.mkdir()
    (mine / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes())
    for folder, foreign in ((mine, False), (others, True)):
        again = make_runner([Checkpoint(folder, monitor="val_loss")], seed=3)
        again.resume(elsewhere)
        if foreign:
            with pytest.raises(FileExistsError, match="another run's"):
                again.train(3)
        else:
            again.train(3)


def test_hooks_of_an_older_run_are_no_pass_for_a_new_one(tmp_path):
    hooks = [Checkpoint(tmp_path)]
    make_runner(hooks).train(1)
    with pytest.raises(FileExistsError):
        make_runner([Checkpoint(tmp_path)]).train(1)
    with pytest.raises(ValueError, match="Checkpoint holds the memory of another run"):
        make_runner(hooks).train(1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_folder_is_found_before_the_first_epoch(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    runner = make_runner([Checkpoint(tmp_path)])
    with pytest.raises(PermissionError):
        runner.train(1)
    assert runner.iteration == 0


def test_a_file_in_the_folders_place_is_found_before_the_first_epoch(tmp_path):
    (tmp_path / "run").write_text("a file")
    runner = make_runner([Checkpoint(tmp_path / "run")])
    with pytest.raises(OSError, match="run"):
        runner.train(1)
    assert runner.iteration == 0


def test_the_best_k_are_kept(tmp_path):
    values = [0.5, 0.3, float("nan"), 0.4, 0.2, 0.6]
    runner = make_runner([Script(values), Checkpoint(tmp_path, monitor="val_loss", keep=3)])
    runner.train(6)
    kept = {path.name: weights(path) for path in tmp_path.glob("best*.pt")}
    assert kept == {"best.pt": 0.2, "best-30.pt": 0.2, "best-12.pt": 0.3, "best-24.pt": 0.4}
    again = make_runner([Script([0.35]), Checkpoint(tmp_path, monitor="val_loss", keep=3)])
    assert again.resume_if_possible(tmp_path)
    again.train(7)
    assert {path.name for path in tmp_path.glob("best-*.pt")} == {"best-30.pt", "best-12.pt", "best-42.pt"}
    with pytest.raises(ValueError, match="keep must be >= 1, got 0"):
        Checkpoint(tmp_path, keep=0)


@pytest.mark.parametrize("end", ["max_steps", "stop", "interrupt"])
def test_a_run_that_ends_inside_an_epoch_is_saved(tmp_path, end):
    class End(Hook):
        def after_train_iter(self, runner):
            if runner.iteration == 8 and end == "stop":
                runner.stop("enough", now=True)
            if runner.iteration == 8 and end == "interrupt":
                signal.raise_signal(signal.SIGINT)

    whole = make_runner([Checkpoint(tmp_path / "whole")])
    whole.train(2)
    runner = make_runner([Checkpoint(tmp_path / "part"), End()])
    if end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            runner.train(2)
    else:
        runner.train(2, max_steps=8 if end == "max_steps" else None)
    assert (runner.iteration, runner.epoch) == (8, 1)
    resumed = make_runner([Checkpoint(tmp_path / "part")], seed=9)
    assert resumed.resume_if_possible(tmp_path / "part")
    resumed.stop_reason = None
    resumed.train(2)
    assert torch.equal(resumed.step.model[0].weight, whole.step.model[0].weight)
    assert resumed.history == whole.history


def test_one_bad_sample_under_fp16_ends_in_a_checkpoint(tmp_path):
    x, y = (tensor.clone() for tensor in make_data().tensors)
    x[5, 1] = float("inf")
    train, val = DataLoader(TensorDataset(x, y), 4), DataLoader(TensorDataset(x, y), 8)
    hooks = [Checkpoint(tmp_path, monitor="val_loss"), EarlyStopping()]
    torch.manual_seed(0)
    runner = Runner(make_step(amp="fp16"), train, val, hooks=hooks)
    runner.train(3)
    assert [record["skipped"] for record in runner.history] == [1, 1, 1]
    assert all(record["loss"] < 10 for record in runner.history)
    assert all(record["val_loss"] != record["val_loss"] for record in runner.history)  # NaN, and said
    saved = checkpoint.load(tmp_path / "last.pt")
    assert saved["epoch"] == 3
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("dlnotes.resuming.rank", lambda: 1)
    make_runner([Checkpoint(tmp_path / "run", monitor="val_loss", every=2)]).train(1)
    assert not (tmp_path / "run").exists()


def test_the_mode_must_be_known(tmp_path):
    assert Checkpoint(tmp_path, monitor="val_auc", mode="max").mode == "max"
    for make in (lambda: Checkpoint(tmp_path, monitor="val_auc"), lambda: EarlyStopping("val_auc")):
        with pytest.raises(ValueError, match="mode: say 'min' or 'max', whichever is better for 'val_auc'"):
            make()
    assert EarlyStopping("val_accuracy").mode == "max"
    assert EarlyStopping("val_loss").mode == "min"


def test_a_second_checkpoint_hook_is_refused_before_training(tmp_path):
    hooks = [Checkpoint(tmp_path / "a", monitor="val_loss"), Checkpoint(tmp_path / "b", monitor="val_accuracy")]
    runner = make_runner(hooks)
    with pytest.raises(ValueError, match="Checkpoint: one a run"):
        runner.train(1)
    assert runner.iteration == 0


def test_a_run_killed_before_its_first_last_pt_starts_again_by_itself(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"the killed run's")
    runner = make_runner([Checkpoint(tmp_path, monitor="val_loss")])
    assert not runner.resume_if_possible(tmp_path)
    runner.train(1)
    assert (tmp_path / "best.old-1.pt").read_bytes() == b"the killed run's"
    assert (tmp_path / "last.pt").exists()


def test_the_average_stays_in_a_validation_that_a_hook_looks_into(tmp_path):
    ema = EMA(0.5)

    class Look(Hook):
        def after_val_epoch(self, runner):
            runner.evaluate(runner.val_loader, weights=ema)

    runner = make_runner([ema, Look(), Checkpoint(tmp_path, monitor="val_loss")])
    runner.train(1)
    best = checkpoint.load(tmp_path / "best.pt")["model"]["0.weight"]
    assert torch.equal(best, ema.averages[0])
    assert not torch.equal(best, runner.step.model[0].weight)


def test_a_job_that_is_terminated_is_saved_and_goes_on(tmp_path):
    class Terminated(Hook):  # as in the docstring of Checkpoint
        def before_run(self, runner):
            self.before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))

        def after_run(self, runner):
            signal.signal(signal.SIGTERM, self.before)

    class Cluster(Hook):
        def before_train_iter(self, runner):
            if runner.iteration == 7:
                signal.raise_signal(signal.SIGTERM)

    whole = make_runner([Checkpoint(tmp_path / "whole")])
    whole.train(2)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        make_runner([Terminated(), Cluster(), Checkpoint(tmp_path / "part")]).train(2)
    assert signal.getsignal(signal.SIGTERM) == before
    resumed = make_runner([Checkpoint(tmp_path / "part")], seed=9)
    assert resumed.resume_if_possible(tmp_path / "part")
    assert resumed.iteration == 8
    resumed.train(2)
    assert resumed.history == whole.history
    assert torch.equal(resumed.step.model[0].weight, whole.step.model[0].weight)
