import pytest
import torch

from dlnotes.optimizer import RuleOptimizer, check_below_one, check_not_negative, fusible, pack_steps


def record(kernel_works=True):
    """An optimizer class that writes down which form was used, and where."""
    used = []

    class Record(RuleOptimizer):
        def update(self, parameter, gradient, state, group):
            used.append("rule")

        @staticmethod
        def fused(parameters, gradients, states, group):
            if kernel_works:
                used.append(f"kernel on {len(parameters)}")
            return kernel_works

    return Record, used


def with_gradients(*tensors):
    for tensor in tensors:
        tensor.requires_grad_().grad = torch.ones_like(tensor)
    return list(tensors)


def test_the_kernel_takes_a_whole_group_and_the_rule_what_it_cannot():
    parameters = with_gradients(torch.zeros(2), torch.zeros(3))
    for works, expected in ((True, ["kernel on 2"]), (False, ["rule", "rule"])):
        cls, used = record(works)
        cls(parameters, {"lr": 0.1}).step()
        assert used == expected
        used.clear()
        cls.fused = None
        cls(parameters, {"lr": 0.1}).step()
        assert used == ["rule", "rule"]


def test_parameters_without_a_gradient_are_left_out():
    left, right = with_gradients(torch.zeros(2), torch.zeros(3))
    right.grad = None
    cls, used = record()
    optimizer = cls([left, right], {"lr": 0.1})
    optimizer.step()
    assert used == ["kernel on 1"]
    left.grad = None
    optimizer.step()
    assert used == ["kernel on 1"]


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


def test_packed_steps_keep_their_counts_and_lie_in_one_tensor():
    states = [{"step": torch.tensor(float(i))} for i in range(3)]
    pack_steps([*states, {}])
    assert [state["step"].item() for state in states] == [0, 1, 2]
    assert all(state["step"].shape == () for state in states)
    assert len({state["step"].untyped_storage().data_ptr() for state in states}) == 1
    states[0]["step"] += 5
    assert [state["step"].item() for state in states] == [5, 1, 2]


def test_steps_on_several_devices_are_not_packed():
    states = [{"step": torch.tensor(1.0)}, {"step": torch.zeros((), device="meta")}]
    pack_steps(states)
    assert states[0]["step"]._base is None
    pack_steps([])
