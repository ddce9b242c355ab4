r"""Norms: one formula (:mod:`dlnotes.moments`) over different index sets, with the arguments and state dict of torch's.

Each has its formula to read in ``formula``; ``forward`` calls torch's kernel for the same mathematics.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dlnotes.arguments import check_whole
from dlnotes.moments import moments, standardize, wide
from dlnotes.normalizing import ChannelNorm, LastNorm, Norm, check_type, group_norm


class _BatchNorm(ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        own_moments = self.own_moments()
        if own_moments:
            self.check_several(input)
        if input.size(0) == 1 and 1 in input.shape[2:]:  # (1, C, 1, W) permuted, say: torch takes one layout for the
            input = input.contiguous()  # other, and its gradients are wrong
        running = not self.training or self.track_running_stats
        mean, variance = (self.running_mean, self.running_var) if running else (None, None)
        m = self.count_batch()
        return F.batch_norm(input, mean, variance, self.weight, self.bias, own_moments, m, self.eps)


class BatchNorm1d(_BatchNorm):
    r"""Batch norm of vectors or sequences: every channel is standardised over the batch.

    .. math:: y = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In evaluation mode running statistics stand in place of the batch's :math:`\mu` and :math:`\sigma^2`. In training
    each batch moves them, with the unbiased estimate of the variance, whose divisor is :math:`n - 1`:

    .. math::
        \bar\mu \leftarrow (1-m)\,\bar\mu + m\,\mu, \qquad
        \bar\sigma^2 \leftarrow (1-m)\,\bar\sigma^2 + m\,\tfrac{n}{n-1}\,\sigma^2

    This momentum :math:`m`, torch's, is the weight of the *new* value; in many papers it is that of the old one.

    Args:
        num_features: channels :math:`C`.
        eps: :math:`\epsilon`, default 1e-5.
        momentum: :math:`m` in [0, 1], default 0.1; ``None``: the mean over all batches, :math:`m = 1/t` in the t-th.
        affine: learn :math:`\gamma` and :math:`\beta`, default True.
        track_running_stats: default True. False: the batch's own moments, in evaluation too.
        device, dtype: of parameters and buffers.
        bias: False leaves out :math:`\beta` alone.

    Shape:
        input and output (N, C) or (N, C, L).

    Raises:
        ValueError: an argument is out of range; the input is of another form, or one value a channel has no variance.
        TypeError: an argument is no number; the input is not of floating point, or of another precision.

    Equal to :class:`torch.nn.BatchNorm1d`, whose state dict loads either way. It is no subclass of it, so that torch's
    ``update_bn`` and ``convert_sync_batchnorm`` pass it over. Source: Ioffe and Szegedy, *Batch Normalization* (2015).

    >>> norm = BatchNorm1d(1, momentum=1.0)
    >>> norm(torch.tensor([[0.0], [2.0]])).flatten()
    tensor([-1.0000,  1.0000], grad_fn=...)
    >>> norm.running_mean.item(), norm.running_var.item()
    (1.0, 2.0)
    >>> norm.eval()(torch.tensor([[2.0]]))
    tensor([[0.7071]], grad_fn=...)
    """

    forms: ClassVar = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    r"""Batch norm of images (N, C, H, W): every channel is standardised over the batch and all its pixels.

    Arguments, formula and errors are :class:`BatchNorm1d`'s. Equal to :class:`torch.nn.BatchNorm2d`.

    >>> BatchNorm2d(3)(torch.rand(2, 3, 4, 4)).mean((0, 2, 3)).abs().max() < 1e-5
    tensor(True)
    """

    forms: ClassVar = {4: "(N, C, H, W)"}


class _InstanceNorm(ChannelNorm):
    kept = (0, 1)
    several = "spatial element"

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        if momentum is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError("momentum must be a number in [0, 1], got None: the mean over all batches is batch norm's")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        batched = input.dim() == max(self.forms)
        self.check(input, channels=1 if batched else 0)
        x = input if batched else input[None]
        own_moments = self.own_moments()
        if own_moments:
            self.check_several(x)
        if self.running_mean is None and self.weight is None and x.numel() and x.is_contiguous():
            y = F.layer_norm(x, x.shape[2:], eps=self.eps)  # half the time of F.instance_norm
        elif self.running_mean is None or (own_moments and not x.numel()):
            y = group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        else:
            running = self.running_mean, self.running_var
            y = F.instance_norm(x, *running, self.weight, self.bias, own_moments, self.count_batch(), self.eps)
        return y if batched else y[0]

    def count_batch(self) -> float:  # torch's counts none
        return self.momentum or 0.0


class InstanceNorm1d(_InstanceNorm):
    r"""Instance norm of sequences: every channel of every sample is standardised over its own positions.

    .. math:: y_{nc} = \gamma_c\, \frac{x_{nc} - \mu_{nc}}{\sqrt{\sigma_{nc}^2 + \epsilon}} + \beta_c

    Args:
        num_features: channels :math:`C`.
        eps: :math:`\epsilon`, default 1e-5.
        momentum: weight of the new value in the running statistics, in [0, 1], default 0.1.
        affine: learn :math:`\gamma` and :math:`\beta`, default False.
        track_running_stats: default False. True: in evaluation the running means of the samples' moments are used.
        device, dtype, bias: as for :class:`BatchNorm1d`.

    Shape:
        input and output (N, C, L), or (C, L) for one sample.

    Raises:
        ValueError: an argument is out of range; the input is of another form, or has a single position.
        TypeError: an argument is no number; the input is not of floating point, or of another precision.

    Equal to :class:`torch.nn.InstanceNorm1d`, whose state dict loads either way. Differs: other than ``num_features``
    channels are refused where torch only warns (no ``affine``), and so is ``momentum=None``, with which torch's running
    statistics never move. Source: Ulyanov, Vedaldi and Lempitsky, *Instance Normalization* (2016).

    >>> InstanceNorm1d(2)(torch.tensor([[0.0, 2.0], [5.0, 25.0]]))
    tensor([[-1.0000,  1.0000],
            [-1.0000,  1.0000]])
    """

    forms: ClassVar = {2: "(C, L)", 3: "(N, C, L)"}


class InstanceNorm2d(_InstanceNorm):
    r"""Instance norm of images, (N, C, H, W) or (C, H, W): every channel of every image over its own pixels.

    Arguments, formula and errors are :class:`InstanceNorm1d`'s. Equal to :class:`torch.nn.InstanceNorm2d`.

    >>> InstanceNorm2d(3)(torch.rand(3, 4, 4)).mean((1, 2)).abs().max() < 1e-5
    tensor(True)
    """

    forms: ClassVar = {3: "(C, H, W)", 4: "(N, C, H, W)"}


class GroupNorm(Norm):
    r"""Group norm: the channels of each sample in groups, each group standardised over its channels and pixels.

    With :math:`C` groups it is instance norm; with one it is layer norm over (C, H, W), but for the shape of
    :math:`\gamma` and :math:`\beta`, here one number a channel.

    Args:
        num_groups: how many groups; it divides ``num_channels``.
        num_channels: :math:`C`.
        eps: :math:`\epsilon`, default 1e-5.
        affine: learn :math:`\gamma` and :math:`\beta`, default True.
        device, dtype, bias: as for :class:`BatchNorm1d`.

    Shape:
        input and output (N, C, …).

    Raises:
        ValueError: an argument is out of range; the input is of another form, or one value in all has no variance.
        TypeError: an argument is no number; the input is not of floating point, or of another precision.

    Equal to :class:`torch.nn.GroupNorm`; its state dict loads either way. Differs: other than ``num_channels`` channels
    are refused without ``affine`` too. Source: Wu and He, *Group Normalization* (2018).

    >>> GroupNorm(2, 4, affine=False)(torch.tensor([[[0.0], [2.0], [5.0], [25.0]]])).flatten()
    tensor([-1.0000,  1.0000, -1.0000,  1.0000])
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        check_whole("num_groups", num_groups)
        check_whole("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        super().__init__((num_channels,), eps, affine, bias, device, dtype)
        self.num_groups, self.num_channels, self.affine = num_groups, num_channels, affine

    def formula(self, input: Tensor) -> Tensor:
        r"""The norm of ``input``, as one reads it."""
        x = wide(input).unflatten(1, (self.num_groups, -1))  # (N, groups, channels of a group, …)
        y = standardize(x, *moments(x, [*range(2, x.dim())]), self.eps)
        return self.scaled(y.flatten(1, 2), channels=True).to(input.dtype)

    def forward(self, input: Tensor) -> Tensor:
        r"""The same by torch's kernel."""
        if input.dim() < 2 or input.size(1) != self.num_channels:
            raise ValueError(
                f"GroupNorm: input must be (N, num_channels = {self.num_channels}, …), got shape {tuple(input.shape)}"
            )
        check_type(input, self.weight)
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        r"""The options, as torch prints them."""
        groups, bias = f"{self.num_groups}, {self.num_channels}", self.bias is not None
        return f"{groups}, eps={self.eps}, affine={self.affine}, bias={bias}"


class LayerNorm(LastNorm):
    r"""Layer norm: the last dimensions of the input are standardised, each place before them by itself.

    ``normalized_shape`` decides how many means there are: of (batch, query, embedding), layer norm over the last
    dimension takes batch · query of them, over the last two one a sample.

    Args:
        normalized_shape: :math:`D`, or the last dimensions :math:`(D_1, …, D_k)` of the input.
        eps: :math:`\epsilon`, default 1e-5.
        elementwise_affine: learn :math:`\gamma` and :math:`\beta`, of ``normalized_shape``, default True.
        bias, device, dtype: as for :class:`BatchNorm1d`.

    Shape:
        input and output (…, D) or (…, D_1, …, D_k).

    Raises:
        ValueError: an argument is out of range; the input does not end in ``normalized_shape``.
        TypeError: an argument is no number; the input is not of floating point, or of another precision.

    Equal to :class:`torch.nn.LayerNorm`; its state dict loads either way. Source: Ba, Kiros and Hinton, *Layer
    Normalization* (2016).

    >>> LayerNorm(2, elementwise_affine=False)(torch.tensor([[0.0, 2.0], [5.0, 25.0]]))
    tensor([[-1.0000,  1.0000],
            [-1.0000,  1.0000]])
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)

    def formula(self, input: Tensor) -> Tensor:
        r"""The norm of ``input``, as one reads it."""
        x = wide(input)
        return self.scaled(standardize(x, *moments(x, self.dims), self.eps)).to(input.dtype)

    def forward(self, input: Tensor) -> Tensor:
        r"""The same by torch's kernel."""
        self.check(input)
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(LastNorm):
    r"""RMS norm: layer norm without the mean, divided by the root mean square alone.

    .. math:: y_i = \gamma_i\, \frac{x_i}{\sqrt{\frac{1}{n}\sum_j x_j^2 + \epsilon}}

    Args:
        normalized_shape, elementwise_affine, device, dtype: as for :class:`LayerNorm`; there is no :math:`\beta`.
        eps: :math:`\epsilon`; ``None`` (default): the machine epsilon of the precision computed in, float32's for
            input of 16 bits.

    Shape, errors: as for :class:`LayerNorm`.

    Equal to :class:`torch.nn.RMSNorm`; its state dict loads either way. Source: Zhang and Sennrich, *Root Mean Square
    Layer Normalization* (2019).

    >>> RMSNorm(2, elementwise_affine=False)(torch.tensor([3.0, 4.0]))  # divided by sqrt(12.5)
    tensor([0.8485, 1.1314])
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype)

    def formula(self, input: Tensor) -> Tensor:
        r"""The norm of ``input``, as one reads it."""
        x = wide(input)
        root = (x.square().mean(self.dims, keepdim=True) + self._eps(input)).sqrt()
        return self.scaled(x / root).to(input.dtype)

    def forward(self, input: Tensor) -> Tensor:
        r"""The same by torch's kernel, which takes one precision only."""
        self.check(input)
        if self.weight is not None and self.weight.dtype != input.dtype:
            return self.formula(input)
        return F.rms_norm(input, self.normalized_shape, self.weight, self._eps(input))

    def _eps(self, input: Tensor) -> float:
        precision = torch.promote_types(input.dtype, torch.float32)
        return torch.finfo(precision).eps if self.eps is None else self.eps
