"""Exact resumption: loaders, options, stops, hook points; and what is refused, with everything left as it was."""

import contextlib
import inspect
import os
import random
import warnings
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from training import make_data, make_model, make_runner, make_step

from dlnotes import checkpoint
from dlnotes.averaging import EMA
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import POINTS, EarlyStopping, Hook
from dlnotes.logs import Log
from dlnotes.resuming import check_goal
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.step import TrainStep

EPOCHS, DATA = 3, make_data()  # 22 samples in batches of 4: six updates an epoch
EVERY = int(os.environ.get("DLNOTES_STOP_EVERY", "5"))  # 1 stops and resumes after every single update


# ---- loaders that draw their order in every way


class Lazy(IterableDataset):
    """A shuffle buffer with dice of its own, thrown for each sample."""

    def __init__(self, dice):
        self.dice = dice

    def __iter__(self):
        waiting = []
        for sample in DATA:
            waiting.append(sample)
            if len(waiting) == 5:
                yield waiting.pop(self.dice.randrange(5))
        yield from waiting


class Counting(IterableDataset):
    """A stream whose order follows from how often it was begun."""

    epochs = 0

    def __init__(self):
        self.epochs = 0

    def __iter__(self):
        self.epochs += 1
        return (DATA[i] for i in torch.randperm(22, generator=torch.Generator().manual_seed(self.epochs)))


class Dice:
    """A sampler whose generator is not called generator, of any of the three kinds."""

    def __init__(self, dice):
        self._dice = dice

    def __len__(self):
        return 22

    def __iter__(self):
        order = list(range(22))
        if isinstance(self._dice, random.Random):
            self._dice.shuffle(order)
        else:
            order = self._dice.permutation(22).tolist()
        return iter(order)


class Buckets:
    """A batch sampler, no subclass of torch's: `how` says where its order comes from."""

    def __init__(self, how):
        self.how, self.epoch, self.generator = how, 0, torch.Generator().manual_seed(7)

    def __len__(self):
        return 6

    def __iter__(self):
        if self.how == "counts":
            self.epoch += 1
            order = torch.randperm(22, generator=torch.Generator().manual_seed(self.epoch))
        else:
            order = torch.randperm(22, generator=self.generator)
        return iter(order.split(4))


class Noisy(TensorDataset):
    """Every sample moved at random: by a generator in a transform's closure, or by all the shared ones."""

    def __init__(self, transform=None):
        super().__init__(*DATA.tensors)
        self.transform = transform

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        noise = self.transform(3) if self.transform else torch.randn(3) + random.random() + np.random.rand()  # noqa: NPY002
        return x + 0.1 * torch.as_tensor(noise, dtype=torch.float32), y


def shaken():
    dice = np.random.default_rng(3)
    return lambda size: dice.normal(size=size)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


LOADERS = {
    "shuffled": lambda: DataLoader(DATA, 4, shuffle=True),
    "in order": lambda: DataLoader(DATA, 4),
    "own generator": lambda: DataLoader(DATA, 4, shuffle=True, generator=seeded()),
    "sampler's generator": lambda: DataLoader(DATA, 4, sampler=RandomSampler(DATA, generator=seeded())),
    "replacement": lambda: DataLoader(DATA, 4, sampler=RandomSampler(DATA, replacement=True, generator=seeded())),
    "weighted": lambda: DataLoader(DATA, 4, sampler=WeightedRandomSampler(torch.arange(1.0, 23), 22)),
    "python's dice": lambda: DataLoader(DATA, 4, sampler=Dice(random.Random(3))),
    "numpy's dice": lambda: DataLoader(DATA, 4, sampler=Dice(np.random.default_rng(3))),
    "numpy's old dice": lambda: DataLoader(DATA, 4, sampler=Dice(np.random.RandomState(3))),
    "batch sampler's generator": lambda: DataLoader(DATA, batch_sampler=Buckets("draws")),
    "batch sampler counts": lambda: DataLoader(DATA, batch_sampler=Buckets("counts")),
    "batches of dice": lambda: DataLoader(DATA, batch_sampler=BatchSampler(Dice(random.Random(1)), 4, False)),
    "distributed": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(DistributedSampler(DATA, 1, 0, shuffle=True), 4, False)
    ),
    "lazy buffer": lambda: DataLoader(Lazy(random.Random(2)), 4),
    "counting stream": lambda: DataLoader(Counting(), 4),
    "list": lambda: [tuple(t[i : i + 4] for t in DATA.tensors) for i in range(0, 22, 4)],
    "augmented": lambda: DataLoader(Noisy(), 4, shuffle=True),
    "augmented by its own": lambda: DataLoader(Noisy(shaken()), 4, shuffle=True),
    "augmented in a partial": lambda: DataLoader(Noisy(partial(torch.randn, generator=seeded())), 4, shuffle=True),
}
OPTIONS = {
    "plain": {},
    "fp16, accumulated, clipped": {"amp": "fp16", "accumulate": 2, "clip_norm": 1.0},
    "validated inside": {"val_every": 4},
}


