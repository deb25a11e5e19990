"""A worker process that cannot begin says why, and is heard.

dramatiq's main process reads what its children say in a thread that begins once all
of them have said that they are up, or are not, and that ends with the first of them.
Who dies at once is not heard: a child that did not begin stays for a moment.
"""

from __future__ import annotations

import sys
import threading
import time

from dramatiq.compat import StreamablePipe

#: Set once the process is at work.
booted = threading.Event()

_LOOK_SECONDS = 0.2
_READING_SECONDS = 3  # the main process waits for 1 s before it begins to


def _stay() -> None:
    main = threading.main_thread()
    while main.is_alive():
        if booted.wait(_LOOK_SECONDS):
            return
    time.sleep(_READING_SECONDS)


if isinstance(sys.stderr, StreamablePipe):  # which the main process reads
    threading.Thread(target=_stay).start()
