import re
import signal
import warnings

import jaxtyping
import pytest
import torch

from dlnotes import checkpoint
from dlnotes.checkpoint import CheckpointError
from dlnotes.corpus import grammar
from dlnotes.hooks import Hook
from dlnotes.text import TOKENIZERS
from dlnotes.translator import Translator

SIZES = {"d_model": 32, "nhead": 2, "dim_feedforward": 64, "num_encoder_layers": 1, "num_decoder_layers": 1}
TERMS = [("machine learning", "机器学习"), ("deep learning", "深度学习"), ("the learning rate", "学习率")]
TERMS += [("gradient descent", "梯度下降"), ("the gradient", "梯度"), ("the loss function", "损失函数")]


@pytest.fixture(scope="module")
def trained():
    """A translator of six terms."""
    torch.manual_seed(0)
    return Translator(**SIZES, dropout=0.0).fit(TERMS, epochs=60, lr=1e-2, label_smoothing=0.0)


@pytest.fixture(scope="module")
def half_trained():
    """One that has seen the grammar for a moment: what it writes differs from sentence to sentence, and is wrong."""
    torch.manual_seed(0)
    return Translator(**SIZES).fit(grammar(300, 0)[0], epochs=12, lr=1e-2)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("DLNOTES_DEVICE", "cpu")


def test_machine_learning(trained):
    assert trained.translate("machine learning") == "机器学习"
    assert trained.translate([source for source, _ in TERMS]) == [target for _, target in TERMS]
    assert trained.translate("Machine Learning", beams=1) == "机器学习"
    assert repr(trained) == "Translator('words', 'characters', 13 and 18 tokens)"
    assert trained.history[-1]["nll"] < 0.1


@pytest.mark.filterwarnings("ignore:tokens that are not known", "ignore:.* did not end")
@pytest.mark.parametrize("beams", [1, 4])
def test_one_output_alone_in_sevens_in_thirty(half_trained, beams):
    sentences = [source for source, _ in grammar(300, 30)[1]]
    together = half_trained.translate(sentences, beams=beams, batch_size=30)
    assert half_trained.translate(sentences, beams=beams, batch_size=7) == together
    assert [half_trained.translate(sentence, beams=beams) for sentence in sentences] == together
    assert half_trained.translate(sentences, beams=beams, cached=False) == together
    assert half_trained.translate(sentences[::-1], beams=beams) == together[::-1]
    assert len(set(together)) > 10


def test_empty_sentences_stay_empty(trained):
    with pytest.warns(UserWarning, match="2 of 3 sentences are empty, and so are their translations"):
        assert trained.translate(["", "the gradient", " \n"]) == ["", "梯度", ""]
    assert trained.translate([]) == []


@pytest.mark.filterwarnings("ignore:.* are longer than the")
@pytest.mark.parametrize("text", ["zzyzx", "Привет мир", "机器学习", "🙂🙂", "<pad> <end>", "\u200b", "a\0b"])
def test_unknown_words_and_scripts_are_defined(trained, text):
    with pytest.warns(UserWarning, match=r"tokens that are not known are read as UNKNOWN \(\d\): "):
        assert len(trained.translate(text)) < 40


def test_many_unknown_words_are_listed_in_part(trained):
    with pytest.warns(UserWarning, match=re.escape("UNKNOWN (7): a, b, c, d, e, …")):
        trained.translate(["a b c", "d e", "f g a"])


def test_long_input_is_defined(trained):
    with pytest.warns(UserWarning, match="1 of 1 sentences are longer than the 3 tokens learned from"):
        found = trained.translate("gradient " * 500, beams=1)
    assert len(found) <= 2 * 500 + 20


def test_what_does_not_end_is_cut_and_said(half_trained):
    """A bias against END makes every translation too long."""
    torch.manual_seed(0)
    endless = Translator(**SIZES).fit(TERMS, epochs=1)
    with torch.no_grad():
        endless.model.output.bias[2] = -1e4
    with pytest.warns(UserWarning, match="1 of 1 translations did not end, and were cut off at their longest"):
        assert len(endless.translate("the gradient")) == 2 * 2 + 20


