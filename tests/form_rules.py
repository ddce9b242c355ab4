"""The rules of a chapter's new form: its parts, budgets, predictions, checks, figures with numbers, seeds.

`OLD_FORM` in `book_rules.py` names the chapters that still have the old one.
"""

import ast
import difflib
import json
import re
from collections import Counter
from functools import cache

from book_reading import (
    DISPLAYED,
    FIGURE,
    ROOT,
    blocks,
    code,
    language,
    markdown,
    pairs,
    parse_code,
    part,
    place_of,
    prose,
    rule,
    section,
    sections,
    skeleton,
    sources_of,
    tags,
    texts,
)
from book_rules import exercise_faults, sources_faults
from chapters import DETAILS, FOLDED, boxes, count_checks, is_check, lines_of, words_of
from outputs import kind_and_name

FIRST, LAST = "failure", ("practice", "exercises", "summary", "sources")
WORDS, CHARACTERS, LINES, QUESTIONS = 3000, 5000, 200, 5
REFERENCE = re.compile(r"\]\(#((?:fig|tab)-[\w-]+)\)")


def numbered(notebook):
    """(place, cell) of every cell."""
    return [(place_of(index, cell), cell) for index, cell in enumerate(notebook.cells)]


def folded(cell):
    return bool(FOLDED & set(tags(cell)))


@rule("new")
def form_parts(notebook):
    """The failure comes first; practice, exercises, summary and sources last, in this order. The rest is free."""
    faults, names = [], [name for name, _ in sections(notebook)][1:]
    faults += [f"part:{name} is missing: tag both cells of its heading" for name in (FIRST, *LAST) if name not in names]
    faults += [
        f"part:{name} is no part of a chapter (parts: {', '.join((FIRST, *LAST))}): take the tag away"
        for name in names
        if name not in (FIRST, *LAST)
    ]
    faults += [f"part:{name} comes {n} times: once is meant" for name, n in Counter(names).items() if n > 1]
    known = [name for name in names if name in (FIRST, *LAST)]
    if known != sorted(known, key=(FIRST, *LAST).index):
        faults.append(f"the parts are out of order: {', '.join(known)}; wanted: {', '.join((FIRST, *LAST))}")
    for place, cell in markdown(notebook, "en"):
        levels = skeleton(cell.source)[0]
        if part(cell) and not levels:
            faults.append(f"{place}: a part opens with a heading")
    opened = [(place, cell) for place, cell in markdown(notebook, "en") if 2 in skeleton(cell.source)[0]]
    if opened and part(opened[0][1]) != FIRST:
        faults.append(f"{opened[0][0]}: the first section is not the failure (tag part:{FIRST})")
    return faults


@rule("new")
def form_budget(notebook):
    """What a reader meets without opening anything: 3,000 words, 5,000 汉字, 200 lines of code at most."""
    found = {
        "English words": (words_of(notebook, "en"), WORDS),
        "Chinese characters": (words_of(notebook, "zh"), CHARACTERS),
        "visible lines of code": (lines_of(notebook), LINES),
    }
    return [
        f"{count} {what} on the main line, {most} at most: cut what is not missed, fold the rest (proof, deeper, "
        "hide-input), or make two chapters"
        for what, (count, most) in found.items()
        if count > most
    ]


@rule("new")
def form_practice(notebook):
    """The part on practice shows the canonical code: plain torch, ten to twenty lines, to copy."""
    shown = [cell for cell in section(notebook, "practice") if cell.cell_type == "code" and not folded(cell)]
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in shown]
    fits = [
        10 <= lines <= 20 and "torch" in cell.source and "dlnotes" not in cell.source
        for cell, lines in zip(shown, lengths, strict=True)
    ]
    return [] if any(fits) else [
        "part:practice needs a visible code cell of 10 to 20 lines in plain torch, without dlnotes "
        f"(its visible cells have {lengths} lines)"
    ]  # fmt: skip


@rule("new")
def form_summary(notebook):
    """The summary is a list of three to six lines."""
    faults = []
    for lang in ("en", "zh"):
        text = "\n\n".join(c.source for c in section(notebook, "summary") if language(c) == lang)
        lines = len([token for token in blocks(text) if token.type == "list_item_open"])
        if not 3 <= lines <= 6:
            faults.append(f"part:summary ({lang}) is a list of three to six lines, not {lines}")
    return faults


@rule("new")
def form_exercises(notebook):
    """Three to five exercises, each with a folded solution: code that asserts, or words."""
    return exercise_faults(notebook, words=True)


@rule("new")
def form_sources(notebook):
    """Sources are cited, and listed in the last part."""
    return sources_faults(notebook)


