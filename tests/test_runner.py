import json
import os
import random
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from book_reading import ROOT
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
from dlnotes.step import NonFiniteError, TrainStep

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
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"amp": "fp16", "accumulate": 2, "clip_norm": 1.0},
        pytest.param({"generator": True}, marks=pytest.mark.slow),
    ],
    ids=str,
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


class Watch(Hook):
    """Every point with the error that the run shows there, and what validation shows of a batch."""

    def __init__(self):
        self.errors, self.seen = [], []

    def after_train(self, runner):
        self.errors.append(runner.error)

    after_run = after_train

    def after_val_iter(self, runner):
        self.seen.append((runner.batch[0].shape, runner.output.shape))


def test_batch_and_output_are_seen_in_validation_and_let_go_after_it():
    runner = make_runner([watch := Watch()])
    runner.train(1)
    assert watch.seen == [((4, 3), (4, 2)), ((4, 3), (4, 2)), ((2, 3), (2, 2))]
    assert runner.batch is None
    assert runner.output is None


def test_the_end_is_called_and_told_the_error():
    class Fails(Hook):
        def after_train_iter(self, runner):
            raise ValueError("no")

    runner = make_runner([watch := Watch(), Fails()])
    with pytest.raises(ValueError, match="no"):
        runner.train(1)
    assert [type(error) for error in watch.errors] == [ValueError, ValueError]
    runner = make_runner([watch := Watch()])
    runner.train(1)
    assert watch.errors == [None, None]


def test_max_steps_and_validation_inside_epochs():
    runner = make_runner(val_every=4)
    runner.train(max_steps=16)
    assert [(record["epoch"], record["iteration"]) for record in runner.history] == [
        (1, 4),
        (1, 6),
        (2, 8),
        (2, 12),
        (3, 16),
    ]
    assert all("val_loss" in record for record in runner.history)
    runner.train(epochs=3, max_steps=100)
    assert (runner.epoch, runner.iteration) == (3, 18)
    with pytest.raises(ValueError, match="train needs epochs or max_steps"):
        runner.train()
    with pytest.raises(ValueError, match="val_every must be >= 1 or None, got 0"):
        make_runner(val_every=0)


def test_max_steps_at_the_end_of_an_epoch_completes_it():
    runner = make_runner()
    runner.train(max_steps=12)
    assert (runner.epoch, runner.iteration_in_epoch, len(runner.history)) == (2, 0, 2)


def test_an_endless_stream_is_trained_validated_and_stopped():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield from make_data()

    torch.manual_seed(0)
    validation = DataLoader(make_data(10, seed=1), batch_size=5)
    stopping = EarlyStopping(patience=2, min_delta=10.0)
    runner = Runner(make_step(), DataLoader(Endless(), 4), validation, hooks=[stopping], val_every=3)
    runner.train(1)
    assert (runner.iteration, runner.epoch, len(runner.history)) == (9, 0, 3)
    assert "val_loss has not improved" in runner.stop_reason


def test_stop_now_ends_after_the_update_and_otherwise_after_the_epoch():
    class StopIt(Hook):
        def __init__(self, now):
            self.now = now

        def after_train_iter(self, runner):
            if runner.iteration == 8:
                runner.stop("enough", now=self.now)

    for now, end in ((True, (8, 1)), (False, (12, 2))):
        runner = make_runner([StopIt(now)])
        runner.train(3)
        assert (runner.iteration, runner.epoch) == end
        with pytest.warns(UserWarning, match=r"stopped \(enough\) and does not go on"):
            runner.train(3)
        assert runner.iteration == end[0]
        runner.stop_reason = None
        runner.train(3)
        assert runner.epoch == 3


@pytest.mark.parametrize(
    "make", [lambda folder: EarlyStopping(), lambda folder: Checkpoint(folder, monitor="val_loss")]
)
def test_a_monitor_without_validation_is_refused_before_training(make, tmp_path):
    runner = Runner(make_step(), DataLoader(make_data(), 4), hooks=[make(tmp_path / "run")])
    with pytest.raises(ValueError, match="monitors 'val_loss', and this Runner has no val_loader"):
        runner.train(1)
    assert runner.iteration == 0
    assert not (tmp_path / "run").exists()


def test_names_that_the_validation_gives_are_found_without_a_trace():
    def two(output, target):
        loss = nn.functional.cross_entropy(output, target)
        return {"loss": loss, "half": loss / 2}

    def make(monitor):
        torch.manual_seed(0)
        model = make_model()
        step = TrainStep(model, two, SGD(model.parameters(), lr=0.1))
        validation = DataLoader(make_data(10, seed=1), 4, shuffle=True)
        hooks = [EarlyStopping(monitor, patience=9, mode="min")]
        return Runner(step, DataLoader(make_data(), 4, shuffle=True), validation, hooks=hooks)

    runners = [make("val_loss"), make("val_half")]
    for seed, runner in enumerate(runners):
        torch.manual_seed(5 * (seed < 2))
        runner.train(2)
    assert runners[0].history == runners[1].history
    assert list(runners[0].history[0]) == ["epoch", "iteration", "loss", "half", "lr", "val_loss", "val_half"]
    assert runners[0].history[0]["half"] == pytest.approx(runners[0].history[0]["loss"] / 2)
    with pytest.raises(KeyError, match=r"no 'val_third' in .* \['val_half', 'val_loss'\]"):
        make("val_third").train(1)


