"""The norms equal torch's, forward and backward, by kernel and by formula; the numbers of the course; every error."""

import copy
import inspect
import math
import os
import re
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn
from torch.nn import functional as F

from dlnotes import norms
from dlnotes.moments import moments, standardize, standardize_backward
from dlnotes.norms import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    RMSNorm,
)

# Arguments, and the shape of an input.
BATCH = [
    {}, {"momentum": 0.3, "eps": 1e-2}, {"momentum": None}, {"momentum": 0.0}, {"momentum": 1.0},
    {"affine": False}, {"bias": False}, {"track_running_stats": False}, {"affine": False, "track_running_stats": False},
]  # fmt: skip
INSTANCE = [
    {}, {"affine": True}, {"affine": True, "bias": False}, {"eps": 1e-2, "affine": True},
    {"track_running_stats": True}, {"track_running_stats": True, "affine": True, "momentum": 0.5},
]  # fmt: skip
CASES = [
    *((BatchNorm1d, (5,), options, (4, 5)) for options in BATCH),
    *((BatchNorm1d, (5,), options, (4, 5, 3)) for options in BATCH),
    *((BatchNorm2d, (3,), options, (4, 3, 2, 5)) for options in BATCH),
    *((InstanceNorm1d, (3,), options, (4, 3, 6)) for options in INSTANCE),
    *((InstanceNorm1d, (3,), options, (3, 6)) for options in INSTANCE),
    *((InstanceNorm2d, (3,), options, (4, 3, 2, 5)) for options in INSTANCE),
    *((InstanceNorm2d, (3,), options, (3, 2, 5)) for options in INSTANCE),
    *((GroupNorm, (2, 6), options, shape) for options in ({}, {"affine": False}, {"bias": False, "eps": 0.1})
      for shape in ((3, 6), (3, 6, 4), (2, 6, 3, 5), (1, 6, 2, 1, 3), (0, 6, 4))),
    *((LayerNorm, (size,), options, shape)
      for options in ({}, {"elementwise_affine": False}, {"bias": False, "eps": 0.1})
      for size, shape in ((4, (4,)), (4, (2, 3, 4)), ((3, 4), (2, 3, 4)), ([2, 3, 4], (2, 3, 4)), ((1,), (5, 1)))),
    *((RMSNorm, (size,), options, shape) for options in ({}, {"elementwise_affine": False}, {"eps": 0.1})
      for size, shape in ((4, (4,)), (4, (2, 3, 4)), ((3, 4), (2, 3, 4)))),
]  # fmt: skip
IDS = [f"{cls.__name__}{args}-{options}-{shape}" for cls, args, options, shape in CASES]
PLAIN = [  # one of each, with an input
    (BatchNorm1d, (6,), (4, 6)), (BatchNorm2d, (6,), (2, 6, 4, 3)), (InstanceNorm1d, (6,), (2, 6, 5)),
    (InstanceNorm2d, (6,), (2, 6, 4, 3)), (GroupNorm, (3, 6), (2, 6, 4, 3)), (LayerNorm, (6,), (2, 3, 6)),
    (RMSNorm, (6,), (2, 3, 6)),
]  # fmt: skip
NAMES = [cls.__name__ for cls, *_ in PLAIN]
each = pytest.mark.parametrize(("cls", "args", "shape"), PLAIN, ids=NAMES)
both_ways = pytest.mark.parametrize("way", ["kernel", "formula"])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(cls, args, options=None, dtype=torch.float64, seed=0):
    """Ours and torch's with the same parameters, drawn. An old torch has no `bias` in some: it is taken away there."""
    options = options or {}
    ours = cls(*args, **options, dtype=dtype)
    with torch.no_grad():
        for number, parameter in enumerate(ours.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed + number) + 0.5)
    theirs = getattr(nn, cls.__name__)(*args, **{k: v for k, v in options.items() if k != "bias"}, dtype=dtype)
    if not options.get("bias", True):
        theirs.register_parameter("bias", None)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def call(norm, x, way):
    if way == "kernel":
        return norm(x)
    unbatched = isinstance(norm, InstanceNorm1d | InstanceNorm2d) and x.dim() == min(norm.forms)
    return norm.formula(x[None])[0] if unbatched else norm.formula(x)


