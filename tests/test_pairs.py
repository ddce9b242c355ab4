import contextlib
import gettext
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.catalogue import compiled, entries
from dlnotes.pairs import PairsError, leaks, read_pairs, split_pairs

GOOD = [("Hi.", "你好。"), ("Run!", "跑！")]
TABLE = "Hi.\t你好。\nRun!\t跑！\n"


def write(tmp_path, content, name="pairs.tsv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "Hi.\t你好。\tCC-BY 2.0\nRun!\t跑！\tCC-BY 2.0 (someone)\n",
        "\n Hi. \t你好。\u3000\n   \nRun!\t跑！",  # empty lines, white space, no end of the last line
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
    ],
)
def test_tables_of_two_and_three_columns(tmp_path, text):
    assert read_pairs(write(tmp_path, text)) == GOOD


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marked_encodings_are_known(tmp_path, encoding):
    assert read_pairs(write(tmp_path, TABLE, encoding=encoding)) == GOOD
    assert read_pairs(write(tmp_path, TABLE.encode(encoding)), encoding=encoding) == GOOD


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "big5", "utf-16-le"])
def test_other_encodings_are_said(tmp_path, encoding):
    path = write(tmp_path, "Hi.\t好。\nRun!\t跑！\n", encoding=encoding)
    assert read_pairs(path, encoding=encoding) == [("Hi.", "好。"), ("Run!", "跑！")]


def test_a_wrong_encoding_is_told_by_its_line(tmp_path):
    path = write(tmp_path, b"Hi.\tok\n" + "Run!\t跑！\n".encode("gb18030"))
    with pytest.raises(
        ValueError, match=r"pairs.tsv: line 2 is not utf-8, the byte 0xc5 in it; say encoding=…, .*'gb18030'"
    ):
        read_pairs(path)
    with pytest.raises(ValueError, match="line 1 is not ascii, the byte 0xe4 in it$"):
        read_pairs(write(tmp_path, TABLE), encoding="ascii")
    with pytest.raises(LookupError, match="unknown encoding: klingon"):
        read_pairs(path, encoding="klingon")


BAD = "Hi.\t你好。\nalone\n\t空\nempty\t \na\tb\tc\td\nRun!\t跑！\nlost\t\ufffd\nnul\0\tx\n"
REASONS = [
    (2, "1 column; two or three are expected, divided by tabs"),
    (3, "its first side is empty"),
    (4, "its second side is empty"),
    (5, "4 columns; two or three are expected, divided by tabs"),
    (7, "its second side holds U+FFFD, which stands for what was not decoded"),
    (8, "its first side holds a NUL"),
]


def test_bad_lines_are_told_by_number(tmp_path):
    path = write(tmp_path, BAD)
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert caught.value.problems == REASONS
    assert "pairs.tsv: 6 bad of 8 lines: line 2: 1 column" in str(caught.value)
    assert str(caught.value).endswith("; and 1 more; skip_bad=True leaves them out")
    with pytest.warns(UserWarning, match="left out: .*6 bad of 8 lines: line 2"):
        assert read_pairs(path, skip_bad=True) == GOOD


def test_nothing_there(tmp_path):
    for text in ("", "\n\n"):
        with pytest.raises(ValueError, match="there are no pairs in it"):
            read_pairs(write(tmp_path, text))
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "none.tsv")


CATALOGUE = r"""# A comment.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=1; plural=0;\n"

#: file.py:3
msgid "Open \"%s\"?\n"
msgstr "打开“%s”？\n"

#, python-format, fuzzy
msgid "a guess"
msgstr "猜"

msgid "not translated"
msgstr ""

msgctxt "menu"
msgid "File"
msgstr "文件"
msgctxt "tool"
msgid "File"
msgstr "锉刀"

msgid ""
"two "
"parts"
msgstr "两"
"段"

#, c-format
msgid "one file"
msgid_plural "%d files"
msgstr[0] "%d 个文件"

#~ msgid "old"
#~ msgstr "旧"
"""


