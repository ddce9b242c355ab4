"""What the kernels refuse and leave alone; that they equal the rules is shown in test_optim."""

import copy

import pytest
import torch

from dlnotes import kernels, optim

KERNELS = {"SGD": kernels.sgd, "Adagrad": kernels.adagrad, "RMSprop": kernels.rmsprop, "Adam": kernels.adam}


def ready(name, **options):
    """Parameters, gradients, states and group of an optimizer after its first step."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(s, generator=generator, requires_grad=True) for s in ((3,), (2, 2), ())]
    optimizer = getattr(optim, name)(parameters, lr=0.1, **options)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return optimizer, parameters, [p.grad for p in parameters]


@pytest.mark.parametrize("name", KERNELS)
def test_the_class_steps_by_its_kernel(name):
    """Called by hand, the kernel does what the class's own next step does."""
    (ours, a, gradients), (other, b, _) = ready(name), ready(name)
    ours.step()
    with torch.no_grad():
        assert KERNELS[name](b, gradients, [other.state[p] for p in b], other.param_groups[0])
    for one, two in zip(a, b, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_are_left_alone(name):
    decay = {"weight_decay": 0.1} | ({"momentum": 0.9} if name in ("SGD", "RMSprop") else {})
    optimizer, _, gradients = ready(name, **decay)
    kept = [gradient.clone() for gradient in gradients]
    optimizer.step()
    assert all(map(torch.equal, gradients, kept))


@pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam"])
def test_only_parameters_with_gradients_are_counted(name):
    optimizer, parameters, _ = ready(name)
    for used in ([0, 1, 2], [0, 2], [1]):
        for i, parameter in enumerate(parameters):
            parameter.grad = torch.ones_like(parameter) if i in used else None
        optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in parameters] == [3, 3, 3]
    parameters[1].grad = torch.ones_like(parameters[1])
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in parameters] == [3, 4, 3]
    optimizer.load_state_dict(saved)
    assert [optimizer.state[p]["step"].item() for p in parameters] == [3, 3, 3]


def test_count_adds_one_to_each_however_they_lie():
    whole = torch.zeros(4)
    views = list(whole.unbind())
    kernels.count(views)
    assert whole.tolist() == [1, 1, 1, 1]
    kernels.count(views[1:3])  # a part of the whole
    assert whole.tolist() == [1, 2, 2, 1]
    kernels.count([*views[:3], alone := torch.tensor(7.0)])
    assert whole.tolist() == [2, 3, 3, 1]
    assert alone == 8


def test_sgd_leaves_the_first_step_with_momentum_to_the_rule():
    w, g = torch.ones(2), torch.ones(2)
    group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False}
    for states in ([{}], [{"momentum_buffer": None}]):  # torch's own states may hold None
        assert kernels.sgd([w], [g], states, group) is False
    assert torch.equal(w, torch.ones(2))


def test_adagrad_has_a_kernel_on_the_cpu_alone():
    w = torch.ones(2, device="meta")
    state = {"step": torch.tensor(0.0), "sum": torch.ones(2, device="meta")}
    assert kernels.adagrad([w], [w], [state], {}) is False
    assert state["step"] == 0
