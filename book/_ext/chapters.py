r"""What the cells of a chapter mean, for the build, the tools and the rules: folds, checks, length, the code's hash."""

import ast
import hashlib
import json
import math
import re

MINUTES = {"en": 200, "zh": 320}  # English words, Chinese characters that one reads in a minute
SECONDS, EQUATION = 2, 15  # seconds for a line of code and for a displayed equation, read and not worked through
# Cells with one of these tags fold on the page: they are not on the main line, and their words and lines do not count.
FOLDED = {"proof", "deeper", "answer", "solution", "check", "imports", "remove-cell", "hide-cell", "hide-input"}
ASIDE = {"check", "imports", "remove-cell", "hide-input"}  # what even those who open every box read over
# What several cells make together, the outer first.
GROUPS = ("deeper", "proof", "question", "answer", "solution")
DETAILS = re.compile(r"\A\s*<details[^>]*>\s*<summary>.*?</summary>\s*\n(?P<text>.*?)\s*</details>\s*\Z", re.DOTALL)
HEADING = re.compile(r"\A(?P<marks>#{1,6})[ \t]+(?P<text>.+?)[ \t]*#*(?:\n+|\Z)")
BOLD = re.compile(r"\A\*\*(?P<text>.+?)\*\*[。：]?[ \t]*(?:\n+|(?=\S)|\Z)")


def tags(cell):
    r"""The tags of a cell."""
    return cell.metadata.get("tags", [])


def is_chapter(notebook):
    r"""Whether a notebook has the parts of a chapter."""
    return any(tag.startswith("part:") for cell in notebook.cells for tag in tags(cell))


# --- code ----------------------------------------------------------------------------------------------------------


def parse(source):
    r"""The syntax tree of a code cell; lines for IPython (%, !) are left out."""
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines()))


def is_check(node):
    r"""Whether a node of the syntax tree is one check: an assert, or a call that asserts."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    *owner, name = ast.unparse(node.func).split(".")
    return name in ("assert_close", "raises") or "testing" in owner


def count_checks(source):
    r"""How many checks a cell holds."""
    return sum(map(is_check, ast.walk(parse(source))))


def code_hash(notebook):
    r"""A short hash of all the code of a notebook, but for the cell that installs the package."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code" and "remove-cell" not in tags(cell)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


# --- length --------------------------------------------------------------------------------------------------------


def main_line(notebook):
    r"""The cells that a reader meets without opening anything."""
    return [cell for cell in notebook.cells if not FOLDED & set(tags(cell))]


def count_words(source, lang):
    r"""How many English words, or Chinese characters, a Markdown text has, without formulas, code and addresses."""
    for pattern in (
        r"(?ms)^[ \t]*(`{3,}|~{3,}).*?^[ \t]*\1[ \t]*$",
        r"(?m)^:{3,}.*$",
        r"(?m)^\([\w-]+\)=$",
        r"(?s)\$\$.*?\$\$(?:[ \t]*\([\w:-]+\))?",
        r"(?s)\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
        r"\$[^$\n]+\$",
        r"(?:\{[\w:-]+\})?`[^`]*`",
        r"<[^>]*>",
        r"(?<=\])\([^)\s]*\)",
    ):
        source = re.sub(pattern, " ", source)
    return len(re.findall(r"[\u3400-\u9fff]" if lang == "zh" else r"[A-Za-z]+(?:['’-][A-Za-z]+)*", source))


def words_of(notebook, lang):
    r"""The words of the main line in one language."""
    return sum(count_words(cell.source, lang) for cell in prose(main_line(notebook), lang))


def lines_of(notebook):
    r"""The lines of code on the main line, without blank ones."""
    return count_lines(main_line(notebook))


def prose(cells, lang):
    r"""The Markdown cells in one language."""
    return [cell for cell in cells if cell.cell_type == "markdown" and f"lang-{lang}" in tags(cell)]


def count_lines(cells):
    r"""The lines of code in cells, without blank ones."""
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    return sum(bool(line.strip()) for source in sources for line in source.splitlines())


def minutes_of(notebook, lang):
    r"""How long one reads, rounded up to five minutes: the main line, and all that folds with it."""

    def minutes(cells):
        texts = [cell.source for cell in prose(cells, lang)]
        words = sum(count_words(text, lang) for text in texts) / MINUTES[lang]
        seconds = count_lines(cells) * SECONDS + sum(text.count("$$") // 2 for text in texts) * EQUATION
        return 5 * max(1, math.ceil((words + seconds / 60) / 5))

    everything = [cell for cell in notebook.cells if not ASIDE & set(tags(cell))]
    return minutes(main_line(notebook)), minutes(everything)


# --- folds ---------------------------------------------------------------------------------------------------------


def unwrap(source):
    r"""A Markdown cell without the `<details>` around all of it, which stands there for Jupyter."""
    found = DETAILS.match(source)
    return found["text"].strip() if found else source


def summary_of(source):
    r"""(what a folded box is called, the rest): its heading, or the bold words that it begins with."""
    source = source.lstrip()
    found = HEADING.match(source) or BOLD.match(source)
    return (found["text"], source[found.end() :]) if found else (None, source)


def begins_anew(kind, cell, last):
    r"""Whether a cell begins a second box of its kind, rather than going on with the one before."""
    if kind == "question":
        return "answer" in tags(last) and "answer" not in tags(cell)
    source = cell.source.lstrip() if cell.cell_type == "markdown" else ""
    if kind == "deeper":
        return source.startswith("### ")
    if kind == "proof":
        return bool(re.match(r"#{3,4} |\*\*[^*\n]*(?:Proof|证明)[^*\n]*\*\*", source))
    return False


def boxes(cells):
    r"""For each cell of one edition the boxes that it stands in, the outer first, as (kind, number)."""
    found, last, number = [], None, 0
    for cell in cells:
        before, mine, same = found[-1] if found else [], [], True
        kinds = [kind for kind in GROUPS if kind in tags(cell)]
        if "answer" in kinds and "question" not in kinds:  # an answer stands in the box of its question
            kinds.insert(kinds.index("answer"), "question")
        for depth, kind in enumerate(kinds):
            same = same and before[depth : depth + 1] != [] and before[depth][0] == kind
            same = same and not begins_anew(kind, cell, last)
            number += not same
            mine.append(before[depth] if same else (kind, number))
        found.append(mine)
        last = cell
    return found
