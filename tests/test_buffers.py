import pytest
import torch
from torch import nn

from dlnotes.buffers import SMALL, Buffers


class Odd(nn.Module):
    """A buffer that is replaced rather than changed, one that becomes None, a large one, and one not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("mask", torch.ones(1))
        self.register_buffer("table", torch.zeros(SMALL + 1))
        self.register_buffer("steps", torch.tensor(0), persistent=False)
        self.register_buffer("nothing", None)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x, large=False):
        self.seen = self.seen + x.sum(0).detach()
        self.mask = None
        self.steps += 1
        if large:
            self.table[0] += 1
        return self.norm(x)


def snapshot(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("large", [False, True])
def test_everything_is_put_back(large):
    model = Odd()
    buffers = Buffers(model)
    for _ in range(3):
        buffers.keep()
        before = snapshot(model)
        model(torch.tensor([[1.0, 2.0], [float("inf"), float("nan")]]), large)
        assert str(snapshot(model)) != str(before)
        buffers.restore()
        after = snapshot(model)
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert model.nothing is None
        model.mask = torch.ones(1)
        model(torch.randn(4, 2), large)  # a good one stays
        model.mask = torch.full((1,), 2.0)
    assert model.norm.num_batches_tracked == 3
    assert model.table[0] == (3 if large else 0)


def test_large_buffers_are_copied_only_when_they_changed():
    model = Odd()
    buffers = Buffers(model)
    buffers.keep()
    copy = dict(zip([name for _, name in buffers._places], buffers._kept, strict=True))["table"][2]
    copy.fill_(7.0)  # would be overwritten by a copy
    buffers.keep()
    assert (copy == 7).all()
    model.table[0] = 1.0
    buffers.keep()
    assert copy[0] == 1
    assert copy[1] == 0


@pytest.mark.parametrize("size", [SMALL, SMALL + 1])
def test_changes_through_data_are_undone_in_small_buffers_and_never_cost_earlier_ones(size):
    model = nn.Module()
    model.register_buffer("codes", torch.zeros(size))
    buffers = Buffers(model)
    for _ in range(10):
        buffers.keep()
        model.codes.data.add_(1)
    buffers.restore()
    assert (model.codes == (9 if size == SMALL else 10)).all()


def test_expanded_buffers():
    model, base = nn.Module(), torch.ones(1, 3)
    model.register_buffer("shared", base.expand(4, 3))
    model.register_buffer("single", torch.tensor(2.0).expand(5))
    buffers = Buffers(model)
    for _ in range(2):
        buffers.keep()
        base.fill_(float("nan"))
        buffers.restore()
        assert torch.equal(model.shared, torch.ones(4, 3))
        assert model.shared.stride() == (0, 1)
        assert torch.equal(model.single, torch.full((5,), 2.0))


def test_a_model_without_buffers():
    buffers = Buffers(nn.Linear(1, 1))
    buffers.keep()
    buffers.restore()
    assert buffers._places == []
