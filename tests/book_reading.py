"""What the rules of the book read: cells, languages, parts, and Markdown as the book's own parser sees it."""

import re
import subprocess
from collections import Counter
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import yaml
from chapters import parse, tags
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]["url"]  # written there, and everywhere else compared with it
FIGURE = "application/vnd.dlnotes.figure+json"
HAN = r"[\u3400-\u4dbf\u4e00-\u9fff]"
RULES = {}  # name: (function, "every", "chapter", "old" or "new")


def project_files(root=ROOT):
    """The files of the project, sorted: those that git has, and new ones beside them that it does not ignore.

    New means in a folder at the top that git has something of; so an environment or scratch files elsewhere in the
    checkout, whatever their names, are none of the project's. Without git, as in a downloaded archive, all files are
    that stand in no hidden and no generated folder.
    """
    command = ["git", "-C", str(root), "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        known, new = (
            subprocess.run(
                [*command, *kind], capture_output=True, text=True, encoding="utf-8", check=True
            ).stdout.split("\0")[:-1]
            for kind in (["--cached"], ["--others", "--exclude-standard"])
        )
    except (OSError, subprocess.CalledProcessError):
        skip = re.compile(r"(^|/)(\.(?!github/|ci/)[^/]*|_build|node_modules|__pycache__|[^/]*\.egg-info)/")
        paths = (path for path in root.rglob("*") if path.is_file())
        return sorted(path for path in paths if not skip.search(path.relative_to(root).as_posix()))
    folders = {name.split("/")[0] for name in known if "/" in name}
    paths = (root / name for name in {*known, *(name for name in new if name.split("/")[0] in folders)})
    return sorted(path for path in paths if path.is_file())  # not those that were just deleted


FILES = project_files()


def below(folder, pattern="*"):
    """The project's files in a folder, at any depth, whose name fits the pattern."""
    return [path for path in FILES if path.is_relative_to(ROOT / folder) and fnmatch(path.name, pattern)]


def book_notebooks():
    """The notebooks of the book."""
    return below(CONFIG["repository"]["path_to_book"], "*.ipynb")


def project_texts():
    """The text files of the project, but for vendored ones."""
    kinds = {".md", ".toml", ".cff", ".yml", ".yaml", ".py", ".ipynb", ".txt", ".html", ".js", ".css", ".bib", ""}
    return [path for path in FILES if path.suffix in kinds and "_static" not in path.parts]


def rule(applies):
    """Register a rule for "every" notebook, for each "chapter", or for chapters of the "old" or of the "new" form.

    Chapters are all but the index and the reference part. A rule takes a notebook and returns the faults that it
    finds, one sentence each: the cell, the words, the cure.
    """

    def register(function):
        RULES[function.__name__] = (function, applies)
        return function

    return register


def language(cell):
    """ "en", "zh" or None."""
    found = [tag[5:] for tag in tags(cell) if tag in ("lang-en", "lang-zh")]
    return found[0] if len(found) == 1 else None


def place_of(index, cell):
    """What a message calls a cell: its number in the notebook, from 1, and its first line."""
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
    known = f"{language(cell) or 'no language'}: " if cell.cell_type == "markdown" else ""
    return f"cell {index + 1} ({known}{first[:40]!r})"


def markdown(notebook, lang=None):
    """(place, cell) of the Markdown cells, of one language if `lang` is given."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (lang is None or language(cell) == lang):
            yield place_of(index, cell), cell


def code(notebook):
    """(place, cell) of the code cells."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            yield place_of(index, cell), cell


def prose(notebook, lang=None):
    """(place, language, text) of everything written for readers: the Markdown cells and the captions of figures."""
    for place, cell in markdown(notebook, lang):
        yield place, language(cell), cell.source
    for place, cell in code(notebook):
        for output in cell.outputs:
            figure = output.get("data", {}).get(FIGURE, {})
            yield from (
                (f"{place}, caption", of, figure[of]) for of in ("en", "zh") if of in figure and lang in (None, of)
            )


def pairs(notebook):
    """(place, English cell, Chinese cell) wherever an English cell is directly followed by its partner."""
    for index, (one, two) in enumerate(zip(notebook.cells, notebook.cells[1:], strict=False)):
        if (language(one), language(two)) == ("en", "zh"):
            yield place_of(index, one).replace("cell ", "cells ").replace(" (", f" and {index + 2} (", 1), one, two


def part(cell):
    """The part of the chapter that the cell opens, or None."""
    return next((tag[5:] for tag in tags(cell) if tag.startswith("part:")), None)


def sections(notebook):
    """[(part, its cells)]: a part runs from its heading to the next part's."""
    found = [("opening", [])]
    for cell in notebook.cells:
        name = part(cell)
        if name and language(cell) != "zh":
            found.append((name, []))
        found[-1][1].append(cell)
    return found


def section(notebook, name):
    """All cells of the part `name`."""
    return [cell for found, cells in sections(notebook) if found == name for cell in cells]


def parse_code(cell):
    """The syntax tree of a code cell; lines for IPython (%, !) are left out."""
    return parse(cell.source)


