"""What a resumed run is set to, and what is told: by name, with what was saved and what holds."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset
from training import make_data, make_model, make_step

from dlnotes import checkpoint, schedules
from dlnotes.hooks import EarlyStopping, Hook
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.settings import changes, options, same, schedule
from dlnotes.step import TrainStep


def run(hooks=(), *, scheduler=None, train=None, **options):
    torch.manual_seed(0)
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options["scheduler"] = None if scheduler is None else scheduler(optimizer)
    step = TrainStep(model, nn.functional.cross_entropy, optimizer, **options)
    train = DataLoader(make_data(), 4, shuffle=True) if train is None else train
    return Runner(step, train, DataLoader(make_data(10), 4), hooks=hooks)


def told(runner, path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner.resume(path)
    return [str(warning.message).partition(": ")[2] for warning in caught]


OURS = "these settings are not those of the saved run, and hold as given here: "
THEIRS = "these settings are those of the saved run; given here and without effect: "


def test_the_steps_settings_hold_as_given(tmp_path):
    path = tmp_path / "run.pt"
    run().save(path)
    (words,) = told(resumed := run(clip_norm=0.5, amp="bf16"), path)
    assert words == OURS + "clip_norm 0.5 (None as saved), amp 'bf16' (None as saved)"
    assert (resumed.step.clip_norm, resumed.step.amp) == (0.5, "bf16")
    resumed.save(path)
    assert told(run(clip_norm=0.5, amp="bf16"), path) == []  # it is the last run's that are compared


def test_accumulation_over_a_stream_that_knows_no_length(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(make_data())

    def stream(**options):
        return run(train=DataLoader(Stream(), 4), **options)

    stream().save(tmp_path / "run.pt")
    assert told(stream(accumulate=2), tmp_path / "run.pt") == [OURS + "accumulate 2 (1 as saved)"]


def test_a_hooks_settings_hold_as_given(tmp_path):
    def hooks(patience, min_delta, every, keep):
        saving = Checkpoint(tmp_path, monitor="val_loss", every=every, keep=keep)
        return [EarlyStopping(patience=patience, min_delta=min_delta), saving]

    run(hooks(5, 0.0, None, 1)).train(1)
    again = run(hooks(7, 0.1, 3, 2))
    assert told(again, tmp_path / "last.pt") == [
        OURS + "EarlyStopping.patience 7 (5 as saved), EarlyStopping.min_delta 0.1 (0.0 as saved), "
        "Checkpoint.every 3 (None as saved), Checkpoint.keep 2 (1 as saved)"
    ]
    assert (again.hooks[0].patience, again.hooks[1].every) == (7, 3)
    assert told(run(hooks(5, 0.0, None, 1)), tmp_path / "last.pt") == []


def test_what_a_hook_takes_from_the_file_has_no_effect_as_given_and_what_it_counts_is_no_setting(tmp_path):
    class Own(Hook):
        def __init__(self, rate, count=0):
            self.rate, self.count = rate, count

        def after_train_iter(self, runner):
            self.count += 1

        def state_dict(self):
            return {"rate": self.rate, "count": self.count}

        def load_state_dict(self, state):
            self.rate, self.count = state["rate"], state["count"]

    first = run([Own(0.5)])
    first.train(1)
    first.save(tmp_path / "run.pt")
    (words,) = told(again := run([Own(0.7)]), tmp_path / "run.pt")
    assert words.startswith(THEIRS + "Own.rate 0.7 (0.5 as saved). To change them, set them after the resume")
    assert (again.hooks[0].rate, again.hooks[0].count) == (0.5, 6)
    again.save(tmp_path / "run.pt")
    assert told(run([Own(0.5)]), tmp_path / "run.pt") == []


SCHEDULES = {
    "T_max 30 (20 as saved)": lambda o, n: lr_scheduler.CosineAnnealingLR(o, 20 + n),
    "gamma 10.9 (0.9 as saved)": lambda o, n: lr_scheduler.StepLR(o, 5, gamma=0.9 + n),
    "milestones {2: 1, 13: 1} (": lambda o, n: lr_scheduler.MultiStepLR(o, [2, 3 + n]),
    "schedule_phases (otherwise as saved)": lambda o, n: lr_scheduler.OneCycleLR(o, 1.0, 50, pct_start=0.2 + n / 50),
    "T_0 15 (5 as saved)": lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, 5 + n),
    "1.T_max 19 (9 as saved)": lambda o, n: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.CosineAnnealingLR(o, 9 + n)], [3]
    ),
    "milestones [13] (": lambda o, n: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.CosineAnnealingLR(o, 9)], [3 + n]
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@pytest.mark.parametrize("words", SCHEDULES)
def test_another_schedule_has_no_effect_and_is_told(tmp_path, words):
    make, path = SCHEDULES[words], tmp_path / "run.pt"
    first = run(scheduler=lambda o: make(o, 0))
    first.train(1)
    first.save(path)
    (line,) = told(resumed := run(scheduler=lambda o: make(o, 10)), path)
    assert line.startswith(THEIRS)
    assert f"scheduler.{words}" in line
    resumed.save(path)
    assert told(run(scheduler=lambda o: make(o, 0)), path) == []


def test_a_schedule_that_is_a_function_cannot_be_saved_holds_as_given_and_is_told(tmp_path):
    def make(total):
        return lambda o: schedules.scheduler(o, schedules.cosine(total))

    first = run(scheduler=make(20))
    first.train(1)
    first.save(tmp_path / "run.pt")
    assert told(run(scheduler=make(20)), tmp_path / "run.pt") == []
    (line,) = told(run(scheduler=make(30)), tmp_path / "run.pt")
    assert line == OURS + "scheduler.lr_lambdas[0] (otherwise as saved)"


def test_a_function_that_is_not_defined_everywhere_and_an_object():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)

    class Factor:
        def __call__(self, t):
            return 0.5

    found = schedule(lr_scheduler.LambdaLR(optimizer, lambda t: [1.0, 0.5][t]))["lr_lambdas[0]"]
    assert found[:3] == [1.0, 0.5, None]
    assert schedule(lr_scheduler.LambdaLR(optimizer, Factor())) == {}
    assert schedule(None) == {}


class Stream(IterableDataset):
    """A shuffle buffer, with options that are numbers and a counter that is one too."""

    def __init__(self, buffer, seed=0):
        self.buffer, self.seed, self.epochs = buffer, seed, 0

    def __iter__(self):
        self.epochs += 1
        dice, waiting = torch.Generator().manual_seed(self.seed + self.epochs), []
        for sample in make_data():
            waiting.append(sample)
            if len(waiting) >= self.buffer:
                yield waiting.pop(int(torch.randint(len(waiting), (1,), generator=dice)))
        yield from waiting


@pytest.mark.parametrize("steps", [6, 8], ids=["between epochs", "inside one"])
def test_a_streams_options_are_those_given_now_and_its_counter_goes_on(tmp_path, steps):
    path = tmp_path / "run.pt"
    first = run(train=DataLoader(Stream(3), 4))
    first.train(max_steps=steps)
    first.save(path)
    begun = checkpoint.load(path)["random"]["counters"]["train_loader.dataset.epochs"]
    same_again = run(train=DataLoader(Stream(3), 4))
    assert told(same_again, path) == []
    first.train(3)
    same_again.train(3)
    assert torch.equal(first.step.model[0].weight, same_again.step.model[0].weight)
    other = run(train=DataLoader(Stream(9, seed=5), 4))
    assert told(other, path) == [
        OURS + "train_loader.dataset.buffer 9 (3 as saved), train_loader.dataset.seed 5 (0 as saved)"
    ]
    data = other.train_loader.dataset
    assert (data.buffer, data.seed, data.epochs) == (9, 5, begun)
    other.train(max_steps=steps + 2)
    assert (data.buffer, data.seed) == (9, 5)  # also where the epoch is begun again
    other.save(path)
    assert told(run(train=DataLoader(Stream(9, seed=5), 4)), path) == []


def test_a_samplers_seed_too(tmp_path):
    def sampled(seed):
        return run(train=DataLoader(make_data(), 4, sampler=DistributedSampler(make_data(), 1, 0, seed=seed)))

    sampled(0).save(tmp_path / "run.pt")
    assert told(again := sampled(3), tmp_path / "run.pt") == [OURS + "train_loader.sampler.seed 3 (0 as saved)"]
    assert again.train_loader.sampler.seed == 3


def test_a_file_that_remembers_no_settings(tmp_path):
    path = tmp_path / "run.pt"
    run().save(path)
    state = {
        name: value for name, value in checkpoint.load(path).items() if name not in ("settings", "counters", "format")
    }
    checkpoint.save(path, state)
    assert told(run(clip_norm=1.0), path) == []


def test_options():
    class Parent:
        def __init__(self, a, net=None):
            self.a, self.net = a, nn.Linear(1, 1)

    class Child(Parent):
        def __init__(self, *rest, b=(1, "x"), c=2, **others):
            super().__init__(*rest, **others)
            self.b = b

        @property
        def c(self):
            raise RuntimeError

    assert options(Child(3.0)) == {"b": (1, "x"), "a": 3.0}
    assert options(make_step(clip_norm=1.0)) == {"accumulate": 1, "clip_norm": 1.0, "amp": None}
    assert options(3) == {}


def test_same_and_changes():
    assert same(0.1, 0.1 * (1 + 1e-9))
    assert same([None, (1, 2.0)], (None, [1, 2]))
    assert not same([1], [1, 2])
    assert not same("a", 1)
    assert not same(0.1, 0.1001)
    assert changes({"a": 1, "b": 2}, {"a": 1}) == {}
