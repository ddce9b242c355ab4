"""What Runner adds to a training step, beside the plain loop it replaces: python benchmarks/loop.py"""

import argparse
from collections.abc import Callable

import neighbours
import torch
from timing import compare, record
from torch import nn
from torch.utils.data import DataLoader

from dlnotes.device import default_device
from dlnotes.hooks import Hook
from dlnotes.runner import Runner
from dlnotes.step import TrainStep

BATCHES = 100


class Watch(Hook):
    """A hook that looks at every iteration, as a log or a progress bar does."""

    def __init__(self):
        self.seen = 0

    def before_train_iter(self, runner: Runner) -> None:
        """Nothing to do yet."""

    def after_train_iter(self, runner: Runner) -> None:
        """Count."""
        self.seen += 1


def ready() -> tuple[nn.Module, torch.optim.Optimizer, DataLoader]:
    """A small network, whose step is short enough for a loop's own cost to show; its optimizer; batches in memory."""
    generator, device = torch.Generator().manual_seed(0), default_device()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    x = torch.randn(BATCHES, 32, 64, generator=generator).to(device)
    y = torch.randint(10, (BATCHES, 32), generator=generator).to(device)
    return (
        model,
        torch.optim.SGD(model.parameters(), lr=0.01),
        DataLoader(list(zip(x, y, strict=True)), batch_size=None),
    )


def plain() -> Callable[[], object]:
    """An epoch of the loop that everyone writes first, the mean loss kept."""
    model, optimizer, batches = ready()

    def epoch() -> float:
        total = 0.0
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return epoch


def with_runner(hooks: int) -> Callable[[], object]:
    """The same epoch by Runner, with this many hooks."""
    model, optimizer, batches = ready()
    step = TrainStep(model, nn.functional.cross_entropy, optimizer)
    runner = Runner(step, batches, hooks=[Watch() for _ in range(hooks)])
    return lambda: runner.train(epochs=runner.epoch + 1)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41, help="rounds of the comparison (41)")
    parser.add_argument("--runs", type=int, default=20, help="single epochs beside each kind of neighbours (20)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a step this small gains nothing from more, and they would add noise
    candidates = {"plain loop": plain(), "Runner": with_runner(0), "Runner, 5 hooks": with_runner(5)}
    results = {f"{BATCHES} training steps": compare(lambda: candidates, "plain loop", arguments.rounds)}
    works = {work: lambda: candidates for work in results}
    neighbours.complete(results, works, arguments.runs, f" for {BATCHES} steps")
    for work in results.values():
        step = work["plain loop"]["seconds"] / BATCHES * 1e6
        for name, result in work.items():
            low, median, high = (step * (ratio - 1) for ratio in result["ratio"])
            print(f"{name:18} {median:+6.1f} µs a step ({low:+.1f} to {high:+.1f}), beside a step of {step:.0f} µs")
    print("recorded in", record("loop", results).name)


if __name__ == "__main__":
    main()
