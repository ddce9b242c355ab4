"""nbval runs every notebook in a fresh kernel and compares the outputs of the cells tagged nbval-check-output.

Each notebook is one test in a process of its own, so `--durations=0` lists the seconds of each, `-k gradient_descent`
chooses one, and what this run of pytest is configured to do does not reach the kernels. DLNOTES_DEVICE does.
DLNOTES_NOTEBOOK_SECONDS is the budget of a notebook (60), for machines slower than a usual one.
"""

import os
import subprocess
import sys

import nbformat
import pytest
from book_reading import CONFIG, ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output
from run_notebooks import notebooks

TESTS = ROOT / "tests"
BOOK = ROOT / CONFIG["repository"]["path_to_book"]
BUDGET = float(os.environ.get("DLNOTES_NOTEBOOK_SECONDS", "60"))


def nbval(path, budget=BUDGET, **environment):
    """Run nbval on a notebook; its exit status, what it printed, and the seconds of CPU that it and its kernel took."""
    command = [sys.executable, "-m", "pytest", str(path), "--nbval-lax", "--nbval-current-env", "-q", "--color=no"]
    command += ["--nbval-sanitize-with", str(TESTS / "nbval.cfg"), "--nbval-cell-timeout", str(budget), "--maxfail=3"]
    command += ["-p", "nbval_strict", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT)]
    inherited = dict(os.environ, PYTHONPATH=str(TESTS), PYTHONHASHSEED="0", **environment)
    inherited.setdefault("OMP_NUM_THREADS", "1")  # small matrices: more threads wait for each other
    inherited.pop("MPLBACKEND", None)  # the kernel's own: figures become outputs
    before = os.times()  # CPU time: what else the machine does is not the notebook's fault
    done = subprocess.run(command, env=inherited, cwd=ROOT, capture_output=True, text=True, check=False)
    used = sum(os.times()[2:4]) - sum(before[2:4])
    return done.returncode, done.stdout + done.stderr, used


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in notebooks([BOOK])])
def test_notebook_runs_and_its_outputs_hold(path):
    if not any(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells):
        return  # words alone: nothing to run
    status, said, seconds = nbval(path)
    assert status == 0, said
    assert seconds <= BUDGET, f"{path.name} took {seconds:.0f} s; a chapter has {BUDGET:.0f} s on a CPU"


def store(path, source, text=None, tags=("nbval-check-output",)):
    """A notebook of one cell that has run, with `text` as its stored output."""
    outputs = [] if text is None else [new_output("stream", name="stdout", text=text)]
    cell = new_code_cell(source, outputs=outputs, execution_count=1, metadata={"tags": list(tags)})
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def test_right_output_passes_and_the_device_reaches_the_kernel(tmp_path):
    source = "import os, warnings\nprint(os.environ['DLNOTES_DEVICE'], os.getcwd()[-4:])"
    (tmp_path / "here").mkdir()
    status, said, _ = nbval(store(tmp_path / "here" / "one.ipynb", source, "meta here\n"), DLNOTES_DEVICE="meta")
    assert status == 0, said
    assert "1 passed" in said


@pytest.mark.parametrize(
    ("source", "text", "tags", "words"),
    [
        ("print(2)", "1\n", ("nbval-check-output",), "Cell outputs differ"),
        ("pass", "1\n", ("nbval-check-output",), "Missing output fields"),
        ("1 / 0", None, (), "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('careful')", None, (), "the cell wrote to stderr"),
        ("import time\ntime.sleep(20)", None, (), "Timeout of 2 seconds exceeded"),
    ],
    ids=["changed", "missing", "error", "warning", "slow"],
)
def test_fault_in_a_notebook_is_found(tmp_path, source, text, tags, words):
    budget = 2 if "sleep" in source else BUDGET
    status, said, _ = nbval(store(tmp_path / "one.ipynb", source, text, tags), budget)
    assert status == 1, said
    assert words in said


def test_untagged_output_is_not_compared(tmp_path):
    status, said, _ = nbval(store(tmp_path / "one.ipynb", "print(2)", "1\n", tags=()))
    assert status == 0, said
