r"""What a run remembers within itself, beside weights and hooks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_MEANS = {"loss", "count", "samples", "skipped", "grad_norm"}  # among the logs of an update; loss is apart


@dataclass
class Memory:
    r"""The sums behind the history's means, and what exact resumption needs; a checkpoint holds all of it.

    Attributes:
        rates: the learning rates that the step was built with.
        settings: what else the run was built with (:func:`dlnotes.settings.read`).
        counters: what samplers and streams counted when the run was built (:func:`dlnotes.randomness.counters`).
        sums: over the updates of the epoch so far, weighted by what the loss averages over.
        epoch_start: the random state in which the epoch began (:class:`~dlnotes.randomness.Sources`).
        frozen: the names of the parts of the model that stay in evaluation mode.
        begun: whether ``before_train`` was called: what hooks draw there in a later call of ``train`` shall not count.
        put_back: the random state to begin that call with; it comes from a resume.

    >>> memory = Memory([0.1])
    >>> memory.add({"loss": 1.0, "count": 3, "samples": 3, "skipped": 0})
    >>> memory.add({"loss": 2.0, "count": 1, "samples": 1, "skipped": 0})
    >>> memory.means()
    {'loss': 1.25}
    """

    rates: list[float]
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    counters: dict[str, int] = field(default_factory=dict[str, int])
    sums: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "count": 0.0, "skipped": 0.0})
    epoch_start: dict[str, Any] = field(default_factory=dict[str, Any])
    frozen: list[str] = field(default_factory=list[str])
    begun: bool = False
    put_back: dict[str, Any] | None = None

    def add(self, logs: Mapping[str, float]) -> None:
        r"""Take the logs of an update in; those of a skipped one do not enter the means."""
        sums, count = self.sums, logs["count"]
        if logs["skipped"]:
            sums["skipped"] += 1
        elif count:
            sums["count"] += count
            sums["loss"] += logs["loss"] * count
            if len(logs) > 4:
                for name in [name for name in logs if name not in NO_MEANS]:
                    sums[name] = sums.get(name, 0.0) + logs[name] * count

    def means(self) -> dict[str, float]:
        r"""Of every loss; NaN if no update was made."""
        count = self.sums["count"]
        means = {name: total / count if count else math.nan for name, total in self.sums.items()}
        return {name: mean for name, mean in means.items() if name not in ("count", "skipped")}

    def forget(self) -> None:
        r"""Begin an epoch's sums."""
        self.sums = dict.fromkeys(self.sums, 0.0)


def given_rates(step: object) -> list[float]:
    r"""The learning rates a step was built with, before any schedule.

    >>> import torch
    >>> from dlnotes.step import TrainStep
    >>> model = torch.nn.Linear(1, 1)
    >>> given_rates(TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5)))
    [0.5]
    """
    groups = getattr(getattr(step, "optimizer", None), "param_groups", [])
    return [float(group.get("initial_lr", group["lr"])) for group in groups]