class Draw(Hook):
    """Draw from all three shared generators where a user's hook may, and remember some of it."""

    def __init__(self):
        self.drawn = 0.0

    def draw(self, runner):
        self.drawn += torch.rand(()).item() + float(np.random.rand()) + random.random()  # noqa: NPY002

    before_train_epoch = after_train_iter = after_val_iter = after_val_epoch = after_train_epoch = draw

    def before_train(self, runner):
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


class SaveAt(Hook):
    """Save at every call of a point, under the number of the call; note what was refused."""

    priority = 150

    def __init__(self, folder, point, every=1):
        self.folder, self.every, self.calls, self.refused = folder, every, 0, []
        if point in POINTS:
            setattr(self, point, self.save)

    def save(self, runner):
        self.calls += 1
        if self.calls % self.every == 0:
            try:
                runner.save(self.folder / f"{self.calls}.pt")
            except CheckpointError as error:
                self.refused.append(str(error))


def build(loader, hooks=(), *, seed=0, val_loader=None, **options):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    val_every = options.pop("val_every", None)
    val_loader = DataLoader(make_data(10, seed=1), 4, shuffle=True) if val_loader is None else val_loader
    hooks = [EMA(0.9), Draw(), EarlyStopping(patience=50), *hooks]
    return Runner(make_step(**options), loader(), val_loader, hooks=hooks, val_every=val_every)


def fingerprint(runner):
    state = runner.step.state_dict() | {"random": runner.sources().read()}
    state |= {"hooks": [hook.state_dict() for hook in runner.hooks[:3]]}
    plain = {name: tensor.numpy().tobytes() for name, tensor in checkpoint.tensors(state)}
    numbers = [runner.history, runner.hooks[1].drawn, state["scaler"], state["scheduler"], runner.memory.sums]
    return plain, repr(numbers)


def require_exact(folder, make, hook, epochs=EPOCHS):
    """Run, saving as `hook` says; resume from each of the files, and demand the same end to the last bit."""
    whole = make([hook])
    whole.train(epochs)
    expected, files = fingerprint(whole), sorted(folder.glob("*.pt"))
    for path in files:
        resumed = make([], seed=99)  # another seed: everything must come from the file
        resumed.resume(path)
        torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002 - drawn before it goes on: no matter
        over = resumed.epoch == epochs
        with pytest.warns(UserWarning, match="has nothing to do") if over else contextlib.nullcontext():
            resumed.train(epochs)
        assert fingerprint(resumed) == expected, f"resumed from {path.name}"
    return files


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, "plain") for name in LOADERS]
    + [(name, options) for name in ("lazy buffer", "augmented", "distributed") for options in list(OPTIONS)[1:]],
)
def test_stopped_after_any_update_and_resumed_is_bit_identical(tmp_path, name, options):
    def make(hooks, seed=0):
        return build(LOADERS[name], hooks, seed=seed, **OPTIONS[options])

    every = EVERY if "accumulate" not in OPTIONS[options] else min(EVERY, 4)
    files = require_exact(tmp_path, make, SaveAt(tmp_path, "after_train_iter", every))
    assert len(files) == (18 if "accumulate" not in OPTIONS[options] else 9) // every


