r"""A model's buffers, kept so that an update which is not made leaves no trace in them."""

import torch
from torch import Tensor, nn

SMALL = 2**16


class Buffers:
    r"""Copies of a model's buffers (the running statistics of batch normalisation, for example), to be put back.

    A forward pass in training mode changes them, and one infinite sample would stay in a running mean for ever. The
    copies cost little: large buffers (over 65,536 numbers: tables, masks) are copied again only when torch has counted
    a change in them. A model without buffers costs nothing. What changes a large buffer through ``.data``, past torch's
    count, is not undone: the buffer then stays as the forward pass left it.

    >>> import torch
    >>> norm = nn.BatchNorm1d(1)
    >>> buffers = Buffers(norm)
    >>> buffers.keep()
    >>> _ = norm(torch.tensor([[1.0], [float("inf")]]))
    >>> buffers.restore()
    >>> norm.running_mean, norm.num_batches_tracked
    (tensor([0.]), tensor(0))
    """

    def __init__(self, model: nn.Module):
        # Modules and names rather than tensors: a forward pass may put another tensor in a buffer's place.
        owners = [(module, name) for module in model.modules() for name, _ in module.named_buffers(recurse=False)]
        self._places = [(module._buffers, name) for module, name in owners]  # pyright: ignore[reportPrivateUsage]
        self._kept: list[tuple[Tensor | None, int, Tensor | None]] = [(None, 0, None)] * len(owners)

    def keep(self) -> None:
        r"""Remember the buffers as they are now."""
        for index, (owner, name) in enumerate(self._places):
            buffer = owner[name]
            kept, version, copy = self._kept[index]
            if buffer is None:
                self._kept[index] = (None, 0, None)
            elif buffer is not kept or copy is None:
                self._kept[index] = (buffer, buffer._version, buffer.detach().clone())
            elif buffer.numel() <= SMALL or buffer._version != version:
                copy.copy_(buffer.detach())
                self._kept[index] = (buffer, buffer._version, copy)

    def restore(self) -> None:
        r"""Put the buffers back as :meth:`keep` saw them."""
        for (owner, name), (kept, version, copy) in zip(self._places, self._kept, strict=True):
            # The copy of a large one may be old: torch's count does not see changes through `.data`.
            if kept is not None and copy is not None and (kept.numel() <= SMALL or kept._version != version):
                _once(kept.detach(), kept).copy_(_once(copy, kept))
            owner[name] = kept


def _once(tensor: Tensor, like: Tensor) -> Tensor:
    r"""Without the repeats that ``like`` has if it is expanded: torch writes to no number that stands for several."""
    if like.layout is torch.strided and not like.is_nested:
        for dim, stride in enumerate(like.stride()):
            if stride == 0 and like.shape[dim] > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor
