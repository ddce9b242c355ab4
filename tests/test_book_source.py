"""Every notebook of the book keeps every rule, and every rule finds the faults that are planted for it."""

import re

import book_rules
import nbformat
import pytest
import yaml
from book_reading import REPOSITORY, ROOT, RULES, book_notebooks, language, part, project_texts, tags
from good_chapter import FIGURE, good_old
from rules import BOOK, applying, faults_of
from run_notebooks import dumps, normalise

OLD = applying(book_rules.OLD_FORM[0])
BRANCH = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["branch"]
NAMES = [path.relative_to(BOOK).with_suffix("").as_posix() for path in book_notebooks()]


def read(name):
    return nbformat.reads((BOOK / f"{name}.ipynb").read_text(encoding="utf-8"), as_version=4)


# ---- the book


@pytest.mark.parametrize("name", NAMES)
def test_notebook_keeps_the_rules(name):
    faults = faults_of(name, read(name))
    assert not faults, f"{len(faults)} faults in {name}:\n  " + "\n  ".join(faults)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_as_the_tool_stores_it(name):
    # Neutral metadata, no widget state, no run times, one way of writing JSON: what `make notebooks` leaves.
    text = (BOOK / f"{name}.ipynb").read_text(encoding="utf-8")
    assert text == dumps(normalise(read(name))), f"{name}: not stored by `make notebooks`"


def contents_faults(contents, names):
    """Compare the table of contents with the notebooks that are there."""

    def files(node):
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    listed = [re.sub(r"\.ipynb$", "", name) for name in files(contents)]
    faults = [f"{name} is not in _toc.yml" for name in names if name not in listed]
    faults += [f"_toc.yml names {name}, which is not there" for name in listed if name not in names]
    return faults + [f"_toc.yml names {name} twice" for name in sorted(set(listed)) if listed.count(name) > 1]


def test_contents_name_every_notebook_and_no_other():
    assert NAMES, f"no notebook below {BOOK}"
    assert not contents_faults(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")), NAMES)


def test_contents_faults_are_found():
    contents = {"root": "index", "parts": [{"caption": "A", "chapters": [{"file": "a/one"}, {"file": "a/one"}]}]}
    assert contents_faults(contents, ["index", "a/two"]) == [
        "a/two is not in _toc.yml",
        "_toc.yml names a/one, which is not there",
        "_toc.yml names a/one, which is not there",
        "_toc.yml names a/one twice",
    ]


def test_references_are_in_order_and_each_is_cited():
    keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert keys == sorted(set(keys))
    texts = "".join((BOOK / f"{name}.ipynb").read_text(encoding="utf-8") for name in NAMES)
    cited = {key.strip() for keys in re.findall(r"\{cite[a-z:]*\}`([^`]+)`", texts) for key in keys.split(",")}
    assert cited == set(keys)


# ---- the repository's address: written in _config.yml, the same everywhere


def address_faults(text, repository=REPOSITORY):
    """Addresses of this repository, of its pages or of its launch links that are not those of `repository`."""
    owner, name = repository.removeprefix("https://github.com/").split("/")
    faults = []
    for found in re.finditer(r"github\.com[/:]([\w.-]+)/([\w.-]+)|google\.com/github/([\w.-]+)/([\w.-]+)", text):
        its_owner, its_name = (group for group in found.groups() if group)
        its_name = its_name.removesuffix(".git").rstrip(".")
        if (its_name == name or its_owner == owner) and (its_owner, its_name) != (owner, name):
            faults.append(found[0])
    pages = re.finditer(rf"([\w-]+)\.github\.io/{name}\b", text)
    faults += [found[0] for found in pages if found[1] != owner]
    return faults + re.findall(r"OWNER/REPO|<owner>|your-?name/", text)


def test_one_repository_address_everywhere():
    here = re.escape(REPOSITORY)
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", REPOSITORY)
    faults = {}
    for path in project_texts():
        if path.name != "test_book_source.py":  # it holds the wrong addresses of the tests below
            found = address_faults(path.read_text(encoding="utf-8"))
            if found:
                faults[str(path.relative_to(ROOT))] = found
    assert not faults
    for name in ("README.md", "pyproject.toml", "CITATION.cff", "CONTRIBUTING.md"):
        assert re.search(here, (ROOT / name).read_text(encoding="utf-8")), f"{name} does not name {REPOSITORY}"


def readme_link_faults(text):
    """Links of a README that lead nowhere from a package index, which shows it beside none of the other files."""
    faults = []
    for link in re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: *(\S+)|(?:href|src)=\"([^\"]+)\"", text, re.MULTILINE):
        target = "".join(link)
        inside = re.fullmatch(rf"{re.escape(REPOSITORY)}/(?:blob|raw)/{BRANCH}/([^#]+)(#.*)?", target)
        if not target.startswith(("https://", "#")) or (inside and not (ROOT / inside[1]).is_file()):
            faults.append(target)
    return faults


