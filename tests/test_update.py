import math

import pytest
import torch

from dlnotes import optim
from dlnotes.update import general_update

RATE = 0.03
MOMENTUM = {"momentum": (0.9, 1.0)}
ADAGRAD = {"scale": (1.0, 1.0), "eps": 1e-10}
RMSPROP = {"scale": (0.99, 1 - 0.99), "eps": 1e-8}
ADAM = {"momentum": (0.9, 1 - 0.9), "scale": (0.999, 1 - 0.999), "eps": 1e-8, "corrected": True}
L2 = {"weight_decay": 0.1}

CASES = {  # class, its options, the same as choices in the general update
    "sgd": ("SGD", {}, {}),
    "sgd, l2": ("SGD", L2, L2),
    "momentum": ("SGD", {"momentum": 0.9}, MOMENTUM),
    "momentum, l2": ("SGD", {"momentum": 0.9} | L2, MOMENTUM | L2),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, MOMENTUM | {"lookahead": True}),
    "adagrad": ("Adagrad", {}, ADAGRAD),
    "adagrad, l2": ("Adagrad", L2, ADAGRAD | L2),
    "rmsprop": ("RMSprop", {}, RMSPROP),
    "rmsprop, centered": ("RMSprop", {"centered": True}, RMSPROP | {"centered": True}),
    "rmsprop, momentum": ("RMSprop", {"momentum": 0.9}, RMSPROP | MOMENTUM | {"divide_first": True}),
    "rmsprop, all": (
        "RMSprop",
        {"momentum": 0.9, "centered": True} | L2,
        RMSPROP | MOMENTUM | L2 | {"divide_first": True, "centered": True},
    ),
    "adam": ("Adam", {}, ADAM),
    "adam, l2": ("Adam", L2, ADAM | L2),
    "amsgrad": ("Adam", {"amsgrad": True}, ADAM | {"largest": True}),
    "adamw": ("AdamW", L2, ADAM | L2 | {"decoupled": True}),
    "adamw, amsgrad": ("AdamW", {"amsgrad": True} | L2, ADAM | L2 | {"decoupled": True, "largest": True}),
}


def loss_at(theta, t):
    target = torch.sin(0.3 * t + torch.arange(theta.numel(), dtype=theta.dtype)).reshape(theta.shape)
    return ((theta - target) ** 4).sum() + (3 * theta).cos().sum()


def gradient_at(theta, t):
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(loss_at(theta, t), theta)[0]


