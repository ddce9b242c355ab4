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


def test_counts_are_laid_in_one_tensor_and_each_grows_by_one():
    states = [{"step": torch.tensor(float(i))} for i in range(4)]
    assert kernels.count(states) == [1, 2, 3, 4]
    whole = states[0]["step"]._base
    assert all(state["step"]._base is whole and state["step"].shape == () for state in states)
    assert kernels.count(states)[3]._base is whole
    assert kernels.count(states[1:3]) == [4, 5]  # a part of the whole becomes a whole of its own
    assert kernels.count([*states[:3], alone := {"step": torch.tensor(7.0)}]) == [3, 5, 6, 8]
    assert [state["step"].item() for state in [*states, alone]] == [3, 5, 6, 5, 8]


ODD = torch.zeros(2, 3).t()


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([torch.zeros(2), torch.zeros(3)], {True: [0, 1]}),
        ([torch.zeros(2), torch.zeros(200, 200), torch.zeros(3)], {True: [0, 2], False: [1]}),
        ([torch.zeros(2), torch.zeros(2, dtype=torch.float64)], {True: [0], "float64": [1]}),
        ([ODD, torch.zeros(2)], {None: [0], True: [1]}),
        ([torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)], {True: [0]}),
        ([torch.zeros(2, 3, 2, 4, 4).to(memory_format=torch.channels_last_3d)], {True: [0]}),
        ([torch.zeros(4)[::2]], {None: [0]}),
        ([torch.zeros(1).expand(3)], {None: [0]}),
        ([torch.zeros(2, device="meta")], {None: [0]}),
        ([torch.zeros(0, 3), torch.zeros(())], {True: [0, 1]}),
        ([], {}),
    ],
)
def test_what_the_kernels_may_take(tensors, expected):
    states = [{"step": torch.tensor(0.0), "sum": torch.zeros_like(t)} for t in tensors]
    found = {}
    for key, places in kernels.sort(tensors, tensors, states).items():
        name = None if key is None else "float64" if key[1] is torch.float64 else key[2]
        found[name] = list(places)
    assert found == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda t: torch.zeros(6),
        lambda t: torch.zeros(3, 2),
        lambda t: torch.zeros(3, 2).t(),
        lambda t: t.double(),
        lambda t: t.to("meta"),
        lambda t: t.to_sparse(),
        lambda t: t.as_subclass(type("Mine", (torch.Tensor,), {})),
        lambda t: 1.0,
    ],
    ids=["shape", "turned shape", "layout", "type", "device", "sparse", "subclass", "number"],
)
@pytest.mark.parametrize("others", [0, 2])
def test_no_kernel_is_given_a_state_unlike_its_parameter(change, others):
    parameters = [torch.zeros(2, 3) for _ in range(1 + others)]
    states = [{"step": torch.tensor(0.0), "sum": torch.zeros(2, 3)} for _ in parameters]
    states[-1]["sum"] = change(states[-1]["sum"])
    portions = kernels.sort(parameters, parameters, states)
    assert list(portions[None]) == [others]
    assert [list(places) for key, places in portions.items() if key] == ([list(range(others))] if others else [])


def test_states_of_unlike_lengths_are_not_taken_for_each_other():
    """Six tensors for two parameters, each of the shape that its place in the row asks for, and yet astray."""
    long = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(3)}
    portions = kernels.sort(
        [torch.zeros(2), torch.zeros(3)], [torch.zeros(2), torch.zeros(3)], [long, {"a": torch.zeros(3)}]
    )
    assert list(portions[None]) == [0]


def test_small_tensors_run_on_one_thread_and_the_setting_comes_back(monkeypatch):
    calls = []

    class Library:
        def set_num_threads(self, number):
            calls.append(number)

    def kernel(parameters, gradients, states, group):
        calls.append(parameters[0].numel())
        if group:
            raise RuntimeError
        return True

    monkeypatch.setattr(kernels, "_openmp", lambda: [Library()])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    for size, expected in ((10, [1, 10, 7]), (40_000, [40_000])):
        kernels.run(kernel, [torch.zeros(size)], [torch.zeros(size)], [{}], {})
        assert calls == expected
        calls.clear()
    with pytest.raises(RuntimeError):
        kernels.run(kernel, [torch.zeros(10)], [torch.zeros(10)], [{}], {"fail": True})
    assert calls == [1, 10, 7]
    calls.clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    kernels.run(kernel, [torch.zeros(10)], [torch.zeros(10)], [{}], {})
    assert calls == [10]


def test_a_step_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        optimizer, *_ = ready("Adam")
        optimizer.step()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(kernels._openmp()) <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_parameters_are_trained_whole(dtype):
    # torch's own kernel of SGD leaves out every block of 16, on the CPU up to version 2.13
    for cls, lr, end in (("SGD", 1.0, -1.0), ("Adam", 0.5, -0.5), ("AdamW", 0.5, -0.5), ("Adagrad", 0.5, -0.5)):
        for size in (1, 16, 33, 40_000):
            w = torch.zeros(size, dtype=dtype, requires_grad=True)
            w.grad = torch.ones_like(w)
            getattr(optim, cls)([w], lr=lr).step()
            assert (w == end).all(), (cls, size)


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
