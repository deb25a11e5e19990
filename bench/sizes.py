"""Measures what a flag costs on PostgreSQL: bytes, write-ahead log, rows a second.

    python bench/sizes.py [--rows 1000000]

The same rows in a table without a flag, with one and with three. Then a flag's rows
are all marked at once, and claimed and finished by one process, a hundred at a time;
and once more while another transaction stays open.
It starts a PostgreSQL of its own where POSTGRES_URL names none on this machine.
docs/scaling.md says what follows from the figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from services import start_servers

_LEASE = timedelta(minutes=5)
_CLAIMED = 100
_PROBES = 200
_SINGLES = 5000
_PARTITIONS = (1, 12, 120)
_MICRO = 1e-6


def main() -> None:
    rows = arguments().rows
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        start_servers(folder, stack, own_redis=False)
        tables = models()
        database = tables["no flag"]._meta.database
        stack.callback(database.close_idle)
        stack.enter_context(database.connection_context())
        for table in tables.values():
            table.drop_table()
            stack.callback(table.drop_table)
        (version,) = database.execute_sql("SHOW server_version").fetchone()
        print(f"PostgreSQL {version}, {rows:,} rows\n")
        report({name: filled(table, rows) for name, table in tables.items()})
        report({"one flag, at work": working(tables["one flag"], rows)})
        tenth = beside_an_open_transaction(tables["one flag"], rows // 10)
        report({f"{rows // 10:,} rows, beside an open transaction": tenth})
        report({f"{n} partitions": partitioned(n, rows // 10) for n in _PARTITIONS})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    return parser.parse_args()


def models() -> dict[str, Any]:
    """Return the tables: of the same rows with no flag, with one, with three."""
    # Reads the environment when it is imported.
    from peewee import CharField, IntegerField  # noqa: PLC0415

    from models import PendingFlag, PendingModel  # noqa: PLC0415

    class Parcel(PendingModel):
        customer = CharField()
        total = IntegerField()

    class LabelledParcel(Parcel):
        needs_label = PendingFlag()

    class PackedParcel(LabelledParcel):
        class Meta:
            table_settings = "WITH (fillfactor = 100)"

    class BusyParcel(LabelledParcel):
        needs_receipt = PendingFlag()
        needs_pickup = PendingFlag()

    return {
        "no flag": Parcel,
        "one flag": LabelledParcel,
        "one flag, fillfactor 100": PackedParcel,
        "three flags": BusyParcel,
    }


def filled(table: Any, rows: int) -> dict[str, float]:
    """Fill the table; return what its idle rows take."""
    database, name = table._meta.database, table._meta.table_name
    table.create_table()
    database.execute_sql(
        f"INSERT INTO {name} (customer, total) SELECT n || '@example.com', mod(n, 900)"
        f" FROM generate_series(1, {rows}) n"
    )
    database.execute_sql(f"VACUUM ANALYZE {name}")
    size, indexes = sizes_of(name)
    return {
        "table, bytes a row": asked(database, size) / rows,
        "flags' indexes, bytes in all": asked(database, indexes),
    }


def sizes_of(name: str) -> tuple[str, str]:
    """Return the expressions for the bytes of a table, and of its flags' indexes."""
    indexes = f"pg_indexes_size('{name}') - pg_relation_size('{name}_pkey')"
    return f"pg_relation_size('{name}')", indexes


def working(table: Any, rows: int) -> dict[str, float]:
    """Mark all rows and do their work; return what that takes."""
    # As above.
    from models.claiming import is_due  # noqa: PLC0415
    from models.marking import mark_pending  # noqa: PLC0415

    database, flag = table._meta.database, table.needs_label
    size, index = sizes_of(table._meta.table_name)
    figures = {"look with nothing due, ms": probe_ms(lambda: is_due(flag))}
    few = min(rows, _SINGLES)
    with measured(database, figures, "mark one by one", few):
        for key in range(1, few + 1):
            mark_pending(table(id=key), flag)
    with measured(database, figures, "mark all at once", rows):
        mark_pending(table.select(), flag)
    figures["index with all pending, bytes a row"] = asked(database, index) / rows
    with measured(database, figures, "claim and finish", rows):
        claim_and_finish(flag)
    figures["index afterwards, bytes a row"] = asked(database, index) / rows
    figures["look afterwards, ms"] = probe_ms(lambda: is_due(flag))
    started = time.perf_counter()
    database.execute_sql(f"VACUUM {table._meta.table_name}")
    figures["VACUUM, s"] = time.perf_counter() - started
    figures["index after VACUUM, bytes a row"] = asked(database, index) / rows
    figures["look after VACUUM, ms"] = probe_ms(lambda: is_due(flag))
    figures["table afterwards, bytes a row"] = asked(database, size) / rows
    return figures


