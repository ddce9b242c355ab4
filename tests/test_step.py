import collections
import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training import make_model, make_step

from dlnotes.checkpoint import CheckpointError
from dlnotes.optim import SGD
from dlnotes.step import NonFiniteError, Step, TrainStep


def batch(samples=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, generator=generator), torch.arange(samples) % 2


def plain_model():
    torch.manual_seed(0)
    return nn.Linear(3, 2, dtype=torch.float32)


def weights(step):
    return {name: value.clone() for name, value in step.model.state_dict().items()}


@pytest.mark.parametrize("sizes", [[8], [4, 4], [3, 3, 2], [1] * 8])
def test_accumulation_equals_one_big_batch(sizes):
    x, y = batch()
    big = TrainStep(model := plain_model().double(), F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    small = TrainStep(model := plain_model().double(), F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    x = x.double()
    logs = big([(x, y)])
    accumulated = small(list(zip(x.split(sizes), y.split(sizes), strict=True)))
    assert accumulated["loss"] == pytest.approx(logs["loss"], rel=1e-6)
    assert accumulated["samples"] == 8
    torch.testing.assert_close(small.model.weight, big.model.weight, rtol=1e-12, atol=1e-12)


def test_equals_the_loop_one_would_write():
    x, y = batch()
    step = make_step(plain_model(), schedule=True, clip_norm=0.05)
    model = plain_model()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(5):
        logs = step([(x, y)])
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        scheduler.step()
        assert logs["loss"] == loss.item()
        assert logs["grad_norm"] == norm.item()
        assert step.learning_rate() == optimizer.param_groups[0]["lr"]
        assert torch.equal(step.model.weight, model.weight)


def test_clipping_bounds_the_step():
    step = make_step(plain_model(), lr=1.0, schedule=False, clip_norm=1e-3)
    before = weights(step)
    assert step([batch()])["grad_norm"] > 1e-3
    moved = torch.cat([(value - before[name]).flatten() for name, value in weights(step).items()])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_fp16_equals_torchs_own_recipe():
    x, y = batch()
    step = make_step(plain_model(), schedule=False, amp="fp16")
    model = plain_model()
    optimizer, scaler = SGD(model.parameters(), lr=0.1, momentum=0.9), torch.amp.GradScaler("cpu")
    for _ in range(5):
        step([(x, y)])
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            output = model(x)
        scaler.scale(F.cross_entropy(output.float(), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(step.model.weight, model.weight)


def test_fp16_overflow_skips_the_update_and_the_schedule_and_lowers_the_scale():
    step = make_step(plain_model(), amp="fp16")
    before, rate = weights(step), step.learning_rate()
    x, y = batch()
    logs = step([(x * 1e6, y)])  # beyond FP16's largest number, 65504
    assert logs["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())
    assert (step.scaler.get_scale(), step.learning_rate()) == (2.0**15, rate)
    assert step([(x, y)])["skipped"] == 0
    assert step.learning_rate() < rate


def test_fp16_gives_up_when_the_scale_is_not_to_blame():
    step, (x, y) = make_step(plain_model(), amp="fp16"), batch()
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        for _ in range(40):
            step([(x * float("nan"), y)])
    assert step.scaler.get_scale() < 2.0**-16


def test_bf16_trains():
    step = make_step(plain_model(), amp="bf16", schedule=False)
    losses = [step([batch()])["loss"] for _ in range(30)]
    assert losses[-1] < losses[0]
    assert step.model.weight.dtype == torch.float32
    assert not step.scaler.enabled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_batch_is_named_and_changes_nothing(value):
    step, (x, y) = make_step(make_model()), batch()
    before, optimizer = weights(step), step.optimizer.state_dict()
    x[0, 0] = value
    with pytest.raises(
        NonFiniteError, match="the loss is nan, and no update was made; the parameters are still finite"
    ):
        step([(x, y)])
    after = weights(step)
    assert all(torch.equal(p, before[n]) for n, p in after.items() if "running" not in n and "num_batches" not in n)
    assert step.optimizer.state_dict() == optimizer


def test_a_broken_parameter_is_named():
    step = make_step(plain_model())
    with torch.no_grad():
        step.model.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="the last update made bias non-finite"):
        step([batch()])


def test_an_infinite_norm_is_named_when_clipping():
    model = plain_model()
    root = TrainStep(
        model, lambda o, t: (o - o.detach()).pow(2).sum().sqrt(), torch.optim.SGD(model.parameters()), clip_norm=1.0
    )
    before = weights(root)
    with pytest.raises(NonFiniteError, match="the gradient's norm is nan"):
        root([batch()])
    assert all(torch.equal(value, before[name]) for name, value in weights(root).items())


def test_evaluate_leaves_no_gradient():
    step = make_step(plain_model())
    x, y = batch()
    output, target, losses, count, samples = step.evaluate((x, y))
    assert torch.equal(output, step.model(x))
    assert torch.equal(target, y)
    assert losses == {"loss": F.cross_entropy(output, y).item()}
    assert (count, samples) == (8.0, 8)
    assert step.model.weight.grad is None


def test_several_inputs():
    bilinear = nn.Bilinear(3, 3, 1)
    step = TrainStep(bilinear, F.mse_loss, torch.optim.SGD(bilinear.parameters(), lr=0.1))
    x, _ = batch()
    assert math.isfinite(step([(x, x, torch.zeros(8, 1))])["loss"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accumulate": 0}, ValueError, "accumulate must be >= 1, got 0"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be > 0 or None, got 0.0"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm must be > 0"),
        ({"amp": "fp8"}, ValueError, "amp must be None or one of"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        make_step(**options)


def test_refused_parts():
    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(Exception, match="ReduceLROnPlateau"):
        TrainStep(model, F.cross_entropy, optimizer, scheduler=plateau)
    with pytest.raises(ValueError, match="model has no parameters"):
        TrainStep(nn.ReLU(), F.cross_entropy, optimizer)
    vector = TrainStep(model, lambda o, t: F.cross_entropy(o, t, reduction="none"), optimizer)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(8,\)"):
        vector([batch()])


def test_a_head_alone_is_clipped_and_scaled_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 1))
    x = torch.randn(64, 10)
    head = torch.optim.SGD(model[2].parameters(), lr=0.1)
    step = TrainStep(model, F.mse_loss, head, clip_norm=1.0, amp="fp16")
    logs = [step([(x, x.sum(1, keepdim=True))]) for _ in range(200)]
    assert logs[0]["loss"] > 5
    assert logs[-1]["loss"] < 0.2  # clipped together with the body's gradients, which pile up, it hardly falls
    assert logs[-1]["grad_norm"] == pytest.approx(math.hypot(*(p.grad.norm().item() for p in model[2].parameters())))


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1e-3}])
def test_gradients_of_parameters_that_are_not_trained_do_not_pile_up(options):
    x, y = batch()
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    step = TrainStep(model, F.cross_entropy, torch.optim.SGD(model[1].parameters(), lr=0.0), **options)
    expected = torch.autograd.grad(F.cross_entropy(model(x), y), model[0].weight)[0]
    for _ in range(3):
        step([(x, y)])
        assert torch.equal(model[0].weight.grad, expected)


def sqrt_at_zero(output, target):
    """A finite loss whose gradient is NaN: the root's derivative at 0 times 0."""
    return F.cross_entropy(output, target) + (output * 0).pow(2).sum().sqrt()


@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"accumulate": 2}])
def test_a_nan_gradient_is_named_and_never_stepped(amp, options):
    model = plain_model()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = TrainStep(model, sqrt_at_zero, optimizer, amp=amp, **options)
    before = weights(step)
    with pytest.raises(NonFiniteError, match="the gradient's norm is nan, that of weight, bias, and no update was"):
        for _ in range(40 if amp == "fp16" else 1):
            assert step([batch()] * step.accumulate)["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())
    assert not optimizer.state


def test_only_the_broken_gradient_is_named():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    loss = lambda output, target: F.cross_entropy(output, target) + (model[1].bias * 0).pow(2).sum().sqrt()  # noqa: E731
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(
        NonFiniteError, match=r"norm is nan, that of 1\.bias, and no update was made; the loss is finite"
    ):
        step([batch()])


def test_finite_gradients_whose_norm_overflows_are_clipped():
    model = plain_model()
    step = TrainStep(
        model, lambda o, t: 1e30 * F.cross_entropy(o, t), torch.optim.SGD(model.parameters(), 1.0), clip_norm=1.0
    )
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert 1e29 < step([batch()])["grad_norm"] < 1e31
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1.0)


