"""Small figures for the tests of what draws, and a reader of an explorer's page that shares no code with it."""

import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt

CAPTION = {"en": "A straight line.", "zh": "一条直线。"}
VOID = {"input", "br", "img"}


def line(slope=1.0, **_):
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, slope], "o-", color="black", markerfacecolor="white", label="$w_1$")
    ax.set(ylim=(-3, 3), title=f"slope {slope}")
    ax.legend(loc="lower left")
    return figure


class Page(HTMLParser):
    """The tags with their attributes; fails when one is not closed by its own end tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.scripts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag}: an attribute is there twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]

    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def decode(text):
    """What the script of an explorer holds: every frame's picture, the controls."""
    (script,) = Page(text).scripts
    parts, svg, inputs = re.findall(r"String\.raw`([^`]*)`", script)
    parts, frames = parts.split("\n"), json.loads(re.search(r"frames = (\[\[.*\]\]);", script)[1])
    assert svg.count("><") == 1
    pictures = ["".join("".join(parts[a:b]) for a, b in zip(f[::2], f[1::2], strict=True)) for f in frames]
    return [svg.replace("><", f">{picture}<") for picture in pictures], inputs


def alive(text):
    """The page once its script has run, at the first frame."""
    frames, inputs = decode(text)
    text = re.sub(r"<img [^>]*>", lambda _: frames[0], text, count=1)
    text = re.sub(
        r'(<div class="dln-controls">).*?(</div>)',
        lambda m: m[1] + inputs + m[2],
        text,
        count=1,
        flags=re.S,
    )
    return re.sub(r"<script>.*?</script>", "", text, flags=re.S)
