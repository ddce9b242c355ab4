import itertools
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlnotes.optim import SGD

OPTIONS = [
    {"momentum": m, "dampening": d, "weight_decay": w, "nesterov": n}
    for m, d, w, n in itertools.product([0, 0.9], [0, 0.5], [0, 0.1], [False, True])
    if not (n and (m == 0 or d))
]


def quadratic(parameters, t):
    """A loss whose curvature and target depend on the step, the same for both optimizers."""
    return sum(((p - 0.1 * t) ** 2 * (1 + i)).sum() for i, p in enumerate(parameters))


def run(optimizer_class, starts, steps, load=None, **options):
    parameters = [s.clone().requires_grad_() for s in starts]
    optimizer = optimizer_class(parameters, **options)
    if load is not None:
        optimizer.load_state_dict(load)
    for t in range(steps):
        optimizer.zero_grad()
        quadratic(parameters, t).backward()
        if len(parameters) > 1 and t % 3 == 1:
            parameters[-1].grad = None  # a parameter not used in this step
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=5)
@given(shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_sgd_equals_torch_for_100_steps(options, shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    starts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ours, _ = run(SGD, starts, 100, lr=0.05, **options)
    theirs, _ = run(torch.optim.SGD, starts, 100, lr=0.05, **options)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(SGD, torch.optim.SGD), (torch.optim.SGD, SGD)])
def test_state_dict_goes_to_torch_and_back(first, second):
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    starts = [torch.arange(3.0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)]
    halfway, optimizer = run(first, starts, 10, **options)
    gone_on, _ = run(first, [p.detach() for p in halfway], 10, load=deepcopy(optimizer.state_dict()), **options)
    swapped, _ = run(second, [p.detach() for p in halfway], 10, load=deepcopy(optimizer.state_dict()), **options)
    for a, b in zip(gone_on, swapped, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_by_hand():
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


def test_groups_have_their_own_rate_and_closure_returns_the_loss():
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    optimizer = SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (a + b).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (a.item(), b.item()) == (0.0, pytest.approx(0.9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr must be >= 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be >= 0, got nan"),
        ({"momentum": -0.5}, "momentum must be >= 0"),
        ({"weight_decay": -1}, "weight_decay must be >= 0"),
        ({"nesterov": True}, "nesterov needs momentum"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum > 0 and dampening 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SGD([torch.zeros(1, requires_grad=True)], **options)


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        SGD(embedding.parameters(), lr=0.1).step()
