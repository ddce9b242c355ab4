"""The rules that every notebook of the book keeps: two languages, the old form's parts, pictures, code, outputs.

`form_rules.py` holds those of the new form, `prose_rules.py` those about wording and Markdown; `rules.py` says which
apply to what. `tests/test_book_source.py` and `tests/test_form_rules.py` apply them, and plant a fault for each.
"""

import ast
import difflib
import itertools
import re
from collections import Counter
from functools import cache

import nbformat
from book_reading import (
    CONFIG,
    DISPLAYED,
    FIGURE,
    HAN,
    REPOSITORY,
    ROOT,
    blocks,
    code,
    directive,
    html_tokens,
    inlines,
    language,
    markdown,
    pairs,
    parse_code,
    part,
    place_of,
    readable,
    rule,
    section,
    sections,
    skeleton,
    sources_of,
    tags,
    texts,
)

INSTALL = f'''try:
    import dlnotes
except ModuleNotFoundError:
    %pip install --quiet "dlnotes-course @ git+{REPOSITORY}"'''

# The chapters that do not have the new form yet (form_rules.py). The list only shrinks, until the old rules go.
OLD_FORM = (
    "optimization/adaptive_learning_rates",
    "optimization/batch_size",
    "optimization/critical_points",
    "optimization/optimization_summary",
    "optimization/schedules",
    "training/logistic_regression",
    "training/mixed_precision",
)

# Their parts, in order. The English heading cell and its Chinese partner carry the tag `part:<name>`.
PARTS = (
    "failure",
    "symbols",
    "derivation",
    "by-hand",
    "plain",
    "package",
    "experiment",
    "explore",
    "break",
    "misreadings",
    "exercises",
    "summary",
    "sources",
)


@rule("every")
def languages_pair(notebook):
    """Every Markdown cell has one language; every English one is directly followed by its Chinese partner."""
    faults, cells = [], notebook.cells
    for place, cell in markdown(notebook):
        if language(cell) is None:
            faults.append(f"{place}: needs exactly one of the tags lang-en and lang-zh")
    for index, cell in enumerate(cells):
        after = language(cells[index + 1]) if index + 1 < len(cells) else None
        before = language(cells[index - 1]) if index else None
        if language(cell) == "en" and after != "zh":
            faults.append(f"{place_of(index, cell)}: an English cell is not followed by its Chinese partner")
        if language(cell) == "zh" and before != "en":
            faults.append(f"{place_of(index, cell)}: a Chinese cell does not follow its English partner")
        if cell.cell_type != "markdown" and language(cell):
            faults.append(f"{place_of(index, cell)}: a {cell.cell_type} cell belongs to both languages, no lang- tag")
    return faults


def count_words(text):
    """How many Chinese characters and how many English words."""
    return len(re.findall(HAN, text)), len(re.findall(r"[A-Za-z]{3,}", text))


@rule("every")
def languages_written(notebook):
    """Neither side empty; the Chinese side is Chinese, the English side has no Chinese outside code."""
    faults = []
    for place, cell in markdown(notebook):
        words = " ".join(texts(cell.source))
        han, latin = count_words(words)
        if not cell.source.strip():
            faults.append(f"{place}: empty")
        elif language(cell) == "zh" and not han:
            faults.append(f"{place}: no Chinese in a Chinese cell")
        elif language(cell) == "en" and han:
            faults.append(f"{place}: Chinese in an English cell")
        elif language(cell) == "en" and not latin:
            faults.append(f"{place}: no words in an English cell")
        if language(cell) == "zh":
            counted = [(paragraph, *count_words(paragraph)) for paragraph in texts(cell.source)]
            english = [readable(text)[:50] for text, han, latin in counted if latin > max(han, 8)]
            faults += [f"{place}: still English: {text!r}" for text in english]
    return faults


def difference(one, two):
    """How two counters differ, as a message says it."""
    only_en, only_zh = list((one - two).elements()), list((two - one).elements())
    return f"only in English {only_en}, only in Chinese {only_zh}" if only_en or only_zh else ""


