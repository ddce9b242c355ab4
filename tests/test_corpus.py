from itertools import combinations

import pytest
import yaml
from book_reading import ROOT

from dlnotes.corpus import ADJECTIVES, ADVERBS, ALONE, FORMS, NOUNS, PARTS, VERBS, glossary, grammar
from dlnotes.pairs import leaks
from dlnotes.text import characters, words


def terms_in(sentence):
    """The numbers of the terms in an English sentence; the longest first, as gradient stands in gradient descent."""
    found, text = set(), sentence.lower()
    for number, noun in sorted(enumerate(NOUNS), key=lambda item: -len(item[1].en)):
        if (term := noun.en) in text:
            found.add(number)
            text = text.replace(term, "")
    return found


def test_held_out_sentences_combine_what_was_never_together():
    train, held_out = grammar()
    assert (len(train), len(held_out)) == (4000, 300)
    assert len({*train, *held_out}) == 4300
    together = {frozenset(pair) for english, _ in train for pair in combinations(terms_in(english), 2)}
    for english, _ in held_out:
        assert len(terms_in(english)) == 2, english
        assert frozenset(terms_in(english)) not in together, english
    assert not leaks(train, held_out)


def test_every_held_out_word_was_learned():
    for seed in range(3):
        train, held_out = grammar(seed=seed)
        for side, split in enumerate((words, characters)):
            learned = {token for pair in train for token in split(pair[side])}
            assert {token for pair in held_out for token in split(pair[side])} <= learned


def test_one_english_sentence_has_one_translation():
    train, held_out = grammar(6000, 600)
    assert len({english for english, _ in train + held_out}) == 6600


def test_the_same_seed_gives_the_same_sentences():
    assert grammar(200, 20, seed=1) == grammar(200, 20, seed=1)
    assert grammar(200, 20, seed=1) != grammar(200, 20, seed=2)
    train, held_out = grammar(200, 20)
    assert ({*train} | {*held_out}) & {*grammar(300, 30)[0]}  # a longer one begins alike
    assert grammar(300, 20)[0][:200] == train


def test_all_of_the_grammar_is_used():
    train, _ = grammar()
    english, chinese = (" ".join(side).lower() for side in zip(*train, strict=True))
    for word, *_, meaning in (*VERBS, *ADJECTIVES, *PARTS, *ADVERBS):
        assert word in english
        assert meaning in chinese
    assert len(FORMS) + len(ALONE) == 30


def test_numbers_agree():
    for english, _ in grammar()[0]:
        for noun in NOUNS:
            if noun.plural and english.lower().startswith(noun.en + " "):
                verb = english[len(noun.en) + 1 :].split()[0].rstrip(".")
                assert verb not in {"is", "does", "helps", *(third for _, third, _, _ in VERBS)}, english


def test_terms_are_the_courses():
    """Where the grammar and the list shipped have a term of the glossary, they translate it as the book does."""
    book = {}
    for term in yaml.safe_load((ROOT / "book" / "terms.yml").read_text(encoding="utf-8")):
        for english in [term["en"]] if isinstance(term["en"], str) else term["en"]:
            book.setdefault(english, term["zh"])
    for english, chinese in glossary():
        assert book.get(english) == chinese
    assert len(glossary()) > 200
    mine = {noun.en.removeprefix("the "): noun.zh for noun in NOUNS}
    plural = {word.removesuffix("s"): zh for word, zh in mine.items()}
    for english, chinese in (mine | plural).items():
        assert book.get(english, chinese) == chinese


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0), f"train must be >= {len(NOUNS)}, got 10"),
        ((100, -1), "held_out must be >= 0, got -1"),
        ((100_000, 1), "train and held_out must be 100000 together at most, got 100001"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        grammar(*arguments)
