import re

import pytest
from pictures import Page, alive, decode

from dlnotes.figures.page import HINT, Control, page

RATE = Control("rate", [0.1, 0.2, 0.3], ["0.1", "0.2", "0.3"], "Rate", "学习率", 1)
MODE = Control("mode", ["a<b", "c"], ["a<b", "c"], "Mode", "模式", 1)
FLAG = Control("flag", [False, True], ["off", "on"], "β", "β", 1)


def small(*controls, texts=(), start=0, **change):
    frames = [[f"<g>{i}</g>"] for i in range(len(texts) or 3)]
    arguments = {"frames": frames, "caption": ("One.", "一。")} | change
    image, svg = '<img src="data:," alt="">', '<svg fill="currentColor"></svg>'
    return page(image, svg, arguments["frames"], controls or [RATE], arguments["caption"], texts, start)


def test_the_kind_of_a_control_is_that_of_its_values():
    assert [c.kind for c in (RATE, MODE, FLAG)] == ["slider", "menu", "switch"]


def test_every_control_has_its_label_its_count_and_its_start():
    tree = Page(alive(small(RATE, MODE, FLAG)))
    slider, switch = tree.all("input")
    (menu,) = tree.all("select")
    assert [label["for"] for label in tree.all("label")] == [slider["id"], menu["id"], switch["id"]]
    assert [c["data-count"] for c in (slider, menu, switch)] == ["3", "2", "2"]
    assert (slider["min"], slider["max"], slider["value"], slider["aria-valuetext"]) == ("0", "2", "1", "0.2")
    assert slider["data-texts"].split("\n") == RATE.texts
    assert "checked" in switch
    assert ["selected" in option for option in tree.all("option")] == [False, True]
    assert "a&lt;b</option>" in small(MODE)


def test_one_label_in_two_languages_and_one_that_is_the_same_in_both():
    text = small(RATE, FLAG)
    assert '<!--dln:zh--><span lang="zh">学习率</span><!--/dln:zh-->' in text
    assert text.count(">β</label>") == 1
    assert "学习率" not in re.sub(r"<!--dln:zh-->.*?<!--/dln:zh-->", "", text)


def test_the_picture_is_named_by_the_caption_and_described_by_the_live_text():
    tree = Page(small(texts=[("x", "甲"), ("y\"'<", "乙"), ("z", "丙")], start=1))
    (image,) = [attrs for tag, attrs in tree.tags if attrs.get("role") == "img"]
    (caption,) = tree.all("figcaption")
    (live,) = [attrs for _, attrs in tree.tags if "aria-live" in attrs and "id" in attrs]
    assert image["aria-labelledby"] == caption["id"]
    assert image["aria-describedby"] == live["id"]
    assert live["aria-live"] == "polite"
    texts = [p for p in tree.all("p") if "data-texts" in p]
    assert [p["data-texts"].split("\n") for p in texts] == [["x", "y\"'<", "z"], ["甲", "乙", "丙"]]
    assert [p["lang"] for p in texts] == ["en", "zh"]


def test_without_live_text_nothing_points_at_it():
    assert "aria-describedby" not in small()


def test_where_scripts_do_not_run_a_picture_and_a_hint_stand():
    text = re.sub(r"<(script|style)>.*?</\1>", "", small(), flags=re.S)
    assert all(hint in text for hint in HINT)
    tree = Page(text)
    assert len(tree.all("img")) == 1
    for tag in ("svg", "input", "select", "label"):  # what a notebook that is not trusted would take apart
        assert tree.all(tag) == []


@pytest.mark.parametrize("nasty", ["back`tick", "${x}", "a\\n", "\\", "'\"", "`${`"])
def test_what_is_drawn_cannot_end_the_script(nasty):
    frames = [[f"<text>{nasty}</text>"], ["<text>b</text>"]]
    (first, second), _ = decode(small(frames=frames))
    assert "${" not in small(frames=frames)
    assert first.replace("&#96;", "`").replace("&#123;", "{") == f'<svg fill="currentColor">{frames[0][0]}</svg>'
    assert second == f'<svg fill="currentColor">{frames[1][0]}</svg>'


def test_controls_cannot_end_the_script():
    menu = Control("mode", ["`${x}</script>", "b"], ["`${x}</script>", "b"], "a `", "字", 0)
    _, inputs = decode(small(menu))
    assert ">&#96;$&#123;x}&lt;/script&gt;</option>" in inputs


def test_captions_and_texts_are_escaped():
    tree = Page(small(caption=("</script><b>", "</figure>字")))  # fails on a tag that is not closed
    assert "b" not in {tag for tag, _ in tree.tags}