@rule("every")
def languages_agree(notebook):
    """Both sides have the same headings, formulas, labels, links, images, roles and directives."""
    faults = []
    for place, one, two in pairs(notebook):
        (headings, english), (titles, chinese) = skeleton(one.source), skeleton(two.source)
        if headings != titles:
            faults.append(f"{place}: heading levels {headings} in English, {titles} in Chinese")
        differing = {kind: difference(english[kind], chinese[kind]) for kind in english.keys() - COUNTED}
        faults += [f"{place}: {kind} {found}" for kind, found in differing.items() if found]
        if sorted(set(tags(one)) - {"lang-en"}) != sorted(set(tags(two)) - {"lang-zh"}):
            faults.append(f"{place}: the two cells carry different tags: {tags(one)}, {tags(two)}")
    return faults


COUNTED = ("list item", "table row")  # what each language may put as it likes, in the new form


@rule("old")
def lists_agree(notebook):
    """Both sides have the same number of list items and of table rows."""
    return [
        f"{place}: {sum(english[kind].values())} {kind}s in English, {sum(chinese[kind].values())} in Chinese"
        for place, one, two in pairs(notebook)
        for english, chinese in [(skeleton(one.source)[1], skeleton(two.source)[1])]
        for kind in COUNTED
        if english[kind] != chinese[kind]
    ]


@cache
def bibliography():
    """The keys of references.bib."""
    path = ROOT / CONFIG["repository"]["path_to_book"] / "references.bib"
    return re.findall(r"^@\w+\{([^,\s]+),", path.read_text(encoding="utf-8"), re.MULTILINE)


@rule("every")
def citations_are_known(notebook):
    """Every key that is cited stands in references.bib."""
    faults = []
    for place, cell in markdown(notebook):
        for keys in re.findall(r"\{cite[a-z:]*\}`([^`]+)`", cell.source):
            for key in (key.strip() for key in keys.split(",")):
                if key not in bibliography():
                    near = difflib.get_close_matches(key, bibliography(), 2, 0.5)
                    hint = (
                        f"did you mean {' or '.join(near)}?" if near else "add the work there, in the order of the keys"
                    )
                    faults.append(f"{place}: {key!r} is not in book/references.bib; {hint}")
    return faults


@rule("chapter")
def chapter_opens(notebook):
    """The setup cell, then the title with a promise, then what to know before, with links."""
    faults, cells = [], notebook.cells
    if not cells or cells[0].cell_type != "code" or "remove-cell" not in tags(cells[0]):
        faults.append("the first cell is not the setup cell (code, tag remove-cell)")
    elif cells[0].source.strip() != INSTALL:
        faults.append(f"the setup cell is not, to the letter:\n{INSTALL}")
    for lang in ("en", "zh"):
        found = [cell for _, cell in markdown(notebook, lang)]
        levels = [level for cell in found for level in skeleton(cell.source)[0]]
        if not found or skeleton(found[0].source)[0][:1] != [1]:
            faults.append(f"{lang}: the first Markdown cell does not open with the title, a heading of level 1")
        if levels.count(1) != 1:
            faults.append(f"{lang}: {levels.count(1)} headings of level 1 instead of one")
        if any(b > a + 1 for a, b in itertools.pairwise(levels)):
            faults.append(f"{lang}: a heading skips a level ({levels})")
        opening = [cell for cell in section(notebook, "opening") if language(cell) == lang]
        if sum(len(inlines(cell.source)) for cell in opening) < 2:
            faults.append(f"{lang}: before the first part stand a title and a promise")
        shared = [skeleton(cell.source)[1] for cell in opening]
        if not any(place for kinds in shared for place in (*kinds["link"], *kinds["role"])):
            faults.append(f"{lang}: what to know before, with a link, is missing from the opening")
    return faults