def test_catalogues(tmp_path):
    path = write(tmp_path, CATALOGUE, "zh.po")
    assert read_pairs(path) == [
        ('Open "%s"?', "打开“%s”？"),
        ("File", "文件"),
        ("File", "锉刀"),
        ("two parts", "两段"),
        ("%d files", "%d 个文件"),
    ]


def test_a_language_with_two_forms():
    (entry,), bad = entries('msgid "one"\nmsgid_plural "many"\nmsgstr[0] "eins"\nmsgstr[1] "viele"\n')
    assert entry.pairs() == [("one", "eins"), ("many", "viele")]
    assert not bad


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("msgid unquoted\n", (4, "neither a keyword and a text in quotes, nor a comment")),
        ('"lost"\n', (4, "a text in quotes without a keyword before it")),
        ('msgstr "x"\n', (4, "msgstr without a msgid before it")),
        ('msgid "c"\n', (4, "a msgid without a msgstr")),
        ('msgid "c"\nmsgstr "x"\nmsgstr "y"\n', (6, "msgstr twice in the entry of line 4")),
        ('msgid "c"\nmsgstr "\ufffd"\n', (4, "its second side holds U+FFFD, which stands for what was not decoded")),
        ('msgid "open\n', (4, "neither a keyword and a text in quotes, nor a comment")),
    ],
)
def test_bad_lines_of_a_catalogue(tmp_path, text, problem):
    path = write(tmp_path, 'msgid "a"\nmsgstr "b"\n\n' + text, "zh.po")
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert caught.value.problems == [problem]


def compiled_catalogue(messages, order="<", charset="UTF-8"):
    """As msgfmt writes it."""
    texts = {"": f"Content-Type: text/plain; charset={charset}\n"} | messages
    sides = [[text.encode(charset) for text in side] for side in (texts, texts.values())]
    count, body = len(texts), b""
    numbers, start = [], 28 + 16 * len(texts)
    for side in sides:
        for text in side:
            numbers += [len(text), start + len(body)]
            body += text + b"\0"
    header = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, start)
    return header + struct.pack(f"{order}{len(numbers)}I", *numbers) + body


MESSAGES = {"File": "文件", "tool\x04File": "锉刀", "one file\0%d files": "%d 个文件", "not translated": ""}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("charset", ["UTF-8", "GBK"])
def test_compiled_catalogues(tmp_path, order, charset):
    path = write(tmp_path, compiled_catalogue(MESSAGES, order, charset), "zh.mo")
    assert read_pairs(path) == [("File", "文件"), ("File", "锉刀"), ("%d files", "%d 个文件")]
    with path.open("rb") as file:  # Python's own reader finds the same
        assert gettext.GNUTranslations(file).gettext("File") == "文件"


def test_damaged_compiled_catalogues(tmp_path):
    data = compiled_catalogue(MESSAGES)
    for content, message in (
        (b"", "zh.mo: not a compiled catalogue: it does not begin as one"),
        (TABLE.encode(), "zh.mo: not a compiled catalogue: it does not begin as one"),
        (data[:40], "zh.mo: not a compiled catalogue, or cut off"),
        (data[:-9], "zh.mo: not a compiled catalogue, or cut off"),
        (compiled_catalogue({"a": "é"}, charset="latin-1").replace(b"latin-1", b"UTF-8"), "zh.mo: "),
        (data.replace("文".encode(), b"\xff\xff\xff"), "zh.mo: a message is not utf-8, the encoding that it names"),
    ):
        with pytest.raises(ValueError, match=message):
            read_pairs(write(tmp_path, content, "zh.mo"))
    path = write(tmp_path, compiled_catalogue({"a": " ", "b": "乙"}), "zh.mo")
    with pytest.raises(PairsError, match="zh.mo: 1 bad of 3 messages: message 2: its second side is empty"):
        read_pairs(path)
    with pytest.warns(UserWarning, match="left out"):
        assert read_pairs(path, skip_bad=True) == [("b", "乙")]


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data):
    for content in (data, compiled_catalogue(MESSAGES)[:20] + data):
        with contextlib.suppress(ValueError, LookupError):
            compiled(content)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    entries(text)  # never fails


