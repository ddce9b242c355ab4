"""Live figures in a browser: their mathematics against torch, and what a reader does with them.

Needs Chromium and its driver, as the tests of the site do.
"""

import ast
import json
import math
import random
import re
import shutil
import textwrap
from contextlib import contextmanager

import matplotlib.pyplot as plt
import outputs
import pytest
import torch
from test_book_site import (  # noqa: F401
    axe_source,
    browser,
    complaints,
    requests,
    resize,
    scheme,
    serving,
    wait_until,
)

from dlnotes import plot
from dlnotes.figures.live import FAILED, MODULES

METHODS = ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"]
WEIGHTS = ["w11", "w12", "b1", "w21", "w22", "b2", "v1", "v2", "c"]
GIVEN = [*WEIGHTS, "x1", "x2", "t"]  # what a reader sets in the graph of a network
SPOKEN = [*(f"word{i}" for i in range(1, 9)), "scaled"]  # what a reader sets in the sentence of the attention
SAMPLES = ["x1", "x2", "x3", "x4"]  # and in the batch of batch norm
SMALLER = [({"one": (None, -1)}, "A negative variance.", "方差为负。")]


def families():
    """Queries, keys and values of 24 words, by hand: a young word (every third) looks for its parents, kind by kind."""
    kind, role = torch.arange(24) // 3, torch.arange(24) % 3
    one = torch.nn.functional.one_hot(kind, 16).double()
    queries, keys = 20 * one * (role == 0)[:, None], one * (role != 0)[:, None]
    values = torch.tensor([0.0, 1.0, -1.0])[role]
    return {"queries": queries.flatten().tolist(), "keys": keys.flatten().tolist(), "values": values.tolist()}


FAMILIES = families()

# ---- pages


def figure(start=None, **change):
    arguments = {
        "module": "valley", "start": start or {}, "name": "try",
        "controls": {"eta": (0.002, 0.5), "kappa": None, "method": METHODS[:3], "mu": None},
        "picture": plt.figure(figsize=(5, 4)), "en": "A valley.", "zh": "一道山谷。",
    } | change  # fmt: skip
    return plot.live(**arguments).html


def edition(html, lang, seen):
    return outputs.on_a_page(outputs.strip_other_languages(html, lang), seen)


def document(*parts, lang="en", head=""):
    style = "<link rel=stylesheet href=course.css>"
    return (
        f'<!DOCTYPE html><html lang="{lang}"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Live</title>'
        f"{head}{style}</head><body><main style='padding:0 1rem'><h1>Live</h1>{''.join(parts)}</main></body></html>"
    )


@contextmanager
def standing(folder, texts):
    """The address of pages, {name: text}, that stand in a folder with the modules and the style."""
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    shutil.copytree(MODULES, folder / "modules")
    shutil.copy(MODULES.parents[2] / "book" / "_static" / "course.css", folder)
    with serving(folder) as host:
        yield f"{host}/"


def both_editions(name, html):
    """Texts of pages for one figure: a blank one, and the figure in both editions, as `name` and `name-zh`."""
    pages = {"blank": document()}
    for path, lang, page in ((name, "en", "en"), (f"{name}-zh", "zh", "zh-CN")):
        pages[path] = document(edition(html, lang, set()), lang=page)
    return pages


