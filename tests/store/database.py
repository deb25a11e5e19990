"""Its database: a plain Peewee object, made from its own variable."""

from __future__ import annotations

import os

from playhouse.db_url import connect

from models import use_database

db = connect(os.environ["STORE_DATABASE"])
use_database(db)
