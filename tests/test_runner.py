import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training import make_data, make_model, make_runner, make_step

from dlnotes import checkpoint
from dlnotes.averaging import EMA
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import EarlyStopping, Hook
from dlnotes.optim import SGD
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.step import NonFiniteError

EPOCHS, ITERATIONS = 3, 6


class Stop(Exception):
    pass


class StopAt(Hook):
    """Pull the plug right after iteration n was saved."""

    priority = 200

    def __init__(self, n=None):
        self.n = n

    def after_train_iter(self, runner):
        if runner.iteration == self.n:
            raise Stop


class Jitter(Hook):
    """Draw from all three generators, as a user's hook or data set may."""

    def __init__(self):
        self.drawn = []

    def after_train_iter(self, runner):
        self.drawn.append([torch.rand(()).item(), float(np.random.rand()), random.random()])  # noqa: NPY002

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


def start(folder, stop=None, **options):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    hooks = [
        EMA(0.9),
        Jitter(),
        EarlyStopping(patience=50),
        Checkpoint(folder, every=1, monitor="val_loss"),
        StopAt(stop),
    ]
    return make_runner(hooks, **options)


def fingerprint(runner):
    """Everything a run leaves behind, as one comparable tree: any different bit shows."""
    state = runner.step.state_dict() | {
        "hooks": [hook.state_dict() for hook in runner.hooks],
        "history": runner.history,
        "random": runner.sources().read(),
    }
    plain = {name: tensor.numpy().tobytes() for name, tensor in checkpoint.tensors(state)}
    return plain, repr(runner.history), repr(runner.hooks[1].drawn), repr(state["scaler"]), repr(state["scheduler"])


@pytest.mark.parametrize(
    "options", [{}, {"amp": "fp16", "accumulate": 2, "clip_norm": 1.0}, {"generator": True}], ids=str
)
def test_stopped_anywhere_and_resumed_is_bit_identical(tmp_path, options):
    whole = start(tmp_path / "whole", **options)
    whole.train(EPOCHS)
    expected = fingerprint(whole)
    best = (tmp_path / "whole" / "best.pt").read_bytes()
    for stop in range(1, whole.iteration + 1):
        folder = tmp_path / str(stop)
        with pytest.raises(Stop):
            start(folder, stop, **options).train(EPOCHS)
        resumed = start(folder, seed=99, **options)  # another seed: everything must come from the file
        random.seed(99)
        np.random.seed(99)  # noqa: NPY002
        resumed.resume(folder / "last.pt")
        assert resumed.iteration == stop
        resumed.train(EPOCHS)
        assert fingerprint(resumed) == expected, f"stopped after iteration {stop}"
        assert (folder / "best.pt").read_bytes() == best


def test_resume_after_a_complete_epoch(tmp_path):
    whole = start(tmp_path / "whole")
    whole.train(EPOCHS)
    start(tmp_path / "part").train(1)
    resumed = start(tmp_path / "part", seed=99)
    resumed.resume(tmp_path / "part" / "last.pt")
    assert (resumed.epoch, resumed.iteration_in_epoch, len(resumed.history)) == (1, 0, 1)
    resumed.train(EPOCHS)
    assert fingerprint(resumed) == fingerprint(whole)


def test_resume_with_worker_processes(tmp_path):
    whole = start(tmp_path / "whole", workers=1)
    whole.train(2)
    with pytest.raises(Stop):
        start(tmp_path / "part", 8, workers=1).train(2)
    resumed = start(tmp_path / "part", seed=99, workers=1)
    resumed.resume(tmp_path / "part" / "last.pt")
    resumed.train(2)
    assert fingerprint(resumed) == fingerprint(whole)


def test_the_fp16_run_that_is_resumed_did_overflow(tmp_path):
    runner = start(tmp_path, amp="fp16")
    runner.step.scaler.load_state_dict(runner.step.scaler.state_dict() | {"scale": 2.0**40})
    runner.train(EPOCHS)
    assert runner.history[0]["skipped"] == ITERATIONS
    assert np.isnan(runner.history[0]["loss"])  # no update was made in that epoch
    with pytest.raises(Stop):
        part = start(tmp_path / "part", 9, amp="fp16")
        part.step.scaler.load_state_dict(part.step.scaler.state_dict() | {"scale": 2.0**40})
        part.train(EPOCHS)
    resumed = start(tmp_path / "part", amp="fp16")
    resumed.resume(tmp_path / "part" / "last.pt")
    resumed.train(EPOCHS)
    assert fingerprint(resumed) == fingerprint(runner)


def test_trains_as_the_loop_one_would_write():
    runner = make_runner(schedule=False)
    model = deepcopy(runner.step.model)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    state = torch.get_rng_state()
    runner.train(EPOCHS)
    torch.set_rng_state(state)
    history = []
    for _ in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in runner.train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        model.eval()
        with torch.no_grad():
            outputs = [(model(x), y) for x, y in runner.val_loader]
        history.append((total / 22, sum(nn.functional.cross_entropy(o, y).item() * len(y) for o, y in outputs) / 10))
    assert [(record["loss"], record["val_loss"]) for record in runner.history] == history
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), runner.step.model.parameters(), strict=True))


