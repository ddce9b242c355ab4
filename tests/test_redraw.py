"""`make redraw`: a chapter runs again on other seeds, and what its checks said is recorded."""

import json

import chapters
import nbformat
import pytest
import redraw
import run_notebooks
import yaml
from book_reading import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rules import BOOK

pytestmark = pytest.mark.slow  # kernels
SEED = "import os\nseed = 1000 * int(os.environ['DLNOTES_REDRAW'])"


@pytest.fixture(autouse=True)
def _no_package_check(monkeypatch):
    monkeypatch.setattr(redraw, "check_package", lambda folder: None)


def store(path, *sources):
    cells = [new_markdown_cell("words", id="words")]
    for number, (source, tag) in enumerate(sources):
        cells.append(new_code_cell(source, id=f"cell-{number}", metadata={"tags": [tag] if tag else []}))
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_checks_are_counted_run_by_run_and_one_that_fails_stops_nothing(tmp_path, capsys):
    path = store(
        tmp_path / "one.ipynb",
        (SEED, None),
        ("assert seed >= 1000\nassert seed != 2000", "check"),
        ("assert seed in (1000, 2000, 3000)", "check"),
        ("assert seed > 0", "hide-cell"),
        ("after = seed", None),
    )
    before = path.read_bytes()
    assert redraw.main([str(path), "--times", "3", "--jobs", "2"]) == 1
    record = json.loads((tmp_path / "one.redraw.json").read_text(encoding="utf-8"))
    notebook = nbformat.read(path, as_version=4)
    assert record == {
        "offsets": 3,
        "held": {"cell-1": 2, "cell-2": 3, "cell-3": 3},
        "source": chapters.code_hash(notebook),
    }
    said = capsys.readouterr().out
    assert "some hold in fewer than nine of ten" in said
    assert "cell 3 ('assert seed >= 1000'): held in 2 of 3" in said
    assert "run 2: assert seed != 2000" in said
    assert path.read_bytes() == before


def test_all_that_holds_is_well(tmp_path):
    path = store(tmp_path / "one.ipynb", (SEED, None), ("assert seed > 0", "check"))
    assert redraw.main([str(path), "--times", "1"]) == 0
    assert json.loads((tmp_path / "one.redraw.json").read_text(encoding="utf-8"))["held"] == {"cell-1": 1}


def test_a_run_that_stops_leaves_no_record(tmp_path, capsys):
    path = store(tmp_path / "one.ipynb", (SEED, None), ("1 / (seed - 2000)", None), ("assert seed", "check"))
    (tmp_path / "one.redraw.json").write_text("old", encoding="utf-8")
    assert redraw.main([str(path), "--times", "2"]) == 1
    said = capsys.readouterr().out
    assert "run 2 stopped: cell 3 ('1 / (seed - 2000)') failed" in said
    assert "run 1" not in said
    assert (tmp_path / "one.redraw.json").read_text(encoding="utf-8") == "old"


def test_notebooks_without_checks_and_bad_numbers(tmp_path, capsys):
    store(tmp_path / "one.ipynb", ("x = 1", None))
    assert redraw.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="2"):
        redraw.main([str(tmp_path), "--times", "0"])
    with pytest.raises(SystemExit, match="2"):
        redraw.main([str(tmp_path / "none")])


def test_stored_outputs_are_those_of_the_seeds_as_written(tmp_path, monkeypatch):
    monkeypatch.setenv("DLNOTES_REDRAW", "7")
    monkeypatch.setattr(run_notebooks, "check_package", lambda folder: None)
    path = store(tmp_path / "one.ipynb", (SEED + "\nprint(seed)", None))
    assert run_notebooks.main([str(path)]) == 0
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "0\n"


def test_the_weekly_run_redraws_every_part():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["redraws"]
    parts = {path.parent.name for path in BOOK.glob("*/*.ipynb")}
    assert set(job["strategy"]["matrix"]["part"]) == parts
    assert any("make redraw" in step.get("run", "") for step in job["steps"])
