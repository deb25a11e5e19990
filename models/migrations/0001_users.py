"""The table of the example: users, and their welcome e-mail."""

from peewee import CharField, DateTimeField

from models import PendingFlag, PendingModel


def up(migrator, db):
    db.create_tables([_users(db)])


def down(migrator, db):
    db.drop_tables([_users(db)])


def _users(db):
    class User(PendingModel):
        email = CharField(unique=True)
        needs_welcome_email = PendingFlag()
        welcomed_at = DateTimeField(null=True)

        class Meta:
            database = db
            table_name = "user"

    return User
