r"""Two runs compared: their data, and the hooks that remember something."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from dlnotes.arguments import check_whole
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import Hook

PLAIN = (str, bytes, int, float, bool, complex, type(None), Tensor, torch.Size, torch.dtype, torch.device)


def length(loader: Any) -> int | None:
    r"""The length of a loader or data set, or ``None`` if it has none.

    >>> length([1, 2]), length(iter([1, 2]))
    (2, None)
    """
    try:
        return len(loader)
    except TypeError:
        return None


def check_loaders(train_loader: object, val_loader: object, val_every: object) -> None:
    r"""Refuse what cannot be gone through again and again.

    Raises:
        TypeError: a loader is no iterable, or can be gone through only once; ``val_every`` is not whole.
        ValueError: ``val_every`` is < 1, or without a ``val_loader``.

    >>> check_loaders([1, 2], iter([1, 2]), None)
    Traceback (most recent call last):
    ...
    TypeError: val_loader can be gone through only once; a list or a DataLoader begins anew
    """
    for name, loader in (("train_loader", train_loader), ("val_loader", val_loader)):
        if loader is None and name == "val_loader":
            continue
        if isinstance(loader, Iterator):
            raise TypeError(f"{name} can be gone through only once; a list or a DataLoader begins anew")
        if isinstance(loader, type) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
            raise TypeError(f"{name} must give batches, as a list or a DataLoader does, got {loader!r}")
    check_whole("val_every", val_every, optional=True)
    if val_every is not None and val_loader is None:
        raise ValueError(f"val_every needs a val_loader, and there is none; got {val_every}")


def describe(loader: Any) -> dict[str, Any]:
    r"""What can be told about a loader's data without reading them.

    >>> describe(torch.utils.data.DataLoader(range(6), batch_size=4, shuffle=True))["order"]
    'RandomSampler'
    """
    dataset, sampler = getattr(loader, "dataset", None), getattr(loader, "sampler", None)
    tensors = getattr(dataset, "tensors", ())  # of a TensorDataset
    return {
        "samples": length(dataset),
        "batches": length(loader),
        "batch_size": getattr(loader, "batch_size", None),
        "drop_last": getattr(loader, "drop_last", None),
        "order": None if sampler is None else type(sampler).__name__,
        "batch_order": type(getattr(loader, "batch_sampler", None)).__name__,
        "dtypes": [str(tensor.dtype) for tensor in tensors if isinstance(tensor, Tensor)],
    }


def data_problems(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    r"""In what two descriptions of a run's data differ, a line each.

    >>> data_problems({"val_loader": describe([1])}, {"val_loader": None})
    ['val_loader: the checkpoint has one, this run has none']
    """
    lines: list[str] = []
    for name in saved.keys() | own.keys():
        before, now = saved.get(name), own.get(name)
        if (before is None) != (now is None):
            has = ("has none", "has one")
            lines.append(f"{name}: the checkpoint {has[before is not None]}, this run {has[now is not None]}")
        elif isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += [
                f"{name}: {key} {before.get(key)} in the checkpoint, {now.get(key)} in this run"
                for key in dict.fromkeys([*before, *now])
                if before.get(key) != now.get(key)
            ]
        elif before != now:
            lines.append(f"{name}: {before} in the checkpoint, {now} in this run")
    return sorted(lines)


def named(hooks: Sequence[Hook]) -> dict[str, Hook]:
    r"""The hooks by the names under which a checkpoint keeps them; a second one of a name is numbered.

    >>> list(named([Hook(), Hook()]))
    ['Hook', 'Hook 2']
    """
    found: dict[str, Hook] = {}
    for hook in hooks:
        name = own = hook.name or type(hook).__name__
        number = 1
        while name in found:
            number += 1
            name = f"{own} {number}"
        found[name] = hook
    return found


def hook_states(hooks: Sequence[Hook]) -> dict[str, dict[str, Any]]:
    r"""What those hooks remember that remember anything.

    Raises:
        CheckpointError: a state cannot be stored; the message names hook, key and type.

    >>> class Numbers(Hook):
    ...     def state_dict(self): return {"seen": [1, object]}
    ...     def load_state_dict(self, state): ...
    >>> hook_states([Numbers()])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dlnotes.checkpoint.CheckpointError: hook Numbers: seen.1 is a type, which cannot be stored; a state ...
    """
    states: dict[str, dict[str, Any]] = {}
    for name, hook in named(hooks).items():
        if type(hook).state_dict is not Hook.state_dict:
            state: Any = hook.state_dict()
            if not isinstance(state, dict):
                raise CheckpointError(f"hook {name}: state_dict must return a dict, got a {type(state).__name__}")
            for key, value in _unsaveable(state):
                kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
                raise CheckpointError(
                    f"hook {name}: {key} is a {kind}, which cannot be stored; a state holds tensors, numbers, "
                    "strings, None, and dicts and lists of them"
                )
            if state:
                states[name] = state
    return states


def check_saveable(hooks: Sequence[Hook]) -> None:
    r"""Refuse before the run what a hook that ``saves`` would be refused in it.

    Raises:
        CheckpointError: a hook with a memory is called later than one that saves, or its state cannot be stored.

    >>> class Saves(Hook): saves, priority = True, 100
    >>> class Late(Hook):
    ...     priority = 200
    ...     def after_train_iter(self, runner): ...
    ...     def state_dict(self): return {}
    ...     def load_state_dict(self, state): ...
    >>> check_saveable([Late(), Saves()])
    Traceback (most recent call last):
    ...
    dlnotes.checkpoint.CheckpointError: hook Late remembers something and is called after one that saves, ...
    """
    saving = [hook for hook in hooks if hook.saves]
    if not saving:
        return
    ordered = sorted(hooks, key=lambda hook: hook.priority)
    first = min(saving, key=ordered.index)
    for late in ordered[ordered.index(first) + 1 :]:
        points = [point for point in ("after_train_iter", "after_train_epoch") if hasattr(late, point)]
        if points and not late.saves and type(late).state_dict is not Hook.state_dict:
            raise CheckpointError(
                f"hook {type(late).__name__} remembers something and is called after one that saves, "
                f"{type(first).__name__}: give it a priority below {first.priority}"
            )
    with suppress(AttributeError, KeyError):  # a state that is made when the run begins
        hook_states(hooks)


def _unsaveable(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list | tuple | set):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _unsaveable(value, f"{name}.{key}" if name else str(key))
    elif type(tree) not in PLAIN and not isinstance(tree, Tensor):
        yield name, tree


def hook_problems(saved: Mapping[str, Any], hooks: Sequence[Hook]) -> list[str]:
    r"""What hooks with a memory the saved run had and this one has not, or the other way round.

    >>> hook_problems({"EMA": {}}, [])
    ["the run was saved with hooks ['EMA'], this Runner has []; those that remember nothing may change"]
    """
    own = [name for name in hook_states(hooks)]
    if sorted(saved) == sorted(own):
        return []
    words = f"the run was saved with hooks {list(saved)}, this Runner has {own}"
    return [f"{words}; those that remember nothing may change"]
