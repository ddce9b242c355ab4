"""Run chapters again on other seeds, and record in how many runs each of their checks holds.

    python book/_tools/redraw.py                                    every notebook of the book, ten times
    python book/_tools/redraw.py --times 10 book/training/one.ipynb      one (or: make redraw N=10 FILES=…)

Every seed of a chapter goes through `dlnotes.data.redraw`, which adds 1000 times DLNOTES_REDRAW to it; here that is
1, 2, … A check that fails does not stop a run. The counts are written beside the notebook, `<chapter>.redraw.json`,
with a hash of the code; the page shows them. The exit status is 1 where a check holds in fewer than nine of ten runs,
or where a run stops before its end. Nothing else of a notebook changes.
"""

import argparse
import json
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_ext"))

from chapters import code_hash, count_checks
from run_notebooks import Failure, check_package, notebooks, place, run, write

ENOUGH = 0.9  # the share of the runs in which a claim must hold


def read(path):
    return nbformat.read(path, as_version=4)


def checks_of(notebook):
    """The code cells in which something is asserted, and their places."""
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    return {cell.id: index for index, cell in cells if count_checks(cell.source)}


def once(path, offset, timeout):
    """Run a notebook under one offset: {id of a cell with checks: None if they held, or what did not}; or a Failure.

    The Failure is returned, not raised: the other runs go on.
    """
    notebook = read(path)
    checks = checks_of(notebook)
    for cell in notebook.cells:
        if cell.get("id") in checks:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]
    try:
        run(notebook, path.parent, timeout, DLNOTES_REDRAW=str(offset))
    except Failure as failure:
        return failure
    found = dict.fromkeys(checks)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found[cell.id] = failed_line(output.traceback) or f"{output.ename}: {output.evalue.strip()[:80]}"
    return found


def failed_line(traceback):
    """The line of the cell that a traceback points at."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))
    found = re.findall(r"^-+> *\d+ (.*)$", text, re.MULTILINE)
    return found[0].strip() if found else None


def redraw(path, results):
    """Write the record of a notebook from its runs, {offset: what once() gave}.

    Returns what to say about it, and whether all is well.
    """
    notebook, count = read(path), len(results)
    said, fine, missed = [], True, {}
    for offset, found in results.items():
        if isinstance(found, Failure):
            fine = False
            said.append(f"  run {offset} stopped: {str(found).strip()}")
            continue
        for name, why in found.items():
            missed.setdefault(name, [])
            if why:
                missed[name].append(f"run {offset}: {why}")
    if not fine:
        return [f"{path}: no record, a run stopped before its end", *said], False
    for name, index in checks_of(notebook).items():
        held = count - len(missed[name])
        if missed[name]:
            said.append(f"  {place(notebook, index)}: held in {held} of {count}")
            said += [f"    {line}" for line in missed[name]]
        fine = fine and held >= ENOUGH * count
    record = {
        "offsets": count,
        "held": {name: count - len(failures) for name, failures in missed.items()},
        "source": code_hash(notebook),
    }
    target = path.with_suffix(".redraw.json")
    text = json.dumps(record, indent=1) + "\n"
    if not target.exists():
        target.touch()
    write(target, text)
    words = f"{len(missed)} cells with checks, {count} runs"
    return [f"{path}: {words}{'' if fine else ': some hold in fewer than nine of ten'}", *said], fine


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks or folders (default: the whole book)")
    parser.add_argument("--times", type=int, default=10, help="how often each is run (default 10)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default 1)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one cell may take (default 600)")
    options = parser.parse_args(arguments)
    if options.times < 1 or options.jobs < 1:
        parser.error(f"--times and --jobs: expected 1 or more, got {options.times} and {options.jobs}")
    try:
        chosen = [path.resolve() for path in notebooks(options.paths) if checks_of(read(path))]
        for folder in {path.parent for path in chosen}:
            check_package(folder)
    except Failure as error:
        parser.error(str(error))
    fine = True
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        runs = {
            (path, offset): pool.submit(once, path, offset, options.timeout)
            for path, offset in product(chosen, range(1, options.times + 1))
        }
        for path in chosen:
            said, well = redraw(path, {n: runs[path, n].result() for n in range(1, options.times + 1)})
            print(*said, sep="\n", flush=True)
            fine = fine and well
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
