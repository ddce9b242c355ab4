"""What every test has. Nothing here or in a test depends on how fast the machine is, nor on what else it does."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is there: the processes share the cores, a thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import matplotlib.font_manager  # the first import on a machine takes its time and says so, which no kernel should
from parallel import (  # noqa: F401
    once,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)

too_slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("dlnotes", deadline=None, derandomize=True, suppress_health_check=too_slow)
hypothesis.settings.load_profile("dlnotes")
matplotlib.use("agg")
