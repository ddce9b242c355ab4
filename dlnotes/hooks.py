r"""Hooks: objects that watch a run and are called at its named points. Steps update, hooks observe."""

import difflib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from dlnotes import checkpoint

if TYPE_CHECKING:
    from dlnotes.runner import Runner

# In the order in which a run meets them; the names are mmengine's.
POINTS = (
    "after_load_checkpoint",
    "before_run",
    "before_train",
    "before_train_epoch",
    "before_train_iter",
    "after_train_iter",
    "before_val",
    "before_val_epoch",
    "before_val_iter",
    "after_val_iter",
    "after_val_epoch",
    "after_val",
    "after_train_epoch",
    "before_save_checkpoint",
    "after_train",
    "after_run",
)


class Hook:
    r"""The base of all hooks: define a method named after a point of :data:`POINTS`, and it is called there.

    Every such method takes the :class:`~dlnotes.runner.Runner`. A hook that remembers anything returns it from
    ``state_dict``, so that a resumed run goes on exactly. Hooks run in the order given, those of higher
    ``priority`` later.

    >>> class Count(Hook):
    ...     updates = 0
    ...     def after_train_iter(self, runner):
    ...         self.updates += 1
    """

    priority = 0

    def state_dict(self) -> dict[str, Any]:
        r"""What the hook remembers: tensors, numbers, strings, and dicts and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        r"""Take over what :meth:`state_dict` returned."""


def collect(hooks: Sequence[Hook]) -> dict[str, list[Callable[["Runner"], None]]]:
    r"""For each point the methods to call there, in order.

    Raises:
        TypeError: an object is no hook, or has a method that looks like a point and is none.

    >>> class Typo(Hook):
    ...     def after_trian_iter(self, runner): ...
    >>> collect([Typo()])
    Traceback (most recent call last):
    ...
    TypeError: Typo.after_trian_iter is not a hook point; did you mean after_train_iter?
    """
    for hook in hooks:
        if not isinstance(hook, Hook):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"hooks must be Hook objects, got {hook!r}")
        for name in dir(hook):
            looks_like_one = name.startswith(("before_", "after_", "on_"))
            close = difflib.get_close_matches(name, POINTS, n=1, cutoff=0.6 if looks_like_one else 0.85)
            if name not in POINTS and (looks_like_one or close) and callable(getattr(hook, name)):
                hint = f"did you mean {close[0]}?" if close else f"the points are {', '.join(POINTS)}"
                raise TypeError(f"{type(hook).__name__}.{name} is not a hook point; {hint}")
    ordered = sorted(hooks, key=lambda hook: hook.priority)  # stable: equal priorities keep their order
    return {point: [getattr(hook, point) for hook in ordered if hasattr(hook, point)] for point in POINTS}


class Best:
    r"""The best value so far of one of the validation's results, called ``monitor``.

    Args:
        monitor: its name, such as ``"val_loss"``.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger.
        min_delta: the least change that counts as an improvement, default 0.

    Raises:
        ValueError: ``mode`` is neither, or ``min_delta`` is negative.

    >>> best = Best("val_loss", "min")
    >>> [best.improves({"val_loss": value}) for value in (0.5, 0.4, 0.45, float("nan"))]
    [True, True, False, False]
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be >= 0, got {min_delta}")
        self.monitor, self.sign, self.min_delta = monitor, -1 if mode == "min" else 1, min_delta
        self.value = -self.sign * math.inf

    def improves(self, metrics: dict[str, float]) -> bool:
        r"""Whether the new value is better, and if so remember it; a ``KeyError`` lists what there is."""
        if self.monitor not in metrics:
            raise KeyError(f"monitor: no {self.monitor!r} in the validation's results, which are {sorted(metrics)}")
        improved = self.sign * metrics[self.monitor] > self.sign * self.value + self.min_delta
        if improved:
            self.value = metrics[self.monitor]
        return improved


