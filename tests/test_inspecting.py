"""Broken tables: each is named, and the statement that is told mends it."""

from __future__ import annotations

import os
import re

import peewee
import pytest
from looking import kind_of, only, run_sql
from peewee import CharField, Entity

from models import PendingFlag, PendingModel
from models.connection import connected
from models.inspecting import Level, inspected, inspected_operations
from models.migrating import add_flag
from models.operations import TABLES


class Shelf(PendingModel):
    """What is made and broken here."""

    name = CharField(null=True)
    needs_dusting = PendingFlag()


FLAG = Shelf.needs_dusting


@pytest.fixture
def shelf(database):
    """Its database, with the table as it is declared."""
    with database.bind_ctx([Shelf]):
        Shelf.create_table()
        try:
            yield database
        finally:
            while database.in_transaction():
                database.pop_transaction()
            Shelf.drop_table()


def found():
    return [one for one in inspected(FLAG) if one.level is not Level.OK]


def the_one(words):
    """Return the one thing that is wrong; it says `words`."""
    (finding,) = found()
    assert words in finding.text
    assert finding.subject == FLAG.label
    assert finding.remedy
    return finding


def apply(finding):
    """Do what the migration does that the finding tells to have written."""
    assert finding.remedy == "`pending migration update`, then `pending migrate`"
    add_flag(FLAG)


def run(database, sql):
    run_sql(database, sql.replace("%", "%%") if "%" in sql else sql)


def test_a_table_as_declared_is_well(shelf):
    (finding,) = inspected(FLAG)
    assert (finding.level, finding.subject) == (Level.OK, FLAG.label)


def test_a_missing_column_of_the_model_s_own_is_named(shelf):
    run(shelf, "ALTER TABLE shelf DROP COLUMN name")
    finding = the_one("columns of your model are missing: name; no row can be claimed")
    assert finding.level is Level.FAILURE


def test_a_missing_table_is_named(shelf):
    Shelf.drop_table()
    finding = the_one("its table is not there")
    assert (finding.level, finding.remedy) == (
        Level.FAILURE,
        "`pending migrate`, or Shelf.create_table()",
    )
    Shelf.create_table()


@pytest.mark.parametrize("suffix", ["error", "lease", "until", "at"])
def test_a_missing_column_is_named_and_mended(shelf, suffix):
    name = FLAG.companions[suffix].column_name
    run_sql(shelf, "ALTER TABLE shelf DROP COLUMN", Entity(name))
    finding = the_one("missing")
    assert finding.text == f"columns are missing: {name}"
    apply(finding)
    assert found() == []


def test_a_missing_index_is_named_and_mended(shelf):
    on = " ON shelf" if kind_of(shelf) == "mysql" else ""
    (name,) = (i.name for i in shelf.get_indexes("shelf") if "dusting" in i.name)
    run(shelf, f"DROP INDEX {name}{on}")
    finding = the_one("the index of due rows is missing")
    assert finding.level is Level.FAILURE
    apply(finding)
    assert found() == []


@only("sqlite", "postgresql")
def test_an_index_of_other_rows_does_not_count(shelf):
    (name,) = (i.name for i in shelf.get_indexes("shelf") if "dusting" in i.name)
    run(shelf, f"DROP INDEX {name}")
    run(shelf, "CREATE INDEX wrong ON shelf (needs_dusting_due) WHERE name = 'x'")
    the_one("the index of due rows is missing")


@only("postgresql")
def test_an_index_that_was_not_built_to_its_end_is_named(shelf):
    run(
        shelf,
        "UPDATE pg_index SET indisvalid = false WHERE indrelid = 'shelf'::regclass"
        " AND indpred IS NOT NULL",
    )
    finding = the_one("is not valid")
    apply(finding)
    assert found() == []


