r"""The shape of a loss: curvature without the Hessian matrix, saddle points, and pictures of a surface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

Loss = Callable[[], Tensor]
Parameters = Sequence[Tensor]


def flatten(tensors: Parameters) -> Float[Tensor, " n"]:
    r"""All elements in one vector, tensor after tensor.

    >>> flatten([torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)])
    tensor([1., 2., 3.])
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Float[Tensor, " n"], like: Parameters) -> list[Tensor]:
    r"""The inverse of :func:`flatten`: pieces of ``vector`` in the shapes of ``like``.

    Raises:
        ValueError: the numbers of elements differ.

    >>> unflatten(torch.arange(3.0), [torch.zeros(1, 2), torch.zeros(())])
    [tensor([[0., 1.]]), tensor(2.)]
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.numel() != sum(sizes):
        raise ValueError(f"vector must have {sum(sizes)} elements, got {vector.numel()}")
    return [piece.reshape(t.shape) for piece, t in zip(vector.split(sizes), like, strict=True)]


def gradient(loss: Loss, parameters: Parameters) -> Float[Tensor, " n"]:
    r"""The gradient :math:`\nabla L(\theta)` as one vector; a parameter that the loss does not use counts as zero.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> gradient(lambda: (w**2).sum(), [w])
    tensor([2., 4.])
    """
    return flatten(torch.autograd.grad(loss(), list(parameters), allow_unused=True, materialize_grads=True))


def hessian_vector_product(loss: Loss, parameters: Parameters) -> Callable[[Tensor], Float[Tensor, " n"]]:
    r"""The map :math:`v \mapsto Hv` at the current parameters, without ever forming :math:`H`.

    .. math:: H v = \nabla_\theta \bigl( \nabla L(\theta)^\top v \bigr)

    One backward pass builds the gradient as a graph; each product costs one more. It needs memory for a gradient,
    not for the :math:`n^2` numbers of :math:`H`.

    Args:
        loss: a function without arguments that computes the loss from the parameters.
        parameters: the tensors to differentiate by.

    Raises:
        ValueError: a vector of the wrong length is given to the map.

    Source: Pearlmutter, *Fast Exact Multiplication by the Hessian* (1994).

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> product = hessian_vector_product(lambda: w[0] ** 2 * w[1], [w])  # H = [[4, 2], [2, 0]]
    >>> product(torch.tensor([1.0, 0.0]))
    tensor([4., 2.])
    """
    parameters = list(parameters)
    pieces = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True, materialize_grads=True)
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
        tolerance: accuracy of the eigenvalues relative to the width of the spectrum, default 1e-4.

    Returns:
        The eigenvalues, ascending, and one eigenvector a row, in the parameters' dtype and on their device.

    Raises:
        ValueError: ``k`` or ``which`` is out of range, or the loss is not finite.

    The iteration itself is SciPy's (ARPACK), in float64, started from a fixed vector, so that runs repeat. Source:
    Lehoucq, Sorensen and Yang, *ARPACK Users' Guide* (1998).

    >>> w = torch.zeros(3, requires_grad=True)
    >>> values, vectors = eigenpairs(lambda: (torch.tensor([3.0, -1.0, 0.5]) * w**2).sum(), [w], which="smallest")
    >>> round(values.item(), 4), [round(abs(x), 4) for x in vectors[0].tolist()]
    (-2.0, [0.0, 1.0, 0.0])
    """
    size = sum(p.numel() for p in parameters)
    if not 1 <= k < size:
        raise ValueError(f"k must be between 1 and {size - 1}, fewer than the parameters, got {k}")
    if which not in ("largest", "smallest"):
        raise ValueError(f"which must be 'largest' or 'smallest', got {which!r}")
    if not torch.isfinite(loss()):
        raise ValueError("loss is not finite at these parameters, so it has no curvature there")
    product, example = hessian_vector_product(loss, parameters), next(iter(parameters))

    def ends(shift: float, k: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """The top pairs of H - shift (shift = 0), or the bottom ones (shift > 0, seen from the top of the spectrum)."""

        def matvec(vector: np.ndarray) -> np.ndarray:
            flat = vector.reshape(-1)
            return product(torch.from_numpy(flat).to(example)).double().cpu().numpy() - shift * flat

        operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)  # pyright: ignore
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(operator, k=k, which="SA" if shift else "LA", v0=start, tol=tolerance)  # pyright: ignore
        order = np.argsort(values)
        return values[order] + shift, vectors.T[order]

    # ARPACK measures its error against the eigenvalue itself, which near zero would never be small enough.
    top = float(ends(0.0, 1, 1e-2)[0][0]) if which == "smallest" else 0.0
    values, vectors = ends(abs(top), k, tolerance)
    return torch.from_numpy(values).to(example), torch.from_numpy(np.ascontiguousarray(vectors)).to(example)


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
        flat: eigenvalues smaller than ``flat`` times the largest one in size count as zero, default 1e-6.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> classify(lambda: w[0] ** 2 - w[1] ** 2, [w]).kind
    'saddle'
    """
    norm = gradient(loss, parameters).norm().item()
    low, vectors = eigenpairs(loss, parameters, 1, "smallest")
    high, _ = eigenpairs(loss, parameters, 1, "largest")
    smallest, largest = low.item(), high.item()
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


@torch.no_grad()
def move(parameters: Parameters, direction: Float[Tensor, " n"], length: float = 1.0) -> None:
    r"""Add ``length`` times ``direction`` to the parameters, in place.

    >>> w = torch.zeros(2)
    >>> move([w], torch.tensor([1.0, -1.0]), 0.5); w
    tensor([ 0.5000, -0.5000])
    """
    for parameter, piece in zip(parameters, unflatten(direction, parameters), strict=True):
        parameter.add_(piece, alpha=length)


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
        ValueError: ``length`` is not positive, or no eigenvalue is negative (the parameters are unchanged).

    >>> w = torch.zeros(2, requires_grad=True)
    >>> predicted, measured = escape_saddle(lambda: w[0] ** 2 - w[1] ** 2, [w], 0.1)
    >>> round(predicted, 4), round(measured, 4)
    (-0.01, -0.01)
    """
    if not length > 0:
        raise ValueError(f"length must be > 0, got {length}")
    values, vectors = eigenpairs(loss, parameters, 1, "smallest")
    if values.item() >= 0:
        raise ValueError(f"no way down to second order: the smallest eigenvalue is {values.item():.3g}")
    before, after = loss().item(), {}
    for sign in (length, -length):
        move(parameters, vectors[0], sign)
        after[sign] = loss().item()
        move(parameters, vectors[0], -sign)
    best = min(after, key=lambda sign: after[sign])
    move(parameters, vectors[0], best)
    return values.item() * length**2 / 2, after[best] - before


