r"""A translator from pairs of sentences: taught, asked, judged, kept. :mod:`dlnotes.translate` is its command."""

import hashlib
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch

from dlnotes import checkpoint
from dlnotes.arguments import check_choice, check_not_negative, check_whole
from dlnotes.buckets import pad
from dlnotes.checkpoint import CheckpointError
from dlnotes.decoding import Hypothesis, beam_search, greedy
from dlnotes.device import default_device
from dlnotes.hooks import Hook
from dlnotes.pairs import Pair, leaks
from dlnotes.scores import Scores, score
from dlnotes.seq2seq import Seq2Seq
from dlnotes.teacher import teach
from dlnotes.text import END, TOKENIZERS, Vocabulary

KIND = "dlnotes translator 1"
KEPT = ("source", "target", "min_count", "sizes", "longest", "model", "source_tokens", "target_tokens")
SIZES: dict[str, Any] = {
    "d_model": 64, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 128,
    "dropout": 0.1, "norm_first": True,
}  # fmt: skip
GIVEN = ("src_vocab", "tgt_vocab", "padding_idx")  # by the vocabularies


class Translator:
    r"""Sentences in, sentences out: tokens, vocabularies, a :class:`~dlnotes.seq2seq.Seq2Seq` and a beam search.

    Args:
        source: how the source is taken apart, a name in :data:`dlnotes.text.TOKENIZERS`; default ``"words"``.
        target: likewise, default ``"characters"``, as for Chinese.
        min_count: how often a token must occur to be known, default 1.
        sizes: of the model, as for :class:`~dlnotes.seq2seq.Seq2Seq`; what is not given is small enough for a CPU.

    Attributes:
        model: ``None`` before :meth:`fit`. history: of the run, see :class:`~dlnotes.runner.Runner`.

    Raises:
        ValueError: there is no such way to take a language apart. TypeError: a size is none of the model's.

    >>> _ = torch.manual_seed(0)
    >>> translator = Translator(d_model=32, nhead=2, dim_feedforward=64, dropout=0.0)
    >>> _ = translator.fit([("machine learning", "机器学习"), ("the learning rate", "学习率")], epochs=60)
    >>> translator.translate("Machine learning")
    '机器学习'
    """

    def __init__(self, source: str = "words", target: str = "characters", *, min_count: int = 1, **sizes: Any):
        for name, given in (("source", source), ("target", target)):
            check_choice(name, given, TOKENIZERS)
        check_whole("min_count", min_count)
        for name in sizes:
            if name in GIVEN or name not in inspect.signature(Seq2Seq).parameters:
                raise TypeError(f"sizes must be arguments of Seq2Seq, other than {', '.join(GIVEN)}; got {name}")
        self.source, self.target, self.min_count, self.sizes = source, target, min_count, SIZES | sizes
        self.source_vocabulary, self.target_vocabulary = Vocabulary([]), Vocabulary([])
        self.longest = 0  # source tokens learned from
        self.model: Seq2Seq | None = None
        self.history: list[dict[str, float]] = []

    def __repr__(self) -> str:
        known = f"{len(self.source_vocabulary)} and {len(self.target_vocabulary)} tokens" if self.model else "untrained"
        return f"Translator({self.source!r}, {self.target!r}, {known})"

    def fit(
        self, train: Sequence[Pair], val: Sequence[Pair] | None = None, *, epochs: int = 12,
        device: torch.device | str | None = None, hooks: Sequence[Hook] = (), **options: Any,
    ) -> "Translator":  # fmt: skip
        r"""Learn from pairs, with a new vocabulary and a new model; ``torch.manual_seed`` before it fixes all chance.

        Interrupted, the model stays as far as it has come; refused, what was learned before stays.

        Args:
            train: pairs of sentences.
            val: pairs to judge by after every epoch, default none.
            epochs: how many, default 12.
            device: where to compute, default :func:`dlnotes.device.default_device`.
            hooks: of the run, default none.
            options: as for :func:`dlnotes.teacher.teach`: ``lr``, ``max_tokens``, ``label_smoothing``, ``amp``, … With
                a ``folder``, a run that was interrupted there goes on exactly where it was; give it the same pairs.

        Raises:
            ValueError: there are no pairs, or one has an empty side; or an option is out of range; or ``min_count``
                leaves no token known. TypeError: what should be a pair of texts is none.
            CheckpointError: the folder holds a run of other pairs or sizes.

        A warning says if sentences of ``val`` are among those learned from.
        """
        for name, pairs in (("train", train), ("val", val or [])):
            for number, pair in enumerate(pairs):
                if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise TypeError(f"{name} must hold pairs (source, target) of text, and {number} is {pair!r}")
                if not all(text.strip() for text in pair):
                    raise ValueError(
                        f"{name} must hold pairs of sentences, and pair {number} has an empty side: {pair}"
                    )
        if not train:
            raise ValueError("train must hold a pair at least, got none")
        if val and (known := leaks(train, val)):
            words = f"{len(known)} of {len(val)} pairs to judge by have a sentence that is learned from"
            warnings.warn(f"{words}: {known[0]} is one", stacklevel=2)
        before = dict(vars(self))
        try:
            return self._fit(train, val, epochs, device, hooks, options)
        except (ValueError, TypeError, CheckpointError):
            vars(self).update(before)
            raise

    def _fit(
        self, train: Sequence[Pair], val: Sequence[Pair] | None, epochs: int, device: torch.device | str | None,
        hooks: Sequence[Hook], options: dict[str, Any],
    ) -> "Translator":  # fmt: skip
        sides = zip(*train, strict=True)
        for side, (name, texts) in enumerate(zip(("source", "target"), sides, strict=True)):
            tokenizer = TOKENIZERS[(self.source, self.target)[side]]
            vocabulary = Vocabulary.build(map(tokenizer.split, texts), self.min_count)
            if not vocabulary.tokens:
                raise ValueError(f"min_count must leave a token of the {name} known, and {self.min_count} leaves none")
            setattr(self, f"{name}_vocabulary", vocabulary)
        encoded = self._encoded(train)
        self.longest = max(len(source) for source, _ in encoded)
        self.model = self._new_model().to(default_device() if device is None else device)
        self.history = []
        hooks = [*hooks, _SamePairs(train)]
        judged = self._encoded(val) if val else None
        self.history = teach(self.model, encoded, judged, epochs=epochs, hooks=hooks, **options).history
        return self

    @overload
    def translate(self, sentences: str, **options: Any) -> str: ...  # pyright: ignore[reportOverlappingOverload]

    @overload
    def translate(self, sentences: Sequence[str], **options: Any) -> list[str]: ...

    def translate(self, sentences: str | Sequence[str], **options: Any) -> str | list[str]:
        r"""The translation of a sentence, or of many; each comes out as it would alone.

        An empty sentence stays empty. What is not known stands for itself as UNKNOWN. A translation ends after twice
        as many tokens as its source has, and twenty, at the latest. A warning tells of sentences that are empty, that
        hold unknown tokens, that are longer than all that was learned from, and of translations that were cut off.

        Args:
            sentences: one, or several.
            options: as for :meth:`search`.
        """
        if isinstance(sentences, str):
            return self.translate([sentences], **options)[0]
        found = self.search(sentences, **options)
        join = TOKENIZERS[self.target].join
        return [join(self.target_vocabulary.decode(hypotheses[0].tokens)) if hypotheses else "" for hypotheses in found]

    def search(
        self, sentences: Sequence[str], *, beams: int = 4, length_penalty: float = 1.0, batch_size: int = 32,
        cached: bool = True,
    ) -> list[list[Hypothesis]]:  # fmt: skip
        r"""What decoding finds for every sentence, the best first; nothing for one that is empty.

        Args:
            sentences: several.
            beams: see :func:`dlnotes.decoding.beam_search`; 1 is greedy. Default 4.
            length_penalty: likewise, default 1.
            batch_size: sentences computed at once, default 32.
            cached: likewise, default True.
        """
        if self.model is None:
            raise ValueError("there is no model yet: call fit, or Translator.load")
        check_whole("batch_size", batch_size)
        check_whole("beams", beams)
        check_not_negative(length_penalty=length_penalty)
        for number, sentence in enumerate(sentences):
            if not isinstance(sentence, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"sentences must be text, and {number} is {sentence!r}")
        split = TOKENIZERS[self.source].split
        tokens = [split(sentence) for sentence in sentences]
        found: list[list[Hypothesis]] = [[] for _ in tokens]
        places = sorted((place for place, sentence in enumerate(tokens) if sentence), key=lambda p: len(tokens[p]))
        device = next(self.model.parameters()).device
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            src = pad([[*self.source_vocabulary.encode(tokens[place]), END] for place in batch]).to(device)
            limits = [2 * len(tokens[place]) + 20 for place in batch]
            if beams == 1:
                each = [[hypothesis] for hypothesis in greedy(self.model, src, limits, cached=cached)]
            else:
                options: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "cached": cached}
                each = beam_search(self.model, src, limits, **options)
            for place, hypotheses in zip(batch, each, strict=True):
                found[place] = hypotheses
        self._warn(tokens, found)
        return found

    def evaluate(self, pairs: Sequence[Pair], **options: Any) -> Scores:
        r"""BLEU and chrF of the translations of these pairs' sources; Chinese by characters, others by ``13a``.

        Args:
            pairs: source and reference.
            options: as for :meth:`search`.

        Raises:
            ImportError: sacrebleu is not installed. ValueError: there are no pairs.
        """
        translations = self.translate([source for source, _ in pairs], **options)
        tokenize = "zh" if self.target == "characters" else "13a"
        return score(translations=translations, references=[target for _, target in pairs], tokenize=tokenize)

    def save(self, path: str | Path) -> None:
        r"""Write everything that translating needs to one file, whole or not at all.

        Raises:
            ValueError: nothing was learned yet. CheckpointError: a weight is NaN.
        """
        if self.model is None:
            raise ValueError("there is no model yet: call fit, or Translator.load")
        state = {name: getattr(self, name) for name in KEPT[:5]}
        state |= {"kind": KIND, "model": self.model.state_dict()}
        state |= {f"{name}_tokens": getattr(self, f"{name}_vocabulary").tokens for name in ("source", "target")}
        checkpoint.save(path, state)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "Translator":
        r"""The translator that was saved there.

        Raises:
            CheckpointError: the file is damaged, or holds no translator. FileNotFoundError: there is none.
        """
        state = checkpoint.load(path)
        if state.get("kind") != KIND:
            raise CheckpointError(f"{path}: no translator, which Translator.save or the command train writes")
        if missing := [name for name in KEPT if name not in state]:
            raise CheckpointError(f"{path}: no whole translator, without {', '.join(missing)}")
        translator = cls(state["source"], state["target"], min_count=state["min_count"], **state["sizes"])
        translator.longest = state["longest"]
        translator.source_vocabulary = Vocabulary(state["source_tokens"])
        translator.target_vocabulary = Vocabulary(state["target_tokens"])
        model = translator._new_model()
        if problems := checkpoint.mismatches(model, state["model"]):
            raise CheckpointError(f"{path}: its weights are not of its sizes: {'; '.join(problems[:3])}")
        model.load_state_dict(state["model"])
        translator.model = model.to(default_device() if device is None else device).eval()
        return translator

    def _new_model(self) -> Seq2Seq:
        return Seq2Seq(len(self.source_vocabulary), len(self.target_vocabulary), **self.sizes)

    def _encoded(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        source, target = TOKENIZERS[self.source].split, TOKENIZERS[self.target].split
        return [(self.source_vocabulary.encode(source(a)), self.target_vocabulary.encode(target(b))) for a, b in pairs]

    def _warn(self, tokens: Sequence[Sequence[str]], found: Sequence[Sequence[Hypothesis]]) -> None:
        many, known = len(tokens), self.source_vocabulary
        unknown = dict.fromkeys(token for sentence in tokens for token in sentence if token not in known)
        empty = sum(not sentence for sentence in tokens)
        long = sum(len(sentence) > self.longest for sentence in tokens)
        cut = sum(bool(hypotheses) and not hypotheses[0].ended for hypotheses in found)
        listed = ", ".join(list(unknown)[:5]) + (", …" if len(unknown) > 5 else "")
        for count, words in (
            (len(unknown), f"tokens that are not known are read as UNKNOWN ({len(unknown)}): {listed}"),
            (empty, f"{empty} of {many} sentences are empty, and so are their translations"),
            (long, f"{long} of {many} sentences are longer than the {self.longest} tokens learned from"),
            (cut, f"{cut} of {many} translations did not end, and were cut off at their longest"),
        ):
            if count:
                warnings.warn(words, stacklevel=4)


class _SamePairs(Hook):
    """Refuses to take up a run that learned from other pairs, whose tokens had other numbers."""

    def __init__(self, pairs: Sequence[Pair]):
        self.digest = hashlib.sha256(repr([tuple(pair) for pair in pairs]).encode()).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        return {"digest": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["digest"] != self.digest:
            raise ValueError("the saved run learned from other pairs")
