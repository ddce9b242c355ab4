r"""Sentence pairs from files: read with every fault told by its line, and split without a sentence on both sides."""

import codecs
import random
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from dlnotes.arguments import check_below_one
from dlnotes.catalogue import Entry, compiled, entries

Pair = tuple[str, str]
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SHOWN = 5


class PairsError(ValueError):
    r"""A file of pairs has lines that are none; ``problems`` lists all, by number, with the reason.

    >>> raise PairsError("a.tsv", [(7, "1 column; two or three are expected")], 9, "")
    Traceback (most recent call last):
    ...
    dlnotes.pairs.PairsError: a.tsv: 1 bad of 9 lines: line 7: 1 column; two or three are expected
    """

    def __init__(
        self, path: str | Path, problems: Sequence[tuple[int, str]], count: int, cure: str, unit: str = "line"
    ):  # fmt: skip
        self.problems = list(problems)
        listed = "; ".join(f"{unit} {number}: {reason}" for number, reason in self.problems[:SHOWN])
        more = f"; and {len(self.problems) - SHOWN} more" if len(self.problems) > SHOWN else ""
        super().__init__(f"{path}: {len(self.problems)} bad of {count} {unit}s: {listed}{more}{cure}")


def read_pairs(path: str | Path, *, encoding: str | None = None, skip_bad: bool = False) -> list[Pair]:
    r"""The pairs of a file: lines of two or three columns divided by tabs, or a catalogue of messages, .po or .mo.

    Of three columns the last, which says where a pair is from, is left out, and so are empty lines; of a catalogue what
    is not translated, marked fuzzy or obsolete, and the header. White space around a sentence is taken off.

    Args:
        path: the file; ``.po`` or ``.mo`` (compiled) at its end marks a catalogue.
        encoding: default UTF-8, or UTF-16 if the file begins with its mark; Chinese files may be ``"gb18030"``. A
            compiled catalogue names its own.
        skip_bad: leave bad lines out, and warn of them, instead of raising. Default False.

    Raises:
        PairsError: a line has one column or more than three, an empty side, or the sign for what could not be decoded
            (U+FFFD) or a NUL in it. ValueError: the bytes are not of this encoding; the line is named. Or there are no
            pairs. LookupError: there is no such encoding.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pairs.tsv")
    ...     _ = path.write_text("Hi.\t你好。\tby someone\n\nRun!\t跑！\n", encoding="utf-8")
    ...     read_pairs(path)
    [('Hi.', '你好。'), ('Run!', '跑！')]
    """
    path = Path(path)
    suffix, unit = path.suffix.lower(), "line"
    if suffix == ".mo":
        unit, (pairs, problems, count) = "message", _compiled(path)
    else:
        text = _decoded(path, encoding).replace("\r\n", "\n").replace("\r", "\n")
        pairs, problems = _catalogue(text) if suffix == ".po" else _table(text)
        count = text.count("\n") + (not text.endswith("\n"))
    if problems:
        error = PairsError(path, problems, count, "" if skip_bad else "; skip_bad=True leaves them out", unit)
        if not skip_bad:
            raise error
        warnings.warn(f"left out: {error}", stacklevel=2)
    if not pairs:
        raise ValueError(f"{path}: there are no pairs in it")
    return pairs


def _decoded(path: Path, encoding: str | None) -> str:
    data = path.read_bytes()
    marked = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    encoding = marked if encoding is None else encoding
    try:
        return data.decode(encoding).removeprefix("\ufeff")  # the mark is no part of the first sentence
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "replace")  # in UTF-16 the byte of "\n" is in 上 too
        line = before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        cure = "; say encoding=…, for old Chinese files often 'gb18030'" if marked == encoding == "utf-8" else ""
        wrong = error.object[error.start : error.start + 1].hex()
        raise ValueError(f"{path}: line {line} is not {encoding}, the byte 0x{wrong} in it{cure}") from error


def _fault(sides: Iterable[str]) -> str | None:
    for name, side in zip(("first", "second"), sides, strict=True):
        if not side:
            return f"its {name} side is empty"
        if "\ufffd" in side or "\0" in side:
            sign = "U+FFFD, which stands for what was not decoded" if "\ufffd" in side else "a NUL"
            return f"its {name} side holds {sign}"
    return None


