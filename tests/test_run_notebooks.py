"""The tool that runs notebooks and stores their outputs, on tiny notebooks."""

import json

import book_rules  # first: it knows where the tools are
import nbformat
import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

pytestmark = pytest.mark.slow  # kernels


def store(path, *sources, metadata=None, **cell):
    """Write a notebook of code cells to `path`, with ids that stay."""
    cells = [new_code_cell(source, id=f"cell-{n}", **cell) for n, source in enumerate(sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata or {}), path)
    return path


@pytest.fixture
def no_package_check(monkeypatch):
    """These notebooks do not use the package; skipping its import saves a second each."""
    monkeypatch.setattr(run_notebooks, "check_package", lambda folder: None)


@pytest.mark.usefixtures("no_package_check")
def test_outputs_are_stored_and_a_second_run_changes_no_byte(tmp_path, capsys):
    path = store(
        tmp_path / "part" / "one.ipynb",
        "import os\nfrom pathlib import Path\nprint(Path.cwd().name, os.environ['DLNOTES_DEVICE'], hash('x'))",
        "print('a')\nprint('b')\n1 + 1",
        metadata={"widgets": {"x": 1}, "kernelspec": {"name": "other", "display_name": "Mine"}},
    )
    assert run_notebooks.main([str(path)]) == 0
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert "stored" in capsys.readouterr().out
    assert notebook.metadata == run_notebooks.METADATA
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert [cell.id for cell in notebook.cells] == ["cell-0", "cell-1"]
    assert [cell.metadata for cell in notebook.cells] == [{}, {}]
    assert notebook.cells[0].outputs[0].text.startswith("part cpu ")  # runs in its folder, as Jupyter does
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "execute_result"]
    assert notebook.cells[1].outputs[0].text == "a\nb\n"
    assert first.endswith(b"}\n")
    assert not first.endswith(b"\n\n")
    assert list(json.loads(first)) == sorted(json.loads(first))
    before = path.stat()
    assert run_notebooks.main([str(path)]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert path.read_bytes() == first
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.usefixtures("no_package_check")
@pytest.mark.parametrize(
    ("sources", "words", "timeout"),
    [
        (["1 + 1", "1 / 0", "3"], ["cell 2 ('1 / 0') failed", "ZeroDivisionError"], 60),
        (
            ["1 + 1", "import warnings\nwarnings.warn('careful')"],
            ["cell 2 ('import warnings') wrote to stderr", "careful"],
            60,
        ),
        (["import time\ntime.sleep(30)"], ["cell 1 ('import time')", "timed out"], 2),
    ],
    ids=["error", "warning", "slow"],
)
def test_failure_leaves_the_file_and_names_the_cell(tmp_path, capsys, sources, words, timeout):
    path = store(tmp_path / "bad.ipynb", *sources)
    before = path.read_bytes()
    assert run_notebooks.main([str(path), "--timeout", str(timeout)]) == 1
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "bad.ipynb" in said
    assert all(word in said for word in words), said
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["bad.ipynb"]  # no half-written file beside it


@pytest.mark.usefixtures("no_package_check")
def test_code_is_formatted_before_it_runs(tmp_path):
    path = store(tmp_path / "one.ipynb", "x = [ 1,2 ]\nprint( x )", "%%timeit -n1 -r1 -o -q\npass")
    assert run_notebooks.main([str(path)]) == 0
    cell = nbformat.read(path, as_version=4).cells[0]
    assert (cell.source, cell.outputs[0].text) == ("x = [1, 2]\nprint(x)", "[1, 2]\n")
    path = store(tmp_path / "two.ipynb", "x = [ 1,2 ]", "this is no Python")
    assert run_notebooks.main([str(path)]) == 1
    assert nbformat.read(path, as_version=4).cells[0].source == "x = [ 1,2 ]"


@pytest.mark.usefixtures("no_package_check")
def test_a_failure_does_not_keep_the_others_from_running(tmp_path):
    store(tmp_path / "a.ipynb", "1 / 0")
    good = store(tmp_path / "b.ipynb", "print(5)")
    store(tmp_path / ".ipynb_checkpoints" / "b.ipynb", "1 / 0")
    assert run_notebooks.main([str(tmp_path)]) == 1
    assert nbformat.read(good, as_version=4).cells[0].outputs[0].text == "5\n"


@pytest.mark.usefixtures("no_package_check")
def test_a_chapter_longer_than_its_budget_is_stored_and_fails(tmp_path, capsys):
    source = "import time\nwhile time.process_time() < 3:\n    pass"  # CPU time: a busy machine changes nothing
    path = store(tmp_path / "long.ipynb", source)
    assert run_notebooks.main([str(path), "--budget", "3"]) == 1
    assert "s of CPU: TOO LONG, a chapter has 3 s" in capsys.readouterr().out
    assert nbformat.read(path, as_version=4).cells[0].execution_count == 1
    assert run_notebooks.main([str(path), "--budget", "1e9"]) == 0
    assert "TOO LONG" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_package_check")
def test_the_users_own_settings_do_not_reach_a_kernel(tmp_path, monkeypatch):
    (tmp_path / "user" / "profile_default" / "startup").mkdir(parents=True)
    (tmp_path / "user" / "profile_default" / "startup" / "mine.py").write_text("print = None", encoding="utf-8")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "user"))
    path = store(tmp_path / "one.ipynb", "print('mine' in dir())")
    assert run_notebooks.main([str(path)]) == 0


