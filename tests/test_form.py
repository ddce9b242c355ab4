"""The form of a chapter: what its tags become on the page, in both editions, with scripts and without."""

import html
import json
import re
import shutil
import subprocess
import sys

import bilingual
import chapters
import nbformat
import outputs
import pytest
import reader as reading
import yaml
from book_reading import ROOT, below
from editions import LANGUAGES, STRINGS, checks
from form_page import code, page, pair
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_book_site import DESKTOP, PHONE, Page, browser, resize, serious_faults, serving  # noqa: F401

slow = pytest.mark.slow


def read(*cells, lang="en", **metadata):
    return reading.read_notebook(nbformat.writes(new_notebook(cells=list(cells), metadata=metadata)), lang).cells


# ---- what the cells hold


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("assert a\nassert b", 2),
        ("torch.testing.assert_close(a, b)", 1),
        ("assert_close(a, b)\nnp.testing.assert_allclose(a, b)", 2),
        ("with pytest.raises(ValueError):\n    f()", 1),
        ("for a in b:\n    assert a", 1),
        ("%pip list\nx = 'assert'\nprint(x.assertion)  # assert", 0),
        ("", 0),
    ],
)
def test_checks_are_counted_in_the_syntax(source, count):
    assert chapters.count_checks(source) == count


@pytest.mark.parametrize(
    ("numbers", "english", "chinese"),
    [
        ((4,), "✓ 4 checks", "✓ 4 项检查"),
        ((1,), "✓ 1 check", "✓ 1 项检查"),
        ((4, 9, 10), "✓ 4 checks · held in 9 of 10 redraws", "✓ 4 项检查 · 10 次重抽中 9 次成立"),
    ],
)
def test_a_check_cell_says_what_it_holds(numbers, english, chinese):
    assert (checks("en", *numbers), checks("zh", *numbers)) == (english, chinese)


@pytest.mark.parametrize(
    ("source", "lang", "count"),
    [
        ("One two-fold don't.", "en", 3),
        ("Of $x^{two}$ and `three four` one.", "en", 3),
        ("a\n\n$$\nb = \\text{loss}\n$$ (eq-a)\n\nc", "en", 2),
        ("[three words here](address/of/a.ipynb) {cite}`key2000`", "en", 3),
        ("(label)=\n# A title\n\n```{bibliography}\n:filter: x\n```\n<b>bold</b>", "en", 3),
        (":::{note}\nTwo words.\n:::", "en", 2),
        ("用 SGD 训练，见 $x_{动}$。", "zh", 4),
        ("", "en", 0),
    ],
)
def test_words_are_counted_without_formulas_and_code(source, lang, count):
    assert chapters.count_words(source, lang) == count


def test_length_is_that_of_the_main_line():
    words = "word " * 900
    cells = [
        *pair(words, "字" * 700),
        *[cell for tag in sorted(chapters.FOLDED) for cell in pair(words, "字" * 700, tag)],
        *[code("a = 1\n\nb = 2", tag) for tag in sorted(chapters.FOLDED)],
        code("a = 1\n\nb = 2"),
    ]
    notebook = new_notebook(cells=cells)
    assert (chapters.words_of(notebook, "en"), chapters.words_of(notebook, "zh")) == (900, 700)
    assert chapters.lines_of(notebook) == 2
    # 900 / 200 and 700 / 320 minutes; with the proofs, what goes further, answers and two kinds of solutions six times
    assert chapters.minutes_of(notebook, "en") == (5, 30)
    assert chapters.minutes_of(notebook, "zh") == (5, 15)
    notebook.cells += pair(words, "字" * 700)
    assert chapters.minutes_of(notebook, "zh") == (5, 20)
    notebook.cells += [*pair("$$x$$\n\n" * 4, "$$x$$\n\n" * 4), code("\n".join(["a = 1"] * 30))]
    assert chapters.minutes_of(notebook, "zh")[0] == 10  # 4.4 minutes, 32 lines of 2 seconds, 4 equations of 15


