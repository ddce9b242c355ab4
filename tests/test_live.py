import gzip
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import outputs
import pytest
import torch
from book_reading import ROOT
from pictures import CAPTION, Page

from dlnotes import plot
from dlnotes.figures import live as machinery
from dlnotes.figures.live import FAILED, HINT, MODULES, source


@pytest.fixture(autouse=True)
def _no_figure_left():
    yield
    plt.close("all")


def shown(start=None, **change):
    arguments = {
        "module": "valley", "start": start or {}, "name": "try", "controls": {"eta": (0.01, 1), "turn": None},
        "picture": plt.figure(figsize=(2, 1.6)), **CAPTION,
    } | change  # fmt: skip
    return plot.live(**arguments)


def values_of(html):
    return json.loads(re.search(r"data-values>(.*?)</script>", html)[1])


# --- what the cell's output carries -----------------------------------------------------------------------------------


def test_a_page_has_the_picture_the_values_and_the_modules():
    figure = shown({"eta": 0.07, "kappa": 10}, goals=[({"arrival": (None, 20)}, "Go.", "走。")])
    tree = Page(re.sub(r"(?s)(<script[^>]*>).*?(</script>)", r"\1\2", figure.html))
    (image,) = tree.all("img")
    assert image["src"].startswith("data:image/png;base64,")
    (attributes,) = tree.all("figure")
    assert (attributes["data-live"], attributes["data-place"]) == ("try", "notebook")
    modules = [script["data-module"].rpartition("-")[0] for script in tree.all("script") if "data-module" in script]
    assert modules == ["live", "valley"]
    data = values_of(figure.html)
    assert (data["start"]["eta"], data["start"]["kappa"], data["start"]["mu"]) == (0.07, 10, 0.9)
    assert data["controls"] == ["eta", "turn", "x", "y"]
    assert (data["settings"]["eta"]["min"], data["settings"]["eta"]["max"]) == (0.01, 1)
    assert data["goals"] == [{"word": "goal 0", "test": {"arrival": [None, 20]}}]
    assert figure._repr_mimebundle_() == {"text/plain": "A straight line.\n一条直线。", "text/html": figure.html}


def test_the_same_figure_has_the_same_bytes():
    assert shown().html == shown().html


def test_showing_a_figure_closes_its_picture():
    html = shown().html
    assert html
    assert plt.get_fignums() == []


def test_words_stand_in_both_languages_and_an_edition_can_drop_one():
    html = shown(goals=[({"diverges": True}, "Let it diverge.", "让它发散。")]).html
    words = {lang: json.loads(text) for lang, text in re.findall(r'data-words="(..)">(.*?)</script>', html)}
    assert list(words) == ["en", "zh"]
    assert set(words["en"]) == set(words["zh"])
    assert (words["en"]["goal 0"], words["zh"]["goal 0"]) == ("Let it diverge.", "让它发散。")
    english = re.sub(r"<!--dln:zh-->.*?<!--/dln:zh-->", "", html, flags=re.S)
    assert not re.search(r"[\u4e00-\u9fff]", re.sub(r"(?s)<script type=.text/plain.*?</script>", "", english))


def test_what_no_script_reads_is_a_picture_and_a_hint():
    text = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", shown().html, flags=re.S)
    assert all(hint in text for hint in HINT)
    assert Page(text).all("img")
    assert not {"svg", "input", "select", "button"} & {tag for tag, _ in Page(text).tags}


def test_an_old_browser_is_told(tmp_path):
    html = shown().html
    (old,) = re.findall(r"<script nomodule>(.*?)</script>", html, flags=re.S)
    assert not re.search(r"=>|`|\b(const|let|import)\b", old)  # what such a browser could not read
    assert re.findall(r'data-failed="(.*?)"', html)[:2] == list(FAILED)


