import base64
import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from pictures import line
from PIL import Image

from dlnotes import plot
from dlnotes.figures import render


@pytest.fixture(autouse=True)
def _no_figure_left():
    yield
    plt.close("all")


def drawn(figure):
    """The elements below an <svg>, read back as XML."""
    return ElementTree.fromstring(f"<svg>{''.join(render.pieces(figure))}</svg>")


def test_the_same_figure_gives_the_same_bytes_in_this_and_in_another_process():
    here = [render.svg(line(), "".join(render.pieces(line()))), render.png(line()).hex()]
    assert here == [render.svg(line(), "".join(render.pieces(line()))), render.png(line()).hex()]
    code = (
        "import sys; sys.path.insert(0, 'tests')\nfrom pictures import line\nfrom dlnotes.figures import render\n"
        "sys.stdout.reconfigure(encoding='utf-8')\n"
        "print(render.svg(line(), ''.join(render.pieces(line()))) + '\\n' + render.png(line()).hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert there.splitlines() == here


def test_nothing_is_lost_and_numbers_stay_within_a_hundredth_of_a_point():
    figure = line(0.123456)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True)
    raw = ElementTree.fromstring(buffer.getvalue())
    tidy = drawn(figure)
    for tag in ("text", "tspan", "use"):
        before = [e for e in raw.iter() if e.tag.endswith("}" + tag)]
        after = list(tidy.iter(tag))
        assert [e.text for e in after] == [e.text if (e.text or "").strip() else None for e in before]
        for name in ("x", "y"):
            numbers = [[float(e.get(name)) for e in elements if e.get(name)] for elements in (after, before)]
            assert numbers[0] == pytest.approx(numbers[1], abs=0.0051)
    line_before = [e.get("d") for e in raw.iter() if "stroke-width: 1.5" in e.get("style", "")]
    line_after = [e.get("d") for e in tidy.iter("path") if "stroke-width:1.5" in e.get("style", "")]
    numbers = [[float(n) for d in found for n in re.findall(r"[\d.]+", d)] for found in (line_before, line_after)]
    assert len(numbers[0]) == 4 + 6  # the line has two points, its legend entry three
    assert numbers[1] == pytest.approx(numbers[0], abs=0.0051)


def test_black_is_ink_and_white_is_paper():
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], "o-", color="#000000", markerfacecolor="#ffffff")
    ax.fill([0, 1, 1], [0, 0, 1], color="black")
    ax.text(0.2, 0.8, "black")
    ax.text(0.2, 0.6, "red", color="red")
    text = render.svg(figure, "".join(render.pieces(figure)))
    assert "#000000" not in text
    assert "#ffffff" not in text
    assert re.search(r"<g [^>]*fill:var\(--dln-paper\)[^>]*><use", text)
    assert re.search(r'<text style="[^"]*fill:#ff0000[^"]*"[^>]*>red<', text)
    assert not re.search(r'<text style="[^"]*fill:[^"]*"[^>]*>black<', text)  # as the root says: currentColor
    assert text.startswith("<svg ")
    assert 'fill="currentColor"' in text.split(">")[0]


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ud800"])
def test_a_text_that_no_page_can_hold_is_an_error(character):
    figure, ax = plt.subplots()
    ax.set_title(f"a{character}b")
    with pytest.raises(ValueError, match=f"^figure: .*U\\+{ord(character):04X}"):
        render.pieces(figure)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("javascript:alert(1)", False), ("JavaScript:alert(1)", False), (" java\nscript:alert(1)", False),
        ("vbscript:x", False), ("data:text/html,x", False), ("file:///etc/passwd", False),
        ("https://example.org/a:b", True), ("#part", True), ("other.html?x=a:b", True), ("mailto:a@example.org", True),
    ],
)  # fmt: skip
def test_links_of_artists_lead_to_pages_only(url, kept):
    figure, ax = plt.subplots()
    ax.scatter([0], [0], urls=[url])
    ax.plot([0, 1], [0, 1], url=url)
    links = [a.get("href") for a in drawn(figure).iter("a")]
    assert [link for link in links if link] == ([url] * 2 if kept else [])


