import pytest
import torch

from dlnotes.reduction import REDUCTIONS, alike, check_floating, check_reduction, reduce


def test_reductions_are_those_of_the_words():
    losses = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert {name: reduce(losses, name).tolist() for name in REDUCTIONS} == {
        "none": [[1.0, 2.0], [3.0, 6.0]],
        "mean": 3.0,
        "sum": 12.0,
    }


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_costs_nothing_and_keeps_the_graph(reduction):
    parameter = torch.ones(2, requires_grad=True)
    loss = reduce((parameter * torch.zeros(0, 2)).flatten(), reduction)
    loss.backward()
    assert loss.item() == 0
    assert parameter.grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_16_bits_become_32_and_64_stay(dtype):
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert [x.dtype for x in alike(torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype))] == [wanted] * 2


def test_errors():
    with pytest.raises(ValueError, match=r"reduction must be one of \['none', 'mean', 'sum'\], got 'avg'"):
        check_reduction("avg")
    with pytest.raises(ValueError, match="reduction must be one of"):
        reduce(torch.zeros(1), "")
    with pytest.raises(TypeError, match="boxes must be of floating point, got torch.bool"):
        check_floating("boxes", torch.tensor([True]))
