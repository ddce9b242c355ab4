r"""What a Runner needs of an update, for steps of one's own."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import nn

from dlnotes.arguments import check_whole

METHODS = ("__call__", "evaluate", "predict", "learning_rates", "state_dict", "load_state_dict", "mismatches")


class Evaluation(NamedTuple):
    r"""One batch, evaluated without gradients.

    Attributes:
        output: as the model gave it, any nesting; what had 16 bits under ``amp`` is float32.
        target: any nesting, on the step's device.
        losses: ``"loss"`` first, then further ones by name; all 0 where ``count`` is.
        count: what the losses are means over: the samples, or what the loss says.
        samples: rows in the batch.

    >>> Evaluation(output=None, target=None, losses={"loss": 0.5}, count=4.0, samples=4).losses["loss"]
    0.5
    """

    output: Any
    target: Any
    losses: dict[str, float]
    count: float  # pyright: ignore[reportIncompatibleMethodOverride] - every tuple has a method of this name
    samples: int


@runtime_checkable
class Step(Protocol):
    r"""What :class:`~dlnotes.runner.Runner` needs of an update: :class:`~dlnotes.step.TrainStep`, or a class of yours.

    ``model`` is what hooks and validation act on, ``accumulate`` the batches in one update. A call makes an update and
    returns what to log: ``loss``, ``count``, ``samples``, ``skipped`` (0 or 1), and what else there is to see. In
    ``evaluate`` and ``predict`` the model is in evaluation mode already, and no gradients are wanted.

    Two networks against each other, each with an optimizer of its own, in plain torch:

    >>> import torch
    >>> class AdversarialStep:
    ...     accumulate = 1
    ...     def __init__(self, generator, critic):
    ...         self.model = nn.ModuleDict({"generator": generator, "critic": critic})
    ...         self.optimizers = {name: torch.optim.Adam(net.parameters(), 1e-2) for name, net in self.model.items()}
    ...         self.parts = {"model": self.model, **self.optimizers}
    ...     def judge(self, x, answer):
    ...         logits = self.model["critic"](x)
    ...         return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, answer))
    ...     def loss(self, real, learner):
    ...         fake = self.model["generator"](torch.randn(len(real), 1))
    ...         if learner == "generator":
    ...             return self.judge(fake, 1.0)
    ...         return (self.judge(real, 1.0) + self.judge(fake.detach(), 0.0)) / 2
    ...     def __call__(self, batches):
    ...         (real,), logs = batches[0], {}
    ...         for name, optimizer in self.optimizers.items():
    ...             self.model.zero_grad()
    ...             loss = self.loss(real, name)
    ...             loss.backward()
    ...             optimizer.step()
    ...             logs[name] = loss.item()
    ...         return {"loss": logs["critic"], "count": len(real), "samples": len(real), "skipped": 0, **logs}
    ...     @torch.no_grad()
    ...     def evaluate(self, batch):
    ...         loss = self.loss(batch[0], "critic").item()
    ...         return Evaluation(None, None, {"loss": loss}, len(batch[0]), len(batch[0]))
    ...     @torch.no_grad()
    ...     def predict(self, batch):
    ...         return self.model["generator"](torch.randn(len(batch[0]), 1))
    ...     def learning_rates(self):
    ...         return {"lr": self.optimizers["generator"].param_groups[0]["lr"]}
    ...     def state_dict(self):
    ...         return {name: part.state_dict() for name, part in self.parts.items()}
    ...     def load_state_dict(self, state):
    ...         for name, part in self.parts.items():
    ...             part.load_state_dict(state[name])
    ...     def mismatches(self, state):
    ...         return [f"missing: {name}" for name in self.parts if name not in state]
    >>> _ = torch.manual_seed(0)
    >>> step: Step = AdversarialStep(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)))
    >>> for _ in range(200):
    ...     logs = step([(torch.randn(64, 1) + 3,)])
    >>> 2 < step.predict((torch.zeros(1000, 1),)).mean().item() < 4, sorted(logs)
    (True, ['count', 'critic', 'generator', 'loss', 'samples', 'skipped'])
    """

    model: nn.Module
    accumulate: int

    def __call__(self, batches: Sequence[Any]) -> dict[str, float]:
        r"""Make one update; return what there is to log."""
        ...

    def evaluate(self, batch: Any) -> Evaluation:
        r"""Output, target and losses of a batch."""
        ...

    def predict(self, batch: Any) -> Any:
        r"""The output alone, for a batch as the loader gives it."""
        ...

    def learning_rates(self) -> dict[str, float]:
        r"""The learning rates at this moment: ``lr``, and ``lr_<group>`` for further groups."""
        ...

    def state_dict(self) -> dict[str, Any]:
        r"""All that is needed to go on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        r"""Take over what :meth:`state_dict` gave."""
        ...

    def mismatches(self, state: Mapping[str, Any]) -> list[str]:
        r"""In what a saved state does not fit, a line each; nothing is loaded."""
        ...


