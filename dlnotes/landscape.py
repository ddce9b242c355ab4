r"""Curvature without the Hessian matrix: products, the ends of the spectrum, critical points, the way off a saddle."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from dlnotes.objective import Loss, Parameters, checked, evaluate, flatten, kept, move, steady_value, unflatten

Apply = Callable[[np.ndarray], np.ndarray]

# What ARPACK draws where a direction is exhausted; before version 1.17 SciPy could not be told.
_SEED = {"rng": 0} if "rng" in inspect.signature(eigsh).parameters else {}


def gradient(loss: Loss, parameters: Parameters) -> Float[Tensor, " n"]:
    r"""The gradient :math:`\nabla L(\theta)` as one vector; a parameter that the loss does not use counts as zero.

    Raises:
        ValueError: as for :func:`dlnotes.objective.evaluate`.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> gradient(lambda: (w**2).sum(), [w])
    tensor([2., 4.])
    """
    parameters = checked(parameters)
    value = evaluate(loss, parameters)
    return flatten(torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True))


def hessian_vector_product(loss: Loss, parameters: Parameters) -> Callable[[Tensor], Float[Tensor, " n"]]:
    r"""The map :math:`v \mapsto Hv` at the current parameters, without ever forming :math:`H`.

    .. math:: H v = \nabla_\theta \bigl( \nabla L(\theta)^\top v \bigr)

    One backward pass builds the gradient as a graph; each product costs one more. It needs memory for a gradient,
    not for the :math:`n^2` numbers of :math:`H`.

    Args:
        loss: a function without arguments that computes the loss from the parameters. It is called once, by
            :func:`dlnotes.objective.evaluate`, which leaves buffers and torch's generators as they were.
        parameters: the tensors to differentiate by, of one dtype on one device.

    Raises:
        ValueError: as for :func:`dlnotes.objective.evaluate`; or a vector of the wrong length is given to the map.

    Source: Pearlmutter, *Fast Exact Multiplication by the Hessian* (1994).

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> product = hessian_vector_product(lambda: w[0] ** 2 * w[1], [w])  # H = [[4, 2], [2, 0]]
    >>> product(torch.tensor([1.0, 0.0]))
    tensor([4., 2.])
    """
    parameters = checked(parameters)
    value = evaluate(loss, parameters)
    pieces = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    curved = [i for i, piece in enumerate(pieces) if piece.requires_grad]  # the loss is linear in the others

    def product(vector: Tensor) -> Tensor:
        directions = unflatten(vector, parameters)
        if not curved:
            return torch.zeros_like(vector)
        outputs, along = [pieces[i] for i in curved], [directions[i] for i in curved]
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return flatten(torch.autograd.grad(outputs, parameters, grad_outputs=along, **options))

    return product


def eigenpairs(
    loss: Loss, parameters: Parameters, k: int = 1, which: str = "largest", tolerance: float = 1e-4
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k n"]]:
    r"""The ``k`` largest or smallest eigenvalues of the Hessian, with unit eigenvectors, by Lanczos iteration.

    Args:
        loss: as for :func:`hessian_vector_product`.
        parameters: likewise.
        k: how many pairs, fewer than there are parameters.
        which: ``"largest"`` (default) or ``"smallest"``, by value and not by size: the smallest are the negative ones.
        tolerance: accuracy of the eigenvalues relative to the one that is largest in size, default 1e-4.

    Returns:
        The eigenvalues, ascending, and one eigenvector a row, in the parameters' dtype and on their device. Of a
        loss without any curvature, zeros and the first axes.

    Raises:
        ValueError: ``k``, ``which`` or ``tolerance`` is out of range; there are fewer than two elements; the loss or
            its curvature is not finite; or the loss is another at each call.
        RuntimeError: the iteration does not reach the tolerance.

    The iteration itself is SciPy's (ARPACK), in float64, started from a fixed vector, so that runs repeat (before SciPy
    1.17 not to the last bit where only a few eigenvalues differ). Source: Lehoucq, Sorensen and Yang, *ARPACK Users'
    Guide* (1998).

    >>> w = torch.zeros(3, requires_grad=True)
    >>> values, vectors = eigenpairs(lambda: (torch.tensor([3.0, -1.0, 0.5]) * w**2).sum(), [w], which="smallest")
    >>> round(values.item(), 4), [round(abs(x), 4) for x in vectors[0].tolist()]
    (-2.0, [0.0, 1.0, 0.0])
    """
    parameters = checked(parameters)
    size = sum(p.numel() for p in parameters)
    if size < 2:
        raise ValueError(f"parameters must have at least two elements in all, got {size}")
    if not 1 <= k < size:
        raise ValueError(f"k must be between 1 and {size - 1}, fewer than the parameters, got {k}")
    if which not in ("largest", "smallest"):
        raise ValueError(f"which must be 'largest' or 'smallest', got {which!r}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be in (0, 1), got {tolerance}")
    if not steady_value(loss, parameters).isfinite():
        raise ValueError("loss is not finite at these parameters, so it has no curvature there")
    product = hessian_vector_product(loss, parameters)

    def apply(vector: np.ndarray) -> np.ndarray:
        result = product(torch.from_numpy(vector.reshape(-1)).to(parameters[0])).double().cpu().numpy()
        if not np.isfinite(result).all():
            raise ValueError("the curvature is not finite at these parameters, although the loss is")
        return result

    draw = np.random.default_rng(0)
    vector = draw.standard_normal(size)
    radius = float(np.linalg.norm(vector))
    for _ in range(20):  # power iteration: the length becomes the size of the eigenvalue that is largest in size
        vector = apply(vector / radius)
        radius = float(np.linalg.norm(vector))
        if radius == 0:
            return parameters[0].new_zeros(k), torch.eye(k, size).to(parameters[0])

    unit = radius if which == "largest" else -radius
    values, vectors = _largest(lambda vector: apply(vector) / unit, draw.standard_normal((k, size)), tolerance)
    order = np.argsort(unit * values)
    return torch.from_numpy(unit * values[order]).to(parameters[0]), torch.from_numpy(vectors[order]).to(parameters[0])


def _largest(apply: Apply, starts: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """One of the largest eigenpairs for each start, of a matrix whose eigenvalues lie in [-1, 1], more or less.

    ARPACK measures its error against the eigenvalue itself, which near zero would never be small enough: so all are
    moved to [1, 3]. One pair after the other, each in what the others leave: of an eigenvalue that has several
    directions, one start can see but one.
    """
    values, vectors = np.empty(len(starts)), np.empty((0, starts.shape[1]))

    def moved(vector: np.ndarray) -> np.ndarray:
        rest = vector.reshape(-1) - vector.reshape(-1) @ vectors.T @ vectors
        result = apply(rest) + 2 * rest
        return result - result @ vectors.T @ vectors

    for i, start in enumerate(starts):
        operator = LinearOperator((len(start), len(start)), moved, dtype=np.float64)  # pyright: ignore
        try:
            value, found = eigsh(operator, 1, which="LA", v0=start, tol=tolerance / 3, maxiter=1000, **_SEED)  # pyright: ignore
        except ArpackNoConvergence as error:
            raise RuntimeError(f"no eigenvalue came within the tolerance {tolerance}: take a larger one") from error
        values[i], vectors = value.item() - 2, np.vstack([vectors, found.T])
    return values, vectors


@dataclass(frozen=True)
class CriticalPoint:
    r"""What a point is, by its gradient and the ends of its spectrum.

    Attributes:
        kind: ``"minimum"``, ``"maximum"``, ``"saddle"``, ``"degenerate"`` (an end of the spectrum is zero, so that
            second order does not decide) or ``"not critical"``.
        gradient_norm: :math:`\|\nabla L\|`.
        smallest, largest: the ends of the Hessian's spectrum.
        escape: the unit eigenvector of ``smallest``.

    >>> CriticalPoint("saddle", 0.0, -1.0, 2.0, torch.tensor([1.0, 0.0])).kind
    'saddle'
    """

    kind: str
    gradient_norm: float
    smallest: float
    largest: float
    escape: Tensor


def classify(loss: Loss, parameters: Parameters, gradient_tolerance: float = 1e-4, flat: float = 1e-6) -> CriticalPoint:
    r"""Say what kind of critical point the parameters are at, from the two ends of the Hessian's spectrum.

    All eigenvalues positive: every direction goes up, a minimum. All negative: a maximum. Both signs: a saddle.

    Args:
        loss: as for :func:`hessian_vector_product`.
        parameters: likewise; at least two elements in all.
        gradient_tolerance: the largest gradient norm that counts as zero, default 1e-4.
        flat: eigenvalues up to ``flat`` times the largest one in size count as zero, default 1e-6. They are computed
            to that accuracy.

    Raises:
        ValueError: ``gradient_tolerance`` or ``flat`` is out of range, the gradient is not finite, or as for
            :func:`eigenpairs`.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> classify(lambda: w[0] ** 2 - w[1] ** 2, [w]).kind
    'saddle'
    """
    if not 0 <= gradient_tolerance < math.inf:
        raise ValueError(f"gradient_tolerance must be a number >= 0, got {gradient_tolerance}")
    if not 0 < flat < 1:
        raise ValueError(f"flat must be in (0, 1), got {flat}")
    parameters = checked(parameters)
    low, vectors = eigenpairs(loss, parameters, 1, "smallest", flat / 2)
    high, _ = eigenpairs(loss, parameters, 1, "largest", flat / 2)
    norm, smallest, largest = gradient(loss, parameters).norm().item(), low.item(), high.item()
    if not math.isfinite(norm):
        raise ValueError("the gradient is not finite at these parameters, although the loss is")
    zero = flat * max(abs(smallest), abs(largest))
    if norm > gradient_tolerance:
        kind = "not critical"
    elif smallest < -zero and largest > zero:
        kind = "saddle"
    elif smallest > zero:
        kind = "minimum"
    elif largest < -zero:
        kind = "maximum"
    else:
        kind = "degenerate"
    return CriticalPoint(kind, norm, smallest, largest, vectors[0])


def escape_saddle(loss: Loss, parameters: Parameters, length: float) -> tuple[float, float]:
    r"""Leave a saddle: step along the eigenvector of the most negative eigenvalue, on its downhill side.

    For a unit eigenvector :math:`u` with eigenvalue :math:`\lambda < 0` at a critical point,

    .. math:: L(\theta + s u) = L(\theta) + \tfrac12 \lambda s^2 + O(s^3)

    Both signs of :math:`s` go down to second order; the better of the two is kept.

    Args:
        loss: as for :func:`hessian_vector_product`.
        parameters: likewise.
        length: :math:`s > 0`.

    Returns:
        The predicted change :math:`\lambda s^2 / 2` and the measured one.

    Raises:
        ValueError: ``length`` is not positive, no eigenvalue is negative (beyond what :func:`classify` counts as
            zero), the loss is not finite on either side, or as for :func:`eigenpairs`.

    Whatever fails or is interrupted, inside ``loss`` too, leaves the parameters as they were.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> predicted, measured = escape_saddle(lambda: w[0] ** 2 - w[1] ** 2, [w], 0.1)
    >>> round(predicted, 4), round(measured, 4)
    (-0.01, -0.01)
    """
    if not length > 0:
        raise ValueError(f"length must be > 0, got {length}")
    parameters = checked(parameters)
    point = classify(loss, parameters)
    if point.smallest >= -1e-6 * max(abs(point.smallest), abs(point.largest)):
        raise ValueError(f"no way down to second order: the smallest eigenvalue is {point.smallest:.3g}")
    before, after = evaluate(loss, parameters).item(), {}
    for step in (length, -length):
        with kept(parameters):
            move(parameters, point.escape, step)
            after[step] = evaluate(loss, parameters).item()
    best = min(after, key=lambda step: (math.isnan(after[step]), after[step]))
    if not math.isfinite(after[best]):
        raise ValueError(f"loss is not finite on either side, at a distance of {length}")
    move(parameters, point.escape, best)
    return point.smallest * length**2 / 2, after[best] - before
