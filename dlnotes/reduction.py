r"""What all losses share: they are computed in float32 or better, and are summed, averaged or left as they are."""

from jaxtyping import Float
from torch import Tensor

from dlnotes.arguments import check_choice
from dlnotes.moments import wide

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    r"""Raise ``ValueError`` for what is none of the three reductions.

    >>> check_reduction("max")
    Traceback (most recent call last):
    ...
    ValueError: reduction must be one of ['none', 'mean', 'sum'], got 'max'
    """
    check_choice("reduction", reduction, REDUCTIONS)


def reduce(losses: Float[Tensor, "*batch"], reduction: str) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""The losses themselves (``"none"``), their ``"mean"`` or their ``"sum"``.

    The mean of nothing is 0, with a gradient of 0, so that an image without objects gives every parameter a gradient.
    Differs: torch's mean of nothing is NaN.

    >>> import torch
    >>> reduce(torch.tensor([1.0, 3.0]), "mean"), reduce(torch.zeros(0), "mean")
    (tensor(2.), tensor(0.))
    """
    check_reduction(reduction)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or not losses.numel() else losses.mean()


def alike(input: Float[Tensor, "*input"], target: Float[Tensor, "*target"]) -> tuple[Tensor, Tensor]:
    r"""Predictions and targets, checked to be floating and of one shape, in float32 where they have 16 bits.

    Differs: torch broadcasts targets of another shape and warns at best; (N, 1) against (N,) makes (N, N) losses.

    >>> import torch
    >>> alike(torch.zeros(2, dtype=torch.float16), torch.ones(2))
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    for name, values in (("input", input), ("target", target)):
        check_floating(name, values)
    if input.shape != target.shape:
        raise ValueError(f"target must have input's shape {tuple(input.shape)}, got {tuple(target.shape)}")
    return wide(input), wide(target)


def check_floating(name: str, values: Tensor) -> None:
    r"""Raise ``TypeError`` for numbers that are not floating.

    >>> import torch
    >>> check_floating("input", torch.tensor([1, 2]))
    Traceback (most recent call last):
    ...
    TypeError: input must be of floating point, got torch.int64
    """
    if not values.is_floating_point():
        raise TypeError(f"{name} must be of floating point, got {values.dtype}")
