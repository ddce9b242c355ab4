r"""The outputs of a notebook as a page of one edition shows them: one language, figures and tables with numbers."""

import html
import re

from editions import LANGUAGES, STRINGS

FIGURE = "application/vnd.dlnotes.figure+json"
CAPTION = "application/vnd.dlnotes.caption+json"  # an output of its own below a figure, for notebooks
WIDGET = "application/vnd.jupyter.widget-view+json"
LANG_BLOCK = re.compile(r"<!--dln:(?P<lang>[\w-]+)-->(?P<text>.*?)<!--/dln:(?P=lang)-->", re.DOTALL)
LANG_MARK = re.compile(r"<!--/?dln:[\w-]*-->")
MODULE = re.compile(r'<script type="text/plain" data-module="(?P<key>[\w-]+)">.*?</script>\n?', re.DOTALL)
# What an output in HTML is, and the name by which the text refers to it.
KINDS = {"figure": re.compile(r'<figure class="dln-(?:explorer|lab-figure)"'), "table": re.compile('class="dln-table"')}
NAME = re.compile(r' id="((?:fig|tab)-[\w-]+)"')
PLACES = {"figure": re.compile(r"<figcaption[^>]*>\s*(?:<p[^>]*>)?"), "table": re.compile(r"<caption[^>]*>")}
UNNUMBERED = re.compile(r'<b [^>]*class="dln-number"[^>]*>.*?</b>\s*', re.DOTALL)  # as a notebook shows it


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


def kind_and_name(data):
    r"""("figure" or "table", its name) of one MIME bundle; None for what is neither, or has no name."""
    if FIGURE in data:
        return "figure", data[FIGURE].get("name")
    text = "".join(data.get("text/html", ""))
    for kind, pattern in KINDS.items():
        if pattern.search(text):
            return kind, (name[1] if (name := NAME.search(text)) else None)
    return None, None


def number_outputs(outputs):
    r"""What each output is called on its page, ("figure", 3) or None, and {name: what it is called}."""
    called, names, count = [], {}, {"figure": 0, "table": 0}
    for output in outputs:
        kind, name = kind_and_name(output.get("data", {}))
        if kind:
            count[kind] += 1
        called.append((kind, count[kind]) if kind else None)
        if name in names:
            raise ValueError(f"two figures or tables are named {name!r}")
        if name:
            names[name] = called[-1]
    return called, names


def label(called, lang, gap="&nbsp;"):
    r"""Figure 3, 表 2."""
    kind, number = called
    return f"{STRINGS[kind][lang]}{gap}{number}"


def label_html(called, lang):
    r"""The label before a caption."""
    return (
        f'<b class="dln-number">{label(called, lang)}{"." if lang == "en" else ""}</b>{" " if lang == "en" else "　"}'
    )


def with_label(text, called, lang):
    r"""The HTML of an interactive figure or of a table, with its label before the caption."""
    before = UNNUMBERED.sub("", text, count=1)
    return PLACES[called[0]].sub(lambda place: place[0] + label_html(called, lang), before, count=1)


def figure_html(figure, lang, key, called=None):
    r"""The page's form of a static figure.

    It is {"svg": …, "en": caption, "zh": caption}, with "alt_en" and "alt_zh" where the text alternative is not the
    caption, and "name" where the text refers to it.
    """
    for name in ("svg", *LANGUAGES):
        if not str(figure.get(name) or "").strip():
            raise ValueError(f"figure output: {name!r} is missing or empty")
    name = f' id="{html.escape(figure["name"])}"' if figure.get("name") else ""
    alternative = figure.get(f"alt_{lang}")
    words = f'aria-label="{html.escape(alternative)}"' if alternative else f'aria-labelledby="{key}"'
    caption = (label_html(called, lang) if called else "") + html.escape(figure[lang], quote=False)
    return (
        f'<figure class="dln-figure"{name}><div class="dln-drawing" role="img" {words}>{figure["svg"]}</div>'
        f'<figcaption id="{key}">{caption}</figcaption></figure>'
    )


def edition_output(data, lang, key, called=None):
    r"""One MIME bundle as the page of the edition shows it; `called` is its number, ("figure", 3)."""
    if FIGURE in data:
        return {"text/html": figure_html(data[FIGURE], lang, key, called)}
    if "text/html" in data:  # needs no kernel, so it also stands for a live widget
        text = strip_other_languages("".join(data["text/html"]), lang)
        return {"text/html": with_label(text, called, lang) if called else text}
    return {mime: content for mime, content in data.items() if mime != WIDGET}