def test_cells_of_one_kind_that_follow_each_other_share_a_box():
    def boxes(*texts):
        cells = [
            new_markdown_cell(text, metadata={"tags": tags.split()})
            for tags, _, text in (t.partition("|") for t in texts)
        ]
        return [[number for _, number in mine] for mine in chapters.boxes(cells)]

    assert boxes("proof|a", "proof|b", "|c", "proof|d") == [[1], [1], [], [2]]
    assert boxes("question|a", "answer|b", "answer|c", "question|d", "answer|e") == [[1], [1, 2], [1, 2], [3], [3, 4]]
    assert boxes("deeper|### A", "deeper|b", "deeper|#### B", "deeper|### C") == [[1], [1], [1], [2]]
    assert boxes("proof|**Proof of one.** a", "proof|**Note.** b", "proof|**二的证明。** c") == [[1], [1], [2]]
    assert boxes("deeper|a", "deeper question|b", "deeper answer|c", "deeper|d") == [[1], [1, 2], [1, 2, 3], [1]]
    assert boxes("deeper question|a", "question|b") == [[1, 2], [3]]


def test_the_details_around_an_answer_are_not_doubled():
    source = (
        "<details><summary>I have decided: show me</summary>\n\nTen.\n\n<details>\ninner\n</details>\n\n</details>\n"
    )
    assert chapters.unwrap(source) == "Ten.\n\n<details>\ninner\n</details>"
    assert chapters.unwrap("Before <details>\n\nx\n\n</details>") == "Before <details>\n\nx\n\n</details>"


@pytest.mark.parametrize(
    ("source", "summary", "rest"),
    [
        ("**Proof of $a$.** Now\n\nb", "Proof of $a$.", "Now\n\nb"),
        ("**证明。**\n\nb", "证明。", "b"),
        ("**引理的证明**。先看", "引理的证明", "先看"),
        ("### A title\n\nb", "A title", "b"),
        ("b **c**", None, "b **c**"),
    ],
)
def test_a_box_is_named_by_what_it_begins_with(source, summary, rest):
    assert chapters.summary_of(source) == (summary, rest)


def test_the_hash_is_of_the_code_alone():
    def notebook(text, source, output):
        return new_notebook(cells=[new_markdown_cell(text), code(source, outputs=[{"text/plain": output}])])

    first = chapters.code_hash(notebook("a", "b", "c"))
    assert first == chapters.code_hash(notebook("x", "b", "y"))
    assert first != chapters.code_hash(notebook("a", "B", "c"))


# ---- the reader


def test_a_chapter_says_how_long_it_takes_and_another_page_does_not():
    cells = [*pair("# Title\n\nWords.", "# 标题\n\n词。"), *pair("## A", "## 甲", "part:failure")]
    assert read(*cells)[0].source == '# Title\n\n<p class="dln-time">5 min</p>\n\nWords.'
    assert read(*cells, lang="zh")[0].source == '# 标题\n\n<p class="dln-time">约 5 分钟</p>\n\n词。'
    assert read(*cells[:2])[0].source == "# Title\n\nWords."


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", "See [Figure](#fig-slope).", 'See <a class="dln-ref" href="#fig-slope">Figure&nbsp;1</a>.'),
        ("zh", "见[图](#fig-slope)，", '见<a class="dln-ref" href="#fig-slope">图&nbsp;1</a>，'),
        ("zh", "[图](#fig-slope)画出", '<a class="dln-ref" href="#fig-slope">图&nbsp;1</a> 画出'),
        ("zh", "[图](#fig-slope) 画出", '<a class="dln-ref" href="#fig-slope">图&nbsp;1</a> 画出'),
        ("en", "[try](#fig-slope?eta=1)", "[try](#fig-slope?eta=1)"),
        ("en", "[a](#b)", "[a](#b)"),
    ],
)
def test_references_give_numbers(lang, text, expected):
    shown = {outputs.FIGURE: {"svg": "<svg></svg>", "en": "A.", "zh": "甲。", "name": "fig-slope"}}
    first, _ = read(new_markdown_cell(text), code("x", outputs=[shown]), lang=lang)
    assert first.source == expected


def figure(name=None, **more):
    return {
        outputs.FIGURE: {"svg": "<svg></svg>", "en": "A.", "zh": "甲。", **({"name": name} if name else {}), **more}
    }


def test_figures_and_tables_are_numbered_apart_in_their_order():
    explorer = {"text/html": '<figure class="dln-explorer" id="x"><figcaption id="c"><p lang="en">E</p></figcaption>'}
    live = {"text/html": '<figure class="dln-lab-figure" id="y"><figcaption>L</figcaption></figure>'}
    table = {"text/html": '<table class="dln-table" id="tab-a"><caption style="x">T</caption></table>'}
    (cell,) = read(code("x", outputs=[figure(), table, explorer, {"text/html": "<b>1</b>"}, live, table | {
        "text/html": table["text/html"].replace("tab-a", "tab-b")}]))  # fmt: skip
    shown = [output.data["text/html"] for output in cell.outputs]
    found = [re.findall(r'<b class="dln-number">(.*?)</b>', text) for text in shown]
    assert found == [
        ["Figure&nbsp;1."],
        ["Table&nbsp;1."],
        ["Figure&nbsp;2."],
        [],
        ["Figure&nbsp;3."],
        ["Table&nbsp;2."],
    ]
    assert '<p lang="en"><b class="dln-number">Figure&nbsp;2.</b> E</p>' in shown[2]


