"""The figure of what still arrives from the past, in a browser: its numbers are autograd's, and a reader can use it.

Needs Chromium and its driver, as the tests of the site do.
"""

import random

import pytest
import torch
from test_book_site import browser  # noqa: F401
from test_live_page import Reader, both_editions, figure, from_module, numbers, standing

NAMES = ("token", "n", "w", "bias", "score")
GOALS = [({"distance": (15, None), "gate": (0.95, None)}, "Let 95 per cent arrive.", "让 95% 到达。")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("through_time")
    one = figure(module="through_time", name="past", controls=dict.fromkeys(NAMES), goals=GOALS)
    with standing(folder, both_editions("past", one)) as address:
        yield address


@pytest.fixture
def reader(browser, pages):  # noqa: F811
    return Reader(browser, pages)


def by_autograd(n, token, w, bias, score):
    """What reaches token `token` of n, from 1, in the three designs run as they are written."""
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    keep = torch.full((n,), bias, dtype=torch.float64).sigmoid()
    keep[token - 1] = 0  # the gate is open to this one
    h = state = torch.zeros((), dtype=torch.float64)
    for x_t, z_t in zip(x, keep, strict=True):
        h = w * h + x_t
        state = z_t * state + (1 - z_t) * x_t
    scores = torch.zeros(n, dtype=torch.float64)
    scores[token - 1] = score
    heard = scores.softmax(0) @ x
    return [torch.autograd.grad(y, x)[0][token - 1] for y in (h, state, heard)]


def test_what_arrives_is_what_autograd_says(reader):
    draw = random.Random(0)
    cases = []
    for _ in range(300):
        n = draw.randint(2, 16)
        values = draw.uniform(-1.5, 1.5), draw.uniform(-2, 8), draw.uniform(-2, 10)
        cases.append((n, draw.randint(1, n - 1), *values))
    reader.opens("blank.html", starts=False)
    script = f"""return {[list(case) for case in cases]}.map(([n, token, w, bias, score]) => {{
        const found = M.reach({{n, token, w, bias, score}});
        return [found.distance, found.rnn, found.gate, found.attention];
    }})"""
    found = numbers(from_module(reader, script, "through_time"))
    wanted = torch.tensor([[n - token, *by_autograd(n, token, *rest)] for n, token, *rest in cases]).double()
    exact = torch.stack([torch.stack(by_autograd(*case)) for case in cases])
    assert found[:, 0].tolist() == wanted[:, 0].tolist()
    torch.testing.assert_close(found[:, 1:], exact, rtol=1e-10, atol=1e-300)


def test_the_example_on_paper_and_a_token_beyond_the_end(reader):
    reader.opens("blank.html", starts=False)
    script = "return M.reach({n: 4, token: 1, w: 0.5, bias: 0, score: 0}).chains[0]"
    assert numbers(from_module(reader, script, "through_time")).tolist() == [1, 0.5, 0.25, 0.125]
    script = "return M.reach({n: 4, token: 9, w: 0.5, bias: 0, score: 0}).at"
    assert numbers(from_module(reader, script, "through_time")) == 3


def handle(reader):
    return reader.find(".panel [role=slider]")


def test_the_token_is_moved_by_keys_mouse_and_finger(reader):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    reader.opens("past.html")
    assert "From token 16 back to token 4, distance 12" in reader.text()
    reader.press(handle(reader), Keys.RIGHT, Keys.RIGHT)
    assert "back to token 6, distance 10" in reader.text()
    reader.press(handle(reader), Keys.END)
    assert "back to token 15, distance 1:" in reader.text()
    reader.press(handle(reader), Keys.HOME)
    assert handle(reader).get_attribute("aria-valuenow") == "1"
    step = reader.find(".panel").rect["width"] / 16
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(handle(reader), round(5 * step), 0).perform()
    assert "back to token 6," in reader.text()
    touch = PointerInput("touch", "finger")
    finger = ActionBuilder(reader.browser, mouse=touch, duration=50)
    finger.pointer_action.move_to(handle(reader)).pointer_down().move_by(round(3 * step), 0).pointer_up()
    finger.perform()
    assert "back to token 9," in reader.text()


def test_a_click_picks_a_token(reader):
    from selenium.webdriver import ActionChains

    reader.opens("past.html")
    panel = reader.find(".panel")
    away = round((10.5 / 16 - 0.5) * (panel.rect["width"] - 24))
    ActionChains(reader.browser).move_to_element_with_offset(panel, away, 0).click().perform()
    assert "back to token 11," in reader.text()


def test_a_gradient_vanishes_explodes_and_a_goal_is_reached(reader):
    from selenium.webdriver import Keys

    reader.opens("past.html#past?token=1&w=0.5&bias=3&score=4")
    assert "the gradient has vanished" in reader.text()
    reader.opens("past.html#past?token=1&w=1.5&bias=3&score=4")
    assert "the gradient explodes" in reader.text()
    reader.press(reader.slider("bias"), Keys.END)
    assert reader.find(".goals li").get_attribute("class") == "reached"
    assert "0.995" in reader.text()


@pytest.mark.parametrize("path", ["past", "past-zh"])
@pytest.mark.parametrize(("width", "colours"), [(390, "light"), (1440, "dark")])
def test_the_figure_fits_and_is_accessible(reader, path, width, colours):
    reader.opens(f"{path}.html#past?token=1&w=-1.37&bias=-1.93&score=-1.7", size=(width, 900), colours=colours)
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    out = """const box = document.querySelector(".panel").getBoundingClientRect();
        return [...document.querySelectorAll(".panel text, .panel circle, .panel rect")].filter((node) => {
          const at = node.getBoundingClientRect();
          return at.left < box.left || at.right > box.right || at.top < box.top || at.bottom > box.bottom;
        }).map((node) => node.outerHTML)"""
    assert reader.run(out) == []
    assert reader.violations() == []
