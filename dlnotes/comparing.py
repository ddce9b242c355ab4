r"""Two runs compared: their data, and the hooks that remember something."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

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