@rule("old")
def opening_has_three_lines(notebook):
    """A title, a promise, and a line of its own on what to know before."""
    return [
        f"{lang}: before the first part stand a title, a promise and what to know before"
        for lang in ("en", "zh")
        if sum(len(inlines(c.source)) for c in section(notebook, "opening") if language(c) == lang) < 3
    ]


@rule("old")
def chapter_has_its_parts(notebook):
    """All parts, once each (experiments: one or more), in order; exploring may come before or after experiments."""
    names = [name for name, _ in sections(notebook)][1:]
    faults = [f"part:{name} is missing" for name in PARTS if name not in names]
    faults += [f"part:{name} is not the name of a part" for name in names if name not in PARTS]
    faults += [f"part:{name} comes {n} times" for name, n in Counter(names).items() if n > 1 and name != "experiment"]
    order = [PARTS.index("experiment" if name == "explore" else name) for name in names if name in PARTS]
    if order != sorted(order):
        faults.append(f"the parts are out of order: {', '.join(names)}")
    for place, cell in markdown(notebook):
        if part(cell) and not skeleton(cell.source)[0]:
            faults.append(f"{place}: a part opens with a heading")
        if len([tag for tag in tags(cell) if tag.startswith("part:")]) > 1:
            faults.append(f"{place}: more than one part: tag")
    return faults


@rule("old")
def chapter_parts_are_filled(notebook):
    """Each part holds what its name promises (design: "A chapter, cell by cell")."""
    faults = []
    parts = {name: section(notebook, name) for name in PARTS}
    with_code = ("failure", "plain", "package", "experiment", "explore", "break")
    faults += [f"part:{name} has no code cell" for name in with_code if not sources_of(parts[name]).strip()]
    prose = {
        name: {lang: "\n\n".join(c.source for c in cells if language(c) == lang) for lang in ("en", "zh")}
        for name, cells in parts.items()
    }
    if "shape" not in prose["symbols"]["en"].lower() or "形状" not in prose["symbols"]["zh"]:
        faults.append("part:symbols does not say the shapes (形状)")
    for lang in ("en", "zh"):
        equations = [token for token in blocks(prose["derivation"][lang]) if token.type in DISPLAYED]
        unlabelled = [token.content.strip() for token in equations if token.type == "math_block"]
        if len(equations) < 2:
            faults.append(f"part:derivation ({lang}) has {len(equations)} displayed equations; it derives in steps")
        faults += [f"part:derivation ({lang}): an equation without a label: {text[:50]!r}" for text in unlabelled]
        lines = len([token for token in blocks(prose["summary"][lang]) if token.type == "list_item_open"])
        if lines != 5:
            faults.append(f"part:summary ({lang}) is a list of five lines, not {lines}")
    faults += sources_faults(notebook)
    if not sources_of(parts["by-hand"]) and not any(skeleton(c.source)[1]["formula"] for c in parts["by-hand"]):
        faults.append("part:by-hand calculates nothing, neither in formulas nor in code")
    if "torch" not in sources_of(parts["plain"]) or "dlnotes" in sources_of(parts["plain"]):
        faults.append("part:plain writes the formula in plain PyTorch, without dlnotes")
    wanted = {
        "from dlnotes": r"^from dlnotes\.",
        "inspect.getsource": r"inspect\.getsource\(|\bgetsource\(",
        "assert_close": r"\bassert_close\(",
    }
    for name, pattern in wanted.items():
        if not re.search(pattern, sources_of(parts["package"]), flags=re.M):
            faults.append(f"part:package lacks {name}")
    explorers = [c for c in parts["explore"] if c.cell_type == "code" and re.search(r"\b(explorer|live)\(", c.source)]
    if not any("text/html" in output.get("data", {}) for cell in explorers for output in cell.outputs):
        faults.append("part:explore shows no explorer (a call of explorer() or live() with its text/html output)")
    return faults


