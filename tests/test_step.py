import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training import make_model, make_step

from dlnotes.checkpoint import CheckpointError
from dlnotes.optim import SGD
from dlnotes.step import NonFiniteError, TrainStep


def batch(samples=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, generator=generator), torch.arange(samples) % 2


def plain_model():
    torch.manual_seed(0)
    return nn.Linear(3, 2, dtype=torch.float32)


def weights(step):
    return {name: value.clone() for name, value in step.model.state_dict().items()}


@pytest.mark.parametrize("sizes", [[8], [4, 4], [3, 3, 2], [1] * 8])
def test_accumulation_equals_one_big_batch(sizes):
    x, y = batch()
    big = TrainStep(model := plain_model().double(), F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    small = TrainStep(model := plain_model().double(), F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    x = x.double()
    logs = big([(x, y)])
    accumulated = small(list(zip(x.split(sizes), y.split(sizes), strict=True)))
    assert accumulated["loss"] == pytest.approx(logs["loss"], rel=1e-6)
    assert accumulated["samples"] == 8
    torch.testing.assert_close(small.model.weight, big.model.weight, rtol=1e-12, atol=1e-12)


def test_equals_the_loop_one_would_write():
    x, y = batch()
    step = make_step(plain_model(), schedule=True, clip_norm=0.05)
    model = plain_model()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(5):
        logs = step([(x, y)])
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        scheduler.step()
        assert logs["loss"] == loss.item()
        assert logs["grad_norm"] == norm.item()
        assert step.learning_rate() == optimizer.param_groups[0]["lr"]
        assert torch.equal(step.model.weight, model.weight)


def test_clipping_bounds_the_step():
    step = make_step(plain_model(), lr=1.0, schedule=False, clip_norm=1e-3)
    before = weights(step)
    assert step([batch()])["grad_norm"] > 1e-3
    moved = torch.cat([(value - before[name]).flatten() for name, value in weights(step).items()])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_fp16_equals_torchs_own_recipe():
    x, y = batch()
    step = make_step(plain_model(), schedule=False, amp="fp16")
    model = plain_model()
    optimizer, scaler = SGD(model.parameters(), lr=0.1, momentum=0.9), torch.amp.GradScaler("cpu")
    for _ in range(5):
        step([(x, y)])
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            output = model(x)
        scaler.scale(F.cross_entropy(output.float(), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(step.model.weight, model.weight)


def test_fp16_overflow_skips_the_update_and_the_schedule_and_lowers_the_scale():
    step = make_step(plain_model(), amp="fp16")
    before, rate = weights(step), step.learning_rate()
    x, y = batch()
    logs = step([(x * 1e6, y)])  # beyond FP16's largest number, 65504
    assert logs["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())
    assert (step.scaler.get_scale(), step.learning_rate()) == (2.0**15, rate)
    assert step([(x, y)])["skipped"] == 0
    assert step.learning_rate() < rate


def test_fp16_gives_up_when_the_scale_is_not_to_blame():
    step, (x, y) = make_step(plain_model(), amp="fp16"), batch()
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        for _ in range(40):
            step([(x * float("nan"), y)])
    assert step.scaler.get_scale() < 2.0**-16


def test_bf16_trains():
    step = make_step(plain_model(), amp="bf16", schedule=False)
    losses = [step([batch()])["loss"] for _ in range(30)]
    assert losses[-1] < losses[0]
    assert step.model.weight.dtype == torch.float32
    assert not step.scaler.enabled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_batch_is_named_and_changes_nothing(value):
    step, (x, y) = make_step(make_model()), batch()
    before, optimizer = weights(step), step.optimizer.state_dict()
    x[0, 0] = value
    with pytest.raises(
        NonFiniteError, match="the loss is nan, and no update was made; the parameters are still finite"
    ):
        step([(x, y)])
    after = weights(step)
    assert all(torch.equal(p, before[n]) for n, p in after.items() if "running" not in n and "num_batches" not in n)
    assert step.optimizer.state_dict() == optimizer


def test_a_broken_parameter_is_named():
    step = make_step(plain_model())
    with torch.no_grad():
        step.model.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="the last update made bias non-finite"):
        step([batch()])


def test_an_infinite_norm_is_named_when_clipping():
    model = plain_model()
    root = TrainStep(
        model, lambda o, t: (o - o.detach()).pow(2).sum().sqrt(), torch.optim.SGD(model.parameters()), clip_norm=1.0
    )
    before = weights(root)
    with pytest.raises(NonFiniteError, match="the gradient's norm is nan"):
        root([batch()])
    assert all(torch.equal(value, before[name]) for name, value in weights(root).items())


def test_evaluate_leaves_no_gradient():
    step = make_step(plain_model())
    result = step.evaluate(batch(), {"mean": lambda output, target: output.mean()})
    assert set(result) == {"loss", "mean"}
    assert math.isfinite(result["loss"])
    assert step.model.weight.grad is None


def test_several_inputs():
    bilinear = nn.Bilinear(3, 3, 1)
    step = TrainStep(bilinear, F.mse_loss, torch.optim.SGD(bilinear.parameters(), lr=0.1))
    x, _ = batch()
    assert math.isfinite(step([(x, x, torch.zeros(8, 1))])["loss"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accumulate": 0}, ValueError, "accumulate must be >= 1, got 0"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be > 0 or None, got 0.0"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm must be > 0"),
        ({"amp": "fp8"}, ValueError, "amp must be None or one of"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        make_step(**options)


def test_refused_parts():
    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(Exception, match="ReduceLROnPlateau"):
        TrainStep(model, F.cross_entropy, optimizer, scheduler=plateau)
    with pytest.raises(ValueError, match="model has no parameters"):
        TrainStep(nn.ReLU(), F.cross_entropy, optimizer)
    vector = TrainStep(model, lambda o, t: F.cross_entropy(o, t, reduction="none"), optimizer)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(8,\)"):
        vector([batch()])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"schedule": False}, "scheduler: the checkpoint has one, this run has none"),
        ({"amp": "fp16"}, "scaler: the checkpoint has none, this run has one"),
        ({"model": nn.Linear(3, 5)}, r"model: shape of weight: \(2, 3\) given, \(5, 3\) expected"),
    ],
)
def test_a_state_of_another_step_is_refused_whole(other, message):
    torch.manual_seed(1)
    step = make_step(**({"model": nn.Linear(3, 2)} | other))
    before = weights(step)
    with pytest.raises(CheckpointError, match=message):
        step.load_state_dict(make_step(plain_model()).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())


def test_a_state_with_other_groups_is_refused():
    step = make_step(plain_model())
    one_group = step.state_dict()
    model = plain_model()
    optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias]}], lr=0.1)
    split = TrainStep(model, F.cross_entropy, optimizer, scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1))
    with pytest.raises(CheckpointError, match=r"groups of \[2\] parameters in the checkpoint, \[1, 1\] in this run"):
        split.load_state_dict(one_group)
