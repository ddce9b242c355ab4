r"""A moving average of the weights, and batch norm's statistics for them."""

import copy
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dlnotes.arguments import check_below_one
from dlnotes.checkpoint import CheckpointError
from dlnotes.hooks import Hook
from dlnotes.modes import evaluating
from dlnotes.randomness import Sources

if TYPE_CHECKING:
    from dlnotes.runner import Runner


BATCHES = 100  # of the run's training loader, for the statistics: five times what a running mean remembers


def recalibrate(model: nn.Module, loader: Iterable[Any], predict: Callable[[Any], Any]) -> None:
    r"""Compute the running statistics of batch norm anew: means over the batches of ``loader``.

    They belong to the weights with which they were computed. Changed weights, averaged ones for instance, need their
    own before they are judged.

    Args:
        model: its batch norms, of torch's classes or of :mod:`dlnotes.norms`, and instance norms that keep statistics.
            In a model that is in training mode those in evaluation mode are frozen, and keep theirs.
        loader: batches of training data.
        predict: runs the model on a batch, such as ``lambda batch: model(batch[0])``, or a step's ``predict``.

    Raises:
        ValueError: ``loader`` gave no batches. As after any other error, the statistics are then as they were.

    Differs from :func:`torch.optim.swa_utils.update_bn`: dropout is off, since it is when the network is judged.

    >>> model = nn.BatchNorm1d(1)
    >>> recalibrate(model, [torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [9.0]])], model)
    >>> model.running_mean, model.running_var, model.num_batches_tracked
    (tensor([4.]), tensor([5.]), tensor(2))
    """
    norms: list[Any] = [norm for norm in _norms(model).values() if norm.training or not model.training]
    before = [(norm, norm.training, norm.momentum, copy.deepcopy(norm._buffers)) for norm in norms]
    calls = dict.fromkeys(norms, 0)

    def count(norm: Any, _: Any) -> None:  # momentum=None would do the same, but for instance norm
        calls[norm] += 1
        norm.momentum = 1 / calls[norm]

    handles = [norm.register_forward_pre_hook(count) for norm in norms]
    batch = None
    try:
        with evaluating(model), torch.no_grad():
            for norm in norms:
                norm.training = True
                norm.reset_running_stats()
            for batch in loader if norms else ():
                predict(batch)
        if norms and batch is None:
            raise ValueError("loader gave no batches")
    except BaseException:
        for norm, _, _, buffers in before:
            for name, buffer in buffers.items():
                if buffer is not None:
                    norm._buffers[name].copy_(buffer)
        raise
    finally:
        for handle, (norm, training, momentum, _) in zip(handles, before, strict=True):
            handle.remove()
            norm.training, norm.momentum = training, momentum


