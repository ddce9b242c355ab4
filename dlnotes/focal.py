r"""Focal losses: cross-entropies in which what is already right counts for little.

.. math:: \operatorname{FL}(p_t) = -\alpha_t\,(1 - p_t)^\gamma \log p_t

:math:`p_t` is the probability of what is true. With :math:`\gamma = 0` it is cross-entropy; with :math:`\gamma = 2` a
sample that is right with 0.9 counts a hundredth of it.
"""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_not_negative, check_number
from dlnotes.losses import binary_cross_entropy_with_logits, check_classes, total_weight
from dlnotes.moments import wide
from dlnotes.reduction import alike, check_floating, check_reduction, reduce


def sigmoid_focal_loss(
    inputs: Float[Tensor, "*batch"], targets: Float[Tensor, "*batch"], alpha: float = 0.25, gamma: float = 2,
    reduction: str = "none",
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:  # fmt: skip
    r"""Focal loss of logits, each a yes-or-no question of its own.

    .. math:: \ell(z, y) = \alpha_t\, m^\gamma \operatorname{BCE}(z, y), \qquad m = p(1-y) + (1-p)\,y, \qquad
        \alpha_t = \alpha\, y + (1-\alpha)(1-y)

    with :math:`p = \sigma(z)` and the miss :math:`m = 1 - p_t`. For labels 0 and 1 and the signed logit
    :math:`u = (1 - 2y)\,z`, which says by how much the answer is wrong, it is shorter, and so is its gradient:

    .. math:: \ell = \alpha_t\, m^\gamma \log(1 + e^u), \qquad m = \sigma(u), \qquad
        \frac{\partial \ell}{\partial u} = \alpha_t\, m^\gamma \left[\,m + \gamma\,(1-m) \log(1 + e^u)\right]

    There is no :math:`m^{\gamma-1}` in it, which is infinite for a certain prediction where :math:`\gamma < 1`.

    Args:
        inputs: logits :math:`z`, any shape.
        targets: labels or probabilities :math:`y` in [0, 1], the same shape; constants, without a gradient.
        alpha: the weight of positives in [0, 1], negatives have :math:`1-\alpha`; negative: no weights. Default 0.25.
        gamma: :math:`\gamma \ge 0`, default 2.
        reduction: ``"none"`` (default, as torchvision's), ``"mean"`` over all elements, or ``"sum"``. Detectors divide
            the sum by the number of objects.

    Raises:
        ValueError: shapes differ, targets require a gradient, or an argument is out of range.
        TypeError: numbers that are not floating.

    Equal to ``torchvision.ops.sigmoid_focal_loss``, in gradients of gradients too. Differs: no gradient is NaN where
    :math:`\gamma < 1`, the loss of a certain and right answer is not rounded to 0, and targets that require a
    gradient are refused. Source: Lin et al., *Focal Loss for Dense Object Detection* (2017).

    >>> z, y = torch.tensor([0.0, 1.0, -3.0]), torch.tensor([1.0, 1.0, 1.0])
    >>> sigmoid_focal_loss(z, y, alpha=-1)  # cross-entropy is 0.6931, 0.3133, 3.0486
    tensor([0.1733, 0.0227, 2.7663])
    """
    z, y = alike(inputs, targets)
    check_not_negative(gamma=gamma)
    check_number("alpha", alpha)
    if not alpha <= 1:  # also for NaN
        raise ValueError(f"alpha must be in [0, 1], or negative for no weights, got {alpha}")
    check_reduction(reduction)
    if targets.requires_grad:
        raise ValueError("targets must not require a gradient: detach() them")
    if not y.numel() or not any(torch.addcmul(y, y, y, value=-1).aminmax()):  # y − y² is 0 for labels alone
        return reduce(_Labels.apply(z, y, alpha, gamma), reduction)  # pyright: ignore[reportArgumentType]
    miss = torch.lerp(z.sigmoid(), (-z).sigmoid(), y).clamp(min=torch.finfo(z.dtype).tiny)  # its slope at 0 is infinite
    bce = binary_cross_entropy_with_logits(z, y, "none")
    return reduce(_weights(y, alpha) * miss**gamma * bce, reduction)


class _Labels(torch.autograd.Function):
    r"""The losses for labels 0 and 1; the gradient is known where the loss is, and keeps one tensor for backward."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:  # pyright: ignore
        ctx.alpha, ctx.gamma = alpha, gamma
        losses, slopes = _by_sign(z, y, alpha, gamma)
        ctx.save_for_backward(z, y, slopes)
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        z, y, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            slopes = _by_sign(z, y, ctx.alpha, ctx.gamma)[1]
        return gradient * slopes, None, None, None


def _by_sign(z: Tensor, y: Tensor, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    r"""Losses and their gradients, by the formula in the signed logit."""
    sign = torch.rsub(y, 1, alpha=2)  # 1 − 2y
    u = sign * z
    miss, bce = u.sigmoid(), F.softplus(u, threshold=60)  # beyond it log(1 + e^u) is u in every precision
    focus = _weights(y, alpha) * miss**gamma
    return focus * bce, torch.addcmul(miss, 1 - miss, bce, value=gamma) * focus * sign


def _weights(y: Tensor, alpha: float) -> Tensor | float:
    r"""α y + (1 − α)(1 − y) in one pass, (1 − α) − (1 − 2α) y; a negative α is none."""
    return 1.0 if alpha < 0 else torch.rsub(y, 1 - alpha, alpha=1 - 2 * alpha)


def softmax_focal_loss(
    input: Float[Tensor, "*logits"], target: Shaped[Tensor, "*target"], weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100, reduction: str = "mean", gamma: float = 2.0,
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:  # fmt: skip
    r"""Focal loss of logits of which one class is right.

    .. math:: \ell(z, y) = -w_y\,(1 - p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(z)

    The miss :math:`1 - p_y` comes from the logarithm by ``expm1``, so that a small one is not rounded to 0.

    Args:
        input: logits, (K,), (N, K) or (N, K, d_1, …), as for :func:`~dlnotes.losses.cross_entropy`.
        target: classes 0 … K − 1, whole numbers of ``input``'s shape without the classes.
        weight: :math:`w`, one number a class, which takes the place of :math:`\alpha`; default 1.
        ignore_index: a class that counts for nothing, default −100.
        reduction: ``"mean"`` (default), divided as for cross-entropy by the weights of what is not ignored; ``"sum"``
            or ``"none"``.
        gamma: :math:`\gamma \ge 0`, default 2; with 0 it is cross-entropy.

    Raises:
        ValueError: shapes do not fit, or an argument is out of range.
        TypeError: logits or weights that are not floating, or targets that are.
        IndexError: a class that there is not.

    For two classes and logits (0, z) it is :func:`sigmoid_focal_loss` of z without alpha. Source: Lin et al., *Focal
    Loss for Dense Object Detection* (2017), with softmax in place of its sigmoid.

    >>> softmax_focal_loss(torch.tensor([[0.0, 3.0]]), torch.tensor([1]))
    tensor(0.0001)
    """
    check_floating("input", input)
    check_not_negative(gamma=gamma)
    check_reduction(reduction)
    target = check_classes(input, target, weight)
    z = wide(input)
    weight = None if weight is None else weight.to(z.dtype)
    costs = F.cross_entropy(z, target, ignore_index=ignore_index, reduction="none")  # −log p_y, 0 where ignored
    miss = -torch.expm1(-costs).clamp(max=-torch.finfo(z.dtype).tiny)  # the power's slope at 0 is infinite
    losses = miss**gamma * costs
    if weight is not None:
        losses = losses * weight[target.where(target != ignore_index, 0)]
    if reduction != "mean":
        return reduce(losses, reduction)
    return losses.sum() / total_weight(target, weight, ignore_index)
