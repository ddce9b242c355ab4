"""Code that is run in a process of its own, where no type checker stands in between."""

import subprocess
import sys


def runs_alone(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
