r"""Read a notebook as one edition shows it: a language, its folded boxes, numbers of figures, how long it takes."""

import difflib
import json
import re

import nbformat
from chapters import (
    HEADING,
    boxes,
    code_hash,
    count_checks,
    is_chapter,
    minutes_of,
    summary_of,
    tags,
    unwrap,
)
from editions import LANGUAGES, STRINGS
from nbformat.v4 import new_markdown_cell
from outputs import CAPTION, edition_output, label, number_outputs, on_a_page

REFERENCE = re.compile(r"\[[^\]\n]*\]\(#(?P<name>(?:fig|tab)-[\w-]+)\)(?P<tight>(?=[\u3400-\u9fffA-Za-z0-9]))?")
INNER_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
FENCE = re.compile(r"(^(?P<marks>`{3,}|~{3,}|:{3,}).*?^(?P=marks)[ \t]*$)", re.MULTILINE | re.DOTALL)


def read_notebook(text, lang):
    r"""A myst-nb reader: the notebook as one edition shows it."""
    return read_edition(nbformat.reads(text, as_version=4), lang)


def read_edition(notebook, lang):
    r"""The notebook, which is changed, as one edition shows it."""
    notebook.metadata.pop("widgets", None)
    record = notebook.metadata.pop("redraw", None)  # put there by bilingual.give_record
    if record and record["source"] != code_hash(notebook):
        record = None
    cells = []
    for number, cell in enumerate(notebook.cells, 1):
        tagged = {tag.removeprefix("lang-") for tag in tags(cell) if tag.startswith("lang-")}
        if unknown := tagged - set(LANGUAGES):
            raise ValueError(f"cell {number}: unknown language tag lang-{unknown.pop()}")
        if not tagged or lang in tagged:
            cells.append((number, cell))
    names = convert_outputs(cells, lang)
    minutes = minutes_of(notebook, lang) if is_chapter(notebook) else None
    for number, cell in cells:
        if cell.cell_type == "markdown":
            cell.source = refer(cell.source, lang, names, number)
        elif cell.cell_type == "code":
            fold_code(cell, record)
    notebook.cells = with_boxes(cells)
    if minutes:
        say_minutes(notebook.cells, minutes, lang)
    return notebook


def convert_outputs(cells, lang):
    r"""Make every output the page's own, numbered; returns {name: what it is called}."""
    seen, places = set(), []
    for number, cell in cells:
        if "outputs" in cell:  # a figure brings its caption along
            cell.outputs = [output for output in cell.outputs if CAPTION not in output.get("data", {})]
            places += [(number, index, output) for index, output in enumerate(cell.outputs)]
    called, names = number_outputs([output for _, _, output in places])
    for (number, index, output), name in zip(places, called, strict=True):
        if "data" not in output:
            continue
        try:
            output.data = edition_output(output.data, lang, f"figure-{number}-{index}", name)
        except ValueError as error:
            raise ValueError(f"cell {number}: {error}") from error
        if "text/html" in output.data:
            output.data["text/html"] = on_a_page(output.data["text/html"], seen)
    return names


def refer(source, lang, names, number):
    r"""Links to figures and tables, `[Figure](#fig-valley)`, in words that give their number."""

    def put(match):
        name = match["name"]
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {sorted(names)}"
            raise ValueError(f"cell {number}: no figure or table is named {name!r}; {hint}")
        space = " " if match["tight"] is not None else ""
        return f'<a class="dln-ref" href="#{name}">{label(names[name], lang)}</a>{space}'

    return REFERENCE.sub(put, source)


def fold_code(cell, record):
    r"""Cells of imports and of checks fold, and say what they are."""
    kind = next((tag for tag in ("imports", "check") if tag in tags(cell)), None)
    if not kind:
        return
    if kind == "check":
        numbers = [count_checks(cell.source)]
        if record and cell.id in record["held"]:
            numbers += [record["held"][cell.id], record["offsets"]]
        kind = " ".join(map(str, ["check", *numbers]))
    hidden = [tag for tag in tags(cell) if not tag.startswith("hide-")]
    cell.metadata["tags"] = [*hidden, "hide-cell"]
    cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), "code_prompt_show": kind}


def inner_headings(source):
    r"""Headings in a folded box become rubrics: a section of the page cannot begin inside it."""
    pieces = FENCE.split(source)
    for index in range(0, len(pieces), 3):  # text, fence, its marks, text, …
        pieces[index] = INNER_HEADING.sub(
            lambda found: f"```{{rubric}} {found[2]}\n:heading-level: {len(found[1])}\n```", pieces[index]
        )
    return "".join(piece for index, piece in enumerate(pieces) if index % 3 != 2)


def opening(kind, number, cell, outermost):
    r"""The cells that open a box before its first cell, which loses the words of the box's summary."""
    options, words, before = [f":number: {number}"], "", []
    if kind == "question":
        if "right" in cell.metadata:
            options.append(f":right: {json.dumps(cell.metadata['right'])}")
        while outermost and cell.cell_type == "markdown" and (found := HEADING.match(cell.source)):
            before.append(new_markdown_cell(found[0]))  # a heading above the frame, which is in the page's contents
            cell.source = cell.source[found.end() :]
    elif kind in ("proof", "deeper") and cell.cell_type == "markdown":
        words, cell.source = summary_of(cell.source)
    return [*before, new_markdown_cell("\n".join([f"```{{dln-open}} {kind}", *options, "", words or "", "```"]))]


def closing(kind):
    r"""The cell that closes a box."""
    return new_markdown_cell(f"```{{dln-close}} {kind}\n```")


def with_boxes(cells):
    r"""The cells, with marks where a box opens and where it closes."""
    found, before = [], []
    for (number, cell), mine in zip(cells, boxes([cell for _, cell in cells]), strict=True):
        common = next((i for i, (a, b) in enumerate(zip(before, mine, strict=False)) if a != b), None)
        common = min(len(before), len(mine)) if common is None else common
        found += [closing(kind) for kind, _ in reversed(before[common:])]
        if cell.cell_type == "markdown" and {"answer", "solution"} & {kind for kind, _ in mine}:
            cell.source = unwrap(cell.source)
        for kind, key in mine[common:]:
            if kind == "question" and "question" not in tags(cell):
                raise ValueError(f"cell {number}: an answer without its question directly before it")
            found += opening(kind, key, cell, outermost=mine[0] == (kind, key))
        if mine and cell.cell_type == "markdown":
            cell.source = inner_headings(cell.source)
        if cell.source.strip() or cell.cell_type != "markdown":
            found.append(cell)
        before = mine
    return found + [closing(kind) for kind, _ in reversed(before)]


def say_minutes(cells, minutes, lang):
    r"""Below the title, how long the page takes."""
    cell = next((cell for cell in cells if cell.cell_type == "markdown"), None)
    found = cell and HEADING.match(cell.source.lstrip())
    if found and found["marks"] == "#":
        main, everything = minutes
        name = "minutes" if main == everything else "minutes_both"
        words = STRINGS[name][lang].format(count=main, everything=everything)
        rest = cell.source.lstrip()[found.end() :]
        cell.source = f'{found[0].rstrip()}\n\n<p class="dln-time">{words}</p>\n\n{rest}'
