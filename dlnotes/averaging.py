r"""A moving average of the weights."""

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dlnotes.arguments import check_below_one
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import Hook

if TYPE_CHECKING:
    from dlnotes.runner import Runner


class EMA(Hook):
    r"""An exponential moving average of the weights, used for validation.

    .. math:: \bar\theta_t = d_t\,\bar\theta_{t-1} + (1-d_t)\,\theta_t, \qquad \bar\theta_0 = \theta_0

    During validation the model holds :math:`\bar\theta`, so the averaged weights are what is measured and what
    ``best.pt`` keeps; training goes on with :math:`\theta`, which come back whatever fails. So in the history ``loss``
    is that of the trained weights, ``val_loss`` and the metrics are those of the averaged ones. Buffers (running
    statistics) are the model's own. The average of 16-bit weights is kept in float32: the small steps of an average
    round to nothing in 16 bits.

    Args:
        decay: :math:`d` in [0, 1), default 0.999.
        warmup: if True, :math:`d_t = \min(d, \frac{1+t}{10+t})`: the first weights, hardly trained, are soon
            forgotten. Default False: :math:`d_t = d`.

    Attributes:
        averages: :math:`\bar\theta`, in the order of ``model.parameters()``.

    Raises:
        ValueError: ``decay`` is out of range.

    Source: Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging* (1992).

    After the run, ``ema.apply(model)`` makes the average the weights of the trained model, and
    ``runner.evaluate(loader, weights=ema)`` judges it.

    >>> model, ema = nn.Linear(1, 1), EMA(decay=0.9)
    >>> ema.start(model)
    >>> _ = nn.init.constant_(model.weight, 5.0)
    >>> with ema.averaged(model):
    ...     print(model.weight.item() == 5.0)
    False
    >>> model.weight.item()
    5.0
    """

    def __init__(self, decay: float = 0.999, *, warmup: bool = False):
        check_below_one(decay=decay)
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.averages: list[Tensor] = []
        self._names: list[str] = []
        self._rounded = False  # are the weights in 16 bits?
        self._trained: list[tuple[nn.Parameter, Tensor]] = []
        self._trained_model: weakref.ref[nn.Module] | None = None

    def start(self, model: nn.Module) -> None:
        r"""Begin with the weights of ``model``, or go on with an average that there is; a Runner calls it.

        Raises:
            CheckpointError: the average there is belongs to another model.
        """
        parameters = _averaged(model)
        self._trained_model = weakref.ref(model)
        if not self.averages:
            self._names = list(parameters)
            self.averages = [p.detach().to(_precise(p.dtype), copy=True) for p in parameters.values()]
        self._require_fit(model)
        self.averages = [a.to(like.device) for a, like in zip(self.averages, parameters.values(), strict=True)]
        self._rounded = any(a.dtype != p.dtype for a, p in zip(self.averages, parameters.values(), strict=True))

    def _require_fit(self, model: nn.Module) -> None:
        if not self.averages:
            raise CheckpointError("EMA: there is no average yet; a run makes one, or start(model)")
        own = {name: tuple(p.shape) for name, p in _averaged(model).items()}
        kept = {name: tuple(a.shape) for name, a in zip(self._names, self.averages, strict=True)}
        if list(own.items()) != list(kept.items()):
            wrong = sorted({name for name, _ in own.items() ^ kept.items()}) or "the order of the parameters"
            raise CheckpointError(f"EMA: the average is of another model than this one: {wrong}")

    def apply(self, model: nn.Module) -> None:
        r"""Make the average the weights of ``model``: of the trained one, or of one that holds its buffers.

        The average has no buffers. Into a new model load the trained one's state first (``best.pt`` has both: under EMA
        it holds the averaged weights, and nothing is left to apply).

        Raises:
            CheckpointError: there is no average yet, or it is of another model; or a batch norm of a new model has seen
                no batch, so that its statistics are not the trained model's. Nothing has changed.

        >>> model, ema = nn.BatchNorm1d(1), EMA()
        >>> ema.start(model)
        >>> ema.apply(nn.BatchNorm1d(1))
        Traceback (most recent call last):
        ...
        dlnotes.checkpoint.CheckpointError: EMA: the average has no buffers, and the batch norm '' has seen no batch ...
        """
        self._require_fit(model)
        counts = {name: b for name, b in model.named_buffers() if name.rpartition(".")[2] == "num_batches_tracked"}
        unseen = [name.rpartition(".")[0] for name, count in counts.items() if not count]
        if unseen and (self._trained_model is None or self._trained_model() is not model):
            raise CheckpointError(
                f"EMA: the average has no buffers, and the batch norm {unseen[0]!r} has seen no batch here: load the "
                "trained model's state (model.load_state_dict) first"
            )
        with torch.no_grad():
            for average, parameter in zip(self.averages, _averaged(model).values(), strict=True):
                parameter.copy_(average)

    @contextmanager
    def averaged(self, model: nn.Module) -> Generator[None]:
        r"""The average in ``model`` inside a ``with``, its own weights after it."""
        if self._trained:  # inside a validation, which gives the trained weights back at its own end
            yield
            return
        try:
            self._exchange(model)
            yield
        finally:
            self._give_back()

    def _exchange(self, model: nn.Module) -> None:
        if self._trained:
            return
        self._require_fit(model)
        parameters = _averaged(model).values()
        self._trained = [(p, p.data) for p in parameters]  # noted first: what fails from here on can be undone
        for average, parameter in zip(self.averages, parameters, strict=True):
            parameter.data = average.to(parameter.dtype)

    def _give_back(self) -> None:
        for parameter, data in self._trained:
            parameter.data = data
        self._trained = []

    def before_run(self, runner: "Runner") -> None:
        if (
            sum(isinstance(hook, EMA) for hook in runner.hooks) > 1
        ):  # each would take the other's for the trained weights
            raise ValueError(
                "EMA: a validation judges one average, so a run has one EMA; compare decays in runs of their own"
            )

    def before_train(self, runner: "Runner") -> None:
        self.start(runner.step.model)

    @torch.no_grad()
    def after_train_iter(self, runner: "Runner") -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        weights: list[Tensor] = list(_averaged(runner.step.model).values())
        if self._rounded:
            weights = [w.to(average.dtype) for w, average in zip(weights, self.averages, strict=True)]
        torch._foreach_lerp_(self.averages, weights, 1 - decay)  # pyright: ignore

    def before_val(self, runner: "Runner") -> None:
        if self.averages:  # none before the run has begun
            self._exchange(runner.step.model)

    def after_val(self, runner: "Runner") -> None:
        self._give_back()

    def after_load_checkpoint(self, runner: "Runner") -> None:
        if self.averages:
            self._require_fit(runner.step.model)

    def state_dict(self) -> dict[str, Any]:
        averages = dict(zip(self._names, self.averages, strict=True))
        return {"decay": self.decay, "warmup": self.warmup, "updates": self.updates, "averages": averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        given, own = (state["decay"], state["warmup"]), (self.decay, self.warmup)
        if given != own:
            raise ValueError(f"decay and warmup were {given} in the saved run, and are {own} here")
        self.updates = state["updates"]
        self._names, self.averages = list(state["averages"]), list(state["averages"].values())


def _averaged(model: nn.Module) -> dict[str, nn.Parameter]:
    r"""The parameters that have an average: not whole numbers, which quantised layers hold."""
    return {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
