r"""The HTML of an explorer: stored frames and controls that need neither a kernel nor the network."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlnotes.figures.render import ID, close_ids, pack
from dlnotes.figures.wording import both, called, target

_STYLE = """\
.dln-explorer{margin:1.6em auto;max-width:40rem;text-align:start}
.dln-explorer svg,.dln-explorer img{display:block;width:100%}
@media (scripting:enabled){.dln-explorer img{visibility:hidden}}
.dln-controls{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;margin-top:.5rem}
.dln-controls>div{flex:1 1 14rem}
.dln-controls input[type=range]{display:block;width:100%;height:2rem;margin:0;cursor:pointer}
.dln-controls select{display:block;min-height:2rem;max-width:100%;font:inherit}
.dln-controls input[type=checkbox]{width:1.5rem;height:1.5rem;margin:.25rem;vertical-align:middle}
.dln-controls label span+span::before{content:" · "}
.dln-controls :focus-visible{outline:3px solid currentColor;outline-offset:2px}
.dln-controls output{font-weight:600;font-variant-numeric:tabular-nums}
.dln-explorer p{margin:.25rem 0}
.dln-live{min-height:1.5em}"""

# Where scripts do not run (a notebook not trusted yet, a code host's preview) a reader sees a PNG and the hint; the
# script puts the picture and the controls there. It is one function without global names, and may run twice on one
# page, as when JupyterLab shows an output a second time: each copy of the figure is made ready once. Keys stay in
# the figure, or a notebook around it takes the arrow keys.
HINT = ("Run this cell to explore the figure.", "运行这个单元格，就可以操作这幅图。")
_SCRIPT = r"""
(() => {
const parts = String.raw`%s`.split("\n"), frames = %s;
const svg = String.raw`%s`, inputs = String.raw`%s`;
for (const figure of document.querySelectorAll("#%s:not([data-ready])")) {
  figure.dataset.ready = "";
  const box = figure.querySelector("[role=img]");
  figure.querySelector(".dln-controls").innerHTML = inputs;
  const controls = [...figure.querySelectorAll("input,select")];
  const update = () => {
    let frame = 0, picture = "";
    for (const control of controls) {
      const index = control.type == "checkbox" ? +control.checked : +control.value;
      frame = frame * control.dataset.count + index;
      if (control.type != "range") continue;
      const text = control.dataset.texts.split("\n")[index];
      control.setAttribute("aria-valuetext", text);
      control.parentNode.querySelector("output").textContent = text;
    }
    for (let i = 0; i < frames[frame].length; i += 2)
      picture += parts.slice(frames[frame][i], frames[frame][i + 1]).join("");
    box.innerHTML = svg.replace("><", () => ">" + picture + "<");
    for (const line of figure.querySelectorAll("p[data-texts]"))
      line.textContent = line.dataset.texts.split("\n")[frame];
  };
  figure.addEventListener("input", update);
  figure.addEventListener("keydown", (event) => event.stopPropagation());
  update();
}
})()"""


@dataclass(frozen=True)
class Control:
    r"""One control: its values, how they read, its label in both languages, and the value it starts at.

    >>> Control("mode", ["up", "down"], ["up · 上", "down · 下"], "Way", "方向", 0, [("up", "上"), ("down", "下")]).kind
    'menu'
    """

    name: str
    values: list[Any]
    texts: list[str]
    en: str
    zh: str
    start: int  # an index
    pairs: list[tuple[str, str]] | None = None  # a menu's texts, where the languages differ

    @property
    def kind(self) -> str:
        r"""A switch, a menu or a slider, by what the values are."""
        return {bool: "switch", str: "menu"}.get(type(self.values[0]), "slider")

    def html(self, key: str) -> str:
        r"""The control with its label; `key` becomes its id."""
        label = html.escape(self.en) if self.en == self.zh else both(self.en, self.zh)
        label = f'<label for="{key}">{label}</label>'
        common = f'id="{key}" data-count="{len(self.values)}" autocomplete="off"'
        texts = [html.escape(text) for text in self.texts]
        if self.kind == "switch":
            return f'<div><input type="checkbox" {common}{" checked" * self.start}> {label}</div>'
        if self.kind == "menu":
            chosen = [" selected" * (i == self.start) for i in range(len(texts))]
            if self.pairs:  # no elements inside an option; the blank parts the two in a notebook
                words = [(html.escape(en), html.escape(zh)) for en, zh in self.pairs]
                texts = [f"<!--dln:en-->{en} <!--/dln:en--><!--dln:zh-->{zh}<!--/dln:zh-->" for en, zh in words]
            options = (f'<option value="{i}"{chosen[i]}>{text}</option>' for i, text in enumerate(texts))
            return f"<div>{label} <select {common}>{''.join(options)}</select></div>"
        shown, lines = texts[self.start], "\n".join(texts)
        return (
            f'<div>{label} <output for="{key}" aria-live="off">{shown}</output><input type="range" min="0" '
            f'max="{len(texts) - 1}" value="{self.start}" aria-valuetext="{shown}" data-texts="{lines}" {common}></div>'
        )


def page(
    image: str,
    svg: str,
    frames: Sequence[Sequence[str]],
    controls: Sequence[Control],
    caption: tuple[str, str],
    texts: Sequence[tuple[str, str]],
    start: int,
    alternative: tuple[str, str] | None = None,
    name: str | None = None,
) -> str:
    r"""A figure that shows `frames` as its controls say.

    Args:
        image: what to see until the script runs, and where it does not.
        svg: an empty `<svg>` element, the frames' place.
        frames: the pieces of every frame, the last control's values running fastest.
        controls: at least one.
        caption: English and Chinese.
        texts: what to say about each frame, English and Chinese; empty for nothing.
        start: the number of the frame in `image`.
        alternative: what is drawn, English and Chinese; None where the caption says it.
        name: what the text calls the figure.

    >>> mode = Control("mode", ["a", "b"], ["a", "b"], "Mode", "方式", 0)
    >>> text = page("<img>", "<svg></svg>", [["<path/>"], ["<line/>"]], [mode], ("A line.", "一条线。"), [], 0)
    >>> text.startswith('<figure class="dln-explorer"'), "<line/>" in text
    (True, True)
    """
    parts, runs = pack(frames)
    inputs = "".join(control.html(f"{ID}{number}") for number, control in enumerate(controls))
    # In a JavaScript string that takes markup as it is, but for what would end it.
    lines, inputs = (text.replace("`", "&#96;").replace("${", "$&#123;") for text in ("\n".join(parts), inputs))
    script = _SCRIPT % (lines, json.dumps(runs, separators=(",", ":")), svg, inputs, f"{ID}f")
    live = described = ""
    if texts:
        columns = [html.escape("\n".join(column)) for column in zip(*texts, strict=True)]
        text = both(*texts[start], "p", (f' data-texts="{columns[0]}"', f' data-texts="{columns[1]}"'))
        live = f'<div class="dln-live" id="{ID}t" aria-live="polite">{text}</div>\n'
        described = f' aria-describedby="{ID}t"'
    unseen = f'<p id="{ID}a" hidden>{both(*alternative)}</p>\n' if alternative else ""
    return close_ids(
        f'<figure class="dln-explorer" id="{ID}f">\n<style>\n{_STYLE}\n</style>\n{target(name)}'
        f'<div role="img" aria-labelledby="{ID}{"a" if alternative else "c"}"{described}>{image}</div>\n{unseen}'
        f'<div class="dln-controls">{both(*HINT, "p")}</div>\n{live}'
        f'<figcaption id="{ID}c">{called(name)}{both(*caption, "p")}</figcaption>\n</figure>\n'
        f"<script>{script}</script>"
    )
