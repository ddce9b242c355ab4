r"""Live figures: a module computes in the page, for what is a formula; a picture stands where scripts do not run."""

import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dlnotes.figures import render
from dlnotes.figures.render import ID, close_ids
from dlnotes.figures.wording import alternatives, both, called, captions, target

MODULES = Path(__file__).parent / "modules"
HINT = ("Run this cell to play with the figure.", "运行这个单元格，就可以操作这幅图。")
FAILED = (
    "This browser could not start the figure (it needs JavaScript modules); here is its picture.",
    "这个浏览器没能启动这幅图（需要 JavaScript 模块），这里只有图片。",
)
Start = Mapping[str, Any]
Goal = tuple[Mapping[str, Any], str, str]

_STYLE = """\
.dln-lab-figure{margin:1.6em auto;max-width:47rem}
.dln-lab-figure img{display:block;margin:auto}
.dln-lab-figure figcaption{max-width:none;margin:.6rem 0 0}
.dln-lab-figure p{margin:.25rem 0}
@media (scripting:enabled){.dln-lab-figure:not([data-failed]) :is(img,.hint){visibility:hidden}}"""

# A browser without modules skips the second script, whose `import` it could not read, and runs the first. The second
# has no global names and may run twice on one page, as when JupyterLab shows an output a second time. A module's
# address is kept on the script that holds its text, so figures of one page share what they have in common.
_OLD = """\
(function () {
  var hints = document.querySelectorAll("#%(id)s .hint");
  for (var i = 0; i < hints.length; i++) hints[i].textContent = hints[i].getAttribute("data-failed");
})()"""
_BOOT = """\
(() => {
for (const figure of document.querySelectorAll("#%(id)s:not([data-ready])")) {
  figure.dataset.ready = "";
  const find = (what) => figure.querySelector(`script[${what}]`) ?? document.querySelector(`script[${what}]`);
  const address = (key, change) => {
    const script = find(`data-module="${key}"`);
    return script.dataset.address ??=
      URL.createObjectURL(new Blob([change(script.textContent)], {type: "text/javascript"}));
  };
  const start = async () => {
    const data = JSON.parse(figure.querySelector("script[data-values]").textContent);
    data.page = figure.dataset.place === "page";
    data.words = Object.fromEntries([...figure.querySelectorAll("script[data-words]")]
      .map((script) => [script.dataset.words, JSON.parse(script.textContent)]));
    const shared = address("%(shared)s", (text) => text);
    const module = await import(address("%(module)s", (text) => text.replace('"./live.js"', JSON.stringify(shared))));
    const el = document.createElement("div");
    const model = {get: (name) => data[name], set: (name, value) => { data[name] = value; }, save_changes() {}};
    module.default.render({model, el});
    figure.querySelector(".stage").replaceChildren(el);
  };
  start().catch((error) => {
    figure.dataset.failed = "";
    for (const hint of figure.querySelectorAll(".hint")) hint.textContent = hint.dataset.failed;
    console.info("The live figure did not start:", error);
  });
}
})()"""


@cache
def manifest(module: str) -> dict[str, Any]:
    r"""What a module says of itself: its settings with their ranges, what goals may ask about, its words.

    >>> manifest("valley")["settings"]["turn"]["max"]
    90
    """
    names = sorted(path.stem for path in MODULES.glob("*.json") if path.stem != "live")
    if module not in names:
        raise ValueError(f"module: no live figure is named {module!r}; there are {names}")
    return json.loads((MODULES / f"{module}.json").read_text(encoding="utf-8"))


@cache
def source(module: str) -> str:
    r"""The text of an ES module as a page carries it: without the lines that are comments, and without indents.

    >>> "import {" in source("valley"), "/**" in source("valley")
    (True, False)
    """
    text = (MODULES / f"{module}.js").read_text(encoding="utf-8")
    text = re.sub(r"^\s*/\*\*[\s\S]*?\*/\n|^\s*//.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^\s+", "", text, flags=re.MULTILINE)


def key(module: str) -> str:
    r"""The name of a module's text in a page: another text, another name.

    >>> key("valley").startswith("valley-")
    True
    """
    return f"{module}-{zlib.crc32(source(module).encode()):08x}"