def test_readme_links_lead_somewhere_from_a_package_index_too():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"]({REPOSITORY}/blob/{BRANCH}/CONTRIBUTING.md)" in text
    assert not readme_link_faults(text)


def test_relative_and_dead_readme_links_are_found():
    dead = f"{REPOSITORY}/blob/{BRANCH}/NOWHERE.md"
    text = f'![a](.github/book.png) [b](LICENSE) [c]({dead}) [d](#english)\n[e]: CHANGELOG.md\n<img src="one.png">'
    assert readme_link_faults(text) == [".github/book.png", "LICENSE", dead, "CHANGELOG.md", "one.png"]


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/someone/notes",
        "git+https://github.com/someone/notes.git",
        "git@github.com:someone/notes.git",
        "https://github.com/me/noted",
        "https://colab.research.google.com/github/someone/notes/blob/main/book/index.ipynb",
        "https://someone.github.io/notes/",
        "https://github.com/OWNER/REPO",
    ],
)
def test_another_address_is_found(text):
    assert address_faults(text, "https://github.com/me/notes")


@pytest.mark.parametrize("text", ["https://github.com/me/notes.git", "https://github.com/else/other", "notes"])
def test_the_right_address_is_no_fault(text):
    assert not address_faults(text, "https://github.com/me/notes")


# ---- the rules themselves: for each, faults planted in a chapter that has none


def cell_of(notebook, name, lang):
    """The cell that opens a part, in one language; of the opening, the title."""
    if name == "title":
        return next(cell for cell in notebook.cells if language(cell) == lang)
    return next(cell for cell in notebook.cells if part(cell) == name and language(cell) == lang)


def code_of(notebook, name):
    """The first code cell of a part."""
    start = notebook.cells.index(cell_of(notebook, name, "en"))
    return next(cell for cell in notebook.cells[start:] if cell.cell_type == "code")


def add(text, lang="en", name="symbols", partner=None):
    """Append `text` to the cell of one language; `partner` (default: nothing) to that of the other."""

    def plant(notebook):
        cell_of(notebook, name, lang).source += text
        if partner is not None:
            cell_of(notebook, name, "zh" if lang == "en" else "en").source += partner

    return plant


def both(text):
    """Append `text` to both cells: no fault between the languages, only the one meant."""
    return add(text, "zh", partner=text)


def swap(old, new, lang, name):
    """Replace in the opening cell of a part."""

    def plant(notebook):
        cell = cell_of(notebook, name, lang)
        assert old in cell.source, f"nothing to spoil: {old!r} is not in {cell.source!r}"
        cell.source = cell.source.replace(old, new)

    return plant


def swap_both(old, new, name):
    def plant(notebook):
        for lang in ("en", "zh"):
            swap(old, new, lang, name)(notebook)

    return plant


def recode(name, source):
    def plant(notebook):
        code_of(notebook, name).source = source

    return plant


def output(**data):
    """Replace the output of the failure's code cell by text on stdout (text=) or by a MIME bundle (bundle=)."""

    def plant(notebook):
        if "text" in data:
            new = nbformat.v4.new_output("stream", name=data.get("name", "stdout"), text=data["text"])
        elif "bundle" in data:
            new = nbformat.v4.new_output("display_data", data=data["bundle"])
        else:
            new = nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])
        code_of(notebook, "failure").outputs = [new]

    return plant


def untag(name, *gone):
    def plant(notebook):
        for lang in ("en", "zh"):
            cell = cell_of(notebook, name, lang)
            cell.metadata["tags"] = [tag for tag in tags(cell) if tag not in gone]

    return plant


def drop(find):
    """Remove the cells for which `find(cell)` holds."""

    def plant(notebook):
        kept = [cell for cell in notebook.cells if not find(cell)]
        assert len(kept) < len(notebook.cells)
        notebook.cells = kept

    return plant


