r"""The terms of the course in both languages, from `book/terms.yml`: for the rules, the search and the glossary."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

BOOK = Path(__file__).resolve().parents[1]
FILE = BOOK / "terms.yml"
FIELDS = {"en", "zh", "variants", "also", "refused", "everyday", "note"}  # `book/terms.yml` says what each means

# The Chinese heading of each part of a chapter, for the skeleton and the rules. Where a chapter has more to say it
# goes on after a colon: 实验：拔掉电源.
HEADINGS = {
    "failure": "先看一次失败",
    "symbols": "符号与形状",
    "derivation": "推导",
    "by-hand": "手算一遍",
    "plain": "用 PyTorch 直接写",
    "package": "换成 dlnotes",
    "experiment": "实验",
    "explore": "动手试试",
    "break": "故意弄坏",
    "practice": "实践建议",
    "misreadings": "实现的差别与常见误解",
    "exercises": "练习",
    "summary": "小结",
    "sources": "参考文献",
}


@dataclass(frozen=True)
class Term:
    r"""One thing with its English forms and its Chinese term; the fields are those of `book/terms.yml`."""

    en: tuple[str, ...]
    zh: str
    variants: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    everyday: bool = False
    note: str = ""

    @property
    def name(self):
        r"""The English term as the glossary lists it."""
        return self.en[0]

    @property
    def chinese(self):
        r"""Every Chinese form that stands for the term."""
        return (self.zh, *self.variants)

    @property
    def searched(self):
        r"""Every word that leads a reader to the term, in either language."""
        return tuple(dict.fromkeys((*self.en, self.zh, *self.also, *self.refused)))


def pattern(form):
    r"""A regular expression for an English form, its plural and its spelling with or without hyphens."""
    form = re.escape(form.lower()).replace(r"\ ", " ").replace(r"\-", "-")
    *before, last = re.split(r"[ -]", form)
    for end, ends in (("um", "(?:um|a|ums)"), ("trix", "(?:trix|trices)"), ("is", "(?:is|es)")):
        if last.endswith(end):
            last = last.removesuffix(end) + ends
            break
    else:
        if re.search(r"[^aeiou]y$", last):
            last = f"{last[:-1]}(?:y|ies)"
        else:
            last += "(?:es)?" if re.search(r"(?:s|x|z|ch|sh)$", last) else "s?"
    return r"[\s-]".join((*before, last))


class Terms(tuple):
    r"""All terms, in the order of the file."""

    @cached_property
    def forms(self):
        r"""[(regular expression, term)], the longest form first, so that "batch size" is not taken for "batch"."""
        pairs = [(form, term) for term in self for form in term.en]
        return [(pattern(form), term) for form, term in sorted(pairs, key=lambda pair: -len(pair[0]))]

    @cached_property
    def any_form(self):
        r"""One regular expression for all forms; the number of the group that matched says which."""
        return re.compile(rf"(?<![\w-])(?:{'|'.join(f'({form})' for form, _ in self.forms)})(?!\w)", re.IGNORECASE)

    def used(self, text):
        r"""[(words, term)]: the terms that stand in an English text, each place once, the longest form there."""
        return [(match[0], self.forms[match.lastindex - 1][1]) for match in self.any_form.finditer(text)]

    def first(self, texts):
        r"""{term: the first name in `texts` whose English text uses it}, for {name: text} in the book's order."""
        found = {}
        for name, text in texts.items():
            for _, term in self.used(text):
                found.setdefault(term, name)
        return found

    def synonyms(self):
        r"""{word that readers search for: the term it stands for in that language}, for the search page."""
        words = {}
        for term in self:
            for word in (*term.also, *term.refused):
                words.setdefault(word.lower(), term.zh if re.search(r"[\u3400-\u9fff]", word) else term.name)
        return words


def load(path=FILE):
    r"""Read the file. Raises ValueError where an entry is no term."""
    terms = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        if unknown := set(entry) - FIELDS or {"en", "zh"} - set(entry):
            raise ValueError(f"{path.name}: {entry}: these fields are unknown or missing: {sorted(unknown)}")
        forms = entry["en"] if isinstance(entry["en"], list) else [entry["en"]]
        lists = {name: tuple(entry.get(name, ())) for name in ("variants", "also", "refused")}
        terms.append(Term(**{**entry, **lists, "en": tuple(forms)}))
    return Terms(terms)


def english_texts(book=BOOK):
    r"""{name: its English words, without code and formulas} of the chapters that `_toc.yml` lists, in its order."""
    contents = (book.parent / "_toc.yml").read_text(encoding="utf-8")
    names = re.findall(r"^\s*- file: *(\S+)", contents, flags=re.MULTILINE)
    texts = {}
    for name in names:
        cells = json.loads((book / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if "lang-en" in c["metadata"].get("tags", []))
        text = re.sub(r"(?s)```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|(?:\{[\w:]+\})?`[^`]+`", " ", text)
        texts[name] = text.replace("*", "")
    return texts
