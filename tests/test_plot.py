import base64
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from pictures import CAPTION, line

from dlnotes import plot
from dlnotes.figures import render


@pytest.fixture(autouse=True)
def _no_figure_left():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    with plot.style():
        return plt.subplots()[1]


# --- style -----------------------------------------------------------------------------------------------------------


def test_the_style_holds_for_a_block():
    before = dict(mpl.rcParams)
    with plot.style():
        assert mpl.rcParams["figure.figsize"] == [5.0, 3.3]
        assert mpl.rcParams["svg.hashsalt"] == "dlnotes"
    assert dict(mpl.rcParams) == before


def test_the_style_holds_for_a_notebook():
    with mpl.rc_context():
        plot.style()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"][0] == plot.COLORS["blue"]


def test_a_cell_that_ends_with_the_style_shows_nothing(capsys):
    with plot.style() as entered:
        assert DisplayFormatter().format(entered) == ({}, {})
    assert capsys.readouterr().out == ""


def luminance(colour):
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in mpl.colors.to_rgb(colour))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("name", ["blue", "vermilion", "green", "gray"])
@pytest.mark.parametrize("page", ["#ffffff", "#16191d"])
def test_line_colours_stand_out_on_light_and_dark_pages(name, page):
    low, high = sorted((luminance(plot.COLORS[name]), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 1.4.11


# --- show ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch):
    """Stands for IPython; keeps what is displayed."""
    shown = []

    def display(bundle, raw):
        assert raw
        shown.append(bundle)

    plt.close(plt.figure())  # Matplotlib looks for a notebook once, and this is none
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", display)
    return shown


def test_a_figure_comes_as_picture_and_caption(notebook):
    figure = line()
    plot.show(figure, **CAPTION)
    assert plt.get_fignums() == []
    picture, caption = notebook
    assert set(picture) == {"image/png", "application/vnd.dlnotes.figure+json", "text/plain"}
    assert base64.b64decode(picture["image/png"]) == render.png(figure)
    data = picture["application/vnd.dlnotes.figure+json"]
    assert {name: data[name] for name in ("en", "zh")} == CAPTION
    assert re.fullmatch(r"<svg [^>]+>.*</svg>", data["svg"])
    assert render.ID not in data["svg"]
    assert picture["text/plain"] == f"{CAPTION['en']}\n{CAPTION['zh']}"
    assert caption["text/html"] == '<p lang="en">A straight line.</p><p lang="zh">一条直线。</p>'
    assert caption["application/vnd.dlnotes.caption+json"] == CAPTION
    assert '<p lang="en">a &lt; b</p>' in plot.bundles(figure, "a < b", "字")[1]["text/html"]


def test_a_figure_has_the_same_bytes_each_time():
    assert plot.bundles(line(), **CAPTION) == plot.bundles(line(), **CAPTION)


def test_a_script_gets_the_captions(capsys):
    plot.show(line(), **CAPTION)
    assert capsys.readouterr().out == "A straight line.\n一条直线。\n"


@pytest.mark.parametrize("missing", ["en", "zh"])
def test_both_captions_are_demanded(missing, notebook):
    with pytest.raises(ValueError, match=f"^{missing}: expected a caption"):
        plot.show(line(), **CAPTION | {missing: " "})
    assert notebook == []


# --- curves ----------------------------------------------------------------------------------------------------------

HISTORY = [
    {"epoch": 1, "loss": 0.6, "lr": 0.1},
    {"epoch": 2, "loss": 0.4, "val_loss": 0.5, "val_accuracy": 0.8},
    {"epoch": 4, "loss": 0.2, "val_loss": 0.45},
]


def test_training_is_solid_and_validation_dashed(ax):
    plot.curves(ax, HISTORY)
    train, val = ax.lines
    assert (train.get_label(), train.get_linestyle()) == ("loss", "-")
    assert (val.get_label(), val.get_linestyle()) == ("val_loss", "--")
    assert train.get_color() != val.get_color()
    np.testing.assert_array_equal(train.get_xydata(), [[1, 0.6], [2, 0.4], [4, 0.2]])
    np.testing.assert_array_equal(val.get_xydata(), [[2, 0.5], [4, 0.45]])
    assert ax.get_xlabel() == "epoch"
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_names_are_as_asked(ax):
    plot.curves(ax, HISTORY, "accuracy", "lr")
    assert [line.get_label() for line in ax.lines] == ["val_accuracy", "lr"]


def test_unknown_names_are_an_error(ax):
    with pytest.raises(ValueError, match="^history: no entry 'f1'; there are .*'val_accuracy'"):
        plot.curves(ax, HISTORY, "f1")
    with pytest.raises(ValueError, match="^history: no entry 'step'"):
        plot.curves(ax, HISTORY, x="step")
    with pytest.raises(ValueError, match="^history: no entry 'loss'"):
        plot.curves(ax, [])


# --- contours and paths ---------------------------------------------------------------------------------------------


def test_contours_call_the_function_once_with_whole_grids(ax):
    calls = []

    def bowl(x, y):
        calls.append((x, y))
        return x**2 + y**2

    plot.contour(ax, bowl, (-2, 2), (-1, 1), levels=4, points=21)
    ((x, y),) = calls
    assert x.shape == y.shape == (21, 21)
    assert x.dtype == torch.float64
    assert (x[0, 0].item(), x[0, -1].item(), y[0, 0].item(), y[-1, 0].item()) == (-2, 2, -1, 1)
    assert ax.get_xlim() == (-2, 2)
    assert ax.get_ylim() == (-1, 1)
    (curves,) = ax.collections
    radii = [np.hypot(*path.vertices.T).mean() for path in curves.get_paths() if len(path.vertices)]
    steps = np.diff([0, *radii])
    np.testing.assert_allclose(steps, steps[0], rtol=0.02)  # rings of a bowl are equally far apart


def test_given_levels_are_obeyed_and_areas_filled(ax):
    plot.contour(ax, lambda x, y: x + y, (0, 1), (0, 1), levels=[0.5, 1.0], filled=True)
    (areas,) = ax.collections
    assert areas.levels.tolist() == [0.5, 1.0]
    assert areas.filled


def test_filled_areas_leave_no_hole_at_the_minimum(ax):
    plot.contour(ax, lambda x, y: x**2 + y**2 + 1, (-1, 1), (-1, 1), levels=4, points=21, filled=True)
    (areas,) = ax.collections
    assert (areas.levels[0], areas.levels[-1]) == (1, 3)


@pytest.mark.parametrize("filled", [False, True])
def test_a_constant_has_no_level_curves(ax, filled):
    plot.contour(ax, lambda x, y: 0 * x + 3, (-1, 2), (-1, 1), filled=filled)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 2), (-1, 1))
    assert len(ax.collections) == filled


