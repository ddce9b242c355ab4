r"""Which learning rate? A range test: the loss while the rate grows from far too small to far too large."""

import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from dlnotes.arguments import check_number, check_whole
from dlnotes.modes import kept, train_but
from dlnotes.randomness import Sources
from dlnotes.step import NonFiniteError, TrainStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOO_HIGH = 4.0  # times the lowest loss: it has blown up


class RangeTest(NamedTuple):
    r"""What :func:`range_test` found: the rates of its updates, their losses, and these smoothed.

    >>> test = RangeTest([0.1, 0.2, 0.4], [3.0, 1.0, 2.0], [2.0, 2.0, 1.5])
    >>> test.lowest
    0.4
    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots()
    >>> test.plot(ax)
    >>> ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()
    ('log', 'learning rate', 'loss')
    >>> plt.close(figure)
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]

    @property
    def lowest(self) -> float:
        r"""The rate at which the smoothed loss was lowest: begin at a third of it, or less.

        If that is the first rate or the last, the range was too narrow: :func:`range_test` warns of it.
        """
        return self.rates[_place_of_lowest(self.smooth)]

    def plot(self, ax: "Axes") -> None:
        r"""Draw loss over rate on matplotlib's ``ax``, the rates on a logarithmic axis; a dot marks :attr:`lowest`."""
        ax.plot(self.rates, self.losses, color="0.75", label="each update")
        ax.plot(self.rates, self.smooth, label="smoothed")
        ax.plot(self.lowest, min(self.smooth), "o", label=f"lowest, at {self.lowest:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.legend()


def _place_of_lowest(losses: list[float]) -> int:
    return min(range(len(losses)), key=losses.__getitem__)


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
        TypeError: ``step`` is no :class:`~dlnotes.step.TrainStep`, but a model perhaps; ``updates`` is not whole.
        ValueError: an argument is out of range, or ``loader`` gives no batches.

    A ``UserWarning`` says when the loss was lowest at an end of the range, and which end to move.

    Read the order of magnitude off it, no more: seeds move the lowest point by a factor of two. Source: Smith,
    *Cyclical Learning Rates for Training Neural Networks* (2017), section 3.3.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> x = torch.linspace(-1, 1, 20)[:, None]
    >>> test = range_test(step, [(x, 3 * x)], updates=60)
    >>> 0.1 < test.lowest < 10, step.learning_rates()
    (True, {'lr': 0.1})

    ``test.plot(ax)`` draws it.
    """
    if not isinstance(step, TrainStep):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"step must be a TrainStep(model, loss, optimizer), got a {type(step).__name__}")
    check_number("start", start)
    check_number("end", end)
    if not 0 < start < end < math.inf:
        raise ValueError(f"start and end: 0 < start < end is needed, got {start} and {end}")
    check_whole("updates", updates, 2)
    before, scheduler = copy.deepcopy(step.state_dict()), step.scheduler
    rates: list[float] = []
    losses: list[float] = []
    blown_up = False
    with Sources({"loader": loader}, step=step).untouched(), kept(step.model):
        try:
            step.scheduler = None
            train_but(step.model, [])
            batches = _again_and_again(loader)
            for t in range(updates):
                rate = start * (end / start) ** (t / (updates - 1))
                for group in step.optimizer.param_groups:
                    group["lr"] = rate
                try:
                    loss = step(list(islice(batches, step.accumulate)))["loss"]
                except NonFiniteError:
                    blown_up = True
                    break
                rates.append(rate)
                losses.append(loss)
                if blown_up := loss - min(losses) > (TOO_HIGH - 1) * abs(min(losses)):
                    break
        finally:
            step.scheduler = scheduler
            step.load_state_dict(before)
            step.model.zero_grad()
    if not losses:
        raise ValueError("start: the loss was not finite in the first update")
    near = [losses[max(0, t - 4) : t + 5] for t in range(len(losses))]
    test = RangeTest(rates, losses, [sum(part) / len(part) for part in near])
    _warn_at_an_end(test, blown_up)
    return test


def _warn_at_an_end(test: RangeTest, blown_up: bool) -> None:
    place, last = _place_of_lowest(test.smooth), len(test.smooth) - 1
    if max(test.losses) > test.losses[0] == min(test.losses):
        warnings.warn(
            f"start: the loss was lowest at the first rate, {test.rates[0]:.3g}, and a good one may be below the "
            "range: give a smaller start, or more updates",
            stacklevel=3,
        )
    elif place == last and not blown_up and test.smooth[0] > test.smooth[last]:
        warnings.warn(
            f"end: the loss was lowest at the last rate, {test.rates[-1]:.3g}, so the range did not reach the rates "
            "that are too large: give a larger end",
            stacklevel=3,
        )


def _again_and_again(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        number = 0
        for number, batch in enumerate(loader, 1):  # noqa: B007 - counted, to see whether there are any
            yield batch
        if not number:
            raise ValueError("loader gave no batches")
