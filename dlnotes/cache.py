r"""What a decoder remembers between two tokens: the keys and values that its attentions have projected already."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlnotes.arguments import check_whole


class KeyValues:
    r"""The keys and values of one attention, for :class:`~dlnotes.multihead.MultiHeadAttention`'s ``cache``.

    Args:
        fixed: whether the first call's keys and values are all that there will ever be, as those of a source sentence;
            later calls then project the query alone. Default False: each call's are added after the earlier ones.

    Attributes:
        key, value: (N, heads, length, head width), or ``None`` before the first call.

    >>> cache = KeyValues()
    >>> for token in range(3):
    ...     key, value = cache.extend(torch.zeros(2, 4, 1, 8), torch.zeros(2, 4, 1, 8))
    >>> len(cache), key.shape
    (3, torch.Size([2, 4, 3, 8]))
    """

    def __init__(self, fixed: bool = False):
        self.fixed = fixed
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.key is None else self.key.shape[2]

    def __repr__(self) -> str:
        shape = None if self.key is None else tuple(self.key.shape)
        return f"KeyValues(fixed={self.fixed}, key={shape})"

    @property
    def complete(self) -> bool:
        r"""Whether nothing more will come: it is ``fixed`` and filled."""
        return self.fixed and self.key is not None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        r"""Put these behind what is there, and return all.

        Raises:
            ValueError: it is complete, or there are other sentences in it, of other heads.
        """
        if self.complete:
            raise ValueError("the cache is fixed and filled: nothing can be added")
        if self.key is not None and self.value is not None:
            for name, old, new in (("key", self.key, key), ("value", self.value, value)):
                if (*old.shape[:2], old.shape[3]) != (*new.shape[:2], new.shape[3]):
                    kept, got = tuple(old.shape), tuple(new.shape)
                    raise ValueError(f"{name} must be (N, heads, length, width) as in the cache, {kept}, got {got}")
            key, value = torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)
        self.key, self.value = key, value
        return key, value

    def select(self, rows: Tensor | Sequence[int]) -> None:
        r"""Go on with these sentences, in this order; one may come more than once, as in a beam."""
        if self.key is not None and self.value is not None:
            dtype = None if isinstance(rows, Tensor) or rows else torch.long  # of no rows torch does not know it
            rows = torch.as_tensor(rows, dtype=dtype, device=self.key.device)
            self.key, self.value = self.key.index_select(0, rows), self.value.index_select(0, rows)


class DecoderCache:
    r"""What a :class:`~dlnotes.transformer.TransformerDecoder` remembers, for each layer: of its tokens, of the memory.

    Args:
        num_layers: how many layers it has.

    Attributes:
        layers: pairs of :class:`KeyValues`, of the self-attention and, fixed, of the cross-attention.

    >>> cache = DecoderCache(num_layers=2)
    >>> len(cache), [memory.fixed for own, memory in cache.layers]
    (0, [True, True])
    """

    def __init__(self, num_layers: int):
        check_whole("num_layers", num_layers)
        self.layers = [(KeyValues(), KeyValues(fixed=True)) for _ in range(num_layers)]

    def __len__(self) -> int:
        r"""How many tokens were decoded."""
        return len(self.layers[0][0])

    def select(self, rows: Tensor | Sequence[int]) -> None:
        r"""Go on with these sentences, in this order, and with their memories."""
        for own, memory in self.layers:
            own.select(rows)
            memory.select(rows)

    def reorder(self, rows: Tensor | Sequence[int]) -> None:
        r"""Sentence i goes on as ``rows[i]``, which has the same source: the memory's keys stay where they are."""
        for own, _ in self.layers:
            own.select(rows)