def sources_faults(notebook):
    """What is missing of the sources: a citation, the list in the last part."""
    faults = []
    for lang in ("en", "zh"):
        listed = "\n\n".join(cell.source for cell in section(notebook, "sources") if language(cell) == lang)
        filtered = [
            token
            for token in blocks(listed)
            if (directive(token) or [""])[0] == "bibliography"
            and re.search(r"^:filter: docname in docnames$", token.content, flags=re.M)
        ]
        roles = [name for _, cell in markdown(notebook, lang) for name in skeleton(cell.source)[1]["role"]]
        if not any(name.startswith("{cite") for name in roles):
            faults.append(f"no source is cited ({lang}): use {{cite}}`key`")
        if len(filtered) != 1:
            faults.append(f"part:sources ({lang}) needs one {{bibliography}} with :filter: docname in docnames")
    return faults


def exercise_faults(notebook, words=False):
    """What is wrong with the exercises: each is solved by code that asserts or, if `words`, by words tagged solution.

    An exercise begins with "Exercise 1" or 练习 1, as a heading of level 3 or in bold at the start of a paragraph.
    """
    faults, stated, solved = [], [], {}
    for cell in section(notebook, "exercises"):
        begins = {"en": r"^(?:### +|\*\*)Exercise (\d+)", "zh": r"^(?:### +|\*\*)练习 (\d+)"}
        numbers = re.findall(begins.get(language(cell), "^$^"), cell.source, flags=re.M)
        if language(cell) == "en":
            stated = numbers
            solved.update(dict.fromkeys(map(int, numbers), False))
        elif language(cell) == "zh" and numbers != stated:
            faults.append(f"exercises {stated} in English, {numbers} in the Chinese cell beside it")
        elif cell.cell_type == "code" and solved and "hide-cell" in tags(cell) and re.search(r"\bassert", cell.source):
            solved[max(solved)] = True
        if words and solved and "solution" in tags(cell):
            solved[max(solved)] = True
    if not 3 <= len(solved) <= 5 or list(solved) != list(range(1, len(solved) + 1)):
        faults.append(f"exercises {list(solved)} instead of three to five: Exercise 1, Exercise 2, …")
    wanted = "a code cell with the tag hide-cell and an assert" + ", or words with the tag solution" * words
    return faults + [f"exercise {number} has no solution: {wanted}" for number, found in solved.items() if not found]


@rule("old")
def chapter_exercises_are_solved(notebook):
    """Three to five exercises, each with a folded solution that runs and asserts."""
    return exercise_faults(notebook)


def bilingual_fault(english, chinese):
    """What is wrong with a text alternative in two languages, or None."""
    if not english.strip() or not chinese.strip():
        return "lacks its text alternative in both languages"
    if re.search(HAN, english) or not re.search(HAN, chinese):
        return "has its text alternatives in the wrong languages"
    return None


def edition(html, lang):
    """The words of an HTML output that one edition alone shows."""
    found = re.findall(rf"<!--dln:{lang}-->(.*?)<!--/dln:{lang}-->", html, flags=re.S)
    return re.sub(r"<[^>]*>", " ", " ".join(found))


@rule("every")
def pictures_have_words(notebook):
    """Every figure, interactive figure and image says in both languages what it shows."""
    faults = []
    for place, cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            figure, page = data.get(FIGURE), "".join(data.get("text/html", ""))
            fault = None
            if figure is not None:
                fault = bilingual_fault(figure.get("en", ""), figure.get("zh", ""))
            elif any(kind.startswith("image/") for kind in data):
                fault = "is a bare image: show it with dlnotes.plot.show(figure, en=…, zh=…)"
            elif re.search(r"<(?:svg|img|canvas|video)\b", page):
                fault = bilingual_fault(edition(page, "en"), edition(page, "zh"))
            if fault:
                faults.append(f"{place}: a picture {fault}")
    for place, cell in markdown(notebook):
        for children in inlines(cell.source):
            faults += [
                f"{place}: an image without words" for t in children if t.type == "image" and not t.content.strip()
            ]
        for tag in re.findall(r"<img\b[^>]*>", "".join(t.content for t in html_tokens(cell.source))):
            if not re.search(r"""\balt=(["'])\s*\S.*?\1""", tag):
                faults.append(f"{place}: an image without words: {tag[:60]}")
        for token in blocks(cell.source):
            if (directive(token) or [""])[0] in ("image", "figure") and not re.search(
                r"^:alt: *\S", token.content, flags=re.M
            ):
                faults.append(f"{place}: a figure without :alt:")
    return faults