@pytest.mark.parametrize("amp", [None, "fp16"])
def test_a_bad_sample_leaves_no_trace_in_buffers(amp):
    step, (x, y) = make_step(make_model(), amp=amp), batch()
    step([(x, y)])
    before, optimizer, rates = weights(step), copy.deepcopy(step.optimizer.state_dict()), step.learning_rates()
    assert before["1.num_batches_tracked"] == 1
    bad = x.clone()
    bad[0, 0] = float("inf")
    if amp:
        assert step([(bad, y)])["skipped"] == 1
    else:
        with pytest.raises(NonFiniteError):
            step([(bad, y)])
    after = weights(step)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert str(step.optimizer.state_dict()) == str(optimizer)
    assert step.learning_rates() == rates
    assert step([(x, y)])["skipped"] == 0  # and goes on
    assert step.model[1].num_batches_tracked == 2


def test_a_finite_gradient_does_not_excuse_an_infinite_loss_under_fp16():
    model = plain_model()
    loss = lambda output, target: F.cross_entropy(output, target) + torch.tensor(0.0).log().abs()  # noqa: E731
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.1), amp="fp16")
    before = weights(step)
    with pytest.raises(NonFiniteError, match="the loss is inf, and no update was made"):
        step([batch()])
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())


def tokens(seed=0):
    """Six sequences of five tokens, of which between none and all count (the others are -100); scores for 4 classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 5, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (6, 5), generator=generator)
    for row, length in enumerate((5, 1, 0, 3, 2, 5)):
        y[row, length:] = -100
    return x, y


def over_tokens(output, target):
    loss = F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)
    return {"loss": loss, "count": (target != -100).sum()}


CLASS_WEIGHTS = torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64)


def over_weights(output, target):
    weight = CLASS_WEIGHTS.to(output.dtype)
    loss = F.cross_entropy(output.flatten(0, 1), target.flatten(), weight, ignore_index=-100)
    return {"loss": loss, "count": weight[target[target != -100]].sum()}


@pytest.mark.parametrize("loss", [over_tokens, over_weights])
@pytest.mark.parametrize("sizes", [[6], [3, 3], [2, 1, 3], [1, 1, 1, 1, 1, 1]])
def test_the_gradient_is_the_big_batchs_whatever_the_loss_averages_over(loss, sizes):
    x, y = tokens()
    model = nn.Linear(3, 4, dtype=torch.float64)
    big = loss(model(x), y)
    gradient = torch.autograd.grad(big["loss"], model.weight)[0]
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.0))
    logs = step(list(zip(x.split(sizes), y.split(sizes), strict=True)))
    torch.testing.assert_close(model.weight.grad, gradient, rtol=1e-12, atol=1e-15)
    assert logs["loss"] == pytest.approx(big["loss"].item(), rel=1e-12)
    assert logs["count"] == pytest.approx(float(big["count"]))
    assert logs["samples"] == 6


def test_the_mean_of_one_token_with_4_and_three_with_0_is_1():
    model = nn.Linear(1, 1)
    losses = iter([(4.0, 1), (0.0, 3)])

    def loss(output, target):
        mean, count = next(losses)
        return {"loss": output.sum() * 0 + mean, "count": count}

    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.1))
    assert step([(torch.ones(1, 1), torch.ones(1))] * 2)["loss"] == 1.0


def test_accumulation_with_counts_under_fp16_and_clipping():
    x, y = tokens()
    model = nn.Linear(3, 4)
    both = []
    for sizes in ([6], [2, 2, 2]):
        step = TrainStep(model, over_tokens, torch.optim.SGD(model.parameters(), 0.0), clip_norm=0.01, amp="fp16")
        logs = step(list(zip(x.float().split(sizes), y.split(sizes), strict=True)))
        both.append((logs["grad_norm"], model.weight.grad.clone()))
    assert both[0][0] == pytest.approx(both[1][0], rel=1e-2)  # products in 16 bits
    torch.testing.assert_close(both[0][1], both[1][1], rtol=5e-2, atol=1e-5)


def test_several_losses_are_logged_as_means():
    def loss(output, target):
        ce, norm = F.cross_entropy(output, target), output.pow(2).mean()
        return {"penalty": norm, "loss": ce + 0.1 * norm, "ce": ce, "note": 3}

    model, (x, y) = plain_model(), batch()
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.0))
    big, parts = step([(x, y)]), step([(x[:6], y[:6]), (x[6:], y[6:])])
    assert list(big) == ["loss", "penalty", "ce", "note", "count", "samples", "skipped"]
    assert big == pytest.approx(parts, rel=1e-6)
    assert big["loss"] == pytest.approx(big["ce"] + 0.1 * big["penalty"])
    evaluation = step.evaluate((x, y))
    assert evaluation.losses == pytest.approx({name: big[name] for name in ("loss", "penalty", "ce", "note")})


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda o: 1.0, TypeError, "loss must return a scalar tensor, or a dict with one as 'loss', got float"),
        (lambda o: {"ce": o.sum()}, TypeError, r"got \['ce'\]"),
        (lambda o: (o.sum(), 8), TypeError, "got tuple"),
        (lambda o: {"loss": o.sum(), "b": o}, ValueError, r"scalar, got shape \(8, 2\) for 'b'"),
        (lambda o: {"loss": o.sum(), "samples": 1}, ValueError, "'samples' cannot name a loss"),
        (lambda o: {"loss": o.sum(), "count": -1}, ValueError, "count must be >= 0 and finite, got -1"),
        (lambda o: {"loss": o.sum(), "count": math.nan}, ValueError, "count must be >= 0 and finite, got nan"),
        (lambda o: {"loss": o.sum(), "count": 0}, ValueError, "nothing to learn from: 1 batches with 8 samples"),
    ],
)
def test_losses_that_are_of_no_use(result, error, message):
    model = plain_model()
    step = TrainStep(model, lambda output, target: result(output), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(error, match=message):
        step([batch()])


def test_batches_must_agree_on_the_names_of_losses():
    names = iter("ab")
    model = plain_model()
    loss = lambda output, target: {"loss": output.sum(), next(names): 1.0}  # noqa: E731
    step = TrainStep(model, loss, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(
        ValueError, match=r"every batch must have the same losses, got \['loss', 'a'\] and \['loss', 'b'\]"
    ):
        step([batch(), batch()])


class Nested(nn.Module):
    """Takes a dict and a tuple, gives a dict that holds a tuple."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, named, pair):
        return {"first": self.linear(named["x"]), "others": (self.linear(pair[0]), [self.linear(pair[1])])}


