"""`make preview` builds one chapter, again after each change, and keeps the last good page."""

import gc
import json
import weakref

import nbformat
import preview
import pytest
import yaml
from form_page import page
from test_form import book

# Builds, in this process: what the libraries say of themselves is not ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def no_dead_proxies(monkeypatch):
    """sphinx-external-toc asks every object of the process for its class; what torch.compile left behind has none."""
    alive = gc.get_objects
    monkeypatch.setattr(gc, "get_objects", lambda: [one for one in alive() if type(one) not in weakref.ProxyTypes])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    notebook, record = page()
    other = page("training/other")[0]
    assert book(folder, ("training/form", notebook, record), ("training/other", other, None)).returncode == 0
    return folder


def test_a_chapter_is_built_alone_and_again_when_it_changes(root, tmp_path, capsys):
    path, site = root / "book" / "training" / "form.ipynb", tmp_path / "site"
    site.mkdir()
    preview.watch(path, site, root, pause=0, rounds=3)
    assert capsys.readouterr().out.count("built training/form") == 1  # nothing has changed in between
    shown = {code: (site / code / "training" / "form.html").read_text("utf-8") for code in ("en", "zh")}
    assert "Creeping" in shown["en"]
    assert "慢慢挪" in shown["zh"]
    assert "/stamp" in shown["en"]
    assert not (site / "en" / "training" / "other.html").exists()
    stamp = (site / "stamp").read_text()

    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace("Creeping", "Crawling"), encoding="utf-8")
    preview.watch(path, site, root, rounds=1)
    assert "Crawling" in (site / "en" / "training" / "form.html").read_text("utf-8")
    assert (site / "stamp").read_text() != stamp

    path.write_text(good.replace("lang-en", "lang-fr"), encoding="utf-8")
    preview.watch(path, site, root, rounds=1)
    assert "unknown language tag lang-fr" in capsys.readouterr().err
    assert "Crawling" in (site / "en" / "training" / "form.html").read_text("utf-8")
    path.write_text(good, encoding="utf-8")


def test_links_to_other_chapters_are_no_fault_and_to_none_are_one(root, tmp_path, capsys):
    path = root / "book" / "training" / "form.ipynb"
    good = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(good, as_version=4)
    notebook.cells[1].source += " [other](other.ipynb) [none](none.ipynb)"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    site = tmp_path / "site"
    site.mkdir()
    capsys.readouterr()
    preview.watch(path, site, root, rounds=1)
    said = capsys.readouterr().err
    assert "none" in said
    assert "training/other" not in said
    path.write_text(good, encoding="utf-8")


def test_the_contents_hold_one_chapter(root):
    toc = preview.contents(root, "training/other")
    assert [[entry["file"] for entry in part["chapters"]] for part in toc["parts"]] == [["training/other"]]
    assert preview.contents(root, "training/new")["parts"][0]["chapters"] == [{"file": "training/new"}]
    assert json.dumps(yaml.safe_load((root / "_toc.yml").read_text("utf-8"))).count("training/form") == 1


@pytest.mark.parametrize("name", ["nowhere.ipynb", "README.md"])
def test_what_is_no_chapter_is_refused(name, tmp_path, capsys):
    (tmp_path / "README.md").touch()
    with pytest.raises(SystemExit, match="2"):
        preview.main([str(tmp_path / name)])
    assert "expected one notebook below" in capsys.readouterr().err
