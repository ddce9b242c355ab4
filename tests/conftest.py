"""What every test has: no hypothesis deadline, since the machines of CI are slow at times."""

import hypothesis
import matplotlib

hypothesis.settings.register_profile("dlnotes", deadline=None, derandomize=True)
hypothesis.settings.load_profile("dlnotes")
matplotlib.use("agg")
