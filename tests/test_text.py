import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.text import (
    BEGIN,
    END,
    PAD,
    SPECIAL,
    TOKENIZERS,
    UNKNOWN,
    Vocabulary,
    cased_words,
    characters,
    join_characters,
    join_words,
    words,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" \n\t", []),
        ("Machine learning", ["machine", "learning"]),
        ("Is it fast?", ["is", "it", "fast", "?"]),
        ("It’s O(n).", ["it's", "o", "(", "n", ")", "."]),
        ("1,024 of 3.5e9 -2", ["1,024", "of", "3.5", "e9", "-", "2"]),
        ("well-known — 'quoted'", ["well-known", "—", "'", "quoted", "'"]),
        ("nai\u0308ve", ["na\u00efve"]),  # typed with a combining mark
        ("<pad> x", ["<", "pad", ">", "x"]),  # no text can be a special token
        ("用 GPU 训练。", ["用", "gpu", "训练", "。"]),
    ],
)
def test_words(text, found):
    assert words(text) == found


def test_case_is_kept_or_not():
    assert cased_words("The GPU") == ["The", "GPU"]
    assert words("The GPU") == ["the", "gpu"]


@pytest.mark.parametrize("text", ["a loss of 0.5, at last!", "is it (really) so?", "50% of [a]: b; c.", "it's “so”"])
def test_words_are_joined_as_they_stood(text):
    assert join_words(words(text)) == text


@given(st.text(max_size=20))
def test_tokens_survive_joining(text):
    for tokenizer in TOKENIZERS.values():
        tokens = tokenizer.split(text)
        assert all(tokens)
        assert not {*SPECIAL} & {*tokens}
        joined = tokenizer.join(tokens)
        if tokenizer.split is characters:
            assert tokenizer.split(joined) == tokens


def test_characters():
    assert characters("机器学习") == ["机", "器", "学", "习"]
    assert characters("  a  b\u3000c ") == ["a", " ", "b", " ", "c"]  # the wide space of Chinese too
    assert join_characters(characters("用 GPU 训练。")) == "用 GPU 训练。"
    assert characters("") == []


def test_special_tokens_are_where_they_are():
    assert (PAD, BEGIN, END, UNKNOWN) == (0, 1, 2, 3)  # saved models depend on it
    assert len(Vocabulary([])) == 4


def test_a_vocabulary_is_built_by_frequency_then_alphabet():
    sentences = [["b", "c", "a"], ["c", "d"], ["c", "a"]]
    assert Vocabulary.build(sentences).tokens == ["c", "a", "b", "d"]
    assert Vocabulary.build(reversed(sentences)).tokens == ["c", "a", "b", "d"]
    assert Vocabulary.build(sentences, min_count=2).tokens == ["c", "a"]


def test_numbers_and_back():
    vocabulary = Vocabulary(["c", "a"])
    assert vocabulary.encode(["a", "x", "c", "<pad>"]) == [5, UNKNOWN, 4, UNKNOWN]
    assert vocabulary.decode([BEGIN, 5, UNKNOWN, PAD, 4, END, 5]) == ["a", "<unknown>", "c"]
    assert vocabulary.decode([]) == []
    assert "a" in vocabulary
    assert "<pad>" not in vocabulary


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b", "a"], "tokens must differ, got 'a' twice"),
        (["a", "<end>"], "tokens must be neither empty nor one of .* got '<end>'"),
        ([""], "tokens must be neither empty nor .* got ''"),
    ],
)
def test_bad_vocabularies(tokens, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(tokens)


def test_bad_numbers():
    with pytest.raises(IndexError, match="numbers must be from 0 to 4, got 5"):
        Vocabulary(["a"]).decode([5])
    with pytest.raises(IndexError, match="numbers must be from 0 to 4, got -1"):
        Vocabulary(["a"]).decode([-1])
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        Vocabulary.build([], min_count=0)


def test_marks_belong_to_their_letters():
    assert words("the estimate x\u0302 of x\u0304_1") == ["the", "estimate", "x\u0302", "of", "x\u0304_1"]
    assert words("हिन्दी भाषा।") == ["हिन्दी", "भाषा", "।"]
    assert words("İstanbul") == ["i\u0307stanbul"]  # what Python's lower makes of it
    assert words("ภาษาไทย") == ["ภาษาไทย"]
