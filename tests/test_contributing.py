"""CONTRIBUTING says the same in both languages, and says every rule of a chapter."""

import re

import form_rules
import pytest
import run_notebooks
from book_reading import ROOT
from chapters import FOLDED
from prose_rules import FORBIDDEN

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def sections(text):
    """[[(heading, its text) of each ### in one language], …] for both languages."""
    languages = re.split(r"(?m)^## ", text)[1:]
    return [[part.partition("\n")[::2] for part in re.split(r"(?m)^### ", language)[1:]] for language in languages]


def items(text):
    """The list items and table rows of a section, outside of code blocks, each on one line."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    found = re.split(r"(?m)^(?=- |\d+\. |\| )", text)[1:]
    return [" ".join(re.split(r"\n\n", item)[0].split()) for item in found if not item.startswith("| -")]


def spans(item):
    """What stands in code in an item, without the words that each language has for itself."""
    found = re.findall(r"`([^`]+)`", item)
    found = [re.sub(r"\[(?:Figure|Table|图|表)\]", "[]", span) for span in found]
    return sorted(re.sub(r"<(?!details|summary)[^<>]*>|(?<=<summary>).*(?=</summary>)", "<>", span) for span in found)


def differences(text):
    """Where the two languages of a text do not say the same."""
    english, chinese = sections(text)
    if len(english) != len(chinese):
        return [f"{len(english)} sections in English, {len(chinese)} in Chinese"]
    found = []
    for (heading, one), (_, two) in zip(english, chinese, strict=True):
        ours, theirs = items(one), items(two)
        if len(ours) != len(theirs):
            found.append(f"{heading}: {len(ours)} items in English, {len(theirs)} in Chinese")
        else:
            pairs = zip(ours, theirs, strict=True)
            found += [f"{heading}: {a[:40]}: {spans(a)}, {spans(b)}" for a, b in pairs if spans(a) != spans(b)]
    return found


def test_both_languages_say_the_same():
    assert differences(TEXT) == []


SMALL = "## A\n### B\n- one `x`\n- two\n## 甲\n### 乙\n- 一 `x`\n- 二\n"


@pytest.mark.parametrize(
    ("old", "new"), [("- 二\n", ""), ("一 `x`", "一 `y`"), ("一 `x`", "一"), ("### 乙\n", "### 乙\n- 零\n")]
)
def test_a_difference_is_found(old, new):
    assert differences(SMALL) == []
    assert differences(SMALL.replace(old, new))


def test_every_rule_of_a_chapter_is_told():
    parts = (form_rules.FIRST, *form_rules.LAST)
    wanted = [*(f"`part:{name}`" for name in parts), *(f"`{tag}`" for tag in FOLDED if tag not in ("hide-cell",))]
    wanted += [
        "`question`",
        "`book/references.bib`",
        "86",
        "120",
        f"{form_rules.WORDS:,}",
        f"{form_rules.CHARACTERS:,}",
    ]
    wanted += [str(form_rules.LINES), str(int(run_notebooks.BUDGET)), "`plot.table(", "alt_en=", "`redraw(…)`"]
    for language in re.split(r"(?m)^## ", TEXT)[1:]:
        assert not [word for word in wanted if word not in language]
        for lang, pattern in FORBIDDEN.items():
            phrases = re.sub(r"\\b|\(\?:|\)$", "", pattern).split("|")
            plain = [phrase for phrase in phrases if re.fullmatch(r"[\w ]+", phrase)]
            assert not [phrase for phrase in plain if phrase not in language], lang