def filter_normalized(parameters: Parameters, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
    r"""A random direction in which every filter is as long as the parameters' own.

    Each row :math:`d_i` of a matrix or convolution is rescaled to :math:`d_i \|\theta_i\| / \|d_i\|`, so that a step
    means the same whatever the scale of the weights; vectors (biases, norms) get zero.

    Source: Li et al., *Visualizing the Loss Landscape of Neural Nets* (2018), section 4.

    >>> w = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    >>> filter_normalized([w], torch.Generator().manual_seed(0)).reshape(2, 2).norm(dim=1)
    tensor([5., 1.])
    """
    pieces: list[Tensor] = []
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype).to(parameter.device)
        if parameter.dim() < 2:
            pieces.append(torch.zeros_like(parameter))
            continue
        rows, own = noise.flatten(1), parameter.detach().flatten(1)
        pieces.append(rows * (own.norm(dim=1, keepdim=True) / rows.norm(dim=1, keepdim=True)))
    return flatten(pieces)


@torch.no_grad()
def surface(
    loss: Loss,
    parameters: Parameters,
    directions: tuple[Float[Tensor, " n"], Float[Tensor, " n"]],
    xs: Float[Tensor, " columns"],
    ys: Float[Tensor, " rows"],
) -> Float[Tensor, "rows columns"]:
    r"""The loss on a plane through the parameters: :math:`L(\theta + x\,d_1 + y\,d_2)` at every grid point.

    The parameters are as before afterwards, bit for bit.

    >>> w = torch.zeros(2)
    >>> right, up = torch.eye(2)
    >>> surface(lambda: w[0] ** 2 - w[1] ** 2, [w], (right, up), torch.arange(2.0), 2 * torch.arange(2.0))
    tensor([[ 0.,  1.],
            [-4., -3.]])
    """
    start = [parameter.detach().clone() for parameter in parameters]
    values = torch.empty(len(ys), len(xs))
    try:
        for row, y in enumerate(ys.tolist()):
            for column, x in enumerate(xs.tolist()):
                for parameter, saved in zip(parameters, start, strict=True):
                    parameter.copy_(saved)
                move(parameters, directions[0], x)
                move(parameters, directions[1], y)
                values[row, column] = loss().item()
    finally:
        for parameter, saved in zip(parameters, start, strict=True):
            parameter.copy_(saved)
    return values
