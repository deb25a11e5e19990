"""Many finishes at once save what each one alone would."""

from __future__ import annotations

import datetime
import uuid
from contextlib import contextmanager, suppress
from decimal import Decimal

import pytest
from looking import only
from peewee import (
    AutoField,
    BigBitField,
    BigIntegerField,
    BinaryUUIDField,
    BitField,
    BlobField,
    BooleanField,
    CharField,
    DateField,
    DateTimeField,
    DecimalField,
    DoubleField,
    Field,
    FixedCharField,
    FloatField,
    IntegerField,
    IPField,
    JSONField,
    ProgrammingError,
    SmallIntegerField,
    TextField,
    TimeField,
    TimestampField,
    UUIDField,
)
from playhouse import postgres_ext
from playhouse.postgres_ext import ArrayField
from steps import LEASE

from models import PendingFlag, PendingModel
from models.claiming import claim
from models.finishing import finish, finish_all

UTC = datetime.UTC
ID = uuid.UUID(int=7)
NEW_YEAR = datetime.datetime(2020, 1, 1, 2, 3, 4)  # noqa: DTZ001 (naive on purpose)


class Raw(Field):
    """A column of a type that peewee has no field for."""

    def __init__(self, kind, **options):
        self.field_type = kind
        super().__init__(**options)


VALUES = {
    "char": (CharField(max_length=20, null=True), ["a", "ü" * 20, "", None]),
    "fixed": (FixedCharField(max_length=5, null=True), ["a", "abcde", None]),
    "text": (TextField(null=True), ["a" * 60_000, "'%s$1 %", None]),
    "int": (IntegerField(null=True), [1, -(2**31), 2**31 - 1, "7", None]),
    "big": (BigIntegerField(null=True), [1, 2**62, None, -1]),
    "small": (SmallIntegerField(null=True), [1, 32767, None]),
    "float": (FloatField(null=True), [1.5, 2, None]),
    "double": (DoubleField(null=True), [1.1, 1e300, 2, None]),
    "decimal": (
        DecimalField(max_digits=20, decimal_places=4, null=True),
        [Decimal("1.2345"), 3, None],
    ),
    "bool": (BooleanField(null=True), [True, False, None]),
    "date": (DateField(null=True), [datetime.date(2020, 2, 29), NEW_YEAR, None]),
    "time": (TimeField(null=True), [datetime.time(5, 6, 7), None]),
    "datetime": (DateTimeField(null=True), [NEW_YEAR, None, "2021-02-03 04:05:06"]),
    "blob": (BlobField(null=True), [b"\0\xff%s", b"", None]),
    "uuid": (UUIDField(null=True), [ID, ID.hex, None]),
    "ip": (IPField(null=True), ["1.2.3.4", "255.255.255.255"]),
    "timestamp": (TimestampField(null=True, default=None), [NEW_YEAR, None]),
    "bits": (BitField(), [5, 0]),
    "many bits": (BigBitField(null=True, default=None), [b"\x05", b"\0\1"]),
    "binary uuid": (BinaryUUIDField(null=True), [ID, None]),
}
AWARE = NEW_YEAR.replace(tzinfo=UTC)
POSTGRESQL_VALUES = {
    "aware in naive": (DateTimeField(null=True), [AWARE, NEW_YEAR, None]),
    "aware": (postgres_ext.DateTimeTZField(null=True), [AWARE, None, NEW_YEAR]),
    "interval": (
        postgres_ext.IntervalField(null=True),
        [datetime.timedelta(days=3, seconds=1), None],
    ),
    "core json": (JSONField(null=True), [{"a": [1, None]}, [1], "x", 5, None]),
    "json": (postgres_ext.JSONField(null=True), [{"a": 1}, None, [1]]),
    "jsonb": (postgres_ext.BinaryJSONField(null=True), [{"a": 1}, None, [1]]),
    "enum": (Raw("mood", null=True), ["sad", None, "ok"]),
    "inet": (Raw("inet", null=True), ["1.2.3.4", None]),
    "money": (Raw("money", null=True), ["1.20", None]),
    "range": (Raw("int4range", null=True), ["[1,5)", None]),
    "domain": (Raw("above_zero", null=True), [1, 5, None]),
    "bit": (Raw("bit(4)", null=True), ["1010", None]),
    "oid": (Raw("oid", null=True), [5, None]),
    "tsvector": (postgres_ext.TSVectorField(null=True), ["a b", None]),
    "point": (Raw("point", null=True), ["(1,2)", None]),
}
ARRAYS = {
    "ints": (ArrayField(IntegerField, null=True), [[1, 2], [], None, [2**31 - 1]]),
    "bigs": (ArrayField(BigIntegerField, null=True), [[1, 2], [2**40], None]),
    "texts": (ArrayField(TextField, null=True), [["a", None], [], None]),
    "chars": (ArrayField(CharField, null=True), [["a"], [], ["'%"]]),
    "uuids": (ArrayField(UUIDField, null=True), [[ID], []]),
    "decimals": (ArrayField(DecimalField, null=True), [[Decimal("1.5")], [1], []]),
    "dates": (ArrayField(DateField, null=True), [[datetime.date(2020, 1, 1)], []]),
    "enums": (Raw("mood[]", null=True), [["sad"], [], None]),
}
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN above_zero AS int CHECK (VALUE > 0)",
)