@pytest.mark.parametrize("filled", [False, True])
def test_almost_a_constant_is_drawn(ax, filled):
    nearly = 1 + torch.finfo(torch.float64).eps
    plot.contour(ax, lambda x, y: torch.where(x > 0, nearly, 1.0), (-1, 1), (-1, 1), filled=filled)
    assert ax.get_xlim() == (-1, 1)


@pytest.mark.parametrize("levels", [1, 0, -3])
def test_too_few_levels_are_an_error(ax, levels):
    with pytest.raises(ValueError, match=f"^levels: expected at least 2, got {levels}"):
        plot.contour(ax, lambda x, y: x + y, (0, 1), (0, 1), levels=levels)


def test_functions_with_parameters_can_be_drawn(ax):
    w = torch.tensor(2.0, requires_grad=True)
    plot.contour(ax, lambda x, y: w * x + y, (0, 1), (0, 1))
    assert len(ax.collections) == 1


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x, y: (x * y).sum(), r"^f: expected values of shape \(100, 100\) .*, got \(\)"),
        (lambda x, y: x[:5], "^f: expected values of shape"),
        (lambda x, y: x / 0, "^f: expected finite values .*, got 10000 others"),
    ],
)
def test_functions_that_do_not_fit_are_an_error(ax, f, message):
    with pytest.raises(ValueError, match=message):
        plot.contour(ax, f, (-1, 1), (-1, 1))


def test_a_path_starts_with_a_ring_and_ends_with_a_star(ax):
    points = torch.tensor([[2.0, 1.0], [1.0, 0.5], [0.5, 0.1]], requires_grad=True)
    plot.path(ax, points, color=plot.COLORS["green"], label="SGD")
    steps, start, end = ax.lines
    np.testing.assert_allclose(steps.get_xydata(), points.detach().numpy())
    assert steps.get_label() == "SGD"
    assert (start.get_xydata().tolist(), start.get_marker(), start.get_markerfacecolor()) == (
        [[2, 1]],
        "o",
        "none",
    )
    assert end.get_marker() == "*"
    np.testing.assert_allclose(end.get_xydata(), [[0.5, 0.1]])
    assert {line.get_color() for line in ax.lines} == {plot.COLORS["green"]}


def test_a_path_may_be_a_list_of_pairs_and_may_leave_the_picture(ax):
    plot.contour(ax, lambda x, y: x**2 + y**2, (-1, 1), (-1, 1))
    plot.path(ax, [(0.5, 0.5), torch.tensor([-3.0, 1e30]), (float("inf"), float("nan"))])
    assert ax.get_xlim() == (-1, 1)
    text = "".join(render.pieces(ax.figure))
    assert not re.search(r"nan|inf[^i]|e\+", text)


