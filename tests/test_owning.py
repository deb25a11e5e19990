"""An application's own database objects, of every kind; and models of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import peewee
import pytest
from peewee import CharField, Model
from playhouse import db_url
from playhouse.pool import PooledDatabase
from playhouse.sqliteq import SqliteQueueDatabase
from python import pending, run_python

import models
from models import DefinitionError, PendingFlag, PendingModel, use_database
from models.connection import connected
from models.migrating import migrate
from models.operations import the_database
from worker import handles, kick, mark_pending
from worker.overview import overview

Make = Callable[[str], peewee.Database]


def plain(url: str) -> peewee.Database:
    return db_url.connect(url)


def pooled(url: str) -> peewee.Database:
    scheme, _, rest = url.partition("://")
    return db_url.connect(f"{scheme}+pool://{rest}")


def psycopg3(url: str) -> peewee.Database:
    return db_url.connect(url, prefer_psycopg3=True)


def proxy(url: str) -> peewee.DatabaseProxy:
    return peewee.DatabaseProxy()


OBJECTS = [
    ("sqlite", plain),
    ("sqlite", pooled),
    ("sqlite", proxy),
    ("postgresql", plain),
    ("postgresql", psycopg3),
    ("postgresql", pooled),
    ("postgresql", proxy),
    ("mysql", plain),
    ("mysql", pooled),
    ("mysql", proxy),
]


@pytest.fixture(
    params=OBJECTS, ids=lambda param: f"{param[0]}-{param[1].__name__}", name="theirs"
)
def their_database(request, server_url) -> Iterator[peewee.Database]:
    """A new database of theirs, in the place of ours for as long as the test lasts."""
    kind, make = request.param
    url, former = server_url(kind), the_database()
    database = make(url)
    use_database(database)
    yield database
    use_database(former)


@pytest.fixture
def initialised(theirs, request, server_url) -> Iterator[Callable[[], None]]:
    """Initialise the database if it is a proxy; at the end it is closed."""

    def initialise() -> None:
        if isinstance(theirs, peewee.Proxy):
            (kind, _) = request.node.callspec.params["theirs"]
            theirs.initialize(plain(server_url(kind)))

    yield initialise
    theirs.close()
    if isinstance(theirs, PooledDatabase):
        theirs.close_idle()


def test_flags_work_on_their_database_object(theirs, initialised, handlers):
    """Their own base's models, ours, a proxy that is initialised later: all alike."""

    class Base(Model):
        class Meta:
            database = theirs

    class BoxOfTheirs(Base, PendingModel):
        label = CharField(null=True)
        needs_label = PendingFlag()

    class Bag(PendingModel):
        needs_seal = PendingFlag()

    sealed: list[int] = []

    @handles(BoxOfTheirs.needs_label)
    def print_label(box):
        box.label = "printed"

    @handles(Bag.needs_seal, atomic=True)
    def seal(bag):
        sealed.append(bag.id)

    initialised()
    assert BoxOfTheirs.needs_label.label == "boxoftheirs.needs_label"  # Peewee's name
    migrate(the_database())
    with connected(theirs):
        theirs.create_tables([BoxOfTheirs, Bag])
        with theirs.atomic():
            box = BoxOfTheirs.create(needs_label=True)
            Bag.create(needs_seal=True)
        mark_pending(BoxOfTheirs.select(), "needs_label")
    for flag in (BoxOfTheirs.needs_label, Bag.needs_seal):
        kick(flag.label)
    with connected(theirs):
        (done,) = BoxOfTheirs.select()
        assert (done.id, done.label, done.needs_label) == (box.id, "printed", False)
    assert sealed == [1]
    found = overview([BoxOfTheirs.needs_label, Bag.needs_seal])
    assert [one.problem for one in found.flags] == ["", ""]


def test_theirs_is_the_default_from_then_on(theirs):
    assert models.database is theirs
    assert PendingModel._meta.database is theirs


def test_psycopg2_works_where_peewee_chooses_it(server_url):
    database = plain(server_url("postgresql"))
    with connected(database):
        assert type(database.connection()).__module__.startswith("psycopg2")


def test_flags_in_two_databases_are_seen_and_handled_together(server_url, handlers):
    other = plain(server_url("sqlite"))
    former = the_database()
    own = plain(server_url("sqlite"))
    use_database(own)
    try:

        class Near(PendingModel):
            needs_x = PendingFlag()

        class Far(PendingModel):
            needs_x = PendingFlag()

            class Meta:
                database = other

        handled = []
        for model in (Near, Far):
            handles(model.needs_x)(lambda row: handled.append(type(row).__name__))
            with connected(model._meta.database):
                model.create_table()
                model.create(needs_x=True)
        migrate(own)
        flags = [Near.needs_x, Far.needs_x]
        assert Far.needs_x.label.endswith("/far.needs_x")
        assert [one.numbers.due.n for one in overview(flags).flags] == [1, 1]
        for flag in flags:
            kick(flag.label)
        assert handled == ["Near", "Far"]
    finally:
        use_database(former)
        for database in (own, other):
            database.close()


def test_bases_in_the_wrong_order_are_an_error_that_says_the_right_one():
    elsewhere = peewee.SqliteDatabase(":memory:")

    class Base(Model):
        class Meta:
            database = elsewhere

    message = r"write class Box\(Base, PendingModel\)"
    with pytest.raises(DefinitionError, match=message):

        class Box(PendingModel, Base):
            needs_x = PendingFlag()


def test_what_is_no_database_is_refused():
    with pytest.raises(TypeError, match="flags work on SQLite, PostgreSQL and MySQL"):
        use_database("postgresql://localhost/shop")


def test_a_database_without_transactions_is_refused(tmp_path):
    queued = SqliteQueueDatabase(str(tmp_path / "shop.db"), autostart=False)
    with pytest.raises(TypeError, match="SqliteQueueDatabase has none; use"):
        use_database(queued)
    assert models.database is the_database()


def test_a_proxy_that_nobody_initialised_is_one_line():
    code = """
import peewee
from models import use_database
use_database(peewee.DatabaseProxy())
from worker.cli import main
main()
"""
    ended = run_python(code, "migrate")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "your DatabaseProxy was not initialised" in line


THEIRS = """
from playhouse.db_url import connect
from models import use_database
db = connect({url!r})
use_database(db)
"""


def test_the_command_line_works_on_the_database_of_their_module(tmp_path, server_url):
    (tmp_path / "theirs.py").write_text(THEIRS.format(url=server_url("sqlite")))
    unused = tmp_path / "unused.db"
    environment = {
        "PYTHONPATH": str(tmp_path),
        "PENDING_MODULES": "theirs",
        "DATABASE_URL": f"sqlite:///{unused}",
        "PENDING_EXAMPLE": "0",
    }
    assert pending("migrate", **environment).stdout == "applied 0002_operations\n"
    assert pending("migrate", **environment).stdout == "The schema is up to date.\n"
    assert not unused.exists()


def test_importing_makes_no_folder_and_no_file(tmp_path):
    code = "import os, worker; from models.connection import VAR; print(VAR.exists())"
    before = (models.connection.VAR / "pending.db").exists()
    run_python(code, DATABASE_URL="")
    assert (models.connection.VAR / "pending.db").exists() == before
