"""`make chapter`: a skeleton that the rules refuse until it is filled in."""

import shutil

import nbformat
import pytest
import yaml
from book_reading import REPOSITORY, ROOT
from good_chapter import fill
from new_chapter import add_to_contents, main, new_chapter, skeleton
from rules import applying, faults_of
from run_notebooks import dumps, normalise

TOC = """format: jb-book
root: index
parts:
  - caption: Training | 训练
    chapters:
      - file: training/one
      - file: training/two  # the last
  - caption: Losses | 损失
    chapters:
      - file: losses/one
"""


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text(TOC.replace("  # the last", ""), encoding="utf-8")
    return tmp_path


NAME = "training/a_rule"


def test_unfilled_skeleton_fails_and_filled_passes():
    notebook = skeleton(NAME, REPOSITORY)
    marked = [index for index, cell in enumerate(notebook.cells, 1) if "TODO" in cell.source]
    (fault,) = faults_of(NAME, notebook)  # what is left to do, and no more
    assert fault.startswith("TODO left in cells 2–3, 5–")
    assert len(marked) > 30
    found = {name for name, check in applying(NAME).items() if check(notebook)}
    for rule in ("form_parts", "languages_agree", "languages_pair", "chapter_opens", "form_imports", "form_questions"):
        assert rule not in found  # the frame is right before a word is written
    assert faults_of(NAME, fill(notebook)) == []


def test_every_place_to_fill_in_is_marked():
    for cell in skeleton(NAME, REPOSITORY).cells[1:]:
        ready = "imports" in cell.metadata.get("tags", []) or cell.source.startswith("torch.testing.assert_close")
        assert ready or "TODO" in cell.source, cell.source


def test_no_cell_of_the_skeleton_ends_in_a_value_that_prints_an_address():
    for cell in skeleton(NAME, REPOSITORY).cells:
        assert not cell.source.rstrip().endswith("torch.manual_seed(redraw(0))")


def test_skeleton_is_written_as_it_will_be_stored_and_is_the_same_each_time():
    one, two = skeleton("training/momentum", REPOSITORY), skeleton("training/momentum", REPOSITORY)
    assert dumps(one) == dumps(two) == dumps(normalise(two))
    assert len({cell.id for cell in one.cells}) == len(one.cells)
    nbformat.validate(one)
    assert "eq-training-momentum-first" in dumps(one)


def test_chapter_is_created_and_listed_after_its_part(project):
    said = new_chapter("training/momentum", project)
    assert "added to" in said
    notebook = nbformat.read(project / "book/training/momentum.ipynb", as_version=4)
    assert notebook.cells[0].source.endswith(f'"dlnotes-course @ git+{REPOSITORY}"')
    contents = yaml.safe_load((project / "_toc.yml").read_text(encoding="utf-8"))
    files = [[chapter["file"] for chapter in part["chapters"]] for part in contents["parts"]]
    assert files == [["training/one", "training/two", "training/momentum"], ["losses/one"]]


def test_last_part_without_final_line_end(project):
    contents = add_to_contents(TOC.rstrip("\n"), "losses/two")
    assert yaml.safe_load(contents)["parts"][1]["chapters"] == [{"file": "losses/one"}, {"file": "losses/two"}]


def test_new_part_is_told_not_guessed(project):
    before = (project / "_toc.yml").read_text(encoding="utf-8")
    said = new_chapter("vision/edges", project)
    assert "add one with the entry '- file: vision/edges'" in said
    assert (project / "_toc.yml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "name", ["momentum", "Training/momentum", "training/mo-mentum", "../x/y", "a/b/c", "/a/b", "a/b.ipynb", "1a/b", ""]
)
def test_bad_name_is_refused(project, name):
    with pytest.raises(ValueError, match=r"name must be part/chapter.*got"):
        new_chapter(name, project)
    assert sorted(path.name for path in project.iterdir()) == ["_config.yml", "_toc.yml"]


def test_existing_chapter_is_not_overwritten(project):
    path = project / "book/training/one.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="exists already"):
        new_chapter("training/one", project)
    assert path.read_text(encoding="utf-8") == "mine"
    assert (project / "_toc.yml").read_text(encoding="utf-8").count("training/one") == 1


def test_command_says_what_is_wrong():
    assert main([]).startswith("usage:")
    assert main(["Bad"]).startswith("new_chapter: name must be")
