"""Show one chapter as its page will be, and show it anew whenever its file is saved.

    python book/_tools/preview.py book/training/one.ipynb       (or: make preview FILES=…)

The chapter is built alone, in both languages, in a few seconds; the page in the browser follows by itself. Links to
other chapters lead nowhere here. Warnings are printed; a build that fails leaves the last good page.
"""

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import yaml
from build_site import LANGUAGES, ROOT, BuildError, build_edition, make_server, write_entrance

# Asks once a second whether the page was built again.
FOLLOW = """<script>
(() => {
  let first;
  const ask = () => fetch("/stamp", { cache: "no-store" }).then((answer) => answer.text()).then((stamp) => {
    first ??= stamp;
    if (stamp !== first) location.reload();
  }).catch(() => {});
  setInterval(ask, 1000);
})();
</script>
"""


def contents(root, name):
    """The table of contents with one chapter, below the caption of its part."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    for part in toc["parts"]:
        part["chapters"] = [chapter for chapter in part["chapters"] if chapter["file"] == name]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    if not toc["parts"]:
        caption = {"caption": "Preview | 预览", "numbered": True, "chapters": [{"file": name}]}
        toc["parts"] = [caption]  # not in _toc.yml yet
    return toc


class Own(io.TextIOBase):
    """Passes to stderr what is said of the chapter, but not that the others are missing here."""

    def __init__(self, root):
        self.root = root

    def write(self, text):
        """Drop a line about the index, or about a link to a notebook that the book has."""
        link = re.search(r"Unknown source document '([^']+)'", text)
        if "/index.ipynb:" not in text and not (link and (self.root / "book" / f"{link[1]}.ipynb").is_file()):
            sys.stderr.write(text)
        return len(text)


def build_one(name, site, root=ROOT):
    """Build both editions of one chapter into `site`, and put them in place together."""
    with tempfile.TemporaryDirectory(prefix=".preview-", dir=site.parent) as work:
        new, toc = Path(work) / "site", Path(work) / "_toc.yml"
        toc.write_text(yaml.safe_dump(contents(root, name), allow_unicode=True, sort_keys=False), encoding="utf-8")
        for code in LANGUAGES:
            build_edition(root, code, toc, new / code, Path(work) / f"doctrees-{code}", True, Own(root))
            page = new / code / f"{name}.html"
            page.write_text(page.read_text("utf-8").replace("</body>", f"{FOLLOW}</body>"), encoding="utf-8")
        write_entrance(root, new)
        (new / "stamp").write_text(str(time.time_ns()), encoding="utf-8")
        shutil.rmtree(new / "jupyter_execute", ignore_errors=True)
        shutil.rmtree(site, ignore_errors=True)
        os.replace(new, site)


def state(path):
    """When the notebook and its record were changed last."""
    return [file.stat().st_mtime_ns for file in (path, path.with_suffix(".redraw.json")) if file.is_file()]


def watch(path, site, root=ROOT, pause=0.5, rounds=None):
    """Build whenever the file changes, `rounds` looks long or until Ctrl-C."""
    name, before = path.relative_to(root / "book").with_suffix("").as_posix(), None
    while rounds is None or rounds > 0:
        if (now := state(path)) and now != before:
            before = now
            try:
                build_one(name, site, root)
                print(f"{time.strftime('%H:%M:%S')} built {name}", flush=True)
            except BuildError as error:
                print(f"error: {error}", file=sys.stderr, flush=True)
        rounds = rounds and rounds - 1
        if rounds != 0:
            time.sleep(pause)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (default 8000)")
    options = parser.parse_args(arguments)
    path = options.notebook.resolve()
    if path.suffix != ".ipynb" or not path.is_file() or not path.is_relative_to(ROOT / "book"):
        parser.error(f"expected one notebook below {ROOT / 'book'}, got {options.notebook}")
    warnings.simplefilter("ignore")  # of the libraries; what Sphinx says of the chapter is printed
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "site"
        site.mkdir()
        try:
            server = make_server(site, options.port, quiet=True)
        except OSError as error:
            parser.error(f"port {options.port}: {error.strerror}; choose another one with --port")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        name = path.relative_to(ROOT / "book").with_suffix("").as_posix()
        for code, (language, _, _) in LANGUAGES.items():
            print(f"{language:8} http://127.0.0.1:{server.server_port}/{code}/{name}.html")
        print("Stop with Ctrl-C.", flush=True)
        try:
            watch(path, site)
        except KeyboardInterrupt:
            print()
        finally:
            server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
