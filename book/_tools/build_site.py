r"""Build both editions of the book into _build/site, serve them, or weigh their pages.

python book/_tools/build_site.py            build
python book/_tools/build_site.py --serve    serve what is built on this machine only
python book/_tools/build_site.py --weigh    what a reader's browser fetches for each page
"""

import argparse
import gzip
import http.server
import os
import re
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from editions import LANGUAGES  # noqa: E402


class BuildError(Exception):
    r"""The book could not be built; what went wrong has been printed."""


# --- build ---------------------------------------------------------------------------------------------------------


def build_edition(root, code, toc, outdir, doctrees, draft=False, warnings=None):
    r"""Run Sphinx once, with every warning an error unless it is a draft; `warnings` takes them (default: stderr)."""
    from jupyter_book.config import get_final_config
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    config, _ = get_final_config(
        user_yaml=root / "_config.yml",
        cli_config={
            "language": LANGUAGES[code][1],
            "nitpicky": True,
            "external_toc_path": str(toc),
            "latex_individualpages": False,
        },
    )
    source = root / "book"
    app = None
    try:
        with patch_docutils(str(source)), docutils_namespace():
            app = Sphinx(
                source, None, outdir, doctrees, "html", confoverrides=config, status=None,
                warning=warnings or sys.stderr, freshenv=True, warningiserror=not draft, keep_going=True,
            )  # fmt: skip
            app.build()
    except (SphinxError, ValueError) as error:
        page = app.env.temp_data.get("docname") if app and app.env else None
        raise BuildError(f"{code}: {f'{page}: ' if page else ''}{error}") from error
    if app.statuscode:
        raise BuildError(f"{code}: the build gave warnings")


def write_entrance(root, site):
    r"""The pages outside the editions: the one that chooses a language, and the one for missing pages."""
    from jinja2 import Environment, FileSystemLoader

    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    templates = Environment(loader=FileSystemLoader(root / "book" / "_templates"), autoescape=True)
    titles = dict(zip(LANGUAGES, config["title"].split(" | "), strict=True))
    icon = (root / "book" / "_static" / "favicon.svg").read_text("utf-8").strip()
    # Without scripts, the page for missing pages can only guess where the site stands: by its repository's name.
    base = "/" + config["repository"]["url"].rstrip("/").split("/")[-1] + "/"
    for name, template in {"index.html": "entrance.html", "404.html": "missing.html"}.items():
        page = templates.get_template(template).render(titles=titles, languages=LANGUAGES, icon=icon, base=base)
        (site / name).write_text(page + "\n", encoding="utf-8")
    (site / ".nojekyll").touch()  # GitHub Pages would otherwise leave out folders such as _static


def read_toc(root, draft=False):
    r"""The table of contents; in a draft without the chapters that nobody has written yet."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    missing = []

    def written(entry):
        if (root / "book" / f"{entry['file']}.ipynb").is_file():
            return True
        missing.append(entry["file"])
        return False

    for part in toc["parts"]:
        part["chapters"] = [chapter for chapter in part["chapters"] if written(chapter)]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    if not toc["parts"]:
        del toc["parts"]
    if missing and not draft:
        raise BuildError(
            f"_toc.yml names chapters that do not exist: {', '.join(missing)} (--draft builds without them)"
        )
    return toc


def build(root=ROOT, site=None, draft=False):
    r"""Build both editions and put them in place together, so that a failure changes nothing of the last good site."""
    root = Path(root)
    site = Path(site or root / "_build" / "site")
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=site.parent) as work:
        new = Path(work) / "site"
        toc = Path(work) / "_toc.yml"
        toc.write_text(yaml.safe_dump(read_toc(root, draft), allow_unicode=True, sort_keys=False), encoding="utf-8")
        for code in LANGUAGES:
            build_edition(root, code, toc, new / code, Path(work) / f"doctrees-{code}", draft)
            (new / code / ".buildinfo").unlink(missing_ok=True)
            (new / code / "objects.inv").unlink(missing_ok=True)
        shutil.rmtree(new / "jupyter_execute", ignore_errors=True)  # myst-nb's scratch copy
        write_entrance(root, new)
        if site.exists():
            site.rename(Path(work) / "old")
        new.rename(site)
    return site


# --- serve ---------------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    r"""Serve a folder under a prefix, with the site's own page for what is missing."""

    prefix = "/"
    quiet = False

    def translate_path(self, path):
        r"""The file for an address; outside the prefix there is none."""
        clean = unquote(urlsplit(path).path)
        if not clean.startswith(self.prefix):
            return os.path.join(self.directory, "no such file")
        return super().translate_path("/" + path[len(self.prefix) :])

    def list_directory(self, path):
        r"""A folder without an index page is a missing page."""
        self.send_error(404)

    def send_error(self, code, message=None, explain=None):
        r"""Send the site's own page for what is missing."""
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            return super().send_error(code, message, explain)
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format, *args):
        r"""Log as the base class does, unless quiet."""
        if not self.quiet:
            super().log_message(format, *args)