def change(**fields):
    """Set attributes of the failure's code cell."""

    def plant(notebook):
        code_of(notebook, "failure").update(fields)

    return plant


def move_part(name, before):
    def plant(notebook):
        cells = book_rules.section(notebook, name)
        rest = [cell for cell in notebook.cells if not any(cell is moved for moved in cells)]
        at = next(i for i, cell in enumerate(rest) if part(cell) == before)
        notebook.cells = rest[:at] + cells + rest[at:]
        for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
            cell.execution_count = count

    return plant


def retag(name, new):
    def plant(notebook):
        for lang in ("en", "zh"):
            cell_of(notebook, name, lang).metadata["tags"] = [f"lang-{lang}", *new]

    return plant


def figure(**words):
    return output(bundle={**FIGURE, book_rules.FIGURE: {"svg": "<svg></svg>", "en": "A.", "zh": "线", **words}})


def setup_to(source):
    def plant(notebook):
        notebook.cells[0].source = source

    return plant


def hidden_first(notebook):
    notebook.cells[0].metadata["tags"] = []


def same_id(notebook):
    notebook.cells[2].id = notebook.cells[1].id


def no_solution(notebook):
    code_of(notebook, "exercises").metadata["tags"] = []


def fewer_exercises(notebook):
    start = notebook.cells.index(cell_of(notebook, "exercises", "en")) + 2
    del notebook.cells[start : start + 3]


def exercise(lang, old, new):
    def plant(notebook):
        (cell,) = [cell for cell in notebook.cells if language(cell) == lang and old in cell.source]
        cell.source = cell.source.replace(old, new)

    return plant


def exercises_in_bold(notebook):
    exercise("en", "### Exercise 2: So", "**Exercise 2**. So")(notebook)
    exercise("zh", "### 练习 2：某事", "**练习 2**。某事")(notebook)


def explorer_without_page(notebook):
    del code_of(notebook, "explore").outputs[0].data["text/html"]


def explorer_without_chinese(notebook):
    data = code_of(notebook, "explore").outputs[0].data
    data["text/html"] = re.sub("<!--dln:zh-->.*<!--/dln:zh-->", "", data["text/html"])