@pytest.mark.parametrize("nasty", ["</script><b>", "<!--", "]]>", "`${x}`", "\\", "a\u2028b"])
def test_no_text_ends_the_script(nasty):
    html = shown(goals=[({"diverges": True}, nasty, f"字{nasty}")], en=f"a {nasty}", zh=f"字 {nasty}").html
    assert "b" not in {tag for tag, _ in Page(re.sub(r"(?s)(<script[^>]*>).*?(</script>)", r"\1\2", html)).tags}
    words = json.loads(re.search(r'data-words="en">(.*?)</script>', html)[1])
    assert words["goal 0"] == nasty


def test_a_page_of_the_book_carries_each_module_once():
    seen = set()
    first, second = (outputs.on_a_page(shown(name=name).html, seen) for name in ("one", "two"))
    assert [re.findall('data-module="([a-z]+)', text) for text in (first, second)] == [["live", "valley"], []]
    for text in (first, second):
        assert text.count('data-place="page"') == 1
        assert "data-values" in text
        assert re.findall("<script nomodule>", text)
    assert outputs.on_a_page("<b>1</b>", seen) == "<b>1</b>"


@pytest.mark.parametrize("path", sorted(MODULES.glob("*.js")), ids=lambda path: path.stem)
def test_a_module_can_stand_in_a_page_and_keeps_its_budget(path):
    text = source(path.stem)
    assert not re.search(r"</script|<!--|<script", text, re.IGNORECASE)  # would end or upset the script around it
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert set(re.findall(r'\bfrom "([^"]*)"', text)) <= {"./live.js"}
    assert not re.search(r"\bfetch\(|\bimport\(|XMLHttpRequest|localStorage|innerHTML|\beval\(", text)
    assert len(gzip.compress(text.encode(), 9)) <= (10_000 if path.stem == "live" else 5_000)


def test_comments_and_indents_are_left_out_and_nothing_else():
    text = (MODULES / "valley.js").read_text(encoding="utf-8")
    words = [line.strip() for line in re.sub(r"^\s*/\*\*[\s\S]*?\*/", "", text, flags=re.M).splitlines()]
    assert source("valley").splitlines() == [line for line in words if line and not line.startswith("//")]


@pytest.mark.parametrize("path", sorted(MODULES.glob("*.json")), ids=lambda path: path.stem)
def test_a_manifest_says_everything_in_both_languages(path):
    about = json.loads(path.read_text(encoding="utf-8"))
    words = about.get("words", about)
    assert set(words["en"]) == set(words["zh"])
    for word, english in words["en"].items():
        chinese = words["zh"][word]
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), word
        assert english.strip(), word
        assert chinese.strip(), word
        assert not re.search("[\u4e00-\u9fff]", english)
    for name, spec in about.get("settings", {}).items():
        assert machinery._value(name, spec, spec["start"]) == spec["start"]
        hidden = spec["kind"] == "numbers" or spec.get("whole") or spec.get("dragged")
        assert hidden or name in words["en"], f"{name} has no label"
        assert all(choice in words["en"] for choice in spec.get("choices", ()))


