import copy
import pickle

import pytest
import torch

from dlnotes.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from dlnotes.optimizer import RuleOptimizer, state_problems

ALL = [SGD, Adagrad, RMSprop, Adam, AdamW]


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


# ---- hyper-parameters, group by group


@pytest.mark.parametrize("cls", ALL)
def test_a_number_that_yaml_read_as_text_is_named(cls):
    with pytest.raises(TypeError, match="lr must be a number, got '1e-3'"):
        cls([{"params": [torch.zeros(1, requires_grad=True)], "lr": "1e-3"}])


@pytest.mark.parametrize("cls", ALL)
def test_groups_are_checked_and_a_refused_one_is_not_added(cls):
    w, b = with_gradients(torch.zeros(2), torch.zeros(2))
    optimizer = cls([w], lr=0.1)
    for group, error, message in (
        ({"params": [b], "lr": -1.0}, ValueError, "lr must be >= 0, got -1.0"),
        ({"params": [b], "weight_decay": float("nan")}, ValueError, "weight_decay must be >= 0, got nan"),
        (
            {"params": [b], "weight_dacay": 0.1},
            ValueError,
            "unknown option 'weight_dacay'.*did you mean 'weight_decay'",
        ),
        ({"params": [b], "learning_rate": 0.1}, ValueError, "unknown option 'learning_rate'.*did you mean 'lr'"),
        ({"params": torch.zeros(2, dtype=torch.complex64)}, TypeError, r"real floating type, got torch\.complex64"),
        ({"params": [b, torch.zeros(2, dtype=torch.int64)]}, TypeError, r"real floating type, got torch\.int64"),
    ):
        with pytest.raises(error, match=message):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [b], "lr": 0.5, "name": "head", "lr_scale": 2.0})  # others' keys are kept
    assert optimizer.param_groups[1]["name"] == "head"
    with pytest.raises(ValueError, match="lr must be >= 0"):
        cls([{"params": [w]}, {"params": [b], "lr": -0.5}], lr=0.1)


def test_more_bad_options():
    w = torch.zeros(1, requires_grad=True)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="dampening must be >= 0"):
            SGD([w], momentum=0.9, dampening=bad)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 1.5"):
        RMSprop([w], alpha=1.5)
    with pytest.raises(ValueError, match="betas must be two numbers or two tensors"):
        Adam([{"params": [w], "betas": (torch.tensor(0.9), 0.999)}])
    with pytest.raises(ValueError, match=r"lr must be one number, got a tensor of shape \(2,\)"):
        SGD([w], lr=torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("fused", [True, False])
def test_a_learning_rate_in_a_tensor_is_a_number(cls, fused):
    ends = []
    for lr in (0.25, torch.tensor(0.25)):
        w = torch.ones(3, requires_grad=True)
        w.grad = torch.ones(3)
        optimizer = (cls if fused else type(cls.__name__, (cls,), {"fused": None}))([w], lr=lr)
        for _ in range(3):
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_betas_in_tensors_are_numbers():
    ends = []
    for betas in ((0.5, 0.75), (torch.tensor(0.5), torch.tensor(0.75))):
        (w,) = with_gradients(torch.ones(3))
        Adam([w], betas=betas).step()
        ends.append(w.detach())
    assert torch.equal(*ends)


# ---- steps


def test_nothing_is_updated_where_one_gradient_is_sparse():
    (w,) = with_gradients(torch.zeros(2))
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="SGD does not support sparse gradients"):
        SGD([{"params": [w]}, {"params": embedding.parameters()}], lr=0.1).step()
    assert w.tolist() == [0, 0]


@pytest.mark.parametrize("cls", ALL)
def test_steps_are_counted_in_float32_whatever_the_default_type(cls):
    """In bfloat16, where 256 + 1 is 256, Adam's corrections would stop there."""
    try:
        torch.set_default_dtype(torch.bfloat16)
        w = torch.zeros(2, dtype=torch.float32, requires_grad=True)
        w.grad = torch.ones_like(w)
        optimizer = cls([w], lr=1e-3)
        for _ in range(300):
            optimizer.step()
    finally:
        torch.set_default_dtype(torch.float32)
    if cls is not SGD:
        assert optimizer.state[w]["step"].dtype is torch.float32
        assert optimizer.state[w]["step"] == 300


