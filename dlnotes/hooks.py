r"""Hooks: objects that watch a run and are called at its named points. Steps update, hooks observe."""

import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dlnotes.arguments import check_not_negative, check_whole

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
    r"""The base of all hooks: define a method named after a point, and it is called there with the Runner.

    ======================  ========================================================================
    point                   when, and what the :class:`~dlnotes.runner.Runner` shows then
    ======================  ========================================================================
    after_load_checkpoint   a run was resumed; everything is loaded
    before_run              first of all, also after a resume: open files, check what can be checked
    before_train            then, before the first update
    before_train_epoch      an epoch begins (not when one is resumed in the middle)
    before_train_iter       before every update
    after_train_iter        after every update: ``logs``, ``iteration``
    before_val              a validation begins; the model is still in training mode
    before_val_epoch        the model is in evaluation mode
    before_val_iter         before every batch: ``batch``
    after_val_iter          after every batch: ``batch`` and ``output``
    after_val_epoch         the results are there: ``metrics``
    after_val               a validation has ended, or failed
    after_train_epoch       an epoch is complete, its validation too: ``history[-1]``
    before_save_checkpoint  a checkpoint is about to be written
    after_train             training has ended or failed (``error``), or was interrupted
    after_run               last of all: close files
    ======================  ========================================================================

    Hooks run in the order given, those of higher ``priority`` later. A hook that remembers anything returns it from
    ``state_dict`` and takes it back in ``load_state_dict``, so that a resumed run goes on exactly; the checkpoint
    keeps it under ``name``, or the class's name if that is ``None``. A hook that needs a result of the
    validation says so in ``monitor``, and a run that will not give it is refused before it trains. One that writes
    checkpoints says so in ``saves``, and what it could not save is refused when the Runner is built.

    >>> class Count(Hook):
    ...     updates = 0
    ...     def after_train_iter(self, runner):
    ...         self.updates += 1

    Several lines of your own are a hook too; here the body of a model is trained from the third epoch on:

    >>> class Unfreeze(Hook):
    ...     def before_train_epoch(self, runner):
    ...         if runner.epoch == 2:
    ...             runner.step.model.body.requires_grad_(True).train()
    """

    priority = 0
    name: str | None = None
    monitor: str | None = None
    saves: bool = False
    served: str | None = None  # the run whose memory it holds

    def state_dict(self) -> dict[str, Any]:
        r"""What the hook remembers: tensors, numbers, strings, and dicts and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        r"""Take over what :meth:`state_dict` returned."""

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def collect(hooks: Sequence[Hook]) -> dict[str, list[Callable[["Runner"], None]]]:
    r"""For each point the methods to call there, in order.

    Raises:
        TypeError: an object is no hook, has a method that looks like a point and is none, or has one of
            ``state_dict`` and ``load_state_dict`` without the other.

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
        kind = type(hook)
        for name in dir(hook):
            looks_like_one = name.startswith(("before_", "after_", "on_"))
            close = difflib.get_close_matches(name, POINTS, n=1, cutoff=0.6 if looks_like_one else 0.85)
            if name not in POINTS and (looks_like_one or close) and callable(getattr(hook, name)):
                hint = f"did you mean {close[0]}?" if close else f"the points are {', '.join(POINTS)}"
                raise TypeError(f"{kind.__name__}.{name} is not a hook point; {hint}")
        saves, loads = kind.state_dict is not Hook.state_dict, kind.load_state_dict is not Hook.load_state_dict
        if saves != loads:
            has, lacks = ("state_dict", "load_state_dict")[:: 1 if saves else -1]
            raise TypeError(f"{kind.__name__} has {has} and no {lacks}: what it remembers would not be restored")
    ordered = sorted(hooks, key=lambda hook: hook.priority)  # stable: equal priorities keep their order
    return {point: [getattr(hook, point) for hook in ordered if hasattr(hook, point)] for point in POINTS}


