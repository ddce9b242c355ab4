r"""The norms line by line, and a norm made of such lines: with a line in another's place it has a mistake.

``sum`` is over ``dims``, which keep the length 1, and ``n`` numbers; ``spatial`` are the dimensions after the channels,
``last`` those of ``normalized_shape``. In group norm dimension 1 is the group and 2 the channel within it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.norm_trials import NAMES
from dlnotes.rules import Mistake, Rule
from dlnotes.trials import Make

MEAN = "μ = sum(x) / n"
VARIANCE = "σ2 = sum((x - μ)**2) / n"
RUNNING_MEAN = "if training: running_mean = (1 - momentum) * running_mean + momentum * μ"
RUNNING_VAR = "if training: running_var = (1 - momentum) * running_var + momentum * σ2 * n / (n - 1)"
USE = "if not training: μ, σ2 = running_mean, running_var"
DIVIDE = "y = (x - μ) / sqrt(σ2 + eps)"
AFFINE = "y = weight * y + bias"
SQUARES = "σ2 = sum(x**2) / n"
DIVIDE_RMS = "y = x / sqrt(σ2 + eps)"
SCALE = "y = weight * y"

DIMS = {
    "BatchNorm1d": "dims = [0, *spatial]",
    "BatchNorm2d": "dims = [0, *spatial]",
    "InstanceNorm1d": "dims = [*spatial]",
    "InstanceNorm2d": "dims = [*spatial]",
    "GroupNorm": "dims = [2, *spatial]",
    "LayerNorm": "dims = [*last]",
    "RMSNorm": "dims = [*last]",
}
_START = ("eps = 1e-05", "weight = 1", "bias = 0")
_CHANNEL = (*_START, "momentum = 0.1", "running_mean = 0", "running_var = 1")
RULES = {
    like: Rule(
        _CHANNEL if "Batch" in like or "Instance" in like else _START,
        (line, SQUARES, DIVIDE_RMS, SCALE) if like == "RMSNorm"
        else (line, MEAN, VARIANCE, RUNNING_MEAN, RUNNING_VAR, USE, DIVIDE, AFFINE) if "Batch" in like or "Inst" in like
        else (line, MEAN, VARIANCE, DIVIDE, AFFINE),
    )
    for like, line in DIMS.items()
}  # fmt: skip


def with_mistakes(like: str, found: Sequence[Mistake]) -> Make:
    r"""A norm that runs the rule's lines with these mistakes in them; with none, torch's norm.

    >>> norm = with_mistakes("LayerNorm", [Mistake("ε is missing", "", {DIVIDE: "y = (x - μ) / sqrt(σ2)"})])
    >>> norm(2, eps=3.0)(torch.tensor([0.0, 2.0]))
    tensor([-1.,  1.], grad_fn=...)
    """
    changed = {right: wrong for mistake in found for right, wrong in mistake.lines.items()}
    start, step = ([changed.get(line, line) for line in part] for part in (RULES[like].start, RULES[like].step))
    code = compile("\n".join([step[0], "n = count(dims)", *step[1:]]), "<rule>", "exec")
    runs = {mistake.run for mistake in found}

    class Lines(getattr(nn, like)):
        def __init__(self, *arguments: Any, **options: Any):
            names: dict[str, Any] = {}
            exec("\n".join(start), names)
            usual = {name: names[name] for name in ("eps", "momentum") if name in names}
            super().__init__(*arguments, **usual | options)
            with torch.no_grad():
                for name, part in self._parts().items():
                    part.fill_(names[name])

        def _parts(self) -> dict[str, Tensor]:
            parts = {name: getattr(self, name, None) for name in NAMES}
            return {name: part for name, part in parts.items() if part is not None}

        def forward(self, input: Tensor) -> Tensor:
            last: tuple[int, ...] = getattr(self, "normalized_shape", ())

            def laid(x: Tensor) -> Tensor:  # as the lines have it
                if like != "GroupNorm":
                    return x
                groups = (-1, self.num_groups) if "strided" in runs else (self.num_groups, -1)
                return x.unflatten(1, groups).transpose(1, 2) if "strided" in runs else x.unflatten(1, groups)

            def along(part: Tensor, wrong: bool) -> Tensor:
                if bool(last) != wrong:
                    return part
                part = part.view(1, -1, *[1] * (input.dim() - 2))
                return laid(part.expand_as(input)) if like == "GroupNorm" else part

            parts, x = self._parts(), laid(input)
            names: dict[str, Any] = {
                "weight": 1.0,
                "bias": 0.0,
                "running_mean": 0.0,
                "running_var": 1.0,
                "sqrt": lambda x: x**0.5,
            }
            names |= {name: along(part, "axis" in runs and name in ("weight", "bias")) for name, part in parts.items()}
            names |= {"x": x, "eps": self.eps, "momentum": getattr(self, "momentum", 0.0)}
            names |= {"training": self.training or "running_mean" not in parts}
            names |= {"last": range(-len(last), 0), "spatial": range(3 if like == "GroupNorm" else 2, x.dim())}
            names["sum"] = lambda x: x.sum(names["dims"], keepdim=True) if names["dims"] else x
            names["count"] = lambda dims: math.prod(x.shape[dim] for dim in dims)
            exec(code, names)
            with torch.no_grad():
                for name in parts.keys() & {"running_mean", "running_var"}:
                    if names[name].mean(0).numel() == parts[name].numel():
                        parts[name].copy_(names[name].mean(0).flatten())
            y: Tensor = names["y"]
            if like == "GroupNorm":
                y = (y.transpose(1, 2) if "strided" in runs else y).flatten(1, 2)
            return y

    return Lines