Pair = collections.namedtuple("Pair", "one two")


def nested_loss(output, target):
    scores = [output["first"], output["others"][0], output["others"][1][0]]
    assert all(score.dtype == torch.float32 for score in scores)
    return sum(F.cross_entropy(score, y) for score, y in zip(scores, [target["a"], *target["b"]], strict=True))


@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_batches_targets_and_outputs_may_be_nested(amp):
    x, y = batch()
    model = Nested()
    step = TrainStep(model, nested_loss, torch.optim.SGD(model.parameters(), lr=0.1), amp=amp, accumulate=2)
    nested = ({"x": x, "name": ["a"] * 8}, Pair(x, x + 1), {"a": y, "b": (y, y)})
    losses = [step([nested, nested])["loss"] for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert step.batch_size(nested) == 8
    output, target, _, count, samples = step.evaluate(nested)
    assert output["others"][1][0].shape == (8, 2)
    assert (set(target), count, samples) == ({"a", "b"}, 8.0, 8)
    assert step.predict(nested)["first"].dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.randn(2, 3), TypeError, "got a Tensor: override TrainStep.forward"),
        ({"x": torch.randn(2, 3)}, TypeError, "got a dict: override TrainStep.forward"),
        ([torch.randn(2, 3)], TypeError, "got a list of 1: override"),
        ("ab", ValueError, "how many samples has this batch\\? there is no tensor in this str"),
        (None, ValueError, "there is no tensor in this NoneType"),
        ((torch.randn(2, 3), torch.tensor(1)), ValueError, r"shapes \(2, 3\), \(\); all need one first dimension"),
        ((torch.randn(2, 3), [torch.ones(2), torch.ones(3)]), ValueError, r"shapes \(2, 3\), \(2,\), \(3,\)"),
        ((torch.randn(0, 3), torch.ones(0)), ValueError, "nothing to learn from: 1 batches with 0 samples"),
    ],
)
def test_batches_that_are_refused_at_first_sight(given, error, message):
    step = make_step(plain_model())
    before = weights(step)
    with pytest.raises(error, match=message):
        step([given])
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())


