import signal
import threading

import pytest
import torch
from training import make_runner

from dlnotes.hooks import Hook
from dlnotes.interrupts import patient
from dlnotes.saving import Checkpoint


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_or_not():
    answers = iter([True, False])
    seen = []
    with pytest.raises(KeyboardInterrupt), patient(lambda: next(answers)):
        ctrl_c()
        seen.append("it waited")
        ctrl_c()
        seen.append("not reached")
    assert seen == ["it waited"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_somebody_elses_handler_and_other_threads_are_left_alone():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append("theirs"))
    try:
        with patient(lambda: pytest.fail("not asked")):
            ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == ["theirs"]
    with patient(lambda: True):
        mine = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=lambda: calls.append(enter()))
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) is mine
    assert calls == ["theirs", "entered"]


def enter():
    with patient(lambda: True):
        return "entered"


class CtrlC(Hook):
    def __init__(self, point, times=1, at=8):
        self.times, self.at, self.ended = times, at, []
        setattr(self, point, self.press)

    def press(self, runner):
        if runner.iteration == self.at:
            self.at = None
            for _ in range(self.times):
                ctrl_c()

    def after_train(self, runner):
        self.ended.append(type(runner.error))

    after_run = after_train


def test_an_update_is_made_whole_and_writers_are_closed():
    whole = make_runner()
    whole.train(3)
    hook = CtrlC("before_train_iter", at=7)
    runner = make_runner([hook])
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert runner.iteration == 8  # the eighth was about to be made, and was
    assert hook.ended == [KeyboardInterrupt] * 2
    runner.train(3)  # on it goes, as if nothing had been
    assert torch.equal(runner.step.model[0].weight, whole.step.model[0].weight)
    assert runner.history == whole.history


def test_a_second_ctrl_c_does_not_wait():
    runner = make_runner([CtrlC("before_train_iter", times=2, at=7)])
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert runner.iteration == 7
    assert runner.unsaveable == "an update has begun and is not complete"


@pytest.mark.parametrize("point", ["before_val", "before_val_iter", "after_val_iter", "after_val_epoch", "after_val"])
def test_a_validation_is_finished_so_that_its_epoch_is_saved(point, tmp_path):
    whole = make_runner()
    whole.train(3)
    runner = make_runner([CtrlC(point, at=12), Checkpoint(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert (runner.epoch, runner.iteration, len(runner.history)) == (2, 12, 2)
    resumed = make_runner([Checkpoint(tmp_path)], seed=9)
    assert resumed.resume_if_possible(tmp_path)
    resumed.train(3)
    assert torch.equal(resumed.step.model[0].weight, whole.step.model[0].weight)


def test_a_second_ctrl_c_leaves_a_validation():
    runner = make_runner([CtrlC("after_val_iter", times=2, at=12)])
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert (runner.epoch, runner.iteration, len(runner.history)) == (1, 12, 1)
    assert runner.step.model.training
    assert runner.unsaveable == "a validation did not end"


def test_ctrl_c_while_the_run_is_closed_is_not_lost():
    class Press(Hook):
        def after_run(self, runner):
            ctrl_c()

    runner = make_runner([Press()])
    with pytest.raises(KeyboardInterrupt):
        runner.train(1)
    assert runner.epoch == 1


def test_workers_that_ctrl_c_has_ended_too_are_no_error(tmp_path):
    class Ended:  # a loader that breaks after the signal, as one of spawned workers does
        def __iter__(self):
            yield from batches
            ctrl_c()
            raise RuntimeError("DataLoader worker exited unexpectedly")

    runner = make_runner([Checkpoint(tmp_path)])
    batches, runner.train_loader = list(runner.train_loader)[:2], Ended()
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert runner.iteration == 2
    assert (tmp_path / "last.pt").exists()


def test_at_the_last_update_of_an_epoch_no_validation_follows():
    runner = make_runner([CtrlC("after_train_iter", at=6)])
    with pytest.raises(KeyboardInterrupt):
        runner.train(3)
    assert (runner.epoch, runner.iteration_in_epoch, runner.history) == (0, 6, [])
    runner.hooks[0].at = None
    runner.train(1)
    assert (runner.epoch, len(runner.history)) == (1, 1)