@rule("new")
def form_code(notebook):
    """Plain PyTorch, the same from the package, and a check that both agree."""
    faults = []
    if not re.search(r"^from dlnotes\.(?!data\b)", sources_of(notebook.cells), flags=re.M):
        faults.append("no cell takes the same thing from the package (from dlnotes.… import …)")
    checks = [cell for cell in notebook.cells if cell.cell_type == "code" and "check" in tags(cell)]
    if "assert_close(" not in sources_of(checks):
        faults.append("no check cell compares plain PyTorch with the package (torch.testing.assert_close)")
    return faults


@rule("new")
def form_equations(notebook):
    """Every displayed equation has a label, but for answers and exercises; there is at least one."""
    faults, labelled = [], Counter()
    apart = {id(cell) for cell in section(notebook, "exercises")}
    for place, cell in markdown(notebook):
        equations = [token for token in blocks(cell.source) if token.type in DISPLAYED]
        bare = [token for token in equations if token.type == "math_block"]
        labelled[language(cell)] += len(equations) - len(bare)
        if id(cell) not in apart and not {"answer", "solution"} & set(tags(cell)):
            faults += [
                f"{place}: an equation without a label: {token.content.strip()[:50]!r}; write (eq-…) after its last $$"
                for token in bare
            ]
    return faults + [
        f"no labelled equation ({lang}): the derivation stands in displayed equations"
        for lang in ("en", "zh")
        if not labelled[lang]
    ]


@rule("new")
def form_checks(notebook):
    """Assertions stand in cells tagged check, which print nothing, and nowhere where a reader sees them."""
    faults = []
    for place, cell in code(notebook):
        try:
            tree = parse_code(cell)
        except SyntaxError:
            continue  # another rule says so
        if "check" in tags(cell):
            if not count_checks(cell.source):
                faults.append(f"{place}: tagged check, but nothing in it asserts")
            if cell.outputs:
                faults.append(f"{place}: a check cell prints nothing; print in a cell of its own")
        elif not folded(cell):
            lines = sorted({node.lineno for node in ast.walk(tree) if is_check(node)})
            if lines:
                words = cell.source.splitlines()[lines[0] - 1].strip()[:60]
                faults.append(f"{place}: asserts where readers see it ({words!r}); move it to a cell tagged check")
    machinery = {"en": r"\bassert(?:s|ed|ion|ions)?\b", "zh": "断言"}
    for place, lang, source in prose(notebook):
        faults += [
            f"{place}: speaks of the machinery ({found[0]!r}); say what is true instead"
            for words in texts(source)
            if (found := re.search(machinery.get(lang, "$^"), words))
        ]
    return faults


def choices_of(cell):
    """How many choices the list has in which a cell ends; 0 without one."""
    tokens = blocks(cell.source)
    if not tokens or tokens[-1].type != "bullet_list_close":
        return 0
    start = max(i for i, token in enumerate(tokens) if token.type == "bullet_list_open" and not token.level)
    return sum(token.type == "list_item_open" and token.level == 1 for token in tokens[start:])


@rule("new")
def form_questions(notebook):
    """At most five predictions: choices or a number to commit to, the answer folded directly after."""
    faults, count = [], 0
    for lang in ("en", "zh"):
        cells = [(place, cell) for place, cell in numbered(notebook) if language(cell) in (lang, None)]
        grouped = {}
        for (place, cell), mine in zip(cells, boxes([cell for _, cell in cells]), strict=True):
            if found := next((box for box in mine if box[0] == "question"), None):
                grouped.setdefault(found, []).append((place, cell))
        count = max(count, len(grouped))
        for members in grouped.values():
            asked = [(place, cell) for place, cell in members if "question" in tags(cell)]
            if not asked:
                faults.append(f"{members[0][0]}: an answer without its question directly before it")
                continue
            if len(asked) == len(members):
                faults.append(f"{asked[-1][0]}: a question without its answer (tag answer) directly after it")
            faults += question_faults(*[pair for pair in asked if pair[1].cell_type == "markdown"][-1:])
    for place, one, two in pairs(notebook):
        if one.metadata.get("right") != two.metadata.get("right"):
            faults.append(
                f"{place}: right is {one.metadata.get('right')} in English, {two.metadata.get('right')} in Chinese"
            )
        if "question" in tags(one) and choices_of(one) != choices_of(two):
            faults.append(f"{place}: {choices_of(one)} choices in English, {choices_of(two)} in Chinese")
    for place, cell in markdown(notebook):
        if {"answer", "solution"} & set(tags(cell)) and not DETAILS.match(cell.source):
            faults.append(
                f"{place}: wrap it for Jupyter: <details><summary>…</summary>, a blank line, the text, a blank line, "
                "</details>"
            )
    if count > QUESTIONS:
        faults.append(f"{count} questions, {QUESTIONS} at most: keep those whose answer surprises")
    return faults