@pytest.mark.parametrize("points", [torch.zeros(3), torch.zeros(3, 3), torch.zeros(0, 2)])
def test_points_that_do_not_fit_are_an_error(ax, points):
    with pytest.raises(ValueError, match=r"^points: expected shape \(steps, 2\), got"):
        plot.path(ax, points)


# --- names, alternatives, tables -------------------------------------------------------------------------------------


def test_a_figure_may_have_an_alternative_and_a_name(notebook):
    plot.show(line(), **CAPTION, alt_en="A line from 0 to 1.", alt_zh="从 0 到 1 的线。", name="fig-line")
    picture, caption = notebook
    data = picture["application/vnd.dlnotes.figure+json"]
    assert {key: data[key] for key in data if key != "svg"} == {
        **CAPTION, "alt_en": "A line from 0 to 1.", "alt_zh": "从 0 到 1 的线。", "name": "fig-line",
    }  # fmt: skip
    assert caption["text/html"].startswith('<p lang="en" id="fig-line"><b>Figure</b> A straight')
    assert '<p lang="zh"><b>图</b>' in caption["text/html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt_en": "A line."}, "^alt_zh: expected what the figure draws, in both languages or in none, got None"),
        ({"alt_zh": "一条线。"}, "^alt_en: expected what the figure draws"),
        ({"alt_en": " ", "alt_zh": "线"}, "^alt_en: "),
        ({"alt_en": "A line.", "alt_zh": "A line."}, "^alt_zh: expected Chinese"),
        ({"alt_en": "$a$ and b", "alt_zh": "线"}, "^alt_en: .*instead of formulas"),
        ({"name": "line"}, "^name: expected fig-… in small letters, digits and hyphens, got 'line'"),
        ({"name": "fig-Line"}, "^name: "),
        ({"name": "fig-"}, "^name: "),
        ({"name": 'fig-a"b'}, "^name: "),
        ({"name": "tab-a"}, "^name: "),
    ],
)
def test_a_bad_alternative_or_name_is_named(notebook, change, message):
    with pytest.raises(ValueError, match=message):
        plot.show(line(), **CAPTION, **change)
    assert notebook == []


HEADS = (["rule", "loss"], ["规则", "损失"])
WORDS = {"en": "Losses.", "zh": "损失一览。"}


def test_a_table_has_headings_and_caption_in_both_languages(notebook):
    plot.table([[("None", "无"), torch.tensor(0.25)], ["A<B", np.float64(10)]], *HEADS, **WORDS, name="tab-loss")
    (bundle,) = notebook
    text = bundle["text/html"]
    assert text.startswith('<table class="dln-table" id="tab-loss">')
    both = {lang: re.sub(r"<[^>]*>", " ", re.sub(rf"<!--dln:{other}-->.*?<!--/dln:{other}-->", "", text)).split()
            for lang, other in (("en", "zh"), ("zh", "en"))}  # fmt: skip
    assert both["en"] == ["Table", "·", "表", "Losses.", "rule", "loss", "None", "0.25", "A&lt;B", "10"]
    assert both["zh"] == ["Table", "·", "表", "损失一览。", "规则", "损失", "无", "0.25", "A&lt;B", "10"]
    assert text.count('style="text-align:right"') == 3  # the heading and the two numbers
    assert text.count('scope="col"') == 2
    assert bundle["text/plain"] == "Losses.\n损失一览。\nrule  loss\nNone  0.25\nA<B     10"


def test_a_table_without_a_name_has_no_place(notebook):
    plot.table([["a", "b"]], *HEADS, **WORDS)
    assert "id=" not in notebook[0]["text/html"]
    assert "dln-number" not in notebook[0]["text/html"]


def test_wide_characters_keep_their_columns(capsys):
    plot.table([["动量", 1], ["a", 22]], *HEADS, **WORDS)
    assert capsys.readouterr().out.splitlines()[-2:] == ["动量     1", "a       22"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "^rows: expected at least one, got none"),
        ({"rows": [["a", 1], ["b"]]}, r"^rows: expected 2 cells in each, got 1 in row 1: \['b'\]"),
        ({"rows": [[("a", "b"), 1]]}, "^rows: expected Chinese text, got 'b'"),
        ({"rows": [["a\x00", 1]]}, r"^rows: .*U\+0000"),
        ({"columns_zh": ["规则"]}, r"^columns_zh: expected a heading for each of \['rule', 'loss'\], got \['规则'\]"),
        ({"columns_en": [], "columns_zh": []}, "^columns_zh: "),
        ({"en": ""}, "^en: expected a caption"),
        ({"name": "fig-a"}, "^name: expected tab-…"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(notebook, change, message):
    columns = {"columns_en": HEADS[0], "columns_zh": HEADS[1]}
    with pytest.raises(ValueError, match=message):
        plot.table(**{"rows": [["a", 1]], **columns, **WORDS, **change})
    assert notebook == []
