"""The application's side, in a process of its own with a system's settings.

    python produce.py MODULE enqueue COUNT [PAUSE]
    python produce.py MODULE bulk < keys.json
    python produce.py MODULE install

MODULE has the functions `enqueue(emails, committed)` and `bulk(keys)`, which may be
coroutines and are timed, and others, which are called. The last line that is
printed is JSON: `seconds`, and for each user the time of its commit; or what
another function has returned.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

WARM = 20  # so many come first and are not measured


class Pace:
    """Hands out e-mail addresses and takes the time from one to the next.

    Args:
        count: how many, after the first few that warm up.
        pause: the mean time between two of them, seconds; 0 for none.
    """

    def __init__(self, count: int, pause: float) -> None:
        self.count, self.pause = count, pause
        self.seconds = 0.0
        self.commits: dict[str, float] = {}
        self._email = ""

    def emails(self) -> Iterator[str]:
        started = time.perf_counter()
        for number in range(-WARM, self.count):
            if number == 0:
                started = time.perf_counter()
            time.sleep(self.pause * random.uniform(0.5, 1.5))
            self._email = f"{'warm' if number < 0 else 'user'}{number}@example.com"
            yield self._email
        self.seconds = time.perf_counter() - started

    def committed(self) -> None:
        """To be called as soon as a user's commit is through."""
        self.commits[self._email] = time.time()


def enqueue(module: Any, count: str, pause: str = "0") -> dict[str, Any]:
    pace = Pace(int(count), float(pause))
    call(module.enqueue, pace.emails(), pace.committed)
    return {"seconds": pace.seconds, "commits": pace.commits}


def bulk(module: Any) -> dict[str, Any]:
    keys = json.load(sys.stdin)
    started = time.perf_counter()
    call(module.bulk, keys)
    return {"seconds": time.perf_counter() - started}


def call(function: Callable[..., Any], *arguments: Any) -> None:
    result = function(*arguments)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def main(module_name: str, verb: str, *arguments: str) -> None:
    module = importlib.import_module(module_name)
    timed = {"enqueue": enqueue, "bulk": bulk}.get(verb)
    result = timed(module, *arguments) if timed else getattr(module, verb)(*arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