def test_what_a_notebook_says_before_a_caption_gives_way_to_the_number():
    words = '<b class="dln-number">Figure · 图</b> '
    text = f'<figure class="dln-explorer"><figcaption>{words}<p>E</p></figcaption>'
    assert outputs.with_label(text, ("figure", 2), "zh").count("dln-number") == 1
    assert "<figcaption><p><b" in outputs.with_label(text, ("figure", 2), "zh")


def test_a_figure_has_its_own_alternative_and_a_place():
    data = figure("fig-a", alt_en='A "line".', alt_zh="一条线。")[outputs.FIGURE]
    text = outputs.figure_html(data, "en", "key", ("figure", 2))
    assert '<figure class="dln-figure" id="fig-a">' in text
    assert 'role="img" aria-label="A &quot;line&quot;."' in text
    assert "aria-labelledby" not in text
    assert '<figcaption id="key"><b class="dln-number">Figure&nbsp;2.</b> A.</figcaption>' in text
    assert '<b class="dln-number">图&nbsp;2</b>　甲。' in outputs.figure_html(data, "zh", "key", ("figure", 2))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([new_markdown_cell("[Figure](#fig-slop)"), code("x", outputs=[figure("fig-slope")])],
         "cell 1: no figure or table is named 'fig-slop'; did you mean 'fig-slope'"),
        ([new_markdown_cell("a"), new_markdown_cell("[Figure](#fig-x)")], r"cell 2: .* 'fig-x'; there are \[\]"),
        ([code("x", outputs=[figure("fig-a"), figure("fig-a")])], "two figures or tables are named 'fig-a'"),
        ([*pair("a", "甲"), *pair("b", "乙", "answer")], "cell 3: an answer without its question"),
    ],
)  # fmt: skip
def test_faults_name_their_cell(cells, message):
    with pytest.raises(ValueError, match=message):
        read(*cells)


def test_a_record_of_other_code_is_not_shown():
    cell = new_code_cell("assert x", id="one", metadata={"tags": ["check"]})
    record = {"offsets": 10, "held": {"one": 10}, "source": chapters.code_hash(new_notebook(cells=[cell]))}
    shown = [read(cell, redraw={**record, **change})[0].metadata["mystnb"]["code_prompt_show"]
             for change in ({}, {"source": "old"}, {"held": {}})]  # fmt: skip
    assert shown == ["check 1 10 10", "check 1", "check 1"]


def test_headings_in_a_box_are_none_of_the_page():
    source = "#### One\n\n```python\n# a comment\n```\n\n:::{note}\n# inside\n:::\n\n##### Two $x$"
    text = reading.inner_headings(source)
    assert text.count("```{rubric}") == 2
    assert "```{rubric} One\n:heading-level: 4\n```" in text
    assert "\n# a comment\n" in text
    assert "\n# inside\n" in text


# ---- the page


def book(root, *pages):
    """A book of an index and these pages, with the real machinery: {name: (notebook, record or None)}."""
    for path in below("book"):
        if path.suffix != ".ipynb":
            copy = root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    shutil.copy(ROOT / "_config.yml", root)
    listed = [{"file": name} for name, _, _ in pages]
    toc = {"format": "jb-book", "root": "index", "parts": [{"caption": "A | 甲", "numbered": True, "chapters": listed}]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, allow_unicode=True), encoding="utf-8")
    index = new_notebook(cells=pair("# Preface", "# 前言"), metadata=pages[0][1].metadata)
    for name, notebook, record in (("index", index, None), *pages):
        path = root / "book" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(nbformat.writes(notebook), encoding="utf-8")
        if record:
            path.with_suffix(".redraw.json").write_text(json.dumps(record), encoding="utf-8")
    command = [sys.executable, str(root / "book" / "_tools" / "build_site.py")]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture(scope="session")
def site(once):
    def build(root):
        done = book(root, ("training/form", *page()))
        assert (done.returncode, done.stderr) == (0, "")

    return once("form", build) / "_build" / "site"


@pytest.fixture(scope="session")
def address(site):
    with serving(site, prefix="/dlnotes/") as host:
        yield f"{host}/dlnotes/"


