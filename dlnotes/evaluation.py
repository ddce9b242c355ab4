r"""Judging a model on data: losses and metrics that are right over the whole of it, and its outputs."""

import copy
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dlnotes.averaging import EMA
from dlnotes.batches import value
from dlnotes.modes import evaluating
from dlnotes.pretrained import load_pretrained
from dlnotes.protocol import Evaluation, Step

Measure = Callable[[Any, Any], Tensor | float]
Weights = str | Path | Mapping[str, Tensor] | EMA | None


@runtime_checkable
class Metric(Protocol):
    r"""A metric that is more than a mean over batches (F1, AUC, average precision): torchmetrics' are of this kind.

    >>> class Largest:
    ...     def reset(self): self.value = float("-inf")
    ...     def update(self, output, target): self.value = max(self.value, output.max().item())
    ...     def compute(self): return self.value
    >>> isinstance(Largest(), Metric)
    True
    """

    def reset(self) -> Any:
        r"""Forget everything."""

    def update(self, output: Any, target: Any, /) -> Any:
        r"""Take a batch in."""

    def compute(self) -> Any:
        r"""The value over all batches: a number, or a dict of them."""


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    r"""The share of predictions that are right, of class scores in dimension 1.

    Args:
        output: scores, (N, classes, …).
        target: class numbers, (N, …).

    Raises:
        ValueError: the scores are of fewer than two classes (a single logit has no largest), or the shapes differ.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0])).item()
    0.5
    """
    if output.dim() < 2 or output.shape[1] < 2:
        raise ValueError(
            f"output must be scores of two classes or more, (N, classes, …), got {tuple(output.shape)}; of a single "
            "logit the accuracy is ((output > 0).flatten() == (target > 0.5).flatten()).float().mean()"
        )
    predicted = output.argmax(dim=1)
    if predicted.shape != target.shape:
        raise ValueError(f"target must have the shape {tuple(predicted.shape)}, got {tuple(target.shape)}")
    return (predicted == target).float().mean()


def checked(metrics: Mapping[str, Measure | Metric]) -> dict[str, Measure | Metric]:
    r"""The metrics as a dict of our own.

    Raises:
        TypeError: it is no mapping, or one is neither a function nor a :class:`Metric`.
        ValueError: one is called ``loss``.

    >>> checked({"accuracy": Metric})
    Traceback (most recent call last):
    ...
    TypeError: metrics: accuracy must be a function or have reset, update and compute, got a class: write Metric()
    """
    if not isinstance(metrics, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"metrics must be a dict of names and functions, got a {type(metrics).__name__}")
    if "loss" in metrics:
        raise ValueError("metrics: 'loss' is the name of the loss; name the metric otherwise")
    for name, metric in metrics.items():
        if isinstance(metric, type) or not (isinstance(metric, Metric) or callable(metric)):
            kind: Any = metric
            what = f"a class: write {kind.__name__}()" if isinstance(kind, type) else repr(kind)
            raise TypeError(f"metrics: {name} must be a function or have reset, update and compute, got {what}")
    return dict(metrics)


class Tally:
    r"""Losses and metrics summed over batches, each weighted by what it is a mean over.

    Losses weigh by the batch's ``count`` (tokens, say), functions by its ``samples``; objects with ``update`` and
    ``compute`` see every batch that has samples and are computed once.

    Args:
        metrics: by name, ``f(output, target)`` or a :class:`Metric`; parts of a dict are called ``name_part``.
        model: metrics that are modules go where it is.

    Raises:
        ValueError: a metric has a loss's name.
        TypeError: a metric is neither, or does not compute a number; a batch is no ``Evaluation``.

    >>> tally = Tally({"bias": lambda output, target: (output - target).mean()}, nn.Linear(1, 1))
    >>> tally.add(Evaluation(torch.ones(3), torch.zeros(3), {"loss": 1.0}, 3.0, 3))
    >>> tally.add(Evaluation(torch.zeros(1), torch.zeros(1), {"loss": 0.0}, 1.0, 1))
    >>> tally.results()
    {'loss': 0.75, 'bias': 0.75}
    """

    def __init__(self, metrics: Mapping[str, Measure | Metric], model: nn.Module):
        self._functions: dict[str, Measure] = {}
        self._objects: dict[str, Metric] = {}
        for name, metric in checked(metrics).items():
            if isinstance(metric, Metric):
                if isinstance(metric, nn.Module):
                    metric.to(next(model.parameters()).device)
                metric.reset()
                self._objects[name] = metric
            else:
                self._functions[name] = metric
        self._losses: dict[str, float] = {}
        self._means = dict.fromkeys(self._functions, 0.0)
        self._count, self.samples = 0.0, 0

    def add(self, batch: Evaluation) -> None:
        r"""Take a batch in."""
        if not isinstance(batch, Evaluation):  # pyright: ignore[reportUnnecessaryIsInstance]
            got: Any = type(batch).__name__
            raise TypeError(f"step.evaluate must return an Evaluation (dlnotes.protocol), got a {got}")
        clash = batch.losses.keys() & (self._functions.keys() | self._objects.keys())
        if clash:
            raise ValueError(f"metrics: {sorted(clash)} are names of losses; name the metrics otherwise")
        if batch.count:  # a batch in which nothing counts has no mean
            for name, loss in batch.losses.items():
                self._losses[name] = self._losses.get(name, 0.0) + loss * batch.count
        self._count += batch.count
        self.samples += batch.samples
        if not batch.samples:  # no rows: there may be no output either, and a mean over it would be NaN
            return
        for name, measure in self._functions.items():
            self._means[name] += _number(name, measure(batch.output, batch.target)) * batch.samples
        for metric in self._objects.values():
            metric.update(batch.output, batch.target)

    def results(self) -> dict[str, float]:
        r"""Loss first, then further losses, then the metrics.

        Raises:
            ValueError: the loss had nothing to average over.
            TypeError: a metric computes something else than a number or a dict of numbers.
        """
        if not self._count:
            raise ValueError("there was nothing for the loss to average over (its count is 0 in every batch)")
        results = {name: total / self._count for name, total in self._losses.items()}
        results |= {name: total / self.samples for name, total in self._means.items()}
        for name, metric in self._objects.items():
            result = metric.compute()
            several = isinstance(result, Mapping)
            parts = {f"{name}_{key}": part for key, part in result.items()} if several else {name: result}
            for part_name, part in parts.items():
                results[part_name] = _number(part_name, part)
        return results


