r"""Tables with headings and a caption in both languages."""

import html
import numbers
import unicodedata
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from dlnotes.figures.wording import anchor, both, called, captions, text_of, whole


def table(
    rows: Iterable[Sequence[Any]],
    columns_en: Sequence[str],
    columns_zh: Sequence[str],
    *,
    en: str,
    zh: str,
    name: str | None = None,
) -> None:
    r"""Show a table with its caption in both languages.

    Args:
        rows: one sequence of cells each. A text stands as it is; a number, also in a tensor or an array, as short as
            its digits allow (format it yourself, such as `f"{loss:.3f}"`, where rounding matters); a pair
            `(English, 中文)` differs between the languages. A column of numbers is set to the right.
        columns_en: the headings, one a column.
        columns_zh: the same in Chinese; symbols may stay.
        en: the caption, in plain text.
        zh: the same in Chinese.
        name: what the text calls it, such as `tab-rates`: the book gives tables numbers, and `[Table](#tab-rates)` and
            `[表](#tab-rates)` become “Table 2” and “表 2”.

    Raises:
        ValueError: rows or headings of different lengths, no row, an empty caption, a name that is none.

    >>> table([["SGD", 0.31], ["Adam", 0.05]], ["rule", "loss"], ["规则", "损失"], en="Losses.", zh="各规则的损失。")
    Losses.
    各规则的损失。
    rule  loss
    SGD   0.31
    Adam  0.05
    """
    bundle = table_bundle([list(row) for row in rows], columns_en, columns_zh, captions(en, zh), anchor(name, "tab"))
    ipython = import_module("IPython")
    if ipython.get_ipython() is None:
        print(bundle["text/plain"])
        return
    ipython.display.display(bundle, raw=True)


def table_bundle(
    rows: Sequence[Sequence[Any]],
    columns_en: Sequence[str],
    columns_zh: Sequence[str],
    caption: tuple[str, str],
    name: str | None,
) -> dict[str, str]:
    r"""The MIME bundle of :func:`table`.

    >>> table_bundle([["a", 1]], ["name", "n"], ["名称", "n"], ("A.", "字。"), None)["text/plain"].splitlines()[-1]
    'a     1'
    """
    heads = list(zip(columns_en, columns_zh, strict=False))
    if len(columns_en) != len(columns_zh) or not heads:
        raise ValueError(f"columns_zh: expected a heading for each of {list(columns_en)}, got {list(columns_zh)}")
    if not rows:
        raise ValueError("rows: expected at least one, got none")
    for number, row in enumerate(rows):
        if len(row) != len(heads):
            raise ValueError(f"rows: expected {len(heads)} cells in each, got {len(row)} in row {number}: {list(row)}")
    texts = [[_pair(cell) for cell in row] for row in rows]
    right = [all(_is_number(row[column]) for row in rows) for column in range(len(heads))]
    align = [' style="text-align:right"' if side else ' style="text-align:left"' for side in right]
    head = "".join(f'<th scope="col"{align[i]}>{_words(pair)}</th>' for i, pair in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{align[i]}>{_words(pair)}</td>" for i, pair in enumerate(row)) + "</tr>\n"
        for row in texts
    )
    place = f' id="{name}"' if name else ""
    words = f"{called(name, ('Table', '表'))}{both(*caption)}"
    return {
        "text/html": f'<table class="dln-table"{place}>\n<caption style="text-align:left">{words}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>",
        "text/plain": "\n".join([*caption, *_lines([[en for en, _ in row] for row in [heads, *texts]], right)]),
    }


def _is_number(cell: Any) -> bool:
    return isinstance(cell, numbers.Number) or hasattr(cell, "item")


def _pair(cell: Any) -> tuple[str, str]:
    r"""The two texts of a cell."""
    if isinstance(cell, tuple):
        return captions(*cell, names=("rows", "rows"))
    text = whole("rows", text_of(cell.item() if hasattr(cell, "item") else cell))
    return text, text


def _words(pair: tuple[str, str]) -> str:
    r"""A cell's HTML: once what is the same in both languages."""
    en, zh = (whole("columns", text) for text in pair)
    return html.escape(en) if en == zh else both(en, zh)


def _lines(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    r"""Columns of equal width, as a terminal shows them."""
    widths = [max(_width(row[i]) for row in rows) for i in range(len(right))]
    padded = ([" " * (width - _width(text)) for text, width in zip(row, widths, strict=True)] for row in rows)
    return [
        "  ".join(pad + text if side else text + pad for text, pad, side in zip(row, pads, right, strict=True)).rstrip()
        for row, pads in zip(rows, padded, strict=True)
    ]


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)
