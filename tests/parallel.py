"""The tests in several processes (pytest -n): what stays together, what comes first, what the processes share.

A notebook is one piece of work, so is a page of the site with all that is asked of it, and so is any other file. The
pieces begin longest first, by the seconds that they took when they last ran here, so that no long one is left for the
end. The seconds stand in pytest's cache. They order the work and nothing else: no test fails because it took long.
"""

import os
import re
import shutil

import pytest
from filelock import FileLock

TABLE = "dlnotes/seconds"  # its name in pytest's cache
UNKNOWN = 30.0  # seconds of a piece that is marked slow and has not run here yet
CPU = "CPU seconds"  # the property under which a notebook's test reports what it used


def piece(nodeid):
    """The piece of work that a test belongs to. One process does the whole of it and makes its fixtures once."""
    path, _, name = nodeid.partition("::")
    page = re.search(r"\[((?:en|zh)/[\w/]+\.html)", name)
    if page and path.endswith("test_book_site.py"):
        return f"{path}::{page[1]}"
    return nodeid if path.endswith("test_notebooks.py") else path


def longest_first(tests, seconds):
    """The order of `tests`, pairs (node id, is it marked slow): indices, the tests of a piece next to each other."""
    total, new, place = {}, set(), {}
    for nodeid, slow in tests:
        of = piece(nodeid)
        place.setdefault(of, len(place))
        total[of] = total.get(of, 0.0) + seconds.get(nodeid, 0.0)
        if slow and nodeid not in seconds:
            new.add(of)
    length = {of: total[of] + UNKNOWN * (of in new) for of in total}
    pieces = [piece(nodeid) for nodeid, _ in tests]
    return sorted(range(len(tests)), key=lambda index: (-length[pieces[index]], place[pieces[index]]))


@pytest.hookimpl(trylast=True)  # after pytest has put the tests of a page together
def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        tests = [(item.nodeid, item.get_closest_marker("slow") is not None) for item in items]
        items[:] = [items[index] for index in longest_first(tests, config.workerinput[TABLE])]


class Seconds:
    """In the process that is asked for the tests: hand the pieces out, note how long each test took."""

    def __init__(self, cache):
        self.cache, self.table, self.taken = cache, cache.get(TABLE, {}) if cache else {}, {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        node.workerinput[TABLE] = self.table  # the same for all: each process collects and sorts for itself

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config, log):
        if config.getvalue("dist") != "load":  # somebody asked for another way
            return None
        from xdist.scheduler import LoadScopeScheduling

        class Pieces(LoadScopeScheduling):
            def _split_scope(self, nodeid):
                return piece(nodeid)

        config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems stays
        return Pieces(config, log)

    def pytest_runtest_logreport(self, report):
        self.taken[report.nodeid] = self.taken.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self):
        if self.cache and self.taken:
            self.cache.set(TABLE, self.table | {name: round(taken, 2) for name, taken in self.taken.items()})


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Seconds(getattr(config, "cache", None)))


def cpu_lines(used, budget):
    """What is said at the end about notebooks: {name: CPU seconds}, the longest first."""
    for name, seconds in sorted(used.items(), key=lambda item: -item[1]):
        yield f"{seconds:7.1f}  {name}" + (f"  over the {budget:.0f} of a chapter" if seconds > budget else "")


def pytest_terminal_summary(terminalreporter):
    used = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if seconds := dict(getattr(report, "user_properties", ())).get(CPU):
            used[re.sub(r".*\[|\]$", "", report.nodeid)] = seconds
    if used:
        from run_notebooks import BUDGET

        terminalreporter.section("CPU seconds of the notebooks (`make notebooks` holds them to their budget)")
        for line in cpu_lines(used, BUDGET):
            terminalreporter.line(line, yellow="over" in line)


@pytest.fixture(scope="session")
def once(request, tmp_path_factory):
    """A function (name, make) that gives a folder filled by make(folder), once for all processes of this run."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if hasattr(request.config, "workerinput") else folder

    def filled(name, make):
        ready, new = folder / name, folder / f"{name}.new"
        with FileLock(folder / f"{name}.lock"):
            if not ready.exists():
                shutil.rmtree(new, ignore_errors=True)  # of one who failed
                new.mkdir()
                make(new)
                os.rename(new, ready)
        return ready

    return filled
