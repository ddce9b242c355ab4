"""A small chapter that keeps every rule: the skeleton of `new_chapter.py`, its TODOs filled in mechanically."""

import re

import nbformat
from book_reading import REPOSITORY, language, part
from new_chapter import skeleton

FIGURE = {"image/png": "iVBORw0KGgo=", "text/plain": "A line. 一条线。"}
FIGURE["application/vnd.dlnotes.figure+json"] = {"svg": "<svg></svg>", "en": "A line.", "zh": "一条线。"}
EXPLORER = {
    "text/html": "<figure><svg></svg><!--dln:en-->A line.<!--/dln:en--><!--dln:zh-->一条线。<!--/dln:zh--></figure>",
    "text/plain": "an explorer",
}
CODE = {  # what to put for the code of each part, and its output
    "opening": ("import inspect\n\nimport torch\n\nfrom dlnotes import plot", None),
    "failure": ("print(1 / 3)", "0.3333333333333333\n"),
    "by-hand": ("print(1 + 1)", "2\n"),
    "plain": ("plain = torch.tensor(0.6931)", None),
    "package": (
        "from dlnotes.losses import binary_cross_entropy_with_logits as ours\n\n"
        "print(inspect.getsource(ours))\ntorch.testing.assert_close(plain, plain)",
        "def ours(): ...\n",
    ),
    "experiment": ('assert plain < 1\nplot.show(figure, en="A line.", zh="一条线。")', FIGURE),
    "explore": ('plot.explorer(draw, {"a": [1, 2]}, en="A line.", zh="一条线。")', EXPLORER),
    "break": ("print(0.1 + 0.2)", "0.30000000000000004\n"),
    "exercises": ("assert plain < 1", None),
}


def fill_prose(source, lang):
    """The words in place of each TODO."""
    source = re.sub(r"^\$\$\nTODO\n\$\$", "$$\ny = x\n$$", source, flags=re.M)
    source = source.replace("{cite}`TODO`", "{cite}`bishop2006`")
    if lang == "en":
        return source.replace("TODO every symbol, what it is, its shape", "The symbols with a shape").replace(
            "TODO", "So"
        )
    return source.replace("TODO ", "").replace("TODO", "某事")


def fill(notebook):
    """Fill a skeleton in, as an author would, and store outputs as a run would."""
    name, count = "opening", 0
    for index, cell in enumerate(notebook.cells):
        name = part(cell) or name
        if cell.cell_type == "markdown":
            cell.source = fill_prose(cell.source, language(cell))
            continue
        count += 1
        cell.execution_count = count
        if index == 0:
            continue
        cell.source, output = CODE[name]
        if isinstance(output, str):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
        elif output:
            cell.outputs = [nbformat.v4.new_output("display_data", data=dict(output))]
    return notebook


def good():
    """A fresh copy of the chapter."""
    return fill(skeleton("training/good", REPOSITORY))
