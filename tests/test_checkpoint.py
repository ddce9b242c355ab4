import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes import archive, checkpoint
from dlnotes.checkpoint import OLD_FORMAT, CheckpointError, fault, load, read, save

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
        ({"hook": object()}, "hook is of type object; only tensors"),
        ({"hook": lambda: 1}, "hook is of type function; only tensors"),
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_number_is_found_wherever_it_stands(dtype, value):
    for length, at in ((1, 0), (70, 69), (1000, 513), (100_000, 77_777)):
        tensor = torch.zeros(length, dtype=dtype)
        assert fault(tensor) is None
        tensor[at] = value
        assert fault(tensor) == "holds NaN or inf"
        assert fault(tensor[: at + 1].view(1, -1).expand(3, -1).t()) == "holds NaN or inf"
    assert fault(torch.zeros(0, dtype=dtype)) is None


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_bad_complex_number_is_found_in_either_part(path, dtype):
    for value in (complex("nan"), complex(0, float("nan")), complex(0, float("inf")), complex(float("-inf"), 0)):
        for tensor in (torch.tensor([1, value], dtype=dtype), torch.tensor([1, value], dtype=dtype).conj()):
            with pytest.raises(CheckpointError, match="not written, because phase holds NaN or inf"):
                save(path, {"phase": tensor})
    good = torch.tensor([1 + 2j, -3j], dtype=dtype)
    save(path, {"phase": good, "turned": good.conj()})
    assert torch.equal(load(path)["turned"], good.conj())


SMALL_FLOATS = [name for name in dir(torch) if name.startswith("float8_")]


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_eight_bit_floats_are_kept_and_their_nans_found(path, name):
    dtype = getattr(torch, name)
    good = torch.tensor([0.5, 1.0, 2.0]).to(dtype)
    save(path, {"w": good})
    assert torch.equal(load(path)["w"].view(torch.uint8), good.view(torch.uint8))
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    for value in every:
        bad = not value.float() < float("inf")
        assert fault(value.clone()) == ("holds NaN or inf" if bad else None)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no four-bit floats")
def test_four_bit_floats_are_kept(path):
    every = torch.arange(256, dtype=torch.uint8)
    save(path, {"w": every.view(torch.float4_e2m1fn_x2)})
    assert torch.equal(load(path)["w"].view(torch.uint8), every)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls these kinds of tensor beta, prototype or deprecated
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.eye(3).to_sparse(), "is sparse_coo, not dense"),
        (lambda: torch.eye(3).to_sparse_csr(), "is sparse_csr, not dense"),
        (lambda: torch.empty(3, device="meta"), "is on the meta device and has no values"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is nested, not dense"),
        (
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            "is nested, not dense",
        ),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "is quantised"),
    ],
)
def test_a_tensor_that_is_not_dense_is_named(path, make, reason):
    save(path, STATE)
    with pytest.raises(CheckpointError, match=rf"run\.pt: not written, because model\.0\.w {reason}"):
        save(path, {"model": [{"w": make()}]})
    assert load(path)["step"] == 3


class Thing(dict):
    pass


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"hooks": [{}, {"best": np.float64(0.5)}]}, r"hooks\.1\.best is of type numpy\.float64; only tensors"),
        ({"hooks": {"a": np.arange(3)}}, r"hooks\.a is of type numpy\.ndarray"),
        ({"hooks": {np.int64(3): 1}}, r"the key hooks\.3 is of type numpy\.int64"),
        ({"a": [1, (2, Path("x"))]}, r"a\.1\.1 is of type pathlib\.\w*Path"),
        ({"a": {"b": Thing()}}, r"a\.b is of type test_checkpoint\.Thing"),
        ({"a": Pair(1, 2)}, r"a is of type test_checkpoint\.Pair"),
        ({"a": [defaultdict(list)]}, r"a\.0 is of type collections\.defaultdict"),
        ({"f": [print, lambda: 1]}, r"f\.0 is of type builtin_function_or_method"),
        ({"f": [1, lambda: 1]}, r"f\.1 is of type function"),
        ({"f": [threading.Lock()]}, r"f\.0 is of type _thread\.lock"),
        ({"big": [10**1000]}, r"big\.0 is of type int"),
    ],
)
def test_what_loading_would_refuse_is_named(path, bad, named):
    with pytest.raises(CheckpointError, match=named):
        save(path, {"fine": [1, OrderedDict(x=torch.Size([2]), y=torch.float16, z=torch.device("cpu"))], **bad})
    assert not path.parent.exists()


