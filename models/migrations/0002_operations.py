"""The tables of operating: pauses, heartbeats, and numbers a minute."""

from peewee import (
    BigIntegerField,
    CharField,
    CompositeKey,
    IntegerField,
    Model,
    TextField,
)


def up(migrator, db):
    db.create_tables(_tables(db))


def down(migrator, db):
    db.drop_tables(_tables(db))


def _tables(db):
    class Operational(Model):
        class Meta:
            database = db

    class Pause(Operational):
        flag = CharField(max_length=255, primary_key=True)
        until = BigIntegerField(null=True)
        reason = TextField()
        by = CharField(max_length=255)
        at = BigIntegerField()

        class Meta:
            table_name = "pending_pause"

    class Heartbeat(Operational):
        id = CharField(max_length=64, primary_key=True)
        host = CharField(max_length=255)
        pid = IntegerField()
        kind = CharField(max_length=16)
        threads = IntegerField()
        flags = TextField()
        started = BigIntegerField()
        seen = BigIntegerField()
        looked = BigIntegerField(null=True)
        drained = BigIntegerField(null=True)

        class Meta:
            table_name = "pending_worker"

    class Count(Operational):
        flag = CharField(max_length=255)
        minute = IntegerField()
        name = CharField(max_length=64)
        n = BigIntegerField()

        class Meta:
            table_name = "pending_count"
            primary_key = CompositeKey("flag", "minute", "name")

    return [Pause, Heartbeat, Count]
