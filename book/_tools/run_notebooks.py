"""Run notebooks from top to bottom and store their outputs in place.

    python book/_tools/run_notebooks.py                      every notebook of the book
    python book/_tools/run_notebooks.py book/training        those below a folder
    python book/_tools/run_notebooks.py book/index.ipynb     one

Each runs in a fresh kernel of this Python, in its own folder, as Jupyter would run it. A notebook is replaced
only after it has run to its end; one that fails keeps its file and the exit status is 1. It is 1 as well where a
notebook uses more CPU time than a chapter has: --budget says how much, for a machine slower than a usual one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

BOOK = Path(__file__).resolve().parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BUDGET = 60.0  # CPU seconds of a chapter; what else the machine does is not the notebook's fault
CELL_METADATA = {"tags", "mystnb", "right"}  # all that a cell may carry; no run times, no editor's marks
# A cell that answers a question is closed in JupyterLab until the reader opens it.
CLOSED = {"collapsed": True, "jupyter": {"source_hidden": True, "outputs_hidden": True}}


class Failure(Exception):
    """A notebook that did not run cleanly, and where."""


class ThisPython(AsyncKernelManager):
    """Every kernel is this interpreter, whatever kernels the user has installed."""

    @property
    def kernel_spec(self):  # noqa: D102
        spec = KernelSpec(**get_kernel_dict())
        spec.argv.append("--log-level=ERROR")  # its advice about encryption is no concern of a kernel on this machine
        return spec


def notebooks(paths=()):
    """The notebooks at or below `paths` (default: the whole book), sorted, without built and checkpoint copies."""
    found = set()
    for path in map(Path, paths or [BOOK]):
        if not path.exists():
            raise Failure(f"{path}: no such file or folder")
        found.update(path.rglob("*.ipynb") if path.is_dir() else [path])
    skip = {"_build", ".ipynb_checkpoints"}
    return sorted(path for path in found if not skip & set(path.parts))


def normalise(notebook):
    """Take out of `notebook` whatever depends on the machine, the moment or the editor. Changes it in place."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        closed = CLOSED if cell.cell_type == "code" and "answer" in cell.metadata.get("tags", []) else {}
        kept = {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        cell.metadata = nbformat.from_dict(kept | closed)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)  # a view without its model shows as a broken box; its id is random
            if "metadata" in output:
                output.metadata = nbformat.from_dict({k: v for k, v in output.metadata.items() if k in data})
    return notebook


def dumps(notebook):
    """The one way a notebook is written: nbformat's own JSON, one space of indent, a line end at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def check_package(folder):
    """The setup cell installs dlnotes where its import fails, so refuse to run where it would."""
    command = [sys.executable, "-c", "import dlnotes"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise Failure(f"dlnotes cannot be imported by {sys.executable} ({reason}); install it with: pip install -e .")


def place(notebook, index):
    """What a message calls a cell: its number in the notebook, from 1, and its first line, as the rules do."""
    first = next((line.strip() for line in notebook.cells[index].source.splitlines() if line.strip()), "")
    return f"cell {index + 1} ({first[:40]!r})"


def run(notebook, folder, timeout=600, kernel=ThisPython, **environment):
    """Run every cell of `notebook` in a fresh kernel started in `folder`; its outputs are replaced.

    An error ends the run, but for one in a cell tagged raises-exception, which is among the cell's outputs.
    """
    position = 0  # of the cell that runs

    def started(cell, cell_index):
        nonlocal position
        position = cell_index

    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=started,
        kernel_manager_class=kernel,
    )
    profile = tempfile.TemporaryDirectory()  # no settings of the user's, no history that two kernels write
    inline = "module://matplotlib_inline.backend_inline"  # figures become outputs
    settings = {"PYTHONHASHSEED": "0", "MPLBACKEND": inline, "IPYTHONDIR": profile.name, "DLNOTES_REDRAW": "0"}
    environment = dict(os.environ) | settings | environment
    environment.setdefault("DLNOTES_DEVICE", "cpu")  # the outputs that are stored come from the CPU
    environment.setdefault("OMP_NUM_THREADS", "1")  # small matrices: more threads wait for each other
    try:
        with profile:
            client.execute(env=environment)
    except CellExecutionError as error:
        raise Failure(f"{place(notebook, position)} failed\n{error}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise Failure(f"{place(notebook, position)}: {str(error).strip().splitlines()[0]}") from None
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise Failure(f"{place(notebook, index)} wrote to stderr (a warning?):\n{output.text}")
    return notebook


def write(path, text):
    """Replace the file at once, or leave it as it was."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as new:
        new.write(text)
    try:
        os.chmod(new.name, path.stat().st_mode & 0o777)
        os.replace(new.name, path)
    except OSError:
        os.unlink(new.name)
        raise


def formatted(text, path):
    """A notebook's JSON with its code formatted by ruff; as it is where ruff cannot read it: the run will say so."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(path), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    if "No module named ruff" in done.stderr:
        raise Failure("ruff is not installed, which formats the code: pip install -e '.[test]'")
    return done.stdout if done.returncode == 0 and done.stdout else text


def rerun(path, timeout=600):
    """Run one notebook file and store the result, its code formatted.

    Returns whether the file changed, and the kernel's CPU seconds.
    """
    before = path.read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nbformat mends missing or doubled cell ids with a warning only
        try:
            notebook = nbformat.reads(before, as_version=4)
            nbformat.validate(notebook)
        except Exception as error:
            raise Failure(f"not a valid notebook: {error}") from None
    check_package(path.parent)
    notebook = nbformat.reads(formatted(dumps(normalise(notebook)), path), as_version=4)
    start = os.times()
    after = dumps(normalise(run(notebook, path.parent, timeout)))
    seconds = sum(os.times()[2:4]) - sum(start[2:4])  # children that have ended: the kernel
    if after != before:
        write(path, after)
    return after != before, seconds


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks or folders (default: the whole book)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one cell may take (default 600)")
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help=f"CPU seconds of a notebook (default {BUDGET:.0f})"
    )
    options = parser.parse_args(arguments)
    failed = 0
    try:
        chosen = notebooks(options.paths)
    except Failure as error:
        parser.error(str(error))
    for path in chosen:
        try:
            changed, seconds = rerun(path.resolve(), options.timeout)
        except Failure as error:
            failed, result = failed + 1, f"FAILED, file left as it was: {error}"
        else:
            result = f"{'stored' if changed else 'unchanged'}, {seconds:.1f} s of CPU"
            if seconds > options.budget:
                failed, result = failed + 1, f"{result}: TOO LONG, a chapter has {options.budget:.0f} s"
        print(f"{path}: {result}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