@pytest.fixture(scope="session", params=LANGUAGES)
def text(request, site):
    whole = (site / request.param / "training" / "form.html").read_text("utf-8")
    return request.param, re.sub(r"(?s)<(script|style).*?</\1>", "", whole[whole.index("<article") :])


@slow
def test_every_box_is_there_with_its_words(text):
    lang, article = text
    summaries = [html.unescape(re.sub(r"<[^>]*>", "", found)).strip()
                 for found in re.findall(r"(?s)<summary>(.*?)</summary>", article)]  # fmt: skip
    code, answer = f"{STRINGS['show_source'][lang]}{STRINGS['hide_source'][lang]}", STRINGS["show_answer"][lang]
    deeper, solved = STRINGS["deeper"][lang], f"{STRINGS['show_content'][lang]}{STRINGS['hide_content'][lang]}"
    proof = {"en": "Proof of the descent lemma for \\(L\\).", "zh": "下降引理的证明，对 \\(L\\)。"}[lang]
    dents = {"en": ("Two dents", "Three dents"), "zh": ("两个坑", "三个坑")}[lang]
    assert summaries == [
        STRINGS["imports"][lang], code, checks(lang, 3, 9, 10), answer, checks(lang, 1), answer, answer, proof,
        f"{deeper} {dents[0]}", f"{deeper} {dents[1]}", answer, STRINGS["solution"][lang], solved,
    ]  # fmt: skip
    assert article.count("<details") == article.count("</details>") == len(summaries)


@slow
def test_what_answers_a_question_is_inside_its_box(text):
    lang, article = text
    answer = article[article.index('<details class="dln-answer">') :]
    answer = answer[: answer.index("</details>")]
    assert {"en": "Along it they add up", "zh": "顺着谷底加起来"}[lang] in answer
    assert "plot" in answer
    assert answer.count("<figure") == 1  # its picture and its code
    assert answer.count("I have decided") + answer.count("想好了") == 1  # not the one for Jupyter once more


@slow
def test_choices_are_radio_buttons_of_one_name_each(text):
    _, article = text
    fieldsets = re.findall(r"(?s)<fieldset.*?</fieldset>", article)
    assert [len(re.findall('type="radio"', fields)) for fields in fieldsets] == [3, 2]
    names = [set(re.findall(r'name="([\w-]+)"', fields)) for fields in fieldsets]
    assert [len(found) for found in names] == [1, 1]
    assert names[0] != names[1]
    assert "<strong>" in fieldsets[0]
    assert r"\(1/1.9\)" in fieldsets[0]
    assert re.findall(r'data-right="(.*?)"', article) == ["1", "[9, 11]", "0"]
    assert article.count('type="number"') == 1


@slow
def test_numbers_stand_before_captions_and_in_the_text(text):
    lang, article = text
    figure, table = STRINGS["figure"][lang], STRINGS["table"][lang]
    shown = re.findall(r'<b class="dln-number">(.*?)</b>', article)
    stop = "." if lang == "en" else ""
    assert [html.unescape(words) for words in shown] == [f"{figure}\xa0{number}{stop}" for number in (1, 2, 3)] + [
        f"{table}\xa01{stop}"
    ]
    for name, words in (
        ("fig-slope", f"{figure}\xa01"),
        ("tab-rules", f"{table}\xa01"),
        ("fig-rate", f"{figure}\xa03"),
    ):
        assert f'href="#{name}">{words}</a>' in article
        assert f'id="{name}"' in article


@slow
def test_only_sections_of_the_main_line_are_in_the_contents(site):
    whole = (site / "en" / "training" / "form.html").read_text("utf-8")
    contents = whole[whole.index('<div class="toc') : whole.index("</aside>")]
    assert re.findall(r'href="#([^"]*)"', contents) == [
        "",
        "creeping",
        "a-number",
        "the-length",
        "practice",
        "exercises",
    ]


@slow
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pair("Which?", "哪个？", "question", right=1), "does not end in a list with as many choices"),
        (pair("Which?\n\n- a\n- b", "哪个？\n\n- 甲\n- 乙", "question", right=2), "list with as many choices"),
    ],
)
def test_a_question_that_cannot_be_judged_stops_the_build(tmp_path, cells, message):
    notebook, _ = page()
    notebook.cells = [*pair("# A", "# 甲"), *cells, *pair("So.", "这样。", "answer")]
    done = book(tmp_path, ("training/form", notebook, None))
    assert done.returncode != 0
    assert message in done.stderr


