r"""How good translations are: BLEU and chrF by sacrebleu, which says exactly how it has counted."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from dlnotes.arguments import check_choice

TOKENIZE = ("zh", "13a", "char", "none")


class Scores(NamedTuple):
    r"""BLEU and chrF of a whole corpus, from 0 to 100, and the signatures to report them with.

    >>> print(Scores(bleu=36.8, chrf=41.2, bleu_signature="…|tok:zh|…", chrf_signature="…"))
    BLEU 36.8 (…|tok:zh|…)  chrF 41.2 (…)
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str

    def __str__(self) -> str:
        return f"BLEU {self.bleu:.1f} ({self.bleu_signature})  chrF {self.chrf:.1f} ({self.chrf_signature})"


def score(*, translations: Sequence[str], references: Sequence[str], tokenize: str) -> Scores:
    r"""Compare translations with one reference each, over the whole corpus (a mean over sentences is something else).

    .. math:: \text{BLEU} = 100 \cdot \min\left(1, e^{1 - r/c}\right) \exp\left(\tfrac14 \sum_{n=1}^4 \log p_n\right)

    with :math:`p_n` for the share of the translations' runs of :math:`n` tokens that the references have too, and
    :math:`c` and :math:`r` for the lengths of both. The two are not to be exchanged, so that they are given by name.

    Args:
        translations: what the model wrote.
        references: what is right.
        tokenize: what a token is: ``"zh"`` for Chinese (a character), ``"13a"`` for European languages, ``"char"``,
            ``"none"`` (split at spaces). Chinese by ``"13a"`` would be one token a sentence: a wrong score.

    Raises:
        ImportError: sacrebleu is not installed; the message says how to get it.
        ValueError: there are no sentences, not as many references, or another ``tokenize``.

    Sources: Papineni et al., *BLEU* (2002); Popović, *chrF* (2015); Post, *A Call for Clarity* (2018).

    >>> score(translations=["机器"], references=[], tokenize="zh")
    Traceback (most recent call last):
    ...
    ValueError: references must be as many as translations, 1, got 0
    """
    check_choice("tokenize", tokenize, TOKENIZE)
    if len(references) != len(translations):
        raise ValueError(f"references must be as many as translations, {len(translations)}, got {len(references)}")
    if not translations:
        raise ValueError("translations must hold a sentence at least, got none")
    metrics = _sacrebleu()
    bleu, chrf = metrics.BLEU(tokenize=tokenize), metrics.CHRF()
    given = list(translations), [list(references)]
    values = bleu.corpus_score(*given).score, chrf.corpus_score(*given).score
    return Scores(*values, str(bleu.get_signature()), str(chrf.get_signature()))  # known once it has counted


def _sacrebleu() -> Any:
    try:
        return importlib.import_module("sacrebleu.metrics")
    except ImportError as error:
        cure = 'pip install "dlnotes-course[bleu]", or pip install sacrebleu'
        raise ImportError(f"BLEU needs sacrebleu: {cure}") from error
