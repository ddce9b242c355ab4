r"""Pictures of a loss: directions that compare across layers, and its values on a plane through the parameters."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlnotes.objective import Loss, Parameters, checked, evaluate, flatten, kept, move, steady_value


def filter_normalized(parameters: Parameters, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
    r"""A random direction in which every filter is as long as the parameters' own.

    Each row :math:`d_i` of a matrix or convolution is rescaled to :math:`d_i \|\theta_i\| / \|d_i\|`, so that a step
    means the same whatever the scale of the weights; vectors (biases, norms) get zero.

    Args:
        parameters: the tensors, in any shapes.
        generator: draws the direction, on the CPU; default torch's global one.

    Source: Li et al., *Visualizing the Loss Landscape of Neural Nets* (2018), section 4.

    >>> w = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    >>> filter_normalized([w], torch.Generator().manual_seed(0)).reshape(2, 2).norm(dim=1)
    tensor([5., 1.])
    """
    pieces: list[Tensor] = []
    for parameter in checked(parameters):
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

    Parameters, buffers and torch's generators are as before afterwards, bit for bit; every point sees the same
    dropout masks. Where the loss is infinite or NaN, so is the surface.

    Args:
        loss: a function without arguments that computes the loss from the parameters.
        parameters: the tensors to move.
        directions: :math:`d_1` and :math:`d_2`, such as two of :func:`filter_normalized`.
        xs: the steps along :math:`d_1`.
        ys: the steps along :math:`d_2`.

    Returns:
        One row for each of ``ys``, in the loss's dtype, on the CPU.

    Raises:
        ValueError: a direction has another number of elements, or the loss is another at each call.

    >>> w = torch.zeros(2)
    >>> right, up = torch.eye(2)
    >>> surface(lambda: w[0] ** 2 - w[1] ** 2, [w], (right, up), torch.arange(2.0), 2 * torch.arange(2.0))
    tensor([[ 0.,  1.],
            [-4., -3.]])
    """
    parameters = checked(parameters)
    values = torch.empty(len(ys), len(xs), dtype=steady_value(loss, parameters).dtype)
    for row, y in enumerate(ys.tolist()):
        for column, x in enumerate(xs.tolist()):
            with kept(parameters):
                move(parameters, directions[0], x)
                move(parameters, directions[1], y)
                values[row, column] = evaluate(loss, parameters)
    return values
