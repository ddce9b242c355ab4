r"""Turn a Matplotlib figure into small, repeatable SVG and PNG.

In the SVG black is ink and white is paper: both follow the colours of the page, so one picture is right in
light and in dark mode. The same figure gives the same bytes in every run.
"""

import io
import re
import zlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from dlnotes.figures.wording import whole

# Stands before every id until the page's own prefix is known; a character of Unicode's private use area.
ID = "\ue000"
DPI = 110  # of a PNG
_SAVE: Any = {"savefig.bbox": None, "svg.fonttype": "none"}
# The book's own colour, JupyterLab's, or what the browser takes.
_PAPER = "--dln-paper:var(--paper,var(--jp-layout-color0,Canvas))"
_LENGTHS = {"d", "x", "y", "width", "height"}  # attributes in points: two decimals are plenty
# Where an artist's link may lead; a `javascript:` address would run in the reader's page.
_LINK = re.compile(r"#|https?:|mailto:|data:image/|(?![a-z][a-z0-9+.-]*:)", re.IGNORECASE)


def _short(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), 2) + 0.0:g}" if abs(float(number[0])) < 1e4 else number[0]


def _style(text: str) -> dict[str, str]:
    text = text.replace("#000000", "currentColor").replace("#ffffff", "var(--dln-paper)")
    rules = dict(re.split(r"\s*:\s*", rule.strip(), maxsplit=1) for rule in text.split(";") if rule.strip())
    if "DejaVu Sans" in rules.get("font-family", "").split(",")[0]:
        del rules["font-family"]  # said once, at the root
    return rules


def _write(rules: dict[str, str]) -> str:
    return ";".join(f"{key}:{rule}" for key, rule in rules.items())


def _tidy(element: ElementTree.Element) -> None:
    r"""Short names, short numbers, the page's colours."""
    element.tag = element.tag.rpartition("}")[2]
    old = dict(element.attrib)
    element.attrib.clear()
    for name, value in old.items():
        name = name.rpartition("}")[2]  # without the XML namespace
        if name in _LENGTHS:
            value = re.sub(r"-?\d+\.\d+", _short, value)
            value = re.sub(r"\s*([A-Za-z])\s*", r"\1", value.strip()) if name == "d" else value
        elif name == "style":
            value = _write(_style(value))
        elif name == "href":
            value = re.sub(r"\s", "", value)  # images carry line breaks in their data
            value = value if _LINK.match(value) else ""
        if value and name not in {"id", "space"} and not value.startswith("rotate(-0 "):
            element.set(name, value)
    for text in ("text", "tail"):
        if not (getattr(element, text) or "").strip():
            setattr(element, text, None)


def _name_by_content(root: ElementTree.Element, ids: dict[ElementTree.Element, str]) -> None:
    r"""Name what is used again (markers, clip paths) by what it is.

    The same thing then has the same name in every frame and every run, and nothing else needs a name.
    """
    names: dict[str, str] = {}
    styles: dict[str, dict[str, str]] = {}
    for item in [child for parent in root.iter("defs") for child in parent if ids[child]]:
        name = f"{ID}{zlib.crc32(ElementTree.tostring(item)):x}"
        names[ids[item]], styles[name] = name, _style(item.get("style", ""))
        item.set("id", name)
    for element in root.iter():
        for key, value in element.attrib.items():
            for old in set(re.findall(r"(?:url\(|^)#([^)]+)", value)) & names.keys():
                element.set(key, value.replace("#" + old, "#" + names[old]))
        if element.tag == "use":  # what the marker itself says is what counts: do not say it again
            known = styles.get(element.get("href", "")[1:], {})
            rules = {key: rule for key, rule in _style(element.get("style", "")).items() if key not in known}
            element.attrib.pop("style", None)
            if rules:
                element.set("style", _write(rules))
    for group in root.iter("g"):  # a hundred markers of one colour: say it once (opacity would not be the same)
        common = {child.get("style", "opacity") if child.tag == "use" else "opacity" for child in group}
        if len(common) == 1 and "style" not in group.attrib and "opacity" not in (style := common.pop()):
            group.set("style", style)
            for child in group:
                del child.attrib["style"]


def _text(element: ElementTree.Element) -> str:
    return " ".join(ElementTree.tostring(element, "unicode").replace(" />", "/>").split("\n"))  # one line