def learn(norm, x, gradient, way="kernel"):
    """Output, gradients of input and parameters, buffers."""
    x = x.clone().requires_grad_()
    norm.zero_grad()
    y = call(norm, x, way)
    y.backward(gradient)
    found = {"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in norm.named_parameters()}
    return found | {name: b.clone() for name, b in norm.named_buffers()}


def assert_same(ours, theirs, tolerance=1e-10):
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=tolerance, atol=tolerance)


# ---- equal to torch


@both_ways
@pytest.mark.parametrize(("cls", "args", "options", "shape"), CASES, ids=IDS)
def test_equals_torch_in_both_modes(cls, args, options, shape, way):
    ours, theirs = pair(cls, args, options)
    for number, training in enumerate([True, True, False, True, False]):
        ours.train(training), theirs.train(training)
        x, gradient = 3 * draw(*shape, seed=2 * number) + number, draw(*shape, seed=2 * number + 1)
        assert_same(learn(ours, x, gradient, way), learn(theirs, x, gradient))


@both_ways
@settings(max_examples=int(os.environ.get("DLNOTES_NORM_EXAMPLES", "60")))
@given(data=st.data(), seed=st.integers(0, 999))
def test_equals_torch_on_strange_shapes(way, data, seed):
    """Lengths of 1, many dimensions, no samples, inputs that are views with strides of their own."""
    sizes = st.integers(1, 5)
    kind = data.draw(st.sampled_from(NAMES))
    n, c, groups, rest = data.draw(st.integers(0, 4)), data.draw(sizes), data.draw(sizes), data.draw(st.lists(sizes))
    rest = rest[:3]
    if kind in ("LayerNorm", "RMSNorm"):
        shape = (n, c, *rest)
        args = (shape[data.draw(st.integers(1, len(shape) - 1)) :],)
    elif kind == "GroupNorm":
        shape, args = (n, c * groups, *rest), (groups, c * groups)
    else:
        spatial = int(kind[-2])
        shape, args = (n, c, *[*rest, 1, 2][:spatial]), (c,)
    ours, theirs = pair(getattr(norms, kind), args, seed=seed)
    x, gradient = draw(*shape, seed=seed), draw(*shape, seed=seed + 1)
    if data.draw(st.booleans()):
        x = draw(*shape[::-1], seed=seed).permute(*range(len(shape))[::-1])
    ours.train(training := data.draw(st.booleans())), theirs.train(training)
    try:
        expected = learn(theirs, x.contiguous(), gradient)
    except ValueError:  # one value only
        with pytest.raises(ValueError, match="Expected more than 1"):
            ours(x)
        return
    assert_same(learn(ours, x, gradient, way), expected)


@pytest.mark.parametrize("shape", [(1, 2, 1, 2), (1, 3, 1, 5), (1, 2, 3, 1), (1, 3, 2, 2)])
def test_gradients_of_a_permuted_row_are_those_of_its_copy(shape):
    """Torch's batch norm gets them wrong on a CPU, all but the last: it takes one layout for the other."""
    x, gradient = draw(*shape[::-1]).permute(3, 2, 1, 0), draw(*shape, seed=1)
    for training in (True, False):
        norm = BatchNorm2d(shape[1], dtype=torch.float64).train(training)
        y = norm(x.requires_grad_())
        y.backward(gradient)
        torch.testing.assert_close(norm.bias.grad, gradient.sum((0, 2, 3)))
        expected = learn(copy.deepcopy(norm), x.detach().contiguous(), gradient)
        torch.testing.assert_close(x.grad, expected["x"])
        x = x.detach()


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(("cls", "args", "options", "shape"), CASES, ids=IDS)
def test_state_dict_goes_to_torch_and_back(cls, args, options, shape, ours_first):
    first, second = pair(cls, args, options)[:: 1 if ours_first else -1]
    if math.prod(shape):
        first(draw(*shape))
    second.load_state_dict(first.state_dict())
    saved, again = first.state_dict(), second.state_dict()
    assert [(n, v.dtype, v.shape) for n, v in saved.items()] == [(n, v.dtype, v.shape) for n, v in again.items()]
    assert saved._metadata == again._metadata
    assert_same(saved, again, 0)
    x = draw(*shape, seed=1)
    assert_same({"y": first.eval()(x)}, {"y": second.eval()(x)})


