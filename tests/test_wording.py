import pytest

from dlnotes.figures.wording import both, captions, text_of, whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"), (0.5, "0.5"), (1.0, "1"), (0, "0"), (-3, "−3"), (-0.25, "−0.25"), (1e-5, "1e-5"),
        (3e20, "3e20"), (1024, "1024"), (65536.0, "65536"), (2.0**24, "2²⁴"), (2**-24, "2⁻²⁴"), (-(2.0**-14), "−2⁻¹⁴"),
        (1 / 3, "0.3333"), (0.009999999776482582, "0.01"), (0.0078125, "0.0078125"), (123456, "123456"),
        (1234567, "1.235e6"), (float("inf"), "inf"), (float("nan"), "nan"),
        (True, "on"), (False, "off"), ("bowl", "bowl"),
    ],
)  # fmt: skip
def test_values_read_as_a_reader_writes_them(value, text):
    assert text_of(value) == text


def test_a_template_is_obeyed():
    assert text_of(0.256, "{:.0%}") == "26%"
    assert text_of(3, "layer {}") == "layer 3"


@pytest.mark.parametrize(
    ("en", "zh", "message"),
    [
        ("", "字", "^en: "), ("  ", "字", "^en: "), ("A", "", "^zh: "), ("A", "B", "^zh: expected Chinese"),
        ("$x$", "字", "^en: .*formulas"), ("A", "字 $x$", "^zh: .*formulas"),
        ("a\x00b", "字", r"^en: .*U\+0000"), ("A", "字\x1b", r"^zh: .*U\+001B"), ("A", "字\ud800", r"^zh: .*U\+D800"),
    ],
)  # fmt: skip
def test_both_captions_are_demanded(en, zh, message):
    with pytest.raises(ValueError, match=message):
        captions(en, zh)


def test_a_price_is_no_formula():
    assert captions("It costs $5.", "要 $5。") == ("It costs $5.", "要 $5。")


def test_captions_lose_their_outer_blanks_only():
    assert captions(" A  b\n", " 一 二 ") == ("A  b", "一 二")


def test_each_language_stands_between_its_comments():
    text = both("a < b & c", "甲", "p", (' class="x"', ""))
    assert text == (
        '<!--dln:en--><p lang="en" class="x">a &lt; b &amp; c</p><!--/dln:en--> '
        '<!--dln:zh--><p lang="zh">甲</p><!--/dln:zh-->'
    )


@pytest.mark.parametrize("code", [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])
def test_what_no_page_can_hold_is_named(code):
    with pytest.raises(ValueError, match=rf"^labels: .*U\+{code:04X}"):
        whole("labels", f"a{chr(code)}b")


def test_line_ends_tabs_and_all_scripts_are_text():
    text = "a\tb\r\n动量 η 𝛻 🎯"
    assert whole("en", text) == text
