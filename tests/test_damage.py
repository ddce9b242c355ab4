"""Damaged files: each is refused with a CheckpointError or gives what was saved, never anything else.

DLNOTES_DAMAGE=20 makes twenty times as many: 20,000 flipped bits, 10,000 overwritten stretches, 2,000 blocks, and
every length to which the file can be cut.
"""

import os
import random

import pytest
import torch

from dlnotes.checkpoint import OLD_FORMAT, CheckpointError, load, read, save

SCALE = int(os.environ.get("DLNOTES_DAMAGE", "1"))


def state():
    torch.manual_seed(0)
    return {
        "step": 3,
        "model": {"w": torch.randn(40), "b": torch.randn(3, 5).bfloat16(), "mask": torch.rand(7) < 0.5},
        "optimizer": {"state": {0: {"step": torch.tensor(4.0), "empty": torch.empty(0)}}, "groups": [[0.1, None]]},
        "text": "é",
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def file(tmp_path):
    save(tmp_path / "a.pt", state())
    return tmp_path / "a.pt"


def judge(file, damaged, reader=load):
    """The damaged bytes are refused, or read as what was saved."""
    content = attempt(file, damaged, reader)
    if content is None:
        return "refused"
    content.pop("format", None)
    assert same(content, state()), "loaded, and is not what was saved"
    return "harmless"


def attempt(file, damaged, reader):
    """What the damaged file gives, or None if it is refused by name; any other error is the test's."""
    file.write_bytes(damaged)
    try:
        return reader(file)
    except CheckpointError as error:
        message = str(error)
    assert str(file) in message
    return None


def flip(whole, draw):
    damaged = bytearray(whole)
    damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
    return damaged


def overwrite(whole, draw):
    damaged, at = bytearray(whole), draw.randrange(len(whole))
    stretch = damaged[at : at + draw.choice([1, 2, 4, 8, 64, 512])]
    damaged[at : at + len(stretch)] = draw.randbytes(len(stretch))
    return damaged


def block(whole, draw):
    at, length = draw.randrange(len(whole)), draw.choice([1, 16, 64, 512, 4096])
    put = draw.choice([bytes(len(whole[at : at + length])), b"", whole[at : at + length] + draw.randbytes(length)])
    return whole[:at] + put + whole[at + length :]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "count"), [(flip, 1000), (overwrite, 500), (block, 100)])
def test_damage_is_refused_or_harmless(file, damage, count):
    whole, draw = file.read_bytes(), random.Random(0)
    results = [judge(file, damage(whole, draw)) for _ in range(count * SCALE)]
    assert results.count("refused") > count * SCALE / 4  # the others hit padding, dates and the like


def test_every_length_is_refused(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), max(1, 20 // SCALE)):
        assert judge(file, whole[:length]) == "refused"


def test_bits_that_make_torch_skip_a_tensor_are_refused(file):
    # The directory bit in an entry's attributes: torch's own reader copies nothing and gives uninitialised memory.
    whole, at, seen = file.read_bytes(), 0, 0
    while (at := whole.find(b"PK\x01\x02", at) + 1) > 0:
        damaged = bytearray(whole)
        damaged[at - 1 + 38] ^= 0x10
        assert judge(file, damaged) == "refused"
        seen += 1
    assert seen >= 8


def test_old_files_are_refused_when_cut(file):
    # torch's format before 1.6 has no checksums: a flipped bit goes unseen, a missing part does not.
    torch.save(state(), file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    assert whole.startswith(OLD_FORMAT)
    assert same(read(file), state())
    for length in range(0, len(whole), max(1, 40 // SCALE)):
        assert judge(file, whole[:length], read) == "refused"
    draw = random.Random(0)
    for _ in range(300 * SCALE):
        attempt(file, overwrite(whole, draw), read)