def test_no_batches_and_an_empty_one_among_others():
    step, (x, y) = make_step(make_model()), batch()
    with pytest.raises(ValueError, match="nothing to learn from: 0 batches"):
        step([])
    logs = step([(x[:0], y[:0]), (x, y), (x[:0], y[:0])])
    assert (logs["samples"], logs["count"]) == (8, 8)
    assert math.isfinite(logs["loss"])


def test_a_frozen_model_is_refused_until_a_part_is_thawed():
    step = make_step(plain_model().requires_grad_(False))
    with pytest.raises(RuntimeError, match="no parameter of the optimizer needs a gradient: unfreeze one"):
        step([batch()])
    step.model.bias.requires_grad_(True)
    assert step([batch()])["skipped"] == 0


def test_a_loss_that_depends_on_nothing_to_train():
    model = plain_model()
    extra = nn.Linear(3, 2)
    both = nn.ModuleList([model, extra])
    both.forward = lambda x: extra(x)
    step = TrainStep(both, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(RuntimeError, match="no parameter of the optimizer has a gradient"):
        step([batch()])


def test_predict_takes_batches_with_and_without_target():
    step, (x, y) = make_step(make_model()), batch()
    step.model.eval()
    expected = step.model(x)
    for given in (x, [x], (x,), (x, y)):
        output = step.predict(given)
        assert torch.equal(output, expected)
        assert not output.requires_grad


def test_an_overridden_forward_gets_batches_as_they_come():
    class Autoencoder(TrainStep):
        def forward(self, batch):
            return self.model(batch), batch

    model = nn.Linear(3, 3)
    step = Autoencoder(model, F.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    x = batch()[0]
    assert step([x])["samples"] == 8
    assert torch.equal(step.predict(x), model(x))
    assert isinstance(step, Step)


@pytest.mark.parametrize("count", [0, 3])
def test_an_evaluation_in_which_nothing_counts_has_no_nan(count):
    x, y = tokens()
    y[:, count:] = -100
    model = nn.Linear(3, 4, dtype=torch.float64)
    step = TrainStep(model, over_tokens, torch.optim.SGD(model.parameters(), lr=0.1))
    evaluation = step.evaluate((x, y))
    assert evaluation.count == (y != -100).sum()
    assert (evaluation.losses["loss"] == 0) == (count == 0)


def test_learning_rates_by_group():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    model = nn.Sequential(a, b)
    plain = [{"params": a.parameters(), "lr": 0.1}, {"params": b.parameters(), "lr": torch.tensor(0.25)}]
    named = [{"params": a.parameters(), "name": "body", "lr": 0.1}, {"params": b.parameters(), "name": "head"}]
    for groups, rates in ((plain, {"lr": 0.1, "lr_1": 0.25}), (named, {"lr_body": 0.1, "lr_head": 0.5})):
        step = TrainStep(model, F.mse_loss, torch.optim.SGD(groups, lr=0.5))
        assert step.learning_rates() == rates
    assert make_step(plain_model()).learning_rates() == {"lr": 0.1}


@pytest.mark.parametrize("names", [("a", "a"), ("1", None)])
def test_no_learning_rate_is_lost_where_groups_have_one_name(names):
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, (0.1, 0.2), strict=True)]
    groups = [group | ({} if name is None else {"name": name}) for group, name in zip(groups, names, strict=True)]
    step = TrainStep(model, F.mse_loss, torch.optim.SGD(groups))
    assert step.learning_rates() == {"lr": 0.1, "lr_1": 0.2}


