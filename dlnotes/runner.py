r"""The Runner: epochs, iterations, the order of events, and exact resumption."""

import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dlnotes import comparing, evaluation, modes, protocol, resuming, settings, validation
from dlnotes.evaluation import Measure, Metric, Weights
from dlnotes.hooks import Calls, Hook
from dlnotes.interrupts import patient
from dlnotes.memory import Memory, given_rates
from dlnotes.protocol import Step
from dlnotes.randomness import Sources, begin, counters
from dlnotes.step import NonFiniteError


class Runner:
    r"""Train a model for some epochs, validate after each, and call the hooks on the way.

    The ``step`` makes the updates; the hooks observe. One iteration is one update, of ``step.accumulate`` batches.
    The points are called in the order of :data:`dlnotes.hooks.POINTS`; validation comes inside its epoch, before
    ``after_train_epoch``, so that there ``history[-1]`` is complete (mmengine validates after it).

    Args:
        step: the update, such as :class:`~dlnotes.step.TrainStep`; any :class:`~dlnotes.protocol.Step` will do.
        train_loader: gives the batches of an epoch each time it is iterated: a ``DataLoader``, a list.
        val_loader: the same for validation after every epoch; ``None`` for none.
        metrics: by name, functions ``f(output, target)``, means over the samples of a batch, or objects with
            ``reset``, ``update`` and ``compute``, such as torchmetrics'; validation reports them as ``val_name``.
        hooks: :class:`~dlnotes.hooks.Hook` objects. They are fixed: ``runner.hooks`` is a tuple.
        val_every: validate after every so many updates too, not only after an epoch; default ``None``.

    Attributes:
        epoch, iteration, iteration_in_epoch: how many are complete.
        history: one dict an epoch, and one for each validation inside of one: ``epoch``, ``iteration``, ``loss`` and
            further losses of the step (means over the updates of the epoch so far, weighted by what the loss averages
            over), ``lr`` (``lr_1``, … of further groups: the rates now, which the *next* update takes), ``skipped``
            (updates skipped by the loss scaler, under fp16), ``val_loss`` and ``val_<metric>``.
        logs: what the last update returned. metrics: what the last validation gave.
        batch, output: of the validation, at its ``after_val_iter``.
        stop_reason: why the run was stopped early, or ``None``. error: what ended it otherwise.
        run: a name that no other run has. resumed_from: the file it was taken up from, or ``None``.
        unsaveable: why the run cannot be saved at this moment, or ``None``.

    Raises:
        TypeError: the step lacks something of :class:`~dlnotes.protocol.Step`; a hook has a method that is no hook
            point; a loader can be gone through only once.
        ValueError: a metric is called ``loss``; ``val_every`` is out of range, or there is no ``val_loader`` for it.
        NonFiniteError: the loss became NaN or infinite; the message names the iteration.

    Parts of the model that are in evaluation mode when an epoch begins stay in it
    (:func:`~dlnotes.modes.freeze`); a model that is so as a whole is put into training mode.

    A run saved and resumed is bit-identical to one never stopped, in the same environment. For that the loader must
    draw its order when an epoch starts, as torch's samplers do, or from generators of its own, wherever they are kept
    in loader, samplers, data set or transforms. What cannot be found out, and so is not exact: an order drawn bit by
    bit from the *shared* generators, from which a model with dropout draws too; random augmentation in persistent
    workers; what a data set remembers beyond its generators; generators in global variables.

    >>> import torch
    >>> from dlnotes.step import TrainStep
    >>> _ = torch.manual_seed(0)
    >>> data = torch.utils.data.TensorDataset(torch.arange(8.0)[:, None], 2 * torch.arange(8.0)[:, None])
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.01))
    >>> runner = Runner(step, torch.utils.data.DataLoader(data, batch_size=4, shuffle=True))
    >>> runner.train(epochs=20)
    >>> round(model.weight.item()), runner.iteration
    (2, 40)
    """

    def __init__(
        self,
        step: Step,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        metrics: Mapping[str, Measure | Metric] | None = None,
        hooks: Sequence[Hook] = (),
        val_every: int | None = None,
    ):
        protocol.check_step(step)
        comparing.check_loaders(train_loader, val_loader, val_every)
        self.step, self.train_loader, self.val_loader, self.val_every = step, train_loader, val_loader, val_every
        self._metrics, self.hooks = evaluation.checked(metrics or {}), tuple(hooks)
        self.call = Calls(self.hooks, self)
        comparing.check_saveable(self.hooks)
        self.epoch = self.iteration = self.iteration_in_epoch = 0
        self.history: list[dict[str, float]] = []
        self.logs: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.batch: Any = None  # and the output for it, in validation
        self.output: Any = None
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self.unsaveable: str | None = None
        self.run = uuid.uuid4().hex
        self.resumed_from: Path | None = None
        self.memory = Memory(given_rates(step), settings.read(step, self.hooks), counters(self.loaders()))
        self._limit = math.inf  # the iteration to end at; -1: at once
        self._interrupted = False

    def __repr__(self) -> str:
        model = type(self.step.model).__name__
        end = "" if self.resumed_from is None else f", resumed_from={str(self.resumed_from)!r}"
        return f"Runner({model}, epoch={self.epoch}, iteration={self.iteration}, hooks={list(self.hooks)}{end})"

    @property
    def iterations_per_epoch(self) -> int | None:
        r"""Updates in an epoch, or ``None`` if the loader does not know its length."""
        batches = comparing.length(self.train_loader)
        return None if batches is None else -(-batches // self.step.accumulate)

    @property
    def is_main(self) -> bool:
        r"""Whether this process is the one that writes files: the only one, or the first (rank 0)."""
        return resuming.rank() == 0

    def train(self, epochs: int | None = None, *, max_steps: int | None = None) -> None:
        r"""Train until ``epochs`` epochs or ``max_steps`` updates are complete, whichever is first.

        Both are counted from the start of the run, also after a resume; a warning says if there is nothing left to do.
        A run that ends inside an epoch leaves no record of that epoch. Ctrl-C ends the run after the update or the
        validation under way (a second one at once). However it ends, ``after_train`` and ``after_run`` are called.

        Raises:
            ValueError: neither is given, one is < 1, or a hook monitors a validation without a ``val_loader``.
            TypeError: one is not whole, or the step's logs are not as :class:`~dlnotes.protocol.Step` says.
            KeyError: a hook monitors what the validation does not give.
        """
        resuming.check_goal(self, epochs, max_steps)
        validation.require_monitored(self, self._metrics)
        self._limit, self._interrupted, self.error = math.inf if max_steps is None else max_steps, False, None
        logs_before = self.logs
        with patient(self._wait):
            try:
                self.unsaveable = "the run is about to begin"
                with resuming.as_it_was(self):
                    self.call("before_run")
                    self.call("before_train")
                while (epochs is None or self.epoch < epochs) and self.iteration < self._limit:
                    if self.stop_reason is not None:
                        break
                    self._train_epoch()
                self.unsaveable = None
                if self._interrupted:
                    raise KeyboardInterrupt
            except BaseException as error:
                self.error = error if self.logs is logs_before else protocol.explained(error, self.logs)
                raise self.error  # noqa: B904 - it may be the same one
            finally:
                self.call.whatever_fails(self.error, "after_train", "after_run")
                if self._interrupted and self.error is None:  # pressed since
                    raise KeyboardInterrupt

    def stop(self, reason: str, *, now: bool = False) -> None:
        r"""End the run after the current epoch, or ``now``: after the current update. ``stop_reason`` says why."""
        self.stop_reason = reason
        if now:
            self._limit = -1

    def _wait(self) -> bool:
        r"""Whether Ctrl-C shall wait for the end of what is being made: the first time, yes."""
        first, self._interrupted, self._limit = not self._interrupted, True, -1
        return first

    def _train_epoch(self) -> None:
        self.unsaveable = "an epoch is about to begin"
        self.memory.frozen = modes.train_but(self.step.model, self.memory.frozen)
        if not self.iteration_in_epoch:  # a resumed epoch has begun already
            self.call("before_train_epoch")
            self.memory.epoch_start = self.sources().read()
        self.memory.frozen = modes.train_but(self.step.model, self.memory.frozen)
        call, step, sums = self.call, self.step, self.memory.sums
        before = call.methods("before_train_iter")  # called here: this loop is what the Runner costs
        for batches in self._batches():
            for method in before:
                method(self)
            try:
                self.logs = logs = step(batches)
            except NonFiniteError as error:
                raise NonFiniteError(f"iteration {self.iteration + 1} (epoch {self.epoch + 1}): {error}") from error
            self.iteration += 1
            self.iteration_in_epoch += 1
            count = logs["count"]
            if len(logs) > 4 or logs["skipped"] or not count:
                self.memory.add(logs)
            else:
                sums["count"] += count
                sums["loss"] += logs["loss"] * count
            self.unsaveable = None
            call("after_train_iter")
            if self.iteration >= self._limit:
                break
            self.unsaveable = "an update has begun and is not complete"
        if not self.iteration_in_epoch and not self._interrupted:
            raise ValueError("train_loader gave no batches")
        if self._limit < 0 or (self.iteration >= self._limit and self.iteration_in_epoch != self.iterations_per_epoch):
            self._validate_if_due()
            return
        self._record()
        self.epoch, self.iteration_in_epoch = self.epoch + 1, 0
        self.memory.forget()
        self.unsaveable = None
        call("after_train_epoch")

    def _batches(self) -> Iterator[list[Any]]:
        r"""The groups of batches of this epoch's remaining updates."""
        if not self.iteration_in_epoch:
            batches = begin(self.train_loader, self.epoch)
        else:  # draw again what was drawn before, then go on with the generators as they are
            sources = self.sources()
            now = sources.read()
            sources.stop_workers(self.memory.epoch_start)
            sources.start_workers(self.memory.epoch_start)
            sources.write(self.memory.epoch_start)
            batches = begin(self.train_loader, self.epoch)
            for _ in islice(batches, self.iteration_in_epoch * self.step.accumulate):
                pass
            sources.write(now)
        validates, accumulate = self.val_every is not None, self.step.accumulate
        while True:
            if validates:
                self._validate_if_due()
                if self._limit < 0:  # stopped by it
                    return
            try:
                group = list(islice(batches, accumulate))
            except Exception:
                if self._interrupted:  # Ctrl-C has ended the loader's workers too
                    return
                raise
            if not group:
                return
            yield group

    def _validate_if_due(self) -> None:
        if self.val_every and self._limit >= 0 and self.iteration and self.iteration % self.val_every == 0:
            self._record()

    def _record(self) -> None:
        r"""Write the history's next line, unless a validation inside the epoch has just done so."""
        if self.history and self.history[-1]["iteration"] == self.iteration:
            return
        if self.logs:  # none since a resume
            protocol.check_logs(self.logs)
        record: dict[str, float] = {"epoch": self.epoch + 1, "iteration": self.iteration} | self.memory.means()
        record |= self.step.learning_rates()
        if self.memory.sums["skipped"]:
            record["skipped"] = self.memory.sums["skipped"]
        self.history.append(record | (self.validate() if self.val_loader is not None else {}))

    def validate(self) -> dict[str, float]:
        r"""The mean losses and metrics over ``val_loader``, as ``val_loss`` and ``val_<metric>``; hooks take part.

        Raises: ``ValueError`` if there is no ``val_loader``, or it gave no batches.
        """
        if self.val_loader is None:
            raise ValueError("validate needs a val_loader, and this Runner was built without one")
        return validation.validate(self, self.val_loader, self._metrics)

    def evaluate(self, loader: Iterable[Any], weights: Weights = None) -> dict[str, float]:
        r"""Losses and metrics over ``loader``, such as test data, with the model's weights or others.

        Args:
            loader: gives batches as ``val_loader`` does.
            weights: a file such as ``"run/best.pt"``, a state dict, an EMA hook; ``None`` (default): as they are.

        Differs from :meth:`validate`: no hook is called, no name has ``val_``, and random generators stay as they were.
        A hook may call it inside a validation, whose metrics go on: those used here are then copies.
        """
        with self.sources().untouched():
            return evaluation.evaluate(self.step, loader, validation.spare(self, self._metrics), weights)

    def predict(self, loader: Iterable[Any], weights: Weights = None) -> Any:
        r"""The outputs for all of ``loader``, joined, on the CPU; see :func:`dlnotes.evaluation.predict`."""
        with self.sources().untouched():
            return evaluation.predict(self.step, loader, weights)

    def loaders(self) -> dict[str, Any]:
        r"""The data loaders by name."""
        val = {} if self.val_loader is None else {"val_loader": self.val_loader}
        return {"train_loader": self.train_loader} | val

    def sources(self) -> Sources:
        r"""Where the run's random numbers come from."""
        return Sources(self.loaders(), step=self.step)

    def save(self, path: str | Path) -> None:
        r"""Write everything the run needs to go on, atomically (:func:`dlnotes.checkpoint.save`).

        Exact, or refused: inside a run it is allowed in ``after_train_iter`` and ``after_train_epoch`` and at the end.
        Of several processes all must call it, and the first one writes: its weights and hooks, everyone's randomness.

        Raises: ``CheckpointError`` where the run could not go on exactly; else as :func:`dlnotes.checkpoint.save`.
        """
        resuming.save(self, path)

    def resume(self, path: str | Path) -> None:
        r"""Take the run up where ``path`` was saved: call it on a Runner built like the saved one.

        Hooks are found again by their names; those that remember nothing may change. What is frozen, and what optimizer
        and schedule are set to, are as they were saved; a warning names what was given otherwise in the script, and
        which of the two holds.

        Raises:
            CheckpointError: the file holds no run, or step, hooks or data differ: all differences are named, and
                everything is as it was. Also what :func:`dlnotes.checkpoint.load` raises.
        """
        resuming.resume(self, path)

    def resume_if_possible(self, folder: str | Path) -> bool:
        r"""Resume from ``last.pt`` in the folder of a ``Checkpoint`` hook; return whether it was there."""
        path = resuming.last(folder)
        if path is not None:
            resuming.resume(self, path)
        return path is not None
