r"""The one formula of all norms: moments over an index set, and what is left without them.

Which index set it is makes the norm (:mod:`dlnotes.norms`). Of images (N, C, H, W) it is made of

==============  ==================================  ================================
norm            dimensions averaged over            how many means
==============  ==================================  ================================
batch norm      N, H, W                             C
layer norm      the last ones, as told              the product of all others
instance norm   H, W                                N · C
group norm      H, W and the channels of a group    N · groups
==============  ==================================  ================================
"""

import torch
from jaxtyping import Float
from torch import Tensor

Dims = list[int] | tuple[int, ...]


def moments(x: Float[Tensor, "*shape"], dims: Dims) -> tuple[Float[Tensor, "*means"], Float[Tensor, "*means"]]:
    r"""Mean and variance over the dimensions ``dims``, which stay with length 1.

    .. math:: \mu = \frac{1}{n}\sum_{i \in S} x_i, \qquad \sigma^2 = \frac{1}{n}\sum_{i \in S} (x_i - \mu)^2

    Two passes: the difference :math:`\overline{x^2} - \mu^2`, which needs one, rounds to nothing far from zero.

    >>> mean, variance = moments(10_000 + torch.arange(4.0), [0])
    >>> mean.item(), variance.item()
    (10001.5, 1.25)
    """
    mean = x.mean(dims, keepdim=True)
    variance = (x - mean).square().mean(dims, keepdim=True)
    return mean, variance


def standardize(
    x: Float[Tensor, "*shape"], mean: Float[Tensor, "*means"], variance: Float[Tensor, "*means"], eps: float = 1e-5
) -> Float[Tensor, "*shape"]:
    r"""The formula of every norm: away with the mean, divide by the standard deviation.

    .. math:: \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}

    >>> x = 10_000 + torch.arange(4.0)
    >>> standardize(x, *moments(x, [0]))
    tensor([-1.3416, -0.4472,  0.4472,  1.3416])
    """
    return (x - mean) / (variance + eps).sqrt()


def standardize_backward(
    gradient: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"], dims: Dims, eps: float = 1e-5
) -> Float[Tensor, "*shape"]:
    r"""The gradient with respect to ``x``, given the ``gradient`` with respect to what :func:`standardize` made of it.

    With the moments over ``dims``, through which every :math:`x_i` reaches every :math:`\hat x_j` of its set:

    .. math::
        \frac{\partial L}{\partial x_i} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
        \Big( g_i - \frac{1}{n}\sum_j g_j - \hat x_i\, \frac{1}{n}\sum_j g_j \hat x_j \Big)

    Two directions are lost: :math:`g` constant, and (but for :math:`\epsilon`) :math:`g` along :math:`\hat x`.
    Source: Ioffe and Szegedy, *Batch Normalization* (2015), section 3.

    >>> x = torch.tensor([0.0, 1.0, 5.0])
    >>> standardize_backward(torch.ones(3), x, [0])
    tensor([0., 0., 0.])
    """
    mean, variance = moments(x, dims)
    y = standardize(x, mean, variance, eps)
    along_y = y * (gradient * y).mean(dims, keepdim=True)
    return (gradient - gradient.mean(dims, keepdim=True) - along_y) / (variance + eps).sqrt()


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""``x`` in the precision in which moments are computed: float32 for numbers of 16 bits, otherwise its own.

    >>> wide(torch.ones(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