def live(
    module: str,
    start: Start,
    *,
    name: str,
    controls: Mapping[str, Sequence[Any] | None],
    picture: Figure,
    en: str,
    zh: str,
    goals: Iterable[Goal] = (),
    alt_en: str | None = None,
    alt_zh: str | None = None,
) -> "Live":
    r"""A figure that computes in the page, for the last line of a cell; it needs neither a kernel nor the network.

    Args:
        module: which figure; `"valley"` is the walk of an optimizer down ½(u² + κ v²).
        start: `{setting: value}` to begin with; the others have the module's own values.
        name: what a link calls the figure (`#name?eta=0.1`): small letters, digits and hyphens, once a page. If it
            begins with `fig-`, the text can refer to the figure's number (see :func:`dlnotes.plot.show`).
        controls: `{setting: range}`, what a reader can change beside what is dragged, in this order. The range is
            `(low, high)` for a number and the choices for a menu, within the module's own; `None` means all of it.
        picture: what stands where scripts do not run: the figure as it begins, drawn with Matplotlib.
        en: the caption, in plain text.
        zh: the same in Chinese.
        goals: what to try, each `(test, English, 中文)`. The test names settings or facts of the module, such as
            `{"arrival": (None, 20), "kappa": (100, None)}`: a range with an open end, or the value itself.
        alt_en: the picture's text alternative: what is drawn. Default: the caption.
        alt_zh: the same in Chinese.

    Raises:
        ValueError: an argument does not fit; the message names it.
        TypeError: `picture` is no Matplotlib figure.

    >>> shown = live("valley", {"eta": 0.07}, name="try", controls={"eta": (0.01, 0.1), "kappa": None},
    ...              picture=Figure(figsize=(5, 3)), en="A valley.", zh="一道山谷。")
    >>> shown.data["controls"], shown.data["start"]["eta"]
    (['eta', 'kappa', 'x', 'y'], 0.07)
    """
    about = manifest(module)
    if not re.fullmatch("[a-z][a-z0-9-]*", name):
        raise ValueError(f"name: expected small letters, digits and hyphens, got {name!r}")
    if not isinstance(picture, Figure):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"picture: expected a Figure, got {type(picture).__name__}")
    known = about["settings"]
    for argument, given in (("start", start), ("controls", controls)):
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"{argument}: {module!r} has no setting {unknown}; there are {list(known)}")
    settings = {key: dict(spec) for key, spec in known.items()}
    for key, range_ in controls.items():
        if range_ is not None:
            settings[key] |= _narrow(key, known[key], range_)
    values = {key: _value(key, spec, start.get(key, spec["start"])) for key, spec in settings.items()}
    for spec in settings.values():
        del spec["start"]
    tests, words = [], {lang: dict(about["words"][lang]) for lang in ("en", "zh")}
    for number, (test, *texts) in enumerate(goals):
        word = f"goal {number}"
        words["en"][word], words["zh"][word] = captions(*texts)
        tests.append({"word": word, "test": _test(test, {*known, *about["facts"]})})
    dragged = [key for key, spec in known.items() if spec.get("dragged") and key not in controls]
    data = {
        "name": name, "settings": settings, "start": values, "controls": [*controls, *dragged], "goals": tests,
    }  # fmt: skip
    return Live(module, data, words, captions(en, zh), picture, alternatives(alt_en, alt_zh))


def _number(argument: str, value: Any, low: float, high: float) -> float:
    if hasattr(value, "item"):
        value = value.item()  # of an array or a tensor
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{argument}: expected a number from {low:g} to {high:g}, got {value!r}")
    return value


def _value(key: str, spec: Mapping[str, Any], value: Any) -> Any:
    r"""The value if the setting can have it."""
    argument = f"start: {key}"
    if spec["kind"] == "number":
        value = _number(argument, value, spec["min"], spec["max"])
        if spec.get("whole") and value != round(value):
            raise ValueError(f"{argument}: expected a whole number, got {value!r}")
        return value
    if spec["kind"] == "numbers":
        values = list(value)
        if len(values) != spec["count"]:
            raise ValueError(f"{argument}: expected {spec['count']} numbers, got {values}")
        return [_number(argument, one, spec["min"], spec["max"]) for one in values]
    choices = (False, True) if spec["kind"] == "switch" else spec["choices"]
    if value not in choices or isinstance(value, bool) != (spec["kind"] == "switch"):
        raise ValueError(f"{argument}: expected one of {list(choices)}, got {value!r}")
    return value


