"""Side-by-side timing: every round measures all candidates in an order of its own, and compares within the round.

What slows the machine for a while slows a whole round, so a ratio to the baseline of the same round keeps what a mean
of seconds would lose. A copy of the baseline runs along under the name "noise": how far its ratio strays from 1 is what
this run cannot see.
"""

import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
MADE = (
    "ratio: median of interleaved rounds with nothing else running, and its quartiles; "
    "beside: mean and worst of single runs, interleaved, beside processes that keep the cores busy"
)
SHORTEST = 0.02  # seconds that one measurement should take at least: short work is repeated, as in a training loop


def compare(
    make: Callable[[], Mapping[str, Callable[[], object]]], baseline: str, rounds: int = 21, builds: int = 1
) -> dict[str, dict]:
    """Median seconds of each candidate that ``make`` gives, and the quartiles of its ratio to the baseline.

    The rounds are shared among several ``builds``: where the numbers of a candidate came to lie in memory can make it
    a quarter slower, for as long as it lives.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {}
    candidates: dict[str, Callable[[], object]] = {}
    for _ in range(builds):
        candidates.clear()  # the next ones need the room
        candidates |= make()
        if baseline not in candidates:
            raise ValueError(f"baseline {baseline!r} is none of {list(candidates)}")
        candidates["noise"] = candidates[baseline]
        for name in candidates:
            candidates[name]()  # the first call allocates
        calls = max(1, round(SHORTEST / measure(candidates[baseline])))
        for _ in range(-(-rounds // builds)):
            for name in order.sample(list(candidates), len(candidates)):
                seconds.setdefault(name, []).append(measure(candidates[name], calls))
    return {
        name: {
            "ratio": [
                round(q, 3) for q in quartiles([t / b for t, b in zip(seconds[name], seconds[baseline], strict=True)])
            ],
            "seconds": float(f"{statistics.median(seconds[name]):.3g}"),
        }
        for name in candidates
    }


def measure(run: Callable[[], object], calls: int = 1) -> float:
    """Seconds of one call, averaged over as many in a row as asked for, until the device has finished."""
    synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - start) / calls


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def record(
    name: str,
    results: Mapping[str, Mapping[str, dict]],
    packages: tuple[str, ...] = (),
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write the results, with machine, versions and what else is to be known, to results/<name>-<device>.json."""
    cuda = torch.cuda.is_available()
    cpu = next(
        (line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), platform.machine()
    )
    content = {
        "made": MADE,
        "date": date.today().isoformat(),
        "machine": {
            "cpu": cpu,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
        },
        "versions": {"python": platform.python_version()} | {p: installed(p) for p in ("torch", "numpy", *packages)},
        **(notes or {}),
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{'cuda' if cuda else 'cpu'}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def cpu_lines() -> list[str]:
    """Linux's description of the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def installed(package: str) -> str | None:
    """The version of a package, or None where it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(results: Mapping[str, Mapping[str, dict]]) -> str:
    """The results as text: work, candidate, median ratio with its quartiles."""
    lines = [f"{'work':34} {'candidate':18} {'ratio':>6}  quartiles"]
    for work, candidates in results.items():
        for name, result in sorted(candidates.items(), key=lambda item: item[1]["ratio"][1]):
            low, median, high = result["ratio"]
            lines.append(f"{work:34} {name:18} {median:6.2f}  {low:.2f}–{high:.2f}")
    return "\n".join(lines)
