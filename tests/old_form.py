"""The skeleton of the old form, as the chapters of OLD_FORM have it; it goes when the last of them does."""

# One cell begins at each line "=== kind tags…"; en and zh are Markdown cells. KEY is part-name, REPOSITORY the address.
TEMPLATE = r"""
=== code remove-cell
try:
    import dlnotes
except ModuleNotFoundError:
    %pip install --quiet "dlnotes-course @ git+REPOSITORY"
=== en
# TODO title

TODO one sentence: what you can do after this chapter.

**Before you start**: TODO what to know, as links to chapters, such as [the preface](../index.ipynb).
=== zh
# TODO 标题

TODO 一句话：读完这一章你能做什么。

**先修内容**：TODO 需要先读的章节链接，例如 [前言](../index.ipynb)。
=== code
import inspect

import torch

from dlnotes import plot

torch.manual_seed(0)
TODO = None  # delete this line when the last TODO below is gone
=== en part:failure
## A failure you can see

TODO the plain approach, and what you expect of it.
=== zh part:failure
## 先看一次失败

TODO 先用最朴素的做法，并说出预期。
=== code
print(TODO)
=== en
TODO what went wrong.
=== zh
TODO 哪里出了错。
=== en part:symbols
## Symbols and shapes

TODO every symbol, what it is, its shape; a table reads well.
=== zh part:symbols
## 符号与形状

TODO 每个符号的含义与形状，用表格更清楚。
=== en part:derivation
## Derivation

TODO the first step, in words and as an equation.

$$
TODO
$$ (eq-KEY-first)
=== zh part:derivation
## 推导

TODO 第一步，先说想法，再写公式。

$$
TODO
$$ (eq-KEY-first)
=== en
TODO the next step; one step, one pair of cells, every equation labelled.

$$
TODO
$$ (eq-KEY-second)
=== zh
TODO 下一步。一步一对单元格，每个公式都有标签。

$$
TODO
$$ (eq-KEY-second)
=== en part:by-hand
## By hand

TODO a tiny example: six numbers at most, checkable on paper.
=== zh part:by-hand
## 手算一遍

TODO 一个小例子：最多六个数，纸上就能验证。
=== code nbval-check-output
print(TODO)
=== en part:plain
## In plain PyTorch

TODO the formula in code, symbol for symbol.
=== zh part:plain
## 用 PyTorch 直接写

TODO 把公式逐个符号写成代码。
=== code
plain = torch.tensor(TODO)
=== en part:package
## From the package

TODO the same from `dlnotes`: its source, and that the two agree.
=== zh part:package
## 改用课程的库

TODO 换成 `dlnotes` 里的实现，读它的源码，并验证两者一致。
=== code
from dlnotes.TODO import TODO

print(inspect.getsource(TODO))
torch.testing.assert_close(TODO, plain)
=== en part:experiment
## Experiment

TODO predict first; then run, plot and read.
=== zh part:experiment
## 实验

TODO 先预测，再运行、作图、读图。
=== code
assert TODO
plot.show(TODO, en="TODO", zh="TODO")
=== en
TODO what the figure shows, and what it does not.
=== zh
TODO 图说明了什么，没有说明什么。
=== en part:explore
## Explore

TODO what to move, and what to look for.
=== zh part:explore
## 动手试试

TODO 调什么，看什么。
=== code
plot.explorer(TODO, {"TODO": [TODO]}, en="TODO", zh="TODO", labels={"TODO": ("TODO", "TODO")})
=== en part:break
## Break it

TODO take one ingredient away and watch.
=== zh part:break
## 拿掉一样东西

TODO 去掉一个要素，看会发生什么。
=== code
print(TODO)
=== en part:misreadings
## Common misreadings

TODO where implementations differ, and what is often misread.
=== zh part:misreadings
## 常见误解

TODO 各家实现的差别，以及常见的误解。
=== en part:exercises
## Exercises

TODO three to five, from a one-liner to an open question. The solution is folded below each.
=== zh part:exercises
## 练习

TODO 三到五题，从一行代码到开放问题。每题下面折叠着答案。
=== en
### Exercise 1: TODO

TODO the task.
=== zh
### 练习 1：TODO

TODO 题目。
=== code hide-cell
assert TODO
=== en
### Exercise 2: TODO

TODO the task.
=== zh
### 练习 2：TODO

TODO 题目。
=== code hide-cell
assert TODO
=== en
### Exercise 3: TODO

TODO the task.
=== zh
### 练习 3：TODO

TODO 题目。
=== code hide-cell
assert TODO
=== en part:summary
## Summary

- TODO the problem
- TODO the idea
- TODO the formula
- TODO what the experiment showed
- TODO what to remember
=== zh part:summary
## 小结

- TODO 问题
- TODO 想法
- TODO 公式
- TODO 实验说明了什么
- TODO 要记住什么
=== en part:sources
## Sources

TODO which idea comes from where, such as {cite}`TODO`.

```{bibliography}
:filter: docname in docnames
```
=== zh part:sources
## 参考来源

TODO 哪个想法出自哪里，例如 {cite}`TODO`。

```{bibliography}
:filter: docname in docnames
```
"""