def check_step(step: object) -> None:
    r"""Refuse what is no :class:`Step`, and say what it lacks.

    Raises:
        TypeError: it is a class, or a model; or a member is missing or of another kind.
        ValueError: ``accumulate`` is less than 1.

    >>> check_step(nn.Linear(1, 1))
    Traceback (most recent call last):
    ...
    TypeError: step must be a Step (dlnotes.protocol), got a Linear, a model: write TrainStep(model, loss, optimizer)
    """
    kind = type(step).__name__
    if isinstance(step, type):
        raise TypeError(f"step must be a Step (dlnotes.protocol), got a class: write {step.__name__}(…)")
    missing = [name for name in ("model", "accumulate") if not hasattr(step, name)]
    missing += [name for name in METHODS if not callable(step if name == "__call__" else getattr(step, name, None))]
    if missing and isinstance(step, nn.Module):
        cure = "write TrainStep(model, loss, optimizer)"
        raise TypeError(f"step must be a Step (dlnotes.protocol), got a {kind}, a model: {cure}")
    if missing:
        raise TypeError(f"step must be a Step (dlnotes.protocol), and a {kind} has no {', '.join(missing)}")
    model: Any = getattr(step, "model")  # noqa: B009 - an object has none, says the type checker
    if not isinstance(model, nn.Module):
        raise TypeError(f"step.model must be a module, which hooks and validation act on, got {model!r}")
    check_whole("step.accumulate", getattr(step, "accumulate"))  # noqa: B009


def check_logs(logs: object) -> None:
    r"""Refuse what an update cannot have returned to be logged: no dict, a name missing, no number.

    >>> check_logs({"loss": 0.5, "count": 8, "samples": 8})
    Traceback (most recent call last):
    ...
    TypeError: step: its logs must have loss, count, skipped; skipped is missing among ['count', 'loss', 'samples']
    """
    if not isinstance(logs, Mapping):
        raise TypeError(f"step: a call must return a dict of what there is to log, got {type(logs).__name__}")
    values: dict[str, Any] = dict(logs)  # pyright: ignore[reportUnknownArgumentType]
    missing = [name for name in ("loss", "count", "skipped") if name not in values]
    if missing:
        words = f"{', '.join(missing)} is missing among {sorted(values)}"
        raise TypeError(f"step: its logs must have loss, count, skipped; {words}")
    for name, value in values.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"step: its logs must be numbers, and {name} is a {type(value).__name__}; write .item()")


def explained(error: BaseException, logs: object) -> BaseException:
    r"""The error to raise for one that a loop has met with these logs: what is wrong with them, if that is why.

    >>> explained(KeyError("count"), {"loss": 0.5, "skipped": 0})
    TypeError("step: its logs must have loss, count, skipped; count is missing among ['loss', 'skipped']")
    >>> explained(KeyError("count"), {"loss": 0.5, "count": 8, "skipped": 0})
    KeyError('count')
    """
    if isinstance(error, KeyError | TypeError):
        try:
            check_logs(logs)
        except TypeError as clearer:
            return clearer
    return error
