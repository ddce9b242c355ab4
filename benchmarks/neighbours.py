"""Other processes that keep the machine busy while something is measured: shared machines and loader workers do.

A median hides a step that waits for a second; so what is kept is the mean and the worst of single runs.
"""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from timing import measure
from timing import table as ratios

BUSY = "while True: pass"
TRAINING = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer, x = torch.optim.SGD(model.parameters(), lr=1e-3), torch.randn(128, 256)
while True:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
"""
NEIGHBOURS = {"idle": [], "two busy in Python": [BUSY, BUSY], "one training with torch": [TRAINING]}
BLOCKS, PAUSE = 5, 0.2
SETTLE = 4.0  # seconds until a neighbour has imported what it needs


@contextmanager
def running(programs: list[str]) -> Iterator[None]:
    """Python programs that run beside what stands inside, on all cores."""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    try:
        if processes:
            time.sleep(SETTLE)
        yield
        ended = [process.args[-1] for process in processes if process.poll() is not None]
        if ended:
            raise RuntimeError(f"a neighbour ended before the measurement did:\n{ended[0]}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def single_runs(candidates: Mapping[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Mean and worst seconds of single runs: in blocks, as in training, the candidates in a new order for each block.

    Who has just used much of the processor gets less of it for a while: a pause and an untimed run come first.
    """
    order, seconds = random.Random(0), {name: [] for name in candidates}
    for _ in range(BLOCKS):
        for name in order.sample(list(candidates), len(candidates)):
            time.sleep(PAUSE)
            candidates[name]()
            seconds[name] += [measure(candidates[name]) for _ in range(-(-runs // BLOCKS))]
    rounded = {name: (statistics.mean(times), max(times)) for name, times in seconds.items()}
    return {name: {"mean": float(f"{m:.3g}"), "worst": float(f"{w:.3g}")} for name, (m, w) in rounded.items()}


def beside(works: Mapping[str, Callable[[], Mapping[str, Callable]]], runs: int = 40) -> dict[str, dict[str, dict]]:
    """For each work, a function that makes its candidates: their mean and worst seconds beside each kind of neighbours.

    They are made anew for each kind, and gone before the next: what lies in memory beside them changes their speed.
    """
    found: dict[str, dict[str, dict]] = {work: {} for work in works}
    for kind, programs in NEIGHBOURS.items():
        print(f"beside neighbours: {kind}", flush=True)
        with running(programs):
            for work, make in works.items():
                for name, seconds in single_runs(make(), runs).items():
                    found[work].setdefault(name, {})[kind] = seconds
    return found


def table(results: Mapping[str, Mapping[str, dict]]) -> str:
    """The results as text: for each work and kind of neighbours, milliseconds of each candidate, mean (worst)."""
    lines = []
    for work, candidates in results.items():
        for kind in NEIGHBOURS:
            found = {name: r["beside"][kind] for name, r in candidates.items() if "beside" in r}
            shown = [f"{name} {f['mean'] * 1e3:.2f} ({f['worst'] * 1e3:.1f})" for name, f in found.items()]
            if shown:
                lines.append(f"{work}, {kind}: " + ", ".join(shown))
    return "\n".join(lines)


def complete(
    results: Mapping[str, dict[str, dict]],
    works: Mapping[str, Callable[[], Mapping[str, Callable]]],
    runs: int,
    what: str,
) -> None:
    """Add to what :func:`timing.compare` found the seconds beside neighbours, and print both; ``what`` took them."""
    for work, forms in beside(works, runs).items():
        for form, seconds in forms.items():
            results[work][form]["beside"] = seconds
    print(ratios(results))
    print(f"milliseconds{what}, mean (worst):")
    print(table(results))