def pieces(figure: Figure) -> list[str]:
    r"""The figure's SVG as a list of elements; joined, they are the content of the `<svg>` element.

    Pictures of one explorer differ in a few elements only, so a list of whole elements is what can be shared.

    Raises:
        ValueError: a text holds a character that no page can hold, such as NUL.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure()
    >>> _ = figure.text(0.5, 0.5, "η < 2/L")
    >>> [piece for piece in pieces(figure) if "2/L" in piece][0][-18:]
    '>η &lt; 2/L</text>'
    """
    for artist in figure.findobj(Text):
        whole("figure", artist.get_text())  # pyright: ignore[reportAttributeAccessIssue]
    buffer = io.BytesIO()
    with mpl.rc_context(_SAVE):
        figure.savefig(buffer, format="svg", transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    ids = {element: element.get("id", "") for element in root.iter()}
    for element in root.iter():
        _tidy(element)
    _name_by_content(root, ids)
    result: list[str] = []
    defined: set[str | None] = {None}

    def walk(parent: ElementTree.Element) -> None:
        for child in parent:
            drawn = child.tag != "path" or (child.get("d") and child.get("style") != "fill:none")
            if child.tag == "defs":
                for item in child:  # a style sheet, which would reach the whole page, has no id and is dropped
                    if item.get("id") not in defined:
                        defined.add(item.get("id"))
                        result.append(f"<defs>{_text(item)}</defs>")
            elif child.tag == "g" and not child.attrib:  # a group that says nothing
                walk(child)
            elif child.tag != "metadata" and drawn:
                result.append(_text(child))

    walk(root)
    return result


def pack(frames: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    r"""Store every distinct element once; a frame is `[start, stop, start, stop, …]` into that list.

    Axes, ticks and contours are the same in all frames: written out, they would be most of a page's bytes. Runs
    instead of single numbers, because what is drawn together mostly stays together.

    >>> pack([["axes", "grid", "a"], ["axes", "grid", "b"]])
    (['axes', 'grid', 'a', 'b'], [[0, 3], [0, 2, 3, 4]])
    """
    index: dict[str, int] = {}
    packed: list[list[int]] = []
    for frame in frames:
        runs: list[int] = []
        for piece in frame:
            number = index.setdefault(piece, len(index))
            if runs and runs[-1] == number:
                runs[-1] += 1
            else:
                runs += [number, number + 1]
        packed.append(runs)
    return list(index), packed


def svg(figure: Figure, content: str) -> str:
    r"""An `<svg>` element of the figure's shape around `content`, a quarter larger than Matplotlib's if it fits.

    >>> svg(Figure(figsize=(5, 3)), "<path/>")[:41]
    '<svg viewBox="0 0 360 216" width="600" he'
    """
    width, height = (72 * float(inches) for inches in figure.get_size_inches())  # points, as Matplotlib draws
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width * 5 / 3:.0f}" '
        f'height="{height * 5 / 3:.0f}" fill="currentColor" stroke-linejoin="round" '
        f'font-family="DejaVu Sans,Verdana,sans-serif" style="{_PAPER};max-width:100%;height:auto">'
        f"{content}</svg>"
    )


def png(figure: Figure, dpi: int = DPI, colours: int = 128) -> bytes:
    r"""The figure as a PNG on white, reduced to a palette (a third of the bytes, no visible difference).

    >>> png(Figure(figsize=(1, 1)))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_SAVE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    image = Image.open(buffer).convert("RGB")
    image = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, "png", optimize=True)
    return small.getvalue()


def img(figure: Figure, alt: str = "", dpi: int = DPI, colours: int = 128) -> str:
    r"""An `<img>` element that holds the figure's PNG.

    >>> img(Figure(figsize=(1, 1)), "Nothing.")[-15:]
    'alt="Nothing.">'
    """
    width, height = (round(dpi * float(inches)) for inches in figure.get_size_inches())
    data = b64encode(png(figure, dpi, colours)).decode()
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto" alt="{escape(alt)}">'
    )


def close_ids(text: str) -> str:
    r"""Put the prefix of the ids in: different for different figures of a page, the same in every run.

    >>> close_ids(f'<b id="{ID}a">')
    '<b id="dlne5e278da-a">'
    """
    return text.replace(ID, f"dln{zlib.crc32(text.encode()):08x}-")
