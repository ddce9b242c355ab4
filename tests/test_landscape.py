import time
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlnotes import landscape

POINTS = {
    "minimum": torch.tensor([[3.0, 1.0], [1.0, 2.0]]),
    "maximum": torch.tensor([[-3.0, 1.0], [1.0, -2.0]]),
    "saddle": torch.tensor([[1.0, 2.0], [2.0, 1.0]]),
    "degenerate": torch.tensor([[1.0, 1.0], [1.0, 1.0]]),
}


JIT = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch.func's own


def network(widths=(3, 4, 2), seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.Tanh())][:-1]).double()
    x = torch.randn(10, widths[0], dtype=torch.float64)
    y = torch.randint(0, widths[-1], (10,))
    return model, lambda: F.cross_entropy(model(x), y), (x, y)


def dense_hessian(model, x, y):
    shapes = [p.shape for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def loss(vector):
        pieces = [v.reshape(s) for v, s in zip(vector.split([s.numel() for s in shapes]), shapes, strict=True)]
        return F.cross_entropy(torch.func.functional_call(model, dict(zip(names, pieces, strict=True)), (x,)), y)

    return torch.func.hessian(loss)(landscape.flatten([p.detach() for p in model.parameters()]))


def quadratic(matrix):
    w = torch.zeros(len(matrix), dtype=matrix.dtype, requires_grad=True)
    return [w], lambda: w @ matrix @ w / 2


@JIT
def test_products_equal_torchs_hessian():
    model, loss, data = network()
    hessian, parameters = dense_hessian(model, *data), list(model.parameters())
    product = landscape.hessian_vector_product(loss, parameters)
    columns = torch.stack([product(unit) for unit in torch.eye(len(hessian), dtype=torch.float64)])
    torch.testing.assert_close(columns, hessian, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(columns, columns.T, rtol=1e-10, atol=1e-12)


@JIT
@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("k", [1, 3])
def test_eigenpairs_equal_the_dense_ones(which, k):
    model, loss, data = network()
    hessian = dense_hessian(model, *data)
    all_values = torch.linalg.eigvalsh(hessian)
    values, vectors = landscape.eigenpairs(loss, list(model.parameters()), k, which, tolerance=1e-12)
    torch.testing.assert_close(values, all_values[-k:] if which == "largest" else all_values[:k], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(vectors @ hessian, values[:, None] * vectors, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(k, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_eigenpairs_repeat_to_the_bit():
    model, loss, _ = network()
    first, second = (landscape.eigenpairs(loss, list(model.parameters()), 2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_hundred_thousand_parameters_in_seconds():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 1024), nn.Tanh(), nn.Linear(1024, 32), nn.Tanh(), nn.Linear(32, 10))
    x, y = torch.randn(256, 64), torch.randint(0, 10, (256,))
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) > 99_000
    start = time.perf_counter()
    point = landscape.classify(lambda: F.cross_entropy(model(x), y), parameters)
    assert time.perf_counter() - start < 30  # a few seconds on an idle machine
    assert point.kind == "not critical"
    assert point.smallest < 0 < point.largest


@pytest.mark.parametrize("kind", POINTS)
def test_classification(kind):
    parameters, loss = quadratic(POINTS[kind])
    point = landscape.classify(loss, parameters)
    assert point.kind == kind
    low, high = torch.linalg.eigvalsh(POINTS[kind]).tolist()
    assert (point.smallest, point.largest) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
    assert point.gradient_norm == 0
    with torch.no_grad():
        parameters[0] += torch.tensor([1.0, 0.5])
    assert landscape.classify(loss, parameters).kind == "not critical"


@pytest.mark.parametrize("length", [0.1, 0.01])
def test_escape_lowers_the_loss_as_second_order_predicts(length):
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = lambda: w[0] ** 2 - 2 * w[1] ** 2 + w[1] ** 3 + w[2] ** 4  # noqa: E731
    predicted, measured = landscape.escape_saddle(loss, [w], length)
    assert predicted == pytest.approx(-2 * length**2, rel=1e-5)
    assert abs(measured - predicted) < 1.1 * length**3  # the third order, by hand 1 * length^3
    assert w[1] < 0  # of both ways down the steeper one
    assert measured == pytest.approx(loss().item(), rel=1e-6)


def test_no_escape_from_a_minimum():
    parameters, loss = quadratic(POINTS["minimum"])
    with pytest.raises(ValueError, match="smallest eigenvalue is 1.38"):
        landscape.escape_saddle(loss, parameters, 0.1)
    assert parameters[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="length must be > 0, got 0"):
        landscape.escape_saddle(loss, parameters, 0.0)


def test_surface_of_a_quadratic_and_the_parameters_are_put_back():
    matrix = POINTS["saddle"].double()
    parameters, loss = quadratic(matrix)
    with torch.no_grad():
        parameters[0] += torch.tensor([0.1, 0.2])
    before, eye = parameters[0].clone(), torch.eye(2, dtype=torch.float64)
    xs, ys = torch.linspace(-1, 1, 5), torch.linspace(-2, 2, 3)
    values = landscape.surface(loss, parameters, (eye[0], eye[1]), xs, ys)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            point = before.detach() + torch.stack([x, y]).double()
            assert values[row, column].item() == pytest.approx((point @ matrix @ point / 2).item(), abs=1e-6)
    assert torch.equal(parameters[0], before)

    def broken():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        landscape.surface(broken, parameters, (eye[0], eye[1]), xs, ys)
    assert torch.equal(parameters[0], before)


def test_filter_normalised_directions_have_the_filters_lengths():
    convolution, linear = nn.Conv2d(3, 4, 3), nn.Linear(5, 2)
    parameters = [*convolution.parameters(), *linear.parameters()]
    direction = landscape.filter_normalized(parameters, torch.Generator().manual_seed(0))
    for piece, parameter in zip(landscape.unflatten(direction, parameters), parameters, strict=True):
        own = parameter.detach().flatten(1).norm(dim=1) if parameter.dim() > 1 else torch.zeros(len(parameter))
        length = piece.flatten(1).norm(dim=1) if parameter.dim() > 1 else piece
        torch.testing.assert_close(length, own)
    again = landscape.filter_normalized(parameters, torch.Generator().manual_seed(0))
    assert torch.equal(direction, again)


def test_parameters_that_the_loss_uses_linearly_or_not_at_all():
    used, linear, unused = (torch.ones(2, requires_grad=True) for _ in range(3))
    loss = lambda: (used**2).sum() + 3 * linear.sum()  # noqa: E731
    parameters = [used, linear, unused]
    assert landscape.gradient(loss, parameters).tolist() == [2, 2, 3, 3, 0, 0]
    assert landscape.hessian_vector_product(loss, parameters)(torch.ones(6)).tolist() == [2, 2, 0, 0, 0, 0]
    assert landscape.hessian_vector_product(lambda: linear.sum(), [linear])(torch.ones(2)).tolist() == [0, 0]


def test_bad_arguments():
    parameters, loss = quadratic(POINTS["minimum"])
    with pytest.raises(ValueError, match="k must be between 1 and 1, fewer than the parameters, got 2"):
        landscape.eigenpairs(loss, parameters, 2)
    with pytest.raises(ValueError, match="which must be 'largest' or 'smallest', got 'LM'"):
        landscape.eigenpairs(loss, parameters, 1, "LM")
    with pytest.raises(ValueError, match="loss is not finite"):
        landscape.eigenpairs(lambda: parameters[0].sum() / 0, parameters)
    with pytest.raises(ValueError, match="vector must have 2 elements, got 3"):
        landscape.unflatten(torch.zeros(3), parameters)
