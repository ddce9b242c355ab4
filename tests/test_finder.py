import inspect
import math

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from training import make_data, make_model, make_step

from dlnotes.checkpoint import tensors
from dlnotes.finder import RangeTest, range_test
from dlnotes.step import TrainStep


def picture(step):
    return {name: value.numpy().tobytes() for name, value in tensors(step.state_dict())}, step.learning_rates()


@pytest.mark.parametrize("amp", [None, "fp16"])
def test_no_trace_is_left(amp):
    torch.manual_seed(0)
    loader = DataLoader(make_data(), 4, shuffle=True)
    model = make_model()
    model[1].eval()
    step = make_step(model, amp=amp, accumulate=2, clip_norm=1.0)
    step([next(iter(loader))])  # so that the optimizer and the schedule have something to lose
    scheduler, before, chance = step.scheduler, picture(step), torch.get_rng_state()
    test = range_test(step, loader, updates=30)
    assert picture(step) == before
    assert step.scheduler is scheduler
    assert torch.equal(chance, torch.get_rng_state())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert len(test.rates) == len(test.losses) == len(test.smooth) >= 20


def test_rates_grow_evenly_and_the_losses_are_those_of_the_loop_one_would_write():
    x = torch.linspace(-1, 1, 8)[:, None]
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    w, b = model.weight.item(), model.bias.item()
    test = range_test(step, [(x, 2 * x)], start=1e-3, end=1.0, updates=4)
    assert test.rates == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    mean_square = (x * x).mean().item()
    for rate, loss in zip(test.rates, test.losses, strict=True):
        assert loss == pytest.approx((w - 2) ** 2 * mean_square + b * b, rel=1e-4)
        w, b = w - rate * 2 * (w - 2) * mean_square, b - rate * 2 * b
    assert test.smooth == pytest.approx([sum(test.losses) / 4] * 4)


def test_it_ends_when_the_loss_blows_up():
    x = torch.ones(4, 1)
    model = nn.Linear(1, 1)
    step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    test = range_test(step, [(x, 3 * x)], start=0.01, end=1e6)
    assert len(test.losses) < 60
    assert test.losses[-1] > 4 * min(test.losses)
    assert 0.05 < test.lowest < 1

    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.calls = nn.Parameter(torch.ones(1)), 0

        def forward(self, x):
            self.calls += 1
            return self.w * x * (math.nan if self.calls > 3 else 1.0)

    model = Breaks()
    step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    assert len(range_test(step, [(x, x)]).losses) == 3
    with pytest.raises(ValueError, match="not finite in the first update"):
        range_test(step, [(x, x)])


def test_a_negative_loss_does_not_end_it_before_it_blows_up():
    def loss(output, target):
        return ((output - target) ** 2).mean() - 100

    x = torch.ones(4, 1)
    model = nn.Linear(1, 1)
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.5))
    test = range_test(step, [(x, 3 * x)], start=0.01, end=1e6)
    assert 10 < len(test.losses) < 70
    assert all(value < 0 for value in test.losses[:10])
    assert test.losses[-1] > 200  # its lowest, -100 at best, and three times that
    assert 0.05 < test.lowest < 1


def test_a_model_is_no_step():
    with pytest.raises(TypeError, match=r"step must be a TrainStep\(model, loss, optimizer\), got a Linear"):
        inspect.unwrap(range_test)(nn.Linear(1, 1), [make_data()[:4]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 0.0}, "0 < start < end is needed, got 0.0 and 10.0"),
        ({"start": 1.0, "end": 0.1}, "got 1.0 and 0.1"),
        ({"end": math.nan}, "got 1e-06 and nan"),
        ({"updates": 1}, "updates must be >= 2, got 1"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        range_test(make_step(), [make_data()[:4]], **options)


def test_a_loader_without_batches():
    with pytest.raises(ValueError, match="loader gave no batches"):
        range_test(make_step(), [])


def test_lowest():
    assert RangeTest([1.0, 2.0], [5.0, 1.0], [5.0, 3.0]).lowest == 2.0


def quadratic(**options):
    torch.manual_seed(0)
    x, model = torch.linspace(-1, 1, 8)[:, None], nn.Linear(1, 1)
    step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    return range_test(step, [(x, 3 * x)], **options)


def test_a_range_that_is_too_narrow_is_told():
    with pytest.warns(UserWarning, match=r"end: the loss was lowest at the last rate, 0\.001, so the range did not"):
        assert quadratic(end=1e-3).lowest == pytest.approx(1e-3)
    with pytest.warns(UserWarning, match=r"start: the loss was lowest at the first rate, 5, .* a smaller start"):
        assert quadratic(start=5.0, end=100.0).lowest == 5.0
    assert 0.1 < quadratic().lowest < 10  # and no warning


def test_it_is_drawn():
    test = quadratic()
    figure, ax = plt.subplots()
    test.plot(ax)
    each, smooth, dot = ax.lines
    assert list(each.get_ydata()) == test.losses
    assert list(smooth.get_ydata()) == test.smooth
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([test.lowest], [min(test.smooth)])
    assert ax.get_xscale() == "log"
    plt.close(figure)
