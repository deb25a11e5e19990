"""Rows and flags: what the database knows, and all the SQL.

Imports peewee and the standard library only. Processes that hear of marks and do
the work are in `worker`; who imports this package alone marks without a kick, and
the next sweep finds the row.
"""

from .columns import NEVER
from .connection import database
from .errors import BadSetting, DefinitionError, FlagError, NotAFlag, UnsavedRow
from .flags import PendingFlag
from .rows import PendingModel
from .user import User

__all__ = [
    "NEVER",
    "BadSetting",
    "DefinitionError",
    "FlagError",
    "NotAFlag",
    "PendingFlag",
    "PendingModel",
    "UnsavedRow",
    "User",
    "database",
]
