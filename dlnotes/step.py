r"""One update of supervised training: forward, loss, backward, unscale, clip, step, schedule."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from dlnotes.checkpoint import CheckpointError, mismatches
from dlnotes.precision import GradScaler, autocast

Batch = Sequence[Tensor]
Measure = Callable[[Tensor, Tensor], Tensor]
SMALLEST_SCALE = 2.0**-16


class NonFiniteError(FloatingPointError):
    r"""The loss or a gradient is NaN or infinite, and the update was not made.

    >>> raise NonFiniteError("the loss is nan")
    Traceback (most recent call last):
    ...
    dlnotes.step.NonFiniteError: the loss is nan
    """


class TrainStep:
    r"""One update of ``model`` from a group of batches, and one evaluation of a batch.

    For micro-batches :math:`B_1,\dots,B_k` of :math:`n_1,\dots,n_k` samples and a ``loss`` that is a mean over
    samples, the gradient is that of the one big batch:

    .. math:: \nabla L = \sum_{i=1}^{k} \frac{n_i}{n_1+\dots+n_k}\, \nabla L_{B_i}

    Args:
        model: the module to train, already on its device; batches are moved there.
        loss: ``loss(output, target)``, the mean over the samples of a batch, a scalar tensor.
        optimizer: over the model's parameters.
        scheduler: a torch learning-rate scheduler, stepped after **every update** (not every epoch); ``None``.
        accumulate: batches in one update, default 1.
        clip_norm: the largest norm of the whole gradient; a longer one is scaled down to it. ``None``: no clipping.
        amp: ``"fp16"`` (with dynamic loss scaling), ``"bf16"``, or ``None`` (default) for full precision. The
            loss is computed in float32.

    Raises:
        ValueError: an argument is out of range.
        TypeError: the scheduler needs a metric to step.

    A batch is a sequence ``(*inputs, target)``: the model is called with the inputs. Sources: Goodfellow et al.,
    *Deep Learning* (2016), section 10.11.1 (clipping); Micikevicius et al., *Mixed Precision Training* (2018).

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(1, 1)
    >>> step = TrainStep(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> batch = (torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
    >>> losses = [step([batch])["loss"] for _ in range(100)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Measure,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        amp: str | None = None,
    ):
        if accumulate < 1:
            raise ValueError(f"accumulate must be >= 1, got {accumulate}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be > 0 or None, got {clip_norm}")
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise TypeError("scheduler: ReduceLROnPlateau needs a metric; schedulers here step after every update")
        parameter = next(model.parameters(), None)
        if parameter is None:
            raise ValueError("model has no parameters")
        self.model, self.loss, self.optimizer, self.scheduler = model, loss, optimizer, scheduler
        self.accumulate, self.clip_norm, self.amp = accumulate, clip_norm, amp
        self.device = parameter.device
        autocast(amp, self.device)  # refuses an unknown amp here rather than at the first update
        self.scaler = GradScaler(enabled=amp == "fp16")

    def __call__(self, batches: Sequence[Batch]) -> dict[str, float]:
        r"""Make one update from ``batches``; return what there is to log: ``loss``, ``samples``, ``skipped``.

        With ``clip_norm`` also ``grad_norm``, the norm before clipping.

        Raises:
            NonFiniteError: the loss, or the norm to clip, is NaN or infinite, and no loss scale is to blame.
                The parameters and the optimizer are unchanged.
        """
        samples = [len(batch[-1]) for batch in batches]
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        for batch, count in zip(batches, samples, strict=True):
            loss = self._forward(batch)[0]
            if len(batches) > 1:  # a product by 1 would only cost time
                loss = loss * (count / sum(samples))
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        logs = {"loss": sum(loss.item() for loss in losses), "samples": sum(samples), "skipped": 0}
        self._require_finite("loss", logs["loss"])
        self.scaler.unscale_(self.optimizer)
        if self.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm).item()
            self._require_finite("gradient's norm", norm)
            logs["grad_norm"] = norm
        stepped = self.scaler.step(self.optimizer)
        self.scaler.update()
        if stepped and self.scheduler is not None:
            self.scheduler.step()
        logs["skipped"] = int(not stepped)
        return logs

    @torch.no_grad()
    def evaluate(self, batch: Batch, metrics: Mapping[str, Measure]) -> dict[str, float]:
        r"""The loss and the metrics of a batch, without gradients."""
        loss, output, target = self._forward(batch)
        return {"loss": loss.item()} | {name: float(metric(output, target)) for name, metric in metrics.items()}

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        *inputs, target = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        with autocast(self.amp, self.device):
            output = self.model(*inputs)
        if self.amp is not None:
            output = output.float()
        loss = self.loss(output, target)
        if loss.dim():
            raise ValueError(f"loss must return a scalar, got shape {tuple(loss.shape)}")
        return loss, output, target

    def _require_finite(self, name: str, value: float) -> None:
        if math.isfinite(value) or (self.scaler.enabled and self.scaler.get_scale() >= SMALLEST_SCALE):
            return  # under fp16 the scaler skips this update and lowers the scale
        broken = [n for n, p in self.model.named_parameters() if not p.isfinite().all()]
        if broken:
            why = f"the last update made {', '.join(broken)} non-finite: look at its gradient and the learning rate"
        else:
            why = (
                "the parameters are still finite: look at this batch for NaN or inf, at a logarithm, root or "
                "division in the loss, and at the learning rate; torch.autograd.set_detect_anomaly(True) names "
                "the operation"
            )
        raise NonFiniteError(f"the {name} is {value}, and no update was made; {why}")

    def learning_rate(self) -> float:
        r"""The first parameter group's learning rate at this moment."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        r"""The states of model, optimizer, scheduler and scaler."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        r"""Take over a state; all of it is compared with this step first.

        Raises:
            CheckpointError: the state's model, scheduler or scaler is not like this step's; nothing was loaded.
        """
        problems = [f"model: {line}" for line in mismatches(self.model, state["model"])]
        for name, own in (("scheduler", self.scheduler), ("scaler", self.scaler.enabled or None)):
            if (own is None) != (not state[name]):
                has = {True: "has none", False: "has one"}
                problems.append(f"{name}: the checkpoint {has[not state[name]]}, this run {has[own is None]}")
        sizes = [len(group["params"]) for group in state["optimizer"]["param_groups"]]
        own_sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        if sizes != own_sizes:
            problems.append(f"optimizer: groups of {sizes} parameters in the checkpoint, {own_sizes} in this run")
        if problems:
            raise CheckpointError("the checkpoint does not fit this run:\n  " + "\n  ".join(problems))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
