r"""One update of supervised training: forward, loss, backward, unscale, clip, step, schedule."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from dlnotes import parts
from dlnotes.arguments import check_number
from dlnotes.batches import means, rows, to_device, to_float32, value
from dlnotes.buffers import Buffers
from dlnotes.checkpoint import CheckpointError
from dlnotes.gradients import Look, clip_, gradients, why_refused
from dlnotes.precision import GradScaler, autocast
from dlnotes.protocol import Evaluation as Evaluation
from dlnotes.protocol import Step as Step

Loss = Callable[[Any, Any], Tensor | Mapping[str, Any]]
SMALLEST_SCALE = 2.0**-16  # below it, it is not the loss scale that makes a gradient infinite


class NonFiniteError(FloatingPointError):
    r"""The loss or a gradient is NaN or infinite, and the update was not made.

    >>> raise NonFiniteError("the loss is nan")
    Traceback (most recent call last):
    ...
    dlnotes.step.NonFiniteError: the loss is nan
    """


class TrainStep:
    r"""One update of ``model`` from a group of batches, and one evaluation of a batch.

    For micro-batches :math:`B_1,\dots,B_k` whose losses are means over :math:`n_1,\dots,n_k` samples (or tokens,
    pixels, …), the gradient is that of the one big batch:

    .. math:: \nabla L = \sum_{i=1}^{k} \frac{n_i}{n_1+\dots+n_k}\, \nabla L_{B_i}

    if the model treats every sample alone. Batch normalisation does not: it takes its means over a micro-batch.

    Args:
        model: the module to train, already on its device; batches are moved there.
        loss: ``loss(output, target)``, the mean over the samples of a batch: a scalar tensor, or a dict with it as
            ``"loss"``. Other scalars in the dict are logged under their names. If the mean is over something else than
            samples, ``"count"`` says over how much of it, as in the second example.
        optimizer: over parameters of the model; these are clipped. The gradients of the whole model are cleared.
        scheduler: a torch learning-rate scheduler, stepped after **every update** (not every epoch); ``None``.
        accumulate: batches in one update, default 1.
        clip_norm: the largest norm of the whole gradient; a longer one is scaled down to it. ``None``: no clipping.
        amp: ``"fp16"`` (with dynamic loss scaling), ``"bf16"``, or ``None`` (default) for full precision. The
            loss is computed in float32.

    Raises:
        ValueError: an argument is out of range, or belongs to another model or optimizer.
        TypeError: an argument is of another kind; the scheduler needs a metric to step, or the optimizer a closure.

    A batch is a sequence ``(*inputs, target)``; inputs, output and target may be tensors, or nestings of dicts, lists
    and tuples of them. For other batches override :meth:`forward`, and :meth:`batch_size` if the rows do not show.
    Sources: Goodfellow et al., *Deep Learning* (2016), section 10.11.1 (clipping); Micikevicius et al., *Mixed
    Precision Training* (2018).

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(1, 1)
    >>> step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> batch = (torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
    >>> losses = [step([batch])["loss"] for _ in range(100)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    >>> step
    TrainStep(Linear, mse_loss, SGD, scheduler=None, accumulate=1, clip_norm=None, amp=None)

    A mean over the tokens that are not padding, in micro-batches that have 3 and 1 of them:

    >>> def per_token(output, target):
    ...     loss = nn.functional.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)
    ...     return {"loss": loss, "count": (target != -100).sum()}
    >>> model = nn.Linear(2, 3)
    >>> step = TrainStep(model, per_token, torch.optim.SGD(model.parameters(), lr=0.1), accumulate=2)
    >>> target = torch.tensor([[0, 1, 2], [0, -100, -100]])
    >>> step([(torch.ones(1, 3, 2), row[None]) for row in target])["count"]
    4.0

    Two inputs and two losses, from batches that are dicts:

    >>> class House(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.price, self.kind = nn.Linear(3, 1), nn.Linear(3, 2)
    ...     def forward(self, size, place):
    ...         x = torch.cat([size, place], dim=1)
    ...         return {"price": self.price(x), "kind": self.kind(x)}
    >>> class HouseStep(TrainStep):
    ...     def forward(self, batch):
    ...         return self.model(batch["size"], batch["place"]), batch
    >>> def both(output, batch):
    ...     price = nn.functional.mse_loss(output["price"], batch["price"])
    ...     kind = nn.functional.cross_entropy(output["kind"], batch["kind"])
    ...     return {"loss": price + 0.5 * kind, "price": price, "kind": kind}
    >>> step = HouseStep(house := House(), both, torch.optim.SGD(house.parameters(), lr=0.1), amp="bf16")
    >>> batch = {"size": torch.ones(4, 1), "place": torch.ones(4, 2), "price": torch.ones(4, 1)}
    >>> list(step([batch | {"kind": torch.zeros(4, dtype=torch.long)}]))
    ['loss', 'price', 'kind', 'count', 'samples', 'skipped']
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        amp: str | None = None,
    ):
        if not isinstance(accumulate, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"accumulate must be an int, got {accumulate!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be >= 1, got {accumulate}")
        if clip_norm is not None:
            check_number("clip_norm", clip_norm)
            if not clip_norm > 0:
                raise ValueError(f"clip_norm must be > 0 or None, got {clip_norm}")
        if not callable(loss) or isinstance(loss, type):
            cure = "; call the class first: nn.CrossEntropyLoss()" if callable(loss) else ""
            raise TypeError(f"loss must be a function of output and target, got {loss!r}{cure}")
        parts.check(model, optimizer, scheduler, amp)
        self.model, self.loss, self.optimizer, self.scheduler = model, loss, optimizer, scheduler
        self.accumulate, self.clip_norm, self.amp = accumulate, clip_norm, amp
        self.device = next(model.parameters()).device
        autocast(amp, self.device)  # refuses an unknown amp here rather than at the first update
        self.scaler = GradScaler(enabled=amp == "fp16")
        self._buffers, self._finite = Buffers(model), Look(self.device)
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._others = [p for p in model.parameters() if id(p) not in owned]

    def __repr__(self) -> str:
        loss = getattr(self.loss, "__name__", type(self.loss).__name__)
        scheduler = None if self.scheduler is None else parts.kind(self.scheduler)
        names = f"{type(self.model).__name__}, {loss}, {parts.kind(self.optimizer)}, scheduler={scheduler}"
        options = f"accumulate={self.accumulate}, clip_norm={self.clip_norm}, amp={self.amp!r}"
        return f"{type(self).__name__}({names}, {options})"

    def forward(self, batch: Any) -> tuple[Any, Any]:
        r"""Output and target of a batch that is on the device already. Override it for batches of another form."""
        if not isinstance(batch, (list, tuple)) or len(batch) < 2:
            what = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (list, tuple)) else "")
            raise TypeError(f"a batch must be (*inputs, target), got {what}: override TrainStep.forward for others")
        *inputs, target = batch
        return self.model(*inputs), target

    def batch_size(self, batch: Any) -> int:
        r"""The rows of the target if that is a tensor, otherwise of all the batch's tensors, which must agree."""
        target: Any = batch[-1] if isinstance(batch, (list, tuple)) and batch else None
        return target.size(0) if isinstance(target, Tensor) and target.dim() else rows(batch)

    def __call__(self, batches: Sequence[Any]) -> dict[str, float]:
        r"""Make one update from ``batches``; return what there is to log.

        ``loss`` and further losses by name; ``count``, what they are means over; ``samples``; with ``clip_norm`` also
        ``grad_norm``, before clipping; ``skipped``, 1 if the loss scaler left the update out, which leaves no trace.

        Raises:
            NonFiniteError: the loss or a gradient is NaN or infinite, and no loss scale is to blame. Parameters,
                buffers and optimizer are unchanged.
            RuntimeError: all parameters of the optimizer are frozen, or the loss depends on none of them.
        """
        samples = [self.batch_size(batch) for batch in batches]
        self._begin()
        seen: list[tuple[float, dict[str, Any]]] = []
        total = 0.0
        for batch, size in zip(batches, samples, strict=True):
            _, _, losses, count = self._forward(batch, size)
            if not count:
                continue  # there is no mean over nothing
            loss = losses["loss"]
            if len(batches) > 1:  # a product by 1 would only cost time
                total = total or sum(samples) * (count / size)  # a guess for all batches
                loss = loss * (count / total)
            self.scaler.scale(loss).backward()
            seen.append((count, losses))
        logs = self._means(seen, samples)
        finite = self.scaler.unscale_(self.optimizer)
        if total not in (0, logs["count"]):  # the guess was wrong
            for gradient in gradients(self.optimizer):
                gradient.mul_(total / logs["count"])
        if self.clip_norm is not None:
            logs["grad_norm"] = clip_(gradients(self.optimizer), self.clip_norm)
            finite = math.isfinite(logs["grad_norm"])
        elif not self.scaler.enabled:  # which has looked already
            finite = self._finite(self.optimizer)
        if not (finite and math.isfinite(logs["loss"])):
            self._refuse(logs["loss"], finite)
        stepped = self.scaler.step(self.optimizer)
        self.scaler.update()
        if stepped and self.scheduler is not None:
            self.scheduler.step()
        logs["skipped"] = int(not stepped)
        return logs

    def _begin(self) -> None:
        r"""Clear the gradients of the whole model; ``zero_grad`` of model or optimizer would cost more."""
        self.scaler.forget()  # of an update that was interrupted
        self._buffers.keep()
        learns = False
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
                learns = learns or parameter.requires_grad
        for parameter in self._others:  # they get gradients too, which nobody will use
            parameter.grad = None
        if not learns:
            raise RuntimeError("no parameter of the optimizer needs a gradient: unfreeze one (requires_grad_(True))")

    def _forward(self, batch: Any, size: int) -> tuple[Any, Any, dict[str, Any], float]:
        if not size:
            return None, None, {}, 0.0
        batch = to_device(batch, self.device)
        if self.amp is None:
            output, target = self.forward(batch)
        else:
            with autocast(self.amp, self.device):
                output, target = self.forward(batch)
            output = to_float32(output)
        return output, target, *means(self.loss(output, target), size)

    def _means(self, seen: Sequence[tuple[float, dict[str, Any]]], samples: Sequence[int]) -> dict[str, float]:
        r"""The losses over all batches, weighted by what each is a mean over."""
        if not seen:
            raise ValueError(f"nothing to learn from: {len(samples)} batches with {sum(samples)} samples, of count 0")
        (total, losses), *more = seen
        logs = {name: value(loss) for name, loss in losses.items()}
        for count, losses in more:
            if losses.keys() != logs.keys():
                raise ValueError(f"loss: every batch must have the same losses, got {list(logs)} and {list(losses)}")
            total += count
            for name, loss in losses.items():
                logs[name] += (value(loss) - logs[name]) * (count / total)
        logs["count"], logs["samples"] = total, sum(samples)
        return logs

    def _refuse(self, loss: float, finite: bool) -> None:
        r"""Undo what the forward passes did, and raise unless a lower loss scale may help: then the scaler skips."""
        self._buffers.restore()
        if finite or not self.scaler.enabled or self.scaler.get_scale() < SMALLEST_SCALE:
            raise NonFiniteError(why_refused(self.model, loss))

    @torch.no_grad()
    def evaluate(self, batch: Any) -> Evaluation:
        r"""Output, target and losses of a batch, without gradients."""
        samples = self.batch_size(batch)
        output, target, losses, count = self._forward(batch, samples)
        values = {name: value(loss) if count else 0.0 for name, loss in losses.items()}
        return Evaluation(output, target, values, count, samples)

    @torch.no_grad()
    def predict(self, batch: Any) -> Any:
        r"""The output for a batch, without gradients: one as in training, or the input alone, ``x`` or ``(x,)``.

        An overridden :meth:`forward` is given every batch as it comes.
        """
        if type(self).forward is TrainStep.forward:
            if isinstance(batch, Tensor):
                batch = [batch]
            if isinstance(batch, (list, tuple)) and len(batch) == 1:
                batch = [*batch, None]
        with autocast(self.amp, self.device):
            output = self.forward(to_device(batch, self.device))[0]
        return output if self.amp is None else to_float32(output)

    def learning_rate(self) -> float:
        r"""The first parameter group's learning rate at this moment."""
        return float(self.optimizer.param_groups[0]["lr"])

    def learning_rates(self) -> dict[str, float]:
        r"""Every group's: ``lr``, then ``lr_1``, … ; ``lr_<name>`` for a named group, among several, if all differ."""
        groups = self.optimizer.param_groups
        names = [f"lr_{group.get('name', number)}" for number, group in enumerate(groups)]
        if "name" not in groups[0] or len(groups) == 1:
            names[0] = "lr"
        if len(set(names)) < len(names):
            names = ["lr", *(f"lr_{number}" for number in range(1, len(groups)))]
        return {name: float(group["lr"]) for name, group in zip(names, groups, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        r"""The states of model, optimizer, scheduler and scaler, their classes, and the parameters' names by group."""
        return parts.state(self.model, self.optimizer, self.scheduler, self.scaler)

    def mismatches(self, state: Mapping[str, Any]) -> list[str]:
        r"""In what a saved state does not fit this step, a line each; nothing is loaded.

        Compared are the weights' names, shapes and types; the classes of optimizer and scheduler; the parameters of
        each group of the optimizer, by name and in order, and the shapes of their states; whether there is a scaler.
        """
        return parts.problems(self.model, self.optimizer, self.scheduler, self.scaler, state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        r"""Take over a state.

        Raises:
            CheckpointError: :meth:`mismatches` finds something; nothing was loaded.

        Should loading itself fail, everything is put back as it was.
        """
        problems = self.mismatches(state)
        if problems:
            raise CheckpointError("the checkpoint does not fit this run:\n  " + "\n  ".join(problems))
        own = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}
        before = copy.deepcopy(self.state_dict())
        try:
            parts.load(own, state)
        except BaseException:
            parts.load(own, before)
            raise
