r"""From text to numbers and back: words and characters as tokens, and a vocabulary that numbers them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dlnotes.arguments import check_whole

PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<begin>", "<end>", "<unknown>")
MARKS = "".join(filter(lambda sign: unicodedata.category(sign)[0] == "M", map(chr, range(0x300, 0x10000))))
LETTERS = rf"[\w{MARKS}]+"  # accents and vowel signs that are characters of their own belong to their letter
WORD = re.compile(rf"\d+(?:[.,]\d+)+|{LETTERS}(?:[-']{LETTERS})*|[^\w\s]")


def words(text: str) -> list[str]:
    r"""Words in lower case, numbers, and every sign of punctuation by itself.

    Hyphens and apostrophes inside a word belong to it; a typographic apostrophe is the plain one. Letters with
    accents are one character, however they were typed (Unicode's form NFC); where there is no such
    character, as for x̂, accents and vowel signs stay with their letter.

    >>> words("Self-attention isn't new: it's from 2017!")
    ['self-attention', "isn't", 'new', ':', "it's", 'from', '2017', '!']
    """
    return cased_words(text.lower())


def cased_words(text: str) -> list[str]:
    r"""As :func:`words`, with capitals where they stand.

    >>> cased_words("A GPU has 16.5 GB.")
    ['A', 'GPU', 'has', '16.5', 'GB', '.']
    """
    return WORD.findall(unicodedata.normalize("NFC", text).replace("’", "'"))


def join_words(tokens: Sequence[str]) -> str:
    r"""A sentence of words: spaces between them, none before a sign that closes or after one that opens.

    >>> join_words(["a", "loss", "(", "of", "0.5", ")", ",", "at", "last", "!"])
    'a loss (of 0.5), at last!'
    """
    text = " ".join(tokens)
    text = re.sub(r" ([,.;:!?%)\]}»”])", r"\1", text)
    return re.sub(r"([(\[{«“]) ", r"\1", text)


def characters(text: str) -> list[str]:
    r"""Every character is a token, as in Chinese every one is nearly a word; white space counts as one space.

    >>> characters(" 用 GPU\n训练。")
    ['用', ' ', 'G', 'P', 'U', ' ', '训', '练', '。']
    """
    return list(" ".join(unicodedata.normalize("NFC", text).split()))


def join_characters(tokens: Sequence[str]) -> str:
    r"""The characters, one after the other.

    >>> join_characters(["机", "器"])
    '机器'
    """
    return "".join(tokens)


class Tokenizer(NamedTuple):
    r"""How a language is taken apart and put together.

    >>> TOKENIZERS["words"].join(TOKENIZERS["words"].split("Hello, world!"))
    'hello, world!'
    """

    split: Callable[[str], list[str]]
    join: Callable[[Sequence[str]], str]


TOKENIZERS = {
    "words": Tokenizer(words, join_words),
    "cased words": Tokenizer(cased_words, join_words),
    "characters": Tokenizer(characters, join_characters),
}


class Vocabulary:
    r"""A number for every token: 0 to 3 for PAD, BEGIN, END and UNKNOWN, then the tokens in the order given.

    Args:
        tokens: those that it knows, each once.

    Raises:
        ValueError: a token is given twice, is empty, or is a special one.

    >>> vocabulary = Vocabulary(["gradient", "descent"])
    >>> vocabulary.encode(["gradient", "ascent"])  # it does not know the second
    [4, 3]
    >>> vocabulary.decode([1, 4, 5, 2, 0, 0])  # BEGIN, two words, END, PAD
    ['gradient', 'descent']
    >>> len(vocabulary), "descent" in vocabulary
    (6, True)
    """

    def __init__(self, tokens: Iterable[str]):
        self.tokens = list(tokens)
        self._numbers = {token: number for number, token in enumerate(self.tokens, len(SPECIAL))}
        if len(self._numbers) < len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"tokens must differ, got {twice!r} twice")
        for token in ("", *SPECIAL):
            if token in self._numbers:
                raise ValueError(f"tokens must be neither empty nor one of {SPECIAL}, got {token!r}")

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]], min_count: int = 1) -> "Vocabulary":
        r"""Of all tokens in these sentences, the frequent ones first; equally frequent ones by the alphabet.

        Args:
            sentences: as lists of tokens.
            min_count: how often a token must occur, default 1. From 2 on the model meets UNKNOWN in training, and
                learns what to do with it.

        >>> Vocabulary.build([["b", "a"], ["a", "c"]]).tokens
        ['a', 'b', 'c']
        """
        check_whole("min_count", min_count)
        counts = Counter(token for sentence in sentences for token in sentence)
        frequent = [token for token, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda token: (-counts[token], token)))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._numbers

    def encode(self, tokens: Iterable[str]) -> list[int]:
        r"""The tokens' numbers; neither BEGIN nor END are added."""
        return [self._numbers.get(token, UNKNOWN) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        r"""The tokens of these numbers up to the first END, without PAD and BEGIN.

        Raises:
            IndexError: a number is none of the vocabulary's.
        """
        found: list[str] = []
        for number in numbers:
            if number == END:
                break
            if not 0 <= number < len(self):
                raise IndexError(f"numbers must be from 0 to {len(self) - 1}, got {number}")
            if number not in (PAD, BEGIN):
                found.append(SPECIAL[number] if number < len(SPECIAL) else self.tokens[number - len(SPECIAL)])
        return found
