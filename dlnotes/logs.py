r"""Hooks that show and write what a run reports: a line, a bar, a table, TensorBoard."""

import contextlib
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dlnotes.arguments import check_whole
from dlnotes.files import replacing
from dlnotes.hooks import Hook

if TYPE_CHECKING:
    from dlnotes.runner import Runner


class Progress(Hook):
    r"""A tqdm bar for each epoch, on standard error.

    >>> Progress().bar is None
    True
    """

    def __init__(self):
        self.bar: tqdm[Any] | None = None

    def before_train_iter(self, runner: "Runner") -> None:  # not before_train_epoch: a run may resume inside one
        if self.bar is None:
            name, start = f"epoch {runner.epoch + 1}", runner.iteration_in_epoch
            self.bar = tqdm(desc=name, total=runner.iterations_per_epoch, initial=start, leave=False)

    def after_train_iter(self, runner: "Runner") -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{runner.logs['loss']:.4g}", refresh=False)
            self.bar.update()

    def after_train_epoch(self, runner: "Runner") -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    after_train = after_train_epoch  # a run that ends inside an epoch


class _Reader(Hook):
    r"""Hands each new record of the history to ``read``, as soon as it is there."""

    priority = 90
    _seen = 0

    def before_run(self, runner: "Runner") -> None:
        self._seen = len(runner.history)

    def after_train_epoch(self, runner: "Runner") -> None:
        if len(runner.history) != self._seen:
            new, self._seen = runner.history[self._seen :], len(runner.history)
            if runner.is_main:
                self.read(runner, new)

    after_train_iter = after_train = after_train_epoch  # a validation inside an epoch makes a record too

    def read(self, runner: "Runner", records: list[dict[str, float]]) -> None:
        raise NotImplementedError


class Log(_Reader):
    r"""Print the history's new lines, of every epoch or of every ``every``-th: four digits, whole numbers in full.

    A resumed run says first where it comes from.

    >>> Log(every=0)
    Traceback (most recent call last):
    ...
    ValueError: every must be >= 1, got 0
    """

    def __init__(self, every: int = 1):
        check_whole("every", every)
        self.every = every

    def before_run(self, runner: "Runner") -> None:
        super().before_run(runner)
        if runner.resumed_from is not None and runner.is_main:
            print(f"resumed from {runner.resumed_from}, after {runner.epoch} epochs and {runner.iteration} updates")

    def read(self, runner: "Runner", records: list[dict[str, float]]) -> None:
        for record in records:
            if record["epoch"] % self.every == 0:
                print("  ".join(f"{name} {_short(value)}" for name, value in record.items()))


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


class _OnlyTried(Exception):
    pass


class CSV(_Reader):
    r"""Write the history as a table, a line for each of its records, the columns named in the first line.

    The file is written anew, whole or not at all, with every record (:func:`dlnotes.files.replacing` says how): a
    resumed run repeats no line and loses none. A table without a record is nobody's, and replaced.

    Args:
        path: the file; its folder is made if it is missing.

    Raises:
        FileExistsError: a new run would replace an older run's table.
        OSError: the file cannot be written; found before the first epoch.

    >>> CSV("run/log.csv")
    CSV(path='run/log.csv')
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        self._own = False

    def before_run(self, runner: "Runner") -> None:
        super().before_run(runner)
        if runner.is_main:
            with contextlib.suppress(_OnlyTried), replacing(self.path):
                raise _OnlyTried  # it can be written; an error leaves what stood there
            if not self._own and not runner.iteration and self._has_records():
                raise FileExistsError(f"{self.path} is an older run's: move it, or give another path")
            if runner.history:
                self.read(runner, [])

    def _has_records(self) -> bool:
        r"""Whether something stands at the path that is more than the names of columns."""
        if not Path(self.path).exists():
            return False
        with open(self.path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if line.strip()]
        return len(lines) > 1 or any("epoch" not in line.strip().split(",") for line in lines)

    def read(self, runner: "Runner", records: list[dict[str, float]]) -> None:
        names = list(dict.fromkeys(name for record in runner.history for name in record))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, names)
        table.writeheader()
        table.writerows(runner.history)
        with replacing(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        self._own = True


class TensorBoard(_Reader):
    r"""Show the run in TensorBoard: the losses of updates as ``update/…``, the history as ``epoch/…``.

    Args:
        folder: where torch's :class:`~torch.utils.tensorboard.writer.SummaryWriter` puts its files.
        every: updates between two points of ``update/…``, default 10.

    Raises:
        ImportError: the package ``tensorboard`` is not installed.
        ValueError: ``every`` is out of range.
        FileExistsError: a new run would be drawn over an older one.

    A resumed run goes on in the same folder; what was written after the checkpoint it came from is dropped.

    >>> TensorBoard("run", every=0)
    Traceback (most recent call last):
    ...
    ValueError: every must be >= 1, got 0
    """

    def __init__(self, folder: str | Path, every: int = 10):
        check_whole("every", every)
        self.folder, self.every = str(folder), every
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not everyone has it
        except ImportError as error:
            raise ImportError("TensorBoard needs the package tensorboard: pip install tensorboard") from error
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def before_run(self, runner: "Runner") -> None:
        super().before_run(runner)
        if runner.is_main:
            if not runner.iteration and any(Path(self.folder).glob("events.out.tfevents*")):
                raise FileExistsError(f"{self.folder} holds an older run: move it, or give another folder")
            self._writer = self._make(self.folder, purge_step=runner.iteration + 1)

    def after_train_iter(self, runner: "Runner") -> None:
        self.after_train_epoch(runner)
        if self._writer is not None and runner.iteration % self.every == 0:
            self._write("update", runner.logs | runner.step.learning_rates(), runner.iteration)

    def read(self, runner: "Runner", records: list[dict[str, float]]) -> None:
        for record in records:
            self._write("epoch", record, int(record["iteration"]))

    def _write(self, group: str, values: dict[str, float], iteration: int) -> None:
        for name, value in values.items():
            if name not in ("count", "samples", "iteration"):
                self._writer.add_scalar(f"{group}/{name}", value, iteration)

    def after_run(self, runner: "Runner") -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
