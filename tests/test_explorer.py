import gzip
import itertools
import re
import subprocess
import sys

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from pictures import CAPTION, Page, alive, decode, line

from dlnotes import plot
from dlnotes.figures import render
from dlnotes.plot import explorer

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def _no_figure_left():
    yield
    assert plt.get_fignums() == []


def draw(slope=1.0, kind="up", wide=False):
    return line(slope * (1 if kind == "up" else -1) + wide)


CONTROLS = {"slope": [0.5, 1.0, 1.5], "kind": ["up", "down"], "wide": [False, True]}


def test_every_frame_comes_back_as_it_was_drawn():
    shown = explorer(draw, CONTROLS, **CAPTION, start={"slope": 1.0, "kind": "down"})
    assert len(shown.frames) == 12
    prefix = re.search(r'<figure class="dln-explorer" id="(dln[0-9a-f]{8}-)f"', shown.html)[1]
    wanted = ["".join(render.pieces(shown.figure(v))).replace(render.ID, prefix) for v in shown.frames]
    frames, _ = decode(shown.html)
    assert [re.sub(r"^<svg[^>]*>|</svg>$", "", frame) for frame in frames] == wanted
    assert len(set(wanted)) > 6
    start = shown.frames.index({"slope": 1.0, "kind": "down", "wide": False})
    (image,) = Page(shown.html).all("img")  # what is seen before and without the script
    figure = shown.figure(shown.frames[start])
    assert image["src"] == Page(render.img(figure, dpi=80, colours=32)).all("img")[0]["src"]


def test_the_page_counts_frames_as_its_script_does():
    shown = explorer(draw, CONTROLS, **CAPTION)
    tree = Page(alive(shown.html))
    counts = {a["id"]: int(a["data-count"]) for _, a in tree.tags if "data-count" in a}
    assert list(counts.values()) == [3, 2, 2]
    for number, values in enumerate(shown.frames):
        frame = 0
        for (name, value), count in zip(values.items(), counts.values(), strict=True):
            frame = frame * count + CONTROLS[name].index(value)
        assert frame == number


def test_two_explorers_share_a_page():
    pages = [explorer(draw, {"slope": [1, top]}, **CAPTION).html for top in (2, 3)]
    tree = Page("".join(map(alive, pages)))
    ids = tree.ids()
    assert len(ids) == len(set(ids))
    targets = [a[name] for _, a in tree.tags for name in ("for", "aria-labelledby") if name in a]
    assert set(targets) <= set(ids)
    assert len(targets) == 6  # image, label, output; twice
    for text in map(alive, pages):
        used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
        assert used
        assert used <= set(re.findall(r'id="([^"]+)"', text))


def test_nothing_is_fetched():
    text = explorer(draw, CONTROLS, **CAPTION).html
    assert "://" not in text
    assert [image["src"][:22] for image in Page(text).all("img")] == ["data:image/png;base64,"]
    assert text.count(" src=") == 1
    assert not re.search(r"\b(import|fetch|url\((?!#))", text)


