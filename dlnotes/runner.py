r"""The Runner: epochs, iterations, the order of events, and exact resumption."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dlnotes import checkpoint
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import Hook, collect
from dlnotes.step import Batch, Measure, NonFiniteError, TrainStep


class Runner:
    r"""Train a model for some epochs, validate after each, and call the hooks on the way.

    The ``step`` makes the updates; the hooks observe. One iteration is one update, of ``step.accumulate`` batches.
    The points are called in the order of :data:`dlnotes.hooks.POINTS`; validation comes inside its epoch, before
    ``after_train_epoch``, so that there ``history[-1]`` is complete (mmengine validates after it).

    Args:
        step: the update, such as :class:`~dlnotes.step.TrainStep`.
        train_loader: gives the batches ``(*inputs, target)`` of an epoch each time it is iterated.
        val_loader: the same for validation after every epoch; ``None`` for none.
        metrics: ``{name: f(output, target)}``, means over the samples of a batch; validation reports them as
            ``val_name``.
        hooks: :class:`~dlnotes.hooks.Hook` objects.

    Attributes:
        epoch, iteration, iteration_in_epoch: how many are complete.
        history: one dict an epoch: ``epoch``, ``iteration``, ``loss`` (mean over the samples of all updates made),
            ``lr``, ``skipped`` (updates skipped by the loss scaler, under fp16), ``val_loss`` and ``val_<metric>``.
        logs: what the last update returned. metrics: what the last validation gave.
        stop_reason: why the run was stopped early, or ``None``.

    Raises:
        TypeError: a hook has a method that is no hook point.
        NonFiniteError: the loss became NaN or infinite; the message names the iteration.

    A run saved at any iteration and resumed is bit-identical to one never stopped, as long as the loader draws its
    order from torch's, numpy's or Python's generators when an epoch starts, as torch's own samplers do.

    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> data = torch.utils.data.TensorDataset(torch.arange(8.0)[:, None], 2 * torch.arange(8.0)[:, None])
    >>> model = nn.Linear(1, 1)
    >>> step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.01))
    >>> runner = Runner(step, DataLoader(data, batch_size=4, shuffle=True))
    >>> runner.train(epochs=20)
    >>> round(model.weight.item()), runner.iteration
    (2, 40)
    """

    def __init__(
        self,
        step: TrainStep,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any] | None = None,
        *,
        metrics: Mapping[str, Measure] | None = None,
        hooks: Sequence[Hook] = (),
    ):
        self.step, self.train_loader, self.val_loader = step, train_loader, val_loader
        self._metrics, self.hooks = dict(metrics or {}), list(hooks)
        self._calls = collect(self.hooks)
        self.epoch = self.iteration = self.iteration_in_epoch = 0
        self.history: list[dict[str, float]] = []
        self.logs: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.stop_reason: str | None = None
        self._sums = {"loss": 0.0, "samples": 0.0, "skipped": 0.0}
        self._epoch_start: dict[str, Any] = {}

    @property
    def iterations_per_epoch(self) -> int | None:
        r"""Updates in an epoch, or ``None`` if the loader does not know its length."""
        try:
            return -(-len(self.train_loader) // self.step.accumulate)
        except TypeError:
            return None

    def train(self, epochs: int) -> None:
        r"""Train until ``epochs`` epochs are complete, counted from the start of the run, also after a resume."""
        self._call("before_run")
        self._call("before_train")
        while self.epoch < epochs and self.stop_reason is None:
            self._train_epoch()
        self._call("after_train")
        self._call("after_run")

    def stop(self, reason: str) -> None:
        r"""End the run after the current epoch; the reason stands in ``stop_reason``."""
        self.stop_reason = reason

    def _train_epoch(self) -> None:
        if not self.iteration_in_epoch:  # a resumed epoch has begun already
            self._call("before_train_epoch")
            self._epoch_start = self._random_state()
        self.step.model.train()
        for batches in self._batches():
            self._call("before_train_iter")
            try:
                self.logs = self.step(batches)
            except NonFiniteError as error:
                raise NonFiniteError(f"iteration {self.iteration + 1} (epoch {self.epoch + 1}): {error}") from error
            self.iteration += 1
            self.iteration_in_epoch += 1
            if self.logs["skipped"]:
                self._sums["skipped"] += 1
            else:
                self._sums["loss"] += self.logs["loss"] * self.logs["samples"]
                self._sums["samples"] += self.logs["samples"]
            self._call("after_train_iter")
        if not self.iteration_in_epoch:
            raise ValueError("train_loader gave no batches")
        record = {
            "epoch": self.epoch + 1,
            "iteration": self.iteration,
            "loss": self._sums["loss"] / self._sums["samples"] if self._sums["samples"] else float("nan"),
            "lr": self.step.learning_rate(),
        }
        if self._sums["skipped"]:
            record["skipped"] = self._sums["skipped"]
        self.history.append(record | (self.validate() if self.val_loader is not None else {}))
        self.epoch, self.iteration_in_epoch = self.epoch + 1, 0
        self._sums = dict.fromkeys(self._sums, 0.0)
        self._call("after_train_epoch")

    def _batches(self) -> Iterator[list[Batch]]:
        r"""The groups of batches of this epoch's remaining updates."""
        sampler = getattr(self.train_loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):  # a distributed sampler shuffles by epoch number
            sampler.set_epoch(self.epoch)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        if not self.iteration_in_epoch:
            batches = iter(self.train_loader)
        else:  # draw again what was drawn before, then go on with the generators as they were saved
            now = self._random_state()
            self._set_random_state(self._epoch_start)
            batches = iter(self.train_loader)
            for _ in islice(batches, self.iteration_in_epoch * self.step.accumulate):
                pass
            self._set_random_state(now)
        while group := list(islice(batches, self.step.accumulate)):
            yield group

    def validate(self) -> dict[str, float]:
        r"""The mean loss and metrics over ``val_loader``, as ``val_loss`` and ``val_<metric>``.

        Raises:
            ValueError: there is no ``val_loader``, or it gave no batches.
        """
        if self.val_loader is None:
            raise ValueError("validate needs a val_loader, and this Runner was built without one")
        self._call("before_val")
        training = self.step.model.training
        self.step.model.eval()
        try:
            self._call("before_val_epoch")
            sums, samples = dict.fromkeys(["loss", *self._metrics], 0.0), 0
            for batch in self.val_loader:
                self._call("before_val_iter")
                for name, value in self.step.evaluate(batch, self._metrics).items():
                    sums[name] += value * len(batch[-1])
                samples += len(batch[-1])
                self._call("after_val_iter")
            if not samples:
                raise ValueError("val_loader gave no batches")
            self.metrics = {f"val_{name}": value / samples for name, value in sums.items()}
            self._call("after_val_epoch")
        finally:
            self.step.model.train(training)
            self._call("after_val")  # also after an error: EMA puts the trained weights back here
        return self.metrics

    def _call(self, point: str) -> None:
        for method in self._calls[point]:
            method(self)

    # Everything below is for exact resumption.

    def _generators(self) -> list[torch.Generator]:
        r"""The loaders' own generators, each once."""
        found: dict[int, torch.Generator] = {}
        for loader in (self.train_loader, self.val_loader):
            batch_sampler = getattr(loader, "batch_sampler", None)
            for owner in (loader, getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)):
                generator = getattr(owner, "generator", None)
                if isinstance(generator, torch.Generator):
                    found[id(generator)] = generator
        return list(found.values())

    def _random_state(self) -> dict[str, Any]:
        name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - users' datasets may draw from it
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
            "python": random.getstate(),
            "loaders": [generator.get_state() for generator in self._generators()],
        }

    def _set_random_state(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        if state["mps"] is not None and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
        for generator, saved in zip(self._generators(), state["loaders"], strict=True):
            generator.set_state(saved)

    def save(self, path: str | Path) -> None:
        r"""Write everything the run needs to go on, atomically (:func:`dlnotes.checkpoint.save`)."""
        self._call("before_save_checkpoint")
        state = {
            "epoch": self.epoch,
            "iteration": self.iteration,
            "iteration_in_epoch": self.iteration_in_epoch,
            "iterations_per_epoch": self.iterations_per_epoch,
            "history": self.history,
            "metrics": self.metrics,
            "stop_reason": self.stop_reason,
            "sums": self._sums,
            "epoch_start": self._epoch_start,
            "random": self._random_state(),
            "hooks": [[type(hook).__name__, hook.state_dict()] for hook in self.hooks],
        }
        checkpoint.save(path, state | self.step.state_dict())

    def resume(self, path: str | Path) -> None:
        r"""Take the run up where ``path`` was saved: call it on a Runner built like the saved one.

        Raises:
            CheckpointError: the file holds no run, or model, optimizer, hooks or data differ from this Runner's;
                nothing was loaded. Also what :func:`dlnotes.checkpoint.load` raises.
        """
        state = checkpoint.load(path)
        if "hooks" not in state:
            raise CheckpointError(f"{path}: holds weights, not a run; use load_pretrained")
        saved, own = [name for name, _ in state["hooks"]], [type(hook).__name__ for hook in self.hooks]
        if saved != own:
            raise CheckpointError(f"{path}: the run was saved with hooks {saved}, this Runner has {own}")
        if state["iterations_per_epoch"] != self.iterations_per_epoch:
            raise CheckpointError(
                f"{path}: the saved run has {state['iterations_per_epoch']} iterations an epoch, "
                f"this one {self.iterations_per_epoch}: the data, batch size or accumulation changed"
            )
        if len(state["random"]["loaders"]) != len(self._generators()):
            raise CheckpointError(f"{path}: the saved run's data loaders had other generators than this one's")
        self.step.load_state_dict(state)
        for hook, (_, hook_state) in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(hook_state)
        for name in ("epoch", "iteration", "iteration_in_epoch", "history", "metrics", "stop_reason"):
            setattr(self, name, state[name])
        self._sums, self._epoch_start = state["sums"], state["epoch_start"]
        self._set_random_state(state["random"])
        self._call("after_load_checkpoint")