def test_normalise_takes_out_what_depends_on_the_machine():
    view = {run_notebooks.WIDGET: {"model_id": "0123"}, "text/html": "<b>", "text/plain": "x"}
    output = new_output(
        "display_data", data=view, metadata={"needs_background": "light", "text/html": {"isolated": True}}
    )
    cell = new_code_cell("x", outputs=[output], metadata={"tags": ["a"], "execution": {"iopub.status.busy": "now"}})
    notebook = run_notebooks.normalise(new_notebook(cells=[cell, new_markdown_cell("y")], metadata={"colab": {}}))
    assert notebook.metadata == run_notebooks.METADATA
    assert notebook.cells[0].metadata == {"tags": ["a"]}
    assert notebook.cells[0].outputs[0].data == {"text/html": "<b>", "text/plain": "x"}
    assert notebook.cells[0].outputs[0].metadata == {"text/html": {"isolated": True}}


def test_missing_package_is_refused_before_the_setup_cell_could_install_it(tmp_path, monkeypatch, capsys):
    # A module beside the notebook stands before the installed package, so this one makes the import fail.
    path = store(tmp_path / "one.ipynb", book_rules.INSTALL)
    (tmp_path / "dlnotes.py").write_text("raise ModuleNotFoundError('not here')\n", encoding="utf-8")
    monkeypatch.setattr(run_notebooks, "run", lambda *_: pytest.fail("the notebook was run"))
    before = path.read_bytes()
    assert run_notebooks.main([str(path)]) == 1
    assert "dlnotes cannot be imported" in capsys.readouterr().out
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{}", '{"cells": "none", "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'])
def test_what_is_no_notebook_is_refused(tmp_path, capsys, text):
    path = tmp_path / "broken.ipynb"
    path.write_text(text, encoding="utf-8")
    assert run_notebooks.main([str(path)]) == 1
    assert "not a valid notebook" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == text


def test_doubled_cell_ids_are_refused(tmp_path, capsys):
    path = store(tmp_path / "one.ipynb", "1", "2")
    text = path.read_text(encoding="utf-8").replace("cell-1", "cell-0")
    path.write_text(text, encoding="utf-8")
    assert run_notebooks.main([str(path)]) == 1
    assert "not a valid notebook" in capsys.readouterr().out


def test_missing_path_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_notebooks.main([str(tmp_path / "nowhere")])
    assert "no such file or folder" in capsys.readouterr().err
