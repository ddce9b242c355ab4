"""The built book in a browser: every page of both editions, as a reader meets it.

Needs Chromium and its driver. Where they are missing the tests are skipped, or fail with DLNOTES_REQUIRE_BROWSER=1.
DLNOTES_SITE names a site that is already built; otherwise the book is built first, once for all processes of a run.
Each process has a browser and a server of its own, and all that is asked of a page is asked while it is open.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import build_site
import pytest
import yaml
from book_reading import ROOT
from editions import LANGUAGES

pytestmark = pytest.mark.slow
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
TITLES = dict(zip(LANGUAGES, CONFIG["title"].split(" | "), strict=True))
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
if DRAFT := os.environ.get("DLNOTES_SITE"):
    CHAPTERS = [name for name in CHAPTERS if (Path(DRAFT) / "en" / f"{name}.html").is_file()]
PAGES = [f"{code}/{name}.html" for name in ["index", *CHAPTERS, "search"] for code in LANGUAGES]
PATIENCE = 600  # seconds after which a browser that does not answer is given up
DESKTOP, PHONE = (1280, 900), (375, 740)
# Names that stay as they are in a Chinese text.
NAMES = {"English", "Colab", "Jupyter", "GitHub", "CC", "BY", "MIT", "dlnotes"}
# What one visit may cost beyond the page's own text, in bytes, and compressed as a server sends it.
FRAME_BUDGET, FRAME_BUDGET_COMPRESSED = 1_000_000, 360_000
TEXT_BUDGET = 1_000_000  # the page's own text with its figures, compressed


# ---- site and browser


@pytest.fixture(scope="session")
def site(once):
    if DRAFT:
        return Path(DRAFT)

    def build(folder):
        command = [sys.executable, str(ROOT / "book" / "_tools" / "build_site.py"), "--site", str(folder / "site")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return once("book", build) / "site"


@pytest.fixture(scope="session")
def weights(site):
    return build_site.weigh(site)


@pytest.fixture(scope="session")
def address(site):
    """The site served under a path of its own, as on a host of many projects."""
    with serving(site, prefix="/dlnotes/") as host:
        yield f"{host}/dlnotes/"


@contextmanager
def serving(folder, **options):
    """A folder served on a free port, as long as the `with` lasts."""
    server = build_site.make_server(folder, port=0, quiet=True, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def unavailable(reason):
    if os.environ.get("DLNOTES_REQUIRE_BROWSER") == "1":
        pytest.fail(f"DLNOTES_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(f"no browser tests: {reason}")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One Chromium for all tests."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        unavailable("chromium or chromedriver is not installed (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in [
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "hide-scrollbars", "lang=en-GB",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]:  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    # An end to waiting for what never comes; a busy machine does not reach it.
    browser.command_executor.client_config.timeout = 2 * PATIENCE
    browser.set_script_timeout(PATIENCE)
    browser.set_page_load_timeout(PATIENCE)
    yield browser
    browser.quit()
    browser.service.stop()


def resize(browser, size):
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def scheme(browser, value):
    features = [{"name": "prefers-color-scheme", "value": value}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requests(browser):
    """The addresses asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def complaints(browser):
    """What the console says since the last call, except for a missing page that is asked for on purpose."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def settled(browser):
    """Wait until formulas are set and fonts are there."""
    browser.execute_async_script("""
        const done = arguments[0];
        (window.MathJax ? MathJax.startup.promise : Promise.resolve())
          .then(() => document.fonts.ready).then(() => requestAnimationFrame(() => done()));
    """)


def wait_until(condition, what):
    pause = 0.03
    for _ in range(int(PATIENCE / pause)):
        if value := condition():
            return value
        time.sleep(pause)
    pytest.fail(f"waited in vain for {what}")


class Page:
    """A page of the book, open in the browser, and what its loading brought."""

    def __init__(self, browser, address, path):
        self.browser, self.address, self.path = browser, address, path
        self.code, self.name = path.removesuffix(".html").split("/", 1)
        resize(browser, DESKTOP)
        scheme(browser, "light")
        browser.get("about:blank")
        complaints(browser), requests(browser)  # those of the page before
        browser.get(address + path)
        browser.execute_script("localStorage.clear()")
        settled(browser)
        self.requests, self.complaints = requests(browser), complaints(browser)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)


@pytest.fixture(scope="module", params=PAGES)
def page(request, browser, address):
    return Page(browser, address, request.param)


# ---- every page


def test_console_is_silent(page):
    assert page.complaints == []


def test_no_request_leaves_the_site(page):
    hosts = {urlsplit(url).netloc for url in page.requests if urlsplit(url).scheme not in ("data", "blob", "about")}
    assert hosts == {urlsplit(page.address).netloc}


def test_language_title_and_icon(page):
    assert page.run("return document.documentElement.lang") == LANGUAGES[page.code][2]
    heading = page.run("""
        const heading = document.querySelector("h1").cloneNode(true);
        heading.querySelectorAll(".headerlink, .section-number").forEach((node) => node.remove());
        return heading.textContent.trim()""")
    title = page.browser.title
    assert title == TITLES[page.code] if page.name == "index" else title.endswith(f" – {TITLES[page.code]}")
    assert page.name == "index" or heading in title
    assert bool(re.search("[\u4e00-\u9fff]", title)) == (page.code == "zh")
    for link in page.run("return [...document.querySelectorAll('link[rel=icon]')].map((link) => link.href)"):
        assert page.run("return fetch(arguments[0]).then((answer) => answer.ok)", link)


def test_one_main_heading_and_no_other_language_in_the_text(page):
    assert page.run("return document.querySelectorAll('h1').length") == 1
    prose = page.run("""
        const text = document.querySelector("article").cloneNode(true);
        text.querySelectorAll("pre, code, script, style, .math, figure svg").forEach((node) => node.remove());
        return text.textContent""")
    characters = len(re.findall("[\u4e00-\u9fff]", prose))
    if page.code == "en":
        assert characters <= 0.02 * len(prose), "Chinese in the English edition"
    elif page.name != "search":
        assert characters >= 0.1 * len(prose), "too little Chinese in the Chinese edition"


def test_mathematics_is_set(page):
    expected = page.run("return document.querySelectorAll('.math').length")
    assert page.run("return document.querySelectorAll('.math mjx-container').length") >= expected
    assert page.run("return document.querySelectorAll('mjx-merror, [data-mjx-error]').length") == 0
    text = page.run("""
        const text = document.body.cloneNode(true);
        text.querySelectorAll("pre, code, script, style, mjx-container").forEach((node) => node.remove());
        return text.textContent""")
    assert not re.search(r"\$\$|\\\(|\\\[|\\begin\{|\\frac|\\mathbf", text)
    assert not re.search(r"\{(eq|ref|doc|cite|numref)\}`|:::|```", text), "a role or directive stands in the text"
    if page.name in CHAPTERS:
        assert expected > 0


def test_equation_references_lead_to_equations(page):
    targets = page.run("""
        return [...document.querySelectorAll("article a[href^='#']")]
          .filter((a) => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).map((a) => a.hash)""")
    assert targets == []
    numbers = page.run("return [...document.querySelectorAll('.eqno')].map((n) => n.firstChild.textContent.trim())")
    assert all(re.fullmatch(r"\(\d+(\.\d+)*\)", number) for number in numbers)
    assert len(set(numbers)) == len(numbers)


def test_figures_have_text_alternatives(page):
    nameless = page.run("""
        const text = (id) => document.getElementById(id)?.textContent || "";
        const named = (node) => node.getAttribute("aria-label") || node.alt
          || (node.getAttribute("aria-labelledby") || "").split(" ").map(text).join("");
        return [...document.querySelectorAll("article img, article [role=img], article canvas, article video")]
          .filter((node) => !named(node).trim()).map((node) => node.outerHTML.slice(0, 200))""")
    assert nameless == []
    bare = page.run("""
        return [...document.querySelectorAll("article svg")]
          .filter((svg) => !svg.closest("[role=img], [aria-hidden=true]")).map((svg) => svg.outerHTML.slice(0, 200))""")
    assert bare == []


def test_switch_leads_to_the_same_page(page):
    other = next(code for code in LANGUAGES if code != page.code)
    link = page.run("return document.querySelector('.languages a').href")
    assert link == f"{page.address}{other}/{page.name}.html"
    assert page.run("return fetch(arguments[0]).then((answer) => answer.ok)", link)
    assert page.run("return document.querySelector('.languages [aria-current]').textContent") == LANGUAGES[page.code][0]
    alternate = page.run("""
        const links = [...document.querySelectorAll("link[hreflang]")];
        return Object.fromEntries(links.map((link) => [link.hreflang, link.href]))
    """)
    expected = {tag: f"{page.address}{code}/{page.name}.html" for code, (_, _, tag) in LANGUAGES.items()}
    assert alternate == {**expected, "x-default": f"{page.address}index.html"}


def test_links_inside_the_site_lead_somewhere(page, site):
    links = set(page.run("return [...document.querySelectorAll('a[href]')].map((a) => a.href)"))
    for link in links:
        if link.startswith(page.address):
            path = urlsplit(link).path.removeprefix("/dlnotes/")
            assert (site / path).is_file(), link
        else:
            assert link.startswith("https://"), link


def test_notebook_and_colab(page, site):
    links = page.run("return [...document.querySelectorAll('.tools a')].map((a) => [a.className, a.href])")
    if page.name == "search":
        assert links == []
        return
    links = dict(links)
    notebook = site / urlsplit(links["download"]).path.removeprefix("/dlnotes/")
    assert {"lang-en", "lang-zh"} <= set(re.findall(r"lang-\w+", notebook.read_text("utf-8")))
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/book/{page.name}.ipynb"
    assert links["colab"] == colab


def test_no_english_is_left_in_the_frame(page):
    if page.code != "zh":
        pytest.skip("only the Chinese edition has a frame to translate")
    words = page.run("""
        const frame = document.body.cloneNode(true);
        frame.querySelectorAll("article, .toc, script, style, svg").forEach((node) => node.remove());
        // The labels of figures and choices and the names of boxes are the chapter's own words.
        const own = ".dln-explorer *, .dln-lab *, .dln-choice, .dln-proof > summary, .dln-deeper > summary";
        const parts = "article :is(summary, .admonition-title, .copy, button, label)";
        const inside = [...document.querySelectorAll(parts)].filter((node) => !node.matches(own));
        const drawn = ".dln-drawing, .dln-drawing *";  // what a picture shows is said in the chapter's words too
        const attributes = [...document.querySelectorAll(`:not(${drawn})`)].flatMap((node) =>
          ["title", "aria-label", "placeholder", "alt", "aria-description"].map((name) => node.getAttribute(name)));
        return [frame.textContent, ...inside.map((node) => node.textContent), ...attributes].filter(Boolean)""")
    chapters = {word for text in page.run(
        "return [...document.querySelectorAll('.chapters a, .neighbours a, h1')].map((a) => a.textContent)"
    ) for word in re.findall(r"[A-Za-z]{2,}", text)}  # fmt: skip
    left = {word for text in words for word in re.findall(r"[A-Za-z]{2,}", text)} - NAMES - chapters
    assert left == set()


def test_explorers_work_by_keyboard_and_mouse(page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    explorers = page.browser.find_elements(By.CSS_SELECTOR, ".dln-explorer")
    if not explorers:
        pytest.skip("no interactive figure on this page")
    for explorer in explorers:

        def picture(explorer=explorer):
            return page.run("return arguments[0].querySelector('[role=img]').innerHTML", explorer)

        controls = explorer.find_elements(By.CSS_SELECTOR, "input, select")
        assert controls
        changed = set()
        for control in controls:
            page.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", control)
            before = picture()
            if control.get_attribute("type") == "checkbox":
                control.send_keys(Keys.SPACE)
                changed |= {"keyboard"} if picture() != before else set()
                control.click()
                assert picture() == before
                changed.add("mouse")
            elif control.tag_name == "select":
                at_end = page.run("return arguments[0].selectedIndex === arguments[0].length - 1", control)
                control.send_keys(Keys.UP if at_end else Keys.DOWN)
                changed |= {"keyboard"} if picture() != before else set()
            else:
                at_end = control.get_attribute("value") == control.get_attribute("max")
                control.send_keys(Keys.LEFT if at_end else Keys.RIGHT)
                changed |= {"keyboard"} if picture() != before else set()
                for share in (-0.45, 0.45):
                    before = picture()
                    offset = int(share * control.size["width"])
                    ActionChains(page.browser, duration=0).move_to_element_with_offset(
                        control, offset, 0
                    ).click().perform()
                    changed |= {"mouse"} if picture() != before else set()
        only_menus = all(control.tag_name == "select" for control in controls)
        assert changed == ({"keyboard"} if only_menus else {"keyboard", "mouse"})
    assert complaints(page.browser) == []


def test_folded_cells_open_with_the_keyboard(page):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    folds = page.browser.find_elements(By.CSS_SELECTOR, ".dln-fold:not(.dln-check, .dln-imports) > summary")
    folds = [fold for fold in folds if fold.is_displayed()]  # not those inside of others
    if not folds:
        pytest.skip("nothing is folded on this page")
    fold = folds[0]
    closed = fold.text
    fold.send_keys(Keys.ENTER)
    assert page.run("return arguments[0].parentNode.open", fold)
    assert fold.text != closed
    fold.send_keys(Keys.ENTER)
    assert not page.run("return arguments[0].parentNode.open", fold)


def axe_source():
    """The accessibility checker, from the Python package that carries it."""
    package = importlib.util.find_spec("axe_playwright_python")
    assert package, "the package axe-playwright-python is not installed"
    return (Path(package.origin).parent / "axe.min.js").read_text("utf-8")


def serious_faults(page, size, colours):
    """What axe finds on an open page in a window of this size and in these colours."""
    resize(page.browser, size)
    scheme(page.browser, colours)
    wait_until(lambda: page.run("return document.documentElement.dataset.theme") == colours, f"{colours} colours")
    page.run("document.querySelectorAll('article details').forEach((fold) => { fold.open = true; })")
    page.run(TAKE_OUT_WHAT_IS_ALIKE)
    if not page.run("return !!window.axe"):
        page.run(axe_source())
    faults = page.browser.execute_async_script("""
        const done = arguments[0];
        axe.run(document, {resultTypes: ["violations"]}).then((result) => done(result.violations
          .filter((fault) => ["serious", "critical"].includes(fault.impact))
          .map(({id, nodes}) => [id, nodes.length, nodes[0].html.slice(0, 160), nodes[0].failureSummary])));
    """)
    page.run("window.takenOut.reverse().forEach(([mark, node]) => mark.replaceWith(node))")
    return faults


# Most of a page's elements are the words of its code and the parts of its formulas, and axe looks at each for a
# second in all. The first of each kind stays (alike: the same elements and classes all the way up), the others are
# taken out while axe looks; so is a cell of code in which no first of a kind is left.
TAKE_OUT_WHAT_IS_ALIKE = """
    const seen = new Set(), stays = new Set();
    window.takenOut = [];
    const takeOut = (node) => {
      const mark = document.createComment("");
      node.replaceWith(mark);
      window.takenOut.push([mark, node]);
    };
    for (const node of document.querySelectorAll("article :is(pre span, mjx-container)")) {
      if (!node.isConnected) continue;  // inside one that is out already
      let kind = "";
      for (let up = node; up.tagName !== "ARTICLE"; up = up.parentElement) kind += `${up.tagName}.${up.className} `;
      if (seen.has(kind)) takeOut(node);
      else seen.add(kind), stays.add(node.closest(".cell_input"));
    }
    for (const cell of document.querySelectorAll("article .cell_input")) if (!stays.has(cell)) takeOut(cell);
