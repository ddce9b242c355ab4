r"""The explorer: one drawing function, live controls in a kernel, stored frames on a page without one."""

import html
import itertools
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dlnotes.figures import render
from dlnotes.figures.page import Control, page
from dlnotes.figures.wording import alternatives, anchor, captions, text_of, whole

MAX_FRAMES = 400
Values = Mapping[str, Any]


def explorer(
    draw: Callable[..., Figure],
    controls: Mapping[str, Iterable[Any]],
    *,
    en: str,
    zh: str,
    labels: Mapping[str, Sequence[Any]] | None = None,
    describe: Callable[..., tuple[str, str]] | None = None,
    start: Values | None = None,
    alt_en: str | None = None,
    alt_zh: str | None = None,
    name: str | None = None,
) -> "Explorer":
    r"""A figure with controls, for the last line of a cell.

    With a kernel the controls call `draw` again, so a reader can change the code and explore the change. Without
    one (the book's pages) the same figure plays stored frames, one for every combination of the values.

    The cell's output holds both, a widget view and `text/html`, and a notebook shows one of them: JupyterLab the
    widget, in a cell that was run there. A view without its kernel is an error message in place of the figure, so
    stored notebooks leave it out (`make notebooks` does). The book, and whatever has no ipywidgets, takes the HTML.

    Args:
        draw: called as `draw(name=value, …)`; returns a Matplotlib figure, the same size each time. Give the axes
            fixed limits, or they jump from frame to frame.
        controls: `{name: values}`, one to four of them and at most 400 combinations: numbers make a slider, strings
            a menu, `[False, True]` a switch.
        en: the caption, in plain text.
        zh: the same in Chinese.
        labels: `{name: (English, 中文)}`, or with a third item: the format of the values, such as `"{:.0%}"`, or for
            a menu what its values are called, `{value: (English, 中文)}`.
        describe: called like `draw`; returns what to say about this frame, `(English, 中文)`. It stands below the
            controls and is read aloud when it changes.
        start: `{name: value}` to begin with; otherwise the first values.
        alt_en: the text alternative: what is drawn. Default: the caption.
        alt_zh: the same in Chinese.
        name: what the text calls the figure, such as `fig-rates` (see :func:`dlnotes.plot.show`).

    Raises:
        ValueError: an argument does not fit; the message names it.
        TypeError: `draw` returned something else than a figure.

    >>> def draw(rate):
    ...     figure = Figure(figsize=(5, 3))
    ...     figure.subplots().plot([0, 1], [0, rate])
    ...     return figure
    >>> shown = explorer(draw, {"rate": [0.1, 0.2]}, en="A line.", zh="一条直线。", labels={"rate": ("Rate", "学习率")})
    >>> len(shown.frames)
    2
    """
    labels, start = dict(labels or {}), dict(start or {})
    for argument, given in (("labels", labels), ("start", start)):
        if unknown := sorted(set(given) - set(controls)):
            raise ValueError(f"{argument}: no control is named {unknown}; there are {list(controls)}")
    if not 1 <= len(controls) <= 4:
        raise ValueError(f"controls: expected one to four, got {len(controls)}")
    checked = [
        _control(name, values, labels.get(name, (name, name)), {name: start[name]} if name in start else {})
        for name, values in controls.items()
    ]
    count = math.prod(len(control.values) for control in checked)
    if count > MAX_FRAMES:
        raise ValueError(f"controls: expected at most {MAX_FRAMES} combinations, got {count}: take fewer values")
    return Explorer(draw, checked, captions(en, zh), describe, alternatives(alt_en, alt_zh), anchor(name))


def _control(name: str, values: Iterable[Any], label: Sequence[Any], start: Values) -> Control:
    several = list(itertools.islice(values, MAX_FRAMES + 1))  # an iterator may have no end
    if len(several) > MAX_FRAMES:
        raise ValueError(f"controls: expected at most {MAX_FRAMES} values of {name!r}, got more")
    plain = [value.item() if hasattr(value, "item") else value for value in several]  # from arrays and tensors
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in plain]
    if len(plain) < 2 or not (all(numbers) or plain == [False, True] or all(isinstance(v, str) for v in plain)):
        kinds = "at least two numbers, or two strings, or [False, True]"
        raise ValueError(f"controls: expected {kinds} for {name!r}, got {plain}")
    if isinstance(label, str) or not 2 <= len(label) <= 3:
        raise ValueError(f"labels: expected (English, 中文) or with a format for {name!r}, got {label!r}")
    whole("labels", f"{label[0]}{label[1]}")
    third, pairs = label[2] if len(label) == 3 else "", None
    if isinstance(third, Mapping):
        if set(third) != set(plain) or not all(isinstance(v, str) for v in plain):
            raise ValueError(f"labels: expected a name for each of {plain} of {name!r}, got {dict(third)}")
        pairs = [captions(*third[value]) for value in plain]
        texts = [" · ".join(pair) for pair in pairs]
    else:
        texts = [whole("controls", text_of(value, third)) for value in plain]
    if len(set(texts)) < len(texts):
        raise ValueError(f"controls: values of {name!r} look alike: {texts}; give a finer format in labels")
    index = 0
    for value in start.values():  # at most one; 0.3 is meant where linspace made 0.30000000000000004
        near = [numbers[0] and math.isclose(value, v, rel_tol=1e-6, abs_tol=1e-12) for v in plain]
        if value not in plain and not any(near):
            raise ValueError(f"start: expected one of {plain} for {name!r}, got {value!r}")
        index = plain.index(value) if value in plain else near.index(True)
    return Control(name, plain, texts, label[0], label[1], index, pairs)


