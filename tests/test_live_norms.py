"""The live figure of the norms in a browser: its numbers against torch, and what a reader does with it.

Needs Chromium and its driver, as the tests of the site do.
"""

import pytest
import torch
from test_book_site import browser, complaints  # noqa: F401
from test_live_page import Reader, both_editions, figure, from_module, mean, numbers, standing

from dlnotes.moments import moments, standardize

CELLS = [f"x{n}{c}{p}" for n in (1, 2) for c in (1, 2, 3, 4) for p in (1, 2, 3, 4)]
GOALS = [({"largest": (3, None)}, "Above 3.", "超过 3。"), ({"one": (None, -1)}, "Negative.", "负的。")]
FORMULAS = {
    ("batch", 1): lambda x: standardize(x, *moments(x, (0, 2))),
    ("layer", 1): lambda x: torch.nn.functional.layer_norm(x, (4, 4)),
    ("place", 1): lambda x: torch.nn.functional.layer_norm(x.transpose(1, 2), (4,)).transpose(1, 2),
    ("instance", 1): lambda x: torch.nn.functional.instance_norm(x),
    ("group", 1): lambda x: torch.nn.functional.group_norm(x, 1),
    ("group", 2): lambda x: torch.nn.functional.group_norm(x, 2),
    ("group", 4): lambda x: torch.nn.functional.group_norm(x, 4),
    ("rms", 1): lambda x: torch.nn.functional.rms_norm(x, (4, 4), eps=1e-5),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of a folder with the figure in both editions, and the modules."""
    folder = tmp_path_factory.mktemp("norms")
    names = dict.fromkeys(["norm", "groups", "far", *CELLS])
    html = figure(module="norms", name="cells", controls=names, goals=GOALS)
    with standing(folder, both_editions("norms", html)) as address:
        yield address


@pytest.fixture
def reader(browser, pages):  # noqa: F811
    return Reader(browser, pages)


def chips(reader):
    return reader.browser.find_elements("css selector", ".panel [role=slider]")


def lit(reader):
    """The numbers of the cells that are lit, counted from 0."""
    reader.settle()
    backs = "document.querySelectorAll('svg.drawing rect[rx]')"
    return reader.run(f"return [...{backs}].flatMap((node, i) => node.style.fill === 'transparent' ? [] : [i])")


# ---- the mathematics, against torch


@pytest.mark.parametrize(("norm", "groups"), FORMULAS)
def test_every_norm_is_that_of_torch_forward_and_back(reader, norm, groups):
    draw = torch.Generator().manual_seed(0)
    x = 20 * torch.rand(60, 2, 4, 4, generator=draw, dtype=torch.float64)
    x[:10, 0, 3] = 8  # a channel without contrast
    given = torch.randn(60, 2, 4, 4, generator=draw, dtype=torch.float64)
    reader.opens("blank.html", starts=False)
    script = f"""const ids = M.sets("{norm}", {groups}), g = {given.flatten(1).tolist()};
        return {x.flatten(1).tolist()}.map((x, i) => {{
          const made = M.forward(x, ids, {str(norm != "rms").lower()});
          return [made.hats, M.backward(g[i], made)];
        }})"""
    found = numbers(from_module(reader, script, "norms"))
    for one, gradient, (hats, back) in zip(x, given, found, strict=True):
        leaf = one.clone().requires_grad_()
        out = FORMULAS[norm, groups](leaf)
        torch.testing.assert_close(hats, out.detach().flatten(), rtol=1e-9, atol=1e-9)
        (wanted,) = torch.autograd.grad(out, leaf, gradient)
        torch.testing.assert_close(back, wanted.flatten(), rtol=1e-7, atol=1e-7)  # ε alone where nothing varies


def test_both_variances_round_as_float32_does(reader):
    draw = torch.Generator().manual_seed(1)
    x = torch.cat([offset + 20 * torch.rand(60, 16, generator=draw) for offset in (0, 10_000, 40_000)])
    x[0, :4] = 10_000 + torch.arange(1.0, 5.0)

    reader.opens("blank.html", starts=False)
    for numbers_ in (x, x[:, :4]):
        middle = mean(numbers_)
        two = mean((numbers_ - middle[:, None]) ** 2)
        wanted = torch.stack([mean(numbers_ * numbers_) - middle * middle, two], dim=1)
        found = numbers(from_module(reader, f"return {numbers_.tolist()}.map(M.single)", "norms"))
        torch.testing.assert_close(found, wanted.double(), rtol=0, atol=0)
    assert found[0].tolist() == [-8, 1.25]


# ---- what a reader does


def test_a_click_lights_the_cells_that_share_a_mean(reader):
    reader.opens("norms.html")
    assert "shares its mean with the 8 lit cells. μ = 6.5, σ² = 17.3, so x̂ = −0.6" in reader.text()
    assert lit(reader) == [0, 1, 2, 3, 16, 17, 18, 19]
    chips(reader)[25].click()
    assert lit(reader) == [8, 9, 10, 11, 24, 25, 26, 27]
    assert reader.slider("x232").is_displayed()
    assert not reader.slider("x114").is_displayed()


@pytest.mark.parametrize(
    ("norm", "cells", "hat"),
    [
        ("layer", list(range(16)), "−0.42"),
        ("instance", [0, 1, 2, 3], "1.34"),
        ("group", list(range(8)), "0.33"),
        ("place", [3, 7, 11, 15], "−1.51"),
        ("rms", list(range(16)), "0.72"),
    ],
)
def test_the_numbers_of_the_chapter_stand_there(reader, norm, cells, hat):
    reader.opens(f"norms.html#cells?norm={norm}")
    assert lit(reader) == cells
    assert f"so x̂ = {hat}." in reader.text()
    assert reader.find("select[id$='-groups']").is_displayed() == (norm == "group")


def test_a_number_is_dragged_by_mouse_finger_and_keys(reader):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    reader.opens("norms.html")
    cells = chips(reader)
    said = [cell.get_attribute("aria-valuetext") for cell in cells]
    reader.press(cells[3], Keys.UP, Keys.UP)
    assert cells[3].get_attribute("aria-valuenow") == "5"
    moved = [i for i, cell in enumerate(cells) if cell.get_attribute("aria-valuetext") != said[i]]
    assert moved == [0, 1, 2, 3, 16, 17, 18, 19]  # one channel of both samples
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(cells[3], 60, 0).perform()
    reader.settle()
    assert float(cells[3].get_attribute("aria-valuenow")) == pytest.approx(10, abs=0.2)
    finger = ActionBuilder(reader.browser, mouse=PointerInput(POINTER_TOUCH, "finger"), duration=50)
    finger.pointer_action.move_to(cells[5]).pointer_down().move_by(0, -60).pointer_up()
    finger.perform()
    reader.settle()
    assert float(cells[5].get_attribute("aria-valuenow")) > 7


def test_far_from_zero_is_told_and_a_goal_is_reached(reader):
    reader.opens("norms.html#cells?norm=instance&far=true")
    assert "is 1.25 in two passes and −8 in one pass. A negative variance has no root" in reader.text()
    reader.opens("norms.html#cells?norm=rms&far=true")
    assert "all outputs are nearly 1" in reader.text()
    reader.opens("norms.html#cells?norm=instance")
    reader.find("input[id$='-far']").click()
    reader.settle()
    reached = reader.run(
        "return [...document.querySelectorAll('.goals li')].map((n) => n.classList.contains('reached'))"
    )
    assert reached == [False, True]


@pytest.mark.parametrize("path", ["norms", "norms-zh"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_cells_fit_and_are_accessible(reader, path, width):
    ends = "&".join(f"{name}={value}" for name, value in zip(CELLS, [0, 19.9, 20, 19.9] * 8, strict=True))
    reader.opens(f"{path}.html#cells?norm=group&far=true&{ends}", size=(width, 900))
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    panel = reader.find(".panel").rect
    places = [chip.rect for chip in chips(reader)]
    assert len(places) == 32
    for i, place in enumerate(places):
        assert panel["x"] <= place["x"]
        assert place["x"] + place["width"] <= panel["x"] + panel["width"]
        if i % 2:  # beside its neighbour
            assert places[i - 1]["x"] + places[i - 1]["width"] <= place["x"]
    texts = reader.run(
        """const boxes = [...document.querySelectorAll("svg.drawing text")].map((node) => node.getBoundingClientRect());
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) =>
          a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3))"""
    )
    assert texts == []
    assert reader.violations() == []
    assert complaints(reader.browser) == []