GOALS = [({"arrival": (None, 60)}, "Reach the star in 60 steps.", "60 步之内到星号。")]
RATES = [0.03, 0.013, 0.018, 1.3, 0.1, 0.24]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of a folder with pages as the book, a notebook and a strict host would show them."""
    folder = tmp_path_factory.mktemp("live")
    seen = set()
    first = edition(figure({"steps": 100}, goals=GOALS), "en", seen)
    controls = {"factor": None, "turn": None}
    race = figure({"method": "race", "rates": RATES, "steps": 100}, name="race", controls=controls)
    second = edition(race, "en", seen)
    notebook = figure() + figure()  # an output that JupyterLab shows twice
    off = [({"loss": (None, 0.01)}, "Nearly right.", "几乎正确。"), ({"off": (2, None)}, "All off.", "全关。")]
    graph = figure(module="graph", name="net", controls=dict.fromkeys(GIVEN), goals=off)
    tied = [({"tie": True}, "Both are here.", "父母都在。"), ({"far": True}, "Far apart.", "离得远。")]
    heard = figure({**FAMILIES, "word7": 0}, module="attention", name="att", controls=dict.fromkeys(SPOKEN), goals=tied)
    asked = figure({"eta": 0.07, "reveal": False}, controls={"eta": (0.002, 0.5), "reveal": None})
    samples = [*SAMPLES, "asked", "far"]
    four = figure(module="batch", name="four", controls=dict.fromkeys(samples), goals=SMALLER)
    strict = "<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline'\">"
    texts = {
        "book": document(first, "<div style='height:150vh'></div>", second),
        "zh": document(edition(figure(goals=GOALS), "zh", set()), lang="zh-CN"),
        "notebook": document(notebook),
        "strict": document(edition(figure(), "en", set()), head=strict),
        "asked": document(edition(asked, "en", set())),
        "blank": document(),
        "graph": document(edition(graph, "en", set())),
        "graph-zh": document(edition(graph, "zh", set()), lang="zh-CN"),
        "attention": document(edition(heard, "en", set())),
        "attention-zh": document(edition(heard, "zh", set()), lang="zh-CN"),
        "batch": document(edition(four, "en", set())),
        "batch-zh": document(edition(four, "zh", set()), lang="zh-CN"),
    }
    with standing(folder, texts) as address:
        for language, text in contributed("js", "json"):  # the example of CONTRIBUTING.md stands among the modules
            (folder / "modules" / f"softmax.{language}").write_text(text, encoding="utf-8")
        yield address


def contributed(*languages):
    """The blocks of code in CONTRIBUTING.md's example of a live figure, as (language, code); in English they begin."""
    text = (MODULES.parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text[text.index("### Make an interactive figure") :]
    blocks = re.findall(r"^ {3}```(\w+)\n(.*?)^ {3}```", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks[:4] == blocks[4:]  # both languages show the same code
    return [(language, textwrap.dedent(code)) for language, code in blocks[:4] if language in languages]


class Reader:
    """A page, open in the browser, and the hands of its reader."""

    def __init__(self, browser, address):  # noqa: F811
        self.browser, self.address = browser, address

    def opens(self, path, *, size=(1280, 900), colours="light", starts=True):
        resize(self.browser, size)
        scheme(self.browser, colours)
        self.browser.get("about:blank")
        complaints(self.browser), requests(self.browser)
        self.browser.get(self.address + path)
        if starts:
            wait_until(lambda: self.run("return !!document.querySelector('.dln-lab .text')?.textContent"), "the figure")
        return self

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def settle(self):
        """Wait for two frames: a change is drawn in the next one."""
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def violations(self):
        """What axe finds on the page."""
        self.run(axe_source())
        return self.browser.execute_async_script("""const done = arguments[0];
            axe.run({resultTypes: ["violations"]}).then((result) => done(
              result.violations.map((fault) => [fault.id, fault.nodes[0].html, fault.nodes[0].failureSummary])))""")

    def text(self, selector=".text"):
        self.settle()
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def line(self):
        self.settle()
        return self.run(
            "return document.querySelector('.dln-lab svg.drawing > path[style*=\"--vermilion\"]')?.outerHTML"
        )

    def slider(self, name):
        return self.find(f".dln-lab input[id$='-{name}']")

    def press(self, node, *keys):
        node.send_keys(*keys)
        self.settle()

    def button(self, icon):
        return self.find(f".dln-lab .row button:nth-of-type({['play', 'step', 'reset', 'link'].index(icon) + 1})")


@pytest.fixture
def reader(browser, pages):  # noqa: F811
    return Reader(browser, pages)


def from_module(reader, script, module="valley"):
    """What an expression says where `M` is the module: numbers come as text, since JSON has no infinity."""
    answer = reader.browser.execute_async_script(
        """const [address, script, done] = arguments;
        const plain = (x) => typeof x === "number" ? String(x) : ArrayBuffer.isView(x) || Array.isArray(x)
          ? Array.from(x, plain) : x;
        import(address).then((M) => done(plain(new Function("M", script)(M))))
          .catch((error) => done({error: `${error}`}))
        """,
        f"{reader.address}modules/{module}.js", script,
    )  # fmt: skip
    assert not isinstance(answer, dict), answer
    return answer


def numbers(answer):
    """Text of JavaScript's numbers as a tensor."""
    if isinstance(answer, str):
        return torch.tensor(float(answer.replace("Infinity", "inf")), dtype=torch.float64)
    return torch.stack([numbers(one) for one in answer])


# ---- the mathematics, against torch


def valley(kappa, turn, theta):
    """½ zᵀ Q diag(1, κ) Qᵀ z, written with matrices."""
    angle = math.radians(turn)
    q = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    return theta @ q @ torch.diag(torch.tensor([1.0, kappa], dtype=torch.float64)) @ q.T @ theta / 2


def torch_optimizer(parameter, values):
    eta, mu, beta = values["eta"], values["mu"], values["beta"]
    return {
        "gd": lambda: torch.optim.SGD([parameter], lr=eta),
        "momentum": lambda: torch.optim.SGD([parameter], lr=eta, momentum=mu),
        "nesterov": lambda: torch.optim.SGD([parameter], lr=eta, momentum=mu, nesterov=True),
        "adagrad": lambda: torch.optim.Adagrad([parameter], lr=eta),
        "rmsprop": lambda: torch.optim.RMSprop([parameter], lr=eta, alpha=beta),
        "adam": lambda: torch.optim.Adam([parameter], lr=eta, betas=(mu, beta)),
    }[values["method"]]()


def told(values):
    return lambda message: f"{values}: {message}"


def settings(draw, method, **fixed):
    return {
        "method": method, "eta": 10 ** draw.uniform(-3, 0.4), "mu": 1 - 10 ** -draw.uniform(0.05, 2),
        "beta": 1 - 10 ** -draw.uniform(0.05, 3), "kappa": 10 ** draw.uniform(0, 3), "turn": draw.uniform(0, 90),
        "decay": False, "noise": 0, "x": draw.uniform(-5.5, 5.5), "y": draw.uniform(-4.4, 4.4), "steps": 30,
    } | fixed  # fmt: skip


def test_walks_are_those_of_torch(reader):
    draw = random.Random(0)
    cases = [settings(draw, method) for method in METHODS for _ in range(40)]
    reader.opens("blank.html", starts=False)
    walked = numbers(from_module(reader, f"return {json.dumps(cases)}.map(M.walk)")).reshape(len(cases), 31, 2)
    for values, path in zip(cases, walked, strict=True):
        theta = torch.tensor([values["x"], values["y"]], dtype=torch.float64, requires_grad=True)
        optimizer = torch_optimizer(theta, values)
        for t in range(31):
            torch.testing.assert_close(path[t], theta.detach(), rtol=1e-9, atol=1e-9, msg=told(values))
            optimizer.zero_grad()
            valley(values["kappa"], values["turn"], theta).backward()
            optimizer.step()


def test_losses_and_gradients_are_those_of_torch(reader):
    draw = random.Random(1)
    cases = [settings(draw, "gd") for _ in range(300)]
    reader.opens("blank.html", starts=False)
    answer = from_module(
        reader, f"return {json.dumps(cases)}.map((v) => [M.loss(v, v.x, v.y), ...M.gradient(v, v.x, v.y)])"
    )
    for values, found in zip(cases, numbers(answer), strict=True):
        theta = torch.tensor([values["x"], values["y"]], dtype=torch.float64, requires_grad=True)
        loss = valley(values["kappa"], values["turn"], theta)
        loss.backward()
        wanted = torch.stack([loss.detach(), *theta.grad])
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_one_equation_is_the_chapters_with_its_noise_and_its_schedule(reader):
    draw = random.Random(2)
    cases = [
        settings(draw, "equation", decay=draw.random() < 0.5, noise=draw.choice([0, 3.0]),
                 beta=draw.choice([0, 0.9, 0.999]), eta=10 ** draw.uniform(-3, -1))
        for _ in range(100)
    ]  # fmt: skip
    reader.opens("blank.html", starts=False)
    walked = numbers(from_module(reader, f"return {json.dumps(cases)}.map(M.walk)")).reshape(len(cases), 31, 2)
    noises = numbers(from_module(reader, "return M.normals(60)")).reshape(30, 2)
    for values, path in zip(cases, walked, strict=True):
        theta = torch.tensor([values["x"], values["y"]], dtype=torch.float64)
        past = []
        for t in range(30):
            at = theta.clone().requires_grad_()
            (g,) = torch.autograd.grad(valley(values["kappa"], values["turn"], at), at)
            past.append(g + values["noise"] * noises[t])
            ages = torch.arange(t, -1, -1, dtype=torch.float64)  # the sums written out, not step by step
            weights = values["mu"] ** ages
            m = (weights[:, None] * torch.stack(past)).sum(0) / weights.sum()
            sigma = torch.ones(2, dtype=torch.float64)
            if values["beta"]:
                weights = values["beta"] ** ages
                sigma = ((weights[:, None] * torch.stack(past) ** 2).sum(0) / weights.sum()).sqrt() + 1e-8
            falling = (1 + math.cos(math.pi * t / 30)) / 2 if values["decay"] else 1
            theta = theta - values["eta"] * falling / sigma * m
            torch.testing.assert_close(path[t + 1], theta, rtol=1e-8, atol=1e-8, msg=told(values))


def test_noise_is_normal_and_repeats(reader):
    reader.opens("blank.html", starts=False)
    twice = numbers(from_module(reader, "return [M.normals(4000), M.normals(4000)]"))
    assert torch.equal(*twice)
    assert abs(twice[0].mean()) < 0.05
    assert abs(twice[0].std() - 1) < 0.05
    assert abs((twice[0].abs() < 1).double().mean() - 0.6827) < 0.03


def test_beyond_the_edge_errors_grow_and_below_it_they_shrink(reader):
    draw = random.Random(3)
    cases = [settings(draw, method) for method in METHODS[:3] for _ in range(50)]
    reader.opens("blank.html", starts=False)
    edges = numbers(from_module(reader, f"return {json.dumps(cases)}.map(M.edge)"))
    for values, edge in zip(cases, edges.tolist(), strict=True):
        mu, method = values["mu"], values["method"]
        for share in (0.999, 1.001):
            h = share * edge * values["kappa"]
            step = {"gd": [[1 - h, 0], [0, 0]], "momentum": [[1 + mu - h, -mu], [1, 0]],
                    "nesterov": [[(1 + mu) * (1 - h), -mu * (1 - h)], [1, 0]]}[method]  # fmt: skip
            radius = torch.linalg.eigvals(torch.tensor(step, dtype=torch.float64)).abs().max()
            assert (radius > 1) == (share > 1), values
    none = from_module(
        reader,
        "return ['adagrad', 'rmsprop', 'adam', 'race', 'equation'].map((method) => M.edge({method, mu: 1, kappa: 3}))",
    )
    assert none == [None] * 5


@pytest.mark.parametrize(
    ("path", "step"),
    [([1, 1, 0.5, 0, 0.05, 0, 0, 0], "2"), ([0, 0, 0, 0], "0"), ([0, 0, 0.2, 0], "Infinity"),
     ([1, 0, 0, 0, 9, 9, 0.05, 0.05], "3"), ([0, 0, "NaN", 0], "Infinity")],
)  # fmt: skip
def test_arrival_is_the_step_from_which_on_it_stays(reader, path, step):
    reader.opens("blank.html", starts=False)
    assert from_module(reader, f"return M.arrival({json.dumps(path)}.map(Number))") == step


@pytest.mark.parametrize(
    ("value", "text"),
    [("0.1 + 0.2", "0.3"), ("-1.5", "−1.5"), ("0", "0"), ("-0", "0"), ("1 / 3", "0.333"), ("2.1e9", "2.1×10⁹"),
     ("1e-5", "10⁻⁵"), ("-1e-5", "−10⁻⁵"), ("123456", "1.23×10⁵"), ("99999", "10⁵"), ("0.001", "0.001"),
     ("1 / 0", "∞"), ("-1 / 0", "−∞"), ("NaN", "–")],
)  # fmt: skip
def test_numbers_read_as_a_reader_writes_them(reader, value, text):
    reader.opens("blank.html", starts=False)
    assert from_module(reader, f"return M.number({value})", "live") == text


# ---- a network's graph, against torch


def networks(count, seed=0):
    """Settings of the graph's network, random; in a quarter some are zero, so that units stand at their bend."""
    draw = random.Random(seed)
    wild = [{name: draw.uniform(-3, 3) for name in GIVEN} for _ in range(count)]
    return [{name: 0.0 if i % 4 == 0 and draw.random() < 0.4 else value for name, value in values.items()}
            for i, values in enumerate(wild)]  # fmt: skip


def by_torch(values):
    """What the network computes and all gradients of its loss, by torch."""
    n = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    x, w = torch.stack([n["x1"], n["x2"]]), torch.stack([n[name] for name in ("w11", "w12", "w21", "w22")])
    z = w.view(2, 2) @ x + torch.stack([n["b1"], n["b2"]])
    h = z.relu()
    y = torch.stack([n["v1"], n["v2"]]) @ h + n["c"]
    loss = torch.nn.functional.mse_loss(y, n["t"]) / 2
    made = {"z1": z[0], "z2": z[1], "h1": h[0], "h2": h[1], "y": y, "L": loss}
    inner = torch.autograd.grad(loss, [z, h, y], retain_graph=True)
    grads = dict(zip(GIVEN, torch.autograd.grad(loss, [n[name] for name in GIVEN]), strict=True))
    grads |= {f"{name}{i + 1}": inner[k][i] for k, name in enumerate("zh") for i in range(2)} | {"y": inner[2]}
    return made, grads


def test_values_and_gradients_of_the_graph_are_those_of_torch(reader):
    cases = networks(400)
    reader.opens("blank.html", starts=False)
    made, grads = by_torch(cases[0])
    script = f"""const made = {list(made)}, grads = {list(grads)};
        return {json.dumps(cases)}.map((v) => {{
          const m = M.forward(v), g = M.backward(v, m);
          return [...made.map((name) => m[name]), ...grads.map((name) => g[name])];
        }})"""
    for values, found in zip(cases, numbers(from_module(reader, script, "graph")), strict=True):
        made, grads = by_torch(values)
        wanted = torch.stack([*made.values(), *grads.values()]).detach()
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12, msg=told(values))


def test_the_ways_to_the_loss_multiply_and_add_up_to_the_gradient(reader):
    cases = networks(200, seed=1)
    reader.opens("blank.html", starts=False)
    script = f"""return {json.dumps(cases)}.map((v) => {GIVEN}.map((name) => M.ways(name, v, M.forward(v))
        .map((way) => way.reduce((product, [, slope]) => product * slope, 1)).reduce((a, b) => a + b)))"""
    for values, found in zip(cases, numbers(from_module(reader, script, "graph")), strict=True):
        wanted = torch.stack([by_torch(values)[1][name] for name in GIVEN])
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12, msg=told(values))


