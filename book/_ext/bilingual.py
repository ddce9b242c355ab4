r"""Build one edition of a bilingual book with Sphinx.

Cells tagged ``lang-en`` or ``lang-zh`` belong to one edition, all other cells to both. Texts in ``_config.yml`` and
``_toc.yml`` are written "English | 中文". The edition is the first part of Sphinx's ``language`` setting.
"""

import hashlib
import html
import re
from itertools import pairwise
from pathlib import Path

import nbformat
from docutils import nodes
from editions import LANGUAGES, STRINGS
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.errors import ConfigError
from sphinx.search.en import SearchEnglish

FIGURE = "application/vnd.dlnotes.figure+json"
CAPTION = "application/vnd.dlnotes.caption+json"  # an output of its own below a figure, for notebooks
WIDGET = "application/vnd.jupyter.widget-view+json"
LANG_BLOCK = re.compile(r"<!--dln:(?P<lang>[\w-]+)-->(?P<text>.*?)<!--/dln:(?P=lang)-->", re.DOTALL)
CLOSING = re.compile(r"[,.;:?!)\]，。；：、？！）》”’…]+")
MODULE = re.compile(r'<script type="text/plain" data-module="(?P<key>[\w-]+)">.*?</script>\n?', re.DOTALL)
LANG_MARK = re.compile(r"<!--/?dln:[\w-]*-->")
# The parts of MathJax the book uses, in the order in which they build on each other.
MATHJAX_PARTS = [
    "startup", "core", "input/tex-base", "input/tex/extensions/ams", "input/tex/extensions/boldsymbol",
    "input/tex/extensions/newcommand", "input/tex/extensions/configmacros", "input/tex/extensions/noundefined",
    "output/chtml", "output/chtml/fonts/tex", "a11y/assistive-mml",
]  # fmt: skip


# --- one language out of two ---------------------------------------------------------------------------------------


def edition_of(language):
    r"""The edition ("en", "zh") that a Sphinx language ("en", "zh_CN") builds."""
    code = str(language).replace("-", "_").split("_")[0]
    if code not in LANGUAGES:
        raise ConfigError(f"language: got {language!r}, expected one of {', '.join(LANGUAGES)}")
    return code


def pick(text, lang):
    r"""The part of "English | 中文" in the given language; a text without a bar is the same in both."""
    parts = str(text or "").split(" | ")
    if len(parts) == 1:
        return text
    if len(parts) != len(LANGUAGES):
        raise ConfigError(f"title or caption: got {text!r}, expected 'English | 中文'")
    return parts[list(LANGUAGES).index(lang)]


def strip_other_languages(text, lang):
    r"""Keep, of each ``<!--dln:xx-->…<!--/dln:xx-->`` block, only those in the given language."""

    def keep(match):
        if match["lang"] not in LANGUAGES:
            raise ValueError(f"unknown language {match['lang']!r} in an output, expected one of {', '.join(LANGUAGES)}")
        return match["text"] if match["lang"] == lang else ""

    text = LANG_BLOCK.sub(keep, text)
    if stray := LANG_MARK.search(text):
        raise ValueError(f"language mark {stray[0]!r} in an output has no partner")
    return text


def on_a_page(text, seen):
    r"""A live figure's HTML as a page shows it: with links to its setting, each module once a page.

    `seen` holds the names of the modules that the page has already.
    """

    def once(match):
        new = match["key"] not in seen
        seen.add(match["key"])
        return match[0] if new else ""

    return MODULE.sub(once, text).replace('data-place="notebook"', 'data-place="page"')


def figure_html(figure, lang, key):
    r"""The page's form of a static figure: {"svg": …, "en": caption, "zh": caption}."""
    for name in ("svg", *LANGUAGES):
        if not str(figure.get(name) or "").strip():
            raise ValueError(f"figure output: {name!r} is missing or empty")
    return (
        f'<figure class="dln-figure"><div class="dln-drawing" role="img" aria-labelledby="{key}">{figure["svg"]}</div>'
        f'<figcaption id="{key}">{html.escape(figure[lang], quote=False)}</figcaption></figure>'
    )


def edition_output(data, lang, key):
    r"""One MIME bundle as the page of the edition shows it."""
    if FIGURE in data:
        return {"text/html": figure_html(data[FIGURE], lang, key)}
    if "text/html" in data:  # needs no kernel, so it also stands for a live widget
        return {"text/html": strip_other_languages("".join(data["text/html"]), lang)}
    return {mime: content for mime, content in data.items() if mime != WIDGET}


def read_notebook(text, lang):
    r"""A myst-nb reader: the notebook as one edition shows it."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    cells, seen = [], set()
    for number, cell in enumerate(notebook.cells, 1):
        tagged = {tag.removeprefix("lang-") for tag in cell.metadata.get("tags", []) if tag.startswith("lang-")}
        if unknown := tagged - set(LANGUAGES):
            raise ValueError(f"cell {number}: unknown language tag lang-{unknown.pop()}")
        if tagged and lang not in tagged:
            continue
        if "outputs" in cell:  # a figure brings its caption along
            cell.outputs = [output for output in cell.outputs if CAPTION not in output.get("data", {})]
        for index, output in enumerate(cell.get("outputs", [])):
            if "data" in output:
                try:
                    output.data = edition_output(output.data, lang, f"figure-{number}-{index}")
                except ValueError as error:
                    raise ValueError(f"cell {number}: {error}") from error
                if "text/html" in output.data:
                    output.data["text/html"] = on_a_page(output.data["text/html"], seen)
        cells.append(cell)
    notebook.cells = cells
    return notebook


# --- Sphinx --------------------------------------------------------------------------------------------------------


def configure(app, config):
    r"""Choose the language wherever the configuration or the contents name both."""
    lang = edition_of(config.language)
    config.nb_custom_formats = {".ipynb": ["bilingual.read_notebook", {"lang": lang}]}
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
            if old and fold and len(before) == 1 and old["prompt_show"] == fold["prompt_show"]:
                fold.insert(0, old.children)
                parent.remove(before)


def describe(script):
    r"""The address or the text of a script that Sphinx puts into a page."""
    return f"{getattr(script, 'filename', '')} {getattr(script, 'attributes', {}).get('body', '')}"


def visit_fold(self, node):
    r"""A folded cell: a native disclosure, which keyboards and screen readers know."""
    kind, lang = node["prompt_show"].rstrip("s"), edition_of(self.config.language)
    show, hide = STRINGS[f"show_{kind}"][lang], STRINGS[f"hide_{kind}"][lang]
    summary = f'<summary><span class="show">{show}</span><span class="hide">{hide}</span></summary>'
    self.body.append(f'<details class="dln-fold">{summary}\n<div class="dln-folded">')


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
    app.connect("config-inited", configure, priority=901)  # after sphinx_external_toc
    app.connect("doctree-resolved", keep_punctuation)
    app.connect("doctree-resolved", join_folds)
    app.connect("html-page-context", page_context, priority=900)  # after MathJax is chosen for the page
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