@only("postgresql", "mysql")
@pytest.mark.parametrize("wrong", ["type", "null", "default"])
def test_a_column_that_differs_is_named_and_mended(shelf, wrong):
    column, is_mysql = "needs_dusting_due", kind_of(shelf) == "mysql"
    how = {
        "type": ("MODIFY {} INT NOT NULL DEFAULT 0", "ALTER {} TYPE integer"),
        "null": ("MODIFY {} BIGINT DEFAULT 0", "ALTER {} DROP NOT NULL"),
        "default": ("MODIFY {} BIGINT NOT NULL", "ALTER {} DROP DEFAULT"),
    }[wrong][not is_mysql]
    run(shelf, f"ALTER TABLE shelf {how.format(column)}")
    finding = the_one(f"the column {column} ")
    run(shelf, finding.remedy)
    assert found() == []


@only("postgresql", "mysql")
def test_a_column_that_holds_nulls_is_mended_with_them(shelf):
    kind = "MODIFY {} BOOL" if kind_of(shelf) == "mysql" else "ALTER {} DROP NOT NULL"
    run(shelf, f"ALTER TABLE shelf {kind.format('needs_dusting')}")
    run(shelf, "INSERT INTO shelf (name, needs_dusting) VALUES ('a', NULL)")
    for finding in found():
        if finding.remedy.startswith("`pending"):
            apply(finding)
        else:
            run(shelf, finding.remedy)
    assert found() == []
    assert [row.needs_dusting for row in Shelf] == [False]


@only("postgresql", "mysql")
def test_an_error_that_is_too_short_is_named_and_mended(shelf):
    kind = {"mysql": "MODIFY {} VARCHAR(20)", "postgresql": "ALTER {} TYPE varchar(20)"}
    change = kind[kind_of(shelf)].format("needs_dusting_error")
    run(shelf, f"ALTER TABLE shelf {change}")
    finding = the_one("the column needs_dusting_error is")
    run(shelf, finding.remedy)
    assert found() == []


@only("mysql")
def test_a_role_of_mysql_that_may_not_update_is_named_and_mended(shelf):
    name = f"reader_{os.getpid()}"
    run(shelf, f"CREATE USER '{name}'@'%'")
    run(shelf, f"GRANT SELECT ON shelf TO '{name}'@'%'")
    parameters = {**shelf.connect_params, "user": name}
    reader = type(shelf)(shelf.database, **parameters)
    try:
        with Shelf.bind_ctx(reader):
            with connected(reader):
                finding = the_one("denied")
            assert finding.remedy.endswith(f" TO '{name}'@'%'")
            run(shelf, finding.remedy)
            with connected(reader):
                assert found() == []
    finally:
        reader.close_all()
        run(shelf, f"DROP USER '{name}'@'%'")


@only("sqlite", "mysql")
def test_a_flag_without_its_check_is_named(shelf):
    if kind_of(shelf) == "mysql":
        run(shelf, "ALTER TABLE shelf MODIFY needs_dusting BOOL NOT NULL DEFAULT FALSE")
    else:
        ((sql,),) = run_sql(shelf, "SELECT sql FROM sqlite_master WHERE name = 'shelf'")
        Shelf.drop_table()
        run_sql(shelf, re.sub(r"CHECK \(.*?\)\s*\)", "", sql))
        Shelf.create_table()
        for index in Shelf._meta.fields_to_index():
            shelf.execute(Shelf._schema._create_index(index, safe=True))
    finding = the_one("no CHECK keeps needs_dusting to true and false")
    assert finding.level is Level.WARNING
    if kind_of(shelf) == "mysql":
        apply(finding)
        assert found() == []


TRIGGERS = {
    "sqlite": """CREATE TRIGGER again AFTER UPDATE ON shelf BEGIN
        UPDATE shelf SET needs_dusting = 1 WHERE id = NEW.id; END""",
    "mysql": """CREATE TRIGGER again BEFORE UPDATE ON shelf FOR EACH ROW
        SET NEW.needs_dusting = 1""",
    "postgresql": """CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.needs_dusting = true; RETURN NEW; END';
        CREATE TRIGGER again BEFORE UPDATE ON shelf FOR EACH ROW
        EXECUTE FUNCTION again()""",
}