EXTENSIONS = set(CONFIG["parse"]["myst_enable_extensions"])
DISPLAYED = ("math_block", "math_block_label", "amsmath")  # tokens of displayed formulas: $$ and environments
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
# Directives whose content is no prose
VERBATIM = {"math", "code", "code-block", "code-cell", "bibliography", "raw", "mermaid", "autoclass", "autofunction"}


def directive(token):
    """(name, argument, body) of a fence that is a directive, else None."""
    match = re.match(r"\{([\w:-]+)\}\s*(.*)", token.info or "")
    if token.type not in ("fence", "colon_fence") or not match:
        return None
    body = re.sub(r"\A(?:---\n.*?\n---\n|(?:[ \t]*:[\w-]+:.*(?:\n|\Z))+)", "", token.content, flags=re.S)
    return match[1], match[2].strip(), body


@lru_cache(maxsize=4096)
def blocks(source):
    """The block tokens of a Markdown text, those inside directives included."""
    found = []
    for token in PARSER.parse(source):
        found.append(token)
        is_directive = directive(token)
        if is_directive and is_directive[0] not in VERBATIM:
            found.extend(blocks(is_directive[2]))
    return tuple(found)


def inlines(source):
    """One list of inline tokens for each paragraph, heading or table cell."""
    return [token.children or [] for token in blocks(source) if token.type == "inline"]


def plain(formula):
    """A formula without its words (they differ between the languages) and without its spaces."""
    return re.sub(r"\s+", "", re.sub(r"\\text(?:rm|bf|it)?\s*\{[^{}]*\}", r"\\text{}", formula))


def target(role):
    """What a role points to: `label` and `words <label>` are the same place."""
    return re.sub(r"\A.*<(.+)>\Z", r"\1", role, flags=re.S)


def skeleton(source):
    """All that both languages must share: {kind: Counter}, the headings as a list."""
    headings = []
    kinds = {
        name: Counter() for name in ("formula", "label", "link", "image", "role", "directive", "list item", "table row")
    }
    for token in blocks(source):
        found = directive(token)
        if token.type == "heading_open":
            headings.append(int(token.tag[1]))
        elif token.type in DISPLAYED:
            kinds["formula"][plain(token.content)] += 1
            kinds["label"][token.info] += bool(token.info)
        elif token.type == "myst_target":
            kinds["label"][token.content] += 1
        elif found:
            name, argument, body = found
            kinds["directive"][name] += 1
            if name == "math":
                kinds["formula"][plain(body)] += 1
            if name in ("image", "figure"):
                kinds["image"][argument] += 1
            for label in re.findall(r"^:(?:label|name):\s*(\S+)", token.content, flags=re.M):
                kinds["label"][label] += 1
        elif token.type == "list_item_open":
            kinds["list item"]["count"] += 1
        elif token.type == "tr_open":
            kinds["table row"]["count"] += 1
    for children in inlines(source):
        for token in children:
            if token.type in ("math_inline", "math_inline_double", "math_single"):
                kinds["formula"][plain(token.content)] += 1
            elif token.type == "link_open":
                kinds["link"][token.attrs["href"]] += 1
            elif token.type == "image":
                kinds["image"][token.attrs["src"]] += 1
            elif token.type == "myst_role":
                name = token.meta["name"]
                kinds["role"][f"{{{name}}}`{'' if name in ('term', 'abbr') else target(token.content)}`"] += 1
    return headings, {name: +counter for name, counter in kinds.items()}


CODE, MATH, ROLE = "\ue000", "\ue001", "\ue002"  # what stands for code, a formula, a role in the text of a paragraph


def readable(words):
    """The words of a paragraph as a message quotes them."""
    return words.replace(CODE, "`…`").replace(MATH, "$…$").replace(ROLE, "{…}")


def texts(source):
    """The visible words of each paragraph, heading or table cell; see CODE, MATH and ROLE."""
    found = []
    for children in inlines(source):
        words, inside_link = "", False
        for token in children:
            if token.type == "link_open":
                inside_link = token.info == "auto"  # a bare address is no prose
            elif token.type == "link_close":
                inside_link = False
            elif token.type == "code_inline":
                words += CODE
            elif token.type.startswith("math"):
                words += MATH
            elif token.type in ("myst_role", "footnote_ref"):
                words += ROLE
            elif token.type in ("softbreak", "hardbreak"):
                words += "\n"
            elif token.type == "text":
                words += ROLE if inside_link else token.content
        found.append(words)
    return found


def link_words(source):
    """The words that stand inside links: titles and names, not ours to spell."""
    found, depth = [], 0
    for children in inlines(source):
        for token in children:
            depth += (token.type == "link_open") - (token.type == "link_close")
            if depth and token.type == "text":
                found.append(token.content)
    return found


def html_tokens(source):
    inner = [token for children in inlines(source) for token in children]
    return [token for token in (*blocks(source), *inner) if token.type in ("html_block", "html_inline")]


def sources_of(cells):
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")
