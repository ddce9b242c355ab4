r"""A run's validation: the batches judged one by one, with the hooks looking on."""

import copy
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from dlnotes.evaluation import Measure, Metric, Tally
from dlnotes.hooks import Best
from dlnotes.modes import evaluating

if TYPE_CHECKING:
    from dlnotes.runner import Runner

UNDER_WAY = "a validation is under way"


def validate(runner: "Runner", loader: Iterable[Any], metrics: Mapping[str, Measure | Metric]) -> dict[str, float]:
    r"""What :meth:`Runner.validate <dlnotes.runner.Runner.validate>` does.

    >>> import torch
    >>> from dlnotes.runner import Runner
    >>> from dlnotes.step import TrainStep
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> batches = [(torch.ones(2, 1), torch.ones(2, 1))]
    >>> list(validate(Runner(step, batches, batches), batches, {}))
    ['val_loss']
    """
    if runner.unsaveable == UNDER_WAY:
        raise RuntimeError("validate: a validation is under way; call runner.evaluate to judge other data in a hook")
    before, runner.unsaveable = runner.unsaveable, UNDER_WAY
    error: BaseException | None = None
    try:
        runner.call("before_val")
        with evaluating(runner.step.model):
            runner.call("before_val_epoch")
            tally = Tally(metrics, runner.step.model)
            for runner.batch in loader:
                runner.call("before_val_iter")
                judged = runner.step.evaluate(runner.batch)
                tally.add(judged)
                runner.output = judged.output
                runner.call("after_val_iter")
            if not tally.samples:
                raise ValueError("val_loader gave no batches")
            runner.metrics = {f"val_{name}": value for name, value in tally.results().items()}
            runner.call("after_val_epoch")
    except BaseException as caught:
        error = caught
        raise
    finally:
        runner.batch = runner.output = None
        try:
            runner.call.whatever_fails(error, "after_val")  # EMA gives the trained weights back here
        finally:
            runner.unsaveable = before if error is None else "a validation did not end"
    return runner.metrics


def spare(runner: "Runner", metrics: Mapping[str, Measure | Metric]) -> Mapping[str, Measure | Metric]:
    r"""The metrics to judge other data with: copies while a validation is under way, which has begun to count.

    >>> spare  # doctest: +ELLIPSIS
    <function spare at ...>
    """
    return copy.deepcopy(metrics) if runner.unsaveable == UNDER_WAY else metrics


def require_monitored(runner: "Runner", metrics: Mapping[str, Measure | Metric]) -> None:
    r"""Refuse a run whose validation will not give what its hooks monitor.

    Raises:
        ValueError: there is no ``val_loader``.
        KeyError: no such name; the message lists those that there are.

    >>> import torch
    >>> from dlnotes.hooks import EarlyStopping
    >>> from dlnotes.runner import Runner
    >>> from dlnotes.step import TrainStep
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> Runner(step, [(torch.ones(2, 1), torch.ones(2, 1))], hooks=[EarlyStopping()]).train(1)
    Traceback (most recent call last):
    ...
    ValueError: EarlyStopping monitors 'val_loss', and this Runner has no val_loader
    """
    for hook in runner.hooks:
        if hook.monitor is None:
            continue
        if runner.val_loader is None:
            raise ValueError(f"{type(hook).__name__} monitors {hook.monitor!r}, and this Runner has no val_loader")
        if hook.monitor not in {"val_loss"} | {f"val_{name}" for name in metrics}:
            Best(hook.monitor, "min").improves(_of_one_batch(runner, runner.val_loader, metrics))


def _of_one_batch(runner: "Runner", loader: Iterable[Any], metrics: Mapping[str, Measure | Metric]) -> dict[str, float]:
    r"""What the validation gives for its first batch: the names of all losses; no trace is left."""
    tally = Tally(metrics, runner.step.model)
    with runner.sources().untouched(), evaluating(runner.step.model):
        for batch in islice(loader, 1):
            tally.add(runner.step.evaluate(batch))
    return {f"val_{name}": value for name, value in tally.results().items()}