PLANTS = [
    # two languages
    ("languages_pair", drop(lambda cell: part(cell) == "symbols" and language(cell) == "zh")),
    ("languages_pair", drop(lambda cell: part(cell) == "symbols" and language(cell) == "en")),
    ("languages_pair", untag("symbols", "lang-en", "lang-zh")),
    ("languages_pair", lambda notebook: cell_of(notebook, "symbols", "en").metadata["tags"].append("lang-zh")),
    ("languages_pair", change(metadata=nbformat.from_dict({"tags": ["lang-en"]}))),
    ("languages_written", lambda notebook: cell_of(notebook, "symbols", "zh").update(source="  ")),
    ("languages_written", lambda notebook: cell_of(notebook, "symbols", "zh").update(source="## Symbols")),
    ("languages_written", lambda notebook: cell_of(notebook, "symbols", "en").update(source="$x$")),
    ("languages_written", add("\n\nAnd then many more English words than Chinese stand here on this side.", "zh")),
    ("languages_written", add("\n\nThis is 中文.")),
    ("languages_agree", swap("## ", "### ", "zh", "symbols")),
    ("languages_agree", add("\n\nHere $x$.")),
    ("languages_agree", add("\n\nHere $x$.", partner="\n\n这里 $X$。")),
    ("languages_agree", add("\n\n$$x$$", partner="\n\n$$x+1$$")),
    ("languages_agree", add("\n\n$$x$$ (eq-a)", partner="\n\n$$x$$ (eq-b)")),
    ("languages_agree", add("\n\n$$x$$ (eq-a)", partner="\n\n$$x$$")),
    ("languages_agree", swap("## ", "(a-label)=\n## ", "en", "symbols")),
    ("languages_agree", add("\n\nSee [this](a.ipynb).", partner="\n\n见 [这里](b.ipynb)。")),
    ("languages_agree", add("\n\nSee {cite}`a`.", partner="\n\n见 {cite}`b`。")),
    ("languages_agree", add("\n\nSee {eq}`a`.", partner="\n\n见 {ref}`a`。")),
    ("languages_agree", add("\n\n:::{note}\nOne.\n:::", partner="\n\n:::{tip}\n一。\n:::")),
    ("languages_agree", add("\n\n:::{note}\nOne $x$.\n:::", partner="\n\n:::{note}\n一。\n:::")),
    ("lists_agree", add("\n\n- One.\n- Two.", partner="\n\n- 一。")),
    ("lists_agree", add("\n\n| a | b |\n| - | - |\n| c | d |", partner="\n\n| 甲 | 乙 |\n| - | - |")),
    ("citations_are_known", add("\n\nSee {cite}`bishop206`.", partner="\n\n见 {cite}`bishop206`。")),
    ("languages_agree", add("\n\n![a](a.png)", partner="\n\n![图](b.png)")),
    ("languages_agree", lambda notebook: cell_of(notebook, "symbols", "zh").metadata["tags"].append("hide-cell")),
    # anatomy
    ("chapter_opens", hidden_first),
    ("chapter_opens", setup_to(book_rules.INSTALL.replace("dlnotes/dlnotes", "someone/dlnotes"))),
    ("chapter_opens", setup_to("import dlnotes")),
    ("chapter_opens", swap_both("# ", "## ", "title")),
    ("chapter_opens", swap_both("\n\n", "\n\n# More\n\n", "symbols")),
    ("chapter_opens", swap_both("## ", "#### ", "symbols")),
    ("chapter_opens", swap("../index.ipynb", "", "en", "title")),
    ("chapter_opens", lambda notebook: cell_of(notebook, "title", "zh").update(source="# [标题](../index.ipynb)")),
    (
        "opening_has_three_lines",
        lambda notebook: cell_of(notebook, "title", "zh").update(source="# 标题\n\n见 [前言](../index.ipynb)。"),
    ),
    *[("chapter_has_its_parts", untag(name, f"part:{name}")) for name in book_rules.PARTS],
    ("chapter_has_its_parts", retag("symbols", ["part:symbol"])),
    ("chapter_has_its_parts", retag("symbols", ["part:symbols", "part:plain"])),
    ("chapter_has_its_parts", retag("symbols", ["part:failure"])),
    ("chapter_has_its_parts", move_part("plain", before="derivation")),
    ("chapter_has_its_parts", move_part("explore", before="package")),
    ("chapter_has_its_parts", swap_both("## ", "", "symbols")),
    *[
        ("chapter_parts_are_filled", recode(name, ""))
        for name in ("failure", "plain", "package", "experiment", "explore", "break")
    ],
    ("chapter_parts_are_filled", swap("shape", "form", "en", "symbols")),
    (
        "chapter_parts_are_filled",
        lambda notebook: cell_of(notebook, "symbols", "zh").update(source="## 符号\n\n符号。"),
    ),
    ("chapter_parts_are_filled", swap("\n$$ (eq-training-good-first)", "\n$$", "en", "derivation")),
    ("chapter_parts_are_filled", swap("$$", "", "zh", "derivation")),
    ("chapter_parts_are_filled", recode("plain", "from dlnotes import losses\nimport torch")),
    ("chapter_parts_are_filled", recode("by-hand", "")),
    ("chapter_parts_are_filled", recode("plain", "plain = 1")),
    (
        "chapter_parts_are_filled",
        recode("package", "import inspect\ninspect.getsource(f)\ntorch.testing.assert_close(a, b)"),
    ),
    ("chapter_parts_are_filled", recode("package", "from dlnotes.losses import f\ntorch.testing.assert_close(a, b)")),
    ("chapter_parts_are_filled", recode("package", "from dlnotes.losses import f\ninspect.getsource(f)")),
    ("chapter_parts_are_filled", recode("explore", "print(1)")),
    ("chapter_parts_are_filled", explorer_without_page),
    ("chapter_parts_are_filled", add("\n- Six.", name="summary")),
    ("chapter_parts_are_filled", swap(":filter: docname in docnames\n", "", "zh", "sources")),
    ("chapter_parts_are_filled", swap("{cite}`bishop2006`", "a book", "en", "sources")),
    ("chapter_exercises_are_solved", no_solution),
    ("chapter_exercises_are_solved", recode("exercises", "print(1)")),
    ("chapter_exercises_are_solved", fewer_exercises),
    ("chapter_exercises_are_solved", exercise("zh", "练习 2", "练习 3")),
    ("chapter_exercises_are_solved", exercise("en", "### Exercise 2", "Exercise 2")),
    # Markdown traps
    ("bold_renders", add("\n\n这是**重点：**内容。", "zh")),
    ("bold_renders", add("\n\n**“批”**归一化。", "zh")),
    ("bold_renders", add("\n\nThis is **not bold.")),
    ("chinese_paragraphs_are_one_line", add("\n\n第一行，\n第二行。", "zh")),
    ("chinese_paragraphs_are_one_line", add("\n\n- 第一行，\n  第二行。", "zh")),
    ("dollars_are_formulas", add("\n\n从 $5 涨到 $6 了。", "zh")),
    ("dollars_are_formulas", add("\n\nFrom $5 to $6 it rose.")),
    ("dollars_are_formulas", add("\n\nFor $5, not $6.")),
    ("chinese_punctuation_is_full_width", add("\n\n先看公式,再看图。", "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n先看公式, 再看图。", "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n公式 $x$, 再看图。", "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n用 SGD. 再看图。", "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n损失(loss)。", "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n为什么?", "zh")),
    ("chinese_punctuation_is_full_width", add('\n\n叫作"动量"。', "zh")),
    ("chinese_punctuation_is_full_width", add("\n\n先看公式， $x$。", "zh")),
    ("chinese_is_spaced", add("\n\n用SGD训练。", "zh")),
    ("chinese_is_spaced", add("\n\n第3步。", "zh")),
    ("chinese_is_spaced", add("\n\n学习率$x$太大。", "zh")),
    ("chinese_is_spaced", add("\n\n调用`step`。", "zh")),
    ("chinese_is_spaced", add("\n\n**学习率**Adam。", "zh")),
    # wording
    ("words_are_allowed", add("\n\nObviously it falls.")),
    ("words_are_allowed", add("\n\nIt is easy to see.")),
    ("words_are_allowed", add("\n\nIt can be shown.")),
    ("words_are_allowed", add("\n\n显然下降。", "zh")),
    ("words_are_allowed", add("\n\n易知下降。", "zh")),
    ("words_are_allowed", add("\n\n众所周知。", "zh")),
    ("english_is_british", add("\n\nWe normalize it.")),
    ("english_is_british", add("\n\nOptimization is slow.")),
    ("english_is_british", add("\n\nIts behavior and color.")),
    ("english_is_british", figure(en="A color.")),
    ("chinese_is_spaced", figure(zh="第3步。")),
    ("nothing_is_left_to_do", add("\n\nTODO more.")),
    ("nothing_is_left_to_do", recode("plain", "plain = 1  # FIXME")),
    ("nothing_is_left_to_do", add("\n\n这里待补。", "zh")),
    # pictures
    ("pictures_have_words", output(bundle={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})),
    ("pictures_have_words", figure(en=" ")),
    ("pictures_have_words", figure(zh="")),
    ("pictures_have_words", figure(en="线", zh="A.")),
    ("pictures_have_words", output(bundle={"text/html": "<svg></svg>", "text/plain": "x"})),
    ("pictures_have_words", explorer_without_chinese),
    ("pictures_have_words", both("\n\n![](a.png)")),
    ("pictures_have_words", both('\n\n<img src="a.png">')),
    ("pictures_have_words", both("\n\n```{image} a.png\n```")),
    # code and outputs
    ("code_cells_are_short", recode("failure", "\n".join("x = 1" for _ in range(21)))),
    ("outputs_are_from_one_run", change(execution_count=7)),
    ("outputs_are_from_one_run", change(execution_count=None)),
    ("outputs_are_from_one_run", recode("plain", "  ")),
    ("outputs_are_from_one_run", output()),
    ("outputs_are_from_one_run", output(text="UserWarning: x", name="stderr")),
    ("printing_cells_have_outputs", change(outputs=[])),
    ("printing_cells_have_outputs", recode("plain", "for x in range(2):\n    print(x)")),
    ("printing_cells_have_outputs", recode("plain", "this is no Python")),
    (
        "printing_cells_have_outputs",
        lambda notebook: code_of(notebook, "plain").metadata.update(tags=["nbval-check-output"]),
    ),
    ("outputs_are_neutral", output(text="saved to /home/reader/x.pt")),
    ("outputs_are_neutral", output(text=r"saved to C:\Users\reader")),
    ("outputs_are_neutral", output(text="<torch.Generator object at 0x7f3a>")),
    ("outputs_are_neutral", output(text="100%| 10/10 [00:03<00:00, 3.1it/s]")),
    ("outputs_are_neutral", output(text="2026-01-01")),
    ("outputs_are_neutral", output(text="CPU times: user 3 s")),
    ("outputs_are_neutral", output(text="reader@laptop:~")),
    ("outputs_are_neutral", output(bundle={"text/html": "<b>/tmp/x</b>"})),
    ("notebook_is_valid", same_id),
    ("notebook_is_valid", change(outputs=[nbformat.from_dict({"output_type": "nothing"})])),
]


