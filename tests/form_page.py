"""A chapter of the new form with every tag, built from figures of the package as a run would store them."""

import matplotlib.pyplot as plt
from chapters import code_hash
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dlnotes import plot
from dlnotes.figures.table import table_bundle


def pair(en, zh, *tags, **metadata):
    """An English cell and its Chinese partner."""
    return [
        new_markdown_cell(text, metadata={"tags": [f"lang-{lang}", *tags], **metadata})
        for lang, text in (("en", en), ("zh", zh))
    ]


def code(source, *tags, outputs=(), **fields):
    """A code cell that has run."""
    data = [new_output("display_data", data=bundle) for bundle in outputs]
    return new_code_cell(source, outputs=data, execution_count=1, metadata={"tags": list(tags)}, **fields)


def figure(slope, name=None):
    """The outputs of `plot.show`."""
    with plot.style():
        drawing, ax = plt.subplots(figsize=(5, 2.6))
        ax.plot([0, 1, 2], [0, slope, 2 * slope], label="$w$")
        ax.legend()
    plt.close(drawing)
    caption = {"en": f"It rises {slope} a step.", "zh": f"每步升高 {slope}。"}
    alternative = {"alt_en": "A straight line.", "alt_zh": "一条直线。"}
    return plot.bundles(drawing, **caption, **alternative, name=name)


def explorer():
    """The output of `plot.explorer`."""

    def draw(rate):
        drawing = plt.figure(figsize=(5, 2.6))
        drawing.subplots().plot([0, 1], [0, rate])
        return drawing

    words = {"en": "Drag the rate.", "zh": "拖动学习率。", "alt_en": "A line.", "alt_zh": "一条线。"}
    labels = {"rate": ("Rate", "学习率")}
    return [
        {"text/html": plot.explorer(draw, {"rate": [0.1, 0.2]}, labels=labels, name="fig-rate", **words).html,
         "text/plain": "x"}
    ]  # fmt: skip


def table():
    """The output of `plot.table`."""
    rows = [[("Momentum", "动量"), 0.123, 41], ["Adam", 0.2, 7]]
    caption = ("Momentum is first.", "动量最快。")
    return [table_bundle(rows, ["rule", "final loss", "steps"], ["规则", "最终损失", "步数"], caption, "tab-rules")]


def page(name="training/form"):
    """The notebook and its redraw record."""
    answer = "<details><summary>{}</summary>\n\n{}\n\n</details>"
    asked = "I have decided: show me"
    key = name.replace("/", "-")
    cells = [
        new_code_cell("import dlnotes", metadata={"tags": ["remove-cell"]}),
        *pair("# Momentum\n\nA memory. See [this](/index.ipynb).", "# 动量\n\n带上记忆。先读[前言](/index.ipynb)。"),
        code("import torch\n\nfrom dlnotes import plot", "imports"),
        code("torch.ones(1)", "imports"),
        *pair(
            "## Creeping\n\n[Figure](#fig-slope) shows it, [Table](#tab-rules) the numbers, [Figure](#fig-rate) more.",
            "## 慢慢挪\n\n[图](#fig-slope)画出过程，数字见[表](#tab-rules)，[图](#fig-rate)还能拖动。",
            "part:failure",
        ),
        code("plot.show(figure)", "hide-input", outputs=figure(1, "fig-slope")),
        code("assert 1 < 2\ntorch.testing.assert_close(a, b)\nassert c", "check", id="checkone"),
        *pair(
            "**Before you read on.** Along the valley the gradient keeps its sign $s$. How long do steps become?\n\n"
            "- both ten times as long\n- along: ten times, across: $1/1.9$, about half\n- **none** of these",
            "**先想一想。** 顺着谷底，梯度的符号 $s$ 一直不变。步子各有多长？\n\n"
            "- 都是十倍\n- 顺着谷底十倍，横跨 $1/1.9$，约一半\n- **都不是**",
            "question",
            right=1,
        ),
        *pair(
            answer.format(asked, "Along it they add up to $1 + 0.9 + \\cdots = 10$.\n\n$$\nx = 1\n$$"),
            answer.format("想好了，看答案", "顺着谷底加起来是 $1 + 0.9 + \\cdots = 10$。\n\n$$\nx = 1\n$$"),
            "answer",
        ),
        code("plot.show(other)\nprint(1)", "answer", outputs=figure(2)),
        code("assert True", "check"),
        *pair("### A number\n\nHow many steps?", "### 一个数\n\n要几步？", "question", right=[9, 11]),
        *pair("Ten.", "十步。", "answer"),
        *pair("How long will it take? Take a guess.", "要多久？猜一猜。", "question"),
        *pair("Long.", "很久。", "answer"),
        *pair(
            f"## The length\n\nBy the lemma,\n\n$$\ny = x\n$$ (eq-{key}-a)",
            f"## 长度\n\n由引理，\n\n$$\ny = x\n$$ (eq-{key}-a)",
        ),
        *pair(
            f"**Proof of the descent lemma for $L$.** First,\n\n$$\ny = z\n$$ (eq-{key}-b)\n\n#### A step\n\nSo it is.",
            f"**下降引理的证明，对 $L$。**\n\n先看\n\n$$\ny = z\n$$ (eq-{key}-b)\n\n#### 一步\n\n于是得证。",
            "proof",
        ),
        code("print(2)", "proof"),
        *pair(f"It ends in {{eq}}`eq-{key}-b`.", f"最后是式 {{eq}}`eq-{key}-b`。", "proof"),
        *pair("### Two dents\n\nA second experiment.", "### 两个坑\n\n第二个实验。", "deeper"),
        code("plot.explorer(draw)", "deeper", outputs=explorer()),
        *pair("### Three dents\n\nA third.", "### 三个坑\n\n第三个。", "deeper"),
        *pair("Does it hold?\n\n- yes\n- no", "还成立吗？\n\n- 成立\n- 不成立", "deeper", "question", right=0),
        *pair("Yes.", "成立。", "deeper", "answer"),
        code("plot.table(rows)", outputs=table()),
        *pair("## Practice\n\nThe code.", "## 实践\n\n代码。", "part:practice"),
        code("rule = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\nfor x, y in data:\n    step(x, y)"),
        *pair("## Exercises\n\n**Exercise 1**. Why?", "## 练习\n\n**练习 1**。为什么？", "part:exercises"),
        *pair(answer.format("Solution", "Because."), answer.format("答案", "因为。"), "solution"),
        code("assert 1", "hide-cell"),
    ]  # fmt: skip
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    notebook = new_notebook(cells=cells, metadata=metadata)
    return notebook, {"offsets": 10, "held": {"checkone": 9}, "source": code_hash(notebook)}