def make_server(site, port=8000, prefix="/", quiet=False):
    r"""A server of the site on this machine only; port 0 takes any free one."""
    settings = {"prefix": prefix, "quiet": quiet}

    class SiteHandler(Handler):
        def __init__(self, *args, **kwargs):
            self.__dict__.update(settings)
            super().__init__(*args, directory=str(site), **kwargs)

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), SiteHandler)


def serve(site, port):
    if not (site / "index.html").is_file():
        raise BuildError(f"nothing to serve: {site} holds no built site; build it first")
    try:
        server = make_server(site, port)
    except OSError as error:
        raise BuildError(f"port {port}: {error.strerror}; choose another one with --port") from error
    with server:
        for code, (name, _, _) in LANGUAGES.items():
            print(f"{name:8} http://127.0.0.1:{server.server_port}/{code}/")
        print("Stop with Ctrl-C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


# --- weigh ---------------------------------------------------------------------------------------------------------

# MathJax fetches the fonts a page's formulas use: these always or nearly always, the others for certain commands.
FONTS = {
    "Zero Main-Regular Math-Italic Size1-Regular Size2-Regular Size3-Regular Size4-Regular": r".",
    "Main-Bold": r"\\(mathbf|textbf|boldsymbol|bf)\b",
    "Math-BoldItalic": r"\\boldsymbol\b",
    "AMS-Regular": r"\\(mathbb|lesssim|gtrsim|leqslant|geqslant|square|checkmark|triangleq|nmid|varnothing)\b",
    "Calligraphic-Regular": r"\\(mathcal|cal)\b",
    "Fraktur-Regular": r"\\mathfrak\b",
    "Script-Regular": r"\\mathscr\b",
    "SansSerif-Regular": r"\\(mathsf|textsf)\b",
    "Typewriter-Regular": r"\\(mathtt|texttt)\b",
    "Main-Italic": r"\\(mathit|textit)\b",
}


class Links(HTMLParser):
    r"""What a page asks its browser to fetch."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        r"""Note the address of what a browser fetches by itself."""
        attrs = dict(attrs)
        if tag in ("script", "img", "source", "iframe", "video", "audio"):
            self.found.append(attrs.get("src"))
        elif tag == "link" and {"stylesheet", "preload"} & set((attrs.get("rel") or "").split()):
            self.found.append(attrs.get("href"))


def loads(page):
    r"""The files that a browser fetches for a page of the site, the page itself first."""
    text = page.read_text("utf-8")
    links = [link for link in Links(text).found if link and not link.startswith("data:")]
    files = [page, *((page.parent / unquote(urlsplit(link).path)).resolve() for link in links)]
    for script in [file for file in files if file.name == "mathjax.js"]:
        fonts = script.parent / "output" / "chtml" / "fonts" / "woff-v2"
        for names, command in FONTS.items():
            if re.search(command, text):
                files += [fonts / f"MathJax_{name}.woff" for name in names.split()]
    return list(dict.fromkeys(files))


def weigh_file(path):
    r"""Bytes of a file, and of what a compressing server sends of it."""
    data = path.read_bytes()
    return len(data), len(data) if path.suffix in (".woff", ".png", ".ico") else len(gzip.compress(data, 6))


def weigh(site):
    r"""Page: (bytes, bytes compressed) of all that its first visit loads, and of its text alone."""
    pages = sorted(page for code in LANGUAGES for page in (site / code).rglob("*.html"))
    weights = {}
    for page in pages:
        sizes = [weigh_file(path) for path in loads(page)]
        weights[page.relative_to(site).as_posix()] = (tuple(map(sum, zip(*sizes, strict=True))), sizes[0])
    return weights


def print_weights(site):
    print(f"{'kB':44} {'all':>6} {'gzip':>6} {'text':>6} {'gzip':>6}")
    for page, (everything, text) in weigh(site).items():
        print(f"{page:44}", *(f"{size / 1000:6.0f}" for size in (*everything, *text)))


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Build, serve or weigh the book.")
    parser.add_argument(
        "--draft",
        action="store_true",
        help="leave out chapters that do not exist yet, and only print warnings",
    )
    parser.add_argument("--serve", action="store_true", help="serve the built site on 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (default 8000)")
    parser.add_argument("--weigh", action="store_true", help="print what each page of the built site loads")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "site", help="its folder (default _build/site)")
    options = parser.parse_args(arguments)
    site = options.site.resolve()
    try:
        if options.serve:
            serve(site, options.port)
        elif options.weigh:
            print_weights(site)
        else:
            build(site=site, draft=options.draft)
            print("The book is built. Open it in a browser, or run `make serve`:")
            for code, (name, _, _) in LANGUAGES.items():
                print(f"  {name:8} {(site / code / 'index.html').as_uri()}")
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
