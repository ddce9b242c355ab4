import copy
import sys

import pytest
import torch
from torch import nn

from dlnotes.checkpoint import CheckpointError, mismatches, save
from dlnotes.pretrained import load_pretrained


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "run.pt"


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


def unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Anywhere:
    """A path as other libraries make them."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_wrappers_and_paths_of_others_are_known(path):
    path.parent.mkdir()
    old = make(3)
    weights = old.state_dict()
    for content in (
        {"state_dict": weights, "epoch": 3, "pytorch-lightning_version": "2"},  # Lightning
        {"meta": {"seed": 0}, "state_dict": weights, "optimizer": {}},  # mmengine
        {"model": weights, "epoch": 3, "args": {}},  # timm
        {"model": {"state": 1}, "state_dict": weights},
    ):
        torch.save(content, path)
        for source in (path, str(path), Anywhere(path), content):
            new = make(3)
            assert load_pretrained(new, source) == list(weights)
            assert unchanged(new, weights)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_before_1_6_are_read(path, legacy):
    path.parent.mkdir()
    old, new = make(3), make(3)
    torch.save(old.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    load_pretrained(new, path)
    assert unchanged(new, old.state_dict())


class Compiled(nn.Module):
    """Names as torch.compile makes them, without the seconds that importing the compiler takes."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model


def test_prefixes_of_data_parallelism_and_of_compilation_are_dropped(path):
    plain = make(3)
    weights = plain.state_dict()
    compiled = Compiled(make(3))
    parallel = nn.DataParallel(make(3))
    part = make(3)
    part["body"] = Compiled(part["body"])
    both = nn.DataParallel(Compiled(make(3)))
    wrapped = [compiled, parallel, part, both, Compiled(nn.DataParallel(make(3)))]
    for model in wrapped:
        new = make(3)
        assert load_pretrained(new, model.state_dict()) == list(weights)
        taken = zip(new.state_dict().values(), model.state_dict().values(), strict=True)
        assert all(torch.equal(mine, given) for mine, given in taken)
        assert load_pretrained(model, weights, skip=("head.",)) == ["body.weight", "body.bias"]
        again = copy.deepcopy(list(model.state_dict().values()))
        assert torch.equal(again[0], weights["body.weight"])
        assert not torch.equal(again[2], weights["head.weight"])
    save(path, {"model": compiled.state_dict()})  # as Checkpoint writes best.pt
    load_pretrained(make(3), path)


def test_a_prefix_that_belongs_to_the_model_stays():
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 1))
    weights = {f"module.{name}": torch.ones_like(value) for name, value in nn.Linear(2, 1).state_dict().items()}
    assert load_pretrained(averaged, weights, skip=("n_averaged",)) == ["module.weight", "module.bias"]
    assert torch.equal(averaged.module.weight, torch.ones(1, 2))
    two = {"a._orig_mod.w": torch.zeros(1), "a.w": torch.ones(1)}  # would become one name
    with pytest.raises(CheckpointError, match=r"unexpected: a\._orig_mod\.w"):
        load_pretrained(nn.Linear(2, 1), two)


def test_another_prefix_is_said_and_not_guessed():
    new = make(3)
    weights = {f"encoder.{name}": value for name, value in make(3).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"all names given start with 'encoder\.', the model's do not"):
        load_pretrained(new, weights)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(new, {"body.weight": torch.zeros(4, 2)})
    assert "all names" not in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(nn.Sequential(nn.Linear(2, 1)), {"weight": torch.zeros(1, 2)})  # a name, no prefix
    assert "all names" not in str(caught.value)


