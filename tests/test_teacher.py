import signal

import pytest
import torch
from torch.nn import functional as F

from dlnotes.checkpoint import CheckpointError, load
from dlnotes.hooks import Hook
from dlnotes.seq2seq import Seq2Seq
from dlnotes.step import TrainStep
from dlnotes.teacher import TokenLoss, loader, teach

SIZES = {"d_model": 16, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 32}


def pairs(count=60, seed=0):
    """Sentences and the same with other tokens, of one to six."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=generator).tolist()
    sources = [torch.randint(4, 12, (length,), generator=generator).tolist() for length in lengths]
    return [(source, [15 - token for token in source]) for source in sources]


def new(seed=0, **options):
    torch.manual_seed(seed)
    return Seq2Seq(12, 12, **SIZES | options)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.6])
def test_the_loss_is_torchs(label_smoothing):
    torch.manual_seed(0)
    scores = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[4, 5, 6, 2, 0], [2, 0, 0, 0, 0], [6, 6, 6, 6, 2]])
    found = TokenLoss(label_smoothing)(scores, target)
    inputs, options = (scores.flatten(0, 1), target.flatten()), {"ignore_index": 0}
    wanted = F.cross_entropy(*inputs, label_smoothing=label_smoothing, **options)
    torch.testing.assert_close(found["loss"], wanted)
    torch.testing.assert_close(found["nll"], F.cross_entropy(*inputs, **options))
    assert found["count"].item() == 10
    gradients = [torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (found["loss"], wanted)]
    torch.testing.assert_close(*gradients)
    assert gradients[0][target == 0].eq(0).all()


def test_accumulation_and_uneven_batches_change_nothing():
    """The gradient and the loss of one batch are those of its parts, however many tokens each of them has."""
    data = pairs(12)
    (whole,) = loader(data, 10_000, shuffle=False)
    rows = [(part[0], part[1], part[2]) for part in zip(*(t.split([1, 4, 7]) for t in whole), strict=True)]
    results = []
    for batches in ([whole], rows):
        model = new(dropout=0.0).double()
        step = TrainStep(model, TokenLoss(0.1), torch.optim.SGD(model.parameters(), lr=0.1), accumulate=len(batches))
        logs = step(batches)
        results.append(({name: logs[name] for name in ("loss", "nll", "count")}, [p.grad for p in model.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_validation_is_a_mean_over_tokens():
    data = pairs(30)
    results = []
    for max_tokens in (7, 10_000):  # single sentences, and all at once
        runner = teach(new(dropout=0.0), data[:4], data, epochs=1, lr=1e-9, max_tokens=max_tokens)
        results.append(runner.history[-1]["val_nll"])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_it_learns(amp):
    model = new(dropout=0.0)
    runner = teach(model, pairs(200), pairs(20, seed=1), epochs=20, lr=1e-2, max_tokens=200, amp=amp)
    assert runner.history[-1]["val_nll"] < 0.6 * runner.history[0]["val_nll"]
    rates = [record["lr"] for record in runner.history]
    assert max(rates) == rates[1] == pytest.approx(1e-2, rel=0.05)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


class Interrupt(Hook):
    """Ctrl-C."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner):
        if runner.iteration == self.iteration:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("iteration", [4, 7])
def test_a_run_that_was_interrupted_goes_on_exactly(tmp_path, iteration):
    data, options = pairs(), {"epochs": 3, "max_tokens": 80}
    whole = teach(new(), data, data[:9], folder=tmp_path / "whole", **options)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        teach(new(), data, data[:9], folder=tmp_path / "run", hooks=[Interrupt(iteration)], **options)
    assert load(tmp_path / "run" / "last.pt")["iteration"] == iteration
    resumed = teach(new(seed=5), data, data[:9], folder=tmp_path / "run", **options)
    assert resumed.history == whole.history
    assert resumed.iteration == whole.iteration
    for a, b in zip(resumed.step.model.parameters(), whole.step.model.parameters(), strict=True):
        assert torch.equal(a, b)
    again = teach(new(), data, data[:9], folder=tmp_path / "run", **options)  # nothing is left to do
    assert again.history == whole.history


def test_another_run_is_not_taken_up(tmp_path):
    teach(new(), pairs(), epochs=1, folder=tmp_path)
    with pytest.raises(CheckpointError, match="linear1"):
        teach(new(dim_feedforward=16), pairs(), epochs=2, folder=tmp_path)
    with pytest.raises(CheckpointError):
        teach(new(), pairs(30), epochs=2, folder=tmp_path)


def test_bad_numbers():
    for options, message in (
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"warmup_share": 1.0}, r"warmup_share must be in \[0, 1\), got 1.0"),
        ({"max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            teach(new(), pairs(), **{"epochs": 1} | options)
    with pytest.raises(ValueError, match="lengths must hold a pair"):
        teach(new(), [], epochs=1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_padding_alone_has_no_loss(label_smoothing):
    output = torch.randn(2, 3, 8, requires_grad=True)
    losses = TokenLoss(label_smoothing)(output, torch.zeros(2, 3, dtype=torch.long))
    assert (losses["loss"].item(), losses["nll"].item(), losses["count"].item()) == (0.0, 0.0, 0)
    losses["loss"].backward()
    assert output.grad is not None
    assert not output.grad.any()
