r"""The hook that writes a run's files: the last state, to resume from, and the best weights."""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlnotes import checkpoint, files
from dlnotes.arguments import check_whole
from dlnotes.hooks import Best, Hook
from dlnotes.resuming import ranks

if TYPE_CHECKING:
    from dlnotes.runner import Runner


class Checkpoint(Hook):
    r"""Keep ``last.pt``, everything a run needs to resume, and ``best.pt``, the weights that validated best.

    ``last.pt`` is written after every epoch, and with ``every=n`` after every n-th update too; also when the run ends
    inside an epoch (``max_steps``, ``stop(now=True)``, Ctrl-C). ``best.pt``, with ``monitor``, is written when the
    monitored value of the validation improves; it holds the weights that were judged (the averaged ones under
    :class:`~dlnotes.averaging.EMA`), for :func:`~dlnotes.pretrained.load_pretrained`.

    Args:
        folder: where the files go; made if missing.
        every: updates between two writes of ``last.pt`` inside an epoch; ``None`` (default) for none.
        monitor: a name in the validation's results, such as ``"val_loss"``; ``None`` for no ``best.pt``.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger; ``None`` (default) for names that end in ``loss``
            or ``accuracy``, where it is known.
        keep: how many of the best weights stay, default 1. With more, each is also kept under the iteration it was
            judged at, as ``best-120.pt``.

    Raises:
        ValueError: ``every``, ``mode`` or ``keep`` is out of range. TypeError: ``every`` or ``keep`` is not whole.
        FileExistsError: the folder holds another run's files, which a new run would replace: resume that run, or
            give another folder. (A ``best.pt`` alone, of a run stopped in its first epoch, is kept under another name.)
        OSError: the folder cannot be written to; found before the first epoch.

    Of several processes only the first one (rank 0) writes; give each the same validation data, since each judges
    by its own.

    >>> Checkpoint("run", monitor="val_accuracy").mode
    'max'

    A cluster ends a job with the signal SIGTERM. This hook lets it do what Ctrl-C does: the update under way is
    finished and ``last.pt`` written, and the script, started again, goes on from there.

    >>> import signal, tempfile, torch
    >>> from dlnotes.runner import Runner
    >>> from dlnotes.step import TrainStep
    >>> class Terminated(Hook):
    ...     def before_run(self, runner):
    ...         self.before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    ...     def after_run(self, runner):
    ...         signal.signal(signal.SIGTERM, self.before)
    >>> class Cluster(Hook):
    ...     def before_train_iter(self, runner):
    ...         if runner.iteration == 2:
    ...             signal.raise_signal(signal.SIGTERM)
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     runner = Runner(step, [(torch.ones(2, 1),) * 2] * 9, hooks=[Terminated(), Cluster(), Checkpoint(folder)])
    ...     try:
    ...         runner.train(1)
    ...     except KeyboardInterrupt:
    ...         checkpoint.load(folder + "/last.pt")["iteration"]
    3
    """

    priority = 100  # after the other hooks, whose state it saves
    saves = True

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int | None = None,
        monitor: str | None = None,
        mode: str | None = None,
        keep: int = 1,
    ):
        check_whole("every", every, optional=True)
        check_whole("keep", keep)
        self.folder, self.every, self.monitor, self.keep = Path(folder), every, monitor, keep
        self.best = None if monitor is None else Best(monitor, mode)
        self.mode = None if self.best is None else self.best.mode
        self._sign = 1 if self.best is None else self.best.sign
        self._kept: list[tuple[float, str]] = []  # values and names of files, the best first
        self._run = self._saved = None  # the run that the folder belongs to, and the iteration last written

    def before_run(self, runner: "Runner") -> None:
        if sum(isinstance(hook, Checkpoint) for hook in runner.hooks) > 1:  # the first would miss what the second does
            raise ValueError("Checkpoint: one a run; for more files write a hook that calls checkpoint.save")
        if not runner.is_main:
            return
        if self._run != runner.run:
            self._require_own_folder(runner)
        files.prepare(self.folder)
        self._run = runner.run

    def _require_own_folder(self, runner: "Runner") -> None:
        came_from = runner.resumed_from
        if came_from is not None and came_from.parent.resolve() == self.folder.resolve():
            return
        last, best = self.folder / "last.pt", self.folder / "best.pt"
        if last.exists() and (came_from is None or checkpoint.load(last).get("run") != runner.run):
            raise FileExistsError(
                f"{last} is another run's, and this run would replace it: resume that run "
                f"(runner.resume_if_possible({str(self.folder)!r})), give another folder, or move the old files"
            )
        if best.exists() and not last.exists():  # of a run that was stopped before it could write the last
            free = (self.folder / f"best.old-{number}.pt" for number in itertools.count(1))
            best.rename(next(path for path in free if not path.exists()))

    def after_train_iter(self, runner: "Runner") -> None:
        if self.every and runner.iteration % self.every == 0:
            self.after_train_epoch(runner)

    def after_val_epoch(self, runner: "Runner") -> None:
        if self.best is None or not runner.is_main:
            return
        improved, value = self.best.improves(runner.metrics), runner.metrics[self.best.monitor]
        names = ["best.pt"] if improved else []
        if self.keep > 1 and not math.isnan(value):
            names.append(f"best-{runner.iteration}.pt")
            ranked = sorted([*self._kept, (value, names[-1])], key=lambda kept: -self._sign * kept[0])
            self._kept, dropped = ranked[: self.keep], ranked[self.keep :]
            for _, name in dropped:
                (self.folder / name).unlink(missing_ok=True)
                names = [kept for kept in names if kept != name]
        weights = {"model": runner.step.model.state_dict(), "metrics": dict(runner.metrics)}
        weights |= {"epoch": runner.epoch + 1, "iteration": runner.iteration}
        for name in names:
            checkpoint.save(self.folder / name, weights)

    def after_train_epoch(self, runner: "Runner") -> None:
        runner.save(self.folder / "last.pt")
        self._saved = runner.iteration

    def after_run(self, runner: "Runner") -> None:
        ended_inside = runner.iteration_in_epoch and runner.iteration != self._saved
        whole = runner.error is None or isinstance(runner.error, KeyboardInterrupt)
        # Processes that are interrupted stop at different updates, and would wait for each other.
        if ended_inside and whole and runner.unsaveable is None and (runner.error is None or ranks() == 1):
            self.after_train_epoch(runner)

    def state_dict(self) -> dict[str, Any]:
        if self.best is None:
            return {}
        kept = [list(pair) for pair in self._kept]
        return {"monitor": self.monitor, "mode": self.mode, "best": self.best.value, "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.best is not None:
            self.best.load(state)
            self._kept = [(value, name) for value, name in state["kept"]]
