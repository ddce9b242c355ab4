"""The kernel that becomes nine heads, in the page, against torch."""

import math
from itertools import pairwise

import matplotlib.pyplot as plt
import pytest
import torch
from sklearn.datasets import load_digits
from test_book_site import browser  # noqa: F401
from test_live_page import Reader, both_editions, figure, from_module, numbers, standing
from torch.nn import functional as F

pytestmark = pytest.mark.slow

NAMES = [*(f"w{i}" for i in range(1, 10)), "alpha", "cut"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    html = figure(module="kernel", name="kernel", controls=dict.fromkeys(NAMES), picture=plt.figure(figsize=(5, 4)))
    with standing(folder, both_editions("kernel", html)) as address:
        yield address


@pytest.fixture
def reader(browser, pages):  # noqa: F811
    return Reader(browser, pages)


def by_heads(image, kernel, alpha, cut=0):
    """Nine heads over the padded image, in float64."""
    x = F.pad(image, (1, 1, 1, 1))
    at = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0)).double()
    ask = torch.cartesian_prod(torch.arange(1.0, 9), torch.arange(1.0, 9)).double()
    shifts = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2)).double()
    delta = at - ask[:, None]  # (64, 100, 2)
    scores = -alpha * (delta - shifts[:, None, None]).square().sum(-1)
    keep = torch.arange(9) + 1 != cut
    return ((scores.softmax(-1) @ x.flatten()).T @ (kernel.flatten() * keep)).reshape(8, 8)


def test_attention_and_convolution_are_those_of_torch(reader):
    draw = torch.Generator().manual_seed(0)
    reader.opens("blank.html", starts=False)
    for alpha, cut in ((0.05, 0), (1, 3), (20, 0), (100, 9)):
        images = torch.rand(20, 8, 8, generator=draw, dtype=torch.float64)
        kernels = torch.randn(20, 3, 3, generator=draw, dtype=torch.float64)
        cases = f"{images.flatten(1).tolist()}.map((x, i) => [x, {kernels.flatten(1).tolist()}[i]])"
        script = f"return {cases}.map(([x, k]) => [M.attention(x, k, {alpha}, {cut}), M.convolution(x, k)])"
        found = numbers(from_module(reader, script, "kernel")).reshape(20, 2, 8, 8)
        slid = torch.stack(
            [F.conv2d(x[None], k[None, None], padding=1)[0] for x, k in zip(images, kernels, strict=True)]
        )
        looked = torch.stack([by_heads(x, k, alpha, cut) for x, k in zip(images, kernels, strict=True)])
        torch.testing.assert_close(found[:, 1], slid, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[:, 0], looked, rtol=1e-10, atol=1e-12)
        if alpha >= 20 and not cut:
            assert (found[:, 0] - found[:, 1]).abs().max() < 1e-5


def test_the_image_is_a_digit(reader):
    reader.opens("blank.html", starts=False)
    found = numbers(from_module(reader, "return M.IMAGE", "kernel"))
    torch.testing.assert_close(found, torch.tensor(load_digits().data[4] / 16))
    assert math.isclose(found.max(), 1)


def heads(reader):
    return reader.browser.find_elements("css selector", ".panel [role=slider]")


def test_a_weight_is_dragged_by_mouse_by_finger_and_by_keys(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("kernel.html")
    weight = heads(reader)[4]
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(weight, 40, 0).perform()
    reader.settle()
    dragged = float(weight.get_attribute("aria-valuenow"))
    assert 0.1 < dragged <= 2
    reader.press(weight, Keys.LEFT)
    assert math.isclose(float(weight.get_attribute("aria-valuenow")), dragged - 0.1, abs_tol=0.011)
    weight = heads(reader)[1]
    box = weight.rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, right in (("touchStart", 0), ("touchMove", 15), ("touchMove", 30), ("touchEnd", None)):
        points = [] if right is None else [{"x": x + right, "y": y}]
        reader.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    reader.settle()
    assert float(weight.get_attribute("aria-valuenow")) > 0.1
    assert reader.slider("w2").is_displayed()
    assert not reader.slider("w5").is_displayed()


def test_sharp_heads_are_the_convolution_and_a_cut_head_is_missed(reader):
    reader.opens("kernel.html#kernel?alpha=100")
    assert "difference between attention and convolution is 0." in reader.text() or "×10⁻" in reader.text()
    reader.opens("kernel.html#kernel?alpha=100&cut=6")
    assert "Head 6 is cut" in reader.text()
    assert "convolution is 2." in reader.text()  # the weight 2 times the brightest pixel, 1


@pytest.mark.parametrize("path", ["kernel", "kernel-zh"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_kernel_fits(reader, path, width):
    reader.opens(f"{path}.html#kernel?w1=-1.99&w9=-1.99", size=(width, 900))
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    panel = reader.browser.find_element("css selector", ".panel").rect
    for head in heads(reader):
        assert panel["x"] <= head.rect["x"]
        assert head.rect["x"] + head.rect["width"] <= panel["x"] + panel["width"]
        assert head.rect["y"] + head.rect["height"] <= panel["y"] + panel["height"]
    boxes = [head.rect for head in heads(reader)]
    assert all(a["x"] + a["width"] <= b["x"] for a, b in pairwise(boxes) if a["y"] == b["y"])


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("path", ["kernel", "kernel-zh"])
def test_the_kernel_is_accessible(reader, path, colours):
    for state in ("", "#kernel?cut=6&w5=-1.5&alpha=20"):
        reader.opens(f"{path}.html{state}", size=(390, 800), colours=colours)
        reader.run("document.documentElement.dataset.theme = arguments[0]", colours)
        assert reader.violations() == []
