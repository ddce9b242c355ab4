"""One step of each optimizer, ours beside torch's three and labml-nn's: python benchmarks/optimizers.py"""

import argparse
import functools
import importlib.util
import random
from collections.abc import Callable

import neighbours
import torch
from timing import compare, record

from dlnotes import optim
from dlnotes.device import default_device

LARGE, SMALL = [(10_000_000,)], [(32, 32)] * 300
WORK = {
    f"{title}, {size}": (name, options, shapes)
    for size, shapes in (("10 M parameters", LARGE), ("300 small tensors", SMALL))
    for title, name, options in (
        ("SGD with momentum", "SGD", {"momentum": 0.9}),
        ("Adagrad", "Adagrad", {}),
        ("RMSprop", "RMSprop", {}),
        ("Adam", "Adam", {}),
        ("AdamW", "AdamW", {"weight_decay": 0.01}),
    )
}

ORDER = random.Random(0)


def readable(name: str) -> type[torch.optim.Optimizer]:
    """Our optimizer with its kernel taken away: the rule that the chapters show."""
    return type(name, (getattr(optim, name),), {"fused": None})


def candidates(name: str, options: dict, shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], object]]:
    """A step of each implementation, on equal parameters and gradients of its own."""
    device = default_device()

    def stepper(cls: Callable, **more: object) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(device)
        return cls(parameters, **({"lr": 1e-3} | options | more)).step

    theirs = getattr(torch.optim, name)
    makers = {
        "ours": lambda: stepper(getattr(optim, name)),
        "ours, readable": lambda: stepper(readable(name)),
        "torch, default": lambda: stepper(theirs),
        "torch, foreach": lambda: stepper(theirs, foreach=True),
        "torch, single": lambda: stepper(theirs, foreach=False),
    }
    if name != "RMSprop":
        makers["torch, fused"] = lambda: stepper(theirs, fused=True)
    if name in ("Adam", "AdamW") and importlib.util.find_spec("labml_nn"):
        from labml_nn.optimizers import WeightDecay
        from labml_nn.optimizers.adam import Adam

        decay = WeightDecay(options.get("weight_decay", 0.0))
        # its own eps, 1e-16, is far from torch's
        makers["labml-nn"] = lambda: stepper(Adam, weight_decay=decay, eps=1e-8)
    # Who is made later lies elsewhere in memory, and is faster: so each time the order is another one.
    made = {form: makers[form]() for form in ORDER.sample(list(makers), len(makers))}
    return {form: made[form] for form in makers}


def compared(name: str, options: dict, shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], object]]:
    """Those that are run beside neighbours: ours and torch's."""
    steps = candidates(name, options, shapes)
    return {form: step for form, step in steps.items() if form not in ("ours, readable", "labml-nn")}


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each comparison (21)")
    parser.add_argument("--runs", type=int, default=40, help="single steps beside each kind of neighbours (40)")
    arguments = parser.parse_args()
    results = {}
    for work, (name, options, shapes) in WORK.items():
        print(work, flush=True)
        baseline = "torch, foreach" if name == "RMSprop" else "torch, fused"
        make = functools.partial(candidates, name, options, shapes)
        results[work] = compare(make, baseline, arguments.rounds, builds=3)
    works = {work: functools.partial(compared, *how) for work, how in WORK.items()}
    neighbours.complete(results, works, arguments.runs, " a step")
    print("recorded in", record("optimizers", results, ("labml-nn",)).name)


if __name__ == "__main__":
    main()
