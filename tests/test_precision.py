import math
import os
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


def random_script(scaler, seed, steps=60):
    """Two optimizers that share a scale, random order of calls, NaN and inf now and then; all that can be seen."""
    draw, record = random.Random(seed), []
    torch.manual_seed(seed)
    weights = [torch.zeros(3, dtype=draw.choice([torch.float32, torch.float64])).requires_grad_() for _ in range(2)]
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizers = [torch.optim.SGD([weights[0], table.weight], lr=0.5), torch.optim.SGD([weights[1]], lr=0.5)]
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        value = draw.choice([1.0, 1e-3, 1e-30, -5.0, 2.0, 1e30] * 4 + [math.inf, math.nan])
        loss = (weights[0] * torch.tensor([1.0, value, 2.0])).sum() + weights[1].sum() / 3
        loss = loss + (table(torch.tensor([1, 3])) * draw.choice([1.0, 1.0, value])).sum()
        scaler.scale(loss).backward()
        for optimizer in draw.sample(optimizers, 2):
            if draw.random() < 0.5:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
        scaler.update()
        record.append(
            [scaler.get_scale(), *weights[0].tolist(), *weights[1].tolist(), *table.weight.flatten().tolist()]
        )
    return record, scaler.state_dict()


@pytest.mark.parametrize("seed", range(int(os.environ.get("DLNOTES_FUZZ", "12"))))
def test_equals_torch_over_random_scripts_to_the_last_digit(seed):
    draw = random.Random(-seed - 1)
    options = {
        "init_scale": draw.choice([2.0**16, 1000.0, 0.1 + draw.random(), 1e37]),
        "growth_factor": draw.choice([2.0, 1.1, 1 + draw.random(), 3.7]),
        "backoff_factor": draw.choice([0.5, 0.9, 0.1 + 0.8 * draw.random()]),
        "growth_interval": draw.randint(1, 6),
    }
    ours, theirs = GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    assert str(random_script(ours, seed)) == str(random_script(theirs, seed))


def test_the_scale_stays_above_zero():
    record, state = script(GradScaler(), [float("nan")] * 1200)
    assert state["scale"] == record[-1][2] == 2.0**-126
    assert all(weight == [0.0, 0.0] for *weight, _ in record)
    scaler = GradScaler()
    scaler.load_state_dict(state)
    assert script(scaler, [1.0])[0] == [(-0.5, -0.5, 2.0**-126)]


def test_a_quotient_that_overflows_is_not_stepped():
    weight = torch.zeros(1, requires_grad=True)
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), GradScaler(init_scale=2.0**-20)
    scaler.scale((weight * 2.0**100).sum() * 2.0**40).backward()  # the scaled gradient is 2**120, the true one 2**140
    assert not scaler.step(optimizer)
    assert weight.item() == 0


def test_sparse_and_expanded_and_complex_gradients():
    table = torch.nn.Embedding(3, 2, sparse=True)
    expanded, number = torch.zeros(4, requires_grad=True), torch.zeros(1, dtype=torch.complex64, requires_grad=True)
    scaler, optimizer = GradScaler(init_scale=4.0), torch.optim.SGD([table.weight, expanded, number], lr=1.0)
    (table(torch.tensor([1, 1])).sum() + (3 * number.real).sum()).mul(4.0).backward()
    expanded.grad = torch.full((1,), 8.0).expand(4)
    scaler.unscale_(optimizer)
    assert table.weight.grad.to_dense().tolist() == [[0, 0], [2, 2], [0, 0]]
    assert expanded.grad.tolist() == [2.0] * 4
    assert number.grad.tolist() == [3 + 0j]
    assert scaler.step(optimizer)


def test_fp16_gradients_are_refused_as_by_torch():
    weight = torch.zeros(2, dtype=torch.float16, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for scaler in (GradScaler(), torch.amp.GradScaler("cpu")):
        weight.grad = None
        scaler.scale(weight.sum().float() * 2**-10).backward()
        with pytest.raises(ValueError, match="FP16 gradients"):
            scaler.step(optimizer)
    assert weight.tolist() == [0, 0]


def test_each_optimizer_steps_once_an_update():
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for scaler in (GradScaler(), torch.amp.GradScaler("cpu")):
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        scaler.step(optimizer)
        with pytest.raises(RuntimeError, match=r"step(\(\))? (was|has) already.* called"):
            scaler.step(optimizer)
        with pytest.raises(RuntimeError):
            scaler.unscale_(optimizer)
    assert weight.item() == -2.0


def test_an_interrupted_step_is_forgotten():
    weight = torch.zeros(1, requires_grad=True)
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), GradScaler()
    for forget in (scaler.forget, lambda: scaler.load_state_dict(scaler.state_dict())):
        scaler.scale(weight.sum()).backward()
        scaler.unscale_(optimizer)
        forget()
        assert scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 1e300}, "scale must be positive and finite, got 1e[+]300"),
        ({"scale": 0.0}, "scale must be positive and finite"),
        ({"growth_factor": 0.5}, "growth_factor must be > 1"),
        ({"growth_factor": math.inf}, "growth_factor must be > 1 and finite"),
        ({"backoff_factor": 7.0}, "backoff_factor must be between 0 and 1, got 7"),
        ({"growth_interval": 0}, "growth_interval must be >= 1 and whole, got 0"),
        ({"growth_interval": 2.5}, "growth_interval must be >= 1 and whole, got 2.5"),
        ({"_growth_tracker": -1}, "_growth_tracker must be >= 0 and whole, got -1"),
        ({"_growth_tracker": math.nan}, "_growth_tracker must be >= 0 and whole, got nan"),
    ],
)
def test_a_state_is_checked_whole_before_any_of_it_is_taken(change, message):
    scaler = GradScaler(init_scale=8.0)
    before = scaler.state_dict()
    with pytest.raises(ValueError, match=message):
        scaler.load_state_dict(GradScaler().state_dict() | change)
    assert scaler.state_dict() == before


def test_a_growth_interval_that_is_no_number():
    with pytest.raises(Exception, match="nan"):
        GradScaler(growth_interval=math.nan)


def test_autocast():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for amp, dtype in ((None, torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with autocast(amp, torch.device("cpu")):
            assert layer(x).dtype == dtype
    with pytest.raises(ValueError, match="amp must be None or one of .* got 'fp8'"):
        autocast("fp8", torch.device("cpu"))
