r"""The editions of the book and the words that their pages' frame uses."""

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
    show_content=("Show the solution", "显示解答"),
    hide_content=("Hide the solution", "收起解答"),
    show_source=("Show the code", "显示代码"),
    hide_source=("Hide the code", "收起代码"),
    show_output=("Show the output", "显示输出"),
    hide_output=("Hide the output", "收起输出"),
)
