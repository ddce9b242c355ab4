r"""The boxes of a page that fold, and questions with their choices: cells that belong together, in one element.

The reader of notebooks puts `{dln-open}` before the first and `{dln-close}` after the last cell of a box; here what
stands between becomes one node. A box of its own language's words is made of native elements: `<details>` opens
without scripts, choices are radio buttons or a number; what a script adds is the word whether a reader was right.
"""

import html
import json

from docutils import nodes
from docutils.parsers.rst import directives
from editions import STRINGS, edition_of
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)


class Mark(nodes.General, nodes.Element):
    r"""Where a box opens (then it holds the words of its summary) or closes."""


class Box(nodes.General, nodes.Element):
    r"""A box of some `kind`; a question also has a `number` and, if it can be judged, what is `right`."""


class Summary(nodes.General, nodes.TextElement):
    r"""The line of a folded box that is always seen."""


class Choices(nodes.General, nodes.Element):
    r"""What a question offers: a Choice each, or none where a number is asked for."""


class Choice(nodes.General, nodes.TextElement):
    r"""One choice."""


class Open(SphinxDirective):
    r"""Where a box opens; the content is its summary."""

    required_arguments = 1
    has_content = True
    option_spec = {"right": directives.unchanged, "number": directives.unchanged}  # noqa: RUF012

    def run(self):  # noqa: D102
        mark = Mark(kind=self.arguments[0], opens=True, **self.options)
        self.state.nested_parse(self.content, self.content_offset, mark)
        self.set_source_info(mark)
        return [mark]


class Close(SphinxDirective):
    r"""Where a box closes."""

    required_arguments = 1

    def run(self):  # noqa: D102
        return [Mark(kind=self.arguments[0], opens=False)]


class FoldBoxes(SphinxTransform):
    r"""Put what stands between the marks into one box."""

    default_priority = 250

    def apply(self, **kwargs):
        r"""Wrap, in every element that has marks."""
        for parent in {mark.parent: None for mark in self.document.findall(Mark)}:
            self.wrap(parent)

    def wrap(self, parent):
        r"""Put the children of one element into boxes."""
        open_boxes, found = [], []
        for node in list(parent.children):
            place = open_boxes[-1] if open_boxes else found
            if not isinstance(node, Mark):
                place.append(node)
            elif node["opens"]:
                box = Box(kind=node["kind"])
                box.source, box.line = node.source, node.line
                for name in ("right", "number"):
                    if name in node:
                        box[name] = node[name]
                if box["kind"] != "question":
                    words = node.children[0].children if node.children else []
                    box += Summary("", "", *words, kind=box["kind"])
                place.append(box)
                open_boxes.append(box)
            elif open_boxes and open_boxes[-1]["kind"] == node["kind"]:
                box = open_boxes.pop()
                if box["kind"] == "question" and "right" in box:
                    self.offer(box)
            else:
                LOGGER.error("a folded box (%s) closes that is not open", node["kind"], location=node)
        for box in open_boxes:
            LOGGER.error("a folded box (%s) holds a heading that ends it", box["kind"], location=box)
        parent.children = []
        parent.extend(found)

    def offer(self, question):
        r"""Make choices of the list that a question ends in, or ask for a number."""
        answer = next((i for i, node in enumerate(question) if isinstance(node, Box)), len(question))
        choices, right = Choices(number=question["number"]), json.loads(question["right"])
        last = question[answer - 1] if answer else None
        if isinstance(right, list):
            question.insert(answer, choices)
        elif isinstance(last, nodes.bullet_list) and 0 <= right < len(last):
            for item in last:
                choices += Choice("", "", *[word for text in item for word in text.children])
            question.replace(last, choices)
        else:
            words = "a question has right: %s, but its cell does not end in a list with as many choices"
            LOGGER.error(words, right, location=question)


# --- HTML ----------------------------------------------------------------------------------------------------------


def words(translator, name):
    r"""Words of the frame, in the edition's language."""
    return STRINGS[name][edition_of(translator.config.language)]


def visit_box(self, node):
    r"""A question stands in a frame; every other box is a native disclosure."""
    if node["kind"] != "question":
        self.body.append(f'<details class="dln-{node["kind"]}">')
        return
    judged = ""
    if "right" in node:
        names = {"yes": "chose_right", "no": "chose_wrong", "mark": "right_one"}
        texts = "".join(f' data-{key}="{html.escape(words(self, name))}"' for key, name in names.items())
        judged = f' data-right="{html.escape(node["right"])}"{texts}'
    self.body.append(f'<div class="dln-question"{judged}>\n')


def depart_box(self, node):
    r"""Close what visit_box opened."""
    self.body.append("</div>\n" if node["kind"] == "question" else "</div></details>\n")


def visit_summary(self, node):
    r"""The line that opens the box; a box with words of its own says before them what it is."""
    kind = node["kind"]
    self.body.append("<summary>")
    if kind == "deeper" and node.children:
        self.body.append(f'<span class="dln-label">{words(self, "deeper")}</span> ')
    elif not node.children:
        self.body.append(words(self, "show_answer" if kind == "answer" else kind))


def depart_summary(self, node):
    r"""What folds begins."""
    self.body.append('</summary>\n<div class="dln-folded">\n')


def visit_choices(self, node):
    r"""Radio buttons in a fieldset, or a field for a number."""
    if node.children:
        legend = f"<legend>{words(self, 'your_choice')}</legend>"
        self.body.append(f'<fieldset class="dln-choices">{legend}\n')
    else:
        self.body.append(
            f'<p class="dln-choices"><label>{words(self, "your_number")} '
            '<input type="number" step="any" autocomplete="off"></label></p>\n'
        )


def depart_choices(self, node):
    r"""Then the place where a script says whether the choice was right."""
    self.body.append("</fieldset>\n" if node.children else "")
    self.body.append('<p class="dln-verdict" role="status"></p>\n')


def visit_choice(self, node):
    r"""One radio button with its words."""
    parent = node.parent
    attributes = f'name="question-{parent["number"]}" value="{parent.index(node)}" autocomplete="off"'
    self.body.append(f'<label class="dln-choice"><input type="radio" {attributes}><span>')


def depart_choice(self, node):
    r"""Close what visit_choice opened."""
    self.body.append("</span></label>\n")


def setup(app):
    r"""Sphinx's entry point."""
    app.add_directive("dln-open", Open)
    app.add_directive("dln-close", Close)
    app.add_transform(FoldBoxes)
    app.add_node(Box, html=(visit_box, depart_box))
    app.add_node(Summary, html=(visit_summary, depart_summary))
    app.add_node(Choices, html=(visit_choices, depart_choices))
    app.add_node(Choice, html=(visit_choice, depart_choice))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