def test_the_good_chapter_has_no_fault():
    notebook = good_old()
    assert not faults_of(book_rules.OLD_FORM[0], notebook)


@pytest.mark.parametrize(("rule", "plant"), PLANTS, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(PLANTS)])
def test_planted_fault_is_found(rule, plant):
    notebook = good_old()
    plant(notebook)
    assert RULES[rule][0](notebook), f"{rule} does not see the fault"


def test_every_rule_has_a_planted_fault():
    assert set(OLD) == {rule for rule, _ in PLANTS}


ALLOWED = [
    add("\n\n**重点**：内容，**“批”** 归一化，95% 的数据，（见图）。", "zh"),
    add(
        "\n\nTrain $x$ by SGD, see {eq}`a`, [b](a.ipynb).",
        partner="\n\n用 SGD 训练 $x$，见 {eq}`a` 的 3 步和 [动量](a.ipynb)。",
    ),
    add("\n\nA ratio, $f(x), g(x)$.", partner="\n\n比例是 3:1，形状 `(N, D)`，公式 $f(x), g(x)$。"),
    add("\n\n$$\ny = \\text{the loss}\n$$ (eq-a)", partner="\n\n$$\ny = \\text{损失}\n$$ (eq-a)"),
    add(
        "\n\nThe optimizer, `normalize`, and Batch Normalization by [Optimization people](a.ipynb).",
        partner="\n\n见 [文](a.ipynb)。",
    ),
    add("\n\nBetween $a$ and $b$; it costs \\$5 or \\$6.", partner="\n\n在 $a$ 与 $b$ 之间。"),
    add("\n\nThe word `动量`."),
    output(text="bits 0x7f800000, 12 steps, 3.5 s, loss/step 0.1"),
    output(bundle={"text/html": "<table><tr><td>1</td></tr></table>"}),
    move_part("explore", before="experiment"),
    exercises_in_bold,
]


