r"""The editions of the book and the words that their pages' frame uses."""

from sphinx.errors import ConfigError

# edition: (its name, Sphinx's language, the language tag of its pages)
LANGUAGES = {"en": ("English", "en", "en"), "zh": ("中文", "zh_CN", "zh-CN")}


def _texts(**texts):
    return {name: dict(zip(LANGUAGES, pair, strict=True)) for name, pair in texts.items()}


STRINGS = _texts(
    skip=("Skip to the text", "跳到正文"),
    menu=("Chapters", "章节目录"),
    contents=("On this page", "本页目录"),
    language=("Language", "语言"),
    search=("Search", "搜索"),
    search_book=("Search the book", "搜索全书"),
    search_hint=("A page is found when it holds all the words.", "页面须包含所有检索词。"),
    search_needs_js=("Searching needs JavaScript.", "搜索需要启用 JavaScript。"),
    appearance=("Appearance: ", "外观："),
    auto=("as the system", "跟随系统"),
    light=("light", "浅色"),
    dark=("dark", "深色"),
    notebook=("This page as a notebook", "本页的 Jupyter 笔记本"),
    colab=("Open in Colab", "在 Colab 中打开"),
    download=("Download the notebook", "下载 Jupyter 笔记本"),
    copy_code=("Copy", "复制"),
    copied=("Copied", "已复制"),
    previous=("Previous", "上一页"),
    next=("Next", "下一页"),
    neighbours=("Previous and next page", "上一页与下一页"),
    source=("Source on GitHub", "GitHub 源码"),
    licence=("Text CC BY 4.0, code MIT", "文字采用 CC BY 4.0，代码采用 MIT"),
    show_content=("Show the solution", "显示答案"),
    hide_content=("Hide the solution", "收起答案"),
    show_source=("Show the code", "显示代码"),
    hide_source=("Hide the code", "收起代码"),
    show_output=("Show the output", "显示输出"),
    hide_output=("Hide the output", "收起输出"),
    imports=("Imports", "导入"),
    check=("1 check", "1 项检查"),
    checks=("{count} checks", "{count} 项检查"),
    redraws=("held in {held} of {offsets} redraws", "{offsets} 次重抽中 {held} 次成立"),
    show_answer=("I have decided: show me", "想好了，看答案"),
    your_choice=("Your choice", "你的选择"),
    your_number=("Your number:", "你的数："),
    chose_right=("Right.", "答对了。"),
    chose_wrong=("Not quite.", "不对，再看看答案。"),
    right_one=("(the right one)", "（正确）"),
    proof=("Proof", "证明"),
    deeper=("Going further", "深入"),
    solution=("Solution", "答案"),
    figure=("Figure", "图"),
    table=("Table", "表"),
    minutes=("{count} min", "约 {count} 分钟"),
    minutes_both=(
        "{count} min; {everything} with all that folds",
        "约 {count} 分钟；连同折叠的内容约 {everything} 分钟",
    ),
)


def checks(lang, count, held=None, offsets=None):
    """What a folded check cell says, such as "✓ 4 checks · held in 10 of 10 redraws"."""
    words = f"✓ {STRINGS['check' if count == 1 else 'checks'][lang].format(count=count)}"
    return words if held is None else f"{words} · {STRINGS['redraws'][lang].format(held=held, offsets=offsets)}"


def edition_of(language):
    r"""The edition ("en", "zh") that a Sphinx language ("en", "zh_CN") builds."""
    code = str(language).replace("-", "_").split("_")[0]
    if code not in LANGUAGES:
        raise ConfigError(f"language: got {language!r}, expected one of {', '.join(LANGUAGES)}")
    return code


def pick(text, lang):
    r"""The part of "English | 中文" in the given language; a text without a bar is the same in both."""
    parts = str(text or "").split(" | ")
    if len(parts) == 1:
        return text
    if len(parts) != len(LANGUAGES):
        raise ConfigError(f"title or caption: got {text!r}, expected 'English | 中文'")
    return parts[list(LANGUAGES).index(lang)]
