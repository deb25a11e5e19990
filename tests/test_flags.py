"""The flag's columns, index and declaration, on every database."""

from __future__ import annotations

import peewee
import pytest
from domain import FLAGS, Order
from looking import IDLE, kind_of, run_sql, state
from peewee import CharField, Entity, Model
from steps import claim_one

from models import DefinitionError, NotAFlag, PendingFlag, PendingModel, database
from models.finishing import finish
from models.marking import mark_pending

SUFFIXES = ["at", "due", "attempts", "crashes", "until", "lease", "error"]


def column_names(database, table, schema=None):
    return [column.name for column in database.get_columns(table, schema)]


@pytest.fixture
def table(database):
    """Make the table of a model that the test declares, and drop it afterwards."""
    made = []

    def make(model):
        model.bind(database)
        database.create_tables([model])
        made.append(model)
        return model

    yield make
    database.drop_tables(made)


@pytest.mark.parametrize("kind", FLAGS)
def test_a_flag_brings_seven_columns_after_its_own(database, kind):
    flag, _ = FLAGS[kind]
    names = column_names(database, flag.model._meta.table_name)
    first = names.index(flag.column_name)
    expected = [flag.column_name, *(f"{flag.column_name}_{s}" for s in SUFFIXES)]
    assert names[first : first + 8] == expected


def test_a_row_inserted_by_raw_sql_is_idle_and_clean(database):
    run_sql(
        database,
        "INSERT INTO",
        Entity("order"),
        "(customer, total) VALUES ('raw', 1)",
    )
    row = Order.get(Order.customer == "raw")
    assert state(Order.needs_receipt, row) == IDLE
    assert state(Order.needs_label, row) == IDLE


@pytest.mark.parametrize("value", ["NULL", "2", "-1", "'maybe'"])
def test_the_database_refuses_what_is_no_truth_value(database, value):
    row = Order.create()
    with pytest.raises(peewee.DatabaseError), database.atomic():
        run_sql(database, "UPDATE", Entity("order"), f"SET needs_receipt = {value}")
    assert state(Order.needs_receipt, row) == IDLE


@pytest.mark.parametrize("kind", FLAGS)
def test_each_flag_has_one_index_and_it_holds_pending_rows_only(database, kind):
    flag, _ = FLAGS[kind]
    table, column = flag.model._meta.table_name, flag.column_name
    indexes = [
        index
        for index in database.get_indexes(table)
        if any(name.startswith(column) for name in index.columns)
    ]
    assert len(indexes) == 1
    if kind_of(database) == "mysql":  # knows no partial index
        assert indexes[0].columns == [column, f"{column}_due"]
    else:
        assert indexes[0].columns == [f"{column}_due"]
        condition = indexes[0].sql.partition(" WHERE ")[2]
        assert condition.strip('()"') in {column, f'order"."{column}'}


def test_a_flag_of_an_abstract_base_is_each_model_s_own(table):
    class Base(PendingModel):
        needs_x = PendingFlag()

    class One(Base):
        pass

    class Two(Base):
        pass

    one, two = table(One).create(), table(Two).create()
    mark_pending(one, One.needs_x)
    assert state(One.needs_x, one).due > 0
    assert state(Two.needs_x, two) == IDLE
    assert One.needs_x.due.model is One
    assert One.needs_x.label.endswith("one.needs_x")
    assert Two.needs_x.label.endswith("two.needs_x")


def test_an_overriding_flag_names_its_companions_after_its_new_column(database, table):
    class Base(PendingModel):
        needs_x = PendingFlag()

    class Renamed(Base):
        needs_x = PendingFlag(column_name="needs_y")

    names = column_names(database, table(Renamed)._meta.table_name)
    assert names == ["id", "needs_y", *(f"needs_y_{s}" for s in SUFFIXES)]
    row = Renamed.create(needs_x=True)
    assert finish(claim_one(Renamed.needs_x))
    assert state(Renamed.needs_x, row) == IDLE


def test_the_flags_of_a_row_are_independent(database):
    row = Order.create(needs_receipt=True)
    assert state(Order.needs_label, row) == IDLE
    held = claim_one(Order.needs_receipt)
    mark_pending(row, Order.needs_label)
    assert finish(held)
    assert state(Order.needs_receipt, row) == IDLE
    assert state(Order.needs_label, row).flag


def test_a_model_knows_its_flags_in_the_order_of_their_declaration():
    assert Order._meta.flags == [Order.needs_label, Order.needs_receipt]


@pytest.fixture
def schema(database):
    """Another schema than the default one: whatever the kind of database has."""
    name, kind = "pending_shop", kind_of(database)
    if kind == "sqlite":
        database.attach(":memory:", name)
    else:
        run_sql(database, f"CREATE SCHEMA {name}")
    yield name
    if kind == "sqlite":
        database.detach(name)
    else:
        run_sql(database, f"DROP SCHEMA {name}")


