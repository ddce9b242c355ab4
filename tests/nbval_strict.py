"""A pytest plugin for nbval: a cell that writes to stderr fails, since that is where a kernel shows its warnings."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    for output in getattr(item, "test_outputs", None) or []:
        if output.get("name") == "stderr":
            pytest.fail(f"the cell wrote to stderr:\n{output['text']}", pytrace=False)
    return result
