"""The book's extension and its build tool: each language apart, outputs converted, failures clear and harmless."""

import http.client
import json
import shutil
import subprocess
import sys
import threading

import bilingual
import build_site
import nbformat
import outputs
import pytest
import yaml
from book_reading import ROOT, below
from docutils import nodes
from docutils.utils import new_document
from editions import LANGUAGES, STRINGS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.errors import ConfigError

pytestmark = pytest.mark.slow
FIGURE = {"svg": '<svg><path d="M0 0"/></svg>', "en": "It falls: a < b.", "zh": "它下降：a < b。"}


# ---- one language out of two


@pytest.mark.parametrize(("lang", "expected"), [("en", "Training"), ("zh", "训练")])
def test_pick_takes_the_edition(lang, expected):
    assert bilingual.pick("Training | 训练", lang) == expected
    assert bilingual.pick("2026", lang) == "2026"


def test_pick_refuses_three_languages():
    with pytest.raises(ConfigError, match=r"'a \| b \| c', expected 'English \| 中文'"):
        bilingual.pick("a | b | c", "en")


@pytest.mark.parametrize(("language", "edition"), [("en", "en"), ("zh_CN", "zh"), ("zh-Hans", "zh"), ("en_GB", "en")])
def test_edition_of_a_sphinx_language(language, edition):
    assert bilingual.edition_of(language) == edition


@pytest.mark.parametrize("language", ["fr", "", None, "eng"])
def test_unknown_language_is_refused(language):
    with pytest.raises(ConfigError, match="expected one of en, zh"):
        bilingual.edition_of(language)


def test_every_word_of_the_frame_stands_in_both_languages():
    for name, texts in STRINGS.items():
        assert set(texts) == set(LANGUAGES), name
        assert any("\u4e00" <= character <= "\u9fff" for character in texts["zh"]), name
        assert texts["en"].isascii(), name


# ---- outputs


def test_language_blocks_keep_one_language():
    text = "a<!--dln:en-->b\n<i>c</i><!--/dln:en--><!--dln:zh-->乙<!--/dln:zh-->d<!--dln:zh-->丙<!--/dln:zh-->"
    assert outputs.strip_other_languages(text, "en") == "ab\n<i>c</i>d"
    assert outputs.strip_other_languages(text, "zh") == "a乙d丙"


@pytest.mark.parametrize("text", ["<!--dln:en-->a", "a<!--/dln:zh-->", "<!--dln:en-->a<!--/dln:zh-->"])
def test_unpaired_language_mark_is_refused(text):
    with pytest.raises(ValueError, match="no partner"):
        outputs.strip_other_languages(text, "en")


def test_unknown_language_block_is_refused():
    with pytest.raises(ValueError, match="unknown language 'fr'"):
        outputs.strip_other_languages("<!--dln:fr-->a<!--/dln:fr-->", "en")


def test_figure_becomes_html_with_its_caption():
    output = outputs.edition_output({outputs.FIGURE: FIGURE, "image/png": "…", "text/plain": "…"}, "zh", "figure-7")
    assert list(output) == ["text/html"]
    page = output["text/html"]
    assert FIGURE["svg"] in page
    assert 'role="img" aria-labelledby="figure-7"' in page
    assert '<figcaption id="figure-7">它下降：a &lt; b。</figcaption>' in page
    assert "falls" not in page


@pytest.mark.parametrize("missing", ["svg", "en", "zh"])
@pytest.mark.parametrize("value", [None, " "])
def test_figure_without_a_part_is_refused(missing, value):
    with pytest.raises(ValueError, match=f"'{missing}' is missing or empty"):
        outputs.figure_html({**FIGURE, missing: value}, "en", "figure-1")


def test_html_stands_for_a_live_widget():
    data = {outputs.WIDGET: {"model_id": "x"}, "text/html": "<b><!--dln:zh-->乙<!--/dln:zh--></b>", "text/plain": "x"}
    assert outputs.edition_output(data, "en", "f") == {"text/html": "<b></b>"}
    assert outputs.edition_output({outputs.WIDGET: {}, "text/plain": "x"}, "en", "f") == {"text/plain": "x"}


def text_cell(text, *tags):
    return new_markdown_cell(text, metadata={"tags": list(tags)})


