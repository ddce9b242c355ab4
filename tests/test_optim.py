import itertools
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlnotes.optim import SGD, Adagrad, Adam, AdamW, RMSprop


def combine(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


SGD_OPTIONS = combine(momentum=[0, 0.9], dampening=[0, 0.5], weight_decay=[0, 0.1], nesterov=[False, True])
MAXIMIZE = {"maximize": True, "weight_decay": 0.1}
ADAGRAD_OPTIONS = combine(lr_decay=[0, 0.01], weight_decay=[0, 0.1], initial_accumulator_value=[0, 0.5])
RMSPROP_OPTIONS = combine(weight_decay=[0, 0.1], momentum=[0, 0.9], centered=[False, True], alpha=[0.99, 0.5])
ADAM_OPTIONS = combine(
    betas=[(0.9, 0.999), (0.5, 0.9)], weight_decay=[0, 0.1], amsgrad=[False, True], decoupled_weight_decay=[False, True]
)
ADAMW_OPTIONS = combine(eps=[1e-8, 1e-3], weight_decay=[0, 0.1], amsgrad=[False, True])
CASES = [
    *((SGD, {"lr": 0.05} | o) for o in SGD_OPTIONS if not (o["nesterov"] and (o["momentum"] == 0 or o["dampening"]))),
    *((Adagrad, {"lr": 0.3} | o) for o in ADAGRAD_OPTIONS),
    *((RMSprop, o) for o in RMSPROP_OPTIONS),
    *((Adam, {"lr": 0.05} | o) for o in ADAM_OPTIONS),
    *((AdamW, {"lr": 0.05} | o) for o in ADAMW_OPTIONS),
    *((cls, {"lr": 1e-3} | MAXIMIZE | o) for cls, o in ((SGD, {"momentum": 0.9}), (Adagrad, {}), (RMSprop, {}))),
    *((cls, {"lr": 1e-3} | MAXIMIZE) for cls in (Adam, AdamW)),
]
IDS = [f"{cls.__name__}-{options}" for cls, options in CASES]
ALL = [SGD, Adagrad, RMSprop, Adam, AdamW]


def torchs(cls):
    return getattr(torch.optim, cls.__name__)


def loss_at(parameters, t):
    """A loss whose curvature and target depend on the step, the same for both optimizers."""
    return sum(((p - torch.sin(torch.tensor(0.3 * t)) * (i + 1)) ** 2).sum() for i, p in enumerate(parameters))


def run(cls, starts, steps, load=None, **options):
    parameters = [s.clone().requires_grad_() for s in starts]
    optimizer = cls(parameters, **options)
    if load is not None:
        optimizer.load_state_dict(load)
    for t in range(steps):
        optimizer.zero_grad()
        loss_at(parameters, t).backward()
        if len(parameters) > 1 and t % 3 == 1:
            parameters[-1].grad = None  # a parameter that this step does not use
        optimizer.step()
    return parameters, optimizer


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def draw(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("readable", [False, True], ids=["fused", "readable"])
@pytest.mark.parametrize(("cls", "options"), CASES, ids=IDS)
@settings(max_examples=3)
@given(shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_equals_torch_for_100_steps(cls, options, readable, shapes, seed):
    """Both forms, the readable rule and the kernel, against torch's plainest loop."""
    starts = draw(shapes, seed)
    theirs, _ = run(torchs(cls), starts, 100, foreach=False, **options)
    with pytest.MonkeyPatch.context() as patch:
        if readable:
            patch.setattr(cls, "fused", None)
        ours, _ = run(cls, starts, 100, **options)
    assert_same(ours, theirs)


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(("cls", "options"), CASES, ids=IDS)
def test_state_dict_goes_to_torch_and_back(cls, options, ours_first):
    first, second = (cls, torchs(cls)) if ours_first else (torchs(cls), cls)
    halfway, optimizer = run(first, draw([[3], [2, 2]], 0), 10, **options)
    starts = [p.detach() for p in halfway]
    gone_on, _ = run(first, starts, 10, load=deepcopy(optimizer.state_dict()), **options)
    swapped, _ = run(second, starts, 10, load=deepcopy(optimizer.state_dict()), **options)
    assert_same(gone_on, swapped)


@pytest.mark.parametrize("cls", ALL)
def test_several_groups_types_and_layouts(cls):
    """A transposed parameter, a half-precision one and a group of its own rate: where the kernels do not reach."""

    def make(optimizer):
        generator = torch.Generator().manual_seed(0)
        a = torch.randn(3, 2, generator=generator).t().detach().requires_grad_()
        b = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
        c = torch.randn(4, generator=generator, requires_grad=True)
        groups = [{"params": [a, b]}, {"params": [c], "lr": 0.5}]
        return [a, b, c], optimizer(groups, lr=0.1)

    (ours, one), (theirs, two) = make(cls), make(torchs(cls))
    for t in range(20):
        for parameters, optimizer in ((ours, one), (theirs, two)):
            optimizer.zero_grad()
            loss_at(parameters, t).backward()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_momentum_by_hand():
    # f = w^2/2 from w = 1 with lr 0.5, momentum 0.5: b = 1, w = 0.5; b = 0.5 + 0.5, w = 0; b = 0.5 + 0, w = -0.25
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SGD([w], lr=0.5, momentum=0.5)
    path = []
    for _ in range(3):
        optimizer.zero_grad()
        (w**2 / 2).sum().backward()
        optimizer.step()
        path.append(w.item())
    assert path == [0.5, 0.0, -0.25]


def test_adam_by_hand():
    # gradients 1 then 1: m = 0.1, 0.19; corrected 1, 1; v likewise 1: two steps of exactly lr / (1 + eps)
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = Adam([w], lr=0.5, eps=1.0)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert w.item() == pytest.approx(-0.5, rel=1e-12)


def test_adagrad_and_rmsprop_by_hand():
    # gradients 3 then 4: Adagrad divides by 3 then 5; RMSprop with alpha 0 by 3 then 4
    for cls, options, expected in ((Adagrad, {}, 1 + 4 / 5), (RMSprop, {"alpha": 0}, 2)):
        w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = cls([w], lr=1.0, eps=0, **options)
        for gradient in (3.0, 4.0):
            w.grad = torch.full_like(w, gradient)
            optimizer.step()
        assert w.item() == pytest.approx(-expected, rel=1e-12)


@pytest.mark.parametrize("cls", ALL)
def test_closure_returns_the_loss(cls):
    w = torch.ones(1, requires_grad=True)
    optimizer = cls([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w * 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert w.item() < 1


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        *((cls, {"lr": -0.1}, "lr must be >= 0, got -0.1") for cls in ALL),
        *((cls, {"lr": float("nan")}, "lr must be >= 0, got nan") for cls in ALL),
        *((cls, {"weight_decay": -1}, "weight_decay must be >= 0") for cls in ALL),
        *((cls, {"eps": -1}, "eps must be >= 0") for cls in ALL[1:]),
        (SGD, {"momentum": -0.5}, "momentum must be >= 0"),
        (SGD, {"nesterov": True}, "nesterov needs momentum"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum > 0 and dampening 0"),
        (Adagrad, {"lr_decay": -1}, "lr_decay must be >= 0"),
        (Adagrad, {"initial_accumulator_value": -1}, "initial_accumulator_value must be >= 0"),
        (RMSprop, {"alpha": -0.1}, "alpha must be >= 0"),
        (RMSprop, {"momentum": -0.1}, "momentum must be >= 0"),
        (Adam, {"betas": (1.0, 0.9)}, r"betas\[0\] must be in \[0, 1\), got 1.0"),
        (AdamW, {"betas": (0.9, -0.1)}, r"betas\[1\] must be in \[0, 1\), got -0.1"),
    ],
)
def test_bad_options(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls([torch.zeros(1, requires_grad=True)], **options)


@pytest.mark.parametrize("cls", ALL)
def test_refused_parameters_gradients_and_states(cls):
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support sparse gradients"):
        cls(embedding.parameters(), lr=0.1).step()
    with pytest.raises(TypeError, match=r"real floating type, got torch\.complex64"):
        cls([torch.zeros(1, dtype=torch.complex64, requires_grad=True)], lr=0.1)


@pytest.mark.parametrize("cls", ALL)
def test_a_state_of_an_older_version_gets_the_newest_options(cls):
    w = torch.ones(1, requires_grad=True)
    old = cls([w], lr=0.1, maximize=False).state_dict()
    for group in old["param_groups"]:
        group.pop("maximize")
        group.pop("decoupled_weight_decay", None)
    optimizer = cls([w], lr=0.2)
    optimizer.load_state_dict(old)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0]["maximize"] is False
    assert optimizer.param_groups[0].get("decoupled_weight_decay", False) is (cls is AdamW)


@pytest.mark.parametrize("cls", ALL)
def test_maximize_is_descent_on_the_negative(cls):
    ends = []
    for sign, climb in ((1, True), (-1, False)):
        w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        optimizer = cls([w], lr=0.1, maximize=climb)
        for _ in range(5):
            optimizer.zero_grad()
            (sign * w.sin().sum()).backward()
            kept = w.grad.clone()
            optimizer.step()
            assert torch.equal(w.grad, kept)  # the caller's gradient stays as it was
        ends.append(w.detach())
    assert torch.equal(*ends)
    assert ends[0].sin().sum() > torch.tensor([1.0, -2.0]).sin().sum()


@pytest.mark.parametrize("cls", ALL)
def test_a_nan_gradient_spreads_as_in_torch(cls):
    for kind in (cls, torchs(cls)):
        w = torch.ones(2, requires_grad=True)
        optimizer = kind([w], lr=0.1)
        w.grad = torch.tensor([float("nan"), 1.0])
        optimizer.step()
        assert w.isnan().tolist() == [True, False]
