r"""Build one edition of a bilingual book with Sphinx.

Cells tagged ``lang-en`` or ``lang-zh`` belong to one edition, all other cells to both. Texts in ``_config.yml`` and
``_toc.yml`` are written "English | 中文". The edition is the first part of Sphinx's ``language`` setting. What the
cells of a chapter become is told in ``reader``, their outputs in ``outputs``, the boxes that fold in ``folds``.
"""

import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path

import folds
import places
from docutils import nodes
from editions import LANGUAGES, STRINGS, checks, edition_of, pick
from myst_nb.sphinx_ import HideCodeCellNode
from reader import read_notebook as read_notebook
from sphinx.search.en import SearchEnglish

CLOSING = re.compile(r"[,.;:?!)\]，。；：、？！）》”’…]+")
# The parts of MathJax the book uses, in the order in which they build on each other.
MATHJAX_PARTS = [
    "startup", "core", "input/tex-base", "input/tex/extensions/ams", "input/tex/extensions/boldsymbol",
    "input/tex/extensions/newcommand", "input/tex/extensions/configmacros", "input/tex/extensions/noundefined",
    "output/chtml", "output/chtml/fonts/tex", "a11y/assistive-mml",
]  # fmt: skip


# --- Sphinx --------------------------------------------------------------------------------------------------------


def configure(app, config):
    r"""Choose the language wherever the configuration or the contents name both."""
    lang = edition_of(config.language)
    config.nb_custom_formats = {".ipynb": ["places.read_page", {"lang": lang}]}
    for name in ("html_title", "author", "copyright"):
        config[name] = pick(config[name], lang)
    for kind in ("show", "hide"):  # the bare kind of content; visit_fold puts it into words
        config[f"nb_code_prompt_{kind}"] = "{type}"
    # Jupyter Book hands over what a theme needs; the templates take it from the context.
    options = config.html_theme_options
    config.html_theme_options = {}
    config.html_context = {
        **config.html_context,
        "lang": lang,
        "languages": LANGUAGES,
        "t": {name: texts[lang] for name, texts in STRINGS.items()},
        "repository": options["repository_url"].rstrip("/"),
        "colab": "{}/github/{}/blob/{}/{}".format(
            options["launch_buttons"]["colab_url"].rstrip("/"),
            "/".join(options["repository_url"].rstrip("/").split("/")[-2:]),
            options["repository_branch"],
            options["path_to_docs"].strip("/"),
        ),
    }
    config.html_css_files, config.html_js_files = [], []  # the templates name the few files there are
    for document in config.external_site_map.values():
        document.title = document.title and pick(document.title, lang)
        for tree in document.subtrees:
            tree.caption = tree.caption and pick(tree.caption, lang)


def give_record(app, docname, source):
    r"""Put into a notebook's metadata what its redraws found, where `make redraw` has recorded it."""
    record = Path(app.srcdir) / f"{docname}.redraw.json"
    if record.is_file():
        notebook = json.loads(source[0])
        notebook["metadata"]["redraw"] = json.loads(record.read_text("utf-8"))
        source[0] = json.dumps(notebook)


def page_context(app, pagename, templatename, context, doctree):
    r"""Tell the page template where the page is in the other edition, in Colab and as a notebook."""
    up = "../" * (pagename.count("/") + 1)
    context["html_lang"] = LANGUAGES[context["lang"]][2]
    context["editions"] = {code: f"{up}{code}/{pagename}{app.builder.out_suffix}" for code in LANGUAGES}
    context["site_root"] = up
    context["is_chapter"] = doctree is not None
    digest = {
        name: hashlib.sha256((Path(app.srcdir) / "_static" / name).read_bytes()).hexdigest()[:8]
        for name in ("course.css", "course.js")
    }
    context["asset"] = lambda name: f"{context['pathto'](f'_static/{name}', 1)}?v={digest[name]}"
    context["has_translations"] = any("translations.js" in describe(js) for js in context["script_files"])
    # A list whose entries are not list items misleads screen readers; docutils writes one around citations.
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )
    # Sphinx gives MathJax to a page for the formulas of the pages below it, too.
    formulas = app.env.get_domain("math").data["has_equations"].get(pagename)
    context["mathjax"] = [js for js in context["script_files"] if formulas and "mathjax" in describe(js).lower()]


