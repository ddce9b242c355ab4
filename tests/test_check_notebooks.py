"""`make check FILES=…` tells a writer in seconds what is wrong with a chapter, and mends what needs no decision."""

import check_notebooks
import nbformat
import pytest
from book_reading import language
from good_chapter import good
from new_chapter import skeleton
from run_notebooks import dumps


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "good.ipynb"
    path.write_text(dumps(good()), encoding="utf-8")
    return path


def change(path, words, new, lang="zh"):
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if words in cell.source and language(cell) in (lang, None))
    cell.source = cell.source.replace(words, new)
    path.write_text(dumps(notebook), encoding="utf-8")


def test_a_good_chapter_keeps_every_rule(path, capsys):
    before = path.read_bytes()
    assert check_notebooks.main([str(path)]) == 0
    assert "keeps every rule" in capsys.readouterr().out
    assert check_notebooks.main(["--fix", str(path)]) == 0
    assert path.read_bytes() == before


def test_a_fault_of_each_kind_is_told_with_its_cell(path, capsys):
    change(path, "plain = torch.tensor(0.6931)", "plain = torch.tensor( 0.6931 )\nimport os, sys")
    change(path, "某事", "用SGD训练")
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    before = path.read_bytes()
    assert check_notebooks.main([str(path)]) == 1
    said = capsys.readouterr().out
    number = next(i for i, cell in enumerate(nbformat.read(path, as_version=4).cells, 1) if "0.6931" in cell.source)
    assert "a space is missing" in said
    assert "not stored as `make notebooks` stores it" in said
    assert f"cell {number}:" in said  # ruff's way to name it: the same number as in the rules
    assert "its code is not formatted" in said
    assert path.read_bytes() == before


def test_fix_mends_spaces_punctuation_formatting_and_storing(path, capsys):
    change(path, "plain = torch.tensor(0.6931)", "plain = torch.tensor( 0.6931 )")
    change(path, "某事", "用SGD训练,见图")
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert check_notebooks.main(["--fix", str(path)]) == 0
    assert "1 Chinese cells mended" in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    assert "用 SGD 训练，见图" in text
    assert "plain = torch.tensor(0.6931)" in text


def test_a_skeleton_is_told_what_is_left_and_no_more(path, capsys):
    path.write_text(dumps(skeleton("training/good", "https://github.com/a/b")), encoding="utf-8")
    assert check_notebooks.main([str(path)]) == 1
    faults = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(" in cells ")[0] for line in faults] == ["  TODO left"]


def test_a_change_of_more_than_spaces_is_not_made():
    assert check_notebooks.mended("用SGD训练。") == "用 SGD 训练。"
    source = "见[图](a.ipynb)，公式 $x$。"
    assert check_notebooks.mended(source) == source


def test_a_missing_file_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        check_notebooks.main([str(tmp_path / "none.ipynb")])
    assert "no such file" in capsys.readouterr().err
