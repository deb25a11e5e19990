"""The search: an index in a file of its own, SEARCH_FILE, as if it were a service.

It may be deleted: mark all products, and it is made anew.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

FILE = Path(os.environ.get("SEARCH_FILE", "var/search.db"))

_TABLE = """
CREATE VIRTUAL TABLE IF NOT EXISTS product
USING fts5(name, description, price UNINDEXED)
"""


class Found(NamedTuple):
    """A product as the search knows it."""

    id: int
    name: str
    price: int
    description: str


def put(products: Iterable[Found]) -> None:
    """Add the products, or replace their older versions; all of them or none.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    with _opened() as index, index:
        for one in products:
            index.execute("DELETE FROM product WHERE rowid = ?", (one.id,))
            index.execute(
                "INSERT INTO product (rowid, name, price, description)"
                " VALUES (?, ?, ?, ?)",
                one,
            )


def find(words: str) -> list[Found]:
    """Return at most 20 products that have all of the words, the best first."""
    wanted = " ".join(f'"{word}"' for word in re.findall(r"\w+", words))
    if not wanted:
        return []
    with _opened() as index:
        rows = index.execute(
            "SELECT rowid, name, price, description FROM product WHERE product MATCH ?"
            " ORDER BY rank LIMIT 20",
            (wanted,),
        )
        return [Found(*row) for row in rows]


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(FILE, timeout=10)) as index:
        index.execute(_TABLE)
        yield index
