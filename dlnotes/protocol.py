r"""What a Runner needs of an update, for steps of one's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import nn


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
