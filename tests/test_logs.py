import csv
import sys
import types

import pytest
from training import make_runner

from dlnotes.hooks import Hook
from dlnotes.logs import CSV, Log, Progress, TensorBoard
from dlnotes.saving import Checkpoint


class Writer:
    """What torch's SummaryWriter does, written down."""

    made = ()

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.points, self.closed = folder, purge_step, [], False
        self.made.append(self)

    def add_scalar(self, name, value, step):
        assert not self.closed
        self.points.append((name, value, step))

    def close(self):
        self.closed = True


@pytest.fixture
def writers(monkeypatch):
    monkeypatch.setattr(Writer, "made", [])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    return Writer.made


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_is_the_history_also_after_a_resume(tmp_path):
    path = tmp_path / "logs" / "log.csv"
    runner = make_runner([CSV(path), Checkpoint(tmp_path / "run")])
    runner.train(3)
    assert [{name: float(value) for name, value in row.items()} for row in read(path)] == runner.history
    (tmp_path / "earlier.pt").write_bytes((tmp_path / "run" / "last.pt").read_bytes())
    runner.train(5)
    assert len(read(path)) == 5
    again = make_runner([CSV(path), Checkpoint(tmp_path / "run")], seed=1)
    again.resume(tmp_path / "earlier.pt")
    again.train(4)
    assert [row["epoch"] for row in read(path)] == ["1", "2", "3", "4"]
    assert list(path.parent.iterdir()) == [path]


def test_csv_does_not_replace_an_older_runs_table(tmp_path):
    path = tmp_path / "log.csv"
    make_runner([CSV(path)]).train(1)
    with pytest.raises(FileExistsError, match=r"log\.csv is an older run's"):
        make_runner([CSV(path)]).train(1)
    assert len(read(path)) == 1


def test_csv_that_cannot_be_written_is_found_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("")
    runner = make_runner([CSV(tmp_path / "file" / "log.csv")])
    with pytest.raises(OSError, match="file"):
        runner.train(1)
    assert runner.iteration == 0


def test_csv_of_a_run_that_was_killed_before_its_first_record_is_no_older_runs(tmp_path):
    class Killed(Hook):
        def after_train_iter(self, runner):
            raise KeyboardInterrupt

    path = tmp_path / "log.csv"
    with pytest.raises(KeyboardInterrupt):
        make_runner([CSV(path), Killed()]).train(1)
    assert not list(tmp_path.iterdir())
    for empty in ("", "\r\n", "epoch,iteration,loss\r\n"):
        path.write_text(empty)
        make_runner([CSV(path)]).train(1)
        assert len(read(path)) == 1
    for full in ("one line of notes\n", "epoch,loss\r\n1,0.5\r\n"):
        path.write_text(full)
        with pytest.raises(FileExistsError, match="is an older run's"):
            make_runner([CSV(path)]).train(1)
        assert path.read_text() == full.replace("\r\n", "\n")


def test_csv_keeps_a_symbolic_link_and_sweeps_what_a_killed_writer_left(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("")
    path = tmp_path / "log.csv"
    path.symlink_to(target)
    (tmp_path / "checkpoint.tmp-0123456789abcdef").write_text("half")
    make_runner([CSV(path)]).train(1)
    assert path.is_symlink()
    assert len(read(target)) == 1
    assert sorted(tmp_path.iterdir()) == [path, target]


def test_csv_at_a_folder_is_found_before_the_first_epoch(tmp_path):
    runner = make_runner([CSV(tmp_path)])
    with pytest.raises(IsADirectoryError):
        runner.train(1)
    assert runner.iteration == 0


def test_whole_numbers_are_printed_in_full(capsys):
    Log().read(make_runner(), [{"epoch": 1, "iteration": 12345, "val_loss": 0.123456, "skipped": 6.0}])
    assert capsys.readouterr().out == "epoch 1  iteration 12345  val_loss 0.1235  skipped 6\n"


def test_columns_that_come_later_are_added(tmp_path):
    path = tmp_path / "log.csv"
    runner = make_runner([CSV(path)], amp="fp16")
    runner.step.scaler.load_state_dict(runner.step.scaler.state_dict() | {"scale": 2.0**8})
    runner.train(1)
    runner.step.scaler.load_state_dict(runner.step.scaler.state_dict() | {"scale": 2.0**40})
    runner.train(2)
    assert [row["skipped"] for row in read(path)] == ["", "6.0"]


def test_records_inside_an_epoch_are_written_and_printed(tmp_path, capsys):
    runner = make_runner([CSV(tmp_path / "log.csv"), Log()], val_every=4)
    runner.train(2, max_steps=10)
    assert [record["iteration"] for record in runner.history] == [4, 6, 8]
    assert [row["iteration"] for row in read(tmp_path / "log.csv")] == ["4", "6", "8"]
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["4", "6", "8"]


def test_tensorboard_gets_updates_and_epochs(writers, tmp_path):
    runner = make_runner([TensorBoard(tmp_path, every=4)], clip_norm=1.0)
    runner.train(2)
    (writer,) = writers
    assert writer.closed
    assert writer.purge_step == 1
    assert [(name, step) for name, _, step in writer.points if name == "update/loss"] == [
        ("update/loss", 4),
        ("update/loss", 8),
        ("update/loss", 12),
    ]
    assert [(value, step) for name, value, step in writer.points if name == "epoch/val_loss"] == [
        (record["val_loss"], record["iteration"]) for record in runner.history
    ]
    assert {"update/grad_norm", "update/lr", "epoch/lr", "epoch/val_accuracy"} <= {name for name, *_ in writer.points}
    runner.train(3)
    assert writers[1].purge_step == 13


def test_the_writer_is_closed_when_the_run_fails(writers, tmp_path):
    class Fails(Hook):
        def after_train_iter(self, runner):
            raise KeyError("oh")

    with pytest.raises(KeyError):
        make_runner([TensorBoard(tmp_path), Fails()]).train(1)
    assert writers[0].closed


def test_tensorboard_does_not_draw_over_an_older_run(writers, tmp_path):
    (tmp_path / "events.out.tfevents.1.host").write_text("")
    with pytest.raises(FileExistsError, match="holds an older run"):
        make_runner([TensorBoard(tmp_path)]).train(1)


def test_tensorboard_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoard(tmp_path)


def test_a_real_writer(tmp_path):
    pytest.importorskip("tensorboard")
    make_runner([TensorBoard(tmp_path)]).train(1)
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_the_bar_is_closed_when_the_run_ends_inside_an_epoch(capsys):
    progress = Progress()
    make_runner([progress]).train(max_steps=2)
    assert progress.bar is None