def test_reader_drops_the_other_language_and_the_widget_state():
    figure = new_output("display_data", data={outputs.FIGURE: FIGURE})
    caption = new_output("display_data", data={outputs.CAPTION: {"en": "…", "zh": "…"}, "text/html": "<p>…</p>"})
    stream = new_output("stream", name="stdout", text="1\n")
    notebook = new_notebook(
        cells=[
            text_cell("english", "lang-en"),
            text_cell("中文", "lang-zh"),
            text_cell("both"),
            new_code_cell("show()", outputs=[figure, caption, stream]),
        ],
        metadata={"widgets": {"state": {}}},
    )
    read = bilingual.read_notebook(nbformat.writes(notebook), "zh")
    assert [cell.source for cell in read.cells] == ["中文", "both", "show()"]
    assert "figure-4-0" in read.cells[2].outputs[0].data["text/html"]
    assert read.cells[2].outputs[1].text == "1\n"  # the caption stands in the figure, not below it once more
    assert "widgets" not in read.metadata


def test_reader_names_the_cell_of_a_fault():
    notebook = new_notebook(cells=[text_cell("a"), text_cell("b", "lang-fr")])
    with pytest.raises(ValueError, match="cell 2: unknown language tag lang-fr"):
        bilingual.read_notebook(nbformat.writes(notebook), "en")
    broken = new_output("display_data", data={outputs.FIGURE: {**FIGURE, "zh": ""}})
    notebook = new_notebook(cells=[text_cell("a"), new_code_cell("b", outputs=[broken])])
    with pytest.raises(ValueError, match="cell 2: figure output: 'zh' is missing"):
        bilingual.read_notebook(nbformat.writes(notebook), "en")


# ---- search


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("动量", ["动", "量", "动量"]),
        ("注意力", ["注", "意", "力", "注意", "意力"]),
        ("用 SGD训练, x_1", ["用", "SGD", "训", "练", "训练", "x_1"]),
        ("naïve café", ["naïve", "café"]),
        ("——，。", []),
    ],
)
def test_chinese_is_indexed_by_one_and_by_two_characters(text, words):
    assert bilingual.Chinese({}).split(text) == words


# ---- the whole build, on a small book in a folder with spaces

PAGES = ["index", "training/first", "training/second"]


def write_page(book, name, cells):
    path = book / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    path.write_text(nbformat.writes(new_notebook(cells=cells, metadata=metadata)), encoding="utf-8")


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """A book of three pages with the real machinery."""
    root = tmp_path_factory.mktemp("a clone") / "my notes"
    for path in below("book"):
        if path.suffix != ".ipynb":
            copy = root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    shutil.copy(ROOT / "_config.yml", root)
    chapters = [{"file": name} for name in PAGES[1:]]
    parts = [{"caption": "Training | 训练", "numbered": True, "chapters": chapters}]
    toc = {"format": "jb-book", "root": "index", "parts": parts}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, allow_unicode=True), encoding="utf-8")
    for number, name in enumerate(PAGES):
        english = f"# Title {number}\n\nSee [first](/training/first.ipynb). Momentum {{cite}}`robbins1951`.\n\n"
        chinese = f"# 标题 {number}\n\n参见[第一页](/training/first.ipynb)。动量 {{cite}}`robbins1951`。\n\n"
        formula = f"$$\na = b\n$$ (eq-{number})\n\n{{eq}}`eq-{number}`\n\n" if number else ""
        sources = "```{bibliography}\n:filter: docname in docnames\n```"
        shown = new_output("display_data", data={outputs.FIGURE: FIGURE})
        cells = [
            new_code_cell("%pip install secret", metadata={"tags": ["remove-cell"]}),
            text_cell(english + formula + sources, "lang-en"),
            text_cell(chinese + formula + sources, "lang-zh"),
            new_code_cell("show(figure)", outputs=[shown], execution_count=1),
            new_code_cell("assert True", metadata={"tags": ["hide-cell"]}, execution_count=2),
        ]
        write_page(root / "book", name, cells)
    return root


