r"""One place in two languages: a section has the same id in both editions, and so has each pair of cells.

The id of a section is made of its English heading, in the Chinese edition too; where the text of the k-th pair of
cells begins, an empty element has the id `at-k`. The language switch looks for the last one above the reader's eyes.
"""

import copy
import re

import nbformat
from chapters import HEADING, tags
from docutils import nodes
from editions import LANGUAGES
from nbformat.v4 import new_markdown_cell
from reader import FENCE, INNER_HEADING, read_edition, with_boxes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
LINK, ROLE, FORMULA = re.compile(r"\[([^\]]*)\]\([^)]*\)"), re.compile(r"\{[\w:-]+\}`[^`]*`"), re.compile(r"\$[^$]*\$")


class Sections(nodes.General, nodes.Element):
    r"""The `ids` that the sections of this page get, in their order."""


class GiveSections(SphinxDirective):
    r"""The ids of a page's sections, one a line."""

    has_content = True

    def run(self):  # noqa: D102
        return [Sections(ids=list(self.content))]


class NameSections(SphinxTransform):
    r"""Give sections their ids, before anything refers to them."""

    default_priority = 255  # after the boxes, before labels are collected

    def apply(self, **kwargs):
        r"""Rename, in the order of the page."""
        for given in list(self.document.findall(Sections)):
            given.parent.remove(given)
            sections = list(self.document.findall(nodes.section))
            if len(sections) != len(given["ids"]):
                words = "the page has %d sections, its English edition %d"
                LOGGER.error(words, len(sections), len(given["ids"]), location=self.document)
                return
            for section, name in zip(sections, given["ids"], strict=True):
                self.rename(section, name)

    def rename(self, section, name):
        r"""One section: what was known under its old id is known under the new one."""
        old, kept = section["ids"][0], section["ids"][1:]
        section["ids"] = [name, *(one for one in kept if one != name)]
        self.document.ids[name] = section
        for known, place in self.document.nameids.items():
            if place == old:
                self.document.nameids[known] = name
        for node in self.document.findall(lambda node: isinstance(node, nodes.Element) and node.get("refid") == old):
            node["refid"] = name


def slug(heading):
    r"""An id of an English heading, without its formulas, citations and addresses."""
    for pattern, words in ((ROLE, ""), (FORMULA, ""), (LINK, r"\1")):
        heading = pattern.sub(words, heading)
    return nodes.make_id(heading) or "section"


def section_ids(notebook):
    r"""The ids of the sections, as the English cells of a notebook name them."""
    english = [(number, copy.deepcopy(cell)) for number, cell in enumerate(notebook.cells) if "lang-en" in tags(cell)]
    ids = []
    for cell in with_boxes(english):  # within a box there are no sections
        for heading in INNER_HEADING.finditer(FENCE.sub("", cell.source)):
            name = slug(heading[2])
            count = sum(one == name or re.fullmatch(re.escape(name) + r"-\d+", one) is not None for one in ids)
            ids.append(f"{name}-{count + 1}" if count else name)
    return ids


def number_pairs(notebook):
    r"""Tell each Markdown cell the number of its pair, from 1."""
    count = dict.fromkeys(LANGUAGES, 0)
    for cell in notebook.cells:
        for lang in LANGUAGES:
            if cell.cell_type == "markdown" and f"lang-{lang}" in tags(cell):
                count[lang] += 1
                cell.metadata["pair"] = count[lang]


def read_page(text, lang):
    r"""A myst-nb reader: the notebook as one edition shows it, with the places that both editions share."""
    notebook = nbformat.reads(text, as_version=4)
    ids = section_ids(notebook)
    number_pairs(notebook)
    page = read_edition(notebook, lang)
    for cell in page.cells:
        if cell.cell_type == "markdown" and "pair" in cell.metadata:
            head = found[0] if (found := HEADING.match(cell.source)) else ""
            mark = f'<div class="dln-at" id="at-{cell.metadata["pair"]}"></div>'
            cell.source = f"{head.rstrip()}\n\n{mark}\n\n{cell.source[len(head) :]}".lstrip()
    page.cells.append(new_markdown_cell("\n".join(["```{dln-sections}", *ids, "```"])))
    return page


def setup(app):
    r"""Sphinx's entry point."""
    app.add_directive("dln-sections", GiveSections)
    app.add_transform(NameSections)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
