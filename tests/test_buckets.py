import random

import pytest
import torch
from torch.utils.data import DataLoader

from dlnotes.buckets import BucketSampler, collate, pad


def lengths(count=500, seed=0):
    rng = random.Random(seed)
    return [(n := rng.randint(1, 30), max(0, n + rng.randint(-3, 3))) for _ in range(count)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("max_tokens", [1, 40, 300, 10**6])
def test_every_pair_comes_once_within_the_budget(shuffle, max_tokens):
    pairs = lengths()
    sampler = BucketSampler(pairs, max_tokens, shuffle)
    for _ in range(3):
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(pair for batch in batches for pair in batch) == list(range(len(pairs)))
        for batch in batches:
            longest = max(max(pairs[pair]) for pair in batch)
            assert len(batch) * longest <= max_tokens or len(batch) == 1


def test_little_is_padding():
    pairs = lengths()

    def padding(batches):
        places = sum(len(batch) * max(pairs[pair][side] for pair in batch) for batch in batches for side in (0, 1))
        return 1 - sum(map(sum, pairs)) / places

    order = torch.randperm(len(pairs)).tolist()
    assert padding([order[i : i + 20] for i in range(0, len(order), 20)]) > 0.4
    assert padding(BucketSampler(pairs, 600)) < 0.15


def test_the_order_is_random_and_can_be_had_again():
    def drawn(seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        sampler = BucketSampler(lengths(), 200, generator=generator)
        return list(sampler), list(sampler)

    first, second = drawn(0)
    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert (first, second) == drawn(0)
    torch.manual_seed(1)
    shared = drawn()
    torch.manual_seed(1)
    assert shared == drawn()
    assert shared[0] != shared[1]


def test_in_a_data_loader():
    pairs = [([4] * s, [5] * t) for s, t in lengths(50)]
    sampler = BucketSampler([(len(s) + 1, len(t) + 1) for s, t in pairs], 100)
    loader = DataLoader(pairs, batch_sampler=sampler, collate_fn=collate)
    for source, read, written in loader:
        assert source.numel() <= 100 or len(source) == 1
        assert read.shape == written.shape
    assert len(loader) == len(sampler)


def test_source_read_and_written():
    source, read, written = collate([([7, 8, 9], [4]), ([7], [5, 6]), ([], [])])
    assert source.tolist() == [[7, 8, 9, 2], [7, 2, 0, 0], [2, 0, 0, 0]]
    assert read.tolist() == [[1, 4, 0], [1, 5, 6], [1, 0, 0]]
    assert written.tolist() == [[4, 2, 0], [5, 6, 2], [2, 0, 0]]
    assert read.dtype == torch.int64


def test_padding():
    assert pad([[1], [2, 3]], value=-1).tolist() == [[1, -1], [2, 3]]
    assert pad([]).shape == (0, 0)
    assert pad([[], []]).shape == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "lengths must hold a pair"),
        (([(1, 2), (3, -1)],), r"lengths must be >= 0, got \(3, -1\)"),
        (([(1, 2)], 0), "max_tokens must be >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BucketSampler(*arguments)
