r"""Pretrained weights: taken over whole, from the files that others write, without silent gaps or conversions."""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.checkpoint import FORMAT, CheckpointError, fault, is_safetensors, mismatches, read

WRAPPERS = ("state_dict", "model")  # where Lightning and mmengine, and where timm and this package keep the weights


def load_pretrained(
    model: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], skip: Iterable[str] = ()
) -> list[str]:
    r"""Load pretrained weights into ``model``; nothing is left out unless ``skip`` says so.

    Names may carry what data parallelism (``module.`` before all of them) and ``torch.compile`` (``_orig_mod.``
    anywhere) put into them, in the source or in the model; ``skip`` and the names returned go without.

    Weights of another dtype are converted where they lose no more than digits, float64 to float32 for instance.
    PyTorch converts the others too, without a word; here they are refused: a number that would become inf or
    another integer, a fraction or an imaginary part that would be lost.

    Files of torch before 0.4.1 lack batch norm's ``num_batches_tracked``: the model's own then stay.

    Args:
        model: the module that takes the weights over.
        source: a file, a state dict, or a dict that holds one as ``"state_dict"`` (Lightning, mmengine) or
            ``"model"`` (timm, this package). A file is one of :func:`dlnotes.checkpoint.save`, of ``torch.save``
            (read without running code; see :func:`dlnotes.checkpoint.read`) or of safetensors, whose library is
            needed then (``pip install safetensors``). Safetensors files have no checksums: damage inside a tensor
            goes unseen unless it makes a NaN.
        skip: prefixes of names to keep as they are in ``model``, for example ``("head.",)`` for another
            number of classes.

    Returns:
        The names loaded.

    Raises:
        CheckpointError: outside ``skip`` names, shapes or types differ, a tensor is not dense or holds NaN or +inf,
            or a parameter of ``model`` is on the meta device: all of them are listed. Also what
            :func:`dlnotes.checkpoint.load` raises, and any error of the model's own loading. In each case the
            model is unchanged.
        TypeError: ``source`` or ``skip`` is something else; ``skip`` may not be a single string.
        ValueError: a prefix in ``skip`` matches no name, or all of them.

    >>> old, new = torch.nn.Linear(2, 1), torch.nn.Linear(2, 3)
    >>> load_pretrained(new, old.state_dict())
    Traceback (most recent call last):
    ...
    dlnotes.checkpoint.CheckpointError: the weights do not fit the model:
      shape of bias: (1,) given, (3,) expected
      shape of weight: (1, 2) given, (3, 2) expected
    >>> load_pretrained(new, {"state_dict": {f"module.{name}": value for name, value in new.state_dict().items()}})
    ['weight', 'bias']
    """
    if isinstance(skip, str):
        raise TypeError(f"skip: a tuple of prefixes is expected, got one string; write skip=({skip!r},)")
    skip, weights, own = tuple(skip), _weights(source), model.state_dict()
    own_plain = _unwrapped(own)
    given_plain = _unwrapped(weights, beside=own_plain.values())
    for prefix in skip:
        if not any(name.startswith(prefix) for name in [*own_plain.values(), *given_plain.values()]):
            raise ValueError(f"skip: no name starts with {prefix!r}")
    skipped = skip or ("\0",)
    real = {plain: name for name, plain in own_plain.items()}  # the model's own spelling of each name
    wanted = {
        real.get(plain, plain): weights[name] for name, plain in given_plain.items() if not plain.startswith(skipped)
    }
    if skip and not wanted:
        raise ValueError(f"skip: {skip} leaves nothing to load")
    kept = {name: own[name] for name, plain in own_plain.items() if plain.startswith(skipped)}
    for name in own.keys() - wanted.keys():
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked" and f"{stem}.running_mean".lstrip(".") in wanted:
            kept[name] = own[name]
    problems = _convert(wanted, own)
    problems += mismatches(model, wanted | kept)
    if problems:
        raise CheckpointError(
            "\n  ".join(["the weights do not fit the model:", *problems, *_hint(given_plain.values(), real)])
        )
    _load_or_restore(model, wanted | kept)
    return [own_plain[name] for name in wanted]


