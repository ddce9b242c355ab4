r"""Cross-entropies, written as the chapters derive them.

Every loss of the package takes ``reduction`` as torch's do, computes 16-bit numbers in float32 and returns float32 for
them, as :func:`torch.autocast` does, and gives 0 with gradients of 0 as the mean of nothing, where torch gives NaN.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_number
from dlnotes.moments import wide
from dlnotes.reduction import alike, check_floating, check_reduction, reduce


def binary_cross_entropy_with_logits(
    input: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"], reduction: str = "mean",
    *, weight: Tensor | None = None, pos_weight: Tensor | None = None,
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:  # fmt: skip
    r"""Binary cross-entropy of logits: the negative log-likelihood of a coin whose log-odds are ``input``.

    .. math:: \ell(z, y) = -w\,[\,p\,y\log\sigma(z) + (1-y)\log\sigma(-z)\,]
        = w\,[\,p\,y\log(1 + e^{-z}) + (1-y)\log(1 + e^{z})\,]

    The right-hand form needs no :math:`\sigma` and so never takes the logarithm of a rounded 0; ``logaddexp``
    evaluates :math:`\log(e^0 + e^z)` without overflow, and a loss close to 0 is not lost in a difference of large
    numbers. Without weights its gradient is :math:`\sigma(z) - y`.

    Args:
        input: logits :math:`z`, any shape.
        target: labels or probabilities :math:`y` in [0, 1], the same shape as ``input``.
        reduction: ``"mean"`` over all elements (default), ``"sum"``, or ``"none"``.
        weight: :math:`w`, of each element, or of a shape that broadcasts to ``input``'s. Default 1.
        pos_weight: :math:`p`, how much a positive counts, of a shape that broadcasts likewise. Default 1.

    Raises:
        ValueError: shapes do not fit, or ``reduction`` is none of the three.
        TypeError: numbers that are not floating.

    Equal to :func:`torch.nn.functional.binary_cross_entropy_with_logits`. Differs: ``reduction`` is the third
    argument, torch's deprecated ones being left out; and where label 0 is predicted with certainty, torch's float32
    loss is rounded to 0 and this one is not. Source: Bishop, *Pattern Recognition and Machine Learning* (2006),
    section 4.3.2.

    >>> z, y = torch.tensor([0.0, 200.0]), torch.tensor([1.0, 0.0])
    >>> binary_cross_entropy_with_logits(z, y, reduction="none")
    tensor([  0.6931, 200.0000])
    """
    z, y = alike(input, target)
    zero = torch.zeros_like(z)
    heads, tails = y * torch.logaddexp(zero, -z), (1 - y) * torch.logaddexp(zero, z)
    if pos_weight is not None:
        heads = heads * _fitting("pos_weight", pos_weight, input)
    losses = heads + tails
    if weight is not None:
        losses = losses * _fitting("weight", weight, input)
    return reduce(losses, reduction)


def cross_entropy(
    input: Float[Tensor, "*logits"], target: Shaped[Tensor, "*target"], weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:  # fmt: skip
    r"""Cross-entropy of logits: the negative log-likelihood of a die with :math:`K` faces.

    .. math:: \ell(z, q) = -\sum_{k=1}^{K} w_k\, q_k \log p_k, \qquad p = \operatorname{softmax}(z), \qquad
        q = (1-\varepsilon)\, \text{target} + \frac{\varepsilon}{K}

    where a class :math:`y` as target stands for its one-hot vector. Without weights the gradient is :math:`p - q`.

    With classes as targets, the mean over the samples :math:`n` that are not ignored is weighted by their class,
    :math:`\sum_n \ell_n / \sum_n w_{y_n}`, with smoothing too; what is ignored is as if it were absent. With
    probabilities as targets it is :math:`\frac1N \sum_n \ell_n`: there is no one class whose weight would be taken.

    Args:
        input: logits :math:`z`, (K,), (N, K) or (N, K, d_1, …): the classes are the second dimension, as of images.
        target: classes 0 … K − 1, whole numbers of ``input``'s shape without the classes; or probabilities of
            ``input``'s own shape, of floating point.
        weight: :math:`w`, one number a class, default 1.
        ignore_index: a class that counts for nothing, default −100; unused with probabilities.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        label_smoothing: :math:`\varepsilon` in [0, 1], the share of the truth that is spread over all classes.

    Raises:
        ValueError: shapes do not fit, ``label_smoothing`` or ``reduction`` are none of what they may be.
        TypeError: logits or weights that are not floating, or targets that are boolean.
        IndexError: a class that there is not.

    Equal to :func:`torch.nn.functional.cross_entropy`, whose kernels it calls. Differs: where nothing is left to
    average, every target ignored or of weight 0, torch gives NaN and this 0 with gradients of 0. Source: Szegedy et
    al., *Rethinking the Inception Architecture for Computer Vision* (2016), section 7, for smoothing.

    >>> z = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    >>> cross_entropy(z, torch.tensor([0, -100]))  # log(e² + 2) − 2
    tensor(0.2395)
    >>> cross_entropy(z, torch.tensor([-100, -100]))
    tensor(0.)
    """
    check_floating("input", input)
    check_reduction(reduction)
    check_number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    target = check_classes(input, target, weight, probabilities=True)
    z = wide(input)
    weight = None if weight is None else weight.to(z.dtype)
    soft = target.is_floating_point()
    how = "sum" if reduction == "mean" else reduction
    losses = F.cross_entropy(
        z, target.to(z.dtype) if soft else target, weight, ignore_index=ignore_index, reduction=how,
        label_smoothing=label_smoothing,
    )  # fmt: skip
    if reduction != "mean":
        return losses
    return losses / (max(1, target.numel() // _classes(input)) if soft else total_weight(target, weight, ignore_index))


def total_weight(
    target: Shaped[Tensor, "*target"], weight: Float[Tensor, " classes"] | None, ignore_index: int
) -> Tensor:
    r"""What the mean of a cross-entropy divides by: the weights of all targets not ignored; 1 where there are none.

    >>> total_weight(torch.tensor([0, 1, 1, -100]), torch.tensor([1.0, 0.5]), -100)
    tensor(2.)
    """
    kept = target != ignore_index
    if weight is None:
        return kept.sum().clamp(min=1)
    total = (weight[target.where(kept, 0)] * kept).sum()
    return total.where(total != 0, 1.0)


def check_classes(
    input: Float[Tensor, "*logits"], target: Shaped[Tensor, "*target"], weight: Tensor | None,
    *, probabilities: bool = False,
) -> Tensor:  # fmt: skip
    r"""The targets, classes as ``int64``, after a look at the shapes of logits, targets and weights.

    >>> check_classes(torch.zeros(2, 3), torch.tensor([1]), None)
    Traceback (most recent call last):
    ...
    ValueError: target must have shape (2,), input's (2, 3) without the classes, got (1,)
    """
    if input.dim() == 0:
        raise ValueError("input must be (K,), (N, K) or (N, K, …), got a single number")
    classes, shape, given = _classes(input), tuple(input.shape), tuple(target.shape)
    if not classes:
        raise ValueError(f"input must have at least one class, got shape {shape}")
    if target.dtype == torch.bool or (target.is_floating_point() and not probabilities):
        expected = "classes, whole numbers" + " or probabilities" * probabilities
        raise TypeError(f"target must be {expected}, got {target.dtype}")
    wanted = shape if target.is_floating_point() else shape[:1] + shape[2:] if len(shape) > 1 else ()
    if given != wanted:
        which = "input's" if target.is_floating_point() else f"input's {shape} without the classes"
        raise ValueError(f"target must have shape {wanted}, {which}, got {given}")
    if weight is not None:
        check_floating("weight", weight)
        if tuple(weight.shape) != (classes,):
            raise ValueError(f"weight must have shape ({classes},), a number a class, got {tuple(weight.shape)}")
    return target if target.is_floating_point() else target.long()


def _classes(input: Tensor) -> int:
    return input.size(min(1, input.dim() - 1))


def _fitting(name: str, weight: Tensor, input: Tensor) -> Tensor:
    try:
        fits = torch.broadcast_shapes(weight.shape, input.shape) == input.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to input's shape {tuple(input.shape)}, got {tuple(weight.shape)}")
    return weight
