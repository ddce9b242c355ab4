r"""Learning-rate schedules: functions of the number of updates made, as multiples of the optimizer's own rate.

A schedule here is a plain function :math:`f(t)`, where :math:`t = 0, 1, 2, \dots` counts **updates** (never epochs: an
epoch of ``len(loader)`` updates is that many steps of :math:`t`). The rate of update :math:`t + 1` is
:math:`\eta\, f(t)`, with the optimizer's ``lr`` as the peak :math:`\eta`. :func:`scheduler` makes a torch scheduler of
it, for a training step to call and a checkpoint to keep. Counts of updates are whole numbers from 1; a schedule of
this module refuses a negative :math:`t` with a ValueError.
"""

import math
from collections.abc import Callable, Sequence

from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

Schedule = Callable[[int], float]


def _check_steps(name: str, value: float) -> None:
    if not value >= 1:  # true for NaN
        raise ValueError(f"{name} must be >= 1 update, got {value}")
    if value % 1 != 0:  # NaN for infinity
        raise ValueError(f"{name} must be a whole number of updates, got {value}")


def _check_factor(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def _from_zero(schedule: Schedule) -> Schedule:
    """The schedule, which is not asked before the first update."""

    def asked(t: int) -> float:
        if not t >= 0:
            raise ValueError(f"t must be >= 0, the number of updates made, got {t}")
        return schedule(t)

    return asked


def scheduler(optimizer: Optimizer, schedule: Schedule) -> LambdaLR:
    r"""A torch scheduler that sets every group's rate to its own ``lr`` times ``schedule(t)``.

    Call its ``step()`` after every update, or give it to :class:`dlnotes.step.TrainStep`, which does. Its state is
    the count :math:`t`, so a resumed run goes on where it stopped.

    Raises:
        ValueError: the schedule gives a number that is negative or not finite, at once or when its update comes.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> rates = scheduler(optimizer, warmup(4))
    >>> optimizer.step(); rates.step(); rates.get_last_lr()
    [0.05]
    """

    def factor(t: int) -> float:
        value = schedule(t)
        if not 0 <= value < math.inf:
            raise ValueError(f"schedule must give a finite number >= 0, got {value} at t = {t}")
        return value

    return LambdaLR(optimizer, factor)


def constant() -> Schedule:
    r"""The optimizer's rate, unchanged: :math:`f(t) = 1`.

    >>> constant()(1000)
    1.0
    """
    return _from_zero(lambda t: 1.0)


def warmup(steps: int) -> Schedule:
    r"""Linear warm-up, then constant: update :math:`s = t + 1` has the share :math:`s/n` of the rate.

    .. math:: f(t) = \min\bigl((t + 1) / n,\; 1\bigr)

    Args:
        steps: :math:`n`; the n-th update is the first with the full rate.

    Raises:
        ValueError: ``steps`` below 1 or not whole.

    Equal to :class:`torch.optim.lr_scheduler.LinearLR` with ``start_factor=1/n`` and ``total_iters=n-1``.
    Source: Goyal et al., *Accurate, Large Minibatch SGD* (2017), section 2.2.

    >>> [warmup(4)(t) for t in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    _check_steps("steps", steps)
    return _from_zero(lambda t: min((t + 1) / steps, 1.0))


def step_decay(every: int, gamma: float = 0.1) -> Schedule:
    r"""Multiply by ``gamma`` after every ``every`` updates (the ``lr_drop`` of many detectors).

    .. math:: f(t) = \gamma^{\lfloor t / n \rfloor}

    Raises:
        ValueError: ``every`` below 1 or not whole, or ``gamma`` outside [0, 1].

    Equal to :class:`torch.optim.lr_scheduler.StepLR`. Source: He et al., *Deep Residual Learning for Image
    Recognition* (2016), section 3.4.

    >>> [round(step_decay(2)(t), 4) for t in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    _check_steps("every", every)
    _check_factor("gamma", gamma)
    return _from_zero(lambda t: gamma ** (t // every))


def multi_step(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    r"""Multiply by ``gamma`` at each milestone.

    .. math:: f(t) = \gamma^{\#\{m : m \le t\}}

    Raises:
        ValueError: the milestones are not increasing whole numbers >= 0, or ``gamma`` is outside [0, 1].

    Equal to :class:`torch.optim.lr_scheduler.MultiStepLR`. Source: He et al. (2016), section 4.2.

    >>> [round(multi_step([1, 3])(t), 4) for t in range(5)]
    [1.0, 0.1, 0.1, 0.01, 0.01]
    """
    points = list(milestones)
    if not all(m >= 0 and m % 1 == 0 for m in points):
        raise ValueError(f"milestones must be whole numbers >= 0, got {points}")
    if points != sorted(set(points)):
        raise ValueError(f"milestones must increase, got {points}")
    _check_factor("gamma", gamma)
    return _from_zero(lambda t: gamma ** sum(m <= t for m in points))


def cosine(total: int, floor: float = 0.0) -> Schedule:
    r"""Half a cosine from the full rate down to ``floor`` of it, then constant.

    .. math:: f(t) = f_{\min} + (1 - f_{\min})\,\tfrac12\bigl(1 + \cos(\pi \min(t / T, 1))\bigr)

    Args:
        total: :math:`T`, the updates until the floor.
        floor: :math:`f_{\min}`, default 0.

    Raises:
        ValueError: ``total`` below 1 or not whole, or ``floor`` outside [0, 1].

    Equal to :class:`torch.optim.lr_scheduler.CosineAnnealingLR` for :math:`t \le T`; beyond, torch's rises again.
    Source: Loshchilov and Hutter, *SGDR* (2017), equation 5.

    >>> [round(cosine(4)(t), 4) for t in range(6)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """
    _check_steps("total", total)
    _check_factor("floor", floor)
    return _from_zero(lambda t: floor + (1 - floor) * (1 + math.cos(math.pi * min(t / total, 1.0))) / 2)


def inverse_sqrt(warmup_steps: int) -> Schedule:
    r"""The Transformer's schedule: linear warm-up, then decay with one over the square root.

    .. math:: f(t) = \sqrt{w}\,\min\!\left(\frac{1}{\sqrt{s}},\; \frac{s}{w^{3/2}}\right), \qquad s = t + 1

    Its peak is 1, at :math:`s = w`; the paper's rate is :math:`f` times :math:`(d\,w)^{-1/2}`.

    Args:
        warmup_steps: :math:`w`.

    Raises:
        ValueError: ``warmup_steps`` below 1 or not whole.

    torch has none. Source: Vaswani et al., *Attention Is All You Need* (2017), equation 3.

    >>> [round(inverse_sqrt(4)(t), 4) for t in (0, 1, 3, 8, 15)]
    [0.25, 0.5, 1.0, 0.6667, 0.5]
    """
    _check_steps("warmup_steps", warmup_steps)
    w = warmup_steps
    return _from_zero(lambda t: math.sqrt(w) * min((t + 1) ** -0.5, (t + 1) * w**-1.5))


def one_cycle(total: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000) -> Schedule:
    r"""One cycle: half a cosine up from ``start`` to 1, then half a cosine down to ``end``.

    With the turning point :math:`u = \rho T - 1` and the last update :math:`T - 1`:

    .. math::
        f(t) = \begin{cases}
            1 + (f_0 - 1)\,\tfrac12\bigl(1 + \cos \pi t / u\bigr) & t \le u \\
            f_1 + (1 - f_1)\,\tfrac12\bigl(1 + \cos \pi \frac{t - u}{T - 1 - u}\bigr) & u < t < T
        \end{cases}

    Args:
        total: :math:`T`, the number of updates; afterwards the rate stays at ``end``.
        rise: :math:`\rho`, the share of updates spent rising, default 0.3.
        start: :math:`f_0`, default 1/25.
        end: :math:`f_1`, default 1/250 000.

    Raises:
        ValueError: an argument is out of range, or ``total`` is too short for a rise and a fall.

    Equal to :class:`torch.optim.lr_scheduler.OneCycleLR` with ``max_lr`` the optimizer's ``lr``, which also moves the
    momentum and refuses to go on after ``total``. Source: Smith and Topin, *Super-Convergence* (2018).

    >>> [round(one_cycle(10)(t), 3) for t in (0, 1, 2, 5, 9)]
    [0.04, 0.52, 1.0, 0.611, 0.0]
    """
    _check_steps("total", total)
    for name, value in (("rise", rise), ("start", start), ("end", end)):
        _check_factor(name, value)
    top = rise * total - 1
    if top <= 0 or total - 1 <= top:
        raise ValueError(f"total of {total} updates is too short to rise for {rise:.0%} of them and fall again")

    def factor(t: int) -> float:
        if t <= top:
            return 1 + (start - 1) * (1 + math.cos(math.pi * t / top)) / 2
        fallen = min((t - top) / (total - 1 - top), 1.0)
        return end + (1 - end) * (1 + math.cos(math.pi * fallen)) / 2

    return _from_zero(factor)


def then(first: Schedule, steps: int, second: Schedule) -> Schedule:
    r"""``first`` for ``steps`` updates, then ``second``, which counts from its own 0.

    .. math:: f(t) = f_1(t) \text{ for } t < n, \qquad f_2(t - n) \text{ otherwise}

    Raises:
        ValueError: ``steps`` below 1 or not whole.

    Equal to :class:`torch.optim.lr_scheduler.SequentialLR` with one milestone.

    >>> [round(then(warmup(2), 2, cosine(2))(t), 3) for t in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    _check_steps("steps", steps)
    return _from_zero(lambda t: first(t) if t < steps else second(t - steps))


def product(*schedules: Schedule) -> Schedule:
    r"""All schedules at once, multiplied: :math:`f(t) = \prod_i f_i(t)`.

    Raises:
        ValueError: no schedule is given.

    Equal to :class:`torch.optim.lr_scheduler.ChainedScheduler` of schedulers that multiply.

    >>> [round(product(warmup(2), step_decay(3))(t), 3) for t in range(4)]
    [0.5, 1.0, 1.0, 0.1]
    """
    if not schedules:
        raise ValueError("product needs at least one schedule")
    return _from_zero(lambda t: math.prod(schedule(t) for schedule in schedules))