class Codebook(nn.Module):
    """A large buffer that changes through `.data`, and one that is expanded."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("codes", torch.zeros(2**16 + 1))
        self.register_buffer("shared", torch.ones(1, 2).expand(4, 2))

    def forward(self, x):
        self.codes.data.add_(1)
        return self.linear(x) + self.shared[0]


def test_a_skipped_update_does_not_take_large_buffers_back_to_their_first_values():
    step, (x, y) = make_step(Codebook(), amp="fp16"), batch()
    for _ in range(10):
        assert step([(x, y)])["skipped"] == 0
    assert step([(x * float("inf"), y)])["skipped"] == 1
    assert (step.model.codes >= 10).all()
    assert torch.equal(step.model.shared, torch.ones(4, 2))


# ---- parts that do not belong together; the type checker of the tests is passed by, to see the messages of the step


def refused(message, error, *args, **options):
    with pytest.raises(error, match=message):
        inspect.unwrap(TrainStep.__init__)(object.__new__(TrainStep), *args, **options)


@pytest.mark.parametrize("accumulate", [1.5, math.nan, "2", None])
def test_accumulate_must_be_whole(accumulate):
    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    refused("accumulate must be an int, got", TypeError, model, F.cross_entropy, optimizer, accumulate=accumulate)


def test_parts_that_do_not_belong_together():
    model, other = plain_model(), nn.Linear(3, 2)
    optimizer, foreign = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (model, other))
    loss = F.cross_entropy
    refused(
        "parameter 0 of group 0, of shape \\(2, 3\\), is not in the model: give it model.par",
        ValueError,
        model,
        loss,
        foreign,
    )
    refused("got a class: write Adam\\(model.parameters\\(\\), …\\)", TypeError, model, loss, torch.optim.Adam)
    refused("optimizer must be a torch optimizer, got 'SGD'", TypeError, model, loss, "SGD")
    lbfgs = torch.optim.LBFGS(model.parameters())
    refused("LBFGS computes the loss several times in a step", TypeError, model, loss, lbfgs)
    refused("loss must be a function of output and target, got 'mse'", TypeError, model, "mse", optimizer)
    schedule = lambda step: 1.0  # noqa: E731
    for given, error, message in (
        (schedule, TypeError, "write dlnotes.schedules.scheduler\\(optimizer, schedule\\)"),
        ("cosine", TypeError, "scheduler must be a torch learning-rate scheduler, got 'cosine'"),
        (torch.optim.lr_scheduler.StepLR(foreign, 1), ValueError, "learning rates of another optimizer"),
        (torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), TypeError, "ReduceLROnPlateau needs a metric"),
    ):
        refused(message, error, model, loss, optimizer, scheduler=given)
    half = nn.Linear(3, 2).half()
    refused("leave out model.half", ValueError, half, loss, torch.optim.SGD(half.parameters()), amp="fp16")
    lazy = nn.LazyLinear(2)
    refused("some parameters are not made yet", ValueError, lazy, loss, torch.optim.SGD(lazy.parameters()))


# ---- states


def two_layers(cls=torch.optim.Adam, schedule=torch.optim.lr_scheduler.StepLR, *, swapped=False, dtype=None, amp=None):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).to(dtype)
    parameters = list(model.parameters())
    optimizer = cls([*parameters[2:], *parameters[:2]] if swapped else parameters, lr=0.1)
    scheduler = None if schedule is None else schedule(optimizer, 5)
    return TrainStep(model, F.mse_loss, optimizer, scheduler=scheduler, amp=amp)


def trained(step):
    x = torch.randn(4, 3, dtype=step.model[0].weight.dtype)
    for _ in range(3):
        step([(x, x)])
    return step


def everything(step):
    """All of a step's state, to compare."""
    return str(copy.deepcopy(step.state_dict()))