class Calls:
    r"""The calls of a run's hooks: ``calls(point)`` calls those that have a method of that name, in order.

    >>> class Greet(Hook):
    ...     def before_run(self, runner): print("hello,", runner)
    >>> Calls([Greet()], "Runner")("before_run")
    hello, Runner
    """

    def __init__(self, hooks: Sequence[Hook], runner: Any):
        self._methods: dict[str, list[Callable[[Any], None]]] = collect(hooks)
        self._runner = runner
        self._now: Any = None  # the method that is being called, or was called last

    def methods(self, point: str) -> list[Callable[[Any], None]]:
        r"""The methods of a point, in order, to be called with the runner."""
        return self._methods[point]

    def __call__(self, point: str) -> None:
        methods, runner = self._methods[point], self._runner
        for self._now in methods:
            self._now(runner)

    def whatever_fails(self, error: BaseException | None, *points: str) -> None:
        r"""Call every method although others fail: files are closed, weights given back.

        Args:
            error: what has failed before; it is told of later failures. Without it the first of them is raised.
            points: where to call.
        """
        first = error
        methods = [method for point in points for method in self._methods[point]]
        for self._now in methods:
            try:
                self._now(self._runner)
            except BaseException as another:
                if first is not None:
                    first.add_note(f"after it, {self._now.__qualname__} failed too: {another!r}")
                first = first or another
        if first is not error and first is not None:
            raise first

    def still_to_come(self) -> list[str]:
        r"""The hooks with a memory that this point has not reached yet."""
        for methods in self._methods.values():
            for number, method in enumerate(methods, 1):
                if method is self._now:
                    later = [type(method.__self__) for method in methods[number:]]  # pyright: ignore
                    return [kind.__name__ for kind in later if kind.state_dict is not Hook.state_dict]
        return []


class Best:
    r"""The best value so far of one of the validation's results, called ``monitor``.

    Args:
        monitor: its name, such as ``"val_loss"``.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger; ``None`` (default) for names that end in
            ``loss`` (``"min"``) or ``accuracy`` (``"max"``).
        min_delta: the least change that counts as an improvement, default 0.

    Raises:
        ValueError: ``mode`` is neither, or not known from the name, or ``min_delta`` is negative or infinite.

    >>> best = Best("val_loss")
    >>> [best.improves({"val_loss": value}) for value in (0.5, 0.4, 0.45, float("nan"))]
    [True, True, False, False]
    """

    def __init__(self, monitor: str, mode: str | None = None, min_delta: float = 0.0):
        if mode is None:
            mode = "min" if monitor.endswith("loss") else "max" if monitor.endswith("accuracy") else None
            if mode is None:
                raise ValueError(f"mode: say 'min' or 'max', whichever is better for {monitor!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        check_not_negative(min_delta=min_delta)
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.sign = -1 if mode == "min" else 1
        self.value = -self.sign * math.inf

    def improves(self, metrics: dict[str, float]) -> bool:
        r"""Whether the new value is better, and if so remember it; a ``KeyError`` lists what there is."""
        if self.monitor not in metrics:
            raise KeyError(f"monitor: no {self.monitor!r} in the validation's results, which are {sorted(metrics)}")
        improved = self.sign * metrics[self.monitor] > self.sign * self.value + self.min_delta
        if improved:
            self.value = metrics[self.monitor]
        return improved

    def load(self, state: dict[str, Any]) -> None:
        r"""Take the value over, if it was one of the same ``monitor`` and ``mode``."""
        given, own = (state["monitor"], state["mode"]), (self.monitor, self.mode)
        if given != own:
            raise ValueError(f"monitor and mode were {given} in the saved run, and are {own} here")
        self.value = state["best"]


class EarlyStopping(Hook):
    r"""Stop the run when the monitored value has not improved for ``patience`` validations in a row.

    Args:
        monitor: a name in the validation's results, default ``"val_loss"``.
        patience: how many validations without improvement end the run, default 5.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger; ``None`` (default) for names that end in ``loss``
            or ``accuracy``, where it is known.
        min_delta: the least change that counts as an improvement, default 0.

    Raises:
        ValueError: an argument is out of range. TypeError: ``patience`` is not whole.

    Source: Prechelt, *Early Stopping — But When?* (1998).

    >>> EarlyStopping(patience=3)
    EarlyStopping(monitor='val_loss', patience=3, mode='min', min_delta=0.0)
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, *, mode: str | None = None, min_delta: float = 0.0
    ):
        check_whole("patience", patience)
        self.best, self.patience, self.bad = Best(monitor, mode, min_delta), patience, 0
        self.monitor, self.mode, self.min_delta = monitor, self.best.mode, min_delta

    def after_val_epoch(self, runner: "Runner") -> None:
        self.bad = 0 if self.best.improves(runner.metrics) else self.bad + 1
        if self.bad >= self.patience:
            runner.stop(f"{self.monitor} has not improved for {self.bad} validations", now=True)

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "mode": self.mode, "best": self.best.value, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.load(state)
        self.bad = state["bad"]