@pytest.mark.parametrize("point", POINTS)
def test_save_is_exact_or_refused_at_every_point(tmp_path, point):
    hook = SaveAt(tmp_path, point, EVERY if point == "after_train_iter" else 1)

    def make(hooks, seed=0):
        return build(LOADERS["augmented"], hooks, seed=seed, val_every=4)

    if point in ("before_save_checkpoint", "after_load_checkpoint"):
        return  # not a point of a run: the one is a part of saving, the other of resuming
    files = require_exact(tmp_path, make, hook)
    allowed = point in ("after_train_iter", "after_train_epoch", "after_train", "after_run")
    assert bool(files) == allowed
    assert bool(hook.refused) == (not allowed)
    assert all("save in after_train_iter or after_train_epoch" in words for words in hook.refused)


def test_a_hook_that_is_called_after_the_save_is_not_forgotten(tmp_path):
    class Later(Draw):
        priority = 200

    class Stateless(Hook):
        priority = 200

        def after_train_iter(self, runner):
            pass

    class Unannounced(Checkpoint):  # a hook of one's own that does not say that it saves
        saves = False

    with pytest.raises(CheckpointError, match=r"called after this one \(Later\)"):
        build(LOADERS["shuffled"], [Later(), Unannounced(tmp_path, every=1)]).train(1)
    assert not (tmp_path / "last.pt").exists()
    build(LOADERS["shuffled"], [Stateless(), Checkpoint(tmp_path, every=1)]).train(1)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["train", "val"])
def test_persistent_workers_go_on_in_the_same_order(tmp_path, which):
    def make(hooks, seed=0):
        options = {"num_workers": 1, "persistent_workers": True}
        train, val = (options if name == which else {} for name in ("train", "val"))
        validation = DataLoader(make_data(10, seed=1), 4, shuffle=True, **val)
        return build(lambda: DataLoader(DATA, 4, shuffle=True, **train), hooks, seed=seed, val_loader=validation)

    assert len(require_exact(tmp_path, make, SaveAt(tmp_path, "after_train_iter", 7), epochs=3)) == 2


def test_a_run_that_went_on_takes_its_persistent_workers_back(tmp_path):
    def make(seed=0):
        def loader():
            return DataLoader(DATA, 4, shuffle=True, num_workers=1, persistent_workers=True)

        return build(loader, [], seed=seed)

    runner = make()
    runner.save(tmp_path / "start.pt")
    runner.train(1)
    expected = fingerprint(runner)
    runner.resume(tmp_path / "start.pt")  # the same Runner, whose workers are running
    runner.train(1)
    assert fingerprint(runner) == expected


def test_workers_that_augment(tmp_path):
    def make(hooks, seed=0):
        return build(lambda: DataLoader(Noisy(), 4, shuffle=True, num_workers=1), hooks, seed=seed)

    assert len(require_exact(tmp_path, make, SaveAt(tmp_path, "after_train_iter", 8), epochs=2)) == 1


def test_ended_inside_an_epoch_and_gone_on_with_is_the_same_run(tmp_path):
    whole = build(LOADERS["augmented"])
    whole.train(EPOCHS)
    expected = fingerprint(whole)
    parts = build(LOADERS["augmented"])
    for steps in (1, 4, 6, 11, 12, 17):
        parts.train(EPOCHS, max_steps=steps)
        assert parts.iteration == steps
    parts.train(EPOCHS)
    assert fingerprint(parts) == expected


# ---- what does not fit is refused, all of it named, before anything is loaded


class Remember(Hook):
    def __init__(self, fails=False):
        self.seen, self.fails = {"numbers": [1]}, fails

    def state_dict(self):
        return self.seen

    def load_state_dict(self, state):
        self.seen["numbers"].append(2)
        if self.fails:
            raise KeyError("half way")
        self.seen = state