def question_faults(asked=None):
    """What is wrong with the last Markdown cell of one question, in one language."""
    if asked is None:
        return []
    place, cell = asked
    right, choices = cell.metadata.get("right"), choices_of(cell)
    if choices and not 2 <= choices <= 4:
        return [f"{place}: {choices} choices; offer two to four"]
    if choices and (not isinstance(right, int) or not 0 <= right < choices):
        return [
            f'{place}: the metadata needs "right": 0 to {choices - 1}, the right choice counted from 0; got {right}'
        ]
    if not choices and right is not None:
        numbers = isinstance(right, list) and len(right) == 2 and all(isinstance(n, int | float) for n in right)
        if not numbers or right[0] > right[1]:
            return [f'{place}: without choices "right" is [low, high] or is left out; got {right}']
    return []


@rule("new")
def form_figures(notebook):
    """Figures and tables have a name, figures what is drawn in words, and the text refers to each by its number."""
    faults, names = [], {}
    exercises = {id(cell) for cell in section(notebook, "exercises")}
    for place, cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            kind, name = kind_and_name(data)
            if kind and name:
                names[name] = place
            elif kind and id(cell) not in exercises:
                faults.append(f'{place}: a {kind} without a name: give it name="{kind[:3]}-…"')
            if FIGURE in data and not data[FIGURE].get("alt_en"):
                faults.append(f"{place}: a figure whose drawing is not described: give it alt_en= and alt_zh=")
    for lang in ("en", "zh"):
        used = set()
        for place, cell in markdown(notebook, lang):
            for name in REFERENCE.findall(cell.source):
                used.add(name)
                if name not in names:
                    near = difflib.get_close_matches(name, names, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"there are {sorted(names)}"
                    faults.append(f"{place}: no figure or table is named {name!r}; {hint}")
        word = {"en": ("Figure", "Table"), "zh": ("图", "表")}[lang]
        faults += [
            f"{place}: the text ({lang}) does not refer to it: write [{word[name.startswith('tab')]}](#{name})"
            for name, place in names.items()
            if name not in used
        ]
    return faults


@rule("new")
def form_imports(notebook):
    """The first code cell after the setup holds the imports and folds; nothing that teaches hides in such a cell."""
    cells = list(code(notebook))[1:]
    faults = []
    if cells and "imports" not in tags(cells[0][1]):
        faults.append(f"{cells[0][0]}: the first code cell after the setup holds the imports: tag it imports")
    for place, cell in cells:
        if "imports" in tags(cell):
            try:
                body = parse_code(cell).body
            except SyntaxError:
                continue
            kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.With, ast.Assert)
            if not any(isinstance(node, ast.Import | ast.ImportFrom) for node in body) or cell.outputs:
                faults.append(f"{place}: tagged imports, but it imports nothing or shows something")
            faults += [
                f"{place}: {ast.unparse(node)[:50]!r} does not belong in a cell of imports, which folds"
                for node in body
                if isinstance(node, kinds)
            ]
    return faults


@cache
def seeded():
    """The functions of dlnotes.data whose seed has a default."""
    tree = ast.parse((ROOT / "dlnotes" / "data.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if "seed" in {a.arg for a in f.args.kwonlyargs} and not f.name.startswith("_")}


@rule("new")
def form_seeds(notebook):
    """Every seed goes through redraw, so that `make redraw` can run the chapter on others."""
    faults = []
    for place, cell in code(notebook):
        try:
            calls = [node for node in ast.walk(parse_code(cell)) if isinstance(node, ast.Call)]
        except SyntaxError:
            continue
        for call in calls:
            *owner, name = ast.unparse(call.func).split(".")
            given = {word.arg: word.value for word in call.keywords if word.arg in ("seed", "random_state")}
            if name in ("manual_seed", "default_rng", "RandomState") or (name == "seed" and call.args):
                given |= dict(enumerate(call.args[:1]))
            if name in seeded() and (not owner or owner == ["data"]) and not given:
                faults.append(f"{place}: {name}() takes its own seed: write {name}(seed=redraw(0))")
            faults += [
                f"{place}: the seed {value.value!r} in {ast.unparse(call)[:50]!r}: write redraw({value.value!r})"
                for value in given.values()
                if isinstance(value, ast.Constant)
            ]
    return faults


def record_faults(notebook, path, hashed):
    """What is wrong with the record of a notebook's redraws, if there is one."""
    if not path.is_file():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["source"] != hashed:
        return [f"{path.name} is of other code: run make redraw FILES={path.with_name(path.name.split('.')[0])}.ipynb"]
    checks = {
        cell.id: place for place, cell in numbered(notebook) if cell.cell_type == "code" and "check" in tags(cell)
    }
    return [
        f"{checks[cell]}: held in {held} of {record['offsets']} redraws, too few: reword or drop the claim"
        for cell, held in record["held"].items()
        if cell in checks and 10 * held < 9 * record["offsets"]
    ]
