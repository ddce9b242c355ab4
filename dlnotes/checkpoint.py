r"""Checkpoints: written whole or not at all, read without running code, every damage told."""

import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes import archive
from dlnotes.files import ascii_name, ask_the_disk, replacing

FORMAT = "dlnotes checkpoint 1"
PLAIN = {Tensor, nn.Parameter}
BATCHED = {torch.float32, torch.float64}
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's files before 1.6 begin so; they have no checksums


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


def fault(tensor: Tensor) -> str | None:
    r"""Why a checkpoint does not keep ``tensor``, or ``None``: it must be dense and free of NaN and +inf.

    -inf is allowed, because attention masks are stored so; not in complex tensors.

    >>> fault(torch.tensor([1.0, float("nan")])), fault(torch.eye(2).to_sparse()), fault(torch.eye(2))
    ('holds NaN or inf', 'is sparse_coo, not dense', None)
    """
    if tensor.is_meta:
        return "is on the meta device and has no values"
    if tensor.is_nested:
        return "is nested, not dense"
    if tensor.layout is not torch.strided:
        return f"is {str(tensor.layout).removeprefix('torch.')}, not dense"
    if tensor.is_quantized:
        return "is quantised"
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj()).abs()
    if not values.is_floating_point() or not values.numel() or values.dtype is getattr(torch, "float4_e2m1fn_x2", None):
        return None  # four bits hold neither NaN nor inf
    if values.itemsize == 1:
        values = values.float()  # 8-bit types know no maximum
    # The maximum is NaN if any value is. Pieces need no memory, and below 32768 numbers PyTorch waits for no thread.
    pieces = values.view(-1).split(32_767) if values.is_cpu and values.is_contiguous() else (values,)
    return None if all(piece.max() < torch.inf for piece in pieces) else "holds NaN or inf"