def test_known_words_bring_no_warning(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained.translate("the gradient")


def test_save_and_load(trained, tmp_path):
    trained.save(tmp_path / "t.pt")
    again = Translator.load(tmp_path / "t.pt")
    assert repr(again) == repr(trained)
    assert not again.model.training
    assert again.translate([source for source, _ in TERMS]) == [target for _, target in TERMS]
    assert again.longest == trained.longest == 3
    again.save(tmp_path / "u.pt")
    assert Translator.load(tmp_path / "u.pt").search(["deep learning"]) == trained.search(["deep learning"])


def test_what_is_no_translator(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        Translator.load(tmp_path / "none.pt")
    checkpoint.save(tmp_path / "other.pt", {"model": {}})
    with pytest.raises(CheckpointError, match=r"other.pt: no translator, which Translator.save"):
        Translator.load(tmp_path / "other.pt")
    trained.save(tmp_path / "t.pt")
    state = checkpoint.load(tmp_path / "t.pt")
    state["sizes"]["d_model"] = 16
    checkpoint.save(tmp_path / "t.pt", state)
    with pytest.raises(CheckpointError, match=r"t.pt: its weights are not of its sizes: shape of"):
        Translator.load(tmp_path / "t.pt")


def test_before_fit():
    for do in (lambda t: t.translate("a"), lambda t: t.save("nowhere.pt")):
        with pytest.raises(ValueError, match="there is no model yet: call fit, or Translator.load"):
            do(Translator())
    assert repr(Translator()) == "Translator('words', 'characters', untrained)"


def test_the_same_seed_gives_the_same_translator():
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(Translator(**SIZES).fit(TERMS, epochs=2).model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    def fit(folder, pairs=TERMS, hooks=()):
        torch.manual_seed(1)
        return Translator(**SIZES).fit(pairs, epochs=3, folder=folder, max_tokens=10, hooks=hooks)

    class Interrupt(Hook):
        def after_train_iter(self, runner):
            if runner.iteration == 5:
                signal.raise_signal(signal.SIGINT)

    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", hooks=[Interrupt()])
    again = fit(tmp_path / "run")
    assert again.history == whole.history
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    others = [*TERMS[:-1], ("the lost function", "损坏函数")]  # as many tokens, other ones
    with pytest.raises(CheckpointError, match="the saved run learned from other pairs"):
        fit(tmp_path / "run", others)


def test_fit_begins_anew():
    translator = Translator(**SIZES).fit(TERMS, epochs=1)
    before = translator.model
    translator.fit(TERMS[:1], epochs=1)
    assert translator.model is not before
    assert len(translator.source_vocabulary) == 4 + 2


def test_sentences_that_leak_are_told():
    with pytest.warns(
        UserWarning, match=r"1 of 2 pairs to judge by have a sentence that is learned from: .*the gradient"
    ):
        translator = Translator(**SIZES).fit(TERMS, [("the gradient", "斜率"), ("loss", "损失")], epochs=1)
    assert translator.history[-1]["val_nll"] > 0


@pytest.mark.parametrize("target", list(TOKENIZERS))
def test_the_other_direction(target):
    torch.manual_seed(0)
    translator = Translator("characters", target, **SIZES, dropout=0.0)
    translator.fit([(b, a) for a, b in TERMS], epochs=60, lr=1e-2, label_smoothing=0.0)
    assert translator.translate("机器学习") == "machine learning"


def test_rare_tokens_are_unknown():
    translator = Translator(min_count=2, **SIZES).fit(TERMS, epochs=1)
    assert sorted(translator.source_vocabulary.tokens) == ["gradient", "learning", "the"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "train must hold a pair at least, got none"),
        ([("a", "甲"), ("b", " ")], r"train must hold pairs of sentences, and pair 1 has an empty side: \('b', ' '\)"),
    ],
)
def test_bad_pairs(train, message):
    with pytest.raises(ValueError, match=message):
        Translator(**SIZES).fit(train)


def test_bad_options(trained):
    with pytest.raises(ValueError, match=r"source must be one of \['words', .*\], got 'letters'"):
        Translator("letters")
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        Translator(min_count=0)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        trained.translate("the gradient", batch_size=0)
    with pytest.raises(ValueError, match="beams must be >= 1, got 0"):
        trained.translate("the gradient", beams=0)


def test_evaluate(trained):
    pytest.importorskip("sacrebleu", reason="the extra bleu is not installed")
    scores = trained.evaluate(TERMS)
    assert scores.bleu == pytest.approx(100)
    assert "tok:zh" in scores.bleu_signature
    wrong = trained.evaluate([(source, "错误") for source, _ in TERMS])
    assert wrong.bleu < 5


@pytest.mark.slow
def test_combinations_that_were_never_learned():
    """The defaults, on the grammar: about half a minute of one core."""
    torch.manual_seed(0)
    train, held_out = grammar()
    translator = Translator().fit(train)
    assert translator.translate("machine learning") == "机器学习"
    translations = translator.translate([source for source, _ in held_out], beams=1)
    right = sum(found == target for found, (_, target) in zip(translations, held_out, strict=True))
    assert right >= 0.85 * len(held_out)


@pytest.mark.parametrize("train", ["abc", [("a", "b", "c")], [("a", None)], [("a",)], ["ab"]])
def test_what_is_no_pair(train, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # no type checker in between
    with pytest.raises(TypeError, match=r"train must hold pairs \(source, target\) of text, and 0 is "):
        Translator(**SIZES).fit(train)


def test_refused_it_keeps_what_it_has_learned():
    translator = Translator(**SIZES).fit(TERMS, epochs=1)
    before = dict(vars(translator))
    for options in ({"lr": -1.0}, {"epochs": 0}, {"max_tokens": 0}, {"folders": "x"}):
        with pytest.raises((ValueError, TypeError)):
            translator.fit([("other words", "别的")], **options)
        assert all(vars(translator)[name] is value for name, value in before.items())


@pytest.mark.parametrize("name", ["src_vocab", "padding_idx", "d_modell"])
def test_sizes_are_the_models(name):
    with pytest.raises(TypeError, match=f"sizes must be arguments of Seq2Seq.*; got {name}"):
        Translator(**{name: 1})


def test_a_vocabulary_without_tokens():
    with pytest.raises(ValueError, match="min_count must leave a token of the source known, and 100 leaves none"):
        Translator(**SIZES, min_count=100).fit(TERMS)


def test_options_are_looked_at_for_nothing_to_translate(trained, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # no type checker in between
    for options, words in (({"beams": 0}, "beams"), ({"beams": 1, "length_penalty": -1.0}, "length_penalty")):
        with pytest.raises(ValueError, match=words), warnings.catch_warnings(action="ignore"):
            trained.translate("", **options)
    with pytest.raises(TypeError, match="beams must be >= 1, and a whole number"):
        trained.translate("the gradient", beams=True)
    for sentences in ([None], b"gradient"):
        with pytest.raises(TypeError, match="sentences must be text, and 0 is "):
            trained.translate(sentences)


def test_a_translator_in_part(tmp_path):
    checkpoint.save(tmp_path / "t.pt", {"kind": "dlnotes translator 1", "source": "words"})
    with pytest.raises(CheckpointError, match=r"t.pt: no whole translator, without target, min_count, sizes"):
        Translator.load(tmp_path / "t.pt")