class EMA(Hook):
    r"""An exponential moving average of the weights, used for validation.

    .. math:: \bar\theta_t = d_t\,\bar\theta_{t-1} + (1-d_t)\,\theta_t, \qquad \bar\theta_0 = \theta_0

    During validation the model holds :math:`\bar\theta`, so the averaged weights are what is measured and what
    ``best.pt`` keeps; training goes on with :math:`\theta`, which come back whatever fails. So in the history ``loss``
    is that of the trained weights, ``val_loss`` and the metrics are those of the averaged ones. The average of 16-bit
    weights is kept in float32: the small steps of an average round to nothing in 16 bits.

    Batch norm's running statistics are those of the trained weights, and wrong for the averaged ones: before each
    validation, and at the end of the run, they are computed anew (:func:`recalibrate`) from batches of training data.
    A model without batch norm costs nothing there; other buffers are the model's own.

    Args:
        decay: :math:`d` in [0, 1), default 0.999.
        warmup: if True, :math:`d_t = \min(d, \frac{1+t}{10+t})`: the first weights, hardly trained, are soon
            forgotten. Default False: :math:`d_t = d`.
        loader: the batches for batch norm's statistics; ``None`` (default): the first 100 of the run's
            ``train_loader``. Random generators and samplers are then as they were.

    Attributes:
        averages: :math:`\bar\theta`, in the order of ``model.parameters()``.
        statistics: batch norm's buffers for them, by name, as of the last validation or the end of the run.

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

    def __init__(self, decay: float = 0.999, *, warmup: bool = False, loader: Iterable[Any] | None = None):
        check_below_one(decay=decay)
        self.decay, self.warmup, self._loader, self.updates = decay, warmup, loader, 0
        self.averages: list[Tensor] = []
        self.statistics: dict[str, Tensor] = {}
        self._names: list[str] = []
        self._rounded = False  # are the weights in 16 bits?
        self._calibrated = -1  # after how many updates the statistics were computed
        self._trained: list[tuple[Tensor, Tensor]] = []
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

        With them go batch norm's statistics, if there are any. The average has no other buffers: into a new model load
        the trained one's state first (``best.pt`` has both: under EMA it holds the averaged weights, and nothing is
        left to apply).

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
        unseen = [
            name.rpartition(".")[0] for name, count in counts.items() if not count and name not in self.statistics
        ]
        if unseen and (self._trained_model is None or self._trained_model() is not model):
            raise CheckpointError(
                f"EMA: the average has no buffers, and the batch norm {unseen[0]!r} has seen no batch here: load the "
                "trained model's state (model.load_state_dict) first"
            )
        with torch.no_grad():
            for average, parameter in zip(self.averages, _averaged(model).values(), strict=True):
                parameter.copy_(average)
            for name, buffer in _statistics(model).items():
                buffer.copy_(self.statistics.get(name, buffer))

    @contextmanager
    def averaged(self, model: nn.Module) -> Generator[None]:
        r"""The average in ``model`` inside a ``with``, its own weights after it; :attr:`statistics` likewise."""
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
        parameters, buffers = _averaged(model).values(), _statistics(model)
        self._trained = [(t, t.data) for t in (*parameters, *buffers.values())]  # noted first: what fails can be undone
        for average, parameter in zip(self.averages, parameters, strict=True):
            parameter.data = average.to(parameter.dtype)
        for name, buffer in buffers.items():
            buffer.data = self.statistics.get(name, buffer.data).to(buffer.device, copy=True)

    def _give_back(self) -> None:
        for tensor, data in self._trained:
            tensor.data = data
        self._trained = []

    def _recalibrate(self, runner: "Runner") -> None:
        r"""Compute the statistics for the average, which the model holds now."""
        model = runner.step.model
        if self._calibrated == self.updates or not _statistics(model):
            return
        loader: Any = runner.train_loader if self._loader is None else self._loader
        if hasattr(loader, "_iterator"):  # workers that are at work for an epoch are left to it
            loader = copy.copy(loader)
            loader._iterator = None
        with Sources(runner.loaders() | {"statistics": loader}, step=runner.step).untouched():
            batches = loader if self._loader is not None else islice(loader, BATCHES)  # which begins it
            recalibrate(model, batches, runner.step.predict)
        self.statistics = {name: buffer.clone() for name, buffer in _statistics(model).items()}
        self._calibrated = self.updates

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
            self._recalibrate(runner)

    def after_val(self, runner: "Runner") -> None:
        self._give_back()

    def after_train(self, runner: "Runner") -> None:
        if self.averages and runner.error is None:
            with self.averaged(runner.step.model):
                self._recalibrate(runner)

    def after_load_checkpoint(self, runner: "Runner") -> None:
        if self.averages:
            self._require_fit(runner.step.model)

    def state_dict(self) -> dict[str, Any]:
        averages = dict(zip(self._names, self.averages, strict=True))
        own = {"decay": self.decay, "warmup": self.warmup, "updates": self.updates, "averages": averages}
        return own | {"statistics": self.statistics, "calibrated": self._calibrated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        given, own = (state["decay"], state["warmup"]), (self.decay, self.warmup)
        if given != own:
            raise ValueError(f"decay and warmup were {given} in the saved run, and are {own} here")
        self.updates = state["updates"]
        self._names, self.averages = list(state["averages"]), list(state["averages"].values())
        self.statistics, self._calibrated = state.get("statistics", {}), state.get("calibrated", -1)


def _averaged(model: nn.Module) -> dict[str, nn.Parameter]:
    r"""The parameters that have an average: not whole numbers, which quantised layers hold."""
    return {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _norms(model: nn.Module) -> dict[str, nn.Module]:
    r"""The modules that keep running statistics: batch norms, and instance norms told to."""
    return {
        n: module for n, module in model.named_modules() if isinstance(getattr(module, "running_mean", None), Tensor)
    }


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    found = {name: norm.named_buffers(name, recurse=False) for name, norm in _norms(model).items()}
    return {name: buffer for buffers in found.values() for name, buffer in buffers}
