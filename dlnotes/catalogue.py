r"""Reading .po and .mo catalogues, in which programs keep their messages and the messages' translations."""

import re
import struct
from dataclasses import dataclass, field

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
LINE = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)\s*)?"((?:[^"\\]|\\.)*)"\s*')


@dataclass
class Entry:
    r"""A message of a catalogue.

    Attributes:
        line: where it begins.
        texts: by keyword (``msgid``, ``msgstr[0]``, …).
        fuzzy: whether a program guessed the translation.

    >>> Entry(3, {"msgid": "File", "msgstr": "文件"}).pairs()
    [('File', '文件')]
    """

    line: int
    texts: dict[str, str] = field(default_factory=dict)
    fuzzy: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        r"""Message and translation: none of a guess, the header or what is not translated; of a plural both forms.

        Where a language has one form for all numbers, as Chinese, it is that of the English plural.
        """
        message, plural = self.texts.get("msgid", ""), self.texts.get("msgid_plural")
        if self.fuzzy or not message:
            return []
        if plural is None:
            forms = [(message, self.texts.get("msgstr", ""))]
        else:
            numbered = [self.texts[name] for name in sorted(self.texts) if name.startswith("msgstr[")]
            forms = [(plural, numbered[-1])] if numbered else []
            forms = [(message, numbered[0]), *forms] if len(numbered) > 1 else forms
        return [(text, translation) for text, translation in forms if translation]


def entries(text: str) -> tuple[list[Entry], list[tuple[int, str]]]:
    r"""The entries of a catalogue, and the lines that are none, by number, with the reason.

    Obsolete entries (``#~``) are comments.

    Args:
        text: a whole file's.

    >>> found, bad = entries('#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid ""\n"two "\n"lines"\nmsgstr "两行"\nmsgid c\n')
    >>> [entry.pairs() for entry in found], bad
    ([[], [('two lines', '两行')]], [(9, 'neither a keyword and a text in quotes, nor a comment')])
    """
    found: list[Entry] = []
    bad: list[tuple[int, str]] = []
    entry: Entry | None = None
    keyword, fuzzy = "", False
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            if entry is not None and any(name.startswith("msgstr") for name in entry.texts):
                entry, keyword = None, ""
            fuzzy = fuzzy and bool(line) and not line.startswith("#~")  # an obsolete entry ends as an empty line does
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line[2:].replace(",", " ").split())
            continue
        match = LINE.fullmatch(line)
        if match is None:
            bad.append((number, "neither a keyword and a text in quotes, nor a comment"))
            continue
        name, quoted = match[1], re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[0]), match[2])
        if name is None:
            if entry is None or not keyword:
                bad.append((number, "a text in quotes without a keyword before it"))
            else:
                entry.texts[keyword] += quoted
            continue
        begins = name in ("msgctxt", "msgid") and (entry is None or name in entry.texts or "msgid" in entry.texts)
        if begins:
            entry, fuzzy = Entry(number, fuzzy=fuzzy), False
            found.append(entry)
        if entry is None or ("msgid" not in entry.texts and name not in ("msgctxt", "msgid")):
            bad.append((number, f"{name} without a msgid before it"))
            entry, keyword = None, ""
            continue
        keyword = name
        if name in entry.texts:
            bad.append((number, f"{name} twice in the entry of line {entry.line}"))
        entry.texts[name] = quoted
    bad += [
        (entry.line, "a msgid without a msgstr")
        for entry in found
        if "msgid" in entry.texts and not any(name.startswith("msgstr") for name in entry.texts)
    ]
    return found, sorted(bad)


def compiled(data: bytes) -> list[Entry]:
    r"""The entries of a compiled catalogue (.mo), numbered from 1 in place of lines; it has no guesses.

    Args:
        data: a whole file's.

    Raises:
        ValueError: the bytes are none, or end too soon, or are not in the encoding that the header names.

    >>> head = struct.pack("<7I", 0x950412DE, 0, 1, 28, 36, 0, 44)
    >>> data = head + struct.pack("<4I", 4, 44, 6, 49) + "File".encode() + b"\0" + "文件".encode() + b"\0"
    >>> compiled(data)[0].pairs()
    [('File', '文件')]
    """
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None:
        raise ValueError("not a compiled catalogue: it does not begin as one")
    try:
        count, *tables = struct.unpack_from(order + "3I", data, 8)
        texts = [_table_of(data, order, table, count) for table in tables]
    except struct.error as error:
        raise ValueError("not a compiled catalogue, or cut off: it is too short for its tables") from error
    header = dict(zip(*texts, strict=True)).get(b"", b"")
    charset = re.search(rb"charset=([\w-]+)", header)
    encoding = charset[1].decode() if charset else "utf-8"
    found: list[Entry] = []
    for number, (message, translation) in enumerate(zip(*texts, strict=True), 1):
        message, plural = message.decode(encoding).rpartition("\x04")[2], ""
        message, _, plural = message.partition("\0")
        forms = translation.decode(encoding).split("\0")
        entry = Entry(number, {"msgid": message, "msgstr": forms[0]})
        if plural:
            entry.texts = {"msgid": message, "msgid_plural": plural}
            entry.texts |= {f"msgstr[{form}]": text for form, text in enumerate(forms)}
        found.append(entry)
    return found


def _table_of(data: bytes, order: str, table: int, count: int) -> list[bytes]:
    numbers = struct.unpack_from(f"{order}{2 * count}I", data, table)
    places = zip(numbers[::2], numbers[1::2], strict=True)
    if any(start + length > len(data) for length, start in places):
        raise struct.error
    return [data[start : start + length] for length, start in zip(numbers[::2], numbers[1::2], strict=True)]
