r"""What a saved run must have in common with the one that takes it up, compared before anything is loaded."""

import copy
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import Tensor

from dlnotes import checkpoint, modes, settings
from dlnotes.arguments import check_whole
from dlnotes.checkpoint import CheckpointError
from dlnotes.comparing import data_problems, describe, hook_problems, hook_states, named
from dlnotes.hooks import Hook

if TYPE_CHECKING:
    from dlnotes.runner import Runner

POSITION = ("run", "epoch", "iteration", "iteration_in_epoch", "stop_reason")
REPORTS = ("history", "metrics")  # each process has its own
KEYS = {*POSITION, *REPORTS, "sums", "rates", "begun", "data", "frozen", "fixed", "random", "epoch_start", "ranks"}


def rank() -> int:
    r"""Which of the processes that train together this one is; 0 if it is alone.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def ranks() -> int:
    r"""How many processes train together.

    >>> ranks()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def save(runner: "Runner", path: str | Path) -> None:
    r"""What :meth:`Runner.save <dlnotes.runner.Runner.save>` does.

    >>> save  # doctest: +ELLIPSIS
    <function save at ...>
    """
    why, late = runner.unsaveable, runner.call.still_to_come()
    if why is None and late:
        why = f"hooks that remember something are called after this one ({', '.join(late)})"
    if why is not None:
        raise CheckpointError(
            f"{path}: not written, because {why}, and the run could not go on exactly from here; save in "
            "after_train_iter or after_train_epoch, by a hook of high priority"
        )
    runner.call("before_save_checkpoint")
    memory = runner.memory
    mine = {"random": runner.sources().read(), "epoch_start": memory.epoch_start, "sums": memory.sums}
    mine |= {name: getattr(runner, name) for name in REPORTS} | {"counters": memory.counters}
    everyones: list[Any] = [mine] * ranks()
    if ranks() > 1:
        dist.all_gather_object(everyones, mine)
    model = runner.step.model
    state = {name: getattr(runner, name) for name in POSITION}
    state |= {"rates": memory.rates, "settings": memory.settings, "begun": memory.begun, "data": _data(runner)}
    state |= {"hooks": hook_states(runner.hooks)}
    state |= {"frozen": modes.frozen(model) if model.training else memory.frozen, "fixed": modes.fixed(model)}
    state |= everyones[0] | {"ranks": everyones[1:]}
    step = runner.step.state_dict()
    if state.keys() & step.keys():
        raise CheckpointError(
            f"{path}: the step's state must not use the run's names {sorted(state.keys() & step.keys())}"
        )
    if runner.is_main:
        checkpoint.save(path, state | step)


def _data(runner: "Runner") -> dict[str, Any]:
    loaders = {name: describe(loader) for name, loader in runner.loaders().items()}
    return loaders | {"iterations_per_epoch": runner.iterations_per_epoch}


def resume(runner: "Runner", path: str | Path) -> None:
    r"""What :meth:`Runner.resume <dlnotes.runner.Runner.resume>` does.

    >>> resume  # doctest: +ELLIPSIS
    <function resume at ...>
    """
    state = checkpoint.load(path)
    if "hooks" not in state:
        raise CheckpointError(f"{path}: holds weights, not a run; use load_pretrained")
    missing = sorted(KEYS - state.keys())
    if missing:
        raise CheckpointError(f"{path}: not a whole run, {', '.join(missing)} missing")
    try:
        mine = ([state] + state["ranks"])[rank()] if len(state["ranks"]) + 1 == ranks() else state
        problems = _problems(runner, state, mine)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # a file of someone else's making
        raise CheckpointError(f"{path}: not a run's checkpoint ({type(error).__name__}: {error})") from error
    if problems:
        raise CheckpointError(f"{path}: the checkpoint does not fit this run:\n  " + "\n  ".join(problems))
    given, groups = copy.copy(runner.memory), settings.groups(runner.step)
    counted = settings.changes(given.counters, mine.get("counters", {}))
    for name in ("random", "epoch_start"):
        mine = {**mine, name: settings.as_given(mine[name], given.counters, counted)}
    with all_or_nothing(runner):
        try:
            _load(runner, state, mine, Path(path))
        except Exception as error:
            reason = error if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path}: not resumed, and nothing has changed: {reason}") from error
    settings.tell(runner, f"{path}", given, groups, state, list(counted.values()))


def last(folder: str | Path) -> Path | None:
    r"""The file in the folder of a ``Checkpoint`` hook to resume from, if it is there.

    >>> last("no such folder yet")
    """
    if Path(folder).is_file():
        raise NotADirectoryError(f"folder: {folder} is a file; give the folder that holds it")
    path = Path(folder) / "last.pt"
    return path if path.exists() else None


def check_goal(runner: "Runner", epochs: int | None, max_steps: int | None) -> None:
    r"""Refuse bad ends; warn if nothing is left to train: the run was stopped, or a finished script is run again.

    >>> check_goal  # doctest: +ELLIPSIS
    <function check_goal at ...>
    """
    if epochs is None and max_steps is None:
        raise ValueError("train needs epochs or max_steps")
    check_whole("epochs", epochs, optional=True)
    check_whole("max_steps", max_steps, optional=True)
    where = f"{runner.epoch} epochs and {runner.iteration} updates are complete"
    if runner.resumed_from is not None:
        where += f" (resumed from {runner.resumed_from})"
    if runner.stop_reason is not None:
        why = (
            f"the run was stopped ({runner.stop_reason}) and does not go on; set runner.stop_reason = None to train on"
        )
    elif epochs is not None and runner.epoch >= epochs:
        why = f"train(epochs={epochs}) has nothing to do: {where}; epochs count from the start of the run"
    elif max_steps is not None and runner.iteration >= max_steps:
        why = f"train(max_steps={max_steps}) has nothing to do: {where}; steps count from the start of the run"
    else:
        return
    warnings.warn(why, stacklevel=3)


