"""nbval runs every notebook in a fresh kernel and compares the outputs of the cells tagged nbval-check-output.

Each notebook is one test in a process of its own, so `-k gradient_descent` chooses one, and what this run of pytest is
configured to do does not reach the kernels. DLNOTES_DEVICE does. The CPU seconds of each are told at the end of the
run and fail nothing: the budget of a chapter is held by `make notebooks`, on the machine of the one who writes it.
"""

import os
import re
import subprocess
import sys
import tempfile

import nbformat
import pytest
from book_reading import ROOT, book_notebooks, code
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from parallel import CPU

pytestmark = pytest.mark.slow
TESTS = ROOT / "tests"


def nbval(path, cell_timeout=1800, **environment):
    """Run nbval on a notebook; its exit status, what it printed, and the seconds of CPU that it and its kernel took.

    The time limit of a cell only ends a kernel that hangs.
    """
    command = [sys.executable, "-m", "pytest", str(path), "--nbval-lax", "--nbval-current-env", "-q", "--color=no"]
    command += ["--nbval-sanitize-with", str(TESTS / "nbval.cfg"), "--nbval-cell-timeout", str(cell_timeout)]
    command += ["--nbval-kernel-startup-timeout", "600", "--maxfail=3"]
    command += ["-p", "nbval_strict", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    inherited |= {"PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)]), "PYTHONHASHSEED": "0", "DLNOTES_REDRAW": "0"}
    inherited |= environment
    inherited.setdefault("OMP_NUM_THREADS", "1")  # small matrices: more threads wait for each other
    inherited.pop("MPLBACKEND", None)  # the kernel's own: figures become outputs
    before = os.times()
    with tempfile.TemporaryDirectory() as profile:  # kernels that run at the same time would share one history
        inherited["IPYTHONDIR"] = profile
        done = subprocess.run(command, env=inherited, cwd=ROOT, capture_output=True, text=True, check=False)
    used = sum(os.times()[2:4]) - sum(before[2:4])  # children that have ended: this one and its kernel
    return done.returncode, as_the_rules_say(done.stdout + done.stderr, path), used


def as_the_rules_say(said, path):
    """nbval counts code cells alone, from 0; everything else counts the cells of the notebook, from 1."""
    places = [place for place, _ in code(nbformat.read(path, as_version=4))]
    return re.sub(
        r"\bCell (\d+)\b", lambda match: places[int(match[1])] if int(match[1]) < len(places) else match[0], said
    )


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in book_notebooks()])
def test_notebook_runs_and_its_outputs_hold(path, record_property):
    if not any(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells):
        return  # words alone: nothing to run
    status, said, seconds = nbval(path)
    record_property(CPU, seconds)
    assert status == 0, said


def test_cpu_seconds_are_those_of_the_kernel_too(tmp_path):
    source = "import time\nwhile time.process_time() < 4:\n    pass"  # true on any machine, however many it serves
    status, said, seconds = nbval(store(tmp_path / "busy.ipynb", source))
    assert status == 0, said
    assert seconds > 4


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


def test_cells_are_called_as_the_rules_call_them(tmp_path):
    cells = [new_markdown_cell("words"), new_code_cell("x = 1"), new_markdown_cell("more"), new_code_cell("\n1 / 0")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "one.ipynb")
    status, said, _ = nbval(tmp_path / "one.ipynb")
    assert status == 1
    assert "cell 4 ('1 / 0')" in said


@pytest.mark.parametrize(
    ("source", "text", "tags", "words"),
    [
        ("print(2)", "1\n", ("nbval-check-output",), "Cell outputs differ"),
        ("pass", "1\n", ("nbval-check-output",), "Missing output fields"),
        ("1 / 0", None, (), "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('careful')", None, (), "the cell wrote to stderr"),
        ("import time\ntime.sleep(600)", None, (), "Timeout of 2 seconds exceeded"),
    ],
    ids=["changed", "missing", "error", "warning", "slow"],
)
def test_fault_in_a_notebook_is_found(tmp_path, source, text, tags, words):
    limit = {"cell_timeout": 2} if "sleep" in source else {}
    status, said, _ = nbval(store(tmp_path / "one.ipynb", source, text, tags), **limit)
    assert status == 1, said
    assert words in said


def test_untagged_output_is_not_compared(tmp_path):
    status, said, _ = nbval(store(tmp_path / "one.ipynb", "print(2)", "1\n", tags=()))
    assert status == 0, said
