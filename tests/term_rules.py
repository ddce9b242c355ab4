"""The rules about the words of both languages: terms, the headings of parts, references to equations, quotations.

`book/terms.yml` holds the terms, `book/_tools/terms.py` reads it.
"""

import re
from itertools import chain

from book_reading import CODE, HAN, MATH, ROLE, blocks, markdown, pairs, part, sections, texts
from terms import HEADINGS, load

TERMS = load()
RULES = {}  # name: function


def rule(function):
    """Register a rule: it takes a notebook and returns the faults that it finds, one sentence each."""
    RULES[function.__name__] = function
    return function


def readable(words):
    """The words of a paragraph as a message quotes them."""
    return words.replace(CODE, "`…`").replace(MATH, "$…$").replace(ROLE, "{…}").strip()


def near(words, match):
    """A match and what stands around it, as a message quotes it."""
    return readable(words[max(0, match.start() - 12) : match.end() + 12])


def between_headings(source):
    """The texts of a Markdown cell in pieces: what stands before the first heading, then one piece for each heading.

    Links to other notebooks are left out: their words are titles, and a chapter's two titles may differ.
    """
    source = re.sub(r"\[[^\]]*\]\([^)]*\.ipynb[^)]*\)", CODE, source)
    pieces, left = [[]], iter(texts(source))
    for token in blocks(source):
        if token.type == "heading_open":
            pieces.append([])
        elif token.type == "inline":
            pieces[-1].append(next(left))
    return pieces


def sections_in_both(notebook):
    """[([(place, English paragraph)], Chinese text)], one for each heading of any level."""
    found = [([], [])]
    for place, english, chinese in pairs(notebook):
        one, two = between_headings(english.source), between_headings(chinese.source)
        if len(one) != len(two):  # languages_agree says so
            one, two = [list(chain(*one))], [list(chain(*two))]
        for number, (en, zh) in enumerate(zip(one, two, strict=True)):
            if number:
                found.append(([], []))
            found[-1][0].extend((place, paragraph) for paragraph in en)
            found[-1][1].extend(zh)
    return [(english, "\n".join(chinese)) for english, chinese in found]


@rule
def terms_agree(notebook):
    """Where the English of a section uses a term, the Chinese of the section uses 术语 for it, or one of its variants.

    A section runs from one heading to the next, over several pairs of cells. The pair would be too small: natural
    Chinese names a thing, then says 它, drops the subject, or says the sentence in another order, a cell earlier or
    later. The chapter would be too large: a term that is right once would excuse a wrong word thirty paragraphs on.
    English words that are everyday words too ("value", "head") are left alone; so are code, formulas and roles.
    """
    faults = []
    for english, chinese in sections_in_both(notebook):
        missing = {}
        for place, paragraph in english:
            for words, term in TERMS.used(paragraph):
                if not term.everyday and not any(form in chinese for form in term.chinese):
                    missing.setdefault(term, (place, words))
        faults += [
            f"{place}: the English says {words!r}; the Chinese of this section has none of {list(term.chinese)}"
            for term, (place, words) in missing.items()
        ]
    return faults


def matches(notebook, pattern):
    """(place, match, the words near it) wherever the Chinese has the pattern."""
    for place, cell in markdown(notebook, "zh"):
        for words in texts(cell.source):
            for match in re.finditer(pattern, words):
                yield place, match, near(words, match)


@rule
def refused_words_are_not_written(notebook):
    """None of the words for which the course has another (`refused` in book/terms.yml)."""
    wanted = {word: term.zh for term in TERMS for word in term.refused}
    refused = re.compile("|".join(sorted(wanted, key=len, reverse=True)))
    return [
        f"{place}: {match[0]!r} in {nearby!r}; the course says {wanted[match[0]]!r}"
        for place, match, nearby in matches(notebook, refused)
    ]


@rule
def stationary_points_are_named(notebook):
    """驻点; the other name, 临界点, only in a paragraph that says 驻点 too."""
    return [
        f"{place}: 临界点 without 驻点 in {near(words, match)!r}"
        for place, cell in markdown(notebook, "zh")
        for words in texts(cell.source)
        if "驻点" not in words
        for match in [re.search("临界点", words)]
        if match
    ]


@rule
def pictures_of_digits_are_samples(notebook):
    """Not 256 个数字 but 256 个样本 or 256 张图像: a digit is what the picture shows."""
    counted = re.compile(r"\d ?个(?:手写|测试|训练)?数字|(?:测试|训练|留出的|坏的那个)数字")
    return [
        f"{place}: {match[0]!r} in {nearby!r}; say 样本 or 图像" for place, match, nearby in matches(notebook, counted)
    ]


def prose_of(source):
    """A Markdown text without fences, displayed formulas and code, for rules that look at what stands before a role."""
    source = re.sub(r"(?ms)^[ \t]*(`{3,}|~{3,}).*?^[ \t]*\1[ \t]*$", "\n", source)
    source = re.sub(r"(?s)\$\$.*?\$\$", "\n", source)
    return re.sub(r"(\{[\w:]+\}`[^`]+`)|`[^`\n]+`", lambda found: found[1] or CODE, source)


@rule
def equations_are_called_equations(notebook):
    """式 stands before a reference to an equation, once before several: 式 (5.8)、(5.9) 和 (5.10)."""
    return [
        f"{place}: {match[0]} without 式 before it, after {source[: match.start()][-12:]!r}"
        for place, cell in markdown(notebook, "zh")
        for source in [prose_of(cell.source)]
        for match in re.finditer(r"\{eq\}`[^`]+`", source)
        if not re.search(
            r"(?:(?<![形方模])式 ?|\{eq\}`[^`]+`(?: ?[、，和与或到至及] ?|，以及 ?))\Z", source[: match.start()]
        )
    ]


@rule
def full_stops_follow_quotations(notebook):
    """“……”。 and not “……。”: the full stop or comma ends our sentence; a question mark belongs to what is quoted."""
    return [
        f"{place}: {match[0]!r} in {nearby!r}; put it after the closing mark"
        for place, match, nearby in matches(notebook, r"[。，；][”’]")
    ]


@rule
def chinese_has_no_spare_space(notebook):
    """No space between two Chinese characters or beside a quotation mark, at the ends of bold neither."""
    spare = re.compile(rf"(?<={HAN}) (?={HAN})|(?<=[“”]) (?={HAN})|(?<={HAN}) (?=[“”])")
    return [f"{place}: a space too many in {nearby!r}" for place, _, nearby in matches(notebook, spare)]


@rule
def parts_have_their_headings(notebook):
    """A part has the same Chinese heading in every chapter; what is special to the chapter follows after a colon.

    In a chapter of the free order (one without a part for the derivation) the failure has a heading of its own.
    """
    faults, free = [], "derivation" not in dict(sections(notebook))
    for place, cell in markdown(notebook, "zh"):
        wanted = HEADINGS.get(part(cell))
        if not wanted or (free and part(cell) in ("failure", "practice")):
            continue
        title = next((line[3:].strip() for line in cell.source.splitlines() if line.startswith("## ")), "")
        if title != wanted and not title.startswith(f"{wanted}："):
            faults.append(f"{place}: the heading of part:{part(cell)} is '{wanted}' or '{wanted}：…', not {title!r}")
    return faults
