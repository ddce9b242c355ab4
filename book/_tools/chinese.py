"""Set Chinese as the rules want it: a space between Chinese and Latin, full-width punctuation, none beside it."""

import re

HAN = r"[\u3400-\u4dbf\u4e00-\u9fff]"
LATIN = "[A-Za-z0-9\ue000]"
WIDE = "，。：；？！、（）"
FULL = dict(zip(",.:;?!()", "，。：；？！（）", strict=True))
# What is no prose, longest first: fences, labels, formulas, roles and code, tags; \ue000 stands for what is read as a
# word (formulas, code), \ue001 for what is not seen (addresses of links, tags), \ue002 for whole lines.
KEPT = (
    ("\ue002", r"(?ms)^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t]*\1[ \t]*$"),
    ("\ue002", r"(?m)^[ \t]*(?:\([\w-]+\)=|:{3,}.*|:[\w-]+:.*)$"),
    ("\ue002", r"(?s)\$\$.*?\$\$(?:[ \t]*\([\w:-]+\))?"),
    ("\ue002", r"(?s)\\begin\{(\w+\*?)\}.*?\\end\{\1\}"),
    ("\ue003", r"\{[\w:-]+\}`[^`]*`"),
    ("\ue000", r"`+[^`]+`+"),
    ("\ue000", r"(?<!\\)\$[^$\n]+\$"),
    ("\ue001", r"(?<=\])\([^)\s]*\)"),
    ("\ue001", r"<[^>\n]+>"),
)
MARKS = r"(?:\*\*|\*|\[|\]\ue001?)*"


def fix(source):
    """The Markdown of a Chinese cell, mended; what is no prose stays to the letter."""
    text, kept = source, []
    for mark, pattern in KEPT:

        def keep(match, mark=mark):
            kept.append(match[0])
            return f"{mark}\ue00f{len(kept) - 1}\ue00f"

        text = re.sub(pattern, keep, text)
    numbers = re.findall("\ue00f(\\d+)\ue00f", text)  # in the order in which they stand
    text = re.sub("\ue00f\\d+\ue00f", "", text)
    text = "\n".join(line if line.startswith("\ue002") else fix_line(line) for line in text.split("\n"))
    order = iter(numbers)
    text = re.sub("[\ue000-\ue003]", lambda _: f"\ue00f{next(order)}\ue00f", text)
    while found := re.search("\ue00f(\\d+)\ue00f", text):  # what was kept may hold what was kept before
        inner = re.sub("[\ue000-\ue003](?=\ue00f)", "", kept[int(found[1])])
        text = text[: found.start()] + inner + text[found.end() :]
    return text


def fix_line(line):
    """One line of prose."""
    lead = re.match(r"[ \t]*(?:(?:[-*+]|\d+[.)]|#{1,6}|>)[ \t]+)*", line)[0]
    text = line[len(lead) :]
    text = re.sub(rf"\(([^()]*)\)(?={HAN})|(?<={HAN})\(([^()]*)\)|\(([^()]*{HAN}[^()]*)\)", wide_parentheses, text)
    text = re.sub(rf'"([^"]*{HAN}[^"]*)"', r"“\1”", text)
    text = re.sub(rf"(?<={HAN})[ ]?([,:;?!])(?!\d)|(?<={HAN})[ ]?(\.)(?=[ ]*(?:{HAN}|$))", wide_mark, text)
    text = re.sub(rf"([,:;?!])(?=[ ]?{HAN})", wide_mark, text)
    text = re.sub(rf"(?<={LATIN})(\.)(?=[ ]{HAN})", wide_mark, text)
    text = re.sub(rf"([{WIDE.replace('（', '').replace('）', '')}])\*\*", swap_if_closing, text)
    text = re.sub(rf"(?<=[^\s|])[ ]+(?=[{WIDE}])|(?<=[{WIDE}])[ ]+(?=[^\s|])", "", text)
    for before, after in ((HAN, LATIN), (LATIN, HAN)):
        text = re.sub(rf"({before})({MARKS})(?={after})", spaced, text)
    return lead + text


def wide_parentheses(match):
    return f"（{next(group for group in match.groups() if group is not None)}）"


def wide_mark(match):
    return FULL[next(group for group in match.groups() if group)]


def swap_if_closing(match):
    """`**重点：**` to `**重点**：`; where the stars open what is bold, nothing."""
    closing = match.string[: match.start()].count("**") % 2
    return f"**{match[1]}" if closing else match[0]


def spaced(match):
    """A space between Chinese and Latin, outside of what the marks between them enclose."""
    first, marks = match[1], match[2]
    opens = marks.startswith("[") or (marks.startswith("*") and match.string[: match.end(1)].count("**") % 2 == 0)
    return f"{first} {marks}" if opens else f"{first}{marks} "