def test_a_split_shares_no_sentence():
    rng = random.Random(0)
    pairs = [(f"S{rng.randrange(600)}", f"译{rng.randrange(600)}") for _ in range(400)]
    train, test = split_pairs(pairs, 0.2)
    assert sorted(train + test) == sorted(pairs)
    assert 40 <= len(test) <= 90
    assert not leaks(train, test)
    assert leaks(test, train + test) == test
    assert (train, test) == split_pairs(pairs, 0.2)
    assert (train, test) != split_pairs(pairs, 0.2, seed=1)
    assert [pair for pair in pairs if pair in test] == test
    assert split_pairs(pairs, 0.0) == (pairs, [])


def test_leaks_see_through_case_and_space():
    assert leaks([("Hi there", "嗨")], [("hi  THERE", "喂"), ("Hello", "嗨"), ("Hello", "喂")]) == [
        ("hi  THERE", "喂"),
        ("Hello", "嗨"),
    ]
    assert leaks([("a", "b")], [("b", "a")]) == []  # each language with its own


def test_bad_splits():
    with pytest.raises(ValueError, match=r"held_out must be in \[0, 1\), got 1.0"):
        split_pairs(GOOD, 1.0)
    with pytest.raises(ValueError, match="held_out = 0.1 of 2 pairs in 2 groups leaves one part empty"):
        split_pairs(GOOD, 0.1)
    with pytest.raises(ValueError, match="0 pairs in 0 groups"):
        split_pairs([], 0.1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16", None])
@pytest.mark.parametrize("suffix", ["tsv", "po"])
def test_the_mark_at_the_beginning_is_in_no_sentence(tmp_path, encoding, suffix):
    path = tmp_path / f"a.{suffix}"
    text = "\ufeffHi\t嗨\n" if suffix == "tsv" else '\ufeffmsgid "Hi"\nmsgstr "嗨"\n'
    path.write_bytes(text.encode("utf-16-le" if encoding and "16" in encoding else "utf-8"))
    assert read_pairs(path, encoding=encoding) == [("Hi", "嗨")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbf\nb\n\xff\tb\n", "line 3 is not utf-8-sig, the byte 0xff in it"),
        ("上\t上\r\n上\t上\r\n".encode("utf-16") + b"\x00\xd8\x20\x00", "line 3 is not utf-16, the byte 0x00 in it"),
        (b"a\tb\rc\td\r\xff\tx", "line 3 is not utf-8, the byte 0xff in it; say encoding"),
    ],
)
def test_what_cannot_be_decoded_is_told_by_its_line_and_byte(tmp_path, data, words):
    path = tmp_path / "a.tsv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_pairs(path)


def test_leaks_see_through_how_a_letter_was_typed():
    known = [("Le café, it's", "咖啡"), ("a", "b")]
    held_out = [("le cafe\u0301, it’s", "别的"), ("c", "d")]
    assert leaks(known, held_out) == held_out[:1]
    train, test = split_pairs([*known, *held_out], 0.5)
    assert not leaks(train, test)


def test_a_compiled_catalogue_of_no_encoding_names_the_file(tmp_path):
    header = b"charset=CHARSET"
    data = struct.pack("<9I", 0x950412DE, 0, 1, 28, 36, 0, 0, 0, 44) + struct.pack("<2I", len(header), 45)
    path = tmp_path / "a.mo"
    path.write_bytes(data + b"\0" + header + b"\0")
    with pytest.raises(LookupError, match=r"a.mo: unknown encoding: CHARSET, which its header names"):
        read_pairs(path)


def test_the_guess_of_an_obsolete_entry_is_not_that_of_the_next():
    found, bad = entries('#, fuzzy\n#~ msgid "x"\n#~ msgstr "y"\nmsgid "a"\nmsgstr "b"\n')
    assert [entry.pairs() for entry in found] == [[("a", "b")]]
    assert bad == []