@pytest.mark.parametrize("cls", [BatchNorm1d, BatchNorm2d])
def test_a_state_dict_from_before_batches_were_counted_loads(cls):
    norm = cls(2)
    norm.num_batches_tracked += 7
    old = {name: value + 1 for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    norm.load_state_dict(old)
    assert norm.num_batches_tracked == 7
    assert norm.running_mean.tolist() == [1, 1]
    new = copy.copy(norm.state_dict())
    del new["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        norm.load_state_dict(new)


@each
def test_arguments_are_torchs(cls, args, shape):
    ours = inspect.signature(cls).parameters
    theirs = inspect.signature(getattr(nn, cls.__name__)).parameters
    positional = [name for name, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert {name: ours[name].default for name in positional} == {name: theirs[name].default for name in positional}
    assert set(theirs) <= set(ours)
    ours, theirs = cls(*args), getattr(nn, cls.__name__)(*args)
    names = [name for name in vars(theirs) if not name.startswith("_")]
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}


@each
def test_device_and_dtype(cls, args, shape):
    norm = cls(*args, device="meta", dtype=torch.float64)
    tensors = [value for name, value in norm.state_dict().items() if name != "num_batches_tracked"]
    assert {(value.device.type, value.dtype) for value in tensors} <= {("meta", torch.float64)}
    assert norm(torch.zeros(shape, device="meta", dtype=torch.float64)).shape == shape
    assert "eps" in repr(cls(*args))


def test_parameters_and_statistics_begin_again():
    norm = BatchNorm1d(2)
    start = copy.deepcopy(norm.state_dict())
    with torch.no_grad():
        norm.weight.fill_(3), norm.bias.fill_(4)
    norm(torch.rand(4, 2))
    norm.reset_running_stats()
    assert norm.weight.tolist() == [3, 3]
    norm.reset_parameters()
    assert_same(norm.state_dict(), start, 0)


# ---- the formula, its gradient, and what joins the norms


@settings(max_examples=30)
@given(data=st.data(), seed=st.integers(0, 999))
def test_the_backward_formula_equals_autograd(data, seed):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    dims = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    x, gradient = draw(*shape, seed=seed).requires_grad_(), draw(*shape, seed=seed + 1)
    (expected,) = torch.autograd.grad(standardize(x, *moments(x, dims), 1e-5), x, gradient)
    torch.testing.assert_close(standardize_backward(gradient, x.detach(), dims), expected, rtol=1e-10, atol=1e-10)


def test_batch_norms_backward_by_hand_equals_torchs():
    x, gradient = 5 * draw(4, 3, 2, 2) + 7, draw(4, 3, 2, 2, seed=1)
    _, theirs = pair(BatchNorm2d, (3,))
    found = learn(theirs, x, gradient)
    by_weight = gradient * theirs.weight.detach().view(3, 1, 1)
    torch.testing.assert_close(standardize_backward(by_weight, x, (0, 2, 3)), found["x"], rtol=1e-10, atol=1e-10)
    y = standardize(x, *moments(x, (0, 2, 3)))
    torch.testing.assert_close((gradient * y).sum((0, 2, 3)), found["weight"], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient.sum((0, 2, 3)), found["bias"], rtol=1e-10, atol=1e-10)


def test_group_norm_joins_instance_and_layer_norm():
    x = draw(2, 6, 4, 3, dtype=torch.float32)
    torch.testing.assert_close(GroupNorm(6, 6)(x), InstanceNorm2d(6)(x))
    torch.testing.assert_close(GroupNorm(1, 6)(x), LayerNorm((6, 4, 3))(x))


def test_rms_norm_is_the_direction_times_the_root_of_its_length():
    x = draw(2, 3, 5)
    expected = F.normalize(x, dim=-1) * 5**0.5
    near = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(RMSNorm(5, eps=0.0, dtype=torch.float64)(x), expected, **near)
    centred = RMSNorm(5, eps=1e-5, dtype=torch.float64)(x - x.mean(-1, keepdim=True))
    torch.testing.assert_close(centred, LayerNorm(5, dtype=torch.float64)(x), **near)


@each
@both_ways
def test_double_backward(cls, args, shape, way):
    norm, _ = pair(cls, args)
    x = draw(*shape).requires_grad_()
    names = [name for name, _ in norm.named_parameters()]
    values = [p.detach().clone().requires_grad_() for _, p in norm.named_parameters()]

    class Way(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return call(self.norm, x, way)

    def run(x, *values):
        return torch.func.functional_call(Way(), {f"norm.{n}": v for n, v in zip(names, values, strict=True)}, (x,))

    assert torch.autograd.gradcheck(run, (x, *values))
    assert torch.autograd.gradgradcheck(run, (x, *values))


# ---- the numbers of the course


def test_convention_of_momentum_and_of_the_two_variances():
    """The weight of the new value; the batch is divided by n, the running variance estimated with n - 1."""
    norm = BatchNorm1d(1, momentum=1.0, eps=1e-12, dtype=torch.float64)
    x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    assert norm(x).flatten().tolist() == pytest.approx([-1, 1])
    assert (norm.running_mean.item(), norm.running_var.item()) == (1, 2)
    assert norm.eval()(x[1:]).item() == pytest.approx(1 / math.sqrt(2))
    norm = BatchNorm1d(1, momentum=0.1)
    for mean, variance in ((0.1, 0.9 + 0.1 * 2), (0.19, 0.9 * 1.1 + 0.1 * 2)):
        norm(torch.tensor([[0.0], [2.0]]))
        assert norm.running_mean.item() == pytest.approx(mean)
        assert norm.running_var.item() == pytest.approx(variance)


def test_without_momentum_the_running_mean_is_that_of_all_batches():
    norm = BatchNorm1d(1, momentum=None)
    for value in (1.0, 2.0, 6.0):
        norm(torch.tensor([[value - 1], [value + 1]]))
    assert (norm.running_mean.item(), norm.running_var.item()) == pytest.approx((3.0, 2.0))
    assert norm.num_batches_tracked == 3


def test_layer_norm_of_two_sentences_of_four_words_in_three_dimensions():
    """(batch, query, embedding) = (2, 4, 3): 8 means over the last dimension, not 2; over the last two there are 2."""
    x = torch.arange(24.0, dtype=torch.float64).view(2, 4, 3) ** 2
    assert moments(x, [-1])[0].numel() == 8
    assert moments(x, [-2, -1])[0].numel() == 2
    y = LayerNorm(3, eps=0.0, dtype=torch.float64)(x)
    assert moments(x, [-1])[0][0, :, 0].tolist() == pytest.approx([5 / 3, 50 / 3, 149 / 3, 302 / 3])
    first = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)  # mean 5/3, variance 26/9
    torch.testing.assert_close(y[0, 0], (first - 5 / 3) * 3 / 26**0.5)
    changed = x.clone()
    changed[0, 1] = torch.tensor([5.0, -7.0, 0.0])  # another query: the first is not touched
    assert torch.equal(LayerNorm(3, eps=0.0, dtype=torch.float64)(changed)[0, 0], y[0, 0])
    together = LayerNorm((4, 3), eps=0.0, dtype=torch.float64)
    assert not torch.allclose(together(changed)[0, 0], together(x)[0, 0])
    assert together.weight.shape == (4, 3)


def test_instance_norm_of_two_images_of_three_channels():
    """(N, C, H, W) = (2, 3, 2, 2): 6 means; channel 1 of sample 1 is [1, 2, 3, 4], of mean 2.5 and variance 1.25."""
    x = torch.arange(1.0, 25.0).view(2, 3, 2, 2)
    mean, variance = moments(x, [2, 3])
    assert mean.flatten().tolist() == [2.5, 6.5, 10.5, 14.5, 18.5, 22.5]
    assert variance.flatten().tolist() == [1.25] * 6
    expected = torch.tensor([-1.3416, -0.4472, 0.4472, 1.3416]).view(2, 2).expand(2, 3, 2, 2)
    torch.testing.assert_close(InstanceNorm2d(3)(x), expected, rtol=0, atol=5e-5)


def test_group_norm_of_one_image_in_two_groups():
    """(N, C, H, W) = (1, 4, 2, 2) in two groups: channels 0 and 1, [1, …, 8], and channels 2 and 3, [9, …, 16]."""
    x = torch.arange(1.0, 17.0).view(1, 4, 2, 2)
    mean, variance = moments(x.view(1, 2, 8), [2])
    assert mean.flatten().tolist() == [4.5, 12.5]
    assert variance.flatten().tolist() == [5.25, 5.25]
    group = (torch.arange(1.0, 9.0) - 4.5) / 5.25**0.5
    assert group[4:].tolist() == pytest.approx([0.2182, 0.6547, 1.0911, 1.5275], abs=5e-5)
    torch.testing.assert_close(GroupNorm(2, 4)(x), group.repeat(2).view(1, 4, 2, 2), rtol=0, atol=1e-5)


def test_batch_norm_takes_one_mean_a_channel():
    x = draw(2, 3, 2, 2)
    assert moments(x, [0, 2, 3])[0].numel() == 3


# ---- far from zero, and in 16 bits


def test_the_variance_in_one_pass_is_lost_and_in_two_is_not():
    for offset, one_pass in ((10_000, 0.0), (40_000, -128.0)):
        x = offset + torch.arange(4.0)
        assert (x.square().mean() - x.mean().square()).item() == one_pass
        mean, variance = moments(x, [0])
        assert (mean.item(), variance.item()) == (offset + 1.5, 1.25)
        expected = pytest.approx([-1.3416, -0.4472, 0.4472, 1.3416], abs=5e-5)
        assert standardize(x, mean, variance).tolist() == expected
        # Torch's kernels compute x / σ - μ / σ, of which the last digits are rounded.
        rounded = pytest.approx(expected.expected, abs=offset * 2**-22)
        assert LayerNorm(4)(x).tolist() == rounded
        assert InstanceNorm1d(1)(x[None]).flatten().tolist() == rounded
        assert GroupNorm(1, 4)(x[None]).flatten().tolist() == rounded
        assert BatchNorm1d(1)(x[:, None]).flatten().tolist() == rounded


UNIT = {1e4: 2**-10, 1e6: 2**-4}  # of the last place of a float32; the mean is rounded to it, the deviation is 1


@each
@both_ways
@pytest.mark.parametrize("offset", UNIT)
def test_far_from_zero_at_least_as_accurate_as_torch(cls, args, shape, way, offset):
    errors, seeds = {"ours": 0.0, "torch": 0.0}, 8
    for seed in range(seeds):
        x = (offset + draw(64, 6, *[16, 16][: len(shape) - 2], seed=seed)).float()
        x = x.movedim(1, -1) if cls in (LayerNorm, RMSNorm) else x
        ours, theirs = pair(cls, args, {"eps": 1e-5} if cls is RMSNorm else None, dtype=torch.float32)
        truth = copy.deepcopy(theirs).double()(x.double())
        for name, y in (("ours", call(ours, x, way)), ("torch", theirs(x))):
            errors[name] += (y - truth).abs().mean().item() / seeds
    # The formula sums in float32; group norm's kernel, which ours calls for instance norm, too, and batch norm's not.
    slack = 2 if way == "formula" else 0.5 if cls in (InstanceNorm1d, InstanceNorm2d) else 0
    assert errors["ours"] <= errors["torch"] * 1.0001 + slack * UNIT[offset] * (cls is not RMSNorm)


@pytest.mark.parametrize("offset", UNIT)
@pytest.mark.parametrize(("cls", "args"), [(GroupNorm, (2, 4)), (GroupNorm, (4, 4)), (InstanceNorm2d, (4,))])
def test_channels_last_is_as_accurate_as_any_layout(cls, args, offset):
    """Torch's group norm is not: it makes one pass there on a CPU, and is off by a thousand at 10,000."""
    for shape in ((2, 4, 8, 8), (2, 4, 1, 9), (1, 4, 3, 1)):
        x = (offset + draw(*shape)).float()
        last = x.contiguous(memory_format=torch.channels_last)
        norm = cls(*args)
        torch.testing.assert_close(norm(last).double(), norm.double()(x.double()), rtol=0, atol=4 * UNIT[offset])


@each
def test_channels_last_keeps_its_layout(cls, args, shape):
    if len(shape) == 4:
        ours, theirs = pair(cls, args)
        x, gradient = draw(*shape).contiguous(memory_format=torch.channels_last), draw(*shape, seed=1)
        found = learn(ours, x, gradient)
        assert_same(found, learn(theirs, x, gradient))
        assert found["y"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [GroupNorm(2, 4, dtype=torch.float64), InstanceNorm2d(4, dtype=torch.float64)])
def test_double_backward_of_channels_last(norm):
    x = (100 + draw(2, 4, 2, 3)).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


@each
@both_ways
@pytest.mark.parametrize("module", ["16 bits", "float32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_of_16_bits_are_taken_in_float32(cls, args, shape, way, dtype, module):
    """In 16 bits a mean of thousands of numbers would be lost, and squares beyond 65,504 would be infinite."""
    big = (64, 6, *[16, 16][: len(shape) - 2]) if cls not in (LayerNorm, RMSNorm) else (16, 4, 6)
    x = (300 * draw(*big) + 300).to(dtype)
    ours, theirs = pair(cls, args, dtype=dtype if module == "16 bits" else torch.float32)
    truth = copy.deepcopy(theirs).double()(x.double())
    y = call(ours, x, way)
    assert y.dtype == dtype
    assert y.dtype == theirs(x).dtype if cls is not RMSNorm else True
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), truth, rtol=unit, atol=2 * unit)


@each
@pytest.mark.parametrize("training", [True, False])
def test_under_autocast(cls, args, shape, training):
    """After a layer that autocast runs in 16 bits: the norm's parameters are float32, its output as torch's."""
    ours, theirs = (norm.train(training) for norm in pair(cls, args, dtype=torch.float32))
    results = []
    for norm in (ours, theirs):
        x = draw(*shape, dtype=torch.float32).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            first = F.linear(x, torch.eye(shape[-1]))
            if cls is RMSNorm and norm is theirs:  # torch would warn
                y = F.rms_norm(first.float(), (6,), norm.weight, torch.finfo(torch.float32).eps).to(first.dtype)
            else:
                y = norm(first)
        assert first.dtype == y.dtype == torch.bfloat16
        y.backward(draw(*shape, seed=1).to(y.dtype))
        results.append({"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in norm.named_parameters()})
        results[-1] |= dict(norm.named_buffers())
    assert_same(*results, tolerance=2e-2)
    assert ours.weight is None or ours.weight.grad.dtype == torch.float32


# ---- empty, alone, compiled


@each
@both_ways
def test_empty_batches(cls, args, shape, way):
    norm, _ = pair(cls, args, {"track_running_stats": True} if "Instance" in cls.__name__ else None)
    before = {name: b.clone() for name, b in norm.named_buffers() if name != "num_batches_tracked"}
    found = learn(norm, torch.zeros(0, *shape[1:], dtype=torch.float64), torch.zeros(0, *shape[1:]).double(), way)
    assert found["y"].shape == found["x"].shape == (0, *shape[1:])
    assert all(found[name].eq(0).all() for name, _ in norm.named_parameters())
    assert_same({name: found[name] for name in before}, before, 0)
    assert norm.eval()(torch.zeros(0, *shape[1:], dtype=torch.float64)).shape == (0, *shape[1:])


@pytest.mark.parametrize(
    ("norm", "shape", "words"),
    [
        (BatchNorm1d(3), (1, 3), "Expected more than 1 value per channel when training, got input size"),
        (BatchNorm1d(3), (1, 3, 1), "Expected more than 1 value per channel when training, got input size"),
        (BatchNorm2d(3), (1, 3, 1, 1), "Expected more than 1 value per channel when training, got input size"),
        (BatchNorm1d(3, track_running_stats=False).eval(), (1, 3), "Expected more than 1 value per channel when"),
        (InstanceNorm1d(3), (2, 3, 1), "Expected more than 1 spatial element when training, got input size"),
        (InstanceNorm1d(3).eval(), (3, 1), "Expected more than 1 spatial element when training, got input size"),
        (InstanceNorm2d(3), (1, 3, 1, 1), "Expected more than 1 spatial element when training, got input size"),
        (GroupNorm(3, 3), (1, 3), "Expected more than 1 value per channel when training, got input size"),
        (GroupNorm(3, 3), (1, 3, 1, 1), "Expected more than 1 value per channel when training, got input size"),
    ],
)
def test_one_value_has_no_variance_and_torchs_words_say_so(norm, shape, words):
    theirs = getattr(nn, type(norm).__name__)(*([3, 3] if isinstance(norm, GroupNorm) else [3]))
    theirs.track_running_stats = getattr(norm, "track_running_stats", None)
    if not theirs.track_running_stats:
        theirs.running_mean = theirs.running_var = None
    before = copy.deepcopy(norm.state_dict())
    for one in (norm, theirs.train(norm.training)):
        with pytest.raises(ValueError, match=words):
            one(torch.zeros(shape))
    if not isinstance(norm, GroupNorm):
        with pytest.raises(ValueError, match=words):
            call(norm, torch.zeros(shape), "formula")
    assert_same(norm.state_dict(), before, 0)  # not counted either
    if hasattr(norm, "running_mean") and norm.running_mean is not None:
        assert norm.eval()(torch.zeros(shape)).shape == shape


def test_a_gap_in_a_buffer_is_as_torchs():
    """Statistics switched off after the norm was made: torch's conditions, case by case."""
    for training in (True, False):
        ours, theirs = (norm.train(training) for norm in pair(BatchNorm1d, (3,)))
        ours.track_running_stats = theirs.track_running_stats = False
        x = draw(4, 3)
        assert_same(learn(ours, x, x), learn(theirs, x, x))
        assert_same(learn(ours, x, x, "formula"), learn(theirs, x, x))


# ---- errors


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: BatchNorm1d(0), ValueError, "num_features must be >= 1, got 0"),
        (lambda: BatchNorm1d(2.5), TypeError, "num_features must be >= 1, and a whole number (an int), got 2.5"),
        (lambda: BatchNorm2d(2, eps=-1.0), ValueError, "eps must be >= 0, got -1.0"),
        (lambda: BatchNorm2d(2, eps=math.nan), ValueError, "eps must be >= 0, got nan"),
        (lambda: BatchNorm2d(2, momentum=1.5), ValueError, "momentum must be in [0, 1], the weight of the new batch"),
        (lambda: BatchNorm2d(2, momentum=-0.1), ValueError, "momentum must be in [0, 1], the weight of the new batch"),
        (lambda: BatchNorm2d(2, momentum=math.nan), ValueError, "momentum must be in [0, 1], the weight of the new"),
        (lambda: BatchNorm2d(2, momentum="x"), TypeError, "momentum must be a number, got 'x'"),
        (lambda: InstanceNorm1d(2, momentum=None), TypeError, "momentum must be a number in [0, 1], got None"),
        (lambda: GroupNorm(0, 4), ValueError, "num_groups must be >= 1, got 0"),
        (lambda: GroupNorm(2, 0), ValueError, "num_channels must be >= 1, got 0"),
        (lambda: GroupNorm(3, 4), ValueError, "num_channels (4) must be divisible by num_groups (3)"),
        (lambda: GroupNorm(2, 4, eps=-1.0), ValueError, "eps must be >= 0, got -1.0"),
        (lambda: LayerNorm(()), ValueError, "normalized_shape must have one dimension at least, got ()"),
        (lambda: LayerNorm((2, 0)), ValueError, "normalized_shape must be >= 1, got 0"),
        (lambda: LayerNorm([2.0]), TypeError, "normalized_shape must be >= 1, and a whole number (an int), got 2.0"),
        (lambda: LayerNorm(2, eps=math.inf), ValueError, "eps must be finite, got inf"),
        (lambda: RMSNorm(2, eps=-1e-3), ValueError, "eps must be >= 0, got -0.001"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, error, words, monkeypatch):
    with pytest.raises((error, TypeCheckError) if error is TypeError else error) as caught:
        make()
    assert words in str(caught.value) or isinstance(caught.value, TypeCheckError)


@pytest.mark.parametrize(
    ("norm", "shape", "words"),
    [
        (BatchNorm1d(3), (3,), "BatchNorm1d: input must be (N, C) or (N, C, L), got 1 dimensions, (3,)"),
        (BatchNorm1d(3), (2, 3, 4, 4), "BatchNorm1d: input must be (N, C) or (N, C, L), got 4 dimensions"),
        (BatchNorm2d(3), (2, 3, 4), "BatchNorm2d: input must be (N, C, H, W), got 3 dimensions, (2, 3, 4)"),
        (InstanceNorm1d(3), (2, 3, 4, 4), "InstanceNorm1d: input must be (C, L) or (N, C, L), got 4 dimensions"),
        (InstanceNorm2d(3), (3, 4), "InstanceNorm2d: input must be (C, H, W) or (N, C, H, W), got 2 dimensions"),
        (BatchNorm2d(3), (2, 4, 3, 3), "num_features = 3 channels in dimension 1, got 4, shape (2, 4, 3, 3)"),
        (InstanceNorm2d(3), (4, 3, 3), "num_features = 3 channels in dimension 0, got 4, shape (4, 3, 3)"),
        (InstanceNorm1d(3), (3, 4, 3), "num_features = 3 channels in dimension 1, got 4, shape (3, 4, 3)"),
        (GroupNorm(2, 4), (4,), "GroupNorm: input must be (N, num_channels = 4, …), got shape (4,)"),
        (GroupNorm(2, 4, affine=False), (1, 6), "GroupNorm: input must be (N, num_channels = 4, …), got shape (1, 6)"),
        (LayerNorm(3), (3, 4), "LayerNorm: input must be (…, 3), got shape (3, 4)"),
        (LayerNorm((2, 3)), (3,), "LayerNorm: input must be (…, 2, 3), got shape (3,)"),
        (RMSNorm(3), (), "RMSNorm: input must be (…, 3), got shape ()"),
    ],
)
def test_input_of_another_form_is_refused(norm, shape, words):
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(ValueError, match=re.escape(words)):
        norm(torch.zeros(shape))
    assert_same(norm.state_dict(), before, 0)


@each
def test_input_of_another_kind_is_refused(cls, args, shape):
    with pytest.raises(TypeError, match=r"input must be of floating point, got torch.int64: write input.float\(\)"):
        cls(*args)(torch.zeros(shape, dtype=torch.int64))
    if cls(*args).state_dict():
        for weight, given in (("float32", "float64"), ("float64", "float32"), ("bfloat16", "float16")):
            with pytest.raises(TypeError, match=f"input must be torch.{weight}, as the weight is, got torch.{given}"):
                cls(*args, dtype=getattr(torch, weight))(torch.zeros(shape, dtype=getattr(torch, given)))


# ---- compiled


def assert_compiled_is_the_same(cls, args, shape, backend, modes):
    torch.compiler.reset()
    norm, other = (copy.deepcopy(pair(cls, args, dtype=torch.float32)[0]) for _ in range(2))
    compiled = torch.compile(other, fullgraph=True, backend=backend)
    for training in modes:
        norm.train(training), other.train(training)
        for seed in range(2):
            x, gradient = draw(*shape, dtype=torch.float32, seed=seed), draw(*shape, dtype=torch.float32, seed=9)
            found = learn(compiled, x, gradient).items()
            assert_same({k.removeprefix("_orig_mod."): v for k, v in found}, learn(norm, x, gradient), 1e-5)


@each
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_traced_without_a_break(cls, args, shape):
    assert_compiled_is_the_same(cls, args, shape, "aot_eager", [True, False])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled():
    assert_compiled_is_the_same(BatchNorm2d, (3,), (2, 3, 4, 4), "inductor", [True])