def everything(runner):
    plain = {name: tensor.numpy().tobytes() for name, tensor in checkpoint.tensors(runner.step.state_dict())}
    groups = [(group["lr"], group["initial_lr"], group["momentum"]) for group in runner.step.optimizer.param_groups]
    states = [groups, [hook.state_dict() for hook in runner.hooks]]
    random_state = repr({k: v for k, v in runner.sources().read().items() if k in ("counters", "started", "python")})
    position = [runner.epoch, runner.iteration, runner.history, runner.memory, runner.run, runner.resumed_from]
    modes = [module.training for module in runner.step.model.modules()]
    return plain, repr(states), random_state, torch.get_rng_state().tolist(), repr(position), modes


def saved_run(folder, **options):
    runner = build(LOADERS["own generator"], **options)
    runner.train(2)
    runner.save(folder / "run.pt")
    return folder / "run.pt"


def changed(path, change):
    state = {name: value for name, value in checkpoint.load(path).items() if name != "format"}
    change(state)
    checkpoint.save(path, state)
    return path


def other_lists(folder):
    shorter = TensorDataset(*(tensor[:21] for tensor in DATA.tensors))
    double = TensorDataset(DATA.tensors[0].double(), DATA.tensors[1])
    samplers = {"shuffle": True, "generator": seeded()}
    return {
        "samples 22 in the checkpoint, 21": {"loader": lambda: DataLoader(shorter, 4, **samplers)},
        "dtypes": {"loader": lambda: DataLoader(double, 4, **samplers)},
        "batch_size 4 in the checkpoint, 5": {"loader": lambda: DataLoader(DATA, 5, **samplers)},
        "order RandomSampler in the checkpoint, SequentialSampler": {
            "loader": lambda: DataLoader(DATA, 4, generator=seeded())
        },
        "other generators": {"loader": LOADERS["shuffled"]},
        "val_loader: samples 10 in the checkpoint, 8": {"val_loader": DataLoader(make_data(8), 4, shuffle=True)},
        "iterations an epoch": {"accumulate": 2},
        r"this Runner has \['EMA', 'Draw', 'EarlyStopping', 'Remember'\]": {"hooks": [Remember()]},
    }


@pytest.mark.parametrize("words", other_lists(None))
def test_other_data_or_hooks_are_refused_and_nothing_changes(tmp_path, words):
    path = saved_run(tmp_path)
    options = {"loader": LOADERS["own generator"]} | other_lists(tmp_path)[words]
    runner = build(options.pop("loader"), **options, seed=3)
    before = everything(runner)
    with pytest.raises(CheckpointError, match=words):
        runner.resume(path)
    assert everything(runner) == before


def test_a_validation_that_is_gone_is_refused(tmp_path):
    path = saved_run(tmp_path)
    runner = build(LOADERS["own generator"])
    runner.val_loader = None
    with pytest.raises(CheckpointError, match="val_loader: the checkpoint has one, this run has none"):
        runner.resume(path)


def spoil_random(state):
    state["random"]["torch"] = state["random"]["torch"][:-8]


def spoil_generator(state):
    state["random"]["generators"]["train_loader.generator"] = torch.zeros(3, dtype=torch.uint8)


def spoil_python(state):
    state["random"]["python"] = (3, (1, 2), None)


