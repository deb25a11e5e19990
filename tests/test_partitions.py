"""Flags in a partitioned table, by month: an index in each partition."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import peewee
import pytest
from looking import kind_of, only, state, write
from peewee import BigIntegerField, CompositeKey, DateField
from steps import LEASE
from test_query_plan import plans

from models import PendingFlag, PendingModel
from models.claiming import claim, is_due
from models.finishing import finish, finish_all
from models.inspecting import Level, inspected
from models.marking import mark_pending

PARTITIONED = only("postgresql", "mysql")
MONTHS = {f"m{n}": (date(2030, n, 1), date(2030, n + 1, 1)) for n in (1, 2, 3)}
RANGES = ", ".join(
    f"PARTITION {name} VALUES LESS THAN ('{end}')" for name, (_, end) in MONTHS.items()
)


class Parcel(PendingModel):
    """Its key has the column that the table is divided by."""

    number = BigIntegerField()
    day = DateField()
    needs_label = PendingFlag()

    class Meta:
        primary_key = CompositeKey("number", "day")


FLAG = Parcel.needs_label


@pytest.fixture
def parcels(session_database: peewee.Database) -> Iterator[peewee.Database]:
    """300 idle parcels, a hundred in each of three months."""
    settings = {
        "postgresql": "PARTITION BY RANGE (day)",
        "mysql": f"PARTITION BY RANGE COLUMNS (day) ({RANGES})",
    }[kind_of(session_database)]
    Parcel._meta.table_settings = settings
    session_database.connect(reuse_if_open=True)
    with session_database.bind_ctx([Parcel]):
        Parcel.create_table()
        if kind_of(session_database) == "postgresql":
            for name, (first, last) in MONTHS.items():
                session_database.execute_sql(
                    f"CREATE TABLE parcel_{name} PARTITION OF parcel"
                    f" FOR VALUES FROM ('{first}') TO ('{last}')"
                )
        days = [first for first, _ in MONTHS.values()]
        Parcel.insert_many(
            {"number": n, "day": days[n % 3]} for n in range(300)
        ).execute()
        yield session_database
        Parcel.drop_table()


@PARTITIONED
def test_rows_of_all_partitions_are_marked_claimed_and_finished(parcels):
    assert mark_pending(Parcel.select(), FLAG) == 300

    claims = claim(FLAG, limit=299, lease=LEASE)

    assert {one.row.day for one in claims} == {first for first, _ in MONTHS.values()}
    assert len(finish_all(claims[1:])) == 298
    assert finish(claims[0])
    assert Parcel.select().where(FLAG).count() == 1


@PARTITIONED
def test_a_row_that_moves_to_another_partition_while_it_is_handled_is_done_there(
    parcels,
):
    row = Parcel.get_by_id((0, date(2030, 1, 1)))
    mark_pending(row, FLAG)
    (held,) = claim(FLAG, limit=1, lease=LEASE)

    Parcel.update(day=date(2030, 3, 5)).where(Parcel.number == 0).execute()

    assert not finish(held)
    moved = Parcel.get_by_id((0, date(2030, 3, 5)))
    assert state(FLAG, moved).lease == held.token
    write(FLAG, moved, until=1)
    (again,) = claim(FLAG, limit=9, lease=LEASE)
    assert again.key == (0, date(2030, 3, 5))
    assert finish(again)
    assert not is_due(FLAG)


@PARTITIONED
def test_a_look_reads_each_partition_s_index_and_nothing_else(parcels):
    mark_pending(Parcel.select().where(Parcel.number < 5), FLAG)
    analyze = {"postgresql": "ANALYZE parcel", "mysql": "ANALYZE TABLE parcel"}
    parcels.execute_sql(analyze[kind_of(parcels)])
    for plan in plans(parcels, lambda: is_due(FLAG)):
        text = "\n".join(plan)
        assert "Seq Scan" not in text, text
        assert '"ALL"' not in text, text
        assert "needs_label" in text, text


@only("postgresql")
def test_doctor_has_nothing_against_a_partitioned_table(parcels):
    assert {one.level for one in inspected(FLAG)} == {Level.OK}


@only("postgresql")
def test_a_partition_that_is_detached_takes_its_work_along(parcels):
    mark_pending(Parcel.select(), FLAG)

    parcels.execute_sql("ALTER TABLE parcel DETACH PARTITION parcel_m1")

    assert len(claim(FLAG, limit=300, lease=LEASE)) == 200
    parcels.execute_sql("DROP TABLE parcel_m1")