def start(shape=(3, 2)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_class(cls, options, steps=100, rate_at=lambda t: RATE, clip=math.inf):
    theta = start().requires_grad_()
    optimizer, path = cls([theta], lr=RATE, **options), []
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = rate_at(t)
        theta.grad = gradient_at(theta, t)
        torch.nn.utils.clip_grad_norm_([theta], clip)
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def by_equation(choices, steps=100, rate_at=lambda t: RATE, state=None):
    theta, state, path = start(), {} if state is None else state, []
    for t in range(steps):
        theta = general_update(theta, gradient_at(theta, t), state, rate=rate_at(t), **choices)
        path.append(theta)
    return torch.stack(path)


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["fused", "readable", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_classes_for_100_steps(case, kind, monkeypatch):
    name, options, choices = CASES[case]
    cls = getattr(torch.optim if kind == "torch" else optim, name)
    if kind == "readable":
        monkeypatch.setattr(cls, "fused", None)
    path = by_equation(choices)
    assert_same(by_class(cls, options), path)
    assert (path[-1] - path[0]).abs().min() > 1e-3  # nobody stood still


def test_every_case_is_a_method_of_its_own():
    ends = torch.stack([by_equation(choices)[-1].flatten() for _, _, choices in CASES.values()])
    assert torch.cdist(ends, ends).fill_diagonal_(1).min() > 1e-7


def test_a_schedule_is_the_rate_of_each_step():
    def falling(t):
        return RATE / math.sqrt(t + 1)

    for name, options, choices in (CASES["momentum"], CASES["adamw"]):
        assert_same(by_class(getattr(optim, name), options, rate_at=falling), by_equation(choices, rate_at=falling))
    decayed = by_class(optim.Adagrad, {"lr_decay": 0.1})
    assert_same(decayed, by_equation(ADAGRAD, rate_at=lambda t: RATE / (1 + 0.1 * t)))


@pytest.mark.parametrize("case", ["sgd", "momentum, l2", "adam"])
def test_clips_before_everything_else(case):
    name, options, choices = CASES[case]
    clipped = by_equation(choices | {"clip": 0.5})
    assert_same(by_class(getattr(optim, name), options, clip=0.5), clipped)
    assert (clipped - by_equation(choices)).abs().max() > 1e-3


def test_other_starts_are_put_into_the_state():
    first = gradient_at(start(), 0)
    damped = by_equation({"momentum": (0.9, 0.5)}, state={"m": (0.5 / 0.9 * first, 0.0)})
    assert_same(by_class(optim.SGD, {"momentum": 0.9, "dampening": 0.5}), damped)
    begun = by_equation(ADAGRAD, state={"s": (torch.full((3, 2), 0.5, dtype=torch.float64), 0.0)})
    assert_same(by_class(optim.Adagrad, {"initial_accumulator_value": 0.5}), begun)


def test_corrected_sums_are_weighted_means():
    state, gradients = {}, torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    theta = torch.zeros(4, dtype=torch.float64)
    for g in gradients:
        moved = general_update(theta, g, state, rate=1.0, momentum=(1.0, 2.0), scale=(1.0, 3.0), corrected=True)
    assert_same(-moved, gradients.mean(dim=0) / (gradients**2).mean(dim=0).sqrt())
    ahead = general_update(theta, gradients[0], {}, rate=1.0, momentum=(0.9, 0.1), lookahead=True, corrected=True)
    assert_same(-ahead, gradients[0])  # a mean of one gradient


def test_leaves_its_arguments_alone():
    theta, gradient = start().requires_grad_(), start() + 1
    kept = theta.detach().clone(), gradient.clone()
    after = general_update(theta, gradient, {}, rate=0.1, weight_decay=0.1, clip=0.1)
    assert not after.requires_grad
    assert torch.equal(theta.detach(), kept[0])
    assert torch.equal(gradient, kept[1])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU"))])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_type_device_and_shape(dtype, device):
    for shape in ((), (0,), (2, 3)):
        theta = torch.ones(shape, dtype=dtype, device=device)
        after = general_update(theta, theta, {}, rate=0.1, **ADAM)
        assert (after.dtype, after.device, after.shape) == (theta.dtype, theta.device, theta.shape)


def test_nan_gradients_spread_as_in_torch():
    gradient = torch.tensor([1.0, math.nan])
    after = general_update(torch.ones(2), gradient, {}, rate=0.1)
    assert after[1].isnan()


def test_a_constant_gradient_never_gives_nan():
    gradient = torch.cat([torch.tensor([90.97694]), torch.linspace(1e-3, 100, 2000)])
    theta, state, lowest = torch.zeros_like(gradient), {}, torch.zeros_like(gradient)
    for _ in range(1500):
        theta = general_update(theta, gradient, state, rate=1e-3, **RMSPROP, centered=True)
        lowest = torch.minimum(lowest, state["s"][0] - state["mean"][0] ** 2)
    assert (lowest < 0).sum() > 20  # as in torch's RMSprop, where the parameter is NaN from here on
    assert theta.isfinite().all()
    assert (theta < -1.5).all()  # downhill, by more than the rate at each step
    after = general_update(theta, gradient, state, rate=1e-3, **RMSPROP, centered=True)
    assert ((theta - after).abs() <= 1.01e-3 / torch.finfo(theta.dtype).eps ** 0.5).all()  # and no leap of rate / eps


def test_a_gradient_too_long_for_its_type_is_not_clipped_away():
    huge = torch.full((2,), 1e30)  # its norm overflows
    assert general_update(torch.zeros(2), huge, {}, rate=1e-30).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": -0.1}, r"rate: expected a number >= 0, got -0.1"),
        ({"rate": math.nan}, r"rate: .* got nan"),
        ({"rate": math.inf}, r"rate: .* got inf"),
        ({"eps": math.inf, "scale": (1.0, 1.0)}, r"eps: .* got inf"),
        ({"weight_decay": math.nan}, r"weight_decay: .* got nan"),
        ({"clip": math.nan}, r"clip: expected a number > 0, got nan"),
        ({"momentum": (math.inf, 1.0)}, r"momentum: .* got \(inf, 1.0\)"),
        ({"scale": (0.9, math.nan)}, r"scale: .* got \(0.9, nan\)"),
        ({"eps": -1.0, "scale": (1.0, 1.0)}, r"eps: .* got -1.0"),
        ({"weight_decay": -1.0}, r"weight_decay: .* got -1.0"),
        ({"clip": 0.0}, r"clip: expected a number > 0, got 0.0"),
        ({"momentum": (0.9, 0.0)}, r"momentum: .*taken > 0, got \(0.9, 0.0\)"),
        ({"scale": (-1.0, 1.0)}, r"scale: .*kept >= 0 .* got \(-1.0, 1.0\)"),
        ({"eps": 1e-8}, r"scale: eps, .* need a pair \(kept, taken\), got None"),
        ({"divide_first": True}, r"scale: .* divide_first.* got None"),
        ({"centered": True}, r"scale: .* centered.* got None"),
        ({"largest": True}, r"scale: .* largest.* got None"),
    ],
)
def test_bad_numbers_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        general_update(torch.ones(2), torch.ones(2), {}, **({"rate": 0.1} | wrong))


def test_bad_tensors_are_named():
    with pytest.raises(TypeError, match=r"parameter: expected a real floating type, got torch.int64"):
        general_update(torch.ones(2, dtype=torch.int64), torch.ones(2), {}, rate=0.1)
    with pytest.raises(ValueError, match=r"gradient: expected the shape \(2,\), got \(3,\)"):
        general_update(torch.ones(2), torch.ones(3), {}, rate=0.1)
    with pytest.raises(ValueError, match=r"gradient: expected torch.float32, got torch.float64"):
        general_update(torch.ones(2), torch.ones(2).double(), {}, rate=0.1)
    state = {}
    general_update(torch.ones(2), torch.ones(2), state, rate=0.1, **ADAM, largest=True)
    for name in ("m", "s", "largest"):  # one that broadcasts would pass unseen
        short = torch.ones(1) if name == "largest" else (torch.ones(1), 0.0)
        with pytest.raises(ValueError, match=rf"state\['{name}'\]: expected the shape \(2,\), got \(1,\)"):
            general_update(torch.ones(2), torch.ones(2), state | {name: short}, rate=0.1, **ADAM, largest=True)
