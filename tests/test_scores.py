import sys

import pytest

from dlnotes.scores import Scores, score


@pytest.fixture
def sacrebleu():
    return pytest.importorskip("sacrebleu", reason="the extra bleu is not installed")


def test_the_tokenizer_decides(sacrebleu):
    same = {"translations": ["机器学习"], "references": ["机器学习"]}
    found = score(**same, tokenize="zh")
    assert found.bleu == pytest.approx(100)
    assert found.chrf == pytest.approx(100)
    assert "tok:zh" in found.bleu_signature
    assert f"version:{sacrebleu.__version__}" in found.bleu_signature
    assert score(**same, tokenize="13a").bleu == 0  # one token a sentence: no run of four


def test_the_two_are_not_to_be_exchanged(sacrebleu):
    short, long = ["a b c d"], ["a b c d e f g h"]
    assert score(translations=short, references=long, tokenize="none").bleu == pytest.approx(36.79, abs=0.01)
    assert score(translations=long, references=short, tokenize="none").bleu == pytest.approx(34.57, abs=0.01)


def test_equals_sacrebleus_own(sacrebleu):
    translations, references = ["这个模型很好。", "损失下降"], ["模型很好。", "损失下降了"]
    found = score(translations=translations, references=references, tokenize="zh")
    assert found.bleu == sacrebleu.corpus_bleu(translations, [references], tokenize="zh").score
    assert found.chrf == sacrebleu.corpus_chrf(translations, [references]).score


@pytest.mark.parametrize(
    ("translations", "references", "tokenize", "message"),
    [
        (["a"], ["a", "b"], "zh", "references must be as many as translations, 1, got 2"),
        ([], [], "zh", "translations must hold a sentence at least, got none"),
        (["a"], ["a"], "mecab", r"tokenize must be one of \['zh', '13a', 'char', 'none'\], got 'mecab'"),
    ],
)
def test_bad_arguments(translations, references, tokenize, message):
    with pytest.raises(ValueError, match=message):
        score(translations=translations, references=references, tokenize=tokenize)


def test_without_sacrebleu_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r'pip install "dlnotes-course\[bleu\]"'):
        score(translations=["a"], references=["a"], tokenize="zh")


def test_scores_are_printed_with_their_signatures():
    assert str(Scores(36.79, 41.2, "tok:zh", "nc:6")) == "BLEU 36.8 (tok:zh)  chrF 41.2 (nc:6)"