def test_stored_figures_have_the_modules_of_today():
    stale = {
        str(path.relative_to(ROOT)): key
        for path in sorted((ROOT / "book").rglob("*.ipynb"))
        for key in re.findall(r'data-module=\\"([\w-]+)\\"', path.read_text(encoding="utf-8"))
        if key != machinery.key(key.rpartition("-")[0])
    }
    assert not stale, "run `make notebooks` after a change of a live figure's module"


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "valey"}, r"^module: no live figure is named 'valey'; there are \[.*'valley'"),
        ({"module": "live"}, "^module: no live figure"),
        ({"module": "../valley"}, "^module: no live figure"),
        ({"start": {"rate": 1}}, r"^start: 'valley' has no setting \['rate'\]; there are \['method', 'eta'"),
        ({"controls": {"rate": None}}, r"^controls: 'valley' has no setting \['rate'\]"),
        ({"start": {"eta": 2}}, "^start: eta: expected a number from 0.01 to 1, got 2"),  # within the narrowed range
        ({"start": {"kappa": 0.5}}, "^start: kappa: expected a number from 1 to 1000, got 0.5"),
        ({"start": {"kappa": float("nan")}}, "^start: kappa: expected a number .*got nan"),
        ({"start": {"kappa": float("inf")}}, "^start: kappa: .*got inf"),
        ({"start": {"kappa": "25"}}, "^start: kappa: expected a number .*got '25'"),
        ({"start": {"kappa": True}}, "^start: kappa: expected a number .*got True"),
        ({"start": {"kappa": None}}, "^start: kappa: expected a number .*got None"),
        ({"start": {"steps": 20.5}}, "^start: steps: expected a whole number, got 20.5"),
        ({"start": {"method": "sgd"}}, r"^start: method: expected one of \['gd', .*got 'sgd'"),
        ({"start": {"decay": 1}}, r"^start: decay: expected one of \[False, True\], got 1"),
        ({"start": {"rates": [1, 2]}}, r"^start: rates: expected 6 numbers, got \[1, 2\]"),
        ({"start": {"rates": [1] * 5 + [-1]}}, "^start: rates: expected a number .*got -1"),
        ({"controls": {"eta": (1, 0.1)}}, "^controls: eta: expected a low end below the high one"),
        ({"controls": {"eta": (0, 1)}}, "^controls: eta: expected a number from 0.001 to 3, got 0"),
        ({"controls": {"eta": (0.1, 0.2, 0.3)}}, r"^controls: eta: expected None or \(low, high\)"),
        ({"controls": {"decay": (False, True)}}, r"^controls: decay: expected None, got"),
        ({"controls": {"method": ["gd"]}}, "^controls: method: expected two or more of"),
        ({"controls": {"method": ["gd", "sgd"]}}, "^controls: method: expected two or more of"),
        ({"controls": {"method": ["momentum", "nesterov"]}}, r"^start: method: expected one of .*got 'gd'"),
        ({"name": "Try"}, "^name: expected small letters"),
        ({"name": "a?b"}, "^name: expected small letters"),
        ({"en": ""}, "^en: "),
        ({"zh": "Chinese"}, "^zh: "),
        ({"goals": [({"speed": (1, 2)}, "a", "字")]}, r"^goals: expected a test of some of .*'speed'"),
        ({"goals": [({}, "a", "字")]}, "^goals: expected a test"),
        ({"goals": [({"eta": 3}, "a", "字")]}, r"^goals: expected \(low, high\)"),
        ({"goals": [({"eta": (1, None, 2)}, "a", "字")]}, r"^goals: expected \(low, high\)"),
        ({"goals": [({"eta": (None, None)}, "a", "字")]}, r"^goals: expected \(low, high\)"),
        ({"goals": [({"eta": (float("nan"), 1)}, "a", "字")]}, r"^goals: expected \(low, high\)"),
        ({"goals": [({"eta": (0, 1)}, "a", "b")]}, "^zh: expected Chinese"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        shown(**change)


def test_a_picture_is_demanded():
    with pytest.raises(TypeError, match="picture"):
        shown(picture="a.png")


@pytest.mark.parametrize("number", [torch.tensor(10.0), np.float32(10), np.int64(10), 10])
def test_numbers_come_from_anything_that_has_them(number):
    assert json.loads(json.dumps(shown({"kappa": number}).data))["start"]["kappa"] == 10


def test_a_live_figure_may_have_an_alternative_and_a_number():
    html = shown(name="fig-try", alt_en="A valley.", alt_zh="一道山谷。").html
    assert '<span id="fig-try"></span>' in html
    assert '<b class="dln-number">Figure · 图</b>' in html
    (image,) = re.findall(r'role="img" aria-labelledby="([\w-]+)"', html)
    assert re.search(rf'<p id="{image}" hidden>.*A valley\..*一道山谷。', html)
    assert "dln-number" not in shown().html
    with pytest.raises(ValueError, match="^alt_en: "):
        shown(alt_zh="一道山谷。")
