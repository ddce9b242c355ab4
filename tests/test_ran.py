import subprocess
import sys

import pytest
from book_reading import ROOT

MODULES = sorted(path.stem for path in (ROOT / "tests").glob("test_*.py"))


def ran(tmp_path, cases):
    """Exit status and words of .ci/ran for a report of these (module, what became of its test)."""
    lines = [
        f'<testcase classname="tests.{name}" name="test">{state and f"<{state}/>"}</testcase>' for name, state in cases
    ]
    (tmp_path / "report.xml").write_text(f"<testsuites><testsuite>{''.join(lines)}</testsuite></testsuites>")
    command = [sys.executable, str(ROOT / ".ci" / "ran"), str(tmp_path / "report.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_run_of_everything_is_one(tmp_path):
    cases = [(name, "") for name in MODULES] + [("test_colab", "skipped")]
    assert ran(tmp_path, cases) == (0, f"{len(MODULES)} tests passed\n")


def test_a_run_of_nothing_is_none(tmp_path):
    status, said = ran(tmp_path, [])
    assert status == 1
    assert said.startswith("0 tests passed\nnone passed of ")
    assert all(name in said for name in MODULES)


@pytest.mark.parametrize("state", ["skipped", "failure", "error"])
def test_a_module_without_a_test_that_passed_is_named(tmp_path, state):
    cases = [(name, state if name == "test_trainers" else "") for name in MODULES]
    assert ran(tmp_path, cases) == (1, f"{len(MODULES) - 1} tests passed\nnone passed of test_trainers\n")


def test_the_report_is_pytests(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_device.py").write_text(
        "def test_one():\n    pass\n\n\nclass TestTwo:\n    def test_it(self):\n        pass\n"
    )
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        f"--junitxml={report}",
    ]
    subprocess.run([*command, f"--rootdir={tmp_path}", str(tmp_path)], cwd=tmp_path, capture_output=True, check=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "ran"), str(report)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 tests passed\n"
    assert done.stderr == f"none passed of {', '.join(name for name in MODULES if name != 'test_device')}\n"
