"""The first cell of a notebook in Colab: it adds dlnotes to what is there and replaces nothing.

The environment is made of hard links to the torch, numpy, … of this one, with the old ipywidgets that Colab has and
without the packages that Colab lacks. Git takes a snapshot of the working tree for the repository's address, so
what is tested is what would be published. pip reaches for a package index twice: for the backend that builds the
package and for the one dependency that Colab lacks. Without an index, or without git, the test is skipped;
DLNOTES_REQUIRE_COLAB=1 makes that a failure.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from book_reading import CONFIG, FILES, REPOSITORY, ROOT, book_notebooks, code, parse_code
from packaging.requirements import Requirement
from run_notebooks import ThisPython, run

BOOK = ROOT / CONFIG["repository"]["path_to_book"]
IN_COLAB = ("torch", "numpy", "matplotlib", "scikit-learn", "tqdm", "ipywidgets", "ipykernel", "pip", "setuptools")
IMPORTABLE = {"torch", "numpy", "matplotlib", "sklearn", "tqdm", "ipywidgets", "IPython", "dlnotes"}
LIST = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"


def missing(reason):
    """Skip, or fail where this test is required."""
    if os.environ.get("DLNOTES_REQUIRE_COLAB") == "1":
        pytest.fail(reason)
    pytest.skip(f"{reason}; DLNOTES_REQUIRE_COLAB=1 makes this a failure")


def call(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


def with_dependencies(names):
    """The installed distributions `names` and all that they need."""
    found, wanted = {}, list(names)
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name not in found:
            found[name] = metadata.distribution(name)
            needs = map(Requirement, found[name].requires or [])
            wanted += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return found.values()


def link(source, target):
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def colab_python(tmp_path_factory):
    """The Python of an environment that has what Colab has."""
    folder = tmp_path_factory.mktemp("colab") / "env"
    made = call(sys.executable, "-m", "venv", "--without-pip", folder)
    assert made.returncode == 0, made.stderr
    here = Path(sysconfig.get_path("purelib"))
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    there = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    for distribution in with_dependencies(IN_COLAB):
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            if (here / top).is_dir():
                shutil.copytree(here / top, there / top, copy_function=link, dirs_exist_ok=True)
            elif (here / top).is_file() and not (there / top).exists():
                link(here / top, there / top)
    old = call(python, "-m", "pip", "install", "--no-deps", "ipywidgets==7.7.1", "ipython_genutils", timeout=1800)
    if old.returncode:
        missing(f"no package index within reach ({old.stderr.strip().splitlines()[-1:]})")
    return python


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A repository of one commit with the files of the working tree, as they would be published."""
    if not shutil.which("git"):
        missing("git is not installed")
    folder = tmp_path_factory.mktemp("published") / "dlnotes"
    for path in FILES:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "snapshot"]):
        done = call("git", *command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.colab
def test_first_cell_adds_the_package_and_replaces_nothing(colab_python, snapshot, tmp_path):
    class Colab(ThisPython):
        @property
        def kernel_spec(self):
            spec = super().kernel_spec
            spec.argv[0] = str(colab_python)
            return spec

    before = json.loads(call(colab_python, "-I", "-c", LIST).stdout)
    assert {"dlnotes-course", "jaxtyping"}.isdisjoint(before), "the bare environment is not bare"
    assert before["ipywidgets"] == "7.7.1"
    notebook = nbformat.read(BOOK / "training" / "logistic_regression.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import dlnotes\nprint(dlnotes.__file__)"))
    git = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{snapshot.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
    run(notebook, tmp_path, 1800, Colab, PYTHONPATH="", GIT_TERMINAL_PROMPT="0", **git)
    said = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    after = json.loads(call(colab_python, "-I", "-c", LIST).stdout)
    assert before.items() <= after.items(), f"replaced: {dict(before.items() - after.items())}\n{said}"
    assert {"dlnotes-course", "jaxtyping"} <= set(after)
    assert notebook.cells[-1].outputs[0].text.startswith(str(colab_python.parents[1]))


def imported(notebook):
    """The top-level modules that a notebook imports."""
    for _, cell in code(notebook):
        for node in ast.walk(parse_code(cell)):
            if isinstance(node, ast.Import):
                yield from (name.name.split(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in book_notebooks()])
def test_notebook_imports_only_what_colab_has(path):
    found = set(imported(nbformat.read(path, as_version=4)))
    assert found <= IMPORTABLE | set(sys.stdlib_module_names), f"{path.name} needs {found - IMPORTABLE}"


def test_foreign_import_is_found():
    cells = [
        nbformat.v4.new_code_cell("%pip install x\nimport torch.nn, pandas as pd"),
        nbformat.v4.new_code_cell("from timm.x import y"),
    ]
    assert set(imported(nbformat.v4.new_notebook(cells=cells))) == {"torch", "pandas", "timm"}