def test_a_constant_gradient_leaves_the_centred_variance_above_zero():
    # torch's parameter is NaN from step 1,210 on; the true variance is g^2 a^t (1 - a^t)
    for fused in (RMSprop.fused, None):
        cls = type("RMSprop", (RMSprop,), {"fused": fused})
        w = torch.zeros(4, requires_grad=True)
        w.grad = torch.full_like(w, 90.97694)
        optimizer = cls([w], lr=1e-3, centered=True)
        for _ in range(1300):
            optimizer.step()
            optimizer.step()
        assert w.isfinite().all()
        before = w.detach().clone()
        optimizer.step()
        assert (w - before).abs().max() <= 1e-3 / torch.finfo(torch.float32).eps ** 0.5 * 1.01


@pytest.mark.parametrize("cls", ALL)
def test_a_compiled_step_is_the_step(cls):
    ends = []
    for compiled in (False, True):
        (w,) = with_gradients(torch.ones(3))
        optimizer = cls([w], lr=0.1, **({"momentum": 0.9} if cls is SGD else {}))
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(3):
            step()
        ends.append(w.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("cls", ALL)
def test_copied_and_pickled_optimizers_go_on(cls):
    (w,) = with_gradients(torch.ones(3))
    optimizer = cls([w], lr=0.1)
    optimizer.step()
    twins = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    optimizer.step()
    for twin in twins:
        (parameter,) = twin.param_groups[0]["params"]
        parameter.grad = torch.ones(3)
        twin.step()
        assert torch.equal(parameter, w)


# ---- states


def stepped(cls, shape=(4, 3), **options):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(shape, generator=generator, requires_grad=True)
    w.grad = torch.randn(shape, generator=generator)
    optimizer = cls([w], lr=0.1, **(options | ({"momentum": 0.9} if cls in (SGD, RMSprop) else {})))
    optimizer.step()
    return optimizer, w


@pytest.mark.parametrize("cls", ALL)
def test_a_state_of_another_shape_is_refused_and_named(cls):
    """Its kernel would write as many numbers as the parameter has, past the end of the state."""
    for name in stepped(cls)[0].state_dict()["state"][0]:
        optimizer, w = stepped(cls)
        saved = copy.deepcopy(optimizer.state_dict())
        saved["state"][0][name] = torch.zeros(2)
        before = copy.deepcopy(optimizer.state_dict())
        expected = r"\(\)" if name == "step" else r"\(4, 3\)"
        message = rf"does not fit this {cls.__name__}; nothing was loaded:\n  {name} of parameter 0 \(group 0\): "
        with pytest.raises(ValueError, match=message + rf"shape \(2,\) given, {expected} expected"):
            optimizer.load_state_dict(saved)
        for key, value in before["state"][0].items():
            assert torch.equal(optimizer.state[w][key], value)


@pytest.mark.parametrize("cls", [Adagrad, RMSprop, Adam, AdamW])
def test_a_state_with_other_names_is_refused(cls):
    optimizer, _ = stepped(cls)
    momentum, _ = stepped(SGD)
    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 0 \(group 0\): unknown|step .*: missing"):
        optimizer.load_state_dict(momentum.state_dict())
    with pytest.raises(ValueError, match=r"step of parameter 0|unknown to SGD"):
        momentum.load_state_dict(optimizer.state_dict())


def test_other_groups_and_bad_numbers_in_a_state_are_refused():
    optimizer, _ = stepped(Adam)
    saved = copy.deepcopy(optimizer.state_dict())
    other = Adam([torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match=r"groups of \[1\] parameters in the checkpoint, \[2\] in this run"):
        other.load_state_dict(saved)
    saved["param_groups"][0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be >= 0, got nan"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_what_state_problems_leaves_to_torch():
    w = torch.zeros(4, 4, requires_grad=True)
    w.grad = torch.ones(4, 4)
    for cls in (torch.optim.Adafactor, torch.optim.Adam):
        optimizer = cls([w])
        optimizer.step()
        assert state_problems(optimizer, optimizer.state_dict()) == []
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = torch.zeros(3)
    assert state_problems(optimizer, saved) == ["exp_avg of parameter 0 (group 0): shape (3,) given, (4, 4) expected"]


@pytest.mark.parametrize("cls", ALL)
def test_a_state_changed_by_hand_is_an_error_and_no_crash(cls):
    optimizer, w = stepped(cls, (1000, 100))
    name = optimizer.names[0]
    optimizer.state[w][name] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()


@pytest.mark.parametrize("cls", ALL)
def test_a_loaded_state_takes_its_parameters_layout(cls):
    """A run in channels_last goes on in a contiguous model, and the other way round."""
    optimizer, w = stepped(cls, (4, 3, 2, 2))
    other = w.detach().clone().to(memory_format=torch.channels_last).requires_grad_()
    twin = type(optimizer)([other], lr=0.1)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin.state[other][twin.names[0]].stride() == other.stride()
    other.grad = w.grad.clone()
    optimizer.step()
    twin.step()
    assert torch.equal(other, w)
