"""What runs in parallel: pieces of work, their order, and what is made once for all processes."""

import subprocess
import sys

import parallel
import pytest
from book_reading import ROOT

NOTEBOOK, SITE, OTHER = "tests/test_notebooks.py", "tests/test_book_site.py", "tests/test_optim.py"


@pytest.mark.parametrize(
    ("nodeid", "piece"),
    [
        (f"{NOTEBOOK}::test_notebook_runs_and_its_outputs_hold[momentum]", None),
        (f"{SITE}::test_mathematics_is_set[zh/optimization/momentum.html]", f"{SITE}::zh/optimization/momentum.html"),
        (f"{SITE}::test_accessibility[en/index.html-phone-dark]", f"{SITE}::en/index.html"),
        (f"{SITE}::test_search_from_a_chapter", SITE),
        (f"{OTHER}::test_steps[en/index.html]", OTHER),
        ("dlnotes/optim.py::dlnotes.optim.SGD", "dlnotes/optim.py"),
    ],
)
def test_pieces(nodeid, piece):
    assert parallel.piece(nodeid) == (piece or nodeid)


def test_longest_piece_first_and_pieces_stay_together():
    tests = [
        (f"{OTHER}::a", False),
        (f"{NOTEBOOK}::short", True),
        (f"{NOTEBOOK}::long", True),
        (f"{NOTEBOOK}::new", True),
        (f"{SITE}::a[en/index.html]", True),
        ("tests/test_new.py::a", False),
        (f"{SITE}::b[en/index.html]", True),
        (f"{OTHER}::b", False),
    ]
    seconds = {tests[0][0]: 3, tests[1][0]: 8, tests[2][0]: 90, tests[4][0]: 5, tests[6][0]: 4, tests[7][0]: 5.5}
    order = [tests[index][0].split("::")[1] for index in parallel.longest_first(tests, seconds)]
    assert order == ["long", "new", "a[en/index.html]", "b[en/index.html]", "a", "b", "short", "a"]
    assert sorted(parallel.longest_first(tests, {})) == list(range(len(tests)))
    assert parallel.longest_first(tests, {})[:4] == [1, 2, 3, 4]  # where nothing is known, the slow ones


def test_cpu_lines_tell_what_is_over_the_budget():
    assert list(parallel.cpu_lines({"a": 9.04, "b": 61.0}, 60)) == [
        "   61.0  b  over the 60 of a chapter",
        "    9.0  a",
    ]


CONFTEST = "from parallel import once, pytest_collection_modifyitems, pytest_configure, pytest_terminal_summary\n"
TESTS = """
import os, pytest
from pathlib import Path

@pytest.fixture(scope="session")
def made(once):
    def make(folder):
        with open({log!r}, "a") as log:
            log.write("made\\n")
        (folder / "x").write_text("there")
    return once("thing", make)

@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_it(made, number, record_property):
    record_property("CPU seconds", 100.0 if number == 3 else 1.0)
    assert (made / "x").read_text() == "there"
    assert number != 5 or Path({log!r}).with_name("kept").exists()
"""


def test_two_processes_make_it_once_and_remember_the_seconds(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n", encoding="utf-8")
    (tmp_path / "test_notebooks.py").write_text(TESTS.format(log=str(tmp_path / "log")), encoding="utf-8")
    paths = [str(ROOT / "tests"), str(ROOT / "book" / "_tools")]
    code = f"import sys, pytest; sys.path[:0] = {paths}; sys.exit(pytest.main(['-n2', '-q', '--basetemp', 'temp']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 5 passed" in done.stdout  # that a test fails is seen, in whichever process
    assert "100.0  3  over the 60 of a chapter" in done.stdout
    assert (tmp_path / "log").read_text() == "made\n"
    assert (tmp_path / ".pytest_cache" / "v" / "dlnotes" / "seconds").is_file()
