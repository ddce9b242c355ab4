r"""English and Chinese to learn from without a download: a grammar of technical sentences, and the course's terms.

The grammar puts some fifty terms, sixteen verbs and fifteen adjectives into thirty forms that Chinese orders
differently: adverbs and conditions before the verb, comparisons before the adjective, questions without inversion.
The sentences are grammatical; few are true.
"""

import random
from pathlib import Path
from typing import NamedTuple

from dlnotes.arguments import check_whole
from dlnotes.pairs import Pair, read_pairs

LARGEST = 100_000  # far below what the grammar has


class Noun(NamedTuple):
    r"""A term as it stands in a sentence.

    >>> NOUNS[0]
    Noun(en='machine learning', zh='机器学习', plural=False)
    """

    en: str
    zh: str
    plural: bool


def _nouns(words: str, plural: bool = False) -> list[Noun]:
    pairs = (word.strip().partition("=") for word in words.split(","))
    return [Noun(english, chinese, plural) for english, _, chinese in pairs]


NOUNS = [
    *_nouns("machine learning=机器学习, deep learning=深度学习, transfer learning=迁移学习, attention=注意力"),
    *_nouns("self-attention=自注意力, gradient descent=梯度下降, backpropagation=反向传播, momentum=动量"),
    *_nouns("batch normalisation=批归一化, layer normalisation=层归一化, weight decay=权重衰减, dropout=丢弃法"),
    *_nouns("data augmentation=数据增强, early stopping=早停, label smoothing=标签平滑, mixed precision=混合精度"),
    *_nouns("overfitting=过拟合, generalisation=泛化, regularisation=正则化, convolution=卷积"),
    *_nouns("teacher forcing=教师强制, beam search=束搜索, greedy decoding=贪心解码, gradient clipping=梯度裁剪"),
    *_nouns("the learning rate=学习率, the loss function=损失函数, the optimizer=优化器, the encoder=编码器"),
    *_nouns("the decoder=解码器, the batch size=批量大小, the training set=训练集, the validation set=验证集"),
    *_nouns("the neural network=神经网络, the model=模型, the gradient=梯度, the vocabulary=词表"),
    *_nouns("the causal mask=因果掩码, the positional encoding=位置编码, the embedding=嵌入, the translator=翻译器"),
    *_nouns("the residual connection=残差连接, the hidden layer=隐藏层, the feed-forward network=前馈网络"),
    *_nouns("the weights=权重, the parameters=参数, the labels=标签, the features=特征", plural=True),
    *_nouns("the hyperparameters=超参数, the predictions=预测, the tokens=词元, the data=数据", plural=True),
]
# a part of something: “the size of the model”, 模型的规模
PARTS = [
    ("size", "规模"),
    ("quality", "质量"),
    ("speed", "速度"),
    ("cost", "成本"),
    ("variance", "方差"),
    ("role", "作用"),
]
# as in “we use”, “it uses”, “it is used”
VERBS = [
    ("use", "uses", "used", "使用"), ("improve", "improves", "improved", "改进"), ("need", "needs", "needed", "需要"),
    ("replace", "replaces", "replaced", "取代"), ("change", "changes", "changed", "改变"),
    ("limit", "limits", "limited", "限制"), ("control", "controls", "controlled", "控制"),
    ("compute", "computes", "computed", "计算"), ("explain", "explains", "explained", "解释"),
    ("simplify", "simplifies", "simplified", "简化"), ("accelerate", "accelerates", "accelerated", "加速"),
    ("measure", "measures", "measured", "衡量"), ("choose", "chooses", "chosen", "选择"),
    ("influence", "influences", "influenced", "影响"), ("describe", "describes", "described", "描述"),
    ("test", "tests", "tested", "测试"),
]  # fmt: skip
ADJECTIVES = [
    ("large", "larger", "大"), ("small", "smaller", "小"), ("fast", "faster", "快"), ("slow", "slower", "慢"),
    ("stable", "more stable", "稳定"), ("simple", "simpler", "简单"), ("accurate", "more accurate", "准确"),
    ("important", "more important", "重要"), ("expensive", "more expensive", "昂贵"), ("smooth", "smoother", "平滑"),
    ("sparse", "sparser", "稀疏"), ("deep", "deeper", "深"), ("useful", "more useful", "有用"),
    ("reliable", "more reliable", "可靠"), ("complex", "more complex", "复杂"),
]  # fmt: skip
ADVERBS = [("often", "经常"), ("always", "总是"), ("rarely", "很少"), ("never", "从不"), ("sometimes", "有时")]
# a, b: two terms, which differ; is, does, helps, verbs: agree with a, is_b with b; it: a's pronoun; verb, done; other:
# a second verb; adj, more; more2: of a second adjective. With a stroke below: the Chinese word.
FORMS = [
    ("{a} {verbs} {b}.", "{a_}{verb_}{b_}。"),
    ("{a} {does} not {verb} {b}.", "{a_}不{verb_}{b_}。"),
    ("{a} {adverb} {verbs} {b}.", "{a_}{adverb_}{verb_}{b_}。"),
    ("{does} {a} {verb} {b}?", "{a_}{verb_}{b_}吗？"),
    ("why {does} {a} {verb} {b}?", "为什么{a_}{verb_}{b_}？"),
    ("when {does} {a} {verb} {b}?", "{a_}什么时候{verb_}{b_}？"),
    ("{a} {is} {more} than {b}.", "{a_}比{b_}更{adj_}。"),
    ("{a} {is} as {adj} as {b}.", "{a_}和{b_}一样{adj_}。"),
    ("{a} {is} not as {adj} as {b}.", "{a_}没有{b_}那么{adj_}。"),
    ("{a} {is} too {adj} for {b}.", "对{b_}来说，{a_}太{adj_}。"),
    ("{a} {is} {done} by {b}.", "{a_}被{b_}{verb_}。"),
    ("we {verb} {a} with {b}.", "我们用{b_}{verb_}{a_}。"),
    ("we {verb} {a} before we {other} {b}.", "我们在{other_}{b_}之前{verb_}{a_}。"),
    ("{a} {helps} us {verb} {b}.", "{a_}帮助我们{verb_}{b_}。"),
    ("i think that {a} {verbs} {b}.", "我认为{a_}{verb_}{b_}。"),
    ("{a} {verbs} {b} because {it} {is} {adj}.", "{a_}{verb_}{b_}，因为{it_}很{adj_}。"),
    ("if {a} {is} {adj}, {b} {is_b} {more2}.", "如果{a_}很{adj_}，{b_}就更{adj2_}。"),
    ("without {a}, {b} {is_b} not {adj}.", "没有{a_}，{b_}就不{adj_}。"),
    ("the {more} {a} {is}, the {more2} {b} {is_b}.", "{a_}越{adj_}，{b_}就越{adj2_}。"),
    ("both {a} and {b} are {adj}.", "{a_}和{b_}都很{adj_}。"),
    ("neither {a} nor {b} {is_b} {adj}.", "{a_}和{b_}都不{adj_}。"),
    ("what is the difference between {a} and {b}?", "{a_}和{b_}有什么区别？"),
    ("use {a} instead of {b}.", "请用{a_}代替{b_}。"),
    ("this chapter explains {a} and {b}.", "本章解释{a_}和{b_}。"),
]
# of one term, to learn from only
ALONE = [
    ("{a} {is} {adj}.", "{a_}很{adj_}。"),
    ("{a} {is} not {adj}.", "{a_}不{adj_}。"),
    ("{is} {a} {adj}?", "{a_}{adj_}吗？"),
    ("how {adj} {is} {a}?", "{a_}有多{adj_}？"),
    ("what {is} {a}?", "什么是{a_}？"),
    ("we {verb} {a}.", "我们{verb_}{a_}。"),
]


