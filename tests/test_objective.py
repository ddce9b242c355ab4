import math
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes import objective


def test_vectors_and_pieces_are_inverse():
    parts = [torch.randn(2, 3), torch.randn(()), torch.randn(0), torch.randn(4)]
    vector = objective.flatten(parts)
    assert vector.shape == (11,)
    pieces = objective.unflatten(vector, iter(parts))
    assert all(torch.equal(piece, part) for piece, part in zip(pieces, parts, strict=True))
    with pytest.raises(ValueError, match="vector must have 11 elements, got 3"):
        objective.unflatten(torch.zeros(3), parts)


@pytest.mark.parametrize(
    ("direction", "length"), [([1.0, math.nan], 1.0), ([1.0, 2.0], math.nan), ([1.0, 1.0], math.inf)]
)
def test_a_move_that_is_not_finite_is_refused(direction, length):
    parts = [torch.ones(1), torch.ones(1)]
    with pytest.raises(ValueError, match="direction times length must be finite"):
        objective.move(parts, torch.tensor(direction), length)
    with pytest.raises(ValueError, match="vector must have 2 elements, got 3"):
        objective.move(parts, torch.ones(3))
    assert [part.item() for part in parts] == [1, 1]


def test_what_is_moved_inside_is_put_back_whatever_happens():
    w = torch.tensor([0.1, 0.7], requires_grad=True)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), objective.kept([w]):
            objective.move([w], torch.tensor([1e8, -1e8]))
            raise error
    assert torch.equal(w, torch.tensor([0.1, 0.7]))


class Counter(nn.Module):
    """Every way in which a module may write into buffers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.BatchNorm1d(2)
        for name in ("added", "replaced", "hidden"):
            self.register_buffer(name, torch.zeros(2), persistent=name != "hidden")

    def forward(self, x):
        self.added += 1
        self.hidden.fill_(math.nan)
        self.replaced = self.replaced + 1
        self.inner.num_batches_tracked += 10  # the parent writes into its part
        return self.inner(x)


def test_every_buffer_is_put_back_and_stays_the_same_tensor():
    model, x = Counter(), torch.randn(5, 2)
    buffers = dict(model.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    objective.evaluate(lambda: model(x).square().sum(), model.parameters())
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())

    def broken():
        model(x)
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        objective.evaluate(broken, model.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    model(x)  # and the hook is gone
    assert (model.added == 1).all()


def test_the_graph_survives_the_return_of_the_buffers():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    for mode in (True, False):
        model.train(mode)
        value = objective.evaluate(lambda: model(x).pow(3).sum(), model.parameters())
        (slope,) = torch.autograd.grad(value, model[0].weight, create_graph=True)
        curved = torch.autograd.grad(slope.square().sum(), model[0].weight)[0]
        assert curved.isfinite().all()


def test_modules_of_another_thread_are_left_alone():
    mine, other, x = nn.BatchNorm1d(2), nn.BatchNorm1d(2), torch.randn(4, 2)

    def loss():
        thread = threading.Thread(target=lambda: other(x))
        thread.start()
        thread.join()
        return mine(x).square().sum()

    objective.evaluate(loss, mine.parameters())
    assert (int(mine.num_batches_tracked), int(other.num_batches_tracked)) == (0, 1)


def test_generators_are_put_back_and_calls_repeat():
    w = torch.ones(3, requires_grad=True)
    loss = lambda: (w * torch.rand(3)).sum()  # noqa: E731
    state = torch.get_rng_state()
    first, second = objective.evaluate(loss, [w]), objective.evaluate(loss, [w])
    assert first.item() == second.item() == objective.steady_value(loss, [w]).item()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpus_generator_is_put_back_too():
    w = torch.ones(3, requires_grad=True, device="cuda")
    loss = lambda: (w * torch.rand(3, device="cuda")).sum()  # noqa: E731
    state = torch.cuda.get_rng_state()
    assert objective.evaluate(loss, [w]).item() == objective.evaluate(loss, [w]).item()
    assert torch.equal(torch.cuda.get_rng_state(), state)


OWN = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "draw", [random.random, np.random.default_rng(0).random, lambda: torch.rand(1, generator=OWN).item()]
)
def test_a_loss_that_is_another_each_time_is_refused(draw):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="loss must be the same each time it is called"):
        objective.steady_value(lambda: w.sum() * draw(), [w])


def test_a_loss_of_nan_is_steady():
    w = torch.ones(1, requires_grad=True)
    assert objective.steady_value(lambda: w.sum() * math.nan, [w]).isnan()


def test_losses_that_are_none():
    w, model = torch.ones(2, requires_grad=True), nn.Linear(2, 1)
    with pytest.raises(TypeError, match="loss must return a tensor, got float"):
        objective.evaluate(lambda: w.sum().item(), [w])
    with pytest.raises(ValueError, match=r"loss must return one real number, got the shape \(2,\), torch.float32"):
        objective.evaluate(lambda: w * 2, [w])
    with pytest.raises(ValueError, match=r"one real number, got the shape \(\), torch.complex64"):
        objective.evaluate(lambda: (w * 1j).sum(), [w])
    for detached in (lambda: w.detach().sum(), lambda: torch.tensor(1.0)):
        with pytest.raises(ValueError, match="loss must depend on parameters that require a gradient; was it detached"):
            objective.evaluate(detached, [w])
    with torch.no_grad():
        assert objective.evaluate(lambda: w.detach().sum(), [w]) == 2
    assert objective.evaluate(lambda: model(w[None]), model.parameters()).shape == ()


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ([], "no tensors"),
        ([torch.ones(2, dtype=torch.int64)], r"\['torch.int64 on cpu'\]"),
        ([torch.ones(2, dtype=torch.complex64)], r"\['torch.complex64 on cpu'\]"),
        ([torch.ones(2), torch.ones(2).double()], r"\['torch.float32 on cpu', 'torch.float64 on cpu'\]"),
        ([torch.ones(2), torch.ones(2, device="meta")], r"\['torch.float32 on cpu', 'torch.float32 on meta'\]"),
    ],
)
def test_parameters_that_are_no_vector(parameters, found):
    with pytest.raises(ValueError, match=f"of one real floating type on one device, got {found}"):
        objective.checked(parameters)