def _narrow(key: str, spec: Mapping[str, Any], range_: Sequence[Any]) -> dict[str, Any]:
    r"""What is left of a setting's range."""
    argument, found = f"controls: {key}", list(range_)
    if spec["kind"] == "choice":
        if len(found) < 2 or len(set(found)) < len(found) or not set(found) <= set(spec["choices"]):
            raise ValueError(f"{argument}: expected two or more of {spec['choices']}, got {found}")
        return {"choices": found}
    if spec["kind"] != "number" or len(found) != 2:
        raise ValueError(f"{argument}: expected None{' or (low, high)' * (spec['kind'] == 'number')}, got {range_!r}")
    low, high = (_number(argument, end, spec["min"], spec["max"]) for end in found)
    if not low < high:
        raise ValueError(f"{argument}: expected a low end below the high one, got {found}")
    return {"min": low, "max": high}


def _test(test: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    r"""A goal's test, if the page can judge it."""
    if not test or not set(test) <= known:
        raise ValueError(f"goals: expected a test of some of {sorted(known)}, got {dict(test)}")
    for key, wanted in test.items():
        if isinstance(wanted, str | bool):
            continue
        ends = [] if isinstance(wanted, int | float) else list(wanted)
        fine = all(end is None or (isinstance(end, int | float) and math.isfinite(end)) for end in ends)
        if len(ends) != 2 or not fine or ends == [None, None]:
            raise ValueError(f"goals: expected (low, high), a text, True or False for {key!r}, got {wanted!r}")
    return {key: list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else wanted
            for key, wanted in test.items()}  # fmt: skip


@dataclass(frozen=True)
class Live:
    r"""What :func:`live` returns; a notebook shows it.

    >>> import matplotlib.pyplot as plt
    >>> shown = Live("valley", {"name": "a"}, {"en": {}, "zh": {}}, ("A.", "字。"), Figure(figsize=(1, 1)))
    >>> shown.html.startswith('<figure class="dln-lab-figure"')
    True
    """

    module: str
    data: Mapping[str, Any]
    words: Mapping[str, Mapping[str, str]]
    caption: tuple[str, str]
    picture: Figure
    alternative: tuple[str, str] | None = None

    @property
    def html(self) -> str:
        r"""The figure with all that it needs, inline: picture, words, values, the modules, and what starts them."""
        import_module("matplotlib.pyplot").close(self.picture)  # or the notebook would show it a second time
        common = json.loads((MODULES / "live.json").read_text(encoding="utf-8"))
        keys = {module: key(module) for module in ("live", self.module)}
        scripts = "".join(
            f'<script type="text/plain" data-module="{key}">{source(module)}</script>\n' for module, key in keys.items()
        )
        words = "".join(
            f'<!--dln:{lang}--><script type="application/json" data-words="{lang}">'
            f"{_json(common[lang] | dict(self.words[lang]))}</script><!--/dln:{lang}-->\n"
            for lang in ("en", "zh")
        )
        names = {"id": f"{ID}f", "shared": keys["live"], "module": keys[self.module]}
        extra = tuple(f' class="hint" role="status" data-failed="{text}"' for text in FAILED)
        name = self.data["name"] if self.data["name"].startswith("fig-") else None
        unseen = f'<p id="{ID}a" hidden>{both(*self.alternative)}</p>\n' if self.alternative else ""
        hints = both(*HINT, "p", (extra[0], extra[1]))
        return close_ids(
            f'<figure class="dln-lab-figure" id="{ID}f" data-live="{self.data["name"]}" data-place="notebook">\n'
            f"<style>\n{_STYLE}\n</style>\n{target(name)}{unseen}"
            f'<div class="stage"><div role="img" aria-labelledby="{ID}{"a" if self.alternative else "c"}">'
            f"{render.img(self.picture, dpi=80)}</div>"
            f"{hints}</div>\n"
            f'<figcaption id="{ID}c">{called(name)}{both(*self.caption, "p")}</figcaption>\n'
            f'<script type="application/json" data-values>{_json(self.data)}</script>\n{words}</figure>\n'
            f"{scripts}<script nomodule>{_OLD % names}</script>\n<script>{_BOOT % names}</script>"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"text/plain": "\n".join(self.caption), "text/html": self.html}


def _json(data: object) -> str:
    r"""JSON that cannot end the script around it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
