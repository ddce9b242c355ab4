r"""Checkpoints: written whole or not at all, read without running code, every damage told."""

import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from dlnotes.files import ascii_name, ask_the_disk, replacing

FORMAT = "dlnotes checkpoint 1"
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's files before 1.6 begin so; they have no checksums
PLAIN_FLAGS = 0x808  # a name in UTF-8 and a length after the data: what torch sets, and all that it sets


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

    The bytes go to a temporary file beside ``path`` (:func:`dlnotes.files.replacing` says how), are checked against
    their checksums and unpickled as :func:`load` will, forced to disk, and only then renamed over ``path``.

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
        for name, tensor in tensors(state):
            if reason := fault(tensor):
                raise CheckpointError(f"{path}: not written, because {name} {reason}")
    except RecursionError:
        raise CheckpointError(f"{path}: not written, because the state is nested too deep, or in itself") from None
    with replacing(path) as temporary:
        try:
            with ascii_name(temporary) as name:
                torch.save({"format": FORMAT, **state}, name)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # objects may raise anything while they are pickled
            ask_the_disk(temporary, path)
            reason = _culprit(state) or str(error)
            raise CheckpointError(f"{path}: not written, because the state cannot be saved: {reason}") from error
        try:
            with temporary.open("rb") as file, ThreadPoolExecutor(1) as thread:
                thread.submit(os.fsync, file.fileno())  # the disk writes on while the checksums are compared
                _check_archive(file)
            torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)  # unpickles, reads no tensor
        except Exception as error:
            reason = _culprit(state) or _reason(error)
            raise CheckpointError(f"{path}: not written, because it could not be read back: {reason}") from error


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
            place = "cpu" if old else _check_archive(file)
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


def _check_archive(file: IO[bytes]) -> Callable[[Any, str], Any]:
    r"""Compare every entry with its checksum; refuse entries that are not as torch writes them.

    Returns a ``map_location`` that leaves tensors on the CPU and refuses one as long as no entry: torch 2.6 reads on
    beyond an entry if a crafted file says so.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = {entry.filename.partition("/")[2] for entry in entries}
        if "data.pkl" not in names:
            raise CheckpointError(f"{'a' if entries else 'an empty'} zip archive, but not one of torch.save")
        if "constants.pkl" in names:
            raise CheckpointError("a TorchScript program; save its state_dict() with torch.save")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(f"refused, because {entry.filename} is compressed; torch.save never does that")
            if entry.external_attr or entry.flag_bits & ~PLAIN_FLAGS:  # torch's reader would skip such an entry
                raise CheckpointError(f"damaged, or not written by torch.save ({entry.filename} has attributes)")
        if sum(entry.file_size for entry in entries) > file.seek(0, io.SEEK_END):
            raise CheckpointError("damaged: its entries overlap")

        def compare(entry: zipfile.ZipInfo) -> None:  # torch.load compares no checksums
            try:
                with archive.open(entry) as part:
                    while part.read(1 << 20):
                        pass
            except zipfile.BadZipFile:
                record = entry.filename.partition("/")[2]
                raise CheckpointError(f"damaged (the checksum of {record} is wrong)") from None

        with ThreadPoolExecutor() as threads:
            list(threads.map(compare, entries))

    lengths = {entry.file_size for entry in entries}

    def place(storage: Any, _location: str) -> Any:
        if storage.nbytes() not in lengths:
            raise CheckpointError("damaged: a tensor is longer or shorter than its entry")
        return storage

    return place


def _reason(error: Exception) -> str:
    if isinstance(error, CheckpointError):
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
    if type(tree) in (Tensor, nn.Parameter, float, str, bool, type(None)):
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