def _weights(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    r"""The state dict in ``source``, out of its wrapper."""
    if isinstance(source, str | os.PathLike):
        content, where = _read(Path(source)), f"{source}: "
    elif isinstance(source, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        content, where = source, ""
    else:
        cure = "; give its state_dict()" if isinstance(source, nn.Module) else ""
        raise TypeError(f"source: a path or a state dict is expected, got {type(source).__name__}{cure}")
    if isinstance(content, Mapping):
        ours = content.get("format") == FORMAT
        if ours and not isinstance(content.get("model"), Mapping):
            raise CheckpointError(f"{where}a checkpoint without 'model'; it holds {list(content)}")
        for wrapper in ("model",) if ours else WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}holds a {type(content).__name__}, not a state dict")
    for name in content:
        if not isinstance(name, str):
            raise CheckpointError(f"{where}not a state dict: its names must be strings, got {name!r}")
    return content


def _read(path: Path) -> Any:
    if not is_safetensors(path):
        return read(path)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"{path}: a safetensors file; its library is missing: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(f"{path}: damaged, or not readable as safetensors ({error})") from error


def _unwrapped(names: Iterable[str], beside: Iterable[str] = ()) -> dict[str, str]:
    r"""Each name without ``_orig_mod.``, and without ``module.`` if all have it and none ``beside`` them has.

    Unchanged if two names would become one.
    """
    plain = {name: re.sub(r"(^|(?<=\.))_orig_mod\.", "", name) for name in names}
    meant = any(name.startswith("module.") for name in beside)
    while plain and not meant and all(short.startswith("module.") for short in plain.values()):
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in plain}


def _convert(wanted: dict[str, Any], own: Mapping[str, Any]) -> list[str]:
    r"""Convert weights of another dtype in place in ``wanted``; what cannot be loaded, a line each."""
    problems: list[str] = []
    for name, value in wanted.items():
        mine = own.get(name)
        if not isinstance(value, Tensor) or not isinstance(mine, Tensor):
            continue
        if reason := fault(value):
            problems.append(f"{name} {reason}")
        elif mine.is_meta:
            problems.append(f"{name} is on the meta device in the model; call model.to_empty(device=...) first")
        elif mine.layout is not torch.strided or mine.is_nested or mine.is_quantized:
            problems.append(f"{name} is not dense in the model")
        elif value.dtype != mine.dtype and torch.can_cast(value.dtype, mine.dtype):
            converted = value.to(mine.dtype)
            if _fits(value, converted):
                wanted[name] = converted
    return sorted(problems)


def _fits(value: Tensor, converted: Tensor) -> bool:
    r"""Whether no number became inf, NaN or, if it was whole, another."""
    if not value.is_floating_point() and not value.is_complex():
        return torch.equal(torch.real(converted).double(), value.double())
    before, after = (part.float() if part.itemsize == 1 else part for part in (value, converted))
    return torch.equal(before.isfinite(), after.isfinite())


def _hint(given: Iterable[str], real: Iterable[str]) -> list[str]:
    r"""Names that would fit without their common first part: said, not guessed."""
    first = {"".join(name.partition(".")[:2]) for name in given}
    prefix = first.pop() if len(first) == 1 else ""
    if prefix.endswith(".") and prefix not in {name[: len(prefix)] for name in real}:
        return [f"(all names given start with {prefix!r}, the model's do not: give a dict of names without it)"]
    return []


def _load_or_restore(model: nn.Module, state: Mapping[str, Any]) -> None:
    r"""``model.load_state_dict(state)``, or the model as it was: PyTorch loads half when one tensor fails."""
    before = {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in model.state_dict().items()
    }
    try:
        model.load_state_dict(state)
    except BaseException as error:
        for name, value in model.state_dict().items():
            if isinstance(value, Tensor):
                with torch.no_grad(), contextlib.suppress(RuntimeError):  # what takes no copy was not overwritten
                    value.copy_(before[name])
        for name, module in model.named_modules():
            if (key := f"{name}._extra_state".lstrip(".")) in before:
                module.set_extra_state(before[key])
        if isinstance(error, Exception):
            raise CheckpointError(f"the weights could not be loaded, and the model is unchanged: {error}") from error
        raise
