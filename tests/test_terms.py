"""The terms of the book are data, and the book keeps them; every rule about words finds its planted faults."""

import re

import book_rules
import nbformat
import pytest
import yaml
from book_reading import CONFIG, ROOT, book_notebooks
from nbformat.v4 import new_markdown_cell, new_notebook
from term_rules import RULES, TERMS
from terms import HEADINGS, Terms, english_texts, load, pattern

BOOK = ROOT / CONFIG["repository"]["path_to_book"]
NAMES = [path.relative_to(BOOK).with_suffix("").as_posix() for path in book_notebooks()]


# ---- the book


@pytest.mark.parametrize("name", NAMES)
def test_notebook_keeps_the_rules_about_words(name):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    faults = [f"{fault} [{rule}]" for rule, check in RULES.items() for fault in check(notebook)]
    assert not faults, f"{len(faults)} faults in {name}:\n  " + "\n  ".join(faults)


# ---- the data


def test_no_english_form_belongs_to_two_terms():
    forms = [form.lower() for term in TERMS for form in term.en]
    assert sorted(forms) == sorted(set(forms))


def test_what_is_said_is_not_refused():
    refused = {word for term in TERMS for word in term.refused}
    said = {form for term in TERMS if not term.everyday for form in term.chinese}
    assert not [(form, word) for form in said for word in refused if word in form]


def test_chinese_is_chinese_and_english_is_english():
    for term in TERMS:
        assert not re.search(r"[\u3400-\u9fff]", "".join(term.en))
        assert all(re.search(r"[\u3400-\u9fff]", word) for word in term.refused)
        assert not set(term.chinese) & set(term.refused)


@pytest.mark.parametrize(
    ("word", "leads_to"),
    [("黑塞矩阵", "海森矩阵"), ("批大小", "批量大小"), ("学习速率", "学习率"), ("microbatch", "micro-batch")],
)
def test_synonyms_lead_to_the_term(word, leads_to):
    assert TERMS.synonyms()[word] == leads_to


def test_a_synonym_leads_to_no_other_synonym():
    words = TERMS.synonyms()
    assert not {word: to for word, to in words.items() if words.get(to.lower(), to) != to}


@pytest.mark.parametrize("entry", [{"en": "loss"}, {"zh": "损失"}, {"en": "loss", "zh": "损失", "see": "x"}])
def test_an_entry_that_is_no_term_is_named(entry, tmp_path):
    (tmp_path / "terms.yml").write_text(yaml.safe_dump([entry], allow_unicode=True), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^terms.yml: .*(?:zh|en|see)"):
        load(tmp_path / "terms.yml")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("batch", "batches"), ("matrix", "matrices"), ("minimum", "minima"), ("vocabulary", "vocabularies"),
        ("learning rate", "learning-rate"), ("mini-batch", "mini batches"), ("loss", "losses"), ("bias", "bias"),
        ("EMA", "EMA"), ("eigenvalue", "Eigenvalues"), ("key", "keys"),
    ],
)  # fmt: skip
def test_forms_are_found_with_their_plurals(form, text):
    assert re.fullmatch(pattern(form), text, flags=re.I)


def test_the_longest_form_is_taken():
    found = [
        term.name for _, term in TERMS.used("The batch size, a batch, the critical batch sizes; batched; minibatch.")
    ]
    assert found == ["batch size", "batch", "critical batch size", "mini-batch"]


def test_a_word_inside_another_is_no_term():
    assert not TERMS.used("hooked unhooks lossy a-batch-of")


def test_the_first_chapter_of_a_term_is_found():
    loss, rate = (next(term for term in TERMS if term.name == name) for name in ("loss", "learning rate"))
    assert Terms([loss, rate]).first({"b": "Losses.", "a": "A loss, a learning rate."}) == {loss: "b", rate: "a"}
    texts = english_texts()
    assert set(texts) == set(NAMES) - {"index"}
    first = TERMS.first(texts)
    assert list(texts).index(first[loss]) == 0
    assert first[rate] == next(name for name, text in texts.items() if re.search(r"learning[- ]rate", text, re.I))


# ---- the rules


def cells(en, zh, *tags):
    return [
        new_markdown_cell(text, metadata={"tags": [f"lang-{lang}", *tags]}) for lang, text in (("en", en), ("zh", zh))
    ]


def book(*pairs):
    """A notebook of pairs of cells."""
    return new_notebook(cells=[cell for pair in pairs for cell in cells(*pair)])