@dataclass
class Explorer:
    r"""What :func:`explorer` returns; a notebook shows it. All frames are drawn when it is made.

    >>> mode = Control("mode", ["a", "b"], ["a", "b"], "Mode", "方式", 0)
    >>> Explorer(lambda mode: Figure(), [mode], ("Nothing.", "什么也没有。")).frames
    [{'mode': 'a'}, {'mode': 'b'}]
    """

    draw: Callable[..., Figure]
    controls: Sequence[Control]
    caption: tuple[str, str]
    describe: Callable[..., tuple[str, str]] | None = None
    alternative: tuple[str, str] | None = None
    name: str | None = None
    frames: list[dict[str, Any]] = field(init=False)
    html: str = field(init=False, repr=False)

    def __post_init__(self):
        points = itertools.product(*(control.values for control in self.controls))
        self.frames = [dict(zip((c.name for c in self.controls), point, strict=True)) for point in points]
        start = self.frames.index({control.name: control.values[control.start] for control in self.controls})
        image, svg, size, pieces = "", "", None, list[list[str]]()
        for number, values in enumerate(self.frames):
            figure = self.figure(values)
            size = size or tuple(figure.get_size_inches())
            if tuple(figure.get_size_inches()) != size:
                raise ValueError(f"draw: expected figures of one size, {size}, got {figure} for {values}")
            pieces.append(render.pieces(figure))
            if number == start:
                image, svg = render.img(figure, dpi=80, colours=32), render.svg(figure, "")
        texts = [self.text(values) for values in self.frames] if self.describe else []
        self.html = page(image, svg, pieces, self.controls, self.caption, texts, start, self.alternative, self.name)

    def figure(self, values: Values) -> Figure:
        r"""Draw the figure for these values of the controls."""
        try:
            figure = self.draw(**values)
        except Exception as error:
            error.add_note(f"The explorer called draw with {dict(values)}.")
            raise
        if not isinstance(figure, Figure):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"draw: expected a Figure, got {type(figure).__name__} for {dict(values)}")
        plt.close(figure)  # or the notebook would show it a second time
        return figure

    def text(self, values: Values) -> tuple[str, str]:
        r"""What to say about these values, each language on one line; empty without `describe`."""
        if not self.describe:
            return "", ""
        texts = [whole("describe", " ".join(str(text).split())) for text in self.describe(**values)]
        if len(texts) != 2 or not all(texts):
            raise ValueError(f"describe: expected (English, 中文), got {texts} for {dict(values)}")
        return texts[0], texts[1]

    def live(self) -> Any:
        r"""The widget for a kernel: it calls `draw` again at every change (needs ipywidgets)."""
        widgets = import_module("ipywidgets")
        picture, inputs = widgets.HTML(), {}
        for control in self.controls:
            slider = control.kind == "slider"
            inputs[control.name] = (widgets.SelectionSlider if slider else widgets.Dropdown)(
                options=list(zip(control.texts, control.values, strict=True)),
                value=control.values[control.start],
                description=" · ".join(dict.fromkeys((control.en, control.zh))),
                style={"description_width": "initial"},
                layout=widgets.Layout(width="100%", max_width="40rem"),
                **({"continuous_update": False} if slider else {}),  # a drawing takes too long for every pixel
            )

        def redraw(_change: object = None) -> None:
            try:
                picture.value = self._picture({name: input.value for name, input in inputs.items()})
            except Exception:  # a widget's callback has nowhere else to show what went wrong
                picture.value = f"<pre>{html.escape(traceback.format_exc())}</pre>"

        for input in inputs.values():
            input.observe(redraw, "value")
        redraw()
        return widgets.VBox([*inputs.values(), picture])

    def _picture(self, values: Values) -> str:
        texts = [*filter(None, self.text(values)), *self.caption]
        return render.img(self.figure(values), " ".join(self.alternative or self.caption)) + "".join(
            f'<p style="line-height:1.5;margin:.25em 0">{html.escape(text)}</p>' for text in texts
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": "\n".join(self.caption), "text/html": self.html}
        try:
            import_module("ipywidgets")
        except ImportError:
            return bundle
        view = {"version_major": 2, "version_minor": 0, "model_id": self.live().model_id}
        return bundle | {"application/vnd.jupyter.widget-view+json": view}
