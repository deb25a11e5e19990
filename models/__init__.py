"""Rows and flags: what the database knows, and all the SQL.

Imports peewee and the standard library only. Processes that hear of marks and do
the work are in `worker`; who imports this package alone marks without a kick, and
the next sweep finds the row.
"""

from . import example
from .columns import NEVER
from .connection import database
from .errors import (
    BadSetting,
    DefinitionError,
    FlagError,
    NotAFlag,
    OpenTransaction,
    UnsavedRow,
)
from .flags import PendingFlag
from .loops import AwaitableDatabase
from .owning import use_database
from .rows import PendingModel

if example.is_wanted():
    from .user import User as User

__all__ = [
    "NEVER",
    "AwaitableDatabase",
    "BadSetting",
    "DefinitionError",
    "FlagError",
    "NotAFlag",
    "OpenTransaction",
    "PendingFlag",
    "PendingModel",
    "UnsavedRow",
    "database",
    "use_database",
]
