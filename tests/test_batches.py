import collections
import dataclasses
from types import MappingProxyType

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from dlnotes.batches import apply, means, rows, tensors, to_device, to_float32

Pair = collections.namedtuple("Pair", "a b")
META = torch.device("meta")


@dataclasses.dataclass(frozen=True)
class Record:
    x: torch.Tensor
    name: str
    size: int = dataclasses.field(init=False, default=3)


class Named(collections.UserDict):
    pass


def nested():
    x = torch.ones(2, 3)
    return {
        "list": [x, (x, [x])],
        "pair": Pair(x, {"deep": x}),
        "ordered": collections.OrderedDict(z=x, a=x),
        "default": collections.defaultdict(list, z=x),
        "user": Named(z=x),
        "read only": MappingProxyType({"z": x}),
        "record": Record(x, "a name"),
        "plain": ["word", 3, None, 2.5, b"bytes", {1, 2}],
    }


def test_every_nesting_keeps_its_form():
    given = nested()
    moved = to_device(given, META)
    assert len(list(tensors(given))) == len(list(tensors(moved))) == 11
    assert all(tensor.device == META for tensor in tensors(moved))
    assert all(tensor.device.type == "cpu" for tensor in tensors(given))  # what came is as it was
    assert {name: type(part) for name, part in moved.items()} == {
        "list": list,
        "pair": Pair,
        "ordered": collections.OrderedDict,
        "default": collections.defaultdict,
        "user": Named,
        "read only": dict,
        "record": Record,
        "plain": list,
    }
    assert moved["plain"] == given["plain"]
    assert moved["record"].name == "a name"
    assert moved["default"].default_factory is list
    assert list(moved["ordered"]) == ["z", "a"]


def test_objects_that_move_themselves():
    packed = pack_sequence([torch.ones(3, 1), torch.ones(2, 1)])

    class Graph:
        def to(self, device):
            return f"on {device}"

    moved = to_device([packed, {"graph": Graph()}], torch.device("cpu"))
    assert isinstance(moved[0], PackedSequence)
    assert moved[1]["graph"] == "on cpu"


def test_only_sixteen_bits_are_cast():
    types = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.long, torch.bool, torch.complex64]
    cast = to_float32({"all": [torch.ones(1, dtype=dtype) for dtype in types]})
    assert [tensor.dtype for tensor in cast["all"]] == [torch.float32] * 3 + types[3:]
    packed = to_float32(pack_sequence([torch.ones(3, 1).half(), torch.ones(2, 1).half()]))
    assert packed.data.dtype == torch.float32
    assert packed.batch_sizes.tolist() == [2, 2, 1]


def test_classes_are_no_batches():
    assert apply(torch.neg, Record) is Record


@pytest.mark.parametrize("tree", [torch.zeros(4, 2), [torch.zeros(4), {"y": (torch.zeros(4, 1), "name")}]])
def test_rows_that_agree(tree):
    assert rows(tree) == 4


@pytest.mark.parametrize("name", ["samples", "skipped", "grad_norm", "epoch", "iteration", "lr", "lr_1", "val_loss"])
def test_names_that_step_and_history_use_are_taken(name):
    with pytest.raises(ValueError, match=f"loss: '{name}' cannot name a loss"):
        means({"loss": torch.tensor(1.0), name: 2.0}, 1)