DERIVATION = ("## Derivation", "## 推导", "part:derivation")
FAULTS = [
    ("terms_agree", book(("The learning rate.", "学习的速度。"))),
    ("terms_agree", book(("Learning-rates.", "学习的速度。"))),
    ("terms_agree", book(("A *saddle* **point**.", "马鞍形的地方。"))),
    ("terms_agree", book(("## A\n\nThe Hessian.", "## 甲\n\n二阶导数。"), ("## B\n\nIt.", "## 乙\n\n海森矩阵。"))),
    ("terms_agree", book(("## A\n\nIts variance.\n\n## B\n\nSo.", "## 甲\n\n波动。\n\n## 乙\n\n方差。"))),
    ("terms_agree", book(("| a |\n| --- |\n| dropout |", "| 甲 |\n| --- |\n| 失活 |"))),
    ("refused_words_are_not_written", book(("So.", "取小批次。"))),
    ("refused_words_are_not_written", book(("So.", "这个程序包和那个程序库。"))),
    ("refused_words_are_not_written", book(("So.", "**黑塞矩阵**。"))),
    ("stationary_points_are_named", book(("So.", "驻点。\n\n到了临界点。"))),
    ("pictures_of_digits_are_samples", book(("So.", "取 256 个数字。"))),
    ("pictures_of_digits_are_samples", book(("So.", "450 个测试数字。"))),
    ("equations_are_called_equations", book(("So.", "由 {eq}`a` 得。"))),
    ("equations_are_called_equations", book(("So.", "{eq}`a` 成立。"))),
    ("equations_are_called_equations", book(("So.", "用短的形式 {eq}`a`。"))),
    ("equations_are_called_equations", book(("So.", "见式 {eq}`a`，又由 {eq}`b`。"))),
    ("full_stops_follow_quotations", book(("So.", "“就是这样。”他说。"))),
    ("full_stops_follow_quotations", book(("So.", "“**就是这样**。”他说。"))),
    ("full_stops_follow_quotations", book(("So.", "叫“动量，”记作 $m$。"))),
    ("chinese_has_no_spare_space", book(("So.", "这是 **重点**。"))),
    ("chinese_has_no_spare_space", book(("So.", "“误解”。这是“重点” 吗？"))),
    ("parts_have_their_headings", book(DERIVATION, ("## Failure", "## 失败", "part:failure"))),
    ("parts_have_their_headings", book(("## Break it", "## 弄坏它", "part:break"))),
    ("parts_have_their_headings", book(("## Summary", "## 小结一下", "part:summary"))),
    ("parts_have_their_headings", book(("Summary", "小结", "part:summary"))),
]
RIGHT = [
    book(("The learning rate. It is small.", "它很小。"), ("So.", "学习率就是这样。")),  # Chinese may name it later
    book(("Gradient accumulation.", "把梯度累积起来。")),
    book(("`batch_size`, $\\text{batch}$ and {ref}`dropout`.", "几句话。")),
    book(("[Critical points](critical_points.ipynb) first.", "先读[那一章](critical_points.ipynb)。")),
    book(("The value of a key.", "几句话。")),
    book(("A hooked, lossy thing.", "几句话。")),
    book(("So.", "驻点，也叫临界点。**Adam** 的 $x$ **方向**，`a` 与 b。")),
    book(("So.", "在十个数字里猜；前六位数字；数字 3；手写数字。")),
    book(("So.", "由式 {eq}`a`、{eq}`b` 和 {eq}`c`，见图（式 {eq}`d`）；上式 {eq}`e`。")),
    book(("So.", "“真的吗？”他问。叫“动量”。“**误解**”。不对。")),
    book(DERIVATION, ("## A", "## 先看一次失败：一个小坑", "part:failure")),
    book(("## A", "## 一个小坑", "part:failure"), ("## B", "## 实验：拔掉电源", "part:experiment")),
    book(("## A", "## 小结", "part:summary"), ("## B", "## 想法自拟")),
]


@pytest.mark.parametrize(("rule", "notebook"), FAULTS, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(FAULTS)])
def test_planted_fault_is_found(rule, notebook):
    assert RULES[rule](notebook), f"{rule} does not see the fault"


def test_every_rule_has_a_planted_fault():
    assert set(RULES) == {rule for rule, _ in FAULTS}


@pytest.mark.parametrize("notebook", RIGHT)
def test_what_is_right_is_no_fault(notebook):
    assert not [f"{fault} [{rule}]" for rule, check in RULES.items() for fault in check(notebook)]


def test_a_fault_names_the_words_and_the_cure():
    (fault,) = RULES["terms_agree"](book(("The *saddle points*.", "马鞍形的地方。")))
    assert "'saddle points'" in fault
    assert "['鞍点']" in fault
    (fault,) = RULES["refused_words_are_not_written"](book(("So.", "取 $B$ 个小批次。")))
    assert "'小批次' in '取 $…$ 个小批次。'" in fault
    assert "小批量" in fault or "微批次" in fault


def test_every_part_has_its_heading():
    assert set(book_rules.PARTS) <= set(HEADINGS)