def _table(text: str) -> tuple[list[Pair], list[tuple[int, str]]]:
    pairs: list[Pair] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("\t")]
        fault = None
        if len(columns) not in (2, 3):
            fault = f"{len(columns)} column{'s' * (len(columns) > 1)}; two or three are expected, divided by tabs"
        if fault := fault or _fault(columns[:2]):
            problems.append((number, fault))
        else:
            pairs.append((columns[0], columns[1]))
    return pairs, problems


def _catalogue(text: str) -> tuple[list[Pair], list[tuple[int, str]]]:
    found, problems = entries(text)
    pairs, faults = _checked(found)
    return pairs, sorted(problems + faults)


def _compiled(path: Path) -> tuple[list[Pair], list[tuple[int, str]], int]:
    try:
        found = compiled(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a message is not {error.encoding}, the encoding that it names") from error
    except LookupError as error:
        raise LookupError(f"{path}: {error}, which its header names") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return *_checked(found), len(found)


def _checked(found: Sequence[Entry]) -> tuple[list[Pair], list[tuple[int, str]]]:
    pairs: list[Pair] = []
    problems: list[tuple[int, str]] = []
    for entry in found:
        for source, target in entry.pairs():
            pair = source.strip(), target.strip()
            if fault := _fault(pair):
                problems.append((entry.line, fault))
            else:
                pairs.append(pair)
    return pairs, problems


def split_pairs(pairs: Sequence[Pair], held_out: float = 0.1, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    r"""Pairs to learn from and pairs held out, at random; no sentence, of either language, is in both.

    Pairs that share a sentence stay together. Capitals, white space, how an accent was typed and the form of an
    apostrophe make no other sentence.

    Args:
        pairs: source and target.
        held_out: the share to hold out, in [0, 1), default 0.1; about, as groups are not torn apart.
        seed: of the random choice, default 0. The order of both parts is that of ``pairs``.

    Raises:
        ValueError: the share is out of range; or one of the parts would be empty.

    >>> train, test = split_pairs([("Hi", "嗨"), ("hi", "你好"), ("Bye", "再见"), ("So long", "再见")], held_out=0.5)
    >>> test
    [('Hi', '嗨'), ('hi', '你好')]
    """
    check_below_one(held_out=held_out)
    groups: dict[int, list[int]] = {}
    for number, root in enumerate(_groups(pairs)):
        groups.setdefault(root, []).append(number)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    out: set[int] = set()
    for group in order:
        if len(out) + len(group) / 2 <= held_out * len(pairs):
            out |= {*group}
    parts = [[pair for number, pair in enumerate(pairs) if (number in out) == held] for held in (False, True)]
    if not parts[0] or (held_out and not parts[1]):
        raise ValueError(f"held_out = {held_out} of {len(pairs)} pairs in {len(groups)} groups leaves one part empty")
    return parts[0], parts[1]


def leaks(train: Iterable[Pair], held_out: Iterable[Pair]) -> list[Pair]:
    r"""The pairs of ``held_out`` of which a sentence, in either language, is among those to learn from.

    >>> leaks([("Hi!", "嗨！")], [("hi!", "你好！"), ("Bye!", "再见！")])
    [('hi!', '你好！')]
    """
    known: tuple[set[str], set[str]] = (set(), set())
    for pair in train:
        for side, text in enumerate(pair):
            known[side].add(_plain(text))
    return [pair for pair in held_out if any(_plain(text) in known[side] for side, text in enumerate(pair))]


def _plain(text: str) -> str:
    """A sentence as :func:`dlnotes.text.words` sees it: what has the same tokens is the same."""
    return " ".join(unicodedata.normalize("NFC", text.lower()).replace("’", "'").split())


def _groups(pairs: Sequence[Pair]) -> list[int]:
    """For each pair the number of another that stands for all that it shares sentences with."""
    leader = list(range(len(pairs)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = number = leader[leader[number]]
        return number

    first: dict[tuple[int, str], int] = {}
    for number, pair in enumerate(pairs):
        for side, text in enumerate(pair):
            leader[find(number)] = find(first.setdefault((side, _plain(text)), number))
    return [find(number) for number in range(len(pairs))]
