r"""Where a run draws its random numbers: every generator found, read, compared and put back."""

import collections.abc
import copy
import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, Sampler

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
PLAIN = (str, int, float, type(None), torch.Tensor, ModuleType)  # nothing to look for in these
COMMON = {str, int, float, bool, type(None), torch.Tensor}  # the same, found faster: data sets hold thousands
DICTS, CONTAINERS = {dict, OrderedDict}, (dict, list, tuple, set, deque)
DEPTH, LONGEST = 8, 100  # how deep, and into containers how long, the search for generators goes


def _parts(thing: object) -> Iterator[tuple[str, object]]:
    r"""What an object holds, by name."""
    if isinstance(thing, partial):
        yield from (("func", thing.func), ("args", thing.args), ("keywords", thing.keywords))
    elif isinstance(thing, MethodType):
        yield "self", thing.__self__
    elif isinstance(thing, FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # the cell is still empty
                continue
    elif isinstance(thing, CONTAINERS):
        if len(thing) <= LONGEST:
            items = thing.items() if isinstance(thing, dict) else enumerate(thing)
            yield from [
                (str(key), value) for key, value in items if not _is_plain(value) and isinstance(key, (str, int))
            ]
    elif not isinstance(thing, (type, torch.Tensor, torch.optim.Optimizer)):
        yield from ((name, value) for name, value in getattr(thing, "__dict__", {}).items() if name != "_iterator")


def _is_plain(thing: object) -> bool:
    r"""Whether there is nothing to look for in it: a number, a tensor, a sample of them, an empty dict."""
    kind = type(thing)
    if kind in COMMON:
        return True
    if kind is tuple or kind is list:
        return all([type(part) in COMMON for part in thing])  # pyright: ignore
    return (kind in DICTS and not thing) or isinstance(thing, PLAIN)


def generators(roots: Mapping[str, object]) -> dict[str, Generator]:
    r"""Every random generator within ``roots``, each once, by the path that leads to it.

    Looked into are attributes, short containers, closures and partial functions, eight deep: a loader's own
    generator, its samplers', its data set's and that of the transforms in it. Not found are generators in global
    variables and in other processes.

    >>> sampler = torch.utils.data.RandomSampler(range(4), generator=torch.Generator())
    >>> loader = torch.utils.data.DataLoader(range(4), sampler=sampler)
    >>> list(generators({"train_loader": loader}))
    ['train_loader.sampler.generator']
    """
    found: dict[str, Generator] = {}
    seen: dict[int, object] = {}  # the objects too: an id is free again when its object is gone
    level = list(roots.items())
    for _ in range(DEPTH):
        below: list[tuple[str, object]] = []
        for path, thing in level:
            if id(thing) in seen:
                continue
            seen[id(thing)] = thing
            if isinstance(thing, Generator):
                if not isinstance(thing, random.SystemRandom):  # the system's own has no state
                    found[path] = thing
            else:
                below += [(f"{path}.{name}", part) for name, part in _parts(thing) if not _is_plain(part)]
        level = below
    return found


def samplers(loader: object) -> dict[str, object]:
    r"""The samplers of a data loader, also those inside of others, by path.

    >>> list(samplers(torch.utils.data.DataLoader(range(4))))
    ['sampler', 'batch_sampler']
    """
    found: dict[str, object] = {}
    level = [(name, getattr(loader, name, None)) for name in ("sampler", "batch_sampler")]
    while level:
        below: list[tuple[str, object]] = []
        for path, sampler in level:
            if hasattr(sampler, "__dict__") and not any(sampler is known for known in found.values()):
                found[path] = sampler
                below += [
                    (f"{path}.{name}", part)
                    for name, part in vars(sampler).items()
                    if isinstance(part, Sampler) or "sampler" in name or hasattr(part, "set_epoch")
                ]
        level = below
    return found


def begin(loader: Iterable[Any], epoch: int) -> Iterator[Any]:
    r"""Begin an epoch of a loader; distributed samplers, which shuffle by its number, are told it.

    >>> list(begin([1, 2], epoch=0))
    [1, 2]
    """
    for owner in (loader, *samplers(loader).values()):
        if hasattr(owner, "set_epoch"):
            owner.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return iter(loader)


def _counters(loaders: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    r"""The integers that samplers and streams keep: an epoch, a position; as path, owner and attribute."""
    for name, loader in loaders.items():
        owners = samplers(loader)
        dataset = getattr(loader, "dataset", None)
        if isinstance(dataset, IterableDataset):
            owners["dataset"] = dataset
        for path, owner in owners.items():
            for attribute, value in vars(owner).items():
                if isinstance(value, int):
                    yield f"{name}.{path}.{attribute}", owner, attribute


def counters(loaders: Mapping[str, object]) -> dict[str, int]:
    r"""The integers that samplers and streams keep, by path; a constructor's options are among them.

    >>> sampler = torch.utils.data.DistributedSampler(range(4), num_replicas=1, rank=0)
    >>> counters({"train_loader": torch.utils.data.DataLoader(range(4), sampler=sampler)})["train_loader.sampler.epoch"]
    0
    """
    return {path: getattr(owner, name) for path, owner, name in _counters(loaders)}


def _read(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.RandomState):
        name, keys, *rest = generator.get_state(legacy=True)
        return [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest]
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    return generator.getstate()


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _arrays(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _arrays(value) for key, value in state.items()}
    return np.array(state, dtype=np.uint64) if isinstance(state, list) else state


def _write(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.RandomState):
        name, keys, *rest = state
        generator.set_state((name, keys.numpy().astype(np.uint32), *rest))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = _arrays(state)
    else:
        generator.setstate(state)


def _shared() -> dict[str, Generator]:
    r"""The generators that everyone draws from who names none."""
    numpys: Any = np.random.get_state.__self__
    pythons: Any = random.getstate.__self__  # pyright: ignore[reportFunctionMemberAccess]
    return {"torch": torch.default_generator, "numpy": numpys, "python": pythons}


class Sources:
    r"""Everything that decides which random numbers a run draws next.

    Args:
        loaders: the data loaders by name; they, their samplers and their data sets may have generators, and count.
        other: where else to look for generators (:func:`generators`).

    >>> sources = Sources({})
    >>> before = sources.read()
    >>> drawn = torch.rand(3), random.random(), np.random.rand()
    >>> sources.write(before)
    >>> drawn[0].equal(torch.rand(3)), drawn[1] == random.random(), drawn[2] == np.random.rand()
    (True, True, True)
    """

    def __init__(self, loaders: Mapping[str, Any], **other: object):
        self._loaders, self._roots = loaders, dict(loaders) | other

    def read(self) -> dict[str, Any]:
        r"""The state of all of them, as plain values for a checkpoint."""
        return {
            **{name: _read(generator) for name, generator in _shared().items()},
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "generators": {path: _read(generator) for path, generator in generators(self._roots).items()},
            "counters": {path: getattr(owner, name) for path, owner, name in _counters(self._loaders)},
            "started": [name for name, loader in self._loaders.items() if _has_started(loader)],
        }

    @contextmanager
    def untouched(self) -> collections.abc.Generator[None]:
        r"""Whatever is drawn or started inside the ``with``, all of them are then as they were."""
        before = self.read()
        try:
            yield
        finally:
            self.stop_workers(before)
            self.write(before)

    def start_workers(self, state: Mapping[str, Any], but: str | None = None) -> None:
        r"""Have those loaders' persistent workers running that had them when ``state`` was read, except one's.

        Such workers are started, and their seeds drawn, once: a resumed run does so before it puts ``state`` back.
        """
        for name, loader in self._loaders.items():
            if name in state["started"] and name != but and not _has_started(loader) and loader.persistent_workers:
                iter(loader)

    def stop_workers(self, state: Mapping[str, Any]) -> None:
        r"""The other way round: drop persistent workers that were not running yet when ``state`` was read."""
        for name, loader in self._loaders.items():
            if name not in state["started"] and _has_started(loader):
                loader._iterator = None

    def write(self, state: Mapping[str, Any]) -> None:
        r"""Put back what :meth:`read` returned; what does not fit is named by :meth:`problems`."""
        for name, generator in _shared().items():
            _write(generator, state[name])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        if state["mps"] is not None and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"])
        own = generators(self._roots)
        for path, value in state["generators"].items():
            _write(own[path], value)
        for path, owner, attribute in list(_counters(self._loaders)):
            if path in state["counters"]:  # others were made since
                setattr(owner, attribute, state["counters"][path])

    def problems(self, state: Mapping[str, Any]) -> list[str]:
        r"""Everything in which ``state`` does not fit this run, a line each; nothing is changed."""
        own = generators(self._roots)
        if sorted(state["generators"]) != sorted(own):
            words = f"{sorted(state['generators'])} in the checkpoint, {sorted(own)} in this run"
            return [f"the data loaders had other generators: {words} (make them in __init__)"]
        lines: list[str] = []
        counted = {path for path, *_ in _counters(self._loaders)} - set(state["counters"])
        if counted:  # those of the checkpoint that are missing here may be made when an epoch begins
            lines.append(f"the samplers count otherwise: {sorted(counted)} in this run and not in the checkpoint")
        if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) != torch.cuda.device_count():
            lines.append(f"{len(state['cuda'])} GPUs in the checkpoint, {torch.cuda.device_count()} in this run")
        values = {name: state[name] for name in _shared()} | state["generators"]
        for path, generator in (_shared() | own).items():
            try:
                _write(_another(generator), values[path])
            except Exception as error:  # what comes depends on the library
                lines.append(f"the state of the random generator {path} does not fit: {error}")
        return lines


def _has_started(loader: Any) -> bool:
    r"""Whether a loader has persistent workers running."""
    return getattr(loader, "_iterator", None) is not None


def _another(generator: Generator) -> Generator:
    r"""One of the same kind, to try a state on."""
    if isinstance(generator, torch.Generator):
        return torch.Generator(generator.device)
    return random.Random(0) if isinstance(generator, random.Random) else copy.deepcopy(generator)
