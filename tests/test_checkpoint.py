import os
import pickle

import pytest
import torch
from torch import nn

from dlnotes import checkpoint
from dlnotes.checkpoint import CheckpointError, load, save
from dlnotes.pretrained import load_pretrained

STATE = {"step": 3, "model": {"w": torch.arange(1000.0)}, "rest": [1, 2.5, "x", None, (True,)]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "run.pt"


def test_round_trip(path):
    save(path, STATE)
    content = load(path)
    torch.testing.assert_close(content["model"]["w"], STATE["model"]["w"], rtol=0, atol=0)
    assert (content["step"], content["rest"]) == (3, [1, 2.5, "x", None, (True,)])
    assert os.listdir(path.parent) == ["run.pt"]  # no temporary file is left


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(path, keep):
    save(path, STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"run\.pt: (truncated|damaged)"):
        load(path)


def test_a_flipped_bit_is_found(path):
    save(path, STATE)
    whole = bytearray(path.read_bytes())
    whole[whole.find(torch.arange(1000.0).numpy().tobytes()) + 2003] ^= 1  # inside the weights
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="checksum"):
        load(path)


class Malicious:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_foreign_files_are_refused_and_run_no_code(path, monkeypatch):
    path.parent.mkdir()
    torch.save({"format": checkpoint.FORMAT, "x": Malicious()}, path)
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("code from a file was run"))
    with pytest.raises(CheckpointError, match="Python objects"):
        load(path)
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(CheckpointError, match=r"truncated, or not written by torch\.save"):
        load(path)
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of dlnotes"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*other\.pt"):
        load(path.with_name("other.pt"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"model": {"w": torch.tensor([1.0, float("nan")])}}, r"model\.w holds NaN"),
        ({"optimizer": [torch.tensor(float("inf"))]}, r"optimizer\.0 holds NaN or inf"),
        ({"hook": object()}, "could not be read back"),
        ({"hook": lambda: 1}, "cannot be saved"),
    ],
)
def test_what_is_refused_leaves_the_good_file(path, bad, message):
    save(path, STATE)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        save(path, bad)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.pt"]


def test_a_crash_while_writing_leaves_the_good_file(path, monkeypatch):
    save(path, STATE)
    before = path.read_bytes()

    def full_disk(content, name):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(path, STATE)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.pt"]


def test_minus_infinity_is_kept_because_masks_hold_it(path):
    mask = torch.full((2, 2), float("-inf")).triu(1)
    save(path, {"model": {"mask": mask}})
    assert torch.equal(load(path)["model"]["mask"], mask)


def test_pretrained_from_each_kind_of_source(path):
    old = nn.Linear(2, 3)
    save(path, {"model": old.state_dict()})
    bare = path.with_name("bare.pt")
    torch.save(old.state_dict(), bare)
    for source in (path, str(bare), old.state_dict()):
        new = nn.Linear(2, 3)
        assert load_pretrained(new, source) == ["weight", "bias"]
        assert torch.equal(new.weight, old.weight)
        assert torch.equal(new.bias, old.bias)


def make(classes, hidden=4):
    return nn.ModuleDict({"body": nn.Linear(2, hidden), "head": nn.Linear(hidden, classes)})


def test_pretrained_lists_every_mismatch_and_changes_nothing():
    old, new = make(3), make(5)
    state = old.state_dict()
    del state["body.bias"]
    state["extra"] = torch.ones(1)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(new, state)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: body.bias",
        "  shape of head.bias: (3,) given, (5,) expected",
        "  shape of head.weight: (3, 4) given, (5, 4) expected",
        "  unexpected: extra",
    ]
    assert all(torch.equal(value, before[name]) for name, value in new.state_dict().items())


def test_pretrained_skips_what_it_is_told_and_no_more():
    old, new = make(3), make(5)
    head = new["head"].weight.clone()
    assert load_pretrained(new, old.state_dict(), skip=("head.",)) == ["body.weight", "body.bias"]
    assert torch.equal(new["body"].weight, old["body"].weight)
    assert torch.equal(new["head"].weight, head)
    with pytest.raises(ValueError, match="skip: no name starts with 'haed'"):
        load_pretrained(new, old.state_dict(), skip=("haed",))
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load_pretrained(new, old.state_dict(), skip=("body.",))


def test_pretrained_refuses_what_is_no_state_dict(path):
    path.parent.mkdir()
    torch.save([torch.ones(1)], path)
    with pytest.raises(CheckpointError, match="holds a list, not a state dict"):
        load_pretrained(make(2), path)