def test_a_state_goes_back_and_forth():
    for amp in (None, "fp16"):
        one, two = trained(two_layers(amp=amp)), two_layers(amp=amp)
        assert two.mismatches(one.state_dict()) == []
        two.load_state_dict(copy.deepcopy(one.state_dict()))
        assert everything(one) == everything(two)


def one_cycle(optimizer, _):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 10)


@pytest.mark.parametrize(
    ("saved", "own", "lines"),
    [
        ({"cls": torch.optim.SGD}, {}, ["optimizer: SGD in the checkpoint, Adam in this run"]),
        ({}, {"cls": torch.optim.SGD}, ["optimizer: Adam in the checkpoint, SGD in this run"]),
        ({}, {"schedule": one_cycle}, ["scheduler: StepLR in the checkpoint, OneCycleLR in this run"]),
        ({"schedule": None}, {}, ["scheduler: the checkpoint has none, this run has one"]),
        ({"amp": "fp16"}, {}, ["scaler: the checkpoint has one, this run has none"]),
        (
            {},
            {"swapped": True},
            [
                f"optimizer: parameter {i} of group 0 is {a} in the checkpoint, {b} in this run"
                for i, (a, b) in enumerate(
                    [("0.weight", "1.weight"), ("0.bias", "1.bias"), ("1.weight", "0.weight"), ("1.bias", "0.bias")]
                )
            ],
        ),
        (
            {"dtype": torch.float64},
            {},
            [
                f"model: dtype of {name}: float64 given, float32 expected"
                for name in ("0.weight", "0.bias", "1.weight", "1.bias")
            ],
        ),
        (
            {"cls": torch.optim.SGD, "schedule": None},
            {"amp": "fp16"},
            [
                "scheduler: the checkpoint has none, this run has one",
                "scaler: the checkpoint has none, this run has one",
                "optimizer: SGD in the checkpoint, Adam in this run",
            ],
        ),
    ],
)
def test_everything_that_differs_is_listed_and_nothing_loaded(saved, own, lines):
    state, step = trained(two_layers(**saved)).state_dict(), trained(two_layers(**own))
    before = everything(step)
    assert sorted(step.mismatches(state)) == sorted(lines)
    with pytest.raises(CheckpointError, match=r"does not fit this run:\n  "):
        step.load_state_dict(state)
    assert everything(step) == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: s.pop("parameters"), "parameters: missing in the checkpoint"),
        (lambda s: s.clear(), "model: missing in the checkpoint"),
        (lambda s: s.update(optimizer=None), "optimizer: a NoneType in the checkpoint is not its state"),
        (lambda s: s.update(optimizer={"state": {}}), "the checkpoint's parts are not as a step saves them: KeyError"),
        (lambda s: s.update(model=3), "model: a int in the checkpoint is not its state"),
        (lambda s: s["scaler"].update(growth_factor=0.5), "scaler: growth_factor must be > 1 and finite, got 0.5"),
        (
            lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(1, 3)),
            "optimizer: exp_avg of parameter 0 (group 0): shape (1, 3) given, (3, 3) expected",
        ),
    ],
)
def test_damaged_states_are_refused_in_words(change, line):
    state, step = copy.deepcopy(trained(two_layers(amp="fp16")).state_dict()), two_layers(amp="fp16")
    change(state)
    before = everything(step)
    assert any(found.startswith(line) for found in step.mismatches(state))
    with pytest.raises(CheckpointError):
        step.load_state_dict(state)
    assert everything(step) == before


