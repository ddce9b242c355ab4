import re

from book_reading import ROOT

import dlnotes


def test_every_module_is_named():
    named = re.findall(r"``(\w+)``", dlnotes.__doc__)
    modules = {path.stem for path in (ROOT / "dlnotes").glob("*.py")} - {"__init__"}
    assert modules <= set(named), f"not in the docstring of dlnotes: {sorted(modules - set(named))}"
    assert len(named) == len(set(named))