def test_safetensors_files_are_read(path):
    safetensors = pytest.importorskip("safetensors.torch")
    path.parent.mkdir()
    old = make(3)
    for name in ("model.safetensors", "weights.bin"):  # known by their content, too
        file = path.with_name(name)
        safetensors.save_file(old.state_dict(), file)
        new = make(3)
        assert sorted(load_pretrained(new, file)) == sorted(old.state_dict())
        assert unchanged(new, old.state_dict())
        with pytest.raises(CheckpointError, match="a safetensors file, no checkpoint; load_pretrained reads it"):
            from dlnotes.checkpoint import load

            load(file)
    whole = file.with_name("model.safetensors").read_bytes()
    cut = file.with_name("cut.safetensors")
    for length in (0, 5, 8, 40, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors: damaged, or not readable as safetensors"):
            load_pretrained(make(3), cut)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.safetensors"):
        load_pretrained(make(3), file.with_name("none.safetensors"))


def test_without_the_library_a_safetensors_file_says_what_to_install(path, monkeypatch):
    path.parent.mkdir()
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(CheckpointError, match=r"its library is missing: pip install safetensors"):
        load_pretrained(make(3), path)


def one(value):
    """A model with one buffer of this kind."""
    model = nn.Module()
    model.register_buffer("w", value)
    return model


F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("given", "dtype", "message"),
    [
        (torch.tensor([1 + 2j]), F32, "dtype of w: complex64 given, float32 expected"),
        (torch.tensor([1 + 0j]), F32, "dtype of w: complex64 given, float32 expected"),
        (torch.tensor([1.5]), torch.int64, "dtype of w: float32 given, int64 expected"),
        (torch.tensor([3.0]), torch.int64, "dtype of w: float32 given, int64 expected"),
        (torch.tensor([3]), torch.bool, "dtype of w: int64 given, bool expected"),
        (torch.tensor([1e300], dtype=F64), F32, "dtype of w: float64 given, float32 expected"),
        (torch.tensor([-1e300], dtype=F64), F32, "dtype of w: float64 given, float32 expected"),
        (torch.tensor([70_000.0]), F16, "dtype of w: float32 given, float16 expected"),
        (torch.tensor([1e300 + 0j], dtype=torch.complex128), torch.complex64, "dtype of w: complex128 given"),
        (torch.tensor([300]), torch.uint8, "dtype of w: int64 given, uint8 expected"),
        (torch.tensor([200], dtype=torch.uint8), torch.int8, "dtype of w: uint8 given, int8 expected"),
        (torch.tensor([-1]), torch.uint8, "dtype of w: int64 given, uint8 expected"),
        (torch.tensor([2**24 + 1]), F32, "dtype of w: int64 given, float32 expected"),
        (torch.tensor([float("nan")]), F32, "w holds NaN or inf"),
        (torch.tensor([float("inf")]), F32, "w holds NaN or inf"),
        (torch.tensor([complex(0, float("nan"))]), torch.complex64, "w holds NaN or inf"),
        (torch.eye(1).to_sparse(), F32, "w is sparse_coo, not dense"),
        (torch.empty(1, device="meta"), F32, "w is on the meta device and has no values"),
        (1.0, F32, "shape of w: float given, (1,) expected"),
        (None, F32, "shape of w: NoneType given, (1,) expected"),
    ],
)
def test_what_would_lose_more_than_digits_is_refused(given, dtype, message):
    model = one(torch.full((1,), 1.0).to(dtype))
    model.first = nn.Linear(1, 1)  # would be loaded before or after
    before = copy.deepcopy(model.state_dict())
    if isinstance(given, torch.Tensor) and given.layout is not torch.strided:
        given = torch.ones(1).to_sparse()
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(model, {"first.weight": torch.ones(1, 1), "w": given, "first.bias": torch.ones(1)})
    assert f"\n  {message}" in str(caught.value)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (torch.tensor([1 / 3], dtype=F64), F32, torch.tensor([1 / 3])),
        (torch.tensor([1 / 3]), F64, torch.tensor([1 / 3]).double()),
        (torch.tensor([1 / 3]), BF16, torch.tensor([1 / 3]).bfloat16()),
        (torch.tensor([65_519.0]), F16, torch.tensor([65_504.0]).half()),
        (torch.tensor([float("-inf")]), F16, torch.tensor([float("-inf")]).half()),
        (torch.tensor([255]), torch.uint8, torch.tensor([255], dtype=torch.uint8)),
        (torch.tensor([True]), torch.int64, torch.tensor([1])),
        (torch.tensor([2**24]), F32, torch.tensor([2.0**24])),
        (torch.tensor([2.5]), torch.complex64, torch.tensor([2.5 + 0j])),
        (torch.tensor([0.5]), torch.float8_e5m2, torch.tensor([0.5]).to(torch.float8_e5m2)),
        (torch.tensor([2.0]).to(torch.float8_e4m3fn), F32, torch.tensor([2.0])),
    ],
)
def test_what_loses_no_more_than_digits_is_converted(given, dtype, expected):
    model = one(torch.zeros(1).to(dtype))
    assert load_pretrained(model, {"w": given}) == ["w"]
    assert model.w.dtype == dtype
    assert torch.equal(
        model.w.double() if dtype.itemsize == 1 else model.w, expected.double() if dtype.itemsize == 1 else expected
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says that quantised tensors are deprecated
def test_quantised_and_sparse_on_either_side_are_refused():
    quantised = torch.quantize_per_tensor(torch.ones(1), 0.1, 0, torch.qint8)
    with pytest.raises(CheckpointError, match="w is quantised"):
        load_pretrained(one(torch.ones(1)), {"w": quantised})
    for value in (quantised, torch.ones(1).to_sparse()):
        with pytest.raises(CheckpointError, match="w is not dense in the model"):
            load_pretrained(one(value), {"w": torch.ones(1)})


def test_a_model_without_memory_is_refused():
    with torch.device("meta"):
        model = nn.Linear(2, 1)
    with pytest.raises(CheckpointError, match=r"weight is on the meta device in the model; call model\.to_empty"):
        load_pretrained(model, nn.Linear(2, 1).state_dict())
    model.to_empty(device="cpu")
    load_pretrained(model, nn.Linear(2, 1).state_dict())


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_layer_without_shape_is_refused():
    lazy = nn.LazyLinear(1)
    weights = nn.Linear(2, 1).state_dict()
    assert mismatches(lazy, weights) == [
        f"no shape yet: {name}; call the model once, which gives its lazy layers their shapes"
        for name in ("bias", "weight")
    ]
    with pytest.raises(CheckpointError, match="no shape yet: weight"):
        load_pretrained(lazy, weights)
    lazy(torch.ones(1, 2))
    load_pretrained(lazy, weights)


class Extra(nn.Module):
    """A module with a state that is no tensor."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]


class Refuses(nn.Linear):
    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)
        if not self.weight.any():
            raise KeyboardInterrupt if self.weight.shape[1] == 3 else ValueError("no zeros, please")


@pytest.mark.parametrize(("width", "error"), [(2, CheckpointError), (3, KeyboardInterrupt)])
def test_whatever_fails_the_model_is_unchanged(width, error):
    model = nn.Sequential(nn.Linear(width, width), Extra("old"), nn.BatchNorm1d(width), Refuses(width, 1))
    other = nn.Sequential(nn.Linear(width, width), Extra("new"), nn.BatchNorm1d(width), Refuses(width, 1))
    nn.init.zeros_(other[3].weight)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error):
        load_pretrained(model, other.state_dict())
    assert model[1].extra == "old"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "extra" not in name)
    nn.init.ones_(other[3].weight)
    load_pretrained(model, other.state_dict())
    assert model[1].extra == "new"


def test_a_parameter_that_cannot_be_written_leaves_the_rest(monkeypatch):
    model = nn.Sequential(nn.Linear(2, 2), one(torch.zeros(1).expand(3)))  # three numbers in one place
    before = copy.deepcopy(model[0].state_dict())
    with pytest.raises(CheckpointError, match="could not be loaded, and the model is unchanged"):
        load_pretrained(model, {**nn.Sequential(nn.Linear(2, 2)).state_dict(), "1.w": torch.ones(3)})
    assert unchanged(model[0], before)
    assert torch.equal(model[1].w, torch.zeros(3))


def test_batch_norms_counter_may_be_missing():
    # torch before 0.4.1 had none, and its files are still about.
    old, new = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    weights = {name: value + 1 for name, value in old.state_dict().items() if "num_batches" not in name}
    assert load_pretrained(new, weights) == list(weights)
    assert torch.equal(new[1].running_mean, torch.ones(2))
    assert load_pretrained(nn.BatchNorm1d(2), {k[2:]: v for k, v in weights.items() if k[0] == "1"})
    with pytest.raises(CheckpointError, match="missing: 1.num_batches_tracked"):
        load_pretrained(new, {k: v for k, v in weights.items() if "running" not in k})


def test_arguments_of_other_kinds_are_refused_with_the_cure(path):
    new, weights = make(3), make(3).state_dict()
    with pytest.raises(TypeError, match=r"got one string; write skip=\('head\.',\)"):
        load_pretrained(new, weights, skip="head.")
    with pytest.raises(ValueError, match=r"skip: \('',\) leaves nothing to load"):
        load_pretrained(new, weights, skip=("",))
    with pytest.raises(TypeError, match="source"):
        load_pretrained(new, make(3))
    path.parent.mkdir()
    torch.save({0: torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"run\.pt: not a state dict: its names must be strings, got 0"):
        load_pretrained(new, path)
    save(path, {"weights": weights})
    with pytest.raises(
        CheckpointError, match=r"run\.pt: a checkpoint without 'model'; it holds \['format', 'weights'\]"
    ):
        load_pretrained(new, path)
    with pytest.raises(IsADirectoryError, match="is a folder; give the file in it"):
        load_pretrained(new, path.parent)


def test_mismatches_tell_types_apart():
    model = nn.Linear(2, 1)
    weights = {name: value.double() for name, value in model.state_dict().items()}
    assert mismatches(model, weights) == [
        "dtype of bias: float64 given, float32 expected",
        "dtype of weight: float64 given, float32 expected",
    ]
    assert mismatches(model, model.state_dict()) == []
