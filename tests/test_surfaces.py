import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlnotes import surfaces
from dlnotes.objective import unflatten


def test_surface_of_a_quadratic_and_the_parameters_are_put_back():
    matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    w = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    parameters, loss = [w], lambda: w @ matrix @ w / 2
    before, eye = parameters[0].clone(), torch.eye(2, dtype=torch.float64)
    xs, ys = torch.linspace(-1, 1, 5), torch.linspace(-2, 2, 3)
    values = surfaces.surface(loss, parameters, (eye[0], eye[1]), xs, ys)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            point = before.detach() + torch.stack([x, y]).double()
            assert values[row, column].item() == pytest.approx((point @ matrix @ point / 2).item(), abs=1e-12)
    assert values.dtype == torch.float64
    assert torch.equal(parameters[0], before)

    def broken():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        surfaces.surface(broken, parameters, (eye[0], eye[1]), xs, ys)
    assert torch.equal(parameters[0], before)


def test_filter_normalised_directions_have_the_filters_lengths():
    convolution, linear = nn.Conv2d(3, 4, 3), nn.Linear(5, 2)
    parameters = [*convolution.parameters(), *linear.parameters()]
    direction = surfaces.filter_normalized(parameters, torch.Generator().manual_seed(0))
    for piece, parameter in zip(unflatten(direction, parameters), parameters, strict=True):
        own = parameter.detach().flatten(1).norm(dim=1) if parameter.dim() > 1 else torch.zeros(len(parameter))
        length = piece.flatten(1).norm(dim=1) if parameter.dim() > 1 else piece
        torch.testing.assert_close(length, own)
    again = surfaces.filter_normalized(parameters, torch.Generator().manual_seed(0))
    assert torch.equal(direction, again)


def test_buffers_and_generators_are_untouched_and_every_point_sees_one_mask():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, y = torch.randn(12, 4), torch.randint(0, 2, (12,))
    parameters = list(model.parameters())
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    zero = torch.zeros(sum(p.numel() for p in parameters))
    flat = surfaces.surface(
        lambda: F.cross_entropy(model(x), y), model.parameters(), (zero, zero), torch.arange(3.0), torch.arange(2.0)
    )
    assert (flat == flat[0, 0]).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_infinite_loss_is_shown_and_a_changing_one_refused():
    w, draw = torch.zeros(1, dtype=torch.float64), torch.Generator().manual_seed(0)
    right = torch.ones(1, dtype=torch.float64)
    values = surfaces.surface(lambda: (1 / w).sum(), [w], (right, 0 * right), torch.arange(2.0), torch.zeros(1))
    assert values.tolist() == [[math.inf, 1.0]]
    with pytest.raises(ValueError, match=r"loss must be the same each time .* no generator of its own\), got "):
        surfaces.surface(lambda: torch.rand(1, generator=draw), [w], (right, right), torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="vector must have 1 elements, got 2"):
        surfaces.surface(w.sum, [w], tuple(torch.ones(2, 2)), torch.zeros(1), torch.zeros(1))
    assert surfaces.surface(w.sum, [w], (right, right), torch.zeros(0), torch.zeros(2)).shape == (2, 0)
