"""The rules about prose: Markdown that renders as meant, Chinese typography, wording, spelling."""

import re

from book_reading import CODE, HAN, MATH, ROLE, inlines, link_words, plain, prose, readable, rule, texts


@rule("every")
def bold_renders(notebook):
    """No literal ** is left: `**重点：**内容` is not bold, the closing ** standing between punctuation and a word."""
    return [
        f"{place}: ** shows as it is in {readable(words.strip())[:60]!r}; keep punctuation outside the bold"
        for place, lang, source in prose(notebook)
        for words in texts(source)
        if "**" in words or "__" in words
    ]


@rule("every")
def chinese_paragraphs_are_one_line(notebook):
    """A line break inside a Chinese paragraph shows as a space."""
    return [
        f"{place}: a line break inside a paragraph, after {readable(words.split(chr(10))[0])[-20:]!r}"
        for place, _, source in prose(notebook, "zh")
        for words in texts(source)
        if "\n" in words
    ]


@rule("every")
def dollars_are_formulas(notebook):
    """`$5 和 $6` becomes mathematics: a formula has no space at its ends and no Chinese outside \\text."""
    return [
        f"{place}: ${token.content}$ is read as a formula; write \\$ for an amount of money"
        for place, lang, source in prose(notebook)
        for children in inlines(source)
        for token in children
        if token.type == "math_inline"
        and (
            token.content != token.content.strip()
            or re.search(HAN, plain(token.content))
            or re.match(r"\d[\d.,]*\W*\s(?:and|or|to|for)\b", token.content)
        )
    ]


@rule("every")
def chinese_punctuation_is_full_width(notebook):
    """Between Chinese characters stand ，。：；？！（）“”, without a space beside them."""
    half = re.compile(
        rf'{HAN}["\'(),.:;?!]|["\'(),.:;?!]{HAN}|[,:;?!] {HAN}|{HAN} [,.:;?!(]|[A-Za-z{CODE}{MATH}]\. {HAN}'
    )
    wide = re.compile(r" [，。：；？！、（）]|[，。：；？！、（）] ")
    faults = []
    for place, _, source in prose(notebook, "zh"):
        for words in texts(source):
            faults += [f"{place}: half-width punctuation in {show(words, m)!r}" for m in half.finditer(words)]
            faults += [
                f"{place}: a space beside full-width punctuation in {show(words, m)!r} (if only so that bold ends: "
                "punctuation belongs outside the bold)"
                for m in wide.finditer(words)
            ]
    return faults


@rule("every")
def chinese_is_spaced(notebook):
    """One space between Chinese and Latin letters, numbers, code and formulas."""
    tight = re.compile(rf"{HAN}[A-Za-z0-9{CODE}{MATH}]|[A-Za-z0-9{CODE}{MATH}]{HAN}")
    return [
        f"{place}: a space is missing in {show(words, match)!r}"
        for place, _, source in prose(notebook, "zh")
        for words in texts(source)
        for match in tight.finditer(words)
    ]


def show(words, match):
    """The surroundings of a match, with code and formulas made visible."""
    return readable(words[max(0, match.start() - 8) : match.end() + 8])


FORBIDDEN = {
    "en": (
        r"\b(?:obviously|easy to see|easily seen|can be shown|trivially|needless to say|"
        r"as is well[- ]known|it is well[- ]known)\b"
    ),
    "zh": "显然|显而易见|易知|易见|众所周知|不难看出|容易看出|可以证明",
}
# British spelling in prose; "optimizer" is the field's word and stays.
IZE = (
    "normal|regular|general|initial|minim|maxim|standard|summar|recogn|organ|parametr|parameter|vector|visual|factor|"
    "quant|penal|real|emphas|discret|linear|memor|util|character|categor|optim|local|symbol|token|serial|stabil|"
    "central|equal|random"
)
AMERICAN = re.compile(
    rf"\b(?:(?:un|re|de)?(?:{IZE})iz(?:e|es|ed|ing|ation|ations)|analyz(?:e|es|ed|ing)|behaviors?|"
    r"colors?|colored|coloring|favors?|favored|favorites?|neighbors?|neighboring|neighborhoods?|"
    r"centers?|centered|centering|labeled|labeling|unlabeled|modeled|modeling|canceled|canceling|traveled|"
    r"grays?|grayscale|fibers?|fulfill|skeptical|catalogs?)\b"
)


@rule("every")
def words_are_allowed(notebook):
    """None of the phrases that hide a missing step."""
    return [
        f"{place}: {match[0]!r} is not said here; show the step"
        for place, lang, source in prose(notebook)
        for words in texts(source)
        for match in re.finditer(FORBIDDEN[lang or "en"], words, flags=re.I)
    ]


@rule("every")
def english_is_british(notebook):
    """British spelling in English prose. Capitals inside a sentence are taken for names, links for titles."""
    faults = []
    for place, _, source in prose(notebook, "en"):
        named = link_words(source)
        for words in texts(source):
            for name in named:
                words = words.replace(name, ROLE)
            words = re.sub(r"(\A|[.?!:]\s+)([A-Z])", lambda m: m[1] + m[2].lower(), words)
            faults += [f"{place}: American spelling {match[0]!r} in prose" for match in AMERICAN.finditer(words)]
    return faults


@rule("every")
def nothing_is_left_to_do(notebook):
    """No placeholder. While there is one, nothing else is said about the notebook."""
    marked = re.compile(r"TODO|FIXME|TBD|XXX|(?i:lorem ipsum)|待写|待补")
    found = [(index, match[0]) for index, cell in enumerate(notebook.cells, 1) if (match := marked.search(cell.source))]
    words = ", ".join(sorted({word for _, word in found}))
    return [f"{words} left in cells {spans([index for index, _ in found])}"] if found else []


def spans(numbers):
    """Rising numbers as a reader writes them: 2–5, 7."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
