"""The clock hands of positions: their numbers are torch's, and a reader drags, types and reads them.

Needs Chromium and its driver, as the other live figures do.
"""

import pytest
import torch
from test_book_site import browser, complaints  # noqa: F401
from test_live_page import Reader, both_editions, figure, from_module, numbers, standing

from dlnotes.positions import rotate, sinusoidal

GOALS = [({"turned": (None, -0.5)}, "A negative score.", "得分为负。")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("positions")
    controls = {"t": None, "k": None, "base": None}
    hands = figure({"base": 100}, module="positions", name="hands", controls=controls, goals=GOALS)
    with standing(folder, both_editions("positions", hands)) as address:
        yield address


@pytest.fixture
def reader(browser, pages):  # noqa: F811
    return Reader(browser, pages)


def test_hands_are_the_packages(reader):
    far = 1000 * torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = torch.cat([torch.arange(61), far])
    reader.opens("blank.html", starts=False)
    for width, base in ((2, 100.0), (8, 10_000.0), (10, 7.5)):
        script = f"return {places.tolist()}.map((t) => M.encode(t, {width}, {base}))"
        wanted = sinusoidal(places, width, base, dtype=torch.float64)
        torch.testing.assert_close(numbers(from_module(reader, script, "positions")), wanted, rtol=0, atol=1e-11)


def test_scores_are_those_of_torch(reader):
    draw = torch.Generator().manual_seed(1)
    n, width = 300, 8
    queries, keys = torch.randn(2, n, width, generator=draw, dtype=torch.float64)
    t, k = torch.randint(0, 61, (n,), generator=draw), torch.randint(-12, 13, (n,), generator=draw)
    reader.opens("blank.html", starts=False)
    for base in (2.0, 100.0, 10_000.0):
        script = f"""const q = {queries.tolist()}, key = {keys.tolist()}, t = {t.tolist()}, k = {k.tolist()};
            return q.map((one, i) => {{
              const found = M.scores(one, key[i], t[i], k[i], {base});
              return [found.added, found.turned, ...M.turn(one, t[i], {base})];
            }})"""
        found = numbers(from_module(reader, script, "positions"))
        turned = rotate(queries, t, base), rotate(keys, t + k, base)
        places = [sinusoidal(at, width, base, dtype=torch.float64) for at in (t, t + k)]
        added = ((queries + places[0]) * (keys + places[1])).sum(1)
        wanted = torch.stack([added, (turned[0] * turned[1]).sum(1)], dim=1) / width**0.5
        torch.testing.assert_close(found, torch.cat([wanted, turned[0]], dim=1), rtol=0, atol=1e-11)


def hands_of(reader):
    return reader.browser.find_elements("css selector", ".panel [role=slider]")


def test_both_places_are_dragged_and_the_rotary_score_stays(reader):
    from selenium.webdriver import ActionChains, Keys

    def scores():
        return reader.text().split("score is ")[1].split(" by rotary")[0].split(" by added positions, ")

    reader.opens("positions.html")
    assert "The query stands at 5, the key at 8" in reader.text()
    place, distance = hands_of(reader)
    added, turned = scores()
    reader.press(place, Keys.RIGHT, Keys.UP)
    assert "The query stands at 7, the key at 10" in reader.text()
    assert scores()[1] == turned
    assert scores()[0] != added
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(place, 120, 0).perform()
    assert 10 < float(place.get_attribute("aria-valuenow")) < 60
    assert float(place.get_attribute("aria-valuenow")) % 1 == 0
    assert distance.get_attribute("aria-valuenow") == "3"
    assert scores()[1] == turned
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(distance, 60, 0).perform()
    assert float(distance.get_attribute("aria-valuenow")) > 3
    assert reader.slider("k").is_displayed()
    assert not reader.slider("t").is_displayed()
    assert scores()[1] != turned


def test_a_finger_drags_and_keys_reach_the_ends(reader):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    reader.opens("positions.html", size=(390, 900))
    place, distance = hands_of(reader)
    reader.press(distance, Keys.HOME)
    assert distance.get_attribute("aria-valuenow") == "-12"
    reader.press(distance, Keys.END)
    assert "the key at 17" in reader.text()
    finger = ActionBuilder(reader.browser, mouse=PointerInput("touch", "finger"))
    finger.pointer_action.move_to(place).pointer_down()
    finger.pointer_action.move_by(60, 0).pointer_up()
    finger.perform()
    reader.settle()
    assert float(place.get_attribute("aria-valuenow")) > 10
    ActionChains(reader.browser).reset_actions()


def test_a_link_sets_it_and_a_goal_is_seen(reader):
    from selenium.webdriver import Keys

    reader.opens("positions.html#hands?t=20&k=-2&base=10000")
    assert "The query stands at 20, the key at 18" in reader.text()
    reader.opens("positions.html")
    assert not reader.browser.find_elements("css selector", ".goals .reached")
    reader.press(hands_of(reader)[1], *6 * [Keys.LEFT])
    assert "−0.76 by rotary" in reader.text()
    assert reader.browser.find_elements("css selector", ".goals .reached")


@pytest.mark.parametrize("path", ["positions", "positions-zh"])
@pytest.mark.parametrize(("width", "colours"), [(390, "light"), (1440, "dark")])
def test_it_fits_and_is_accessible(reader, path, width, colours):
    for place in ("t=0&k=-12", "t=60&k=12", "t=30&k=0"):
        reader.opens(f"{path}.html#hands?{place}&base=100", size=(width, 900), colours=colours)
        reader.settle()
        assert reader.run("return document.documentElement.scrollWidth") <= width
        panel = reader.browser.find_elements("css selector", ".panel")[1].rect
        for hand in hands_of(reader):
            assert panel["x"] <= hand.rect["x"]
            assert hand.rect["x"] + hand.rect["width"] <= panel["x"] + panel["width"]
    assert not reader.violations()
    assert not complaints(reader.browser)