"""


# Colours do not depend on the width, nor the structure on the colours: two of the four pairs find nearly all there is.
@pytest.mark.parametrize(("size", "colours"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone-dark"])
def test_accessibility(page, size, colours):
    assert serious_faults(page, size, colours) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_hangs_over_the_edge(page, size):
    resize(page.browser, size)
    width = page.run("return document.documentElement.scrollWidth")
    wide = width > size[0] and page.run("""
        const edge = document.documentElement.clientWidth + 1, hidden = (node) => {
          for (let up = node.parentElement; up; up = up.parentElement)
            if (getComputedStyle(up).overflowX !== "visible") return true; };
        return [...document.querySelectorAll("article *")]
          .filter((node) => node.getBoundingClientRect().right > edge && !hidden(node))
          .slice(0, 5).map((node) => node.outerHTML.slice(0, 120))""")
    assert width <= size[0], wide


def test_page_keeps_its_budget(page, site, weights):
    (everything, compressed), (text, text_compressed) = weights[page.path]
    assert everything - text <= FRAME_BUDGET
    assert compressed - text_compressed <= FRAME_BUDGET_COMPRESSED
    assert text_compressed <= TEXT_BUDGET
    # What --weigh says is what the browser fetched: no more than it, and hardly less.
    local = {path.relative_to(site).as_posix() for path in build_site.loads(site / page.path)}
    fetched = {urlsplit(url).path.removeprefix("/dlnotes/") for url in page.requests if url.startswith(page.address)}
    fetched -= {f"{page.code}/_static/favicon.ico"}
    assert fetched - local == set()
    assert all(path.endswith(".woff") for path in local - fetched)
    assert len(local - fetched) <= 4


# ---- the book as a whole


def test_accessibility_faults_are_found(browser, address):
    page = Page(browser, address, f"en/{CHAPTERS[0]}.html")
    before = page.run("return document.body.innerText")
    page.run("""
        const plant = (place, html) => place.insertAdjacentHTML("beforeend", html);
        plant(document.querySelector("article p"), "<span style='color: #ddd; background: #fff'>pale</span>");
        plant([...document.querySelectorAll(".cell_input pre")].at(-1), "<span class='planted'>pale</span>");
        plant([...document.querySelectorAll("mjx-container")].at(-1).parentElement, "<i class='planted'>pale</i>");
        plant(document.head, "<style>.planted { color: #ddd; background: #fff; }</style>");
        plant(document.querySelector("article"), "<button id='planted'></button>")""")
    faults = {name: count for name, count, *_ in serious_faults(page, DESKTOP, "light")}
    assert faults == {"color-contrast": 3, "button-name": 1}
    # All that was taken out is back, at its place.
    page.run("document.querySelectorAll('[style*=ddd], .planted, #planted').forEach((node) => node.remove())")
    page.run("document.querySelectorAll('article details').forEach((fold) => { fold.open = false; })")
    assert page.run("return document.body.innerText") == before


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize(("size", "colours"), [(PHONE, "light"), (DESKTOP, "dark")], ids=["phone", "desktop-dark"])
def test_accessibility_in_the_other_pairs(browser, address, code, size, colours):
    assert serious_faults(Page(browser, address, f"{code}/{CHAPTERS[0]}.html"), size, colours) == []


def search(browser, address, code, words):
    browser.get(f"{address}{code}/search.html?q={quote(words)}")
    wait_until(lambda: browser.execute_script("return document.querySelector('.search-summary')?.innerText"), words)
    links = "return [...document.querySelectorAll('ul.search a')].map((a) => a.getAttribute('href').split('#')[0])"
    return set(browser.execute_script(links))


def occurs(site, code, pattern):
    """The chapters in whose text a pattern stands."""
    texts = {}
    for name in CHAPTERS:
        text = (site / code / f"{name}.html").read_text("utf-8")
        article = text[text.index("<article") : text.index("</article>")]
        texts[f"{name}.html"] = re.sub(r"<(pre|script|style|svg)\b.*?</\1>|<[^>]+>", "", article, flags=re.DOTALL)
    return {name for name, text in texts.items() if re.search(pattern, text, re.IGNORECASE)}


@pytest.mark.parametrize("words", ["梯度", "损失函数", "学习率", "参数", "熵", "sigmoid", "PyTorch 梯度"])
def test_search_finds_chinese(browser, address, site, words):
    resize(browser, DESKTOP)
    expected = set.intersection(*(occurs(site, "zh", re.escape(word)) for word in words.split()))
    assert expected, f"{words} stands in no chapter; choose another word for this test"
    assert expected <= search(browser, address, "zh", words)
    frame = browser.execute_script("""
        const frame = document.querySelectorAll("#search-results h2, .search-summary, .hint");
        return [...frame].map((node) => node.innerText).join()""")
    assert not re.search("[A-Za-z]{2,}", frame), "the search page speaks English"


@pytest.mark.parametrize("words", ["gradient", "learning rate", "loss", "PyTorch"])
def test_search_finds_english(browser, address, site, words):
    expected = set.intersection(*(occurs(site, "en", rf"\b{word}\b") for word in words.split()))
    assert expected
    assert expected <= search(browser, address, "en", words)


@pytest.mark.parametrize(("code", "words"), [("zh", "麒麟"), ("en", "zebra")])
def test_search_says_when_there_is_nothing(browser, address, code, words):
    assert search(browser, address, code, words) == set()


def test_search_from_a_chapter(browser, address):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    browser.get(f"{address}zh/{CHAPTERS[0]}.html")
    browser.find_element(By.CSS_SELECTOR, ".find input").send_keys("梯度" + Keys.ENTER)
    wait_until(lambda: "/zh/search.html" in browser.current_url, "the search page")
    wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, "ul.search a"), "results")
    complaints(browser)


@pytest.fixture
def reader(browser, address):
    """Open the entrance as a reader with these languages and this remembered choice."""

    def opens(languages, choice=None, path=""):
        browser.get(f"{address}en/search.html")
        browser.execute_script("localStorage.clear()")
        if choice:
            browser.execute_script("localStorage.setItem('dlnotes-edition', arguments[0])", choice)
        agent = browser.execute_script("return navigator.userAgent")
        browser.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": languages})
        browser.get(address + path)
        if not path:
            wait_until(lambda: "index.html" in browser.current_url, "the redirect")
        return browser.current_url.removeprefix(address)

    yield opens
    agent = browser.execute_script("return navigator.userAgent")
    browser.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "en-GB"})


@pytest.mark.parametrize(
    ("languages", "choice", "edition"),
    [
        ("zh-CN,en", None, "zh"),
        ("zh-TW", None, "zh"),
        ("en-GB,zh", None, "en"),
        ("fr,de", None, "en"),
        ("fr,zh", None, "zh"),
        ("en-GB", "zh", "zh"),
        ("zh-CN", "en", "en"),
        ("zh-CN", "nonsense", "zh"),
    ],
)
def test_entrance_chooses_the_edition(reader, languages, choice, edition):
    assert reader(languages, choice) == f"{edition}/index.html"


def test_switch_is_remembered(reader, browser, address):
    from selenium.webdriver.common.by import By

    reader("en-GB")
    browser.get(f"{address}en/{CHAPTERS[0]}.html#main")
    browser.find_element(By.CSS_SELECTOR, ".languages a").click()
    wait_until(lambda: browser.current_url == f"{address}zh/{CHAPTERS[0]}.html#main", "the other edition, same place")
    browser.get(address)
    wait_until(lambda: browser.current_url == f"{address}zh/index.html", "the remembered edition")


@pytest.mark.parametrize("page", [*CHAPTERS, "index"])
def test_places_are_the_same_in_both_editions(site, page):
    found = [
        [re.findall(pattern, (site / code / f"{page}.html").read_text("utf-8")) for code in LANGUAGES]
        for pattern in (r'<section[^>]* id="([^"]*)"', r'<div class="dln-at" id="(at-\d+)">')
    ]
    for english, chinese in found:
        assert english == chinese
        assert len(english) == len(set(english)) > 4
        assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in english)


@pytest.mark.parametrize(("page", "size"), [("training/networks", DESKTOP), ("index", PHONE)])
def test_the_switch_leads_to_what_is_read_at_every_section(browser, address, page, size):
    resize(browser, size)
    browser.get(f"{address}en/{page}.html")
    names = browser.execute_script("return [...document.querySelectorAll('main section')].map((one) => one.id)")
    for number, name in enumerate(names[2:-1]):  # further down than a third of a screen, and not at the very end
        switches_at(browser, name, f"{address}{['zh', 'en'][number % 2]}/{page}.html#")


def switches_at(browser, name, goal):
    """Scroll to a section, switch the language: the section stands where it stood."""
    settled = "return !window.MathJax || MathJax.startup.promise.then(() => true)"
    height = f"return document.getElementById('{name}').getBoundingClientRect().top"
    wait_until(lambda: browser.execute_script(settled), "formulas")
    browser.execute_script(
        f"const place = document.getElementById('{name}').getBoundingClientRect();"
        "scrollTo({ top: place.top + scrollY - 150, behavior: 'instant' })"
    )
    before = browser.execute_script(height)
    browser.execute_script("document.querySelector('.languages a').click()")
    wait_until(lambda: goal in browser.current_url, f"{name} in the other edition")
    wait_until(lambda: browser.execute_script(settled), "formulas")
    wait_until(lambda: abs(browser.execute_script(height) - before) < 4, f"{name} where it stood")


def test_entrance_offers_both_without_scripts(reader, browser, address, site):
    assert reader("en-GB", path="index.html?choose") == "index.html?choose"
    links = browser.execute_script("return [...document.querySelectorAll('a')].map((a) => a.href)")
    assert links == [f"{address}{code}/index.html" for code in LANGUAGES]
    text = (site / "index.html").read_text("utf-8")
    assert 'href="zh/index.html"' in text[text.index("<body>") :]


@pytest.mark.parametrize("path", ["en/training/none.html", "zh/a/b/c/none.html", "none.html", "a/b/none"])
def test_missing_page_leads_back_from_any_depth(browser, address, path):
    browser.get(address + path)
    links = [f"{address}{code}/index.html" for code in LANGUAGES]
    read = "return [...document.querySelectorAll('main a')].map((a) => a.href)"
    wait_until(lambda: browser.execute_script(read) == links, f"links to {links}")
    text = browser.execute_script("return document.body.innerText")
    assert "Page not found" in text
    assert "找不到页面" in text
    complaints(browser)  # the missing page itself


@pytest.mark.parametrize("path", ["index.html?choose", "en/none.html"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pages_outside_the_editions_are_accessible(browser, address, path, colours):
    scheme(browser, colours)
    resize(browser, PHONE)
    browser.get(address + path)
    browser.execute_script(axe_source())
    faults = browser.execute_async_script("""
        const done = arguments[0];
        axe.run().then((result) => done(result.violations.map((fault) => [fault.id, fault.nodes[0].html])))""")
    assert faults == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    complaints(browser)


def test_appearance_goes_round_and_is_remembered(browser, address):
    from selenium.webdriver.common.by import By

    resize(browser, DESKTOP)
    scheme(browser, "dark")
    browser.get(f"{address}en/index.html")
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    seen = []
    for _ in range(4):
        theme = browser.execute_script("return document.documentElement.dataset.theme")
        button = browser.find_element(By.CSS_SELECTOR, ".mode")
        seen.append((theme, button.get_attribute("aria-label")))
        button.click()
        browser.refresh()
    words = ["as the system", "light", "dark", "as the system"]
    assert seen == list(zip(["dark", "light", "dark", "dark"], [f"Appearance: {word}" for word in words], strict=True))
    browser.execute_script("localStorage.clear()")


def test_chapters_open_on_a_phone(browser, address):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    resize(browser, PHONE)
    scheme(browser, "light")
    browser.get(f"{address}en/index.html")
    menu, chapters = browser.find_element(By.CSS_SELECTOR, ".menu"), browser.find_element(By.ID, "chapters")
    assert not chapters.is_displayed()
    menu.send_keys(Keys.ENTER)
    assert chapters.is_displayed()
    assert menu.get_attribute("aria-expanded") == "true"
    menu.send_keys(Keys.ESCAPE)
    assert not chapters.is_displayed()
    menu.click()
    chapters.find_element(By.CSS_SELECTOR, "a[href*='training']").click()
    wait_until(lambda: CHAPTERS[0] in browser.current_url, "the first chapter")


def test_copy_button_copies_the_code(browser, address):
    from selenium.webdriver.common.by import By

    resize(browser, DESKTOP)
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(address))
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": origin}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    browser.get(f"{address}zh/{CHAPTERS[0]}.html")
    settled(browser)
    seen = "article .cell_input:not(details *)"
    code = browser.find_element(By.CSS_SELECTOR, f"{seen} pre").text
    button = browser.find_element(By.CSS_SELECTOR, f"{seen} .copy")
    assert button.get_attribute("textContent") == "复制"
    browser.execute_script("arguments[0].click()", button)
    wait_until(lambda: button.get_attribute("textContent") == "已复制", "the button to say so")
    assert browser.execute_script("return navigator.clipboard.readText()") == code.rstrip()


def test_pages_can_be_read_without_scripts(browser, address):
    resize(browser, DESKTOP)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{address}zh/{CHAPTERS[0]}.html")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.execute_script("return document.querySelector('article').getBoundingClientRect().height") > 500
    assert not browser.execute_script("return document.documentElement.dataset.theme")