def test_learns():
    runner = make_runner(schedule=False, lr=0.03)
    runner.train(30)
    assert runner.history[-1]["loss"] < runner.history[0]["loss"]
    assert runner.history[-1]["val_accuracy"] >= 0.8
    assert runner.iterations_per_epoch == ITERATIONS
    assert [record["epoch"] for record in runner.history] == list(range(1, 31))


def test_validation_weights_by_samples_and_restores_the_mode():
    runner = make_runner()
    runner.step.model.train()
    result = runner.validate()
    assert runner.step.model.training
    runner.step.model.eval()
    x, y = make_data(10, seed=1).tensors
    with torch.no_grad():
        whole = nn.functional.cross_entropy(runner.step.model(x), y).item()
    assert result["val_loss"] == pytest.approx(whole, rel=1e-5)
    assert set(result) == {"val_loss", "val_accuracy"}


def test_accumulation_takes_groups_of_batches_and_the_rest():
    sizes = []

    class Sizes(Hook):
        def after_train_iter(self, runner):
            sizes.append(runner.logs["samples"])

    runner = make_runner([Sizes()], accumulate=4)
    runner.train(1)
    assert sizes == [16, 6]
    assert runner.iterations_per_epoch == 2


def test_a_nan_loss_names_the_iteration_and_poisons_no_checkpoint(tmp_path):
    class Poison(Hook):
        def before_train_iter(self, runner):
            if runner.iteration == 8:
                with torch.no_grad():
                    runner.step.model[0].weight[0, 0] = float("nan")

    runner = make_runner([Checkpoint(tmp_path, every=1), Poison()])
    with pytest.raises(NonFiniteError, match=r"^iteration 9 \(epoch 2\): the loss is nan.*0\.weight non-finite"):
        runner.train(EPOCHS)
    saved = checkpoint.load(tmp_path / "last.pt")
    assert saved["iteration"] == 8
    assert all(value.isfinite().all() for value in saved["model"].values())
    with pytest.raises(CheckpointError, match="an update has begun and is not complete"):
        runner.save(tmp_path / "last.pt")
    other = make_runner(model=runner.step.model)
    with pytest.raises(CheckpointError, match=r"model\.0\.weight holds NaN"):
        other.save(tmp_path / "last.pt")
    assert checkpoint.load(tmp_path / "last.pt")["iteration"] == 8


def test_what_resume_refuses(tmp_path):
    make_runner([Checkpoint(tmp_path, monitor="val_loss")]).train(1)
    path = tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match=r"saved with hooks \['Checkpoint'\], this Runner has \[\]"):
        make_runner().resume(path)
    with pytest.raises(CheckpointError, match="6 iterations an epoch, this one 3: the data, batch size"):
        make_runner([Checkpoint(tmp_path, monitor="val_loss")], accumulate=2).resume(path)
    with pytest.raises(CheckpointError, match="other generators"):
        make_runner([Checkpoint(tmp_path, monitor="val_loss")], generator=True).resume(path)
    runner = make_runner([Checkpoint(tmp_path, monitor="val_loss")], model=nn.Sequential(nn.Linear(3, 4)))
    before = deepcopy(runner.step.model.state_dict())
    with pytest.raises(CheckpointError, match=r"model: missing: |model: unexpected: 1\.bias"):
        runner.resume(path)
    assert all(torch.equal(value, before[name]) for name, value in runner.step.model.state_dict().items())
    assert runner.epoch == 0
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        make_runner([Checkpoint(tmp_path)]).resume(path)


def test_loaders_without_batches_and_without_validation():
    empty = DataLoader(TensorDataset(torch.zeros(0, 3), torch.zeros(0)))
    with pytest.raises(ValueError, match="train_loader gave no batches"):
        Runner(make_step(make_model()), empty).train(1)
    runner = make_runner()
    runner.val_loader = empty
    with pytest.raises(ValueError, match="val_loader gave no batches"):
        runner.validate()
    with pytest.raises(ValueError, match="validate needs a val_loader"):
        Runner(make_step(make_model()), DataLoader(make_data())).validate()


def test_an_iterable_dataset_has_no_length_and_trains():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(make_data())

    runner = Runner(make_step(make_model()), DataLoader(Stream(), batch_size=4))
    assert runner.iterations_per_epoch is None
    runner.train(2)
    assert runner.iteration == 12


def test_a_distributed_sampler_is_told_the_epoch():
    sampler = torch.utils.data.DistributedSampler(make_data(), num_replicas=1, rank=0, shuffle=True)
    epochs = []
    set_epoch = sampler.set_epoch
    sampler.set_epoch = lambda epoch: (epochs.append(epoch), set_epoch(epoch))
    Runner(make_step(make_model()), DataLoader(make_data(), batch_size=4, sampler=sampler)).train(3)
    assert epochs == [0, 1, 2]
