r"""Bag-level losses: one object, a bag of candidate boxes that may explain it, and no candidate chosen beforehand.

Candidate :math:`j` explains the object with probability :math:`p_j`. Each loss is :math:`-\log P` for a :math:`P` of
the whole bag, and its gradient says to whom the object belongs. They take :math:`\log p_j`, which does not underflow:
of a detector :math:`p_j = \sigma(z_j)\,e^{-\beta \ell_j}` that is ``F.logsigmoid(z) - beta * box_loss``.

Values and gradients are finite for all :math:`\log p_j \le 0`; what is below −10⁴, as of :math:`p = 0`, counts as
−10⁴ and has no gradient.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_not_negative, check_number
from dlnotes.moments import wide
from dlnotes.reduction import alike, check_floating, check_reduction, reduce

LOWEST = -1e4


def noisy_or_loss(
    log_prob: Float[Tensor, "*objects candidates"], reduction: str = "mean"
) -> Float[Tensor, "*objects"] | Float[Tensor, ""]:
    r"""An object is explained unless all its candidates fail.

    .. math:: P = 1 - \prod_j (1 - p_j), \qquad
        \frac{\partial (-\log P)}{\partial p_j} = -\frac{1 - P}{P\,(1 - p_j)}

    Once one candidate is sure, :math:`P \approx 1`, none of the others learns.

    Args:
        log_prob: :math:`\log p_j \le 0`, (…, K): the last dimension is the bag.
        reduction: ``"mean"`` over the objects (default), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: a value is NaN or above 0, a bag is empty, or ``reduction`` is none of the three.
        TypeError: numbers that are not floating.

    Source: Zhang, Platt and Viola, *Multiple Instance Boosting for Object Detection* (2005).

    >>> noisy_or_loss(torch.tensor([[0.5, 0.5]]).log())  # −log(3/4)
    tensor(0.2877)
    """
    a = _bags(log_prob, reduction)
    rare = a.amax(-1, keepdim=True) < -30  # then P = Σ p in every precision, and 1 − (1 − P) would round to 0
    sure = _log1mexp(a.masked_fill(rare, -1.0)).sum(-1)
    losses = -torch.where(rare[..., 0], a.logsumexp(-1), _log1mexp(sure))
    return reduce(losses, reduction)


def log_sum_exp_loss(
    log_prob: Float[Tensor, "*objects candidates"], reduction: str = "mean", sharpness: float = 1.0
) -> Float[Tensor, "*objects"] | Float[Tensor, ""]:
    r"""A smooth maximum of the candidates: the power mean of their probabilities.

    .. math:: -\log P = -\frac{1}{r} \log \frac{1}{K} \sum_{j=1}^{K} e^{r \log p_j}, \qquad
        P = \left(\frac{1}{K} \sum_j p_j^{\,r}\right)^{1/r}

    The sharpness :math:`r = 1` gives the mean of the bag, :math:`r \to \infty` its maximum; the gradient is shared out
    by :math:`\operatorname{softmax}(r \log p)`.

    Args:
        log_prob: :math:`\log p_j \le 0`, (…, K): the last dimension is the bag.
        reduction: ``"mean"`` over the objects (default), ``"sum"`` or ``"none"``.
        sharpness: :math:`r > 0`, default 1.

    Raises:
        ValueError: ``sharpness`` is not above 0 or not finite; or as :func:`noisy_or_loss`.
        TypeError: numbers that are not floating.

    Source: Ramon and De Raedt, *Multi Instance Neural Networks* (2000), with scores in place of log-probabilities.

    >>> bag = torch.tensor([[0.9, 0.1]]).log()
    >>> [round(log_sum_exp_loss(bag, sharpness=r).neg().exp().item(), 3) for r in (1.0, 4.0, 100.0)]
    [0.5, 0.757, 0.894]
    """
    check_not_negative(sharpness=sharpness)
    if sharpness == 0:
        raise ValueError(f"sharpness must be > 0, got {sharpness}")
    a = _bags(log_prob, reduction)
    return reduce(-((sharpness * a).logsumexp(-1) - math.log(a.size(-1))) / sharpness, reduction)


def mean_max_loss(
    log_prob: Float[Tensor, "*objects candidates"], reduction: str = "mean"
) -> Float[Tensor, "*objects"] | Float[Tensor, ""]:
    r"""FreeAnchor's likelihood of an object: the mean of a poor bag, the maximum of a good one.

    .. math:: P = \sum_j \frac{w_j}{\sum_k w_k}\, p_j, \qquad w_j = \frac{1}{1 - p_j}

    While all :math:`p_j` are small the weights are alike, and the whole bag learns; a candidate near 1 takes all the
    weight. :math:`1 - p_j` is at least 1e-12, as in FreeAnchor's own code.

    Args:
        log_prob: :math:`\log p_j \le 0`, (…, K): the last dimension is the bag.
        reduction: ``"mean"`` over the objects (default), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: as :func:`noisy_or_loss`.
        TypeError: numbers that are not floating.

    Source: Zhang et al., *FreeAnchor: Learning to Match Anchors for Visual Object Detection* (2019).

    >>> bags = torch.tensor([[0.02, 0.01], [0.99, 0.01]])
    >>> mean_max_loss(bags.log(), "none").neg().exp()  # the means are 0.015 and 0.5
    tensor([0.0150, 0.9802])
    """
    a = _bags(log_prob, reduction)
    weights = -_log1mexp(a, least=1e-12)  # their logarithms
    losses = weights.logsumexp(-1) - (weights + a).logsumexp(-1)
    return reduce(losses, reduction)


def negative_bag_loss(
    inputs: Float[Tensor, "*batch"], matched: Float[Tensor, "*batch"], gamma: float = 2.0, reduction: str = "sum"
) -> Float[Tensor, "*batch"] | Float[Tensor, ""]:
    r"""FreeAnchor's focal loss of candidates that should be background: those that no object may claim.

    .. math:: \ell = -b^\gamma \log(1 - b), \qquad b = \sigma(z)\,(1 - m)

    A candidate that surely matches an object, :math:`m = 1`, may say what it likes.

    Args:
        inputs: logits :math:`z`, any shape, of candidates and classes as a rule.
        matched: :math:`m` in [0, 1], the same shape, as :func:`matched_probability` gives it; a constant.
        gamma: :math:`\gamma \ge 0`, default 2.
        reduction: ``"sum"`` (default), ``"mean"`` or ``"none"``. FreeAnchor divides the sum by the number of objects
            times the size of a bag.

    Raises:
        ValueError: shapes differ, ``matched`` is outside of [0, 1] or NaN, or another argument is out of range.
        TypeError: numbers that are not floating.

    With :math:`m = 0` it is :func:`~dlnotes.focal.sigmoid_focal_loss` of negatives, without its alpha. Source: as
    :func:`mean_max_loss`.

    >>> negative_bag_loss(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.5]), reduction="none")
    tensor([0.1733, 0.0180])
    """
    z, m = alike(inputs, matched)
    m = m.detach()
    check_not_negative(gamma=gamma)
    if m.numel() and not (m.min() >= 0 and m.max() <= 1):  # true for NaN
        raise ValueError("matched must be probabilities in [0, 1]")
    says = (z.sigmoid() * (1 - m)).clamp(min=torch.finfo(z.dtype).tiny)  # the power's slope at 0 is infinite
    spared = torch.logaddexp(F.logsigmoid(-z), F.logsigmoid(z) + m.log())  # log(1 − b), without rounding to log 0
    return reduce(says**gamma * -spared, reduction)


def matched_probability(
    iou: Float[Tensor, "objects candidates"], labels: Int[Tensor, " labels"], num_classes: int, low: float = 0.6
) -> Float[Tensor, "candidates classes"]:
    r"""How surely each candidate matches some object of each class, by its overlap with the objects.

    .. math:: m_{ij} = \operatorname{clip}\left(\frac{\operatorname{IoU}_{ij} - t}{\max_k \operatorname{IoU}_{ik} - t},
        0, 1\right), \qquad m_{jc} = \max_{i:\, y_i = c} m_{ij}

    The best candidate of an object has 1, those below :math:`t` have 0; without objects all have 0.

    Args:
        iou: (G, A) of objects with the boxes that the candidates predict.
        labels: (G,), the objects' classes 0 … C − 1.
        num_classes: C.
        low: :math:`t` in [0, 1), default 0.6.

    Raises:
        ValueError: shapes differ, a label is none, or a number is out of range.

    Source: as :func:`mean_max_loss`.

    >>> matched_probability(torch.tensor([[0.9, 0.75, 0.3]]), torch.tensor([1]), 2).T
    tensor([[0.0000, 0.0000, 0.0000],
            [1.0000, 0.5000, 0.0000]])
    """
    check_number("low", low)
    if not 0 <= low < 1:
        raise ValueError(f"low must be in [0, 1), got {low}")
    if iou.dim() != 2 or tuple(labels.shape) != (len(iou),):
        raise ValueError(
            f"labels must have one class for each row of iou {tuple(iou.shape)}, got {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must be in 0 … {num_classes - 1}, got {labels.tolist()}")
    iou = wide(iou.detach())
    best = iou.amax(1, keepdim=True) if iou.numel() else iou[:, :1]  # (G, 1)
    share = ((iou - low) / (best - low).clamp(min=1e-12)).clamp(0, 1)
    found = iou.new_zeros(num_classes, iou.size(1))
    return found.scatter_reduce(0, labels.long()[:, None].expand_as(share), share, "amax").T


def _bags(log_prob: Tensor, reduction: str) -> Tensor:
    r"""The bags as one computes with them."""
    check_reduction(reduction)
    check_floating("log_prob", log_prob)
    if log_prob.dim() == 0 or log_prob.size(-1) == 0:
        raise ValueError(f"log_prob must be bags (…, K) of at least one candidate, got shape {tuple(log_prob.shape)}")
    a = wide(log_prob)
    if a.numel() and not a.detach().max() <= 0:  # true for NaN
        fault = "NaN" if a.isnan().any() else f"{a.max().item()}, a probability above 1"
        raise ValueError(f"log_prob must be logarithms of probabilities, at most 0, got {fault}")
    return a.clamp(min=LOWEST)


def _log1mexp(a: Tensor, least: float = 0.0) -> Tensor:
    r"""log(1 − e^a) for a ≤ 0, without rounding 1 − e^a; that is at least so much, and never 0."""
    near = a > -math.log(2)
    far = torch.log1p(-a.masked_fill(near, -1.0).exp())  # each branch computes only where it is exact
    close = (-torch.expm1(a.masked_fill(~near, -1.0))).clamp(min=max(least, torch.finfo(a.dtype).tiny)).log()
    return torch.where(near, close, far)