def test_any_error_of_an_object_is_told_as_its_name(path):
    class Broken:
        def __reduce__(self):
            raise ZeroDivisionError("no")

    with pytest.raises(CheckpointError, match=r"x is of type \S*Broken"):
        save(path, {"x": Broken()})


def test_states_that_are_no_state(path):
    with pytest.raises(TypeError, match="state"):
        save(path, [torch.ones(1)])
    with pytest.raises(CheckpointError, match="the key 'format' is taken"):
        save(path, {"format": "mine"})
    circle = {}
    circle["circle"] = circle
    with pytest.raises(CheckpointError, match="nested too deep, or in itself"):
        save(path, circle)
    with pytest.raises(CheckpointError, match="the state cannot be saved"):
        save(
            path,
            {
                "w": [torch.zeros(4), torch.zeros(4).view(torch.int32)],
                "x": (t := torch.ones(2)),
                "y": t.view(torch.int32),
            },
        )
    save(path, STATE)
    save(path, load(path))  # what was loaded may be saved again


def test_a_save_needs_no_memory_for_the_tensors(path):
    # Reading it back would take as much as the tensor, looking for NaN by comparison a quarter of it.
    code = """
import resource, sys, torch
from dlnotes.checkpoint import save
state = {"w": torch.ones(50_000_000)}
save(sys.argv[1], {"w": torch.ones(1)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save(sys.argv[1], state)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 ** (1 + (sys.platform == "darwin")))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50  # MB, beside the tensor's 200


# ---- files that are something else


def test_what_is_no_file_is_said(path):
    path.mkdir(parents=True)
    for action in (load, lambda p: save(p, STATE)):
        with pytest.raises(IsADirectoryError, match=r"run\.pt"):
            action(path)
    os.mkfifo(path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load(path / "pipe")


def rezip(path, change, **options):
    """The archive at ``path`` written again, each entry's (info, bytes) changed."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = options.get("compression", zipfile.ZIP_STORED)
            content = change(info, content)
            if content is not None:
                archive.writestr(info, content)
                info.external_attr &= 0o77  # ZipFile sets a mode on writing; torch has none


