"""Small chapters that keep every rule, of the new and of the old form: skeletons whose TODOs are filled in."""

import re

import nbformat
from book_reading import REPOSITORY, language, part
from new_chapter import skeleton
from old_form import TEMPLATE as OLD_TEMPLATE

FIGURE = {"image/png": "iVBORw0KGgo=", "text/plain": "A line. 一条线。"}
FIGURE["application/vnd.dlnotes.figure+json"] = {"svg": "<svg></svg>", "en": "A line.", "zh": "一条线。"}
EXPLORER = {
    "text/html": "<figure><svg></svg><!--dln:en-->A line.<!--/dln:en--><!--dln:zh-->一条线。<!--/dln:zh--></figure>",
    "text/plain": "an explorer",
}
CODE = {  # what to put for the code of each part of the old form, and its output
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


def fill_old(notebook):
    """Fill a skeleton of the old form in, as an author would, and store outputs as a run would."""
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
        store(cell, output)
    return notebook


def store(cell, output):
    """Give a code cell its output: text, a MIME bundle, or none."""
    if isinstance(output, str):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
    elif output:
        cell.outputs = [nbformat.v4.new_output("display_data", data=dict(output))]


TORCH = """model = torch.nn.Linear(2, 1)
loss_of = torch.nn.BCEWithLogitsLoss()
rule = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(10):
    for x, y in loader:
        rule.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        rule.step()
    with torch.no_grad():
        held_out = loss_of(model(x_val), y_val)"""
# What to put for a code cell of the new form, by what its skeleton holds, and its output.
CODES = {
    "import torch\n": (None, None),
    "figure = TODO": ("plot.show(figure, en=CAPTION)", None),
    'assert TODO, "': ('assert 1 < 2, "what the answer claims"', None),
    "plain = ": ("plain = torch.tensor(0.6931)", None),
    "from dlnotes.TODO": (
        "from dlnotes.losses import binary_cross_entropy_with_logits as bce\n\nours = bce(z, y)",
        None,
    ),
    "torch.testing": (None, None),
    "model = ": (TORCH, None),
    "assert TODO": ("assert plain < 1", None),
}


def fill(notebook):
    """Fill a skeleton of the new form in, as an author would, and store outputs as a run would."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = fill_prose(cell.source, language(cell))
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        name = re.search(r'name="(fig-[\w-]+)"', cell.source)
        source, output = next((pair for key, pair in CODES.items() if cell.source.startswith(key)), (None, None))
        cell.source = source or cell.source
        if name:
            alternatives = {"alt_en": "A line.", "alt_zh": "一条线。", "name": name[1]}
            data = FIGURE["application/vnd.dlnotes.figure+json"] | alternatives
            output = FIGURE | {"application/vnd.dlnotes.figure+json": data}
        store(cell, output)
    return notebook


def good():
    """A fresh copy of a chapter of the new form."""
    return fill(skeleton("training/good", REPOSITORY))


def good_old():
    """A fresh copy of a chapter of the old form."""
    return fill_old(skeleton("training/good", REPOSITORY, OLD_TEMPLATE))
