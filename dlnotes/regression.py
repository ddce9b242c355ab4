r"""Losses of residuals :math:`r = \hat y - y`: how much a number that is off costs.

Half the square grows with the residual and its slope too, so that one outlier outweighs many; the absolute value has
slope ±1 everywhere and none at 0. Smooth L1 and Huber are the square near 0 and straight beyond.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_not_negative, check_number
from dlnotes.reduction import alike, check_reduction, reduce


def l1_loss(
    input: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], reduction: str = "mean"
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""The absolute residual, :math:`\ell = |r|`; the best constant is the median.

    Args:
        input: predictions, any shape.
        target: what is true, the same shape.
        reduction: ``"mean"`` over all elements (default), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: shapes differ, or ``reduction`` is none of the three.
        TypeError: numbers that are not floating.

    Equal to :func:`torch.nn.functional.l1_loss`, the gradient 0 at :math:`r = 0` too. Differs: another shape is
    refused where torch broadcasts, and the mean of nothing is 0. Source: Laplace's first law of errors (1774).

    >>> l1_loss(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]), "none")
    tensor([1., 3.])
    """
    return _by_kernel(F.l1_loss, input, target, reduction)


def smooth_l1_loss(
    input: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], reduction: str = "mean", beta: float = 1.0
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""A parabola up to :math:`\beta`, straight with slope ±1 beyond.

    .. math:: \ell = \begin{cases} r^2 / (2\beta) & |r| < \beta \\ |r| - \beta/2 & \text{otherwise}\end{cases}

    With :math:`\beta \to 0` it becomes :func:`l1_loss`, and for :math:`\beta = 0` is it.

    Args:
        input: predictions, any shape.
        target: what is true, the same shape.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        beta: :math:`\beta \ge 0` in the residual's unit, default 1.

    Raises:
        ValueError, TypeError: as for :func:`l1_loss`; or ``beta`` is negative, infinite or no number.

    Equal to :func:`torch.nn.functional.smooth_l1_loss`, but for what :func:`l1_loss` says. Source: Girshick, *Fast
    R-CNN* (2015), with :math:`\beta = 1`.

    >>> smooth_l1_loss(torch.tensor([0.5, 3.0]), torch.zeros(2), "none")
    tensor([0.1250, 2.5000])
    """
    check_not_negative(beta=beta)
    return _by_kernel(F.smooth_l1_loss, input, target, reduction, beta=float(beta))


def huber_loss(
    input: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], reduction: str = "mean", delta: float = 1.0
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""Half the square up to :math:`\delta`, straight with slope :math:`\pm\delta` beyond.

    .. math:: \ell = \begin{cases} r^2/2 & |r| < \delta \\ \delta\,(|r| - \delta/2) & \text{otherwise}\end{cases}

    It is :math:`\delta` times :func:`smooth_l1_loss` with :math:`\beta = \delta`. With :math:`\delta \to \infty` it
    becomes half the square.

    Args:
        input: predictions, any shape.
        target: what is true, the same shape.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        delta: :math:`\delta > 0` in the residual's unit, default 1.

    Raises:
        ValueError, TypeError: as for :func:`l1_loss`; or ``delta`` is not above 0, infinite or no number.

    Equal to :func:`torch.nn.functional.huber_loss`, but for what :func:`l1_loss` says. Source: Huber, *Robust
    Estimation of a Location Parameter* (1964).

    >>> huber_loss(torch.tensor([0.5, 3.0]), torch.zeros(2), "none", delta=2.0)
    tensor([0.1250, 4.0000])
    """
    check_not_negative(delta=delta)
    if delta == 0:
        raise ValueError(f"delta must be > 0, got {delta}")
    return _by_kernel(F.huber_loss, input, target, reduction, delta=float(delta))


def normalized_regression_loss(
    input: Float[Tensor, "*batch 4"], target: Float[Tensor, "*batch 4"], reduction: str = "mean", beta: float = 0.0,
    min_size: float = 1e-6,
) -> Float[Tensor, "*batch 4"] | Float[Tensor, ""]:  # fmt: skip
    r"""Smooth L1 of the corners' residuals, measured in the target box's own width and height.

    .. math:: r = \left(\frac{\hat x_1 - x_1}{w}, \frac{\hat y_1 - y_1}{h}, \frac{\hat x_2 - x_2}{w},
        \frac{\hat y_2 - y_2}{h}\right), \qquad w = x_2 - x_1, \quad h = y_2 - y_1

    Both boxes enlarged alike have the same loss: an error of 3 pixels costs a box of 10 as much as one of 30 pixels
    costs a box of 100, where L1 lets the large boxes lead. No published loss has the name “LossNormReg” of the notes;
    this is how the course reads it.

    Args:
        input: predicted boxes (…, 4) as corners (x1, y1, x2, y2).
        target: true boxes, the same shape and format; constants as a rule.
        reduction: ``"mean"`` over all coordinates (default), ``"sum"`` or ``"none"``.
        beta: where smooth L1 becomes straight, in box sizes; default 0, which is L1.
        min_size: sides below it count as this long, so that flat targets have finite losses; in the boxes' unit,
            default 1e-6. With pixels, 1 keeps a flat target from outweighing all others.

    Raises:
        ValueError: shapes differ or do not end in 4, ``beta`` is negative, or ``min_size`` not above 0.
        TypeError: numbers that are not floating.

    >>> small, large = torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([0.0, 0.0, 100.0, 200.0])
    >>> normalized_regression_loss(1.5 * small, small, "none")
    tensor([0.0000, 0.0000, 0.5000, 0.5000])
    >>> normalized_regression_loss(1.5 * large, large, "none")
    tensor([0.0000, 0.0000, 0.5000, 0.5000])
    """
    predicted, true = alike(input, target)
    check_not_negative(beta=beta)
    check_number("min_size", min_size)
    if not min_size > 0:
        raise ValueError(f"min_size must be > 0, got {min_size}")
    if true.shape[-1:] != (4,):
        raise ValueError(f"target must be boxes (…, 4), got shape {tuple(target.shape)}")
    sizes = (true[..., 2:] - true[..., :2]).clamp(min=min_size)  # (…, 2), width and height
    residuals = (predicted - true) / torch.cat([sizes, sizes], dim=-1)
    return smooth_l1_loss(residuals, torch.zeros_like(residuals), reduction, beta)


def _by_kernel(kernel: Any, input: Tensor, target: Tensor, reduction: str, **options: float) -> Tensor:
    r"""Torch's kernel after the checks; what is empty has no mean there."""
    predicted, true = alike(input, target)
    check_reduction(reduction)
    if not predicted.numel():
        return reduce(predicted - true, reduction)
    return kernel(predicted, true, reduction=reduction, **options)