def spoil_kind(state):
    state["random"]["numpy"] = 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil_random, "state of the random generator torch does not fit"),
        (spoil_generator, "generator train_loader.generator does not fit"),
        (spoil_python, "generator python does not fit"),
        (spoil_kind, "generator numpy does not fit"),
        (lambda state: state["random"].pop("python"), "not a run's checkpoint .KeyError: 'python'"),
        (lambda state: state.pop("history"), "not a whole run, history missing"),
        (lambda state: state.update(data=3), "not a run's checkpoint"),
        (lambda state: state.update(ranks=[{}]), "2 processes trained the saved run, 1 this one"),
        (lambda state: state["hooks"]["EMA"].pop("decay"), "nothing has changed: hook EMA: KeyError: 'decay'"),
        (lambda state: state["hooks"]["EMA"].update(decay=0.5), "hook EMA: ValueError: decay and warmup were"),
        (lambda state: state["hooks"]["EMA"]["averages"].pop("0.bias"), "the average is of another model"),
        (lambda state: state["hooks"]["EarlyStopping"].update(mode="max"), "hook EarlyStopping: ValueError: monitor"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_and_nothing_changes(tmp_path, change, words):
    path = changed(saved_run(tmp_path), change)
    runner = build(LOADERS["own generator"], seed=3)
    before = everything(runner)
    with pytest.raises(CheckpointError, match=words):
        runner.resume(path)
    assert everything(runner) == before


@pytest.mark.parametrize("content", [{"hooks": []}, {"hooks": {}, "random": {}}])
def test_a_file_without_the_rest_of_a_run(tmp_path, content):
    checkpoint.save(tmp_path / "a.pt", content)
    with pytest.raises(CheckpointError, match="not a whole run, .*iteration"):
        build(LOADERS["shuffled"]).resume(tmp_path / "a.pt")


@pytest.mark.parametrize("where", ["load_state_dict", "after_load_checkpoint"])
def test_a_hook_that_fails_half_way_leaves_all_as_it_was(tmp_path, where):
    class Looks(Hook):
        def after_load_checkpoint(self, runner):
            if where == "after_load_checkpoint":
                raise OSError("no")

    path = saved_run(tmp_path, hooks=[Remember()])
    runner = build(LOADERS["own generator"], [Remember(where == "load_state_dict"), Looks()], seed=3)
    before = everything(runner)
    with pytest.raises(CheckpointError, match=r"nothing has changed: (hook Remember: KeyError|OSError: no)"):
        runner.resume(path)
    assert everything(runner) == before
    runner.hooks[3].fails = False
    assert runner.hooks[3].seen == {"numbers": [1]}  # what was half loaded is gone too


def test_stateless_hooks_may_come_and_go(tmp_path):
    whole = build(LOADERS["own generator"], [Remember()])
    whole.train(2)
    whole.save(tmp_path / "run.pt")
    whole.train(3)
    expected = fingerprint(whole)
    resumed = build(LOADERS["own generator"], [SaveAt(tmp_path, "none"), Remember()], seed=3)
    resumed.resume(tmp_path / "run.pt")
    resumed.train(3)
    assert fingerprint(resumed) == expected


def test_states_are_matched_by_name(tmp_path):
    class Other(Remember):
        name = "mine"

    def hooks(*order):
        return [Remember(), Other(), Remember()][:: 1 if order == () else -1]

    first = build(LOADERS["shuffled"], hooks())
    for number, hook in enumerate(first.hooks[3:]):
        hook.seen = {"numbers": [number]}
    first.save(tmp_path / "a.pt")
    assert list(checkpoint.load(tmp_path / "a.pt")["hooks"]) == [
        "EMA",
        "Draw",
        "EarlyStopping",
        "Remember",
        "mine",
        "Remember 2",
    ]
    second = build(LOADERS["shuffled"], [Other(), Remember(), Remember()])
    second.resume(tmp_path / "a.pt")
    assert [hook.seen["numbers"] for hook in second.hooks[3:]] == [[1], [0], [2]]


def test_a_state_that_cannot_be_stored_names_hook_and_key(tmp_path):
    class Scores(Remember):
        def state_dict(self):
            return {"scores": {"best": [1.0, np.float64(2.0)]}}

    with pytest.raises(CheckpointError, match=r"hook Scores: scores\.best\.1 is a numpy\.float64, which cannot be"):
        build(LOADERS["shuffled"], [Scores()]).save(tmp_path / "a.pt")

    class Listed(Remember):
        def state_dict(self):
            return [1]

    with pytest.raises(CheckpointError, match="hook Listed: state_dict must return a dict, got a list"):
        build(LOADERS["shuffled"], [Listed()]).save(tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_a_new_learning_rate_is_not_ignored_in_silence(tmp_path):
    for schedule in (True, False):
        build(LOADERS["shuffled"], schedule=schedule).save(tmp_path / "a.pt")
        other = build(LOADERS["shuffled"], lr=0.03, schedule=schedule)
        with pytest.warns(UserWarning, match=r"built with \[0\.1\]; \[0\.03\], given here, has no effect"):
            other.resume(tmp_path / "a.pt")
        assert other.step.learning_rates() == {"lr": 0.1}
        with warnings.catch_warnings(action="error"):
            build(LOADERS["shuffled"], schedule=schedule).resume(tmp_path / "a.pt")


def test_what_is_frozen_comes_from_the_file(tmp_path):
    class Freezer(Hook):
        def before_train_epoch(self, runner):
            runner.step.model[1].eval()
            runner.step.model[1].weight.requires_grad_(False)

    whole = build(LOADERS["shuffled"], [Freezer(), SaveAt(tmp_path, "after_train_iter", 8)])
    whole.train(2)
    expected = fingerprint(whole)
    resumed = build(LOADERS["shuffled"], [Freezer()], seed=3)
    resumed.resume(tmp_path / "8.pt")  # inside an epoch: before_train_epoch is not called again
    assert [module.training for module in resumed.step.model] == [True, False, True, True, True]
    assert not resumed.step.model[1].weight.requires_grad
    resumed.train(2)
    assert fingerprint(resumed) == expected


def test_resume_if_possible(tmp_path):
    runner = build(LOADERS["shuffled"], [Checkpoint(tmp_path / "run")])
    assert not runner.resume_if_possible(tmp_path / "run")
    runner.train(1)
    again = build(LOADERS["shuffled"], [Checkpoint(tmp_path / "run")])
    assert again.resume_if_possible(tmp_path / "run")
    assert (again.epoch, again.resumed_from) == (1, tmp_path / "run" / "last.pt")
    (tmp_path / "run" / "last.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        again.resume_if_possible(tmp_path / "run")


def test_the_parameters_of_another_model_are_refused(tmp_path):
    build(LOADERS["shuffled"]).save(tmp_path / "a.pt")
    other = nn.Sequential(*make_model(), nn.Linear(2, 2))
    runner = build(LOADERS["shuffled"], model=other)
    before = deepcopy(other.state_dict())
    with pytest.raises(CheckpointError, match=r"model: missing: 5\.weight"):
        runner.resume(tmp_path / "a.pt")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_settings_given_on_resume_that_have_no_effect_are_told(tmp_path):
    def run(**options):
        torch.manual_seed(0)
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
        step = TrainStep(model, nn.functional.cross_entropy, optimizer)
        return Runner(step, DataLoader(make_data(), batch_size=4))

    runner = run()
    runner.train(1)
    runner.save(tmp_path / "run.pt")
    with pytest.warns(
        UserWarning, match=r"without effect: momentum 0\.9 \(0 as saved\), weight_decay 0\.3 \(0 as saved\)"
    ):
        run(momentum=0.9, weight_decay=0.3).resume(tmp_path / "run.pt")
    run().resume(tmp_path / "run.pt")  # nothing to tell


def test_a_file_where_its_folder_is_meant(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"last\.pt is a file; give the folder that holds it"):
        make_runner().resume_if_possible(tmp_path / "last.pt")


def test_a_stream_that_makes_its_counter_in_iter_goes_on(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            self.position = 0
            yield from make_data()

    def run():
        torch.manual_seed(0)
        return Runner(make_step(make_model()), DataLoader(Stream(), batch_size=4))

    whole = run()
    whole.train(2)
    part = run()
    part.train(max_steps=2)
    part.save(tmp_path / "part.pt")
    part.train(max_steps=4)  # begins the epoch again
    resumed = run()
    resumed.resume(tmp_path / "part.pt")
    resumed.train(2)
    assert torch.equal(resumed.step.model[0].weight, whole.step.model[0].weight)


def test_a_finished_script_that_is_run_again_says_so(tmp_path):
    def script(hooks=(), **end):
        runner = build(LOADERS["shuffled"], [Checkpoint(tmp_path / "run"), *hooks])
        runner.resume_if_possible(tmp_path / "run")
        runner.train(**end)
        return runner

    script(epochs=2)
    where = r"2 epochs and 12 updates are complete \(resumed from .*last\.pt\)"
    with pytest.warns(UserWarning, match=rf"train\(epochs=2\) has nothing to do: {where}; epochs count from the start"):
        assert script(epochs=2).iteration == 12
    with pytest.warns(UserWarning, match=rf"train\(max_steps=12\) has nothing to do: {where}; steps count from the"):
        script(max_steps=12)
    assert script(epochs=3).iteration == 18


def test_a_resumed_run_says_where_it_comes_from(tmp_path, capsys):
    runner = build(LOADERS["shuffled"], [Log()])
    runner.train(max_steps=8)
    runner.save(tmp_path / "a.pt")
    assert "resumed" not in capsys.readouterr().out + repr(runner)
    resumed = build(LOADERS["shuffled"], [Log()])
    resumed.resume(tmp_path / "a.pt")
    assert repr(resumed).endswith(f", resumed_from={str(tmp_path / 'a.pt')!r})")
    resumed.train(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"resumed from {tmp_path / 'a.pt'}, after 1 epochs and 8 updates"
    assert lines[1].startswith("epoch 2  iteration 12")


@pytest.mark.parametrize("value", [1.5, float("nan"), "3", True])
def test_a_fraction_is_no_end(value):
    runner = build(LOADERS["shuffled"])
    train = inspect.unwrap(Runner.train)
    for name in ("epochs", "max_steps"):
        with pytest.raises(
            TypeError, match=rf"^{name} must be >= 1 or None, and a whole number \(an int\), got {value!r}"
        ):
            inspect.unwrap(check_goal)(runner, **({"epochs": None, "max_steps": None} | {name: value}))
        for small in (0, -1):
            with pytest.raises(ValueError, match=f"^{name} must be >= 1 or None, got {small}"):
                train(runner, **{name: small})
    with pytest.raises(TypeError, match="val_every must be >= 1 or None, and a whole number"):
        inspect.unwrap(Runner.__init__)(object.__new__(Runner), make_step(), [], [], val_every=value)
    assert runner.iteration == 0


def test_the_rate_in_the_history_is_the_next_updates(tmp_path):
    class Rates(Hook):
        def __init__(self):
            self.used = []

        def before_train_iter(self, runner):
            self.used.append(runner.step.learning_rates()["lr"])

    runner = build(LOADERS["shuffled"], [rates := Rates()])
    runner.train(2)
    assert runner.history[0]["lr"] == rates.used[6] != rates.used[5]


@pytest.mark.parametrize("kind", ["late", "unsaveable"])
def test_what_could_not_be_saved_is_told_when_the_runner_is_built(tmp_path, kind):
    class Late(Remember):
        priority = 200 if kind == "late" else 0

        def after_train_epoch(self, runner):
            pass

        def state_dict(self):
            return {"made": object()} if kind == "unsaveable" else {}

    words = {"late": "hook Late remembers something and is called after .* Checkpoint: give it a priority below 100"}
    words["unsaveable"] = "hook Late: made is a object, which cannot be stored"
    with pytest.raises(CheckpointError, match=words[kind]):
        build(LOADERS["shuffled"], [Checkpoint(tmp_path), Late()])
    build(LOADERS["shuffled"], [Late()])  # a run that is never saved


def test_a_later_hook_that_is_not_called_where_the_run_is_saved_is_no_hindrance(tmp_path):
    class Late(Remember):
        priority = 200

        def before_train_iter(self, runner):
            pass

        def state_dict(self):
            return {"numbers": [1]} if hasattr(self, "begun") else self.made  # there is none yet

        def before_run(self, runner):
            self.begun = True

    build(LOADERS["shuffled"], [Checkpoint(tmp_path), Late()]).train(1)