def chip(reader, name):
    """The number in the graph that stands for a weight, an input or the target."""
    return next(node for node in reader.browser.find_elements("css selector", ".panel [role=slider]")
                if node.text.startswith(name))  # fmt: skip


def test_a_weight_is_dragged_by_mouse_by_finger_and_by_keys(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("graph.html")
    assert "y = 3, the target 1, the loss L = 2." in reader.text()
    assert "∂L/∂w₁₁ = (y − t) · v₁ · [z₁ > 0] · x₁ = 2 · 2 · 1 · 2 = 8" in reader.text()
    weight = chip(reader, "v₂")
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(weight, 60, 0).perform()
    reader.settle()
    assert weight.get_attribute("aria-valuetext") == "0, ∂L/∂v₂ = 3"  # y = 4: one unit for sixty pixels
    assert "∂L/∂v₂ = (y − t) · h₂ = 3 · 1 = 3" in reader.text()
    bias = chip(reader, "c")
    box = bias.rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, up in (("touchStart", 0), ("touchMove", 15), ("touchMove", 30), ("touchEnd", None)):
        points = [] if up is None else [{"x": x, "y": y - up}]
        reader.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    reader.settle()
    assert bias.get_attribute("aria-valuenow") == "0.5"
    assert "∂L/∂c = (y − t) = 3.5 = 3.5" in reader.text()  # what is held is what is told of
    reader.press(weight, Keys.DOWN, Keys.SHIFT, Keys.DOWN)
    assert weight.get_attribute("aria-valuenow") == "-0.11"
    reader.press(weight, Keys.NULL, Keys.END)
    assert weight.get_attribute("aria-valuenow") == "3"
    assert reader.slider("v2").is_displayed()  # the number at hand has a slider too
    assert not reader.slider("w11").is_displayed()
    assert reader.run("return scrollY") == 0


def test_the_sweep_runs_forward_and_then_back_step_by_step(reader):
    from selenium.webdriver import Keys

    reader.opens("graph.html")
    shown = []
    for _ in range(8):
        reader.press(reader.button("step"), Keys.ENTER)
        shown.append(reader.run(
            "return [...document.querySelectorAll('.panel')].map((p) => p.textContent).join('').match(/[=∂]/g).join('')"
        ))  # fmt: skip
    # Each step shows more: z and h, y, L, then the gradient of y and t, of c, v and h, of z, of w, b and x.
    assert [len(text) for text in shown] == [14, 16, 17, 18, 20, 25, 27, 35]
    assert [text.count("=") for text in shown] == [14, 16, 17, 18, 18, 18, 18, 18]
    reader.press(reader.button("step"), Keys.ENTER)
    assert "Forward: z₁ = w₁₁x₁ + w₁₂x₂ + b₁ = 2" in reader.text()


def test_gradient_descent_in_the_graph_is_that_of_torch_and_reaches_the_goal(reader):
    reader.opens("graph.html#net?c=0.5&x1=1.5")
    start = {"w11": 1, "w12": -1, "b1": 1, "w21": 0.5, "w22": 1, "b2": -1, "v1": 2, "v2": -1, "c": 0.5}
    grads = by_torch({**start, "x1": 1.5, "x2": 1, "t": 1})[1]
    button = next(node for node in reader.browser.find_elements("css selector", "button") if "descent" in node.text)
    button.click()
    reader.settle()
    for name in WEIGHTS:
        value = float(reader.slider(name).get_attribute("value"))
        assert abs(value - (start[name] - 0.02 * grads[name].item())) <= 0.0051, name  # the sliders' grid is 0.01
    for _ in range(20):
        button.click()
        reader.settle()
    assert reader.text(".note") == "Reached: Nearly right."


def test_a_unit_that_is_off_is_told_and_passes_nothing(reader):
    reader.opens("graph.html#net?b1=-3&b2=-3")
    assert "Both units are off" in reader.text()
    assert chip(reader, "w₁₁").get_attribute("aria-valuetext") == "1, ∂L/∂w₁₁ = 0"
    assert chip(reader, "c").get_attribute("aria-valuetext") == "0, ∂L/∂c = −1"
    assert reader.run("return document.querySelectorAll('.panel rect[stroke-dasharray=\"4 3\"]').length") == 2


@pytest.mark.parametrize("path", ["graph", "graph-zh"])
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_graph_fits_and_nothing_lies_over_anything(reader, path, colours, width):
    wide = "&".join(f"{name}=-2.25" for name in GIVEN)
    reader.opens(f"{path}.html#net?{wide}", size=(width, 900), colours=colours)
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    rects = reader.run("""return [...document.querySelectorAll('.panel [role=slider], .panel rect')]
        .map((node) => node.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom])""")
    assert len(rects) == len(GIVEN) + 4
    for i, (left, top, right, bottom) in enumerate(rects):
        assert 8 <= left < right <= width - 8
        assert bottom - top >= 20
        for a, b, c, d in rects[:i]:
            assert min(c, right) - max(a, left) <= 1 or min(d, bottom) - max(b, top) <= 1, (i, rects)
    assert complaints(reader.browser) == []
    assert reader.violations() == []


# ---- a sentence and its attention, against torch


def test_weights_answers_and_entropies_are_those_of_torch(reader):
    draw = torch.Generator().manual_seed(0)
    reader.opens("blank.html", starts=False)
    for case in range(150):
        d = (1, 4, 16)[case % 3]
        count, size = int(torch.randint(1, 9, (), generator=draw)), (0.1, 1.0, 6.0)[case // 50]
        words = torch.randint(0, 24, (count,), generator=draw)
        queries, keys = size * torch.randn(2, 24, d, generator=draw, dtype=torch.float64)
        values = torch.randn(24, generator=draw, dtype=torch.float64)
        for scaled in (True, False):
            setting = {"queries": queries.flatten().tolist(), "keys": keys.flatten().tolist(),
                       "values": values.tolist(), "scaled": scaled}  # fmt: skip
            script = f"""const {{weights, answers}} = M.attend({words.tolist()}, {json.dumps(setting)});
                return [...weights.flat(), ...answers, ...weights.map(M.entropy)]"""
            found = numbers(from_module(reader, script, "attention"))
            q, k, v = (x[words][None] for x in (queries, keys, values[:, None]))
            scale = d**-0.5 if scaled else 1.0
            by_torch = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
            weights = (scale * q[0] @ k[0].T).softmax(1)
            entropies = torch.special.entr(weights).sum(1)
            wanted = torch.cat([weights.flatten(), by_torch.flatten(), entropies])
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_permuted_words_permute_the_weights_and_keep_their_answers(reader):
    draw = random.Random(0)
    reader.opens("blank.html", starts=False)
    setting = json.dumps({**FAMILIES, "scaled": True})
    for _ in range(30):
        words = [draw.randrange(24) for _ in range(8)]
        order = draw.sample(range(8), 8)
        moved = [words[i] for i in order]
        script = """const {weights, answers} = M.attend(%s, %s); return [...weights, answers]"""
        before, after = (numbers(from_module(reader, script % (one, setting), "attention")) for one in (words, moved))
        torch.testing.assert_close(after[:8], before[:8][order][:, order], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(after[8], before[8][order], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("names", "text", "words", "unknown"),
    [
        ("en", "Calf, cow and BULL", [0, 1, 2], ["and"]),
        ("en", "", [], []),
        ("zh", "小牛母牛、公羊 狗", [0, 1, 8], ["狗"]),
        ("both", "calf 小羊", [0, 6], []),
    ],
)
def test_a_typed_sentence_is_read(reader, names, text, words, unknown):
    about = json.loads((MODULES / "attention.json").read_text(encoding="utf-8"))["words"]
    english, chinese = ([about[lang][f"t{i}"] for i in range(24)] for lang in ("en", "zh"))
    joined = [f"{a} · {b}" for a, b in zip(english, chinese, strict=True)]
    given = {"en": english, "zh": chinese, "both": joined}[names]
    assert len(set(given)) == 24
    reader.opens("blank.html", starts=False)
    script = f"return JSON.stringify(M.parse({json.dumps(text)}, {json.dumps(given)}))"
    assert json.loads(from_module(reader, script, "attention")) == [words, unknown]


def spoken(reader):
    """The words of the sentence from top to bottom, with their answers, and that in the order of the nodes."""
    chips = reader.browser.find_elements("css selector", ".panel button")
    assert [chip.rect["y"] for chip in chips] == sorted(chip.rect["y"] for chip in chips)
    return [chip.text.replace("\n", " ") for chip in chips]


def test_words_are_dragged_by_mouse_by_finger_and_by_keys(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("attention.html")
    first = ["calf → +0.95", "ram", "cow", "lamb → −0.97", "foal → −0.97", "stallion"]
    assert spoken(reader) == first
    assert "“calf” gives 0.97 of its attention to “cow”, word 3. It answers +0.95: its mother is here." in reader.text()
    chips = reader.browser.find_elements("css selector", ".panel button")
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(chips[0], 0, 3 * 44).perform()
    reader.settle()
    assert spoken(reader) == [*first[1:4], first[0], *first[4:]]
    assert "to “cow”, word 2" in reader.text()  # what is held is what is told of
    box = reader.browser.find_elements("css selector", ".panel button")[0].rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, down in (("touchStart", 0), ("touchMove", 30), ("touchMove", 5 * 44), ("touchEnd", None)):
        points = [] if down is None else [{"x": x, "y": y + down}]
        reader.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    reader.settle()
    assert spoken(reader) == [*first[2:4], first[0], *first[4:], first[1]]
    active = reader.browser.switch_to.active_element
    assert active.text == "ram"
    reader.press(active, Keys.ARROW_UP)
    assert spoken(reader) == [*first[2:4], first[0], first[4], first[1], first[5]]
    assert reader.browser.switch_to.active_element.text == "ram"
    assert "never asked anything" in reader.text()
    reader.press(reader.browser.switch_to.active_element, Keys.DELETE)
    assert spoken(reader) == ["cow", "lamb → 0", "calf → +0.97", first[4], "stallion"]
    reader.press(reader.button("reset"), Keys.ENTER)
    assert spoken(reader) == first
    assert reader.run("return scrollY") == 0


def test_a_sentence_is_typed_words_are_added_and_goals_reached(reader):
    from selenium.webdriver import Keys
    from selenium.webdriver.support.ui import Select

    reader.opens("attention.html")
    field = reader.find(".dln-lab input[type=text]")
    reader.press(field, "fawn doe zebra stag", Keys.ENTER)
    assert spoken(reader) == ["fawn → 0", "doe", "stag"]
    assert "Not in the vocabulary: zebra." in reader.text()
    assert reader.text(".note") == "Reached: Both are here."
    menu = Select(reader.find(".dln-lab .row select"))
    menu.select_by_visible_text("piglet")
    reader.settle()
    assert spoken(reader)[-1] == "piglet → 0"
    assert "It answers 0: no parent, or both." in reader.text()
    reader.press(field, Keys.CONTROL + "a", Keys.NULL, "chick ram ram ewe ewe hen cow cow cow", Keys.ENTER)
    assert len(spoken(reader)) == 8  # and no more
    reader.press(field, Keys.CONTROL + "a", Keys.NULL, "chick ram ram ewe ewe hen", Keys.ENTER)
    assert reader.text(".note") == "Reached: Far apart."


def test_without_the_root_scores_grow_and_the_entropy_falls(reader):
    reader.opens("attention.html")
    means = []
    for _ in range(2):
        means.append(float(re.search(r"mean of the young (\d+\.\d+)", reader.text())[1]))
        reader.find(".dln-lab input[type=checkbox]").click()
    assert means[1] < means[0]
    reader.opens("attention.html#att?scaled=false&word1=1&word2=2&word3=0&word4=0&word5=0&word6=0")
    assert spoken(reader) == ["calf → +1.00", "cow"]
    assert "Without 1/√d all scores are 4 times as large." in reader.text()


@pytest.mark.parametrize("path", ["attention", "attention-zh"])
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_sentence_fits_and_is_accessible(reader, path, colours, width):
    longest = "&".join(f"word{i}={word}" for i, word in enumerate((16, 6, 16, 15, 20, 19, 14, 10), start=1))
    reader.opens(f"{path}.html#att?{longest}", size=(width, 900), colours=colours)
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    outside = reader.run("""return [...document.querySelectorAll('.panel svg text')].filter((node) => {
        const own = node.getBoundingClientRect(), box = node.closest('.panel').getBoundingClientRect();
        return Math.min(own.left - box.left, box.right - own.right, own.top - box.top, box.bottom - own.bottom) < -1;
      }).map((node) => node.textContent)""")
    assert outside == []
    rows = reader.run("""return [...document.querySelectorAll('.panel:first-child svg text')].slice(3)
        .map((node) => node.getBoundingClientRect()).map((r) => [r.left, r.right])""")
    assert len(rows) == 8 * 3
    for name, weight, value in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert name[1] <= weight[0] + 1
        assert weight[1] <= value[0] + 1
    assert complaints(reader.browser) == []
    assert reader.violations() == []


# ---- the example of CONTRIBUTING.md


def test_the_contributed_example_passes_its_own_test(reader):
    names = {"torch": torch, "numbers": numbers, "from_module": from_module}
    exec(contributed("python")[0][1], names)
    names["test_softmax_is_that_of_torch"](reader)


def test_the_contributed_example_can_be_called_and_played_with(reader, monkeypatch, tmp_path):
    from selenium.webdriver import Keys

    for path in [*MODULES.iterdir(), *((f"softmax.{kind}", text) for kind, text in contributed("js", "json"))]:
        if isinstance(path, tuple):
            (tmp_path / path[0]).write_text(path[1], encoding="utf-8")
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.setattr("dlnotes.figures.live.MODULES", tmp_path)
    call = ast.parse(contributed("python")[1][1])
    call.body[-1] = ast.Assign([ast.Name("shown", ast.Store())], call.body[-1].value)
    names = {"torch": torch, "plt": plt, "plot": plot}
    exec(compile(ast.fix_missing_locations(call), "CONTRIBUTING.md", "exec"), names)
    text = document(edition(names["shown"].html, "en", set()))
    reader.run("document.open(); document.write(arguments[0]); document.close()", text)
    wait_until(lambda: "The largest share is 0.665." in reader.text(), "the figure")
    assert [button.text for button in reader.browser.find_elements("css selector", ".row button")][:2] == ["", ""]
    reader.press(reader.slider("temperature"), Keys.END)
    assert "The largest share is 0.35." in reader.text()
    assert reader.text(".note") == "Reached: Make them nearly alike."
    assert complaints(reader.browser) == []


# ---- a page starts


def test_figures_start_silently_and_ask_nobody(reader):
    reader.opens("book.html")
    assert reader.run("return document.querySelectorAll('.dln-lab-figure .dln-lab').length") == 2
    assert complaints(reader.browser) == []
    hosts = {re.sub(r"^(\w+://[^/]*/|\w+:).*", r"\1", url) for url in requests(reader.browser)}
    assert hosts <= {reader.address, "data:", "blob:", "about:"}
    assert reader.run("return document.querySelectorAll('script[data-module]').length") == 2  # for both figures
    assert not reader.run(
        "return [...document.querySelectorAll('[id]')].some((a, i, all) => all.some((b, j) => j > i && a.id === b.id))"
    )
    assert reader.run("return Object.keys(window).filter((name) => /dln|live|valley/i.test(name))") == []


@pytest.mark.parametrize(
    ("path", "english", "chinese"), [("book", True, False), ("zh", False, True), ("notebook", True, True)]
)
def test_words_are_in_the_languages_of_the_page(reader, path, english, chinese):
    reader.opens(f"{path}.html")
    words = reader.run("return document.querySelector('.dln-lab').innerText") + reader.run(
        "return [...document.querySelectorAll('.dln-lab [aria-label]')].map((node) => node.ariaLabel).join()"
    )
    assert ("Learning rate" in words, "学习率" in words) == (english, chinese)
    assert ("drag it" in words, "可以拖动" in words) == (english, chinese)
    assert ("the loss is" in words, "损失是" in words) == (english, chinese)
    assert reader.button("link").is_displayed() == (path != "notebook")


def test_an_output_starts_where_a_host_puts_it_in(reader):
    # JupyterLab and Colab set the HTML, which runs no script, and then make each script anew.
    reader.opens("blank.html", starts=False)
    reader.run(
        """const host = document.querySelector("main");
        host.innerHTML = arguments[0];
        for (const old of host.querySelectorAll("script")) {
          const made = document.createElement("script");
          for (const { name, value } of old.attributes) made.setAttribute(name, value);
          made.textContent = old.textContent;
          old.replaceWith(made);
        }""",
        figure(),
    )
    wait_until(lambda: "η = 0.04" in reader.text(), "the figure")
    assert complaints(reader.browser) == []


def test_an_output_shown_twice_starts_twice(reader):
    reader.opens("notebook.html")
    assert reader.run("return document.querySelectorAll('.dln-lab svg.drawing').length") == 4


@pytest.mark.parametrize("size", [(1440, 900), (1280, 900), (768, 900), (390, 800)], ids=lambda size: str(size[0]))
def test_nothing_hangs_over_the_edge_and_panels_stack(reader, size):
    reader.opens("book.html", size=size)
    assert reader.run("return document.documentElement.scrollWidth") <= size[0]
    tops = reader.run("return [...document.querySelectorAll('.dln-lab .panel')].slice(0, 2).map((p) => p.offsetTop)")
    assert (tops[0] == tops[1]) == (size[0] > 500)
    widths = reader.run("return [...document.querySelectorAll('.dln-lab svg.drawing')].map((s) => s.clientWidth)")
    assert min(widths) > 200
    for side in reader.run(
        "return [...document.querySelectorAll('.dln-lab :is(button, .handle)')].filter((n) => n.offsetWidth)"
        ".map((n) => Math.min(n.offsetWidth, n.offsetHeight))"
    ):
        assert side >= 24  # WCAG 2.5.8


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("path", ["book", "zh"])
def test_figures_are_accessible(reader, path, colours):
    reader.opens(f"{path}.html", size=(390, 800), colours=colours)
    reader.run("document.documentElement.dataset.theme = arguments[0]", colours)
    assert reader.violations() == []


# ---- a reader's hands


def test_sliders_move_by_keyboard_and_leave_a_trace(reader):
    from selenium.webdriver import Keys

    reader.opens("book.html")
    before, words = reader.line(), reader.text()
    reader.press(reader.slider("eta"), Keys.RIGHT)
    assert reader.line() != before
    assert reader.text() != words
    assert reader.slider("eta").get_attribute("aria-valuetext") == reader.text("label[for$='-eta'] output")
    gray = "return document.querySelector('.dln-lab path[style*=\"--gray\"]').getAttribute('d')"
    old = re.search(r' d="([^"]*)"', before)[1]
    assert reader.run(gray)[:40] in old or old[:40] in reader.run(gray)


def test_the_edge_is_crossed_under_the_pointer(reader):
    from selenium.webdriver import ActionChains

    reader.opens("book.html#try?eta=0.07")
    slider = reader.slider("eta")
    assert "below the edge 0.08" in reader.text()
    width, place = slider.size["width"], math.log(0.07 / 0.002) / math.log(0.5 / 0.002)
    actions = ActionChains(reader.browser, duration=50)
    actions.move_to_element_with_offset(slider, int((place - 0.5) * (width - 16)), 0).click_and_hold().perform()
    seen = []
    for _ in range(6):
        actions.move_by_offset(5, 0).perform()
        seen.append("beyond the edge" in reader.text())
    ActionChains(reader.browser).release().perform()
    assert seen == sorted(seen)
    assert seen[-1]
    assert "It diverges" in reader.text()
    assert reader.run("return !document.querySelector('.mark').hidden")


def test_the_edge_is_told_when_the_reader_asks(reader):
    reader.opens("asked.html")
    switch = reader.find(".dln-lab input[type=checkbox]")
    mark = "return document.querySelector('.mark')?.hidden ?? true"
    assert "edge" not in reader.text()
    assert "multiplies" not in reader.text()
    assert reader.run(mark)
    switch.click()
    reader.settle()
    assert "below the edge 0.08" in reader.text()
    assert "multiplies" in reader.text()
    assert not reader.run(mark)


def test_a_slider_only_pressed_is_let_go_again(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("book.html#try?eta=9")
    slider = reader.slider("eta")
    assert reader.find(".note").is_displayed()
    share = math.log(0.04 / 0.002) / math.log(0.5 / 0.002) - 0.5
    thumb = int(share * (slider.size["width"] - 16))
    ActionChains(reader.browser).move_to_element_with_offset(slider, thumb, 0).click_and_hold().perform()
    assert not reader.find(".note").is_displayed()  # what was wrong with the link is read by now
    ActionChains(reader.browser).release().perform()
    reader.settle()
    assert reader.run("return document.querySelector('.text').ariaLive") == "polite"
    reader.press(reader.button("reset"), Keys.ENTER)
    assert reader.text("label[for$='-eta'] output") == "0.04"


def test_the_start_is_dragged_by_mouse_and_by_finger_and_moved_by_keys(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("book.html")
    handle = reader.find(".dln-lab .handle")
    spoken = handle.get_attribute("aria-valuetext")
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(handle, -60, -40).perform()
    reader.settle()
    dragged = handle.get_attribute("aria-valuetext")
    assert dragged != spoken
    assert dragged.startswith("x = 3")
    box = handle.rect
    x, y = box["x"] + 22 - reader.run("return scrollX"), box["y"] + 22 - reader.run("return scrollY")
    for kind, dx in (("touchStart", 0), ("touchMove", 30), ("touchMove", 45), ("touchEnd", None)):
        points = [] if dx is None else [{"x": x + dx, "y": y + dx / 2}]
        reader.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    reader.settle()
    touched = handle.get_attribute("aria-valuetext")
    assert touched != dragged
    reader.press(handle, Keys.LEFT, Keys.UP)
    keyed = handle.get_attribute("aria-valuetext")
    (x0, y0), (x1, y1) = (map(float, re.findall(r"[\d.]+", text)) for text in (touched, keyed))
    assert (round(x1 - x0, 2), round(y1 - y0, 2)) == (-0.1, 0.1)
    assert reader.run("return scrollY") == 0  # the page stayed where it was


def test_a_click_into_the_valley_starts_there(reader):
    from selenium.webdriver import ActionChains

    reader.opens("book.html")
    picture = reader.find(".dln-lab svg.drawing")
    ActionChains(reader.browser).move_to_element_with_offset(picture, -100, 50).click().perform()
    reader.settle()
    x, y = re.findall(r"[−\d.]+", reader.find(".handle").get_attribute("aria-valuetext"))
    assert x.startswith("−")
    assert y.startswith("−")


def test_the_start_stays_in_the_valley(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("book.html")
    handle = reader.find(".dln-lab .handle")
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(handle, 500, 30).perform()
    reader.press(handle, *[Keys.SHIFT, *[Keys.DOWN] * 12])
    assert handle.get_attribute("aria-valuetext") == "x = 5, y = −4"


def test_menus_choose_and_hide_what_does_not_matter(reader):
    from selenium.webdriver.support.select import Select

    reader.opens("book.html")
    assert not reader.slider("mu").is_displayed()
    Select(reader.find(".dln-lab select")).select_by_value("momentum")
    reader.settle()
    assert reader.slider("mu").is_displayed()
    assert reader.text(".mark") == ""
    assert reader.run("return document.querySelector('.mark').dataset.text") == "edge 0.152"  # 2 (1 + 0.9) / 25


def test_play_pause_step_and_start_over(reader):
    from selenium.webdriver import Keys

    reader.opens("book.html")
    start, whole = reader.text(), reader.line()
    label, aloud = reader.browser.execute_async_script(
        """const [play, done] = arguments, frame = requestAnimationFrame;
        play.click();
        frame(() => frame(() => {
          const seen = [play.textContent, document.querySelector(".text").ariaLive];
          play.click();
          done(seen);
        }))""",
        reader.button("play"),
    )
    assert (label, aloud) == ("Pause", "off")  # or a listener hears every frame
    paused = reader.text(".row output")
    assert int(re.search(r"\d+", paused)[0]) < 10
    assert reader.button("play").text == "Play"
    reader.press(reader.button("step"), Keys.SPACE)
    step = int(re.search(r"\d+", paused)[0])
    assert reader.text(".row output") == f"step {step + 1} of 100"
    assert f"After step {step + 1}: x = " in reader.text()
    assert reader.run("return document.querySelector('.text').ariaLive") == "polite"
    assert reader.line() != whole
    reader.press(reader.slider("kappa"), Keys.RIGHT)
    reader.press(reader.button("reset"), Keys.ENTER)
    assert (reader.text(), reader.line()) == (start, whole)
    reader.press(reader.button("step"), Keys.ENTER)
    assert reader.text(".row output") == "step 1 of 100"  # from the end it begins again


def test_nothing_runs_out_of_view(reader):
    reader.opens("book.html")
    reader.run("arguments[0].click(), scrollTo(0, document.body.scrollHeight)", reader.button("play"))
    wait_until(
        lambda: reader.run("return document.querySelector('.dln-lab').getBoundingClientRect().bottom < 0"), "out"
    )
    reader.settle()
    reader.settle()
    first = reader.text(".row output")
    for _ in range(15):
        reader.settle()
    assert reader.text(".row output") == first
    assert "step 100" not in first


def test_who_wants_less_motion_sees_whole_steps(reader):
    reader.opens("book.html")
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        reader.button("play").click()
        ends = {}
        for _ in range(12):
            reader.settle()
            step, line = reader.run("""return [document.querySelector('.row output').textContent,
                document.querySelector('.dln-lab circle').getAttribute('cx')]""")
            ends.setdefault(step, set()).add(line)
        assert all(len(places) == 1 for places in ends.values())
    finally:
        reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_goal_is_reached_once_and_said(reader):
    from selenium.webdriver import Keys

    reader.opens("book.html")
    goal = reader.find(".goals li")
    assert "reached" not in goal.get_attribute("class")
    reader.press(reader.slider("kappa"), Keys.HOME)  # κ = 1
    reader.press(reader.slider("eta"), Keys.END)  # η = 0.5
    assert "reached" in goal.get_attribute("class")
    assert reader.text(".note") == "Reached: Reach the star in 60 steps."
    assert reader.run("return document.querySelector('.note').role") == "status"


def test_a_race_is_told_and_runners_can_be_hidden(reader):
    reader.opens("book.html#race?turn=0")
    words = "return document.querySelectorAll('.text')[1].textContent"
    reader.settle()
    assert re.search(r"from which step on: Adagrad \d+, .*Adam \d+", reader.run(words))
    buttons = reader.browser.find_elements("css selector", "[aria-pressed]")
    assert [button.text for button in buttons][:2] == ["SGD", "momentum"]
    drawn = """return [...document.querySelectorAll('.dln-lab')[1].querySelectorAll('circle')]
        .filter((ball) => ball.style.display !== 'none').length"""
    before = reader.run(drawn)
    buttons[0].send_keys(" ")
    reader.settle()
    assert reader.run(drawn) == before - 2  # in both panels
    assert buttons[0].get_attribute("aria-pressed") == "false"


# ---- links


def test_a_link_keeps_the_setting(reader):
    from selenium.webdriver import Keys

    reader.opens("book.html")
    reader.press(reader.slider("kappa"), Keys.RIGHT)
    reader.press(reader.find(".handle"), Keys.LEFT)
    words, line = reader.text(), reader.line()
    link = reader.run("return location.href")
    assert re.search(r"#try\?eta=0\.04&kappa=2[5-9][\d.]*&method=gd&mu=0\.9&x=4\.9&y=1$", link)
    reader.opens(link.removeprefix(reader.address))
    assert (reader.text(), reader.line()) == (words, line)
    assert not reader.find(".note").is_displayed()


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("try?speed=3", "The link sets “speed”, which this figure does not have; it has eta, kappa, method, mu, x, y."),
        ("try?steps=3", "The link sets “steps”, which this figure does not have"),
        ("try?eta=7", "The link sets eta to 7; it must be a number from 0.002 to 0.5."),
        ("try?eta=NaN", "The link sets eta to NaN; it must be a number"),
        ("try?eta=", "The link sets eta to ; it must be a number"),
        ("try?kappa=1e9", "The link sets kappa to 1e9; it must be a number from 1 to 1000."),
        ("try?method=adam", "The link sets method to “adam”; it can be gd, momentum, nesterov."),
        ("try?x=<b>1</b>", "The link sets x to <b>1</b>; it must be a number"),
        ("try?__proto__=1", "The link sets “__proto__”, which this figure does not have"),
        ("none?eta=0.1", "The link asks for a figure named “none”; this page has none."),
    ],
)
def test_a_link_that_does_not_fit_is_told_and_the_figure_stands(reader, link, message):
    reader.opens(f"book.html#{link}")
    assert message in reader.text(".note")
    assert "η = 0.04 is below the edge 0.08" in reader.text()
    assert complaints(reader.browser) == []


def test_a_broken_escape_in_a_link_does_no_harm(reader):
    reader.opens("book.html#try?eta=%E0%A4%A")
    assert "η = 0.04" in reader.text()


def test_what_fits_of_a_link_is_taken_and_a_new_one_too(reader):
    reader.opens("book.html#try?eta=0.06&speed=1")
    assert "η = 0.06" in reader.text()
    reader.run("location.hash = '#try?eta=0.05'")
    wait_until(lambda: "η = 0.05" in reader.text(), "the new setting")
    reader.run("location.hash = '#elsewhere'")
    assert "η = 0.05" in reader.text()


# ---- without


def test_a_host_that_refuses_modules_shows_the_picture_and_says_so(reader):
    reader.opens("strict.html", starts=False)
    wait_until(lambda: reader.text(".hint") == FAILED[0], "the message")
    assert reader.find(".hint").is_displayed()
    assert (
        reader.run(
            "const i = document.querySelector('img'); return i.naturalWidth > 100 && getComputedStyle(i).visibility"
        )
        == "visible"
    )
    complaints(reader.browser)


def test_a_browser_without_modules_says_so(reader):
    reader.opens("strict.html", starts=False)
    reader.run("for (const hint of document.querySelectorAll('.hint')) hint.textContent = ''")
    reader.run("new Function(document.querySelector('script[nomodule]').textContent)()")  # what it would run
    assert reader.text(".hint") == FAILED[0]
    complaints(reader.browser)


def test_without_scripts_a_picture_and_its_words_stand(reader):
    send = reader.browser.execute_cdp_cmd
    send("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.opens("zh.html", starts=False)
        send("DOM.enable", {}), send("CSS.enable", {})
        root = send("DOM.getDocument", {})["root"]["nodeId"]
        for selector in (".dln-lab-figure img", ".hint"):
            node = send("DOM.querySelector", {"nodeId": root, "selector": selector})
            style = send("CSS.getComputedStyleForNode", node)["computedStyle"]
            assert {"name": "visibility", "value": "visible"} in style
        send("CSS.disable", {}), send("DOM.disable", {})
    finally:
        send("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "一道山谷" in reader.run("return document.querySelector('figcaption').innerText")


def test_a_module_keeps_the_contract_of_a_widget(reader):
    html = figure()
    data = re.search(r"data-values>(.*?)</script>", html)[1]
    words = re.search(r'data-words="en">(.*?)</script>', html)[1]
    reader.opens("blank.html", starts=False)
    answer = reader.browser.execute_async_script(
        """const [address, data, words, done] = arguments;
        (async () => {
          const module = await import(address), el = document.createElement("div"), kept = [];
          document.querySelector("main").append(el);
          const values = {...data, words: {en: words}};
          const model = {get: (name) => values[name], set: (...change) => kept.push(change),
                         save_changes: () => kept.push("saved"), on() {}, off() {}};
          const end = module.default.render({model, el});
          const text = () => el.querySelector(".text").textContent;
          while (!text()) await new Promise(requestAnimationFrame);
          const said = text();
          const slider = el.querySelector("input[type=range]");
          slider.value = slider.max;
          slider.dispatchEvent(new Event("input")), slider.dispatchEvent(new Event("change"));
          end();
          return [said, kept, el.childElementCount, location.hash];
        })().then(done, (error) => done([`${error}`]))""",
        f"{reader.address}modules/valley.js", json.loads(data), json.loads(words),
    )  # fmt: skip
    text, kept, left, place = answer
    assert "η = 0.04" in text
    assert kept[0][0] == "values"
    assert kept[0][1]["eta"] == 0.5
    assert kept[1] == "saved"
    assert (left, place) == (0, "")


# ---- a batch of four, against torch


def test_a_batch_is_normalised_forward_and_back_as_by_torch(reader):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(300, 4, generator=draw, dtype=torch.float64) * 20
    x[:40, 1] = x[:40, 0]  # some are equal
    given = torch.randn(300, 4, generator=draw, dtype=torch.float64)
    reader.opens("blank.html", starts=False)
    for eps in (1e-5, 0.1):
        script = f"""const g = {given.tolist()};
            return {x.tolist()}.map((x, i) => {{
              const made = M.forward(x, {eps});
              return [made.mean, made.variance, ...made.hats, ...M.backward(g[i], made)];
            }})"""
        found = numbers(from_module(reader, script, "batch"))
        inputs = x.T.clone().requires_grad_()  # one batch a channel
        y = torch.nn.functional.batch_norm(inputs, None, None, training=True, eps=eps)
        (back,) = torch.autograd.grad(y, inputs, given.T)
        wanted = torch.cat([x.mean(1, True), x.var(1, False, True), y.T.detach(), back.T], dim=1)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def mean(columns):
    """The mean of each row, added up from left to right as a page does it."""
    total = columns[:, 0].clone()
    for column in columns.T[1:]:
        total += column
    return total / columns.shape[1]


def test_both_variances_round_as_float32_does(reader):
    draw = torch.Generator().manual_seed(1)
    x = torch.cat([offset + 20 * torch.rand(100, 4, generator=draw) for offset in (0, 10_000, 40_000)])
    x[200] = 40_000 + torch.arange(4.0)

    middle = mean(x)
    wanted = torch.stack([mean(x * x) - middle * middle, mean((x - middle[:, None]) ** 2)], dim=1)
    reader.opens("blank.html", starts=False)
    found = numbers(from_module(reader, f"return {x.tolist()}.map(M.single)", "batch"))
    torch.testing.assert_close(found, wanted.double(), rtol=0, atol=0)
    assert found[200].tolist() == [-128, 1.25]


def test_a_sample_is_dragged_and_everything_moves(reader):
    from selenium.webdriver import ActionChains, Keys

    reader.opens("batch.html")
    assert "normalised it is (−1.4, −0.2, 0.2, 1.4)" in reader.text()
    assert "are (0.052, −0.064, −0.036, 0.048)" in reader.text()
    samples = reader.browser.find_elements("css selector", ".panel [role=slider]")
    reader.press(samples[3], Keys.DOWN, Keys.DOWN)
    assert samples[3].get_attribute("aria-valuenow") == "14"
    assert reader.slider("x4").is_displayed()
    assert not reader.slider("x1").is_displayed()
    told = [sample.get_attribute("aria-valuetext") for sample in samples]
    ActionChains(reader.browser, duration=50).drag_and_drop_by_offset(samples[3], -60, 0).perform()
    reader.settle()
    after = [sample.get_attribute("aria-valuetext") for sample in samples]
    assert float(samples[3].get_attribute("aria-valuenow")) < 13
    assert not set(told) & set(after)  # every output and gradient is another


def test_four_equal_numbers_and_numbers_far_from_zero_are_told(reader):
    reader.opens("batch.html#four?x1=7&x2=7&x3=7&x4=7")
    assert "All four are equal" in reader.text()
    reader.opens("batch.html#four?x1=3.2&x2=7.9&x3=1.4&x4=8.2&far=true")
    assert "A negative variance has no root" in reader.text()


@pytest.mark.parametrize("path", ["batch", "batch-zh"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_batch_fits(reader, path, width):
    reader.opens(f"{path}.html#four?x1=0&x2=20&x3=19.9&x4=20&far=true", size=(width, 900))
    reader.settle()
    assert reader.run("return document.documentElement.scrollWidth") <= width
    panel = reader.browser.find_element("css selector", ".panel").rect
    for sample in reader.browser.find_elements("css selector", ".panel [role=slider]"):
        assert panel["x"] <= sample.rect["x"]
        assert sample.rect["x"] + sample.rect["width"] <= panel["x"] + panel["width"]
