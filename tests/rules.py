"""All rules of the book, and which of them a notebook must keep."""

import book_rules
import form_rules
import prose_rules
from book_reading import CONFIG, ROOT, RULES
from chapters import code_hash

BOOK = ROOT / CONFIG["repository"]["path_to_book"]
REGISTERED = (book_rules, form_rules, prose_rules)  # importing them has filled RULES


def is_chapter(name):
    """The index and the reference part are pages, all others are chapters."""
    return name != "index" and not name.startswith("reference/")


def applying(name):
    """The rules that the notebook `name` ("part/chapter") must keep."""
    kinds = {"every"}
    if is_chapter(name):
        kinds |= {"chapter", "old" if name in book_rules.OLD_FORM else "new"}
    return {rule: check for rule, (check, kind) in RULES.items() if kind in kinds}


def faults_of(name, notebook, book=BOOK):
    """Every fault of a notebook, one line each; of an unfinished one no more than what is left to do."""
    if left := prose_rules.nothing_is_left_to_do(notebook):
        return left
    found = [f"{fault} [{rule}]" for rule, check in applying(name).items() for fault in check(notebook)]
    if is_chapter(name) and name not in book_rules.OLD_FORM:
        found += form_rules.record_faults(notebook, book / f"{name}.redraw.json", code_hash(notebook))
    return found