@pytest.fixture
def form(browser, address, request):  # noqa: F811
    return Page(browser, address, f"{getattr(request, 'param', 'en')}/training/form.html")


@slow
@pytest.mark.parametrize("form", LANGUAGES, indirect=True)
@pytest.mark.parametrize(("size", "colours"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone-dark"])
def test_the_form_is_accessible_and_fits(form, size, colours):
    assert serious_faults(form, size, colours) == []
    assert form.run("return document.documentElement.scrollWidth") <= size[0]
    assert form.complaints == []


@slow
def test_a_choice_is_judged_in_words_once_the_answer_is_open(form):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    def said():
        question = form.browser.find_elements(By.CSS_SELECTOR, ".dln-question")[0]
        return [question.find_element(By.CSS_SELECTOR, ".dln-verdict").text,
                [mark.text for mark in question.find_elements(By.CSS_SELECTOR, ".dln-mark")]]  # fmt: skip

    question = form.browser.find_elements(By.CSS_SELECTOR, ".dln-question")[0]
    choices = question.find_elements(By.CSS_SELECTOR, "input")
    assert form.run("return document.querySelector('.dln-verdict').getAttribute('role')") == "status"
    choices[0].send_keys(Keys.SPACE)
    assert said() == ["", []]  # nothing is given away before
    question.find_element(By.CSS_SELECTOR, "summary").send_keys(Keys.ENTER)
    form.browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert said() == [STRINGS["chose_wrong"]["en"], [STRINGS["right_one"]["en"]]]
    choices[0].send_keys(Keys.ARROW_DOWN)
    assert said()[0] == STRINGS["chose_right"]["en"]
    question.find_element(By.CSS_SELECTOR, "summary").send_keys(Keys.ENTER)
    form.browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert said() == ["", []]


@slow
@pytest.mark.parametrize(("number", "word"), [("10", "chose_right"), ("12", "chose_wrong"), ("", None)])
def test_a_number_is_judged(form, number, word):
    from selenium.webdriver.common.by import By

    question = form.browser.find_elements(By.CSS_SELECTOR, ".dln-question")[1]
    question.find_element(By.CSS_SELECTOR, "input").send_keys(number)
    form.run("arguments[0].querySelector('details').open = true", question)
    form.browser.execute_async_script("setTimeout(arguments[0], 50)")
    expected = STRINGS[word]["en"] if word else ""
    assert question.find_element(By.CSS_SELECTOR, ".dln-verdict").text == expected


@slow
def test_a_link_into_a_folded_box_opens_it(form):
    assert not form.run("return document.getElementById('fig-rate').closest('details').open")
    form.run("location.hash = '#fig-rate'")
    form.browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert form.run("return document.getElementById('fig-rate').closest('details').open")


@slow
def test_answers_open_without_scripts(browser, address):  # noqa: F811
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    resize(browser, DESKTOP)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{address}en/training/form.html")
        answer = browser.find_element(By.CSS_SELECTOR, ".dln-answer")
        inside = answer.find_element(By.CSS_SELECTOR, ".dln-folded p")
        assert not inside.is_displayed()
        answer.find_element(By.CSS_SELECTOR, "summary").send_keys(Keys.ENTER)
        assert inside.is_displayed()
        radio = browser.find_elements(By.CSS_SELECTOR, ".dln-choice input")[1]
        radio.send_keys(Keys.SPACE)
        assert radio.is_selected()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_an_answer_hides_in_jupyter_too():
    from run_notebooks import normalise

    cell = new_code_cell("x", outputs=[new_output("stream", text="1")], metadata={"tags": ["answer"], "right": 1})
    notebook = normalise(new_notebook(cells=[cell, new_code_cell("y", metadata={"collapsed": True})]))
    hidden = {"collapsed": True, "jupyter": {"source_hidden": True, "outputs_hidden": True}}
    assert notebook.cells[0].metadata == {"tags": ["answer"], "right": 1, **hidden}
    assert notebook.cells[1].metadata == {}


def test_the_edition_shows_what_it_did_before():
    """Cells without the new tags come as they were."""
    cells = [*pair("# A\n\nText.", "# 甲\n\n文。"), code("assert 1"), code("x", "hide-input", "nbval-check-output")]
    assert [cell.source for cell in read(*cells)] == ["# A\n\nText.", "assert 1", "x"]
    assert [cell.metadata.get("tags") for cell in read(*cells)][1:] == [[], ["hide-input", "nbval-check-output"]]
    assert bilingual.edition_of("zh_CN") == "zh"
