r"""Where a word stands, told to attention, which by itself does not know: sinusoidal, learned, rotary positions."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dlnotes.arguments import check_whole


def sinusoidal(
    positions: Tensor, width: int, base: float = 10000.0, *, dtype: torch.dtype | None = None
) -> Float[Tensor, "*shape {width}"]:
    r"""A wave of every length at the place of the word, to be added to its vector.

    .. math:: PE(t)_{2i} = \sin(\omega_i t), \quad PE(t)_{2i+1} = \cos(\omega_i t), \qquad \omega_i = b^{-2i/d}

    An odd width ends with a sine.

    Args:
        positions: :math:`t`, of any shape, integers or not, negative ones too.
        width: :math:`d`.
        base: :math:`b`, default 10000: the slowest wave is about :math:`2\pi b` words long.
        dtype: of the result, default torch's default. The angles are float64 before (float32 where the device lacks
            it), so that distant places keep their phase.

    Raises:
        ValueError, TypeError: ``width`` is no whole number from 1, ``base`` is not greater than 0 and finite.

    Source: Vaswani et al., *Attention Is All You Need* (2017), section 3.5.

    >>> sinusoidal(torch.arange(2), width=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    check_whole("width", width)
    angles = _angles(positions, width, base)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]
    return waves.to(torch.get_default_dtype() if dtype is None else dtype)


def shift_matrix(offset: float, width: int, base: float = 10000.0) -> Float[Tensor, "{width} {width}"]:
    r"""The rotation that moves every sinusoidal position on: :math:`PE(t + k) = R_k\, PE(t)`, for all :math:`t`.

    .. math:: R_k = \operatorname{diag}(R_{k,0}, R_{k,1}, \dots), \qquad
        R_{k,i} = \begin{pmatrix} \cos\omega_i k & \sin\omega_i k \\ -\sin\omega_i k & \cos\omega_i k \end{pmatrix}

    Args:
        offset: :math:`k`.
        width: of the positions, even: a sine alone cannot be moved on.
        base: as for :func:`sinusoidal`.

    Raises:
        ValueError, TypeError: ``width`` is odd or no whole number from 1, ``base`` is not greater than 0 and finite.

    >>> shift_matrix(1, 2)
    tensor([[ 0.5403,  0.8415],
            [-0.8415,  0.5403]])
    >>> torch.allclose(shift_matrix(3, 6) @ sinusoidal(torch.tensor(4), 6), sinusoidal(torch.tensor(7), 6))
    True
    """
    check_whole("width", width)
    _check_even("width", width)
    angles = _angles(torch.tensor(offset), width, base)
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([torch.stack([cos, sin], dim=-1), torch.stack([-sin, cos], dim=-1)], dim=-2)
    return torch.block_diag(*blocks).to(torch.get_default_dtype())


def rotate(
    x: Float[Tensor, "*batch length width"], positions: Tensor | None = None, base: float = 10000.0
) -> Float[Tensor, "*batch length width"]:
    r"""Rotary positions: each pair of a query's or key's coordinates turned by an angle that grows with its place.

    .. math:: \begin{pmatrix} x'_{2i} \\ x'_{2i+1} \end{pmatrix} =
        \begin{pmatrix} \cos\omega_i t & -\sin\omega_i t \\ \sin\omega_i t & \cos\omega_i t \end{pmatrix}
        \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix}, \qquad \omega_i = b^{-2i/d}

    A query at :math:`t` and a key at :math:`s` so turned have a product that depends on :math:`t - s` alone.

    Args:
        x: queries or keys, (..., length, width).
        positions: :math:`t`, must broadcast to x without its width. Default 0, 1, 2, …
        base: :math:`b`, default 10000.

    Raises:
        ValueError: the width is odd, positions do not fit, ``base`` is not greater than 0 and finite.

    Neighbours form the pairs, as in the paper. LLaMA's code, as many libraries hold it, pairs coordinate :math:`i`
    with :math:`i + d/2`: their weights need the columns in another order. Computed in float32 or better.

    Source: Su et al., *RoFormer* (2021), section 3.4.2.

    >>> rotate(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """
    if x.dim() < 2:
        raise ValueError(f"x must have the shape (..., length, width), got {tuple(x.shape)}")
    _check_even("the width of x", x.shape[-1])
    places = torch.arange(x.shape[-2], device=x.device) if positions is None else positions
    fits = zip(places.shape[::-1], x.shape[-2::-1], strict=False)
    if places.dim() >= x.dim() or any(m not in (1, n) for m, n in fits):
        raise ValueError(f"positions must broadcast to {tuple(x.shape[:-1])}, got {tuple(places.shape)}")
    exact = torch.promote_types(x.dtype, torch.float32)
    angles = _angles(places, x.shape[-1], base)
    cos, sin = angles.cos().to(exact), angles.sin().to(exact)
    even, odd = x[..., 0::2].to(exact), x[..., 1::2].to(exact)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


class LearnedPositions(nn.Embedding):
    r"""A table of vectors, one for each place, that are learned.

    Args:
        num_embeddings: places in the table; there is none beyond.
        embedding_dim: width of a vector.
        and all others of :class:`torch.nn.Embedding`, whose state dict this has.

    Raises:
        IndexError: a position past the table, or negative. A compiled module leaves that to the compiler's own check.
        TypeError: positions that are not whole.

    >>> table = LearnedPositions(100, 8)
    >>> table(torch.arange(3)).shape
    torch.Size([3, 8])
    >>> table(torch.tensor([100]))
    Traceback (most recent call last):
    ...
    IndexError: positions must be from 0 to 99, where the table ends, got 100
    """

    def forward(self, input: Tensor) -> Tensor:
        r"""The vectors at these positions, (...) to (..., embedding_dim)."""
        if input.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"positions must be int32 or int64, got {input.dtype}")
        if input.numel() and not torch.compiler.is_compiling():
            low, high = int(input.min()), int(input.max())
            if low < 0 or high >= self.num_embeddings:
                wrong = low if low < 0 else high
                end = self.num_embeddings - 1
                raise IndexError(f"positions must be from 0 to {end}, where the table ends, got {wrong}")
        return super().forward(input)


def count_positions(mask: Bool[Tensor, "*batch width"]) -> Int[Tensor, "*batch width"]:
    r"""The positions of tokens among padding, each sentence's own from 0, so that it does not matter where padding is.

    Args:
        mask: where a token stands, as :func:`dlnotes.attention.padding_mask` tells.

    Returns:
        The position; of padding that of the token before it, 0 if there is none.

    >>> count_positions(torch.tensor([[False, False, True, True, True]]))
    tensor([[0, 0, 0, 1, 2]])
    """
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """(..., half the width, rounded up): the wave's angle for every place and pair of columns."""
    if not 0 < base < math.inf:
        raise ValueError(f"base must be > 0 and finite, got {base}")
    exact = torch.float32 if positions.device.type == "mps" else torch.float64
    rates = base ** (-torch.arange(0, width, 2, dtype=exact, device=positions.device) / width)
    return positions.to(exact)[..., None] * rates


def _check_even(name: str, width: int) -> None:
    if width % 2:
        raise ValueError(f"{name} must be even, since its columns turn in pairs, got {width}")