class Progress(Hook):
    r"""A tqdm bar for each epoch, on standard error.

    >>> Progress().bar is None
    True
    """

    def __init__(self):
        self.bar: tqdm[Any] | None = None

    def before_train_iter(self, runner: "Runner") -> None:  # not before_train_epoch: a run may resume inside one
        if self.bar is None:
            name, start = f"epoch {runner.epoch + 1}", runner.iteration_in_epoch
            self.bar = tqdm(desc=name, total=runner.iterations_per_epoch, initial=start, leave=False)

    def after_train_iter(self, runner: "Runner") -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{runner.logs['loss']:.4g}", refresh=False)
            self.bar.update()

    def after_train_epoch(self, runner: "Runner") -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Log(Hook):
    r"""Print the history's newest line every ``every`` epochs (default 1).

    >>> Log(every=0)
    Traceback (most recent call last):
    ...
    ValueError: every must be >= 1, got 0
    """

    priority = 90

    def __init__(self, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be >= 1, got {every}")
        self.every = every

    def after_train_epoch(self, runner: "Runner") -> None:
        if runner.epoch % self.every == 0:
            print("  ".join(f"{name} {value:.4g}" for name, value in runner.history[-1].items()))


class Checkpoint(Hook):
    r"""Keep ``last.pt``, everything a run needs to resume, and ``best.pt``, the weights that validated best.

    ``last.pt`` is written after every epoch, and with ``every=n`` after every n-th update too. ``best.pt``, with
    ``monitor``, is written when the monitored value of the validation improves; it holds the weights that were
    judged (the averaged ones under :class:`EMA`), for :func:`~dlnotes.pretrained.load_pretrained`.

    Args:
        folder: where the files go; made if missing.
        every: updates between two writes of ``last.pt`` inside an epoch; ``None`` (default) for none.
        monitor: a name in the validation's results, such as ``"val_loss"``; ``None`` for no ``best.pt``.
        mode: ``"min"`` (default) if smaller is better, ``"max"`` if larger.

    Raises:
        ValueError: ``every`` or ``mode`` is out of range.
        KeyError: the validation gives no value named ``monitor``.

    >>> Checkpoint("run", monitor="val_accuracy", mode="max").best.value
    -inf
    """

    priority = 100  # after the other hooks, whose state it saves

    def __init__(self, folder: str | Path, *, every: int | None = None, monitor: str | None = None, mode: str = "min"):
        if every is not None and every < 1:
            raise ValueError(f"every must be >= 1 or None, got {every}")
        self.folder, self.every = Path(folder), every
        self.best = None if monitor is None else Best(monitor, mode)

    def after_train_iter(self, runner: "Runner") -> None:
        if self.every and runner.iteration % self.every == 0:
            runner.save(self.folder / "last.pt")

    def after_val_epoch(self, runner: "Runner") -> None:
        if self.best is not None and self.best.improves(runner.metrics):
            weights = {"model": runner.step.model.state_dict(), "metrics": dict(runner.metrics)}
            checkpoint.save(self.folder / "best.pt", weights | {"epoch": runner.epoch + 1})

    def after_train_epoch(self, runner: "Runner") -> None:
        runner.save(self.folder / "last.pt")

    def state_dict(self) -> dict[str, Any]:
        return {} if self.best is None else {"best": self.best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.best is not None:
            self.best.value = state["best"]


class EarlyStopping(Hook):
    r"""Stop the run when the monitored value has not improved for ``patience`` validations in a row.

    Args:
        monitor: a name in the validation's results, default ``"val_loss"``.
        patience: how many validations without improvement end the run, default 5.
        mode: ``"min"`` (default) if smaller is better, ``"max"`` if larger.
        min_delta: the least change that counts as an improvement, default 0.

    Raises:
        ValueError: an argument is out of range.
        KeyError: the validation gives no value named ``monitor``.

    Source: Prechelt, *Early Stopping — But When?* (1998).

    >>> EarlyStopping(patience=3).bad
    0
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, *, mode: str = "min", min_delta: float = 0.0):
        if patience < 1:
            raise ValueError(f"patience must be >= 1, got {patience}")
        self.best, self.patience, self.bad = Best(monitor, mode, min_delta), patience, 0

    def after_val_epoch(self, runner: "Runner") -> None:
        self.bad = 0 if self.best.improves(runner.metrics) else self.bad + 1
        if self.bad >= self.patience:
            runner.stop(f"{self.best.monitor} has not improved for {self.bad} validations")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.value, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value, self.bad = state["best"], state["bad"]


class EMA(Hook):
    r"""An exponential moving average of the weights, used for validation.

    .. math:: \bar\theta_t = d\,\bar\theta_{t-1} + (1-d)\,\theta_t, \qquad \bar\theta_0 = \theta_0

    During validation the model holds :math:`\bar\theta`, so the averaged weights are what is measured and what
    ``best.pt`` keeps; training goes on with :math:`\theta`. Buffers (running statistics) are the model's own.

    Args:
        decay: :math:`d` in [0, 1), default 0.999.

    Raises:
        ValueError: ``decay`` is out of range.

    Source: Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging* (1992).

    >>> EMA(decay=0.9).decay
    0.9
    """

    def __init__(self, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.averages: list[Tensor] = []

    def before_train(self, runner: "Runner") -> None:
        parameters = list(runner.step.model.parameters())
        if not self.averages:
            self.averages = [parameter.detach().clone() for parameter in parameters]
        self.averages = [average.to(like) for average, like in zip(self.averages, parameters, strict=True)]

    @torch.no_grad()
    def after_train_iter(self, runner: "Runner") -> None:
        torch._foreach_lerp_(self.averages, list(runner.step.model.parameters()), 1 - self.decay)  # pyright: ignore

    def before_val(self, runner: "Runner") -> None:
        for average, parameter in zip(self.averages, runner.step.model.parameters(), strict=bool(self.averages)):
            average.data, parameter.data = parameter.data, average.data

    after_val = before_val  # the same exchange gives the trained weights back

    def state_dict(self) -> dict[str, Any]:
        return {"averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averages = list(state["averages"])