@pytest.mark.parametrize("part", ["model", "optimizer", "scheduler", "scaler"])
def test_a_failure_half_way_puts_everything_back(part, monkeypatch):
    state, step = trained(two_layers(amp="fp16")).state_dict(), two_layers(amp="fp16")
    trained(step)
    step([(torch.ones(4, 3), torch.ones(4, 3))])
    before, fails = everything(step), iter([True, False])
    cls = type(getattr(step, part))
    load = cls.load_state_dict

    def broken(self, given):
        load(self, given)
        if next(fails):
            raise KeyboardInterrupt

    monkeypatch.setattr(cls, "load_state_dict", broken)
    with pytest.raises(KeyboardInterrupt):
        step.load_state_dict(state)
    assert everything(step) == before


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("where", ["step", "clip"])
def test_an_interrupt_under_fp16_does_not_reach_later_updates(where, resume, monkeypatch):
    step = make_step(plain_model(), amp="fp16", clip_norm=1.0)
    step([batch()])
    saved = copy.deepcopy(step.state_dict())

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "step":
            patch.setattr(step.optimizer, "step", interrupt)
        else:
            patch.setattr("dlnotes.step.clip_", interrupt)
        with pytest.raises(KeyboardInterrupt):
            step([batch()])
    if resume:
        step.load_state_dict(saved)
    assert step([batch()])["skipped"] == 0
    assert step([batch()])["skipped"] == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"schedule": False}, "scheduler: the checkpoint has one, this run has none"),
        ({"amp": "fp16"}, "scaler: the checkpoint has none, this run has one"),
        ({"model": nn.Linear(3, 5)}, r"model: shape of weight: \(2, 3\) given, \(5, 3\) expected"),
    ],
)
def test_a_state_of_another_step_is_refused_whole(other, message):
    torch.manual_seed(1)
    step = make_step(**({"model": nn.Linear(3, 2)} | other))
    before = weights(step)
    with pytest.raises(CheckpointError, match=message):
        step.load_state_dict(make_step(plain_model()).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())


def test_a_state_with_other_groups_is_refused():
    step = make_step(plain_model())
    one_group = step.state_dict()
    model = plain_model()
    optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias]}], lr=0.1)
    split = TrainStep(model, F.cross_entropy, optimizer, scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1))
    with pytest.raises(CheckpointError, match=r"groups of \[2\] parameters in the checkpoint, \[1, 1\] in this run"):
        split.load_state_dict(one_group)


def test_how_a_step_is_shown():
    class Mine(TrainStep):
        pass

    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1), "accumulate": 2, "clip_norm": 1.0}
    step = Mine(model, nn.CrossEntropyLoss(), optimizer, **options, amp="bf16")
    parts = f"{type(model).__name__}, CrossEntropyLoss, SGD, scheduler=StepLR"
    assert repr(step) == f"Mine({parts}, accumulate=2, clip_norm=1.0, amp='bf16')"
