"""One step of each optimizer, ours beside torch's three and labml-nn's: python benchmarks/optimizers.py"""

import argparse
import importlib.util
from collections.abc import Callable

import torch
from timing import compare, record, table

from dlnotes import optim
from dlnotes.device import default_device
from dlnotes.optimizer import RuleOptimizer

WORK = {
    "Adam, 10 M parameters": ("Adam", {}, [(10_000_000,)]),
    "AdamW, 10 M parameters": ("AdamW", {"weight_decay": 0.01}, [(10_000_000,)]),
    "Adam, 300 small tensors": ("Adam", {}, [(32, 32)] * 300),
    "SGD + momentum, 10 M parameters": ("SGD", {"momentum": 0.9}, [(10_000_000,)]),
    "RMSprop, 10 M parameters": ("RMSprop", {}, [(10_000_000,)]),
    "Adagrad, 10 M parameters": ("Adagrad", {}, [(10_000_000,)]),
}


def readable(name: str) -> type[torch.optim.Optimizer]:
    """Our optimizer with its kernel taken away: the rule that the chapters show."""
    return type(name, (getattr(optim, name),), {"fused": RuleOptimizer.fused})


def candidates(name: str, options: dict, shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], object]]:
    """A step of each implementation, on parameters and gradients of its own."""
    generator = torch.Generator().manual_seed(0)
    device = default_device()

    def stepper(cls: Callable, **more: object) -> Callable[[], object]:
        parameters = [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(device)
        return cls(parameters, lr=1e-3, **options, **more).step

    theirs = getattr(torch.optim, name)
    steps = {
        "ours": stepper(getattr(optim, name)),
        "ours, readable": stepper(readable(name)),
        "torch, default": stepper(theirs),
        "torch, foreach": stepper(theirs, foreach=True),
        "torch, single": stepper(theirs, foreach=False),
    }
    if name != "RMSprop":
        steps["torch, fused"] = stepper(theirs, fused=True)
    if name == "Adam" and importlib.util.find_spec("labml_nn"):
        from labml_nn.optimizers.adam import Adam

        steps["labml-nn"] = stepper(Adam)
    return steps


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each comparison (21)")
    rounds = parser.parse_args().rounds
    results = {}
    for work, (name, options, shapes) in WORK.items():
        steps = candidates(name, options, shapes)
        results[work] = compare(steps, "torch, fused" if "torch, fused" in steps else "torch, foreach", rounds)
    print(table(results))
    print("recorded in", record("optimizers", results, ("labml-nn",)).name)


if __name__ == "__main__":
    main()
