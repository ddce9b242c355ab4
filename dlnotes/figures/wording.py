r"""The words of a figure: captions in two languages, and numbers as a reader wants to see them."""

import html
import math
import re

# What neither HTML nor XML can hold: control characters, halves of a pair, two that stand for nothing.
_NO_TEXT = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\ud800-\\udfff\\ufffe\\uffff]")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def whole(name: str, text: str) -> str:
    r"""The text as it is, or an error that names the character which no page can hold.

    >>> whole("en", "It falls.")
    'It falls.'
    """
    if wrong := _NO_TEXT.search(text):
        raise ValueError(f"{name}: a page cannot hold the character U+{ord(wrong[0]):04X}, got {text!r}")
    return text


def captions(en: str, zh: str, *, names: tuple[str, str] = ("en", "zh")) -> tuple[str, str]:
    r"""Both captions without outer blanks, or an error that names the one that is wrong.

    >>> captions("It falls. ", "它在下降。")
    ('It falls.', '它在下降。')
    """
    for name, text in zip(names, (en, zh), strict=True):
        if not isinstance(text, str) or not text.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"{name}: expected a caption, got {text!r}")
        if whole(name, text).count("$") > 1:  # notebooks make a formula even of "$5 or $6"
            raise ValueError(f"{name}: a caption is read aloud: write η or x² instead of formulas, got {text!r}")
    if not re.search(r"[\u4e00-\u9fff]", zh):
        raise ValueError(f"{names[1]}: expected Chinese text, got {zh!r}")
    return en.strip(), zh.strip()


def alternatives(alt_en: str | None, alt_zh: str | None) -> tuple[str, str] | None:
    r"""Both text alternatives, or None where the caption stands for them; an error names the one that is wrong.

    >>> alternatives("Two paths down a valley.", "一道山谷里的两条路径。")
    ('Two paths down a valley.', '一道山谷里的两条路径。')
    """
    if alt_en is None and alt_zh is None:
        return None
    for name, text in (("alt_en", alt_en), ("alt_zh", alt_zh)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}: expected what the figure draws, in both languages or in none, got {text!r}")
        whole(name, text)
    return captions(str(alt_en), str(alt_zh), names=("alt_en", "alt_zh"))


def anchor(name: str | None, kind: str = "fig") -> str | None:
    r"""The name by which the text refers to a figure or a table, such as `fig-valley`; None where it has none.

    >>> anchor("fig-valley")
    'fig-valley'
    """
    if name is not None and not re.fullmatch(rf"{kind}-[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name: expected {kind}-… in small letters, digits and hyphens, got {name!r}")
    return name


def both(en: str, zh: str, tag: str = "span", attributes: tuple[str, str] = ("", "")) -> str:
    r"""One element for each language, between the comments by which an edition of the book drops the other's.

    >>> print(both("Rate", "学习率"))
    <!--dln:en--><span lang="en">Rate</span><!--/dln:en--> <!--dln:zh--><span lang="zh">学习率</span><!--/dln:zh-->
    """
    return " ".join(
        f'<!--dln:{lang}--><{tag} lang="{lang}"{extra}>{html.escape(text, quote=False)}</{tag}><!--/dln:{lang}-->'
        for lang, text, extra in (("en", en, attributes[0]), ("zh", zh, attributes[1]))
    )


def target(name: str | None) -> str:
    r"""The place in the page to which the name of a figure leads.

    >>> target("fig-valley"), target(None)
    ('<span id="fig-valley"></span>', '')
    """
    return f'<span id="{name}"></span>' if name else ""


def called(name: str | None, words: tuple[str, str] = ("Figure", "图")) -> str:
    r"""What a notebook writes before the caption of a figure with a name; the book puts the number there.

    >>> called("fig-valley")
    '<b class="dln-number">Figure · 图</b> '
    """
    return f'<b class="dln-number">{" · ".join(words)}</b> ' if name else ""


def text_of(value: object, template: str = "") -> str:
    r"""A value as a reader wants to see it; `template` is a format such as `"{:.0%}"`.

    >>> [text_of(value) for value in (0.1 + 0.2, 1e-5, 65536, -1.5, 2**-24, 1 / 3, True, "bowl")]
    ['0.3', '1e-5', '65536', '−1.5', '2⁻²⁴', '0.3333', 'on', 'bowl']
    """
    if template:
        return template.format(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, int | float):
        return str(value)
    text = str(value) if isinstance(value, int) and abs(value) < 10**6 else f"{value:.6g}"
    if math.isfinite(value) and not math.isclose(float(text), value, rel_tol=1e-9):
        mantissa, exponent = math.frexp(value)
        exact = abs(mantissa) == 0.5  # a power of two, as the scales and the limits of mixed precision are
        text = f"{'-' * (value < 0)}2{str(exponent - 1).translate(_SUPERSCRIPTS)}" if exact else f"{value:.4g}"
    text = re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), text)
    return "−" + text[1:] if text.startswith("-") else text
