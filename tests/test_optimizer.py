import pytest
import torch

from dlnotes.optimizer import RuleOptimizer, check_below_one, check_not_negative, fusible


class Record(RuleOptimizer):
    """Writes down which form was used."""

    kernel = True

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.used = []

    def update(self, parameter, gradient, state, group):
        self.used.append("rule")

    def fused(self, parameters, gradients, states, group):
        if self.kernel:
            self.used.append(f"kernel on {len(parameters)}")
        return self.kernel


def with_gradients(*tensors):
    for tensor in tensors:
        tensor.requires_grad_().grad = torch.ones_like(tensor)
    return list(tensors)


def test_the_kernel_takes_a_whole_group_and_the_rule_what_it_cannot():
    optimizer = Record(with_gradients(torch.zeros(2), torch.zeros(3)))
    optimizer.step()
    assert optimizer.used == ["kernel on 2"]
    optimizer.kernel = False
    optimizer.step()
    assert optimizer.used[1:] == ["rule", "rule"]


def test_parameters_without_a_gradient_are_left_out():
    used, unused = with_gradients(torch.zeros(2), torch.zeros(3))
    unused.grad = None
    optimizer = Record([used, unused])
    optimizer.step()
    assert optimizer.used == ["kernel on 1"]
    used.grad = None
    optimizer.step()
    assert optimizer.used == ["kernel on 1"]


@pytest.mark.parametrize(
    ("tensors", "fits"),
    [
        ([torch.zeros(2), torch.zeros(3)], True),
        ([torch.zeros(2), torch.zeros(2, dtype=torch.float64)], False),
        ([torch.zeros(2, 3).t()], False),
        ([torch.zeros(2, device="meta")], False),
        ([], False),
    ],
)
def test_what_the_kernels_may_take(tensors, fits):
    assert fusible(tensors, tensors) is fits


def test_checks_name_the_value():
    check_not_negative(lr=0.0)
    check_below_one(beta=0.0)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="eps must be >= 0"):
            check_not_negative(lr=1.0, eps=bad)
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"beta must be in \[0, 1\)"):
            check_below_one(beta=bad)
