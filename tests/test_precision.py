import random

import pytest
import torch

from dlnotes.precision import GradScaler, autocast

OPTIONS = {"init_scale": 1024.0, "growth_interval": 3}


def script(scaler, gradients):
    """Feed one gradient a step; record the weight and the scale after each."""
    weight = torch.zeros(2, requires_grad=True)
    optimizer, record = torch.optim.SGD([weight], lr=0.5), []
    for gradient in gradients:
        optimizer.zero_grad()
        scaler.scale((weight * torch.tensor([1.0, gradient])).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        record.append((*weight.tolist(), scaler.get_scale()))
    return record, scaler.state_dict()


@pytest.mark.parametrize("seed", range(5))
def test_decides_as_torch_over_a_scripted_run_with_overflows(seed):
    values = random.Random(seed).choices([1.0, 1e-3, float("inf"), float("nan"), 3e38], weights=[6, 6, 1, 1, 1], k=300)
    ours = script(GradScaler(**OPTIONS), values)
    theirs = script(torch.amp.GradScaler("cpu", **OPTIONS), values)
    assert ours == theirs
    scales = [scale for *_, scale in ours[0]]
    assert min(scales) < 1024 < max(scales)  # the script did make it shrink and grow


def test_the_scale_stops_growing_before_it_overflows_float32():
    options = {"init_scale": 2.0**126, "growth_interval": 1}
    ours = script(GradScaler(**options), [0.0] * 5)
    assert ours == script(torch.amp.GradScaler("cpu", **options), [0.0] * 5)
    assert ours[1]["scale"] == 2.0**127


@pytest.mark.parametrize(("first", "second"), [(GradScaler, None), (None, GradScaler)])
def test_state_goes_to_torch_and_back(first, second):
    make = lambda cls: (cls or (lambda **o: torch.amp.GradScaler("cpu", **o)))(**OPTIONS)  # noqa: E731
    start, end = make(first), make(second)
    script(start, [1.0, float("inf"), 1.0, 1.0])
    end.load_state_dict(start.state_dict())
    more = [1.0, 1.0, float("nan"), 1.0, 1.0, 1.0]
    assert script(start, more) == script(end, more)


def test_two_optimizers_share_one_scale_and_skip_apart():
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    one, two = (torch.optim.SGD([p], lr=1.0) for p in (a, b))
    scaler = GradScaler(init_scale=8.0)
    scaler.scale((a + float("inf") * b).sum()).backward()
    assert (scaler.step(one), scaler.step(two)) == (True, False)
    scaler.update()
    assert (a.item(), b.item(), scaler.get_scale()) == (-1.0, 0.0, 4.0)


def test_a_gradient_below_fp16_survives_only_when_scaled():
    tiny = 2.0**-26  # rounds to zero in FP16, whose smallest number is 2**-24
    for scale, survives in ((1.0, False), (2.0**16, True)):
        weight = torch.ones(1, requires_grad=True)
        (weight.half().float() * tiny * scale).sum().backward()  # the gradient passes through FP16
        assert (weight.grad / scale == tiny).all() == survives


def test_disabled_passes_through():
    scaler, weight = GradScaler(enabled=False), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    loss = weight.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    assert scaler.step(optimizer)
    scaler.update()
    assert (weight.item(), scaler.get_scale(), scaler.state_dict()) == (-1.0, 1.0, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_scale": 0.0}, "init_scale must be positive"),
        ({"init_scale": float("inf")}, "init_scale must be positive and finite"),
        ({"growth_factor": 1.0}, "growth_factor must be > 1"),
        ({"backoff_factor": 1.5}, "backoff_factor must be between"),
        ({"growth_interval": 0}, "growth_interval must be >= 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GradScaler(**options)


def test_calls_out_of_order():
    weight = torch.zeros(1, requires_grad=True)
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), GradScaler()
    with pytest.raises(RuntimeError, match="no parameter of the optimizer has a gradient"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="update needs a step"):
        scaler.update()
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already called"):
        scaler.unscale_(optimizer)


def test_bad_states():
    with pytest.raises(ValueError, match="needs .*'growth_factor'"):
        GradScaler().load_state_dict({"scale": 2.0})
    with pytest.raises(ValueError, match="scale must be positive and finite, got nan"):
        GradScaler().load_state_dict(GradScaler().state_dict() | {"scale": float("nan")})


def test_autocast():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for amp, dtype in ((None, torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with autocast(amp, torch.device("cpu")):
            assert layer(x).dtype == dtype
    with pytest.raises(ValueError, match="amp must be None or one of .* got 'fp8'"):
        autocast("fp8", torch.device("cpu"))
