r"""What the norms are built on, beside their formula: parameters, running statistics, a look at the input."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.arguments import check_not_negative, check_number, check_whole
from dlnotes.moments import moments, standardize, wide


class Norm(nn.Module):
    r"""The base of all norms: :math:`\epsilon`, and learned ``weight`` :math:`\gamma` and ``bias`` :math:`\beta`.

    Args:
        shape: that of the parameters.
        eps: :math:`\epsilon`, added to the variance; ``None`` where a norm has a default of its own.
        affine: whether there are parameters; ``bias=False`` leaves out :math:`\beta` alone.
        device, dtype: of the parameters.

    Raises:
        ValueError, TypeError: ``eps`` is negative or no number.

    >>> list(Norm((3,), 1e-5, affine=True, bias=False).state_dict())
    ['weight']
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self, shape: Sequence[int], eps: float | None, affine: bool, bias: bool, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        if eps is not None:
            check_not_negative(eps=eps)
        self.eps: Any = eps
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            parameter = nn.Parameter(torch.empty(tuple(shape), device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, parameter)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Begin again: scale 1, shift 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def scaled(self, y: Tensor, channels: bool = False) -> Tensor:
        r"""The last step of a norm, :math:`\gamma y + \beta`; ``channels``: with a number for each channel."""
        weight, bias = ((p if p is None or not channels else along(p, y)) for p in (self.weight, self.bias))
        y = y if weight is None else weight * y
        return y if bias is None else y + bias


class ChannelNorm(Norm):
    r"""The base of batch norm and instance norm: two parameters for each channel, running statistics if wanted.

    Args:
        num_features: channels :math:`C`, dimension 1 of the input.
        eps, affine, bias, device, dtype: as for :class:`Norm`.
        momentum: the weight :math:`m` of the new batch in the running statistics, from 0 to 1.
        track_running_stats: whether there are the buffers ``running_mean``, ``running_var``, ``num_batches_tracked``.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.

    The names in the state dict, its version and the order of the arguments are torch's.

    >>> list(ChannelNorm(3, 1e-5, 0.1, True, True).state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    _version = 2  # of the state dict: torch's version 1 had no num_batches_tracked
    forms: ClassVar[Mapping[int, str]] = {}  # what the input may be, by the number of its dimensions
    kept: ClassVar[tuple[int, ...]] = (1,)  # the dimensions with moments of their own; the others are averaged over
    several: ClassVar[str] = "value per channel"  # what there must be more than one of
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
        device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        check_whole("num_features", num_features)
        if momentum is not None:
            check_number("momentum", momentum)
            if not 0 <= momentum <= 1:
                raise ValueError(f"momentum must be in [0, 1], the weight of the new batch, got {momentum}")
        super().__init__((num_features,), eps, affine, bias, device, dtype)
        self.num_features, self.momentum = num_features, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name in ("running_mean", "running_var"):
            made = torch.empty(num_features, device=device, dtype=dtype) if track_running_stats else None
            self.register_buffer(name, made)
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device) if track_running_stats else None)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        r"""Forget what was seen: mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        r"""Begin again: scale 1, shift 0, nothing seen."""
        super().reset_parameters()
        if "running_mean" in self._buffers:  # not yet, when the parameters are made
            self.reset_running_stats()

    def check(self, input: Tensor, channels: int = 1) -> None:
        r"""Refuse input of another form; dimension ``channels`` is that of the channels."""
        if input.dim() not in self.forms:
            name, forms = type(self).__name__, " or ".join(self.forms.values())
            raise ValueError(f"{name}: input must be {forms}, got {input.dim()} dimensions, {tuple(input.shape)}")
        if input.size(channels) != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input must have num_features = {self.num_features} channels in dimension "
                f"{channels}, got {input.size(channels)}, shape {tuple(input.shape)}"
            )
        check_type(input, self.weight if self.weight is not None else self.running_mean)

    def check_several(self, x: Tensor) -> None:
        r"""Refuse a single number to a mean, in torch's words: it has no variance."""
        if math.prod([length for dim, length in enumerate(x.shape) if dim not in self.kept]) == 1:
            raise ValueError(f"Expected more than 1 {self.several} when training, got input size {x.size()}")

    def formula(self, input: Tensor) -> Tensor:
        r"""The norm of ``input``, as one reads it; it has a batch dimension."""
        x = wide(input)
        if self.own_moments():
            self.check_several(x)
            mean, variance = moments(x, [dim for dim in range(x.dim()) if dim not in self.kept])
            if self.training and self.track_running_stats:
                self.track(mean, variance, x.numel())
        else:
            mean, variance = (along(running, x) for running in (self.running_mean, self.running_var))
        return self.scaled(standardize(x, mean, variance, self.eps), channels=True).to(input.dtype)

    def own_moments(self) -> bool:
        r"""Whether the input is standardised by its own moments, not by the running ones."""
        return self.training or self.running_mean is None

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, numbers: int) -> None:
        r"""Move the running statistics by :math:`m` towards a batch's; the variance's estimate divides by n - 1."""
        m = self.count_batch()
        if self.running_mean is not None and self.running_var is not None and numbers:
            n = numbers // mean.numel()
            self.running_mean.lerp_(mean.mean(0).flatten().to(self.running_mean), m)
            self.running_var.lerp_((variance * n / (n - 1)).mean(0).flatten().to(self.running_var), m)

    def count_batch(self) -> float:
        r"""Count a batch of training; the weight :math:`m` that the running statistics give to it."""
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean over all batches so far
                return 1 / float(self.num_batches_tracked)
        return self.momentum or 0.0

    def extra_repr(self) -> str:
        r"""The options, as torch prints them."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any], *rest: Any
    ) -> None:
        name, count = prefix + "num_batches_tracked", self.num_batches_tracked
        if (local_metadata.get("version") or 1) < 2 and name not in state_dict and count is not None:
            state_dict[name] = torch.tensor(0) if count.is_meta else count  # a file from before torch counted
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)  # pyright: ignore


class LastNorm(Norm):
    r"""The base of layer norm and RMS norm: the last dimensions of the input, with a parameter for each number there.

    Args:
        normalized_shape: the last dimension, or the last dimensions, of the input.
        eps, bias, device, dtype: as for :class:`Norm`.
        elementwise_affine: whether there are parameters.

    Raises:
        ValueError: a length is < 1, there is none, or ``eps`` is negative. TypeError: one is no whole number.

    >>> LastNorm(3, 1e-5, True, True).normalized_shape
    (3,)
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None, elementwise_affine: bool, bias: bool,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        if not shape:
            raise ValueError("normalized_shape must have one dimension at least, got ()")
        for length in shape:
            check_whole("normalized_shape", length)
        super().__init__(shape, eps, elementwise_affine, bias, device, dtype)
        self.normalized_shape, self.elementwise_affine = shape, elementwise_affine
        self.dims = [*range(-len(shape), 0)]  # what is averaged over

    def check(self, input: Tensor) -> None:
        r"""Refuse input that does not end in ``normalized_shape``."""
        shape = tuple(input.shape)
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            name = type(self).__name__
            wanted = ", ".join(map(str, self.normalized_shape))
            raise ValueError(f"{name}: input must be (…, {wanted}), got shape {shape}")
        check_type(input, self.weight)

    def extra_repr(self) -> str:
        r"""The options, as torch prints them."""
        bias = "" if self.weight is None else f", bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}{bias}"