def test_nothing_reaches_out_of_the_picture():
    figure, (left, right) = plt.subplots(1, 2)
    left.imshow(np.arange(9.0).reshape(3, 3))
    right.bar([0, 1], [1, 2], hatch="//")
    text = "".join(render.pieces(figure))
    assert "<style" not in text  # Matplotlib's style sheet would be the whole page's
    assert "://" not in text
    assert "xlink" not in text
    assert re.search(r'href="data:image/png;base64,[^"\s]+"', text)
    assert "<metadata" not in text


def test_every_reference_has_its_one_target():
    figure, (left, right) = plt.subplots(1, 2)
    left.scatter(*np.random.default_rng(0).random((2, 20)), c=range(20))
    left.plot([0, 1], [0, 1], "s-")
    right.bar([0, 1], [1, 2], hatch="//")
    text = "".join(render.pieces(figure))
    ids = re.findall(r'id="([^"]+)"', text)
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert len(ids) == len(set(ids))
    assert used == set(ids)
    assert all(name.startswith(render.ID) for name in ids)


def test_ids_are_named_by_their_figure():
    texts = [render.close_ids("".join(render.pieces(line(slope)))) for slope in (1, 2)]
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in texts]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert render.ID not in texts[0]


def test_markers_of_one_colour_say_it_once_and_faint_ones_stay_faint():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot(range(50), range(50), "o", color="#123456")
    right.scatter([0, 1], [0, 1], c=["#abcdef", "#fedcba"], alpha=0.5)
    text = "".join(render.pieces(figure))
    assert text.count("fill:#123456") == 1
    assert re.search(r'<use href="#[^"]+" x="[\d.]+" y="[\d.]+"/>', text)
    for colour in ("#abcdef", "#fedcba"):
        assert len(re.findall(rf"<use [^>]*fill:{colour};fill-opacity:0.5", text)) == 1


def test_pack_loses_nothing_and_saves():
    frames = [render.pieces(line(slope / 10)) for slope in range(10)]
    parts, runs = render.pack(frames)
    again = [[p for a, b in zip(run[::2], run[1::2], strict=True) for p in parts[a:b]] for run in runs]
    assert again == frames
    assert len(parts) == len(set(parts))
    assert sum(map(len, parts)) < sum(len(p) for frame in frames for p in frame) / 4
    assert all(len(run) < len(frame) / 2 for run, frame in zip(runs, frames, strict=True))


def test_pack_with_repeated_pieces():
    frames = [["a", "a", "b"], ["b", "a"], []]
    parts, runs = render.pack(frames)
    assert [["".join(parts[a:b]) for a, b in zip(r[::2], r[1::2], strict=True)] for r in runs] == [
        ["a", "ab"], ["b", "a"], []
    ]  # fmt: skip


def test_png_is_small_white_and_of_the_full_size():
    with plot.style():
        figure = line()
    data = render.png(figure)
    image = Image.open(io.BytesIO(data))
    assert image.size == (440, 330)
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    assert len(data) < len(buffer.getvalue()) / 1.5
    whole = np.asarray(Image.open(buffer).convert("RGB"), dtype=int)
    assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - whole).max() < 40


def test_an_image_holds_the_png():
    figure = line()
    text = render.img(figure, 'a "b" <c>', dpi=50, colours=16)
    assert f'src="data:image/png;base64,{base64.b64encode(render.png(figure, 50, 16)).decode()}" width="200" ' in text
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in text


def test_settings_of_the_reader_do_not_change_the_picture():
    before = render.pieces(line())
    with mpl.rc_context({"savefig.bbox": "tight", "svg.fonttype": "path", "svg.hashsalt": "x", "savefig.dpi": 300}):
        assert render.pieces(line()) == before
        assert Image.open(io.BytesIO(render.png(line()))).size == (440, 330)