def _number(name: str, number: Any) -> float:
    try:
        return value(number)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"metrics: {name} must compute a number, got {number!r}") from error


@contextmanager
def holding(model: nn.Module, weights: Weights) -> Generator[None]:
    r"""Other weights in ``model`` inside a ``with``, its own after it, whatever happens.

    Args:
        model: takes the weights.
        weights: a file or a state dict, as :func:`~dlnotes.pretrained.load_pretrained` takes it, an
            :class:`~dlnotes.averaging.EMA`, or ``None`` for the model's own.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> before = model.weight.item()
    >>> with holding(model, {"weight": torch.tensor([[7.0]])}):
    ...     print(model.weight.item())
    7.0
    >>> model.weight.item() == before
    True
    """
    if weights is None:
        yield
    elif isinstance(weights, EMA):
        with weights.averaged(model):
            yield
    else:
        own = copy.deepcopy(model.state_dict())
        try:
            load_pretrained(model, weights)
            yield
        finally:
            model.load_state_dict(own)


def evaluate(
    step: Step, loader: Iterable[Any], metrics: Mapping[str, Measure | Metric] | None = None, weights: Weights = None
) -> dict[str, float]:
    r"""The losses and metrics of a model over all batches of ``loader``.

    Raises:
        ValueError: ``loader`` gave no batches, or empty ones only.

    >>> from dlnotes.step import TrainStep
    >>> model = nn.Linear(1, 1)
    >>> step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> batch = torch.ones(2, 1), torch.ones(2, 1)
    >>> list(evaluate(step, [batch], {"bias": lambda output, target: (output - target).mean()}))
    ['loss', 'bias']
    """
    tally = Tally(metrics or {}, step.model)
    with holding(step.model, weights), evaluating(step.model):
        for batch in loader:
            tally.add(step.evaluate(batch))
    if not tally.samples:
        raise ValueError("loader gave no batches")
    return tally.results()


def predict(step: Step, loader: Iterable[Any], weights: Weights = None) -> Any:
    r"""The outputs for all batches of ``loader``, joined along the first dimension, on the CPU.

    Dicts and tuples are joined part by part; lists, one item a sample, are joined to one list.

    Raises:
        ValueError: ``loader`` gave no batches.

    >>> from dlnotes.step import TrainStep
    >>> model = nn.Linear(1, 3)
    >>> step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> predict(step, torch.utils.data.DataLoader(torch.ones(5, 1), batch_size=2)).shape
    torch.Size([5, 3])
    """
    with holding(step.model, weights), evaluating(step.model):
        outputs = [_to_cpu(step.predict(batch)) for batch in loader]
    if not outputs:
        raise ValueError("loader gave no batches")
    return _join(outputs)


def _to_cpu(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.detach().cpu()
    if isinstance(output, Mapping):
        return {key: _to_cpu(value) for key, value in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*map(_to_cpu, output))
    return type(output)(map(_to_cpu, output)) if isinstance(output, tuple | list) else output


def _join(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, dict):
        return {key: _join([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple):
        parts = [_join(list(part)) for part in zip(*outputs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return [item for output in outputs for item in output] if isinstance(first, list) else outputs
