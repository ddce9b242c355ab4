r"""Checkpoints: written whole or not at all, read without running code, loaded without silent gaps."""

import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = "dlnotes checkpoint 1"


class CheckpointError(RuntimeError):
    r"""A checkpoint cannot be written, read or applied; the message names the file and the reason.

    >>> raise CheckpointError("run/last.pt: damaged")
    Traceback (most recent call last):
    ...
    dlnotes.checkpoint.CheckpointError: run/last.pt: damaged
    """


def tensors(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    r"""Every tensor in nested dicts, lists and tuples, with its dotted name.

    >>> [name for name, _ in tensors({"model": {"weight": torch.zeros(1)}, "states": [torch.ones(1)]})]
    ['model.weight', 'states.0']
    """
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping | list | tuple):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from tensors(value, f"{name}.{key}" if name else str(key))


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    r"""Write ``state`` to ``path`` atomically: the file is the old one or the new one, never a part.

    The bytes go to a temporary file beside ``path``, are read back as :func:`load` will, forced to disk, and
    only then renamed over ``path``.

    Args:
        path: the file; its folder is made if it is missing.
        state: nested dicts, lists and tuples of tensors, numbers, strings, ``None``.

    Raises:
        CheckpointError: a tensor holds NaN or +inf (-inf is allowed: attention masks are stored so), or the
            state holds an object that loading would refuse. A file at ``path`` is then untouched.
        OSError: the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/a.pt", {"step": 3, "model": {"w": torch.ones(2)}})
    ...     load(folder + "/a.pt")["step"]
    3
    """
    path = Path(path)
    for name, tensor in tensors(state):
        if tensor.is_floating_point() and (tensor.isnan() | tensor.isposinf()).any():
            raise CheckpointError(f"{path}: not written, because {name} holds NaN or inf")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        load(temporary)
        os.replace(temporary, path)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not written, because the state cannot be saved: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: not written, because it could not be read back: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path) -> dict[str, Any]:
    r"""Read a checkpoint written by :func:`save`, onto the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated or damaged, is not a checkpoint of this package, or holds
            pickled Python objects, which loading would have to execute (``weights_only``).

    >>> load("setup.py")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no checkpoint at setup.py
    """
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of dlnotes; a bare state dict goes to load_pretrained")
    return content


def _read(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # checks every record's CRC, which torch.load does not
        if damaged:
            raise CheckpointError(f"{path}: damaged (the checksum of {damaged} is wrong)")
        return torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: truncated, or not written by torch.save") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, because it holds Python objects, not only tensors") from error
    except (RuntimeError, EOFError, KeyError, ValueError, NotImplementedError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not readable as a checkpoint ({error})") from error


def mismatches(model: nn.Module, state: Mapping[str, Any]) -> list[str]:
    r"""What keeps ``state`` from fitting ``model``, a line each: missing, unexpected, other shape.

    >>> mismatches(torch.nn.Linear(2, 1), {"weight": torch.zeros(3, 2), "scale": torch.ones(1)})
    ['missing: bias', 'shape of weight: (3, 2) given, (1, 2) expected', 'unexpected: scale']
    """
    own = model.state_dict()
    lines = [f"missing: {name}" for name in own if name not in state]
    lines += [f"unexpected: {name}" for name in state if name not in own]
    for name in own.keys() & state.keys():
        given = tuple(state[name].shape) if isinstance(state[name], Tensor) else type(state[name]).__name__
        if isinstance(own[name], Tensor) and given != tuple(own[name].shape):
            lines.append(f"shape of {name}: {given} given, {tuple(own[name].shape)} expected")
    return sorted(lines)


def load_pretrained(model: nn.Module, source: str | Path | Mapping[str, Tensor], skip: Iterable[str] = ()) -> list[str]:
    r"""Load pretrained weights into ``model``; nothing is left out unless ``skip`` says so.

    Args:
        model: the module that takes the weights over.
        source: a checkpoint of this package, a file with a bare state dict, or a state dict.
        skip: prefixes of names to keep as they are in ``model``, for example ``("head.",)`` for another
            number of classes.

    Returns:
        The names loaded.

    Raises:
        CheckpointError: names or shapes differ outside ``skip``: all of them are listed, and the model is
            unchanged. Also what :func:`load` raises.
        ValueError: a prefix in ``skip`` matches no name.

    >>> old, new = torch.nn.Linear(2, 1), torch.nn.Linear(2, 3)
    >>> load_pretrained(new, old.state_dict())
    Traceback (most recent call last):
    ...
    dlnotes.checkpoint.CheckpointError: the weights do not fit the model:
      shape of bias: (1,) given, (3,) expected
      shape of weight: (1, 2) given, (3, 2) expected
    """
    content: Any = _read(source) if isinstance(source, str | Path) else source
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source}: holds a {type(content).__name__}, not a state dict")
    skip, own = tuple(skip), model.state_dict()
    for prefix in skip:
        if not any(name.startswith(prefix) for name in [*own, *content]):
            raise ValueError(f"skip: no name starts with {prefix!r}")
    wanted = {name: value for name, value in content.items() if not name.startswith(skip or ("\0",))}
    kept = {name: value for name, value in own.items() if name.startswith(skip or ("\0",))}
    problems = mismatches(model, wanted | kept)
    if problems:
        raise CheckpointError("the weights do not fit the model:\n  " + "\n  ".join(problems))
    model.load_state_dict(wanted | kept)
    return list(wanted)