def test_each_kind_of_foreign_file_gets_its_own_words(path):
    path.parent.mkdir()
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(CheckpointError, match="an empty zip archive, but not one of torch.save"):
        load(path)
    np.savez(path.with_suffix(".npz"), a=np.ones(3))
    with pytest.raises(CheckpointError, match="a zip archive, but not one of torch.save"):
        load(path.with_suffix(".npz"))
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="not a checkpoint of dlnotes; a bare state dict goes to load_pretrained"):
        load(path)
    assert torch.equal(read(path)["w"], torch.ones(2))
    torch.save(nn.Linear(2, 1), path)
    with pytest.raises(
        CheckpointError, match=r"Python objects, or a newer torch \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        load(path)
    torch.save({"w": np.float64(1)}, path)
    with pytest.raises(CheckpointError, match=r"Python objects \(numpy\S+scalar\); only tensors and plain data"):
        load(path)


def test_a_compressed_bomb_is_refused_unopened(path, monkeypatch):
    save(path, {"w": torch.zeros(1000)})
    rezip(path, lambda info, content: content)
    assert len(load(path)["w"]) == 1000  # stored again without compression it is still one of torch's
    rezip(
        path,
        lambda info, content: content * (100 if "/data/" in info.filename else 1),
        compression=zipfile.ZIP_DEFLATED,
    )
    monkeypatch.setattr(archive, "_compare", lambda *_: pytest.fail("an entry was read"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch was asked"))
    with pytest.raises(CheckpointError, match="is compressed; torch.save never does that"):
        load(path)


def test_entries_that_overlap_are_refused(path, monkeypatch):
    save(path, {"w": torch.zeros(1000)})
    whole = path.read_bytes()
    at = whole.find(b"PK\x01\x02")  # every further entry would cost the time of another checksum
    first = whole[at : whole.find(b"PK\x01\x02", at + 4)]
    end = whole.rfind(b"PK\x05\x06")
    entries = whole[at : whole.find(b"PK\x06\x06") if b"PK\x06\x06" in whole else end]
    many = entries + first * 60_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 60_000, 60_000, len(many), at, 0)
    path.write_bytes(whole[:at] + many + tail)
    monkeypatch.setattr(archive, "_compare", lambda *_: pytest.fail("an entry was read"))
    with pytest.raises(CheckpointError, match="entries overlap|truncated"):
        load(path)


def op(text):
    """A pickle that calls one of the functions that are allowed with the arguments given."""
    return b"\x80\x02" + text + b"."


PICKLES = {
    "empty": b"",
    "stop": b".",
    "pop from nothing": op(b"0"),
    "item of nothing": op(b"s"),
    "memo that is not there": op(b"h\x07"),
    "item of a number": op(b"K\x01K\x02K\x03s"),
    "append to a number": op(b"K\x01K\x02a"),
    "unhashable key": op(b"}]K\x01s"),
    "a number too long for its bytes": op(b"J\x01"),
    "float cut": op(b"G\x00\x00"),
    "text that is none": op(b"X\x02\x00\x00\x00\xff\xfe"),
    "text longer than the file": op(b"X\xff\xff\xff\x7fab"),
    "more memory than there is": op(b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x40\x85R"),
    "a size beyond all": op(b"cbuiltins\nbytearray\n\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85R"),
    "a tensor of nothing": op(b"ctorch._utils\n_rebuild_tensor_v2\n)R"),
    "a tensor of numbers": op(b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04K\x05tR"),
    "a persistent thing that is none": op(b"K\x01Q"),
    "a persistent thing too short": op(b"(X\x07\x00\x00\x00storagetQ"),
    "a mark missing": op(b"t"),
    "nested ten thousand deep": op(b"]" * 10_000 + b"a" * 9_999),
    "a call of what is no function": op(b"K\x01)R"),
    "state for a number": op(b"K\x01}b"),
    "an opcode of a later protocol": op(b"\x95\x00\x00\x00\x00\x00\x00\x00\x00"),
    "a name with no module": op(b"c\n\n"),
    "a module that is not there": op(b"cnowhere\nthing\n"),
    "a device of no kind": op(b"ctorch\ndevice\nX\x02\x00\x00\x00??\x85R"),
    "a size of texts": op(b"ctorch\nSize\n(X\x01\x00\x00\x00at\x85R"),
}


@pytest.mark.parametrize("words", PICKLES)
@pytest.mark.parametrize("old", [False, True])
def test_crafted_pickles_are_refused(path, words, old):
    path.parent.mkdir()
    if old:
        torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[: len(OLD_FORMAT)] + PICKLES[words])
    else:
        torch.save({"w": torch.ones(1)}, path)
        rezip(path, lambda info, content: PICKLES[words] if info.filename.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match=r"run\.pt: ") as caught:
        load(path)
    assert "weights_only" not in str(caught.value)  # torch advises to turn the protection off


def test_a_tensor_longer_than_its_entry_is_refused(path):
    # torch 2.6 believes the pickle and hands out the memory behind the entry.
    path.parent.mkdir()
    torch.save({"w": torch.arange(4.0)}, path)

    def lengthen(info, content):
        if not info.filename.endswith("data.pkl"):
            return content
        longer = content.replace(b"K\x04tq", b"J\x40\x42\x0f\x00tq", 1)  # a million numbers in the storage
        assert longer != content
        return longer

    rezip(path, lengthen)
    with pytest.raises(CheckpointError, match=r"longer or shorter than its entry|record size"):
        load(path)
