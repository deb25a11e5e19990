"""A worker process is heard: if it cannot begin it says why, and it never waits for a
main process that is gone.

dramatiq's main process reads what its children say in a thread that begins once all
of them have said that they are up, or are not, and that ends with the first of them.
Who dies at once is not heard: a child that did not begin stays for a moment.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

from dramatiq.compat import StreamablePipe

#: Set once the process is at work.
booted = threading.Event()

_LOOK_SECONDS = 0.2
_MOST_BYTES = 65_536
_READING_SECONDS = 3  # the main process waits for 1 s before it begins to


def _stay() -> None:
    main = threading.main_thread()
    while main.is_alive():
        if booted.wait(_LOOK_SECONDS):
            return
    time.sleep(_READING_SECONDS)


def hear_oneself() -> None:
    """Read what this process says, for ever: nobody else does, and whoever says more
    than the pipe holds would wait, with its rows in hand. Only Linux can do that."""
    if not isinstance(sys.stderr, StreamablePipe):  # a terminal is somebody's
        return
    with suppress(OSError):
        pipe = os.open(f"/proc/self/fd/{sys.stderr.fileno()}", os.O_RDONLY)
        while os.read(pipe, _MOST_BYTES):
            pass


if isinstance(sys.stderr, StreamablePipe):  # which the main process reads
    threading.Thread(target=_stay).start()