def save(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    r"""Write ``state`` to ``path`` atomically: the file is the old one or the new one, never a part.

    The state is checked first; the bytes go to a temporary file beside ``path`` (:func:`dlnotes.files.replacing` says
    how), are forced to disk, and only then renamed over ``path``. They are not read back, which would cost as much
    again: what a disk damages later is told by the checksums when :func:`load` reads it. Nobody may change the tensors
    meanwhile.

    Args:
        path: the file; its folder is made if it is missing.
        state: nested dicts, lists and tuples of tensors, numbers, strings, ``None``.

    Raises:
        CheckpointError: a tensor is not dense or holds NaN or +inf (:func:`fault`), or the state holds an object
            that cannot be saved or that loading would refuse; its dotted name is given. What stood at ``path`` is
            then untouched.
        TypeError: ``state`` is no mapping.
        OSError: the disk refuses: it is full, the folder or the file is write-protected, ``path`` is a folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/a.pt", {"step": 3, "model": {"w": torch.ones(2)}})
    ...     load(folder + "/a.pt")["step"]
    3
    """
    if not isinstance(state, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"state: a dict is expected, got {type(state).__name__}")
    if state.get("format", FORMAT) != FORMAT:
        raise CheckpointError(f"{path}: not written, because the key 'format' is taken: it marks the kind of file")
    try:
        reason = _culprit(state) or _first_fault(state)
    except RecursionError:
        reason = "the state is nested too deep, or in itself"
    if reason:
        raise CheckpointError(f"{path}: not written, because {reason}")
    with replacing(path) as temporary:
        try:
            with ascii_name(temporary) as name:
                torch.save({"format": FORMAT, **state}, name)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # torch tells of a full disk in words of its own
            ask_the_disk(temporary, path)
            raise CheckpointError(f"{path}: not written, because the state cannot be saved: {error}") from error


def _first_fault(state: Mapping[str, Any]) -> str | None:
    r"""Name and :func:`fault` of the first tensor that has one. Small ones, of which there are many, go together."""
    small: dict[torch.dtype, list[Tensor]] = {}
    for name, tensor in tensors(state):
        plain = type(tensor) in PLAIN and tensor.layout is torch.strided and not tensor.is_nested and tensor.is_cpu
        if plain and tensor.dtype in BATCHED and 0 < tensor.numel() < 4096:
            small.setdefault(tensor.dtype, []).append(tensor.detach())
        elif reason := fault(tensor):
            return f"{name} {reason}"
    if all([torch.stack(torch._foreach_max(same)).max() < torch.inf for same in small.values()]):  # pyright: ignore
        return None
    return next(f"{name} {reason}" for name, tensor in tensors(state) if (reason := fault(tensor)))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read a checkpoint written by :func:`save`, onto the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated or damaged, is not a checkpoint of this package, or holds
            pickled Python objects, which loading would have to execute (``weights_only``).
        OSError: ``path`` is a folder, or may not be read.

    >>> load("setup.py")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no checkpoint at setup.py
    """
    content = read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of dlnotes; a bare state dict goes to load_pretrained")
    return content


def read(path: str | os.PathLike[str]) -> Any:
    r"""What ``torch.save`` wrote to ``path``, onto the CPU, without running code: the reader behind :func:`load`.

    Every entry of the archive is compared with its checksum first and must be stored as torch stores it, since
    torch itself would read a damaged one as garbage, and unpack a compressed one without limit. Files of torch
    before 1.6 have no checksums: damage inside a tensor of such a file goes unseen.

    Raises: as :func:`load`, but any content will do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save([1, 2], folder + "/a.pt")
    ...     read(folder + "/a.pt")
    [1, 2]
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the file in it")
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not path.is_file():
        raise CheckpointError(f"{path}: not a regular file")
    if is_safetensors(path):
        raise CheckpointError(f"{path}: a safetensors file, no checkpoint; load_pretrained reads it")
    with path.open("rb") as file:  # opened once: what is checked is what is read, whoever replaces the file meanwhile
        try:
            old = file.read(len(OLD_FORMAT)) == OLD_FORMAT
            place = "cpu" if old else archive.check(file)
            file.seek(0)
            return torch.load(file, map_location=place, weights_only=True)
        except Exception as error:  # unknown bytes raise anything: struct.error, IndexError, zlib.error, MemoryError …
            raise CheckpointError(f"{path}: {_reason(error)}") from error


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    r"""Whether the file is one of safetensors: a length in eight bytes, then that much JSON.

    >>> is_safetensors("weights.pt")  # there is no such file
    False
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(9)
    fits = 0 < int.from_bytes(head[:8], "little") <= os.path.getsize(path) - 8
    return (head[8:] == b"{" and fits) or Path(path).suffix == ".safetensors"


def _reason(error: Exception) -> str:
    if isinstance(error, archive.Damaged):
        return str(error)
    if isinstance(error, zipfile.BadZipFile):
        return "truncated, or not written by torch.save"
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
        newer = ", or a newer torch" if found[1].startswith("torch.") else ""
        return f"refused, because it holds Python objects{newer} ({found[1]}); only tensors and plain data are loaded"
    detail = str(error).partition("WeightsUnpickler error:")[2] or str(error)  # torch's advice before it is dangerous
    return f"damaged, or not readable as a checkpoint ({type(error).__name__}: {detail.strip().partition(chr(10))[0]})"


def _culprit(tree: Any, name: str = "") -> str:
    r"""Name and type of the first object in ``tree`` that cannot be saved and loaded; "" if there is none."""
    if type(tree) in (dict, OrderedDict, list, tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            inner = f"{name}.{key}" if name else str(key)
            if found := (_culprit(key, f"the key {inner}") if type(key) is not str else "") or _culprit(value, inner):
                return found
        return ""
    if type(tree) in PLAIN and not vars(tree):
        return ""
    if type(tree) in (float, str, bool, type(None)) or (type(tree) is int and tree.bit_length() < 64):
        return ""
    buffer = io.BytesIO()
    try:
        torch.save(tree, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:
        kind = f"{type(tree).__module__}.{type(tree).__qualname__}".removeprefix("builtins.")
        return f"{name} is of type {kind}; only tensors, numbers, strings, None, dicts, lists and tuples are kept"
    return ""


def mismatches(model: nn.Module, state: Mapping[str, Any]) -> list[str]:
    r"""What keeps ``state`` from fitting ``model``, a line each: missing, unexpected, other shape, other dtype.

    Another dtype counts: ``load_state_dict`` converts without a word. Who allows a conversion makes it before asking.

    >>> mismatches(torch.nn.Linear(2, 1), {"weight": torch.zeros(3, 2), "scale": torch.ones(1)})
    ['missing: bias', 'shape of weight: (3, 2) given, (1, 2) expected', 'unexpected: scale']
    >>> mismatches(torch.nn.Linear(2, 1, bias=False), {"weight": torch.zeros(1, 2, dtype=torch.float64)})
    ['dtype of weight: float64 given, float32 expected']
    """
    own = model.state_dict()
    lines = [f"missing: {name}" for name in own if name not in state]
    lines += [f"unexpected: {name}" for name in state if name not in own]
    for name in own.keys() & state.keys():
        mine, given = own[name], state[name]
        if not isinstance(mine, Tensor):
            continue  # a module's extra state, of any kind
        if isinstance(mine, nn.UninitializedParameter | nn.UninitializedBuffer):
            lines.append(f"no shape yet: {name}; call the model once, which gives its lazy layers their shapes")
        elif not isinstance(given, Tensor):
            lines.append(f"shape of {name}: {type(given).__name__} given, {tuple(mine.shape)} expected")
        elif given.shape != mine.shape:
            lines.append(f"shape of {name}: {tuple(given.shape)} given, {tuple(mine.shape)} expected")
        elif given.dtype != mine.dtype:
            words = (str(dtype).removeprefix("torch.") for dtype in (given.dtype, mine.dtype))
            lines.append("dtype of {}: {} given, {} expected".format(name, *words))
    return sorted(lines)
