"""The rules of the new form find the faults that are planted for them, and nothing in a chapter that keeps them."""

import json

import nbformat
import pytest
from book_reading import FIGURE, language, part, tags
from chapters import code_hash
from form_rules import record_faults
from good_chapter import good
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from rules import applying, faults_of

NAME = "training/good"
NEW = {name: check for name, check in applying(NAME).items() if name.startswith("form_")}


def cells_of(notebook, *wanted):
    """The cells with all of these tags."""
    return [cell for cell in notebook.cells if set(wanted) <= set(tags(cell))]


def holding(notebook, words):
    """The code cell that holds these words."""
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and words in cell.source)


def after(notebook, cell, *new):
    """Put cells after one."""
    at = next(i for i, other in enumerate(notebook.cells) if other is cell)
    notebook.cells[at + 1 : at + 1] = new


def words(en, zh, *more, **metadata):
    return [new_markdown_cell(text, metadata={"tags": [f"lang-{lang}", *more], **metadata})
            for lang, text in (("en", en), ("zh", zh))]  # fmt: skip


def plant(function):
    """A planted fault: a function of the notebook and of what these tests find in it."""
    return function


def retag(*old, new):
    def change(notebook):
        found = cells_of(notebook, *old)
        assert found
        for cell in found:
            cell.metadata["tags"] = [tag for tag in tags(cell) if tag not in old] + list(new)

    return change


def recode(holds, source, **fields):
    def change(notebook):
        cell = holding(notebook, holds)
        cell.source = source
        cell.update(fields)

    return change


def swap(old, new, *tagged):
    """Replace words in the Markdown cells with these tags, or in all."""

    def change(notebook):
        found = [cell for cell in cells_of(notebook, *tagged) if old in cell.source]
        assert found, f"nothing to spoil: {old!r}"
        for cell in found:
            cell.source = cell.source.replace(old, new)

    return change


def drop(*tagged):
    def change(notebook):
        gone = cells_of(notebook, *tagged)
        assert gone
        notebook.cells = [cell for cell in notebook.cells if not any(cell is one for one in gone)]

    return change


def add(*cells, where="part:failure"):
    """Put cells after the Chinese cell of a part."""

    def change(notebook):
        after(notebook, cells_of(notebook, where, "lang-zh")[0], *[nbformat.from_dict(cell) for cell in cells])

    return change


def right(value, lang=None):
    def change(notebook):
        for cell in cells_of(notebook, "question"):
            if lang in (None, language(cell)):
                cell.metadata["right"] = value

    return change


def move(name, before):
    """Move a part, with all its cells, before another."""

    def change(notebook):
        starts = [i for i, cell in enumerate(notebook.cells) if part(cell) and language(cell) == "en"]
        names = [part(notebook.cells[i]) for i in starts]
        ends = [*starts[1:], len(notebook.cells)]
        start, end = next((a, b) for n, a, b in zip(names, starts, ends, strict=True) if n == name)
        moved, rest = notebook.cells[start:end], notebook.cells[:start] + notebook.cells[end:]
        at = next(i for i, cell in enumerate(rest) if part(cell) == before)
        notebook.cells = rest[:at] + moved + rest[at:]

    return change


def without(*keys):
    """Take entries out of the figure's output."""

    def change(notebook):
        data = holding(notebook, "plot.show").outputs[0].data[FIGURE]
        for key in keys:
            del data[key]

    return change


def six_questions(notebook):
    for _ in range(5):
        add(*words("Which?\n\n- a\n- b", "哪个？\n\n- 甲\n- 乙", "question", right=0),
            *words(*["<details><summary>x</summary>\n\nSo 这样.\n\n</details>"] * 2, "answer"))(notebook)  # fmt: skip