def test_a_table_in_another_schema_works_alike(database, schema, table):
    class Parcel(PendingModel):
        name = CharField(unique=True)
        needs_pickup = PendingFlag()

    Parcel._meta.schema = schema
    Parcel._meta.set_table_name("Parcel of mine")
    flag, row = Parcel.needs_pickup, table(Parcel).create(name="a", needs_pickup=True)
    assert flag.label.endswith(f"{schema}.Parcel of mine.needs_pickup")
    assert mark_pending(row, flag) == 1
    assert mark_pending(Parcel.select().where(Parcel.name == "a").limit(1), flag) == 1
    assert finish(claim_one(flag))
    assert state(flag, row) == IDLE
    upsert = Parcel.insert(name="a", needs_pickup=True)
    if kind_of(database) == "mysql":
        upsert.on_conflict(preserve=[flag]).execute()
    else:
        upsert.on_conflict(conflict_target=[Parcel.name], preserve=[flag]).execute()
    assert finish(claim_one(flag))
    assert Parcel.select().count() == 1


def test_the_label_is_table_and_flag():
    class Thing(PendingModel):
        needs_x = PendingFlag(column_name="y")

        class Meta:
            table_name = "some things"

    class Elsewhere(Thing):
        class Meta:
            schema = "far"
            table_name = "away"

    assert Thing._meta.database is database
    assert Thing.needs_x.label == "some things.needs_x"
    assert Elsewhere.needs_x.label == "far.away.needs_x"


def test_the_label_names_a_database_that_is_not_the_default_one():
    class Thing(PendingModel):
        needs_x = PendingFlag()

        class Meta:
            database = peewee.SqliteDatabase("/some/folder/other.db")

    assert Thing.needs_x.label == "other/thing.needs_x"


def test_a_flag_of_a_model_without_a_database_is_refused_when_it_is_used():
    class Thing(PendingModel):
        needs_x = PendingFlag()

    with (
        Thing.bind_ctx(None),
        pytest.raises(DefinitionError, match=r"^Thing is bound to no database$"),
    ):
        _ = Thing.needs_x.database


def test_a_database_of_another_kind_is_refused():
    class Thing(PendingModel):
        needs_x = PendingFlag()

        class Meta:
            database = peewee.Database("strange")

    with pytest.raises(TypeError, match="flags work on SQLite, PostgreSQL and MySQL"):
        _ = Thing.needs_x.dialect


def test_a_flag_on_a_model_of_another_kind_is_refused():
    message = r"^Plain\.needs_x is a flag, so Plain must derive from PendingModel: "
    with pytest.raises(DefinitionError, match=message):

        class Plain(Model):
            needs_x = PendingFlag()


def test_a_flag_on_a_plain_mixin_is_not_taken_for_one():
    """peewee does not see the fields of a class that is no model."""

    class Mixin:
        needs_x = PendingFlag()

    class Mixed(Mixin, PendingModel):
        pass

    assert Mixed._meta.flags == []
    with pytest.raises(NotAFlag, match=r"^Mixed has no flag "):
        mark_pending(Mixed(id=1), Mixed.needs_x)


def test_a_model_with_flags_needs_a_key():
    with pytest.raises(
        DefinitionError, match=r"^Keyless has flags, so it needs a key$"
    ):

        class Keyless(PendingModel):
            needs_x = PendingFlag()

            class Meta:
                primary_key = False


def test_only_what_was_assigned_is_saved_whatever_the_model_says():
    class Base(Model):
        class Meta:
            only_save_dirty = False

    class Thing(Base, PendingModel):
        needs_x = PendingFlag()

        class Meta:
            only_save_dirty = False

    assert Thing._meta.only_save_dirty


def test_a_model_may_have_another_base_before_this_one(table):
    class Named(Model):
        name = CharField(default="")

        class Meta:
            database = peewee.SqliteDatabase(None)

        def shout(self):
            return self.name.upper()

    class Person(Named, PendingModel):
        needs_x = PendingFlag()

    row = table(Person).create(name="dan", needs_x=True)
    assert row.shout() == "DAN"
    row.name = "eve"
    row.save()
    assert finish(claim_one(Person.needs_x))
    assert Person.get().name == "eve"
    assert state(Person.needs_x, row) == IDLE


def test_a_name_that_databases_would_cut_off_is_refused():
    """PostgreSQL cuts `<name>_attempts` at 63 bytes, and so would not find it."""
    type("Shelf", (PendingModel,), {"n" * 54: PendingFlag()})
    with pytest.raises(DefinitionError, match="at most 54 bytes in its name"):
        type("Shelf", (PendingModel,), {"n" * 55: PendingFlag()})
    with pytest.raises(DefinitionError, match="at most 54 bytes in its name"):
        type("Shelf", (PendingModel,), {"needs_é": PendingFlag(column_name="é" * 28)})
    type("Shelf", (PendingModel,), {"n" * 99: PendingFlag(column_name="needs_it")})
