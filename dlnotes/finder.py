r"""Which learning rate? A range test: the loss while the rate grows from far too small to far too large."""

import copy
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from dlnotes.modes import frozen, train_but
from dlnotes.randomness import Sources
from dlnotes.step import NonFiniteError, TrainStep

TOO_HIGH = 4.0  # times the lowest loss: it has blown up


class RangeTest(NamedTuple):
    r"""What :func:`range_test` found: ``ax.plot(test.rates, test.smooth)`` with a logarithmic axis shows it.

    >>> RangeTest([0.1, 0.2, 0.4], [3.0, 1.0, 2.0], [2.0, 2.0, 1.5]).lowest
    0.4
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]

    @property
    def lowest(self) -> float:
        r"""The rate at which the smoothed loss was lowest: begin at a third of it, or less."""
        return self.rates[min(range(len(self.smooth)), key=self.smooth.__getitem__)]


def range_test(
    step: TrainStep, loader: Iterable[Any], *, start: float = 1e-6, end: float = 10.0, updates: int = 100
) -> RangeTest:
    r"""Train a little while the learning rate grows, note the losses, and leave no trace.

    Update :math:`t = 0, \dots, n-1` has the rate :math:`\eta_t = \eta_0 (\eta_{n-1} / \eta_0)^{t / (n-1)}`, the same
    for all groups; a schedule is left out. The test ends early when the loss is NaN, or four times the lowest (if that
    is negative: above it by three times its size). Model, optimizer, schedule and random generators are then as they
    were before.

    Args:
        step: the update whose learning rate is looked for.
        loader: gives the training batches; begun again when it ends.
        start: :math:`\eta_0`, default :math:`10^{-6}`.
        end: :math:`\eta_{n-1}`, default 10.
        updates: :math:`n`, default 100.

    Returns:
        Rates and losses of the updates made, and the losses smoothed: means over nine neighbours.

    Raises:
        TypeError: ``step`` is no :class:`~dlnotes.step.TrainStep`, but a model perhaps.
        ValueError: an argument is out of range, or ``loader`` gives no batches.

    Read the order of magnitude off it, no more: seeds move the lowest point by a factor of two. Source: Smith,
    *Cyclical Learning Rates for Training Neural Networks* (2017), section 3.3.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> x = torch.linspace(-1, 1, 20)[:, None]
    >>> test = range_test(step, [(x, 3 * x)], updates=60)
    >>> 0.1 < test.lowest < 10, step.learning_rates()
    (True, {'lr': 0.1})
    """
    if not isinstance(step, TrainStep):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"step must be a TrainStep(model, loss, optimizer), got a {type(step).__name__}")
    if not 0 < start < end < math.inf:
        raise ValueError(f"start and end: 0 < start < end is needed, got {start} and {end}")
    if updates < 2:
        raise ValueError(f"updates must be >= 2, got {updates}")
    sources, scheduler = Sources({"loader": loader}, step=step), step.scheduler
    before, chance = copy.deepcopy(step.state_dict()), sources.read()
    modes = [(module, module.training) for module in step.model.modules()]
    rates: list[float] = []
    losses: list[float] = []
    try:
        step.scheduler = None
        train_but(step.model, frozen(step.model) if step.model.training else [])
        batches = _again_and_again(loader)
        for t in range(updates):
            rate = start * (end / start) ** (t / (updates - 1))
            for group in step.optimizer.param_groups:
                group["lr"] = rate
            try:
                loss = step(list(islice(batches, step.accumulate)))["loss"]
            except NonFiniteError:
                break
            rates.append(rate)
            losses.append(loss)
            if loss - min(losses) > (TOO_HIGH - 1) * abs(min(losses)):
                break
    finally:
        step.scheduler = scheduler
        step.load_state_dict(before)
        step.model.zero_grad()
        for module, training in modes:
            module.training = training
        sources.stop_workers(chance)
        sources.write(chance)
    if not losses:
        raise ValueError("start: the loss was not finite in the first update")
    near = [losses[max(0, t - 4) : t + 5] for t in range(len(losses))]
    return RangeTest(rates, losses, [sum(part) / len(part) for part in near])


def _again_and_again(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        number = 0
        for number, batch in enumerate(loader, 1):  # noqa: B007 - counted, to see whether there are any
            yield batch
        if not number:
            raise ValueError("loader gave no batches")