@rule("every")
def code_cells_are_short(notebook):
    """At most 20 lines; a longer thing belongs in the package."""
    return [
        f"{place}: {n} lines of code (at most 20)"
        for place, cell in code(notebook)
        if (n := len(cell.source.strip("\n").splitlines())) > 20
    ]


@rule("every")
def outputs_are_from_one_run(notebook):
    """All code cells ran once, top to bottom; no error; nothing on stderr (that is where warnings go)."""
    faults = []
    counts = [cell.execution_count for _, cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        faults.append(f"the code cells were not run once from top to bottom: {counts}")
    for place, cell in code(notebook):
        if not cell.source.strip():
            faults.append(f"{place}: an empty code cell")
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"{place}: a stored error ({output.get('ename')})")
            if output.get("name") == "stderr":
                faults.append(f"{place}: text on stderr: {output.text.strip()[:80]!r}")
    return faults


def prints(body):
    """Whether statements at the top of a cell (with and for included) print, show or end in a value."""
    for statement in body:
        if isinstance(statement, ast.With | ast.For) and prints(statement.body):
            return True
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            function = statement.value.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in ("print", "show", "explorer", "live", "display"):
                return True
    return False


@rule("every")
def printing_cells_have_outputs(notebook):
    """A cell that prints or shows has its output stored."""
    faults = []
    for place, cell in code(notebook):
        try:
            if prints(parse_code(cell).body) and not cell.outputs:
                faults.append(f"{place}: prints, but no output is stored")
        except SyntaxError as error:
            faults.append(f"{place}: not Python: {error.msg}")
        if "nbval-check-output" in tags(cell) and not cell.outputs:
            faults.append(f"{place}: tagged nbval-check-output, but no output is stored")
    return faults


PRIVATE = {
    "a path of some machine": (
        r"(?<![\w.:/-])/(?:root|home|Users|tmp|work|mnt|opt|usr|var|private|content)/\w|\b[A-Z]:\\\w"
    ),
    "a memory address": r"\bat 0x[0-9a-f]+|\b0x[0-9a-f]{12}\b",
    "a time of some run": (
        r"\b\d\d:\d\d(?::\d\d|<)|\b(?:it|s)/(?:it|s)\b|\bWall time:|\bCPU times:|\b20\d\d-\d\d-\d\d\b"
    ),
    "a user's name": r"\b[\w.-]+@[\w-]+(?::[~/]|\.local\b)",
}


def output_texts(cell):
    """Every text in the outputs of a code cell, embedded binary data taken out."""
    for output in cell.outputs:
        data = {**output.get("data", {}), "stream": output.get("text", ""), **output.get("metadata", {})}
        for kind, value in data.items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                words = value if isinstance(value, str) else repr(value)
                yield re.sub(r"base64,[A-Za-z0-9+/=\s]+", "base64,", words)


@rule("every")
def outputs_are_neutral(notebook):
    """No path, address, time or name of the machine that ran the notebook in an output."""
    return [
        f"{place}: {what} in an output: {match[0]!r}"
        for place, cell in code(notebook)
        for words in output_texts(cell)
        for what, pattern in PRIVATE.items()
        for match in [re.search(pattern, words)]
        if match
    ]


@rule("every")
def notebook_is_valid(notebook):
    """The notebook follows nbformat's schema; every cell has its own id."""
    errors = nbformat.validator.iter_validate(notebook)  # validate() would mend doubled ids on the way
    faults = [f"not a valid notebook: {error.message[:200]}" for error in errors]
    ids = Counter(cell.get("id") for cell in notebook.cells)
    return faults + [f"cell id {name!r} stands {n} times" for name, n in ids.items() if n > 1 or name is None]