def keep_punctuation(app, doctree, pagename):
    r"""Hold a formula and the punctuation after it together: browsers would break the line between them."""
    for formula in list(doctree.findall(nodes.math)):
        parent, place = formula.parent, formula.parent.index(formula)
        after = parent[place + 1] if place + 1 < len(parent) else None
        if isinstance(after, nodes.Text) and (closing := CLOSING.match(after)):
            group = nodes.inline("", "", formula, nodes.Text(closing[0]), classes=["nobreak"])
            parent[place : place + 2] = [group, nodes.Text(after[closing.end() :])]


def fold_of(node):
    r"""The fold that a cell's container begins with, if there is one."""
    first = node[0] if isinstance(node, nodes.container) and len(node) else None
    return first if isinstance(first, HideCodeCellNode) else None


def join_folds(app, doctree, pagename):
    r"""Folded cells that follow each other become one: one click shows what belongs together."""
    for parent in list(doctree.findall(nodes.Element)):
        for before, cell in pairwise(list(parent.children)):
            old, fold = fold_of(before), fold_of(cell)
            alike = old and fold and old["prompt_show"] == fold["prompt_show"]
            if alike and len(before) == 1 and not old["prompt_show"].startswith("check"):
                fold.insert(0, old.children)
                parent.remove(before)


def describe(script):
    r"""The address or the text of a script that Sphinx puts into a page."""
    return f"{getattr(script, 'filename', '')} {getattr(script, 'attributes', {}).get('body', '')}"


def visit_fold(self, node):
    r"""A folded cell: a native disclosure, which keyboards and screen readers know."""
    (kind, *numbers), lang = node["prompt_show"].split(), edition_of(self.config.language)
    if kind == "check":
        words = checks(lang, *map(int, numbers))
    elif kind == "imports":
        words = STRINGS["imports"][lang]
    else:
        show, hide = (STRINGS[f"{word}_{kind.rstrip('s')}"][lang] for word in ("show", "hide"))
        words = f'<span class="show">{show}</span><span class="hide">{hide}</span>'
    small = f" dln-{kind}" if kind in ("check", "imports") else " dln-code" if kind.startswith("source") else ""
    self.body.append(f'<details class="dln-fold{small}"><summary>{words}</summary>\n<div class="dln-folded">')


def depart_fold(self, node):
    r"""Close what visit_fold opened."""
    self.body.append("</div></details>\n")


def finish(app, error):
    r"""Bundle MathJax into one file and drop what no page asks for."""
    if error:
        return
    static = Path(app.outdir) / "_static"
    mathjax = static / "mathjax"
    parts = [mathjax / f"{name}.js" for name in MATHJAX_PARTS]
    (mathjax / "mathjax.js").write_text("\n".join(part.read_text("utf-8") for part in parts), encoding="utf-8")
    unused = [
        "basic.css",
        "pygments.css",
        "file.png",
        "minus.png",
        "plus.png",
        "_sphinx_javascript_frameworks_compat.js",
    ]
    for path in [
        *parts,
        *(static / name for name in unused),
        *static.glob("mystnb*.css"),
        *static.glob("*.lang"),
    ]:
        path.unlink(missing_ok=True)
    for folder in sorted((path for path in mathjax.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


class Chinese(SearchEnglish):
    r"""Index Chinese by single characters and overlapping pairs, which needs no dictionary."""

    lang, language_name = "zh", "Chinese"
    # A query is split into pairs, which all must occur; only a lone character is looked up by itself.
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{Letter}\p{Number}_])+/gu) || []).flatMap((run) =>
    !/^[\u3400-\u9fff]/.test(run) || run.length < 3 ? [run] : [...run.slice(1)].map((next, i) => run[i] + next));
"""

    def split(self, input):
        r"""The words to index: Latin words whole, Chinese by one and by two characters."""
        words = []
        for run in re.findall(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", input):
            if "\u3400" <= run[0] <= "\u9fff":
                words += [*run, *map("".join, pairwise(run))]
            else:
                words.append(run)
        return words


def setup(app):
    r"""Sphinx's entry point."""
    app.add_config_value("comments_config", {}, "env")  # Jupyter Book sets it for an extension the book leaves out
    app.add_search_language(Chinese)
    app.add_node(HideCodeCellNode, override=True, html=(visit_fold, depart_fold))
    folds.setup(app)
    places.setup(app)
    app.connect("source-read", give_record)
    app.connect("config-inited", configure, priority=901)  # after sphinx_external_toc
    app.connect("doctree-resolved", keep_punctuation)
    app.connect("doctree-resolved", join_folds)
    app.connect("html-page-context", page_context, priority=900)  # after MathJax is chosen for the page
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
