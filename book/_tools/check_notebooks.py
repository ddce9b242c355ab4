"""Hold notebooks to the rules of the book, in seconds: no kernel, no browser, no build.

    python book/_tools/check_notebooks.py book/training/one.ipynb          (or: make check FILES=…)
    python book/_tools/check_notebooks.py --fix book/training/one.ipynb    (or: make check FIX=1 FILES=…)

The rules of tests/ (form, languages, prose, outputs), the formatting of the code, and that the file is as `make
notebooks` stores it. With --fix what can be mended without a decision is: spaces and punctuation in Chinese, the
formatting of the code, the way the file is stored. Outputs stay as they are: after a change of code, `make notebooks`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "book" / "_ext")]

from book_reading import language, skeleton  # noqa: E402
from chinese import fix  # noqa: E402
from rules import BOOK, faults_of  # noqa: E402
from run_notebooks import Failure, dumps, normalise, notebooks, write  # noqa: E402
from term_rules import RULES as WORDS  # noqa: E402


def ruff(*arguments):
    """Run ruff; its exit status and what it said."""
    command = [sys.executable, "-m", "ruff", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT)
    return done.returncode, (done.stdout + done.stderr).strip()


def mended(source):
    """A Chinese cell with its spaces and punctuation mended, or as it is where that would change more than those."""
    new = fix(source)
    return new if skeleton(new) == skeleton(source) else source


def mend(path):
    """Mend what needs no decision; returns how many cells were mended."""
    notebook = nbformat.read(path, as_version=4)
    count = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and language(cell) == "zh":
            new = mended(cell.source)
            count += new != cell.source
            cell.source = new
    write(path, dumps(normalise(notebook)))
    ruff("check", "--fix", "--quiet", path)
    ruff("format", "--quiet", path)
    write(path, dumps(normalise(nbformat.read(path, as_version=4))))
    return count


def faults(path):
    """Everything that is wrong with a notebook, as far as it can be told without running it."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    name = path.relative_to(BOOK).with_suffix("").as_posix() if path.is_relative_to(BOOK) else path.stem
    found = faults_of(name, notebook)
    if path.is_relative_to(BOOK):  # the words of the book are those of its glossary
        found += [f"{fault} [{rule}]" for rule, check in WORDS.items() for fault in check(notebook)]
    if text != dumps(normalise(nbformat.reads(text, as_version=4))):
        found.append("not stored as `make notebooks` stores it; --fix does that")
    status, said = ruff("check", "--output-format=concise", "--quiet", path)
    found += [re.sub(r"^.*?\.ipynb:", "", line) for line in said.splitlines()] if status else []
    if ruff("format", "--check", "--quiet", path)[0]:
        found.append("its code is not formatted; --fix does that")
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks or folders (default: the whole book)")
    parser.add_argument("--fix", action="store_true", help="mend what needs no decision")
    options = parser.parse_args(arguments)
    try:
        chosen = [path.resolve() for path in notebooks(options.paths)]
    except Failure as error:
        parser.error(str(error))
    bad = 0
    for path in chosen:
        count = mend(path) if options.fix else 0
        found = faults(path)
        bad += bool(found)
        words = f"{len(found)} faults" if found else "keeps every rule"
        print(f"{path}: {words}{f', {count} Chinese cells mended' if count else ''}")
        for fault in found:
            print(f"  {fault}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
