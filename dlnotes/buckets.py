r"""Batches of sentences of like length, of about as many tokens each, so that little is computed on padding."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from dlnotes.arguments import check_whole
from dlnotes.text import BEGIN, END, PAD

Numbers = Sequence[int]


class BucketSampler(Sampler[list[int]]):
    r"""For a ``DataLoader``'s ``batch_sampler``: sentences of like length, up to ``max_tokens`` places a batch.

    A batch of :math:`n` pairs has :math:`n` times the longest length places on each side, padding included; the longer
    side counts. All batches together hold every pair once. How many there are, and so how many updates an epoch has,
    depends on the lengths alone.

    Args:
        lengths: (source, target) of each pair.
        max_tokens: places in a batch, default 2048; a longer sentence is a batch by itself.
        shuffle: whether pairs of one length meet others, and the batches' order changes, each epoch. Default True.
        generator: of the random order; ``None`` (default): as torch's samplers, one seeded from the shared generator.

    Raises:
        ValueError, TypeError: ``max_tokens`` is below 1 or not whole; there are no lengths, or a negative one.

    >>> sampler = BucketSampler([(2, 3), (9, 9), (3, 2), (9, 8)], max_tokens=18, shuffle=False)
    >>> list(sampler), len(sampler)
    ([[2, 0], [3, 1]], 2)
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        max_tokens: int = 2048,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
    ):
        check_whole("max_tokens", max_tokens)
        if not lengths:
            raise ValueError("lengths must hold a pair (source, target) at least, got none")
        if min(map(min, lengths)) < 0:
            raise ValueError(f"lengths must be >= 0, got {next(pair for pair in lengths if min(pair) < 0)}")
        self.lengths, self.max_tokens, self.shuffle, self.generator = list(lengths), max_tokens, shuffle, generator
        by_length = sorted(range(len(lengths)), key=self._length)
        self._count = len(self._cut(by_length))

    def _length(self, pair: int) -> tuple[int, int]:
        source, target = self.lengths[pair]
        return target, source

    def _cut(self, ordered: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        longest = 0
        for pair in ordered:
            longest = max(longest, *self.lengths[pair])
            if not batches or (len(batches[-1]) + 1) * longest > self.max_tokens:
                batches.append([])
                longest = max(self.lengths[pair])
            batches[-1].append(pair)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            yield from self._cut(sorted(range(len(self.lengths)), key=self._length))
            return
        generator = self.generator
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        pairs: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        batches = self._cut(sorted(pairs, key=self._length))  # stable: those of one length stay shuffled
        order: list[int] = torch.randperm(len(batches), generator=generator).tolist()
        yield from (batches[number] for number in order)

    def __len__(self) -> int:
        return self._count


def pad(sentences: Sequence[Numbers], value: int = PAD) -> Tensor:
    r"""Sentences of numbers as one batch, the short ones filled up at their end: (N, the longest).

    >>> pad([[4, 5, 6], [7]])
    tensor([[4, 5, 6],
            [7, 0, 0]])
    """
    longest = max(map(len, sentences), default=0)
    rows = [[*sentence, *[value] * (longest - len(sentence))] for sentence in sentences]
    return torch.tensor(rows, dtype=torch.long).reshape(len(sentences), longest)


def collate(pairs: Sequence[tuple[Numbers, Numbers]]) -> tuple[Tensor, Tensor, Tensor]:
    r"""A batch to learn from: the source, the target as it is read, and the target as it is to be written.

    The source ends with END. What is read begins with BEGIN, what is to be written ends with END: at every place the
    model sees the tokens before and is asked for the next one.

    Args:
        pairs: the numbers of source and target, without special ones.

    Returns:
        source (N, S), read (N, T), written (N, T), all padded at their ends.

    >>> source, read, written = collate([([7, 8], [4, 5, 6])])
    >>> source.tolist(), read.tolist(), written.tolist()
    ([[7, 8, 2]], [[1, 4, 5, 6]], [[4, 5, 6, 2]])
    """
    source = pad([[*source, END] for source, _ in pairs])
    read = pad([[BEGIN, *target] for _, target in pairs])
    return source, read, pad([[*target, END] for _, target in pairs])