def grammar(train: int = 4000, held_out: int = 300, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    r"""Sentences to learn from, and others that combine two terms which no sentence learned from has together.

    The first pairs of the training part are the terms by themselves. About a tenth of all pairs of terms is kept for
    the held-out part; every term and every word stands in the training part too, if that has some hundred sentences.

    Args:
        train: how many pairs to learn from, at least the number of terms; default 4000.
        held_out: how many others, default 300.
        seed: of the choice, default 0; the same numbers give the same sentences everywhere.

    Raises:
        ValueError, TypeError: a number is too small, not whole, or the two are more than 100 000 together.

    >>> train, held_out = grammar()
    >>> len(train), train[0]
    (4000, ('machine learning', '机器学习'))
    >>> english, chinese = held_out[0]
    >>> print(english, chinese)
    The size of the learning rate tests the predictions because it is complex. 学习率的规模测试预测，因为它很复杂。
    """
    check_whole("train", train, len(NOUNS))
    check_whole("held_out", held_out, 0)
    if train + held_out > LARGEST:
        raise ValueError(f"train and held_out must be {LARGEST} together at most, got {train + held_out}")
    rng = random.Random(seed)
    known = {(noun.en.removeprefix("the "), noun.zh): None for noun in NOUNS}
    unseen: dict[Pair, None] = {}
    while len(known) < train or len(unseen) < held_out:
        first, second = rng.sample(range(len(NOUNS)), 2)
        kept = (min(first, second) + 2 * max(first, second)) % 10 == 0
        part, size = (unseen, held_out) if kept else (known, train)
        sentence = _sentence(rng, NOUNS[first], NOUNS[second], FORMS if kept else [*FORMS, *ALONE])
        if len(part) < size:
            part[sentence] = None
    return list(known), list(unseen)


def glossary() -> list[Pair]:
    r"""The course's terms, English and Chinese.

    >>> ("gradient descent", "梯度下降") in glossary()
    True
    """
    return read_pairs(Path(__file__).with_name("glossary.tsv"))


def _sentence(rng: random.Random, a: Noun, b: Noun, forms: list[Pair]) -> Pair:
    a, b = (_part(rng, noun) for noun in (a, b))
    (verb, third, done, verb_), other = rng.sample(VERBS, 2)
    (adj, more, adj_), (_, more2, adj2_) = rng.sample(ADJECTIVES, 2)
    adverb, adverb_ = rng.choice(ADVERBS)
    words = {
        "a": a.en, "a_": a.zh, "b": b.en, "b_": b.zh, "adverb": adverb, "adverb_": adverb_,
        "verb": verb, "verbs": verb if a.plural else third, "done": done, "verb_": verb_,
        "other": other[0], "other_": other[3], "adj": adj, "more": more, "adj_": adj_, "more2": more2, "adj2_": adj2_,
        "is": _agree(a, "is", "are"), "is_b": _agree(b, "is", "are"), "does": _agree(a, "does", "do"),
        "helps": _agree(a, "helps", "help"), "it": _agree(a, "it", "they"), "it_": _agree(a, "它", "它们"),
    }  # fmt: skip
    english, chinese = rng.choice(forms)
    sentence = english.format_map(words)
    return sentence[0].upper() + sentence[1:], chinese.format_map(words)


def _part(rng: random.Random, noun: Noun) -> Noun:
    """The noun, or in one case of five a part of it."""
    if rng.random() < 0.8:
        return noun
    en, zh = rng.choice(PARTS)
    return Noun(f"the {en} of {noun.en}", f"{noun.zh}的{zh}", plural=False)


def _agree(noun: Noun, singular: str, plural: str) -> str:
    return plural if noun.plural else singular