def along(numbers: Any, x: Tensor) -> Tensor:
    r"""One number for each channel, in a shape that meets dimension 1 of ``x``.

    >>> along(torch.ones(3), torch.ones(2, 3, 4, 4)).shape
    torch.Size([3, 1, 1])
    """
    return numbers.view(-1, *[1] * (x.dim() - 2))


def check_type(input: Tensor, weight: Tensor | None) -> None:
    r"""Refuse input that torch's kernels do not take: whole numbers, or another precision than the weight's.

    Raises:
        TypeError: ``input`` is not of floating point, or neither of the weight's dtype nor of 16 bits beside a float32
            weight. A GPU's autocast casts by itself, and there any two go together.

    >>> check_type(torch.arange(3), None)
    Traceback (most recent call last):
    ...
    TypeError: input must be of floating point, got torch.int64: write input.float()
    """
    if not input.is_floating_point():
        raise TypeError(f"input must be of floating point, got {input.dtype}: write input.float()")
    if weight is None or weight.dtype == input.dtype or (input.itemsize == 2 and weight.dtype == torch.float32):
        return
    if input.device.type == "cpu" or not torch.is_autocast_enabled(input.device.type):
        raise TypeError(f"input must be {weight.dtype}, as the weight is, got {input.dtype}")


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    r"""Torch's group norm, right far from zero for ``channels_last`` on a CPU too.

    There the kernel makes a single pass over the numbers, and its :math:`\overline{x^2} - \mu^2` rounds to nothing: at
    10,000 the result is off by a thousand. So it is given :math:`x - \mu`, which has the same norm and gradients.

    >>> x = (10_000 + torch.arange(4.0)).view(1, 1, 2, 2)
    >>> group_norm(x.to(memory_format=torch.channels_last), 1, None, None, 1e-5).flatten()
    tensor([-1.3416, -0.4472,  0.4472,  1.3416])
    """
    if x.dim() > 3 and x.is_cpu and x.stride(1) == 1:  # 3: without spatial dimensions, or with one, it is never so
        mean = x.detach().mean([*range(2, x.dim())], keepdim=True).unflatten(1, (groups, -1))
        x = x - mean.mean(2, keepdim=True).expand_as(mean).flatten(1, 2)
    return F.group_norm(x, groups, weight, bias, eps)