def test_a_trigger_that_may_mark_at_each_update_is_named(shelf):
    run_sql(shelf, TRIGGERS[kind_of(shelf)])
    try:
        finding = the_one("the trigger again fires at each update")
        assert finding.level is Level.WARNING
    finally:
        Shelf.drop_table()
        if kind_of(shelf) == "postgresql":
            run_sql(shelf, "DROP FUNCTION again")
        Shelf.create_table()


def test_a_model_that_saves_what_was_not_assigned_is_named(shelf, monkeypatch):
    monkeypatch.setattr(Shelf._meta, "only_save_dirty", False)
    finding = the_one("Shelf.save() writes columns that were not assigned")
    assert finding.level is Level.FAILURE


@pytest.fixture
def role(shelf):
    """The connection has a role that may only read the table."""
    name = f"reader_{shelf.database}"[:60]
    run(shelf, f"CREATE ROLE {name}")
    run(shelf, f"GRANT SELECT ON shelf TO {name}")
    run(shelf, f"SET ROLE {name}")
    yield name
    run(shelf, "RESET ROLE")
    run(shelf, f"DROP OWNED BY {name}")
    run(shelf, f"DROP ROLE {name}")


@only("postgresql")
def test_a_role_that_may_not_update_is_named_and_mended(shelf, role):
    finding = the_one("permission denied")
    assert finding.remedy == f'GRANT SELECT, UPDATE ON "shelf" TO {role}'
    run(shelf, "RESET ROLE")
    run(shelf, finding.remedy)
    run(shelf, f"SET ROLE {role}")
    assert found() == []


@only("postgresql")
def test_a_role_that_may_not_change_the_tables_of_operating_is_named_and_mended(
    operations, shelf, role
):
    refused = list(inspected_operations())
    assert [one.text.partition(":")[0] for one in refused] == [
        f"permission denied for table {table._meta.table_name}" for table in TABLES
    ]
    run(shelf, "RESET ROLE")
    for finding in refused:
        run(shelf, finding.remedy)
    run(shelf, f"SET ROLE {role}")
    assert list(inspected_operations()) == []


@only("postgresql")
def test_row_level_security_is_named(shelf, role):
    run(shelf, "RESET ROLE")
    run(shelf, f"GRANT UPDATE ON shelf TO {role}")
    run(shelf, "ALTER TABLE shelf ENABLE ROW LEVEL SECURITY")
    run(shelf, f"SET ROLE {role}")
    finding = the_one("row-level security may hide rows from the role")
    assert (finding.level, "BYPASSRLS" in finding.remedy) == (Level.WARNING, True)


@only("postgresql")
def test_a_database_that_takes_no_writes_is_named(shelf):
    run(shelf, "SET default_transaction_read_only = on")
    try:
        the_one("the database takes no writes")
    finally:
        run(shelf, "SET default_transaction_read_only = off")


@only("sqlite")
def test_a_file_that_takes_no_writes_is_named(shelf):
    locked = peewee.SqliteDatabase(f"file:{shelf.database}?mode=ro", uri=True)
    with Shelf.bind_ctx(locked), locked.connection_context():
        finding = next(one for one in inspected(FLAG) if one.level is Level.FAILURE)
    assert finding.text.startswith("the file cannot be written")


@only("mysql")
def test_an_engine_without_transactions_is_named_and_mended(shelf):
    run(shelf, "ALTER TABLE shelf ENGINE = MyISAM")
    (finding,) = (one for one in found() if "engine is MyISAM" in one.text)
    run(shelf, finding.remedy)
    assert found() == []


@only("mysql")
def test_a_database_that_counts_changed_rows_is_named(shelf, monkeypatch):
    monkeypatch.setattr(shelf.connection(), "client_flag", 0)
    the_one("counts changed rows")