def test_the_same_page_in_two_runs_and_in_another_process():
    make = "explorer(line, {'slope': [1, 2]}, **CAPTION, describe=lambda slope: (f'{slope}', f'{slope} 字')).html"
    names = {"explorer": explorer, "line": line, "CAPTION": CAPTION}
    here = eval(make, names)
    assert eval(make, names) == here
    code = (
        "import sys; sys.path.insert(0, 'tests'); sys.stdout.reconfigure(encoding='utf-8')\n"
        f"from pictures import line, CAPTION\nfrom dlnotes.plot import explorer\nprint({make})"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert there == here + "\n"


def test_sharing_what_frames_have_in_common_saves():
    def descent(rate):
        with plot.style():
            figure, ax = plt.subplots()
        plot.contour(ax, lambda x, y: x**2 + 10 * y**2, (-2, 2), (-1, 1))
        points = torch.tensor([[2.0, 1.0]]) * torch.tensor([[1 - rate, 1 - 10 * rate]]) ** torch.arange(30)[:, None]
        plot.path(ax, points)
        return figure

    shown = explorer(descent, {"rate": torch.linspace(0.01, 0.2, 24)}, **CAPTION)
    text = shown.html
    written_out = sum(map(len, decode(text)[0]))
    assert len(text) < written_out / 3
    assert len(text.encode()) < 150_000  # one figure of a page whose budget is 1 MB
    assert len(gzip.compress(text.encode())) < 40_000


def test_texts_follow_the_frames():
    shown = explorer(
        draw,
        {"slope": [1, 2]},
        **CAPTION,
        labels={"slope": ("Slope", "斜率", "{:.1f}")},
        describe=lambda slope: (f"It rises\n by {slope}.", f"升高 {slope}。"),
        start={"slope": 2},
    )
    tree = Page(shown.html)
    assert [p["data-texts"] for p in tree.all("p") if "data-texts" in p] == [
        "It rises by 1.\nIt rises by 2.",
        "升高 1。\n升高 2。",
    ]
    assert ">It rises by 2.</p>" in shown.html
    assert Page(alive(shown.html)).all("input")[0]["data-texts"] == "1.0\n2.0"


@pytest.mark.parametrize(
    "values",
    [np.linspace(0.1, 0.3, 3), torch.linspace(0.1, 0.3, 3), (v / 10 for v in (1, 2, 3)), (0.1, 0.2, 0.3)],
)
def test_values_come_from_anything_that_has_numbers(values):
    shown = explorer(draw, {"slope": values}, **CAPTION, start={"slope": 0.3})
    assert all(type(v["slope"]) is float for v in shown.frames)
    assert shown.controls[0].texts == ["0.1", "0.2", "0.3"]
    assert shown.controls[0].start == 2


# --- in a kernel ---------------------------------------------------------------------------------------------------


def parts(box):
    *inputs, picture = box.children
    return inputs, picture


def test_the_widget_draws_anew_with_the_new_values():
    calls = []

    def record(**values):
        calls.append(values)
        return draw(**values)

    shown = explorer(record, CONTROLS, **CAPTION, describe=lambda **v: (f"at {v['slope']}", "处"))
    calls.clear()
    (slider, menu, switch), picture = parts(shown.live())
    assert calls == [{"slope": 0.5, "kind": "up", "wide": False}]
    before = picture.value
    assert "at 0.5" in before
    slider.value = 1.5
    menu.value = "down"
    switch.value = True
    assert calls[1:] == [
        {"slope": 1.5, "kind": "up", "wide": False},
        {"slope": 1.5, "kind": "down", "wide": False},
        {"slope": 1.5, "kind": "down", "wide": True},
    ]
    assert re.search(r'<img src="data:image/png;base64,[^"]+" width="440" height="330"', picture.value)
    assert picture.value != before
    assert CAPTION["zh"] in picture.value


def test_the_widget_starts_where_it_should_and_reads_well():
    shown = explorer(
        draw,
        {"slope": [0.1 + 0.2, 0.4]},
        **CAPTION,
        labels={"slope": ("Slope", "斜率")},
        start={"slope": 0.4},
    )
    (slider,), _ = parts(shown.live())
    assert isinstance(slider, ipywidgets.SelectionSlider)
    assert slider.value == 0.4
    assert slider.label == "0.4"
    assert [text for text, _ in slider.options] == ["0.3", "0.4"]
    assert slider.description == "Slope · 斜率"


def test_an_error_while_exploring_is_seen_and_passes():
    broken = []

    def fragile(slope):
        if broken:
            raise RuntimeError("no <figure> today")
        return draw(slope)

    (slider,), picture = parts(explorer(fragile, {"slope": [1, 2, 3]}, **CAPTION).live())
    broken.append(True)
    slider.value = 2
    assert "RuntimeError: no &lt;figure&gt; today" in picture.value
    assert "called draw with {&#x27;slope&#x27;: 2}" in picture.value
    broken.clear()
    slider.value = 3
    assert "<img" in picture.value


def test_a_notebook_gets_both_views():
    shown = explorer(draw, {"slope": [1, 2]}, **CAPTION)
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET}
    assert bundle["text/html"] == shown.html
    assert bundle["text/plain"] == f"{CAPTION['en']}\n{CAPTION['zh']}"
    assert set(bundle[WIDGET]) == {"version_major", "version_minor", "model_id"}


