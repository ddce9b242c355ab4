import copy
import math
import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from dlnotes import landscape

FUZZ = int(os.environ.get("DLNOTES_FUZZ", "1"))  # times as many random cases

POINTS = {
    "minimum": torch.tensor([[3.0, 1.0], [1.0, 2.0]]),
    "maximum": torch.tensor([[-3.0, 1.0], [1.0, -2.0]]),
    "saddle": torch.tensor([[1.0, 2.0], [2.0, 1.0]]),
    "degenerate": torch.tensor([[1.0, 1.0], [1.0, 1.0]]),
}


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

    return hessian(loss, landscape.flatten([p.detach() for p in model.parameters()]))


def quadratic_form(matrix, *parts):
    def loss():
        w = torch.cat([part.reshape(-1) for part in parts])
        return w @ matrix @ w / 2

    return loss


def quadratic(matrix):
    w = torch.zeros(len(matrix), dtype=matrix.dtype, requires_grad=True)
    return [w], lambda: w @ matrix @ w / 2


def test_products_equal_torchs_hessian():
    model, loss, data = network()
    dense, parameters = dense_hessian(model, *data), list(model.parameters())
    product = landscape.hessian_vector_product(loss, parameters)
    columns = torch.stack([product(unit) for unit in torch.eye(len(dense), dtype=torch.float64)])
    torch.testing.assert_close(columns, dense, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(columns, columns.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("k", [1, 3])
def test_eigenpairs_equal_the_dense_ones(which, k):
    model, loss, data = network()
    dense = dense_hessian(model, *data)
    all_values = torch.linalg.eigvalsh(dense)
    values, vectors = landscape.eigenpairs(loss, list(model.parameters()), k, which, tolerance=1e-12)
    torch.testing.assert_close(values, all_values[-k:] if which == "largest" else all_values[:k], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(vectors @ dense, values[:, None] * vectors, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(k, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_eigenpairs_repeat_to_the_bit():
    model, loss, _ = network()
    first, second = (landscape.eigenpairs(loss, list(model.parameters()), 2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_hundred_thousand_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 1024), nn.Tanh(), nn.Linear(1024, 32), nn.Tanh(), nn.Linear(32, 10))
    x, y = torch.randn(256, 64), torch.randint(0, 10, (256,))
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) > 99_000
    point = landscape.classify(lambda: F.cross_entropy(model(x), y), parameters)
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


def test_parameters_that_the_loss_uses_linearly_or_not_at_all():
    used, linear, unused = (torch.ones(2, requires_grad=True) for _ in range(3))
    loss = lambda: (used**2).sum() + 3 * linear.sum()  # noqa: E731
    parameters = [used, linear, unused]
    assert landscape.gradient(loss, parameters).tolist() == [2, 2, 3, 3, 0, 0]
    assert landscape.hessian_vector_product(loss, parameters)(torch.ones(6)).tolist() == [2, 2, 0, 0, 0, 0]
    assert landscape.hessian_vector_product(lambda: linear.sum(), [linear])(torch.ones(2)).tolist() == [0, 0]


SPECTRA = {
    "any": lambda draw, n: draw.standard_normal(n),
    "positive semi-definite": lambda draw, n: np.abs(draw.standard_normal(n)) * (draw.random(n) < 0.5),
    "negative semi-definite": lambda draw, n: -np.abs(draw.standard_normal(n)) * (draw.random(n) < 0.5),
    "one direction": lambda draw, n: draw.choice([-1.0, 1.0]) * np.eye(n)[0],
    "all alike": lambda draw, n: draw.choice([-1.0, 1.0]) * np.ones(n),
    "few values": lambda draw, n: draw.choice([-2.0, 0.0, 1.0], n),
    "many sizes": lambda draw, n: draw.standard_normal(n) * 10.0 ** draw.uniform(-6, 0, n),
}


def kind_of(values):
    """By the definition, or None if an end is too near to the bound to say."""
    zero = 1e-6 * np.abs(values).max()
    low, high = (0 if abs(end) < zero / 3 else np.sign(end) if abs(end) > 3 * zero else None for end in values[[0, -1]])
    if None in (low, high):
        return None
    return {(1, 1): "minimum", (-1, -1): "maximum", (-1, 1): "saddle"}.get((low, high), "degenerate")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_random_matrices_have_numpys_eigenvalues(spectrum, dtype):
    draw, judged = np.random.default_rng(5), 0
    for _ in range(15 * FUZZ):
        n = int(draw.choice([2, 3, 5, 12, 25]))
        basis = np.linalg.qr(draw.standard_normal((n, n)))[0]
        scale = 10.0 ** draw.uniform(-8, 8)
        matrix = torch.tensor((basis * SPECTRA[spectrum](draw, n) * scale) @ basis.T, dtype=dtype)
        matrix = (matrix + matrix.T) / 2
        first = torch.zeros(n // 2, dtype=dtype, requires_grad=True)
        second = torch.zeros(n - n // 2, 1, dtype=dtype, requires_grad=True)
        loss = quadratic_form(matrix, first, second)
        truth = np.linalg.eigvalsh(matrix.double().numpy())
        size, k = np.abs(truth).max(), int(draw.integers(1, min(n, 4)))
        for which, wanted in (("smallest", truth[:k]), ("largest", truth[-k:])):
            values, vectors = landscape.eigenpairs(loss, [first, second], k, which)
            assert np.abs(values.double().numpy() - wanted).max() <= 1e-6 * size
            torch.testing.assert_close(vectors @ vectors.T, torch.eye(k, dtype=dtype), rtol=0, atol=1e-5)
            left = (vectors @ matrix - values[:, None] * vectors).norm(dim=1)
            assert left.max() <= 0.05 * size
        if kind_of(truth):
            judged += 1
            assert landscape.classify(loss, [first, second]).kind == kind_of(truth)
    assert judged > 10


def test_a_top_of_exactly_zero_hides_no_way_down():
    w = torch.zeros(2, requires_grad=True)
    loss = lambda: w[1] ** 4 - w[0] ** 2  # noqa: E731
    values, vectors = landscape.eigenpairs(loss, [w], which="smallest")
    assert values.item() == pytest.approx(-2)
    assert vectors.abs().tolist() == [pytest.approx([1, 0], abs=1e-6)]
    assert landscape.eigenpairs(loss, [w])[0].item() == pytest.approx(0, abs=1e-6)
    assert landscape.classify(loss, [w]).kind == "degenerate"
    predicted, measured = landscape.escape_saddle(loss, [w], 0.1)
    assert (predicted, measured) == (pytest.approx(-0.01), pytest.approx(-0.01))


def test_losses_without_curvature():
    w = torch.ones(3, requires_grad=True)
    for loss, kind in (
        (lambda: 0 * w.sum(), "degenerate"),
        (lambda: ((w - 1) ** 4).sum(), "degenerate"),
        (lambda: w.sum(), "not critical"),
        (lambda: torch.relu(w - 2).sum(), "degenerate"),
    ):
        point = landscape.classify(loss, [w])
        assert (point.kind, point.smallest, point.largest) == (kind, 0, 0)
        values, vectors = landscape.eigenpairs(loss, [w], 2)
        assert values.tolist() == [0, 0]
        assert vectors.tolist() == [[1, 0, 0], [0, 1, 0]]
        with pytest.raises(ValueError, match="no way down to second order: the smallest eigenvalue is 0"):
            landscape.escape_saddle(loss, [w], 0.1)


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_curvature_that_is_not_finite(power, capfd):
    w = torch.zeros(2, requires_grad=True)
    loss = lambda: (w.abs() ** power).sum()  # noqa: E731
    for refused in (landscape.eigenpairs, landscape.classify):
        with pytest.raises(ValueError, match="the curvature is not finite at these parameters, although the loss is"):
            refused(loss, [w])
    assert capfd.readouterr() == ("", "")  # LAPACK complains there


def test_a_gradient_that_is_not_finite():
    w = torch.zeros(2, requires_grad=True)

    def loss():
        inner, passed = w * 1, []

        def spoil(slope):  # the first derivative, not the second
            passed.append(slope)
            return slope + math.nan if len(passed) == 1 else slope

        if inner.requires_grad:
            inner.register_hook(spoil)
        return (inner**2).sum()

    assert landscape.eigenpairs(loss, [w])[0].item() == pytest.approx(2)
    with pytest.raises(ValueError, match="the gradient is not finite at these parameters, although the loss is"):
        landscape.classify(loss, [w])


def test_a_tolerance_out_of_reach(monkeypatch):
    def never(*_, **__):
        raise landscape.ArpackNoConvergence("no convergence", [], [])

    monkeypatch.setattr(landscape, "eigsh", never)
    parameters, loss = quadratic(POINTS["saddle"])
    with pytest.raises(RuntimeError, match="no eigenvalue came within the tolerance 1e-09: take a larger one"):
        landscape.eigenpairs(loss, parameters, tolerance=1e-9)


def dropped(seed=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randint(0, 2, (12,))
    return model, lambda: F.cross_entropy(model(x), y)


def test_buffers_and_generators_are_untouched_and_one_mask_serves_all():
    model, loss = dropped()
    parameters = list(model.parameters())
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    point = landscape.classify(loss, parameters)
    product = landscape.hessian_vector_product(loss, parameters)
    slope = landscape.gradient(loss, parameters)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training

    axes = torch.eye(len(slope), dtype=torch.float64)
    matrix = torch.stack([product(axis) for axis in axes])
    torch.testing.assert_close(matrix, matrix.T)  # of one loss: products of several masks are not symmetric
    ends = torch.linalg.eigvalsh(matrix)[[0, -1]]
    assert (point.smallest, point.largest) == (pytest.approx(ends[0].item()), pytest.approx(ends[1].item()))
    assert point.gradient_norm == slope.norm().item()

    predicted, measured = landscape.escape_saddle(loss, parameters, 1e-3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    along = slope @ point.escape * 1e-3  # no critical point: the slope counts too
    assert measured == pytest.approx(predicted - along.abs().item(), rel=1e-2)


@pytest.mark.parametrize("call", range(6, 11))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_escape_that_fails_leaves_the_parameters(call, error):
    w, calls = torch.full((3,), 1e-9, dtype=torch.float64, requires_grad=True), []

    def loss(fails=True):
        calls.append(None)
        if fails and len(calls) == call:
            raise error("stopped here")
        return w[0] ** 2 - w[1] ** 2 + w[2] ** 3

    with pytest.raises(error, match="stopped here"):
        landscape.escape_saddle(loss, [w], 0.1)
    assert w.tolist() == [1e-9] * 3
    calls.clear()
    landscape.escape_saddle(lambda: loss(False), [w], 0.1)
    assert len(calls) == 10  # the last two between the moves


def test_an_escape_into_nan_takes_the_other_side_or_none():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    fenced = lambda: w[0] ** 2 - w[1] ** 2 + 0 * (0.05 - w[1]).sqrt()  # noqa: E731
    assert landscape.escape_saddle(fenced, [w], 0.1)[1] == pytest.approx(-0.01)
    assert w[1].item() == pytest.approx(-0.1)
    with torch.no_grad():
        w.zero_()
    both = lambda: w[0] ** 2 - w[1] ** 2 + 0 * (0.05 - w[1]).sqrt() + 0 * (0.05 + w[1]).sqrt()  # noqa: E731
    with pytest.raises(ValueError, match="loss is not finite on either side, at a distance of 0.1"):
        landscape.escape_saddle(both, [w], 0.1)
    assert w.tolist() == [0, 0]


def test_bad_arguments():
    parameters, loss = quadratic(POINTS["minimum"])
    with pytest.raises(ValueError, match="k must be between 1 and 1, fewer than the parameters, got 2"):
        landscape.eigenpairs(loss, parameters, 2)
    with pytest.raises(ValueError, match="parameters must have at least two elements in all, got 1"):
        landscape.eigenpairs(loss, [torch.ones(1)])
    with pytest.raises(ValueError, match="which must be 'largest' or 'smallest', got 'LM'"):
        landscape.eigenpairs(loss, parameters, 1, "LM")
    with pytest.raises(ValueError, match="loss is not finite"):
        landscape.eigenpairs(lambda: parameters[0].sum() / 0, parameters)
    for tolerance in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"tolerance must be in \(0, 1\), got {tolerance}"):
            landscape.eigenpairs(loss, parameters, tolerance=tolerance)
        with pytest.raises(ValueError, match=rf"flat must be in \(0, 1\), got {tolerance}"):
            landscape.classify(loss, parameters, flat=tolerance)
    for bound in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"gradient_tolerance must be a number >= 0, got {bound}"):
            landscape.classify(loss, parameters, gradient_tolerance=bound)
    for length in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"length must be > 0, got {length}"):
            landscape.escape_saddle(loss, parameters, length)