LINE = "a = 1\n"
PLANTS = [
    *[("form_parts", retag(f"part:{n}", new=())) for n in ("failure", "practice", "exercises", "summary", "sources")],
    ("form_parts", add(*words("## More", "## 更多", "part:derivation"))),
    ("form_parts", add(*words("## More", "## 更多", "part:failure"))),
    ("form_parts", add(*words("## Sooner", "## 更早"), where="lang-zh")),  # a section before the failure
    ("form_parts", move("summary", before="exercises")),
    ("form_parts", move("practice", before="failure")),
    ("form_parts", swap("## ", "", "part:practice")),
    ("form_budget", add(*words("word " * 3001, "词"))),
    ("form_budget", add(*words("Words.", "字" * 5001))),
    ("form_budget", add(*[new_code_cell(LINE * 20) for _ in range(10)])),
    ("form_practice", recode("torch.optim", "rule = torch.optim.SGD(model.parameters(), lr=0.1)")),
    ("form_practice", recode("torch.optim", LINE * 15)),
    ("form_practice", recode("torch.optim", "from dlnotes.optim import SGD  # torch\n" + LINE * 15)),
    ("form_practice", recode("torch.optim", "torch.ones(1)\n" * 21)),
    ("form_practice", lambda nb: holding(nb, "torch.optim").metadata.update(tags=["hide-input"])),
    ("form_summary", swap("- ", "", "part:summary", "lang-zh")),
    ("form_summary", lambda nb: [swap("- So", "- So\n- So", "part:summary", "lang-en")(nb) for _ in "ab"]),
    ("form_exercises", drop("solution")),
    ("form_exercises", lambda nb: cells_of(nb, "hide-cell")[0].update(source="print(1)")),
    ("form_exercises", swap("练习 2", "练习 3")),
    ("form_sources", swap("{cite}`bishop2006`", "a book", "part:sources", "lang-zh")),
    ("form_sources", swap(":filter: docname in docnames\n", "", "part:sources")),
    ("form_code", recode("from dlnotes.losses", "ours = plain")),
    ("form_code", recode("assert_close", "assert plain < 1")),
    ("form_equations", swap("\n$$ (eq-training-good-first)", "\n$$")),
    ("form_equations", add(*words("So\n\n$$\na = b\n$$", "于是\n\n$$\na = b\n$$"))),
    ("form_checks", add(new_code_cell("x = 1\nassert x == 1"))),
    ("form_checks", add(new_code_cell("torch.testing.assert_close(a, b)"))),
    ("form_checks", add(new_code_cell("assert x", metadata={"tags": ["nbval-check-output"]}))),
    ("form_checks", recode("what the answer claims", "x = 1")),
    ("form_checks", recode("what the answer claims", "assert 1", outputs=[new_output("stream", text="1")])),
    ("form_checks", add(*words("The cell asserts it.", "确实如此。"))),
    ("form_checks", add(*words("So it is.", "断言成立。"))),
    ("form_questions", drop("answer")),
    ("form_questions", drop("question")),
    ("form_questions", right(3)),
    ("form_questions", right(-1)),
    ("form_questions", right(None)),
    ("form_questions", right([1, 2])),
    ("form_questions", right(0, "zh")),
    ("form_questions", swap("\n- So the right choice", "", "question", "lang-en")),
    ("form_questions", swap("- 对的选项", "- 对的选项\n- 又一个\n- 再一个", "question", "lang-zh")),
    ("form_questions", swap("\n\n</details>", "", "answer", "lang-en")),
    ("form_questions", swap("<details><summary>答案</summary>", "", "solution", "lang-zh")),
    ("form_questions", six_questions),
    ("form_questions", add(*words("How many?", "多少？", "question", right=[2, 1]))),
    ("form_questions", add(*words("How many?", "多少？", "question", right=2))),
    ("form_figures", without("alt_en", "alt_zh")),
    ("form_figures", without("name")),
    ("form_figures", swap("[Figure](#fig-good-failure)", "the figure", "lang-en")),
    ("form_figures", swap("[图](#fig-good-failure)", "图", "lang-zh")),
    ("form_figures", swap("#fig-good-failure", "#fig-good-failur", "lang-zh")),
    ("form_figures", add(new_code_cell("plot.table(x)", outputs=[
        new_output("display_data", data={"text/html": '<table class="dln-table"></table>'})]))),
    ("form_imports", retag("imports", new=())),
    ("form_imports", recode("plot.style", "import torch\n\ndef f():\n    pass")),
    ("form_imports", recode("plot.style", "torch.manual_seed(redraw(0))")),
    ("form_imports", recode("plot.style", "import torch", outputs=[new_output("stream", text="1")])),
    ("form_seeds", add(new_code_cell("torch.manual_seed(0)"))),
    ("form_seeds", add(new_code_cell("g = torch.Generator().manual_seed(3)"))),
    ("form_seeds", add(new_code_cell("rng = np.random.default_rng(0)"))),
    ("form_seeds", add(new_code_cell("x = make_moons(10, random_state=1)"))),
    ("form_seeds", add(new_code_cell("split = digits()"))),
    ("form_seeds", add(new_code_cell("split = data.moons(200, seed=0)"))),
]  # fmt: skip


