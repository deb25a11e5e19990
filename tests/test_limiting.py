"""A query that takes too long is ended, and the next one has all the time again."""

from __future__ import annotations

import time

import peewee
import pytest
from looking import kind_of

from models.limiting import limited

COUNT = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {})"
    " SELECT count(*) FROM n"
)


def counted(database, number):
    """Let the database count to `number`."""
    is_mysql = kind_of(database) == "mysql"  # which recurs a thousand times at most
    query = (
        "SELECT count(*) FROM seq_1_to_{} WHERE seq MOD 1 = 0" if is_mysql else COUNT
    )
    ((count,),) = database.execute_sql(query.format(number)).fetchall()
    return count


def test_a_query_that_takes_too_long_raises(database):
    began = time.monotonic()
    with pytest.raises(peewee.DatabaseError), limited(database, seconds=0.2):
        counted(database, 2_000_000_000)
    assert time.monotonic() - began < 10


def test_afterwards_there_is_no_limit(database):
    with limited(database, seconds=0.001):
        pass
    assert counted(database, 50_000) == 50_000


def test_a_query_that_is_quick_is_not_touched(database):
    with limited(database, seconds=10):
        assert database.execute_sql("SELECT 1").fetchall()[0][0] == 1


def test_the_thread_s_connection_is_left_as_it_was(database):
    database.close()
    with limited(database, seconds=1):
        assert not database.is_closed()
    assert database.is_closed()