@pytest.mark.parametrize("plant", ALLOWED)
def test_what_is_right_is_no_fault(plant):
    notebook = good_old()
    plant(notebook)
    assert not faults_of(book_rules.OLD_FORM[0], notebook)


def test_the_list_of_chapters_of_the_old_form_only_shrinks():
    assert set(book_rules.OLD_FORM) <= {
        *(f"optimization/{name}" for name in ("adaptive_learning_rates", "batch_size", "critical_points", "momentum")),
        *(f"optimization/{name}" for name in ("optimization_summary", "schedules")),
        *(
            f"training/{name}"
            for name in ("gradient_descent", "logistic_regression", "mixed_precision", "training_flow")
        ),
    }
    assert set(book_rules.OLD_FORM) <= set(NAMES)


def test_messages_name_the_cell_from_one_and_quote_what_a_reader_sees():
    notebook = good_old()
    add("\n\n这是 $x$ 和 `y`**重点：**内容。", "zh")(notebook)
    (fault,) = OLD["bold_renders"](notebook)
    number = notebook.cells.index(cell_of(notebook, "symbols", "zh")) + 1
    assert fault.startswith(f"cell {number} (zh: '## 符号")
    assert "$…$" in fault
    assert "`…`" in fault
    assert not re.search("[\ue000-\uf8ff]", fault)
    notebook = good_old()
    add("\n\n- One.\n- Two.", partner="\n\n- 一。")(notebook)
    (fault,) = OLD["lists_agree"](notebook)
    assert "2 list items in English, 1 in Chinese" in fault


def test_an_unknown_citation_is_told_what_was_meant():
    notebook = good_old()
    add("\n\nSee {cite}`bishop206, robbins1951`.")(notebook)
    (fault,) = OLD["citations_are_known"](notebook)
    assert "'bishop206' is not in book/references.bib; did you mean bishop2006" in fault