def test_without_ipywidgets_the_page_is_enough(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(explorer(draw, {"slope": [1, 2]}, **CAPTION)._repr_mimebundle_()) == {
        "text/plain",
        "text/html",
    }


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": {}}, "^controls: expected one to four, got 0"),
        ({"controls": {name: [1, 2] for name in "abcde"}}, "^controls: expected one to four, got 5"),
        (
            {"controls": {"slope": range(21), "kind": [str(i) for i in range(20)]}},
            "^controls: .* 400 .*got 420",
        ),
        ({"controls": {"slope": itertools.count()}}, "^controls: expected at most 400 values of 'slope', got more"),
        ({"controls": {"slope": itertools.repeat(1)}}, "^controls: expected at most 400 values"),
        ({"controls": {"slope": ["a", "b\x00"]}}, r"^controls: .*U\+0000"),
        ({"labels": {"slope": ("a\x08", "字")}}, r"^labels: .*U\+0008"),
        ({"describe": lambda slope: ("a\x02", "字")}, r"^describe: .*U\+0002"),
        ({"controls": {"slope": [1]}}, "^controls: expected at least two numbers.*'slope', got .1."),
        ({"controls": {"slope": [1, "up"]}}, "^controls: expected at least two numbers"),
        ({"controls": {"slope": [True, False]}}, "^controls: expected .*False, True"),
        ({"controls": {"slope": [1, None]}}, "^controls: expected at least two numbers"),
        ({"controls": {"slope": [1.00001, 1.00002, 1.00003]}}, None),
        ({"controls": {"slope": [1.00000001, 1.00000002]}}, "^controls: values of 'slope' look alike"),
        (
            {"labels": {"slop": ("a", "字")}},
            r"^labels: no control is named \['slop'\]; there are \['slope'\]",
        ),
        ({"labels": {"slope": "Slope"}}, "^labels: expected .*'slope', got 'Slope'"),
        ({"labels": {"slope": ("Slope",)}}, "^labels: expected"),
        ({"start": {"rate": 1}}, r"^start: no control is named \['rate'\]"),
        ({"start": {"slope": 7}}, r"^start: expected one of \[1, 2\] for 'slope', got 7"),
        ({"en": ""}, "^en: "),
        ({"zh": "Chinese"}, "^zh: "),
        ({"describe": lambda slope: ("only one",)}, "^describe: expected"),
        ({"describe": lambda slope: ("one", "")}, "^describe: expected .*got .'one', ''. for .'slope': 1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"draw": draw, "controls": {"slope": [1, 2]}, **CAPTION} | change
    if message is None:
        explorer(**arguments)
        return
    with pytest.raises(ValueError, match=message):
        explorer(**arguments)


def test_draw_must_return_one_figure():
    def forgets(slope):
        plt.close(draw(slope))

    with pytest.raises(TypeError, match=r"^draw: expected a Figure, got NoneType for \{'slope': 1\}"):
        explorer(forgets, {"slope": [1, 2]}, **CAPTION)


def test_figures_must_have_one_size():
    def grows(slope):
        figure = draw(slope)
        figure.set_size_inches(slope, 3)
        return figure

    with pytest.raises(ValueError, match="^draw: expected figures of one size"):
        explorer(grows, {"slope": [3, 4]}, **CAPTION)


def test_an_error_of_draw_names_its_values():
    def fails(slope):
        raise ZeroDivisionError("as planned")

    with pytest.raises(ZeroDivisionError, match="as planned") as error:
        explorer(fails, {"slope": [1, 2]}, **CAPTION)
    assert error.value.__notes__ == ["The explorer called draw with {'slope': 1}."]


def test_a_menus_values_have_names_in_both_languages():
    names = {"valley": ("valley", "山谷"), "saddle": ("saddle", "马鞍面")}
    shown = explorer(
        lambda surface: plt.figure(figsize=(2, 2)), {"surface": ["valley", "saddle"]}, en="A surface.", zh="曲面。",
        labels={"surface": ("Surface", "曲面", names)},
    )  # fmt: skip
    assert "<!--dln:en-->saddle <!--/dln:en--><!--dln:zh-->马鞍面<!--/dln:zh--></option>" in shown.html
    assert shown.controls[0].texts == ["valley · 山谷", "saddle · 马鞍面"]
    with pytest.raises(ValueError, match="labels: expected a name for each of"):
        explorer(
            lambda surface: plt.figure(), {"surface": ["valley", "saddle"]}, en="A surface.", zh="曲面。",
            labels={"surface": ("Surface", "曲面", {"valley": ("valley", "山谷")})},
        )  # fmt: skip


def test_an_explorer_may_have_an_alternative_and_a_name():
    def draw(rate):
        return line(rate)

    words = {"alt_en": "A line.", "alt_zh": "一条线。", "name": "fig-line"}
    shown = plot.explorer(draw, {"rate": [0.1, 0.2]}, labels={"rate": ("Rate", "学习率")}, **CAPTION, **words)
    assert '<span id="fig-line"></span>' in shown.html
    assert '<figcaption id="' in shown.html
    assert '<b class="dln-number">Figure · 图</b> <!--dln:en-->' in shown.html
    (image,) = re.findall(r'role="img" aria-labelledby="([\w-]+)"', shown.html)
    (hidden,) = re.findall(rf'<p id="{image}" hidden>(.*?)</p>', shown.html)
    assert "A line." in hidden
    assert "一条线。" in hidden
    assert 'alt="A line. 一条线。"' in shown._picture({"rate": 0.1})
    with pytest.raises(ValueError, match="^name: expected fig-…"):
        plot.explorer(draw, {"rate": [0.1, 0.2]}, **CAPTION, **words | {"name": "x"})