def run_build(root, *arguments):
    command = [sys.executable, str(root / "book" / "_tools" / "build_site.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def built(small_book):
    result = run_build(small_book)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for code in LANGUAGES:
        assert f"/_build/site/{code}/index.html" in result.stdout
    return small_book / "_build" / "site"


def test_both_editions_have_every_page(built):
    for code in LANGUAGES:
        pages = {path.relative_to(built / code).as_posix() for path in (built / code).rglob("*.html")}
        assert pages == {f"{name}.html" for name in [*PAGES, "search"]}
    assert {path.name for path in built.iterdir()} == {"en", "zh", "index.html", "404.html", ".nojekyll"}
    assert [path.name for path in built.parent.iterdir()] == ["site"]  # nothing of the building stays behind


@pytest.mark.parametrize("name", PAGES)
def test_page_holds_its_language_only(built, name):
    number = PAGES.index(name)
    english = (built / "en" / f"{name}.html").read_text("utf-8")
    chinese = (built / "zh" / f"{name}.html").read_text("utf-8")
    assert f"Title {number}" in english
    assert f"标题 {number}" in chinese
    assert "标题" not in english
    assert "Title" not in chinese
    assert '<html lang="en"' in english
    assert '<html lang="zh-CN"' in chinese
    assert FIGURE["en"][:8] in english
    assert FIGURE["zh"][:4] in chinese
    assert "Show the solution" in english
    assert "显示答案" in chinese
    assert "secret" not in english + chinese


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("code", LANGUAGES)
def test_page_offers_its_notebook_and_its_other_edition(built, small_book, code, name):
    page = built / code / f"{name}.html"
    text = page.read_text("utf-8")
    config = yaml.safe_load((small_book / "_config.yml").read_text("utf-8"))
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    assert f'href="https://colab.research.google.com/github/{repository}/blob/main/book/{name}.ipynb"' in text
    notebook = built / code / "_sources" / f"{name}.ipynb"
    assert notebook.read_bytes() == (small_book / "book" / f"{name}.ipynb").read_bytes()
    up = "../" * (name.count("/") + 1)
    for other, (_, _, tag) in LANGUAGES.items():
        assert f'<link rel="alternate" hreflang="{tag}" href="{up}{other}/{name}.html">' in text
        assert (page.parent / f"{up}{other}/{name}.html").resolve().is_file()


def test_mathematics_only_where_there_is_some(built):
    loaded = {name: "mathjax.js" in (built / "en" / f"{name}.html").read_text("utf-8") for name in PAGES}
    assert loaded == {"index": False, "training/first": True, "training/second": True}
    bundle = (built / "en" / "_static" / "mathjax" / "mathjax.js").read_text("utf-8")
    for part in bilingual.MATHJAX_PARTS:
        source = (ROOT / "book" / "_static" / "mathjax" / f"{part}.js").read_text("utf-8")
        assert source in bundle
        assert not (built / "en" / "_static" / "mathjax" / f"{part}.js").exists()
    assert (built / "en" / "_static" / "mathjax" / "LICENSE").is_file()


def test_weigh_counts_what_a_page_loads(built):
    weights = build_site.weigh(built)
    assert set(weights) == {f"{code}/{name}.html" for code in LANGUAGES for name in [*PAGES, "search"]}
    (everything, compressed), (text, _) = weights["en/index.html"]
    static = built / "en" / "_static"
    names = ["course.css", "course.js", "favicon.svg"]
    assert text == (built / "en" / "index.html").stat().st_size
    assert everything == text + sum((static / name).stat().st_size for name in names)
    assert compressed < everything
    assert weights["en/training/first.html"][0][0] > everything + (static / "mathjax" / "mathjax.js").stat().st_size


def fails_and_changes_nothing(root, built, *messages):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    result = run_build(root)
    assert result.returncode != 0
    for message in messages:
        assert message in result.stderr
    assert "is built" not in result.stdout
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert [path.name for path in built.parent.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([text_cell("# A\n\n{ref}`nowhere`", "lang-en"), text_cell("# 甲", "lang-zh")], "nowhere"),
        ([text_cell("# A", "lang-en"), text_cell("# 甲\n\n{eq}`nowhere`", "lang-zh")], "nowhere"),
        ([text_cell("# A\n\n{cite}`nobody1900`")], "nobody1900"),
        ([text_cell("# A", "lang-fr")], "error: en: training/second: cell 1: unknown language tag lang-fr"),
    ],
)
def test_faulty_page_stops_the_build(small_book, built, cells, message):
    page = small_book / "book" / "training" / "second.ipynb"
    good = page.read_bytes()
    try:
        write_page(small_book / "book", "training/second", cells)
        fails_and_changes_nothing(small_book, built, message)
    finally:
        page.write_bytes(good)


def test_missing_chapter_stops_the_build_unless_it_is_a_draft(small_book, built):
    page = small_book / "book" / "training" / "second.ipynb"
    good = page.read_bytes()
    try:
        page.unlink()
        fails_and_changes_nothing(small_book, built, "training/second", "--draft")
        toc = build_site.read_toc(small_book, draft=True)
        assert toc["parts"][0]["chapters"] == [{"file": "training/first"}]
    finally:
        page.write_bytes(good)


# ---- serving


@pytest.fixture
def ask(built):
    """Ask a server that has the site under /notes/: status, type and text of an address."""
    server = build_site.make_server(built, port=0, prefix="/notes/", quiet=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def answer(path, method="GET"):
        connection = http.client.HTTPConnection(*server.server_address, timeout=600)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.headers.get_content_type(), response.read().decode("utf-8")
        finally:
            connection.close()

    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_server_serves_the_site_on_loopback(ask, built):
    assert ask("/notes/zh/")[0] == 200
    assert ask("/notes/")[2] == (built / "index.html").read_text("utf-8")
    assert ask("/notes/en/training/first.html?x=1")[:2] == (200, "text/html")
    assert ask("/notes/en/_static/course.js")[1] in ("text/javascript", "application/javascript")


@pytest.mark.parametrize("path", ["/notes/en/none.html", "/notes/en/training/", "/other/", "/notes/../../_toc.yml"])
def test_server_answers_missing_pages_with_the_sites_own(ask, built, path):
    missing = (built / "404.html").read_text("utf-8")
    assert ask(path) == (404, "text/html", missing)
    assert ask(path, "HEAD") == (404, "text/html", "")


def test_serving_what_is_not_built_is_refused(tmp_path):
    with pytest.raises(build_site.BuildError, match="build it first"):
        build_site.serve(tmp_path, 0)


def test_taken_port_is_named(built):
    with (
        build_site.make_server(built, port=0) as server,
        pytest.raises(build_site.BuildError, match=f"port {server.server_port}.*--port"),
    ):
        build_site.serve(built, server.server_port)


# ---- what is vendored


def test_vendored_mathjax_asks_no_other_host_and_keeps_its_licence():
    folder = ROOT / "book" / "_static" / "mathjax"
    assert "Apache License" in (folder / "LICENSE").read_text("utf-8")
    parts = {path.relative_to(folder).with_suffix("").as_posix() for path in below("book/_static/mathjax", "*.js")}
    assert parts == set(bilingual.MATHJAX_PARTS)


def test_config_and_contents_are_bilingual():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    for text in [config["title"], config["author"], *(part["caption"] for part in toc["parts"])]:
        assert len(text.split(" | ")) == len(LANGUAGES), text
    assert json.dumps(config).count(config["repository"]["url"]) == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [("，后文", "，"), ("）。后文", "）。"), (", more", ","), (" more", None), ("后文，", None)],
)
def test_a_formula_keeps_the_punctuation_after_it(text, kept):
    formula = nodes.math("", "x")
    document = new_document("page")
    document += nodes.paragraph("", "", nodes.Text("前文 "), formula, nodes.Text(text))
    bilingual.keep_punctuation(None, document, "page")
    assert document.astext() == f"前文 x{text}"
    assert [node.astext() for node in document.findall(nodes.inline)] == ([f"x{kept}"] if kept else [])


def test_a_formula_at_the_end_of_its_paragraph_stays():
    document = new_document("page")
    document += nodes.paragraph("", "", nodes.math("", "x"))
    bilingual.keep_punctuation(None, document, "page")
    assert not list(document.findall(nodes.inline))


def folded(words, kind="code", *after):
    """A cell as myst-nb hands it over: its code folded, then what is shown."""
    fold = bilingual.HideCodeCellNode(prompt_show=kind, prompt_hide=kind)
    fold += nodes.literal_block("", words)
    return nodes.container("", fold, *after)


def test_folded_cells_that_follow_each_other_become_one():
    document = new_document("page")
    picture = nodes.paragraph("", "picture")
    document += [folded("a"), folded("b"), folded("c", "code", picture), folded("d"), folded("e", "cell")]
    document += [nodes.paragraph("", "words"), folded("f", "cell")]
    bilingual.join_folds(None, document, "page")
    found = [[block.astext() for block in fold] for fold in document.findall(bilingual.HideCodeCellNode)]
    assert found == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert document.astext().split() == ["a", "b", "c", "picture", "d", "e", "words", "f"]
