"""`--fix` sets Chinese as the rules want it, and touches nothing else."""

import nbformat
import prose_rules
import pytest
from book_reading import book_notebooks, language
from chinese import fix
from nbformat.v4 import new_markdown_cell, new_notebook


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("用SGD训练3步，学习率$x$太大。", "用 SGD 训练 3 步，学习率 $x$ 太大。"),
        ("调用`step`的时候", "调用 `step` 的时候"),
        ("**学习率**Adam和**Adam**的", "**学习率** Adam 和 **Adam** 的"),
        ("见[Adam](a.ipynb)的[前言](b.ipynb)Adam", "见 [Adam](a.ipynb) 的[前言](b.ipynb) Adam"),
        ("先看公式,再看图. 为什么?", "先看公式，再看图。为什么？"),
        ("公式 $x$, 再看图。", "公式 $x$，再看图。"),
        ("用 SGD. 再看图。", "用 SGD。再看图。"),
        ("损失(loss)和(见图)", "损失（loss）和（见图）"),
        ('叫作"动量"。', "叫作“动量”。"),
        ("先看公式， $x$ 。", "先看公式，$x$。"),
        ("**重点：** 内容**重点。**", "**重点**：内容**重点**。"),
        ("- （甲）\n- 乙,丙\n\n1. 丁:戊\n\n> 己;庚", "- （甲）\n- 乙，丙\n\n1. 丁：戊\n\n> 己；庚"),
        ("| 甲 | （乙） |\n| --- | --- |\n| 用SGD | 3:1 |", "| 甲 | （乙） |\n| --- | --- |\n| 用 SGD | 3:1 |"),
    ],
)
def test_spaces_and_punctuation_are_mended(source, expected):
    assert fix(source) == expected
    assert fix(expected) == expected


@pytest.mark.parametrize(
    "source",
    [
        "```python\nx=1  # 用SGD训练,好\n```",
        "$$\n\\text{用SGD}\n$$ (eq-a)",
        "见 `用SGD` 和 $\\text{用SGD}$。",
        "见{eq}`eq-a`，{cite}`a2000`。",
        "(label)=\n## 标题",
        "<details><summary>想好了，看答案</summary>\n\n好。\n\n</details>",
        ":::{note}\n:class: 用SGD\n好。\n:::",
        "比例是 3:1，形状 `(N, D)`，公式 $f(x), g(x)$，[图](#fig-a) 里。",
        "```{bibliography}\n:filter: docname in docnames\n```",
        "从 \\$5 到 \\$6。",
    ],
)
def test_what_is_right_or_no_prose_stays(source):
    assert fix(source) == source


def test_the_rules_find_nothing_after_it():
    plants = ["用SGD训练。", "第3步。", "学习率$x$太大。", "调用`step`。", "**学习率**Adam。", "先看公式,再看图。",
              "先看公式, 再看图。", "公式 $x$, 再看图。", "用 SGD. 再看图。", "损失(loss)。", "为什么?", '叫作"动量"。',
              "先看公式， $x$。", "这是**重点：** 内容。"]  # fmt: skip
    for source in plants:
        cell = new_markdown_cell(fix(source), metadata={"tags": ["lang-zh"]})
        notebook = new_notebook(cells=[cell])
        for rule in (
            prose_rules.chinese_is_spaced,
            prose_rules.chinese_punctuation_is_full_width,
            prose_rules.bold_renders,
        ):
            assert rule(notebook) == [], cell.source


@pytest.mark.parametrize("path", book_notebooks(), ids=lambda path: path.stem)
def test_chapters_that_keep_the_rules_stay_as_they_are(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if language(cell) == "zh":
            assert fix(cell.source) == cell.source
