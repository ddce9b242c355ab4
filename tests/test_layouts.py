"""Optimizers on parameters, gradients and states of any layout, type and shape, against torch, over random runs.

A kernel pairs numbers by their place in memory; every run here is one where places could go astray. DLNOTES_FUZZ is the
number of runs (60).
"""

import os
import random
from copy import deepcopy

import pytest
import torch
from test_optim import ALL, CASES, torchs

RUNS = int(os.environ.get("DLNOTES_FUZZ", "60"))
SHAPES = [
    (),
    (0, 3),
    (1,),
    (7,),
    (4, 3),
    (3, 4),
    (5, 5),
    (17, 33),
    (200, 190),
    (2, 3, 2, 2),
    (3, 2, 3, 3),
    (2, 2, 2, 2, 2),
]
LAYOUTS = ["contiguous", "turned", "channels_last", "gaps"]
# what 16-bit numbers may differ by: the kernel rounds once a step, torch's plain loop after every operation
CLOSE = {
    torch.float64: {"rtol": 1e-11, "atol": 1e-11},
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
    torch.bfloat16: {"rtol": 0.06, "atol": 0.06},
    torch.float16: {"rtol": 0.02, "atol": 0.02},
}


def laid(tensor, layout):
    """The same numbers in another place."""
    if layout == "turned" and tensor.dim() > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "channels_last" and tensor.dim() == 5:
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    if layout == "gaps" and tensor.dim():
        wide = torch.zeros(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    return tensor.contiguous()


def script(seed):
    """A random run: the class, its options, the parameters, and what happens before each step."""
    choose = random.Random(seed)
    cls, options = choose.choice(CASES)
    dtype = choose.choice([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16])
    if dtype is torch.float16 and cls.__name__ != "SGD":
        dtype = torch.bfloat16  # squares underflow in float16, and eps too: torch's plain loop divides by 0 there
    types = [dtype if choose.random() < 0.9 else torch.float64 for _ in range(choose.randint(1, 5))]
    starts = [(choose.choice(SHAPES), choose.choice(LAYOUTS), kind) for kind in types]
    events = [
        choose.choices(["nothing", "lay", "load", "cross", "group"], [6, 3, 2, 2, 1])[0]
        for _ in range(choose.randint(3, 9))
    ]
    return cls, options, starts, events


def play(seed, ours):
    """The parameters at the end of a run, by our class or by torch's plain loop."""
    cls, options, starts, events = script(seed)
    choose, generator = random.Random(seed + 1), torch.Generator().manual_seed(seed)

    def make(parameters, mine):
        groups = (
            [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.01}] if len(parameters) > 2 else parameters
        )
        return cls(groups, **options) if mine else torchs(cls)(groups, foreach=False, **options)

    def draw(shape, dtype):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = [laid(draw(shape, dtype), layout).requires_grad_() for shape, layout, dtype in starts]
    optimizer = make(parameters, ours)
    for event in events:
        if event == "lay":  # as model.to(memory_format=…) does it
            for parameter in parameters:
                parameter.data = laid(parameter.data, choose.choice(LAYOUTS))
        elif event in ("load", "cross"):  # into parameters that lie otherwise, perhaps by the other's optimizer
            saved = deepcopy(optimizer.state_dict())
            parameters = [laid(p.detach(), choose.choice(LAYOUTS)).clone().requires_grad_() for p in parameters]
            optimizer = make(parameters, ours if event == "load" else choose.random() < 0.5 and ours)
            optimizer.load_state_dict(saved)
        for i, parameter in enumerate(parameters):
            gradient = draw(parameter.shape, parameter.dtype)
            layout, skipped = choose.choice(LAYOUTS), choose.random() < 0.15
            parameter.grad = None if skipped and i else laid(gradient, layout)
        optimizer.step()
    return parameters


@pytest.mark.parametrize("seed", range(RUNS))
def test_any_layout_type_and_shape_ends_as_torchs(seed):
    for ours, theirs in zip(play(seed, True), play(seed, False), strict=True):
        torch.testing.assert_close(ours.contiguous(), theirs.contiguous(), **CLOSE[theirs.dtype])


@pytest.mark.parametrize("cls", ALL)
def test_a_model_that_changes_its_layout_in_a_run(cls):
    def run(kind):
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 2, 2, bias=False).to(memory_format=torch.channels_last)
        optimizer, x = kind(model.parameters(), lr=0.1), torch.randn(4, 3, 5, 5)
        for t in range(4):
            if t == 2:
                model.to(memory_format=torch.contiguous_format)
            optimizer.zero_grad()
            model(x).pow(2).mean().backward()
            optimizer.step()
        return model.weight

    torch.testing.assert_close(run(cls), run(torchs(cls)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop"])
def test_a_model_that_changes_its_type_in_a_run(name):
    """Where torch goes on, so do we; its Adam refuses a state of another type."""
    ends = []
    for kind in (next(cls for cls in ALL if cls.__name__ == name), getattr(torch.optim, name)):
        w = torch.linspace(-1, 1, 20).requires_grad_()
        optimizer = kind([w], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
        for t in range(4):
            if t == 2:
                w.grad = None
                w.data = w.data.double()
            w.grad = torch.cos(w.detach() + t)
            optimizer.step()
        ends.append(w.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_sixteen_bit_runs_equal_torchs_bit_by_bit(name, dtype):
    """SGD's by torch's plain loop, whose kernel is wrong there; the others' by its kernel, which rounds once a step."""
    ends = []
    for ours in (True, False):
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(100, generator=generator).to(dtype).requires_grad_()
        kind = next(cls for cls in ALL if cls.__name__ == name) if ours else getattr(torch.optim, name)
        form = {} if ours else {"foreach": False} if name == "SGD" else {"fused": True}
        optimizer = kind([w], lr=0.05, **form, **({"momentum": 0.9} if name == "SGD" else {}))
        for _ in range(20):
            w.grad = torch.randn(100, generator=generator).to(dtype)
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)
