r"""Ctrl-C that waits for a good moment."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def patient(wait: Callable[[], bool]) -> Generator[None]:
    r"""Inside the ``with``, Ctrl-C asks ``wait`` whether it shall wait; if not, KeyboardInterrupt is raised at once.

    Only in the main thread, and only if nobody else has taken Ctrl-C over; otherwise nothing changes.

    >>> asked = []
    >>> with patient(lambda: not asked.append("wait?")):
    ...     signal.raise_signal(signal.SIGINT)
    >>> asked
    ['wait?']
    """

    def interrupt(*_: object) -> None:
        if not wait():
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