@contextmanager
def things(database, **fields):
    """A model with these fields, and its table."""
    flag = {"needs_care": PendingFlag(), "__module__": __name__}
    model = type("Thing", (PendingModel,), {**fields, **flag})
    with database.bind_ctx([model]):
        database.create_tables([model])
        try:
            yield model
        finally:
            database.drop_tables([model])


def claims_of(model, count):
    for _ in range(count):
        model.create(needs_care=True)
    claims = claim(model.needs_care, limit=count, lease=LEASE)
    assert len(claims) == count
    return sorted(claims, key=lambda held: held.key)


def saved_by(end, model, name, values):
    """What is in the rows once `end` has finished them with these values."""
    model.delete().execute()
    claims = claims_of(model, len(values))
    for held, value in zip(claims, values, strict=True):
        setattr(held.row, name, value)
    end(claims)
    rows = model.select().order_by(model._meta.primary_key)
    assert not any(row.needs_care for row in rows)
    return [repr(getattr(row, name)) for row in rows]


def one_by_one(claims):
    assert all(finish(held) for held in claims)


def at_once(claims):
    assert set(finish_all(claims)) == set(claims)


def at_once_or_alone(claims):
    for held in set(claims) - set(finish_all(claims)):
        assert finish(held)


def check(database, field, values, name="value"):
    with things(database, **{name: field.clone()}) as model:
        for order in (values, values[::-1]):
            alone = saved_by(one_by_one, model, name, order)
            assert saved_by(at_once, model, name, order) == alone


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_saved_as_one_by_one(database, kind):
    check(database, *VALUES[kind])


@pytest.fixture
def types(database):
    for statement in TYPES:
        with suppress(ProgrammingError):  # it is there
            database.execute_sql(statement)


@only("postgresql")
@pytest.mark.parametrize("kind", POSTGRESQL_VALUES)
def test_values_of_postgresql_are_saved_as_one_by_one(database, types, kind):
    check(database, *POSTGRESQL_VALUES[kind])


@only("postgresql")
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_left_to_be_saved_one_by_one(database, types, kind):
    """An array of arrays is a longer one to `unnest`."""
    field, values = ARRAYS[kind]
    with things(database, value=field.clone()) as model:
        for order in (values, values[::-1]):
            alone = saved_by(one_by_one, model, "value", order)
            assert saved_by(at_once_or_alone, model, "value", order) == alone


@only("sqlite")
def test_a_value_that_is_sent_in_a_function_is_saved(database):
    """peewee's JSONField on SQLite and MySQL (MariaDB has no such cast)."""
    with things(database, value=JSONField(null=True)) as model:
        saved = saved_by(at_once_or_alone, model, "value", [{"a": 1}, None])
    assert saved == ["{'a': 1}", "None"]


@pytest.mark.parametrize("other", [1.5, Decimal("1E+3"), Decimal("1E-3")])
def test_a_number_in_one_row_costs_no_digits_in_another(database, other):
    field = DecimalField(max_digits=30, decimal_places=5, null=True)
    check(database, field, [Decimal("1234567890123456789.12345"), other])


@pytest.mark.parametrize("name", ["token", "limit", "given", "picked", "c", "order"])
def test_a_field_may_have_any_name(database, name):
    check(database, IntegerField(null=True), [1, 2, None], name)


@pytest.mark.parametrize("name", ["node", "nth"])
@only("postgresql")
def test_a_field_may_have_any_name_also_these(database, name):
    check(database, IntegerField(null=True), [1, 2, None], name)


@pytest.mark.parametrize("name", ["node", "nth"])
@only("postgresql")
def test_a_key_may_have_any_name(database, name):
    """With a key called node not even a claim works."""
    with things(database, **{name: AutoField()}) as model:
        at_once(claims_of(model, 3))


@only("mysql")
def test_values_that_are_larger_than_a_packet_together_are_saved(database):
    text = "'" * 1_000_000  # each takes two bytes on the way
    with things(database, value=Raw("LONGTEXT", null=True)) as model:
        claims = claims_of(model, 20)
        for held in claims:
            held.row.value = text
        at_once(claims)
        assert all(len(row.value) == len(text) for row in model.select())


def test_more_rows_than_one_statement_has_are_finished(database):
    with things(database, value=IntegerField(null=True)) as model:
        rows = [{"needs_care": True} for _ in range(1_203)]
        model.insert_many(rows).execute()
        claims = claim(model.needs_care, limit=2_000, lease=LEASE)
        for held in claims:
            held.row.value = held.row.id * 2
        at_once(claims)
        assert all(row.value == row.id * 2 for row in model.select())