def test_learning_rates_of_every_group_are_in_the_history():
    model = make_model()
    groups = [{"params": model[:2].parameters()}, {"params": model[4].parameters(), "lr": 0.02, "name": "head"}]
    step = TrainStep(model, nn.functional.cross_entropy, torch.optim.SGD(groups, lr=0.1))
    runner = Runner(step, DataLoader(make_data(), 4))
    runner.train(1)
    assert (runner.history[0]["lr"], runner.history[0]["lr_head"]) == (0.1, 0.02)


def test_loaders_that_can_be_gone_through_only_once_are_refused():
    batches = [tuple(tensor[:4] for tensor in make_data().tensors)]
    with pytest.raises(TypeError, match="train_loader can be gone through only once"):
        Runner(make_step(), iter(batches))
    runner = Runner(make_step(), batches, batches)
    runner.train(2)
    assert runner.iteration == 2
    with pytest.raises(TypeError, match="val_loader can be gone through only once"):
        Runner(make_step(), batches, (batch for batch in batches))


def test_a_step_of_ones_own_that_uses_the_runs_names(tmp_path):
    runner = make_runner()
    own = runner.step.state_dict()
    runner.step.state_dict = lambda: own | {"epoch": 3}
    with pytest.raises(CheckpointError, match=r"must not use the run's names \['epoch'\]"):
        runner.save(tmp_path / "a.pt")


PROCESS = """
import sys, torch, torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler
from dlnotes.saving import Checkpoint
from dlnotes.checkpoint import CheckpointError
from dlnotes.runner import Runner
from torch.nn.parallel import DistributedDataParallel
from training import make_data, make_model, make_step
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
def make():
    torch.manual_seed(0)
    model = DistributedDataParallel(make_model())
    torch.manual_seed(rank)  # another dropout in each process
    sampler = DistributedSampler(make_data(), shuffle=True)
    hooks = [Checkpoint(f"{folder}/run", every=1)]
    return Runner(make_step(model), DataLoader(make_data(), 4, sampler=sampler), hooks=hooks)
whole = make()
whole.train(max_steps=4)
dist.barrier()
resumed = make()
resumed.resume(f"{folder}/run/last.pt")
whole.train(3)
dist.barrier()
torch.manual_seed(99)
resumed.train(3)
for (name, a), b in zip(whole.step.model.named_parameters(), resumed.step.model.parameters(), strict=True):
    assert torch.equal(a, b), name
assert resumed.history == whole.history
dist.destroy_process_group()
alone = make_step()
try:
    Runner(alone, DataLoader(make_data(), 4)).resume(f"{folder}/run/last.pt")
except CheckpointError as error:
    assert "2 processes trained the saved run, 1 this one" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.slow
def test_two_processes_write_one_file_and_each_resumes_exactly(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROCESS]
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)], **options) for rank in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]


SNIPPET = """
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from dlnotes.averaging import EMA
from dlnotes.evaluation import accuracy
from dlnotes.hooks import EarlyStopping, Hook
from dlnotes.logs import CSV, Log
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.step import TrainStep

def share(output: Tensor, target: Tensor) -> float:
    return float((output > target).float().mean())

class Mine:
    def reset(self) -> None: ...
    def update(self, output: Tensor, target: Tensor) -> None: ...
    def compute(self) -> Tensor:
        return torch.zeros(())

class Watch(Hook):
    def after_val_iter(self, runner: Runner) -> None:
        print(runner.metrics["val_loss"])

def run(step: TrainStep, loader: DataLoader[Tensor], batches: list[tuple[Tensor, Tensor]]) -> float:
    metrics = {"share": share, "accuracy": accuracy, "mine": Mine()}
    hooks = [EMA(0.9), EarlyStopping(), Watch(), Log(), CSV("a.csv"), Checkpoint("run", monitor="val_loss")]
    runner = Runner(step, loader, batches, metrics=metrics, hooks=hooks)
    runner.train(max_steps=3)
    return runner.evaluate(batches, weights="run/best.pt")["loss"]
"""


def test_a_users_code_type_checks_strictly(tmp_path):
    (tmp_path / "user.py").write_text(SNIPPET)
    settings = {"include": ["user.py"], "typeCheckingMode": "strict", "reportUnusedCallResult": False}
    settings |= {"extraPaths": [str(ROOT)], "reportMissingTypeStubs": False, "reportUnknownMemberType": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "0 errors" in done.stdout, done.stdout + done.stderr


def test_a_run_that_ends_inside_its_first_epoch_leaves_no_record():
    runner = make_runner()
    runner.train(max_steps=2)
    assert runner.history == []
    runner.train(1)
    assert [record["iteration"] for record in runner.history] == [6]
