"""PostgreSQL keeps statements that it sees again, unless a pooler is in between."""

from __future__ import annotations

import peewee
import pytest
from proxy import proxied

import models.connection
from models.connection import database_from_url

QUERY = "SELECT number FROM shelf WHERE number = %s"


@pytest.fixture
def url(server_url):
    return server_url("postgresql")


@pytest.fixture
def database(url):
    database = database_from_url(url)
    with database.connection_context():
        database.execute_sql("CREATE TABLE shelf (number int)")
        database.execute_sql("INSERT INTO shelf VALUES (1)")
        yield database
    database.close_idle()


def prepared(database):
    kept = "SELECT statement FROM pg_prepared_statements"
    return {text for (text,) in database.execute_sql(kept)}


def ask(database, times=1):
    return [database.execute_sql(QUERY, (1,)).fetchall() for _ in range(times)]


def test_the_server_keeps_what_it_is_asked_again(database):
    ask(database)
    assert prepared(database) == set()
    ask(database)
    assert QUERY.replace("%s", "$1") in prepared(database)


def test_a_pooler_is_given_nothing_to_keep(database, url):
    with proxied(url) as proxy:
        behind = database_from_url(proxy.url)
        with behind.connection_context():
            ask(behind, times=20)
            assert prepared(behind) == set()
        behind.close_idle()


def test_a_connection_that_is_lost_at_once_is_closed(url, monkeypatch):
    made = []

    def lost(connection):
        made.append(connection)
        raise peewee.OperationalError("gone")

    monkeypatch.setattr(models.connection, "_is_direct", lost)
    with pytest.raises(peewee.OperationalError, match="gone"):
        database_from_url(url).connect()
    assert made[0].closed


def test_the_url_has_the_last_word(url):
    database = database_from_url(
        f"{url}{'&' if '?' in url else '?'}prepare_threshold=7"
    )
    with database.connection_context():
        assert database.connection().prepare_threshold == 7
    database.close_idle()


def change_type(url, kind):
    other = database_from_url(url)
    with other.connection_context():
        other.execute_sql(f"ALTER TABLE shelf ALTER number TYPE {kind}")
    other.close_idle()


def test_a_column_that_got_another_type_is_asked_for_as_ever(database, url):
    ask(database, times=3)
    change_type(url, "bigint")
    assert ask(database, times=3) == [[(1,)]] * 3


def test_a_transaction_that_meets_another_type_fails_once(database, url):
    ask(database, times=3)
    change_type(url, "bigint")
    with pytest.raises(peewee.NotSupportedError), database.atomic():
        ask(database)
    with database.atomic():
        assert ask(database) == [[(1,)]]


def test_what_the_server_cannot_do_is_still_an_error(database):
    for _ in range(3):
        with pytest.raises(peewee.NotSupportedError):
            database.execute_sql("SELECT count(*) OVER () FROM shelf FOR UPDATE")