def beside_an_open_transaction(table: Any, rows: int) -> dict[str, float]:
    """Do the work of `rows` rows; return what that takes."""
    # As above.
    from models.claiming import is_due  # noqa: PLC0415
    from models.marking import mark_pending  # noqa: PLC0415

    database, flag = table._meta.database, table.needs_label
    figures: dict[str, float] = {}
    with open_transaction():
        mark_pending(table.select().where(table.id <= rows), flag)
        with measured(database, figures, "claim and finish", rows):
            claim_and_finish(flag)
        figures["look afterwards, ms"] = probe_ms(lambda: is_due(flag))
    return figures


def claim_and_finish(flag: Any) -> None:
    """Do the work of all that is due, as a worker does whose handler does nothing."""
    # As above.
    from models.claiming import claim  # noqa: PLC0415
    from models.finishing import finish_all  # noqa: PLC0415

    while claims := claim(flag, limit=_CLAIMED, lease=_LEASE):
        assert len(finish_all(claims)) == len(claims)


@contextmanager
def open_transaction() -> Iterator[None]:
    """Keep a transaction open: nothing that is dead since then is cleaned up."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT pg_current_xact_id()")
        yield


def partitioned(parts: int, rows: int) -> dict[str, float]:
    """Return how long a look and a claim take in a table of so many partitions."""
    # As above.
    from peewee import CompositeKey, IntegerField  # noqa: PLC0415

    from models import PendingFlag, PendingModel  # noqa: PLC0415
    from models.claiming import claim, is_due  # noqa: PLC0415
    from models.marking import mark_pending  # noqa: PLC0415

    class MonthlyParcel(PendingModel):
        number = IntegerField()
        month = IntegerField()
        needs_label = PendingFlag()

        class Meta:
            primary_key = CompositeKey("number", "month")
            table_settings = "PARTITION BY LIST (month)"

    database, flag = MonthlyParcel._meta.database, MonthlyParcel.needs_label
    MonthlyParcel.create_table()
    try:
        for month in range(parts):
            database.execute_sql(
                f"CREATE TABLE monthly_parcel_{month} PARTITION OF monthly_parcel"
                f" FOR VALUES IN ({month})"
            )
        database.execute_sql(
            "INSERT INTO monthly_parcel (number, month) SELECT n, mod(n, "
            f"{parts}) FROM generate_series(1, {rows}) n"
        )
        database.execute_sql("VACUUM ANALYZE monthly_parcel")
        figures = {"look with nothing due, ms": probe_ms(lambda: is_due(flag))}
        mark_pending(MonthlyParcel.select(), flag)
        figures[f"claim of {_CLAIMED} rows, ms"] = probe_ms(
            lambda: claim(flag, limit=_CLAIMED, lease=_LEASE), times=20
        )
        return figures
    finally:
        MonthlyParcel.drop_table()


@contextmanager
def measured(
    database: Any, figures: dict[str, float], what: str, rows: int
) -> Iterator[None]:
    """Note rows a second, and for each bytes of the log and the server's own work."""
    position = "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
    server = psutil.Process(int(asked(database, "pg_backend_pid()")))
    before, worked = asked(database, position), sum(server.cpu_times()[:2])
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    worked = sum(server.cpu_times()[:2]) - worked
    figures[f"{what}, rows a second"] = rows / seconds
    figures[f"{what}, µs of the session's CPU a row"] = worked / rows / _MICRO
    figures[f"{what}, bytes of log a row"] = (asked(database, position) - before) / rows


def probe_ms(look: Callable[[], object], times: int = _PROBES) -> float:
    """Return the median of how long a look, or what else it is, takes."""

    def once() -> float:
        started = time.perf_counter()
        look()
        return (time.perf_counter() - started) * 1000

    return statistics.median(once() for _ in range(times))


def asked(database: Any, expression: str) -> float:
    return float(database.execute_sql(f"SELECT {expression}").fetchone()[0])


def report(tables: dict[str, dict[str, float]]) -> None:
    measures = next(iter(tables.values()))
    print("| |", " | ".join(tables), "|")
    print("|---|" + "---|" * len(tables))
    for measure in measures:
        figures = (f"{figures[measure]:,.2f}" for figures in tables.values())
        print("|", measure, "|", " | ".join(figures), "|")
    print()


if __name__ == "__main__":
    main()