def _problems(runner: "Runner", state: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    lines = hook_problems(state["hooks"], runner.hooks)
    saved, own = state["data"], _data(runner)
    if saved["iterations_per_epoch"] != own["iterations_per_epoch"]:
        lines.append(
            f"the saved run has {saved['iterations_per_epoch']} iterations an epoch, this one "
            f"{own['iterations_per_epoch']}: the data, batch size or accumulation changed"
        )
    lines += data_problems({**saved, "iterations_per_epoch": None}, {**own, "iterations_per_epoch": None})
    if len(state["ranks"]) + 1 != ranks():
        lines.append(f"{len(state['ranks']) + 1} processes trained the saved run, {ranks()} this one")
    sources = runner.sources()
    for part in ("random", "epoch_start"):
        lines += sources.problems(mine[part]) if mine[part] else []
    return list(dict.fromkeys(lines)) + runner.step.mismatches(state)


def _load(runner: "Runner", state: Mapping[str, Any], mine: Mapping[str, Any], path: Path) -> None:
    runner.step.load_state_dict(state)
    for name, hook in named(runner.hooks).items():
        if name in state["hooks"]:
            try:
                hook.load_state_dict(state["hooks"][name])
            except Exception as error:
                raise CheckpointError(f"hook {name}: {type(error).__name__}: {error}") from error
            hook.served = state["run"]
    for name in POSITION + REPORTS:
        setattr(runner, name, (state if name in POSITION else mine)[name])
    memory = runner.memory
    memory.sums, memory.rates, memory.frozen = mine["sums"], state["rates"], state["frozen"]
    memory.epoch_start, memory.begun = mine["epoch_start"], state["begun"]
    memory.put_back = mine["random"] if memory.begun else None
    modes.train_but(runner.step.model.eval(), state["frozen"])
    modes.fix(runner.step.model, state["fixed"])
    runner.resumed_from, runner.unsaveable = path, None
    sources = runner.sources()
    sources.stop_workers(mine["random"])
    sources.write(mine["random"])
    runner.call("after_load_checkpoint")


@contextmanager
def as_it_was(runner: "Runner") -> Generator[None]:
    r"""Put the random state back after the ``with``, unless the run begins for the first time.

    A run that goes on calls ``before_run`` and ``before_train`` once more than one that was never stopped: what hooks
    draw there, or a user between ``resume`` and ``train``, must not count.

    >>> import torch
    >>> from dlnotes.runner import Runner
    >>> from dlnotes.step import TrainStep
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    >>> class Draws(Hook):
    ...     def before_train(self, runner): torch.rand(1)
    >>> runner = Runner(step, [], hooks=[Draws()])
    >>> runner.memory.begun, state = True, torch.get_rng_state()
    >>> with as_it_was(runner):
    ...     _ = torch.rand(1)
    >>> torch.equal(state, torch.get_rng_state())
    True
    """
    memory, sources = runner.memory, runner.sources()
    for hook in runner.hooks:
        if type(hook).state_dict is not Hook.state_dict:
            if hook.served not in (None, runner.run):
                raise ValueError(
                    f"{type(hook).__name__} holds the memory of another run: give each Runner hooks of its own"
                )
            hook.served = runner.run
    drawing = runner.call.methods("before_run") or runner.call.methods("before_train")
    state = memory.put_back or (sources.read() if memory.begun and drawing else None)
    yield
    memory.begun, memory.put_back = True, None
    if state is not None:
        # Inside an epoch the training loader is begun from the epoch's start.
        sources.start_workers(state, but="train_loader" if runner.iteration_in_epoch else None)
        sources.write(state)


@contextmanager
def all_or_nothing(runner: "Runner") -> Generator[None]:
    r"""Whatever fails inside the ``with``, the run is then as it was before.

    >>> import torch
    >>> from dlnotes.runner import Runner
    >>> from dlnotes.step import TrainStep
    >>> model = torch.nn.Linear(1, 1)
    >>> step = TrainStep(model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.5))
    >>> runner = Runner(step, [])
    >>> with all_or_nothing(runner):
    ...     runner.epoch = 5
    ...     raise KeyError("half way")
    Traceback (most recent call last):
    ...
    KeyError: 'half way'
    >>> runner.epoch
    0
    """
    step, sources = runner.step, runner.sources()
    weights, chance = copy.deepcopy(step.state_dict()), sources.read()
    training = [(module, module.training) for module in step.model.modules()]
    fixed, memory = modes.fixed(step.model), copy.copy(runner.memory)
    before = dict(vars(runner))
    hooks = [
        (hook, _copied(hook.state_dict()), {n: _copied(v) for n, v in vars(hook).items()}) for hook in runner.hooks
    ]
    try:
        yield
    except BaseException:
        step.load_state_dict(weights)
        for module, mode in training:
            module.training = mode
        modes.fix(step.model, fixed)
        sources.write(chance)
        vars(runner).update(before, memory=memory)
        for hook, state, own in hooks:
            with suppress(Exception):  # what it holds in objects of its own; the rest follows
                hook.load_state_dict(state)
            vars(hook).clear()
            vars(hook).update(own)
        raise


def _copied(value: Any) -> Any:
    r"""A copy of what a hook may change in place; what cannot be copied (a file, a writer) is the hook's own."""
    try:
        return copy.deepcopy(value) if isinstance(value, dict | list | set | Tensor) else value
    except Exception:  # what comes depends on what is in there
        return value
