r"""Write the skeleton of a chapter and add it to the table of contents.

    python book/_tools/new_chapter.py optimization/momentum      (or: make chapter NAME=optimization/momentum)

The skeleton has every part of a chapter in both languages, with TODO where words or code are wanted. The tests
of the book refuse each TODO, so the chapter passes when it is filled and not before.
"""

import hashlib
import re
import sys
from pathlib import Path

import nbformat
import yaml
from run_notebooks import METADATA, dumps, write

ROOT = Path(__file__).resolve().parents[2]

# One cell begins at each line "=== kind tags…"; en and zh are Markdown cells. KEY is part-name, NAME is name with
# hyphens, REPOSITORY the address. "right=1" says which choice of a question is right, counted from 0.
TEMPLATE = r"""
=== code remove-cell
try:
    import dlnotes
except ModuleNotFoundError:
    %pip install --quiet "dlnotes-course @ git+REPOSITORY"
=== en
# TODO title

TODO two sentences: what the reader cannot do yet, and what this chapter gives. Builds on [the preface](../index.ipynb).
=== zh
# TODO 标题

TODO 两句话：读者现在还做不到什么，这一章给出什么。建议先读[前言](../index.ipynb)。
=== code imports
import torch

from dlnotes import plot
from dlnotes.data import redraw

torch.manual_seed(redraw(0))
plot.style()
=== en part:failure
## TODO the failure that matters

TODO what the plain approach does, which [Figure](#fig-NAME-failure) shows.
=== zh part:failure
## TODO 最要紧的那次失败

TODO 最朴素的做法会怎样，见[图](#fig-NAME-failure)。
=== code hide-input
figure = TODO
plot.show(
    figure,
    en="TODO what was found",
    zh="TODO 看到了什么",
    alt_en="TODO what is drawn",
    alt_zh="TODO 画的是什么",
    name="fig-NAME-failure",
)
=== en question right=1
**Before you read on.** TODO a question whose answer is not above.

- TODO a wrong choice
- TODO the right choice
- TODO another wrong one
=== zh question right=1
**先想一想**。TODO 一个上文没有给出答案的问题。

- TODO 一个错的选项
- TODO 对的选项
- TODO 另一个错的
=== en answer
<details><summary>I have decided: show me</summary>

TODO the answer, with its reason.

</details>
=== zh answer
<details><summary>想好了，看答案</summary>

TODO 答案和道理。

</details>
=== code check
assert TODO, "what the answer claims"
=== en
## TODO the idea, worded for the subject

TODO each symbol where it first appears, with its shape; one step, one pair of cells.

$$
TODO
$$ (eq-KEY-first)
=== zh
## TODO 想法，标题自拟

TODO 符号第一次出现时说明含义和形状；一步一对单元格。

$$
TODO
$$ (eq-KEY-first)
=== en proof
**Proof of TODO.** TODO every step of it; it folds.
=== zh proof
**TODO 的证明**。TODO 每一步都写出来；这一段会折叠。
=== en
TODO the formula in plain PyTorch, symbol for symbol.
=== zh
TODO 用 PyTorch 逐个符号写出公式。
=== code
plain = torch.tensor(TODO)
=== en
TODO the same from `dlnotes`.
=== zh
TODO 换成 `dlnotes` 里的实现。
=== code
from dlnotes.TODO import TODO

ours = TODO
=== code check
torch.testing.assert_close(ours, plain)
=== en deeper
### TODO what goes further

TODO a second experiment; it folds.
=== zh deeper
### TODO 再深入一步

TODO 第二个实验；这一段会折叠。
=== en part:practice
## TODO in practice

TODO the usual defaults, how to choose, when not to, what it costs in time and memory.
=== zh part:practice
## TODO 实践建议

TODO 常用的默认值、怎样选、什么时候不用、花多少时间和内存。
=== code
model = TODO  # ten to twenty lines of plain PyTorch, to copy
=== en part:exercises
## Exercises

TODO three to five, from a one-liner to an open question.
=== zh part:exercises
## 练习

TODO 三到五题，从一行代码到开放问题。
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

TODO a question to be answered in words.
=== zh
### 练习 3：TODO

TODO 用文字回答的问题。
=== en solution
<details><summary>Solution</summary>

TODO the answer.

</details>
=== zh solution
<details><summary>答案</summary>

TODO 答案。

</details>
=== en part:summary
## Summary

- TODO the problem
- TODO the idea
- TODO the formula
- TODO what the experiment showed
=== zh part:summary
## 小结

- TODO 问题
- TODO 想法
- TODO 公式
- TODO 实验说明了什么
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


def skeleton(name, repository, template=TEMPLATE):
    """The notebook of the chapter `name` ("part/chapter"), every place to fill marked TODO."""
    cells = []
    for number, text in enumerate(template.split("\n=== ")[1:]):
        head, _, source = text.partition("\n")
        kind, *tags = head.split()
        for word, value in (("KEY", name.replace("/", "-")), ("REPOSITORY", repository)):
            source = source.replace(word, value)
        source = source.strip("\n").replace("fig-NAME", f"fig-{name.split('/')[1].replace('_', '-')}")
        metadata = {key: int(value) for key, _, value in (tag.partition("=") for tag in tags) if value}
        tags = [tag for tag in tags if "=" not in tag]
        if kind == "code":
            cell = nbformat.v4.new_code_cell(source)
        else:
            cell = nbformat.v4.new_markdown_cell(source)
            tags = [f"lang-{kind}", *tags]
        cell.id = hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:8]  # the same on every machine
        cell.metadata = nbformat.from_dict(({"tags": tags} if tags else {}) | metadata)
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))


def add_to_contents(contents, name):
    """`_toc.yml`'s text with the chapter after the last one of its part, or None where the part is not there yet.

    Edited as text, so that comments and order stay.
    """
    folder = name.split("/")[0]
    entries = list(re.finditer(rf"^( *- file: *){folder}/\S+ *\n?", contents, flags=re.M))
    if not entries:
        return None
    last = entries[-1]
    before = contents[: last.end()].rstrip("\n")
    return f"{before}\n{last[1]}{name}\n{contents[last.end() :]}"


def new_chapter(name, root=ROOT):
    """Create `book/<name>.ipynb` below `root`; returns what to tell the author. Raises ValueError for a bad name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", name):
        raise ValueError(f"name must be part/chapter in small letters, digits and _, got {name!r}")
    path = root / "book" / f"{name}.ipynb"
    if path.exists():
        raise ValueError(f"{path} exists already; it is not overwritten")
    repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(skeleton(name, repository)), encoding="utf-8", newline="\n")
    toc = root / "_toc.yml"
    contents = add_to_contents(toc.read_text(encoding="utf-8"), name)
    if contents is None:
        added = f"{toc} has no part for {name.split('/')[0]} yet: add one with the entry '- file: {name}'"
    else:
        write(toc, contents)
        added = f"added to {toc}"
    return f"{path} written; {added}.\nFill in every TODO, then: make notebooks FILES={path}, make check FILES={path}."


def main(arguments):
    if len(arguments) != 1:
        return f"usage: {Path(__file__).name} part/chapter"
    try:
        print(new_chapter(arguments[0]))
    except ValueError as error:
        return f"new_chapter: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
