r"""Figures of the course: one style, both languages, tables, curves, contours, explorers and live figures."""

import html
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from dlnotes.figures import render
from dlnotes.figures.explorer import explorer
from dlnotes.figures.live import live
from dlnotes.figures.table import table
from dlnotes.figures.wording import alternatives, anchor, captions

__all__ = ["COLORS", "bundles", "contour", "curves", "explorer", "live", "path", "show", "style", "table"]

# Okabe and Ito's colours, told apart by colour-blind readers too. The first three are legible as thin lines on white
# and on black; yellow is for areas only.
COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "gray": "#808080",
}

# 5 inches and 11 points: on a phone, where the figure is two thirds as wide, its text is still readable.
_STYLE: Any = {
    "figure.figsize": (5.0, 3.3),
    "figure.dpi": render.DPI,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": "medium",
    "axes.prop_cycle": cycler(color=[COLORS[name] for name in list(COLORS)[:6]]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "black",  # ink with little of it: right on a dark page too
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "image.cmap": "cividis",
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "none",
    "svg.hashsalt": "dlnotes",
}


class _Style(ExitStack):
    def _ipython_display_(self) -> None:
        r"""Show nothing when `style()` is the last line of a cell."""


def style() -> ExitStack:
    r"""Take on the course's Matplotlib style, for the whole notebook or, after `with`, for a block.

    Draw in black what is ink (it follows the page's text colour) and in white what is paper.

    >>> with style():
    ...     plt.rcParams["axes.spines.top"]
    False
    """
    before: Any = {key: mpl.rcParams[key] for key in _STYLE}
    mpl.rcParams.update(_STYLE)
    stack = _Style()
    stack.callback(mpl.rcParams.update, before)
    return stack


def show(
    figure: Figure,
    en: str,
    zh: str,
    *,
    alt_en: str | None = None,
    alt_zh: str | None = None,
    name: str | None = None,
) -> None:
    r"""Show a figure with its caption in both languages; then close it.

    Two outputs: the picture (PNG for notebooks, and what the book makes its own figure of), and the captions for
    readers of the notebook; the book drops the second one by its `application/vnd.dlnotes.caption+json`.

    Args:
        figure: what to show.
        en: the caption, in plain text: what was found.
        zh: the same in Chinese.
        alt_en: the text alternative, for readers who do not see the figure: what is drawn. Default: the caption.
        alt_zh: the same in Chinese.
        name: what the text calls it, such as `fig-valley`: the book gives figures numbers, and `[Figure](#fig-valley)`
            and `[图](#fig-valley)` become “Figure 3” and “图 3”.

    Raises:
        ValueError: a text is empty, holds a formula, or the Chinese one has no Chinese; an alternative in one
            language only; a name that is none.

    >>> with style():
    ...     figure, ax = plt.subplots()
    >>> show(figure, en="Empty axes.", zh="空坐标轴。")  # a script only prints the captions
    Empty axes.
    空坐标轴。
    """
    shown = bundles(figure, en, zh, alt_en=alt_en, alt_zh=alt_zh, name=name)
    plt.close(figure)  # or the notebook would show it a second time
    ipython = import_module("IPython")
    if ipython.get_ipython() is None:  # a plain script has no place for a picture
        print(shown[0]["text/plain"])
        return
    for bundle in shown:
        ipython.display.display(bundle, raw=True)


def bundles(
    figure: Figure,
    en: str,
    zh: str,
    *,
    alt_en: str | None = None,
    alt_zh: str | None = None,
    name: str | None = None,
) -> list[dict[str, Any]]:
    r"""The MIME bundles of :func:`show`: the picture, the captions.

    >>> [sorted(bundle)[0] for bundle in bundles(Figure(), "Empty.", "空的。")]
    ['application/vnd.dlnotes.figure+json', 'application/vnd.dlnotes.caption+json']
    """
    en, zh = captions(en, zh)
    alternative, name = alternatives(alt_en, alt_zh), anchor(name)
    content = "".join(render.pieces(figure))
    svg = render.close_ids(render.svg(figure, content))
    text = f"{en}\n{zh}"
    data = {"svg": svg, "en": en, "zh": zh}
    if alternative:
        data |= dict(zip(("alt_en", "alt_zh"), alternative, strict=True))
    if name:
        data["name"] = name
    target, word, chinese = (f' id="{name}"', "<b>Figure</b> ", "<b>图</b>　") if name else ("", "", "")
    paragraphs = [
        f'<p lang="en"{target}>{word}{html.escape(en)}</p>',
        f'<p lang="zh">{chinese}{html.escape(zh)}</p>',
    ]
    return [
        {
            "image/png": b64encode(render.png(figure)).decode(),
            "application/vnd.dlnotes.figure+json": data,
            "text/plain": text,
        },
        {
            "text/html": "".join(paragraphs),
            "application/vnd.dlnotes.caption+json": {"en": en, "zh": zh},
            "text/plain": text,
        },
    ]


def curves(ax: Axes, history: Sequence[Mapping[str, Any]], *names: str, x: str = "epoch") -> None:
    r"""Plot entries of a history, such as `Runner.history`; `val_name` is drawn beside `name`, dashed.

    Epochs where a name is missing are left out, so a loss validated every fifth epoch is one line too.

    >>> ax = Figure().subplots()
    >>> curves(ax, [{"epoch": 1, "loss": 0.6, "val_loss": 0.7}, {"epoch": 2, "loss": 0.4, "val_loss": 0.6}], "loss")
    >>> [line.get_label() for line in ax.lines]
    ['loss', 'val_loss']
    """
    known = list(dict.fromkeys(key for entry in history for key in entry))
    for name in names or ("loss",):
        pair = [key for key in (name, f"val_{name}") if key in known]
        if not pair or x not in known:
            raise ValueError(f"history: no entry {x if pair else name!r}; there are {known}")
        for key in pair:
            entries = [entry for entry in history if key in entry and x in entry]
            ax.plot(
                [entry[x] for entry in entries],
                [entry[key] for entry in entries],
                linestyle="--" if key.startswith("val_") else "-",
                marker="." if len(entries) < 30 else None,
                label=key,
            )
    if all(isinstance(entry.get(x, 0), int) for entry in history):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 2.5
    ax.set_xlabel(x)
    ax.legend()


def contour(
    ax: Axes,
    f: Callable[[Tensor, Tensor], Tensor],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    levels: int | Sequence[float] = 12,
    points: int = 100,
    filled: bool = False,
) -> None:
    r"""Draw the level curves of `f(x, y)`, called once with two grids `(points, points)`; fixes the axes' limits.

    A number of `levels` is spaced by squares above the minimum: around a minimum, where a loss is quadratic, the
    curves are then equally far apart instead of crowding at the rim. A constant has no level curves: none is drawn.

    Raises:
        ValueError: `f` returned another shape, or something that is not finite; fewer than two levels are asked for.

    >>> ax = Figure().subplots()
    >>> contour(ax, lambda x, y: x**2 + 4 * y**2, (-2, 2), (-1, 1))
    >>> len(ax.collections[0].get_paths())  # twelve levels
    12
    """
    axes = (torch.linspace(*limits, points, dtype=torch.float64) for limits in (xlim, ylim))
    x, y = torch.meshgrid(*axes, indexing="xy")
    with torch.no_grad():
        z = f(x, y)
    if z.shape != x.shape:
        raise ValueError(f"f: expected values of shape {tuple(x.shape)} for two such grids, got {tuple(z.shape)}")
    if not z.isfinite().all():
        raise ValueError(f"f: expected finite values on {xlim} × {ylim}, got {(~z.isfinite()).sum()} others")
    low, high = z.min().item(), z.max().item()
    if isinstance(levels, int):
        if levels < 2:
            raise ValueError(f"levels: expected at least 2, got {levels}")
        spaced = (low + (high - low) * (k / levels) ** 2 for k in range(0 if filled else 1, levels + 1))
        levels = list(dict.fromkeys(spaced))  # of an almost constant function some fall together
        if filled and high == low:
            levels = [low - 0.5, low + 0.5]  # one area
    if filled:
        ax.contourf(x.numpy(), y.numpy(), z.numpy(), levels=levels)
    elif any(low < level < high for level in levels):
        ax.contour(x.numpy(), y.numpy(), z.numpy(), levels=levels, colors=COLORS["gray"], linewidths=0.8)
    ax.grid(False)
    ax.set(xlim=xlim, ylim=ylim)


def path(ax: Axes, points: Tensor | Iterable[Any], *, color: str = COLORS["vermilion"], label: str = "") -> None:
    r"""Draw a trajectory `(steps, 2)`: a ring where it starts, a dot at every step, a star where it ends.

    >>> ax = Figure().subplots()
    >>> path(ax, [(2.0, 1.0), (1.0, 0.2), (0.5, 0.1)])
    >>> len(ax.lines)
    3
    """
    xy = points if isinstance(points, Tensor) else torch.tensor([[float(x), float(y)] for x, y in points])
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
        raise ValueError(f"points: expected shape (steps, 2), got {tuple(xy.shape)}")
    xy = xy.detach().cpu().double().numpy()
    ax.plot(xy[:, 0], xy[:, 1], ".-", color=color, linewidth=1.5, label=label or None)
    ax.plot(*xy[0], "o", color=color, markerfacecolor="none", markersize=10)
    ax.plot(*xy[-1], "*", color=color, markersize=12)
