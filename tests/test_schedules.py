import math

import jaxtyping
import pytest
import torch
from torch.optim import lr_scheduler
from training import make_runner

from dlnotes import schedules
from dlnotes.saving import Checkpoint

PEAK = 0.5


def rates(make, updates):
    """The rate of each of so many updates, under a scheduler of torch or of ours."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK, momentum=0.9)
    scheduler, seen = make(optimizer), []
    for _ in range(updates):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def chained(optimizer):
    parts = [lr_scheduler.LinearLR(optimizer, 1 / 4, total_iters=3), lr_scheduler.StepLR(optimizer, 5)]
    return lr_scheduler.ChainedScheduler(parts)


def sequential(optimizer):
    parts = [lr_scheduler.LinearLR(optimizer, 1 / 4, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 10)]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[4])


TORCHS = {
    "constant": (schedules.constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 10),
    "warmup": (schedules.warmup(4), lambda o: lr_scheduler.LinearLR(o, 1 / 4, total_iters=3), 10),
    "step": (schedules.step_decay(3, 0.5), lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5), 20),
    "multi-step": (schedules.multi_step([2, 3, 9]), lambda o: lr_scheduler.MultiStepLR(o, [2, 3, 9]), 12),
    "cosine": (schedules.cosine(10), lambda o: lr_scheduler.CosineAnnealingLR(o, 10), 11),
    "cosine floor": (schedules.cosine(7, 0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 7, eta_min=0.05), 8),
    "then": (schedules.then(schedules.warmup(4), 4, schedules.cosine(10)), sequential, 14),
    "product": (schedules.product(schedules.warmup(4), schedules.step_decay(5)), chained, 14),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # raised inside torch's SequentialLR
@pytest.mark.parametrize("name", [name for name in TORCHS])
def test_equals_torchs_scheduler(name):
    ours, theirs, updates = TORCHS[name]
    assert rates(lambda o: schedules.scheduler(o, ours), updates) == pytest.approx(rates(theirs, updates), rel=1e-12)


@pytest.mark.parametrize("total", [10, 20, 101])
@pytest.mark.parametrize("rise", [0.25, 0.3, 0.5])
def test_one_cycle_equals_torchs(total, rise):
    ours = schedules.one_cycle(total, rise)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=total, pct_start=rise)
    for t in range(total):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(PEAK * ours(t), rel=1e-9)
        optimizer.step()
        if t < total - 1:
            scheduler.step()


def test_inverse_sqrt_is_the_papers_formula():
    width, warmup = 512, 40
    ours = schedules.inverse_sqrt(warmup)
    for step in range(1, 200):
        paper = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert ours(step - 1) * (width * warmup) ** -0.5 == pytest.approx(paper, rel=1e-12)
    assert max(ours(t) for t in range(200)) == ours(warmup - 1) == pytest.approx(1.0)


def test_values_by_hand():
    assert [schedules.warmup(2)(t) for t in range(3)] == [0.5, 1.0, 1.0]
    assert schedules.cosine(2, 0.2)(1) == pytest.approx(0.6)
    assert schedules.cosine(3)(100) == 0.0  # and not up again, as torch's does
    assert schedules.one_cycle(10, end=0.01)(1000) == pytest.approx(0.01)
    assert schedules.one_cycle(10, start=0.2)(0) == pytest.approx(0.2)


def test_every_group_keeps_its_own_rate():
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.1)
    assert schedules.scheduler(optimizer, schedules.warmup(4)).get_last_lr() == pytest.approx([0.25, 0.025])


def test_a_resumed_run_goes_on_in_the_schedule(tmp_path):
    def make(folder):
        runner = make_runner([Checkpoint(tmp_path / folder)])
        schedule = schedules.then(schedules.warmup(5), 5, schedules.cosine(13))
        runner.step.scheduler = schedules.scheduler(runner.step.optimizer, schedule)
        return runner

    whole = make("whole")
    whole.train(3)
    make("part").train(1)
    resumed = make("part")
    resumed.resume(tmp_path / "part" / "last.pt")
    resumed.train(3)
    assert resumed.history == whole.history
    assert resumed.history[-1]["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi)) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.warmup(0), "steps must be >= 1 update, got 0"),
        (lambda: schedules.step_decay(0), "every must be >= 1"),
        (lambda: schedules.step_decay(2, 1.5), r"gamma must be in \[0, 1\], got 1.5"),
        (lambda: schedules.multi_step([3, 2]), r"milestones must increase, got \[3, 2\]"),
        (lambda: schedules.multi_step([1], float("nan")), "gamma must be in"),
        (lambda: schedules.cosine(0), "total must be >= 1"),
        (lambda: schedules.cosine(3, -0.1), "floor must be in"),
        (lambda: schedules.inverse_sqrt(0), "warmup_steps must be >= 1"),
        (lambda: schedules.one_cycle(3), "total of 3 updates is too short"),
        (lambda: schedules.one_cycle(10, 1.0), "too short to rise for 100%"),
        (lambda: schedules.one_cycle(10, start=2.0), "start must be in"),
        (lambda: schedules.then(schedules.constant(), 0, schedules.constant()), "steps must be >= 1"),
        (lambda: schedules.product(), "at least one schedule"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


COUNTS = {
    "steps": schedules.warmup,
    "every": schedules.step_decay,
    "total": schedules.cosine,
    "total ": schedules.one_cycle,
    "warmup_steps": schedules.inverse_sqrt,
    "steps ": lambda steps: schedules.then(schedules.constant(), steps, schedules.constant()),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers_from_one(name):
    make, name = COUNTS[name], name.strip()
    for wrong in (0, -3, math.nan, -math.inf):
        with pytest.raises(ValueError, match=f"{name} must be >= 1 update, got {wrong}"):
            make(wrong)
    for wrong in (10.5, math.inf):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of updates, got {wrong}"):
            make(wrong)
    assert [make(10.0)(t) for t in range(30)] == [make(10)(t) for t in range(30)]


FACTORS = {
    "gamma": lambda value: schedules.step_decay(2, value),
    "gamma ": lambda value: schedules.multi_step([1], value),
    "floor": lambda value: schedules.cosine(2, value),
    "rise": lambda value: schedules.one_cycle(10, rise=value),
    "start": lambda value: schedules.one_cycle(10, start=value),
    "end": lambda value: schedules.one_cycle(10, end=value),
}


@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_between_zero_and_one(name):
    for wrong in (-0.1, 1.1, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"{name.strip()} must be in \[0, 1\], got {wrong}"):
            FACTORS[name](wrong)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("milestones", [[-1, 2], [1.5], [math.nan], [1, math.inf]])
def test_milestones_are_whole_numbers(milestones):
    with pytest.raises(ValueError, match="milestones must be whole numbers >= 0, got"):
        schedules.multi_step(milestones)


EVERY = [ours for ours, _, _ in TORCHS.values()] + [schedules.inverse_sqrt(5), schedules.one_cycle(10)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("schedule", EVERY)
def test_there_is_no_update_before_the_first(schedule):
    for t in (-1, -100, math.nan):
        with pytest.raises(ValueError, match=f"t must be >= 0, the number of updates made, got {t}"):
            schedule(t)
    assert all(0 <= schedule(t) <= 1 for t in (0, 1, 10, 10**6, 10**18))


def test_a_schedule_of_ones_own_that_gives_no_rate_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    for wrong in (math.nan, math.inf, -0.5):
        with pytest.raises(ValueError, match=f"schedule must give a finite number >= 0, got {wrong} at t = 0"):
            schedules.scheduler(optimizer, lambda t, wrong=wrong: wrong)
    rates = schedules.scheduler(optimizer, lambda t: 1 - t)
    optimizer.step()
    rates.step()
    optimizer.step()
    with pytest.raises(ValueError, match="got -1 at t = 2"):
        rates.step()
    assert optimizer.param_groups[0]["lr"] == 0  # of the update before