def test_the_good_chapter_has_no_fault():
    assert faults_of(NAME, good()) == []


@pytest.mark.parametrize(("rule", "plant"), PLANTS, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(PLANTS)])
def test_planted_fault_is_found(rule, plant):
    notebook = good()
    plant(notebook)
    assert NEW[rule](notebook), f"{rule} does not see the fault"


def test_every_rule_has_a_planted_fault():
    assert set(NEW) == {rule for rule, _ in PLANTS}


def folds(en, zh, tag):
    return words(*[f"<details><summary>x</summary>\n\n{text}\n\n</details>" for text in (en, zh)], tag)


ALLOWED = [
    add(*words("One list:\n\n- a\n- b\n- c", "三点，合成一段来说。")),  # neither language follows the other
    add(*words("## Free", "## 自拟"), new_code_cell("x = 1")),
    add(*words("How many?", "多少？", "question", right=[2, 3.5]), *folds("Two.", "两个。", "answer")),
    add(*words("How many?", "多少？", "question"), *folds("Two.", "两个。", "answer")),
    add(*folds("Indeed\n\n$$\na = b\n$$", "即\n\n$$\na = b\n$$", "solution"), where="part:exercises"),
    add(*words("word " * 3001, "字" * 5001, "deeper")),
    add(new_code_cell("g = torch.Generator().manual_seed(redraw(3))\nsplit = data.moons(200, seed=redraw(1))")),
    add(new_code_cell("for seed in range(redraw(0), redraw(0) + 5):\n    torch.manual_seed(seed)")),
    swap("- So the formula\n", "", "part:summary", "lang-en"),
]  # fmt: skip


@pytest.mark.parametrize("plant", ALLOWED)
def test_what_is_right_is_no_fault(plant):
    notebook = good()
    plant(notebook)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
    assert faults_of(NAME, notebook) == []


def test_messages_name_the_cell_the_words_and_the_cure():
    notebook = good()
    add(new_code_cell("x = 1\nassert x == 1"))(notebook)
    (fault,) = NEW["form_checks"](notebook)
    number = next(i for i, cell in enumerate(notebook.cells, 1) if cell.source.startswith("x = 1"))
    assert fault == (
        f"cell {number} ('x = 1'): asserts where readers see it ('assert x == 1'); move it to a cell tagged check"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"held": 9}, None),
        ({"source": "old"}, "good.redraw.json is of other code: run make redraw FILES="),
        ({"held": 8}, "held in 8 of 10 redraws, too few: reword or drop the claim"),
        (None, None),
    ],
)
def test_a_record_of_redraws_is_of_this_code_and_good_enough(tmp_path, change, message):
    notebook, path = good(), tmp_path / "good.redraw.json"
    if change is not None:
        held = {cell.id: change.get("held", 10) for cell in cells_of(notebook, "check")[:1]}
        record = {"offsets": 10, "held": held, "source": change.get("source", code_hash(notebook))}
        path.write_text(json.dumps(record), encoding="utf-8")
    found = record_faults(notebook, path, code_hash(notebook))
    assert (message in found[0]) if message else not found
