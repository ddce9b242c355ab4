r"""Loss functions, written as the chapters derive them."""

import torch
from jaxtyping import Float
from torch import Tensor

REDUCTIONS = {"none": lambda losses: losses, "mean": Tensor.mean, "sum": Tensor.sum}


def binary_cross_entropy_with_logits(
    input: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], reduction: str = "mean"
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""Binary cross-entropy of logits: the negative log-likelihood of a coin whose log-odds are ``input``.

    .. math:: \ell(z, y) = -y\log\sigma(z) - (1-y)\log\sigma(-z) = y\log(1 + e^{-z}) + (1-y)\log(1 + e^{z})

    The right-hand form needs no :math:`\sigma` and so never takes the logarithm of a rounded 0; ``logaddexp``
    evaluates :math:`\log(e^0 + e^z)` without overflow, and a loss close to 0 is not lost in a difference of large
    numbers. Its gradient is :math:`\sigma(z) - y`.

    Args:
        input: logits :math:`z`, any shape.
        target: labels or probabilities :math:`y` in [0, 1], the same shape and dtype as ``input``.
        reduction: ``"mean"`` over all elements (default), ``"sum"``, or ``"none"``.

    Raises:
        ValueError: shapes differ, or ``reduction`` is none of the three.

    Equal to :func:`torch.nn.functional.binary_cross_entropy_with_logits` without its ``weight`` and
    ``pos_weight``. Differs: where label 0 is predicted with certainty, torch's float32 loss is rounded
    to 0 and this one is not. Source: Bishop, *Pattern Recognition and Machine Learning* (2006), section
    4.3.2.

    >>> z, y = torch.tensor([0.0, 200.0]), torch.tensor([1.0, 0.0])
    >>> binary_cross_entropy_with_logits(z, y, reduction="none")
    tensor([  0.6931, 200.0000])
    """
    if input.shape != target.shape:
        raise ValueError(f"target must have input's shape {tuple(input.shape)}, got {tuple(target.shape)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {list(REDUCTIONS)}, got {reduction!r}")
    zero = torch.zeros_like(input)
    losses = target * torch.logaddexp(zero, -input) + (1 - target) * torch.logaddexp(zero, input)
    return REDUCTIONS[reduction](losses)
