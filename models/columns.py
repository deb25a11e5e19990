"""The seven columns that a flag brings along.

They belong to the machinery: their defaults are the server's, so that raw SQL and
other languages need not know them, and `save()` never writes them. (With a Python
default, peewee would count a column as assigned and `User(id=5).save()` would
erase a flag.)
"""

from __future__ import annotations

from typing import Any

from peewee import SQL, BigIntegerField, Field, SmallIntegerField, TextField

from .shapes import BESIDE

#: The due time of a parked row. Greater than any instant, in ms.
NEVER = 2**63 - 1


class CompanionAccessor:
    """Keeps what was loaded beside the row's own data.

    Not in `__data__`, where `save()` and `model_to_dict` look; and no
    FieldAccessor, which peewee copies into subclasses: there the inherited flag
    brings companions of its own.
    """

    def __init__(self, model: type, field: Field[Any], name: str) -> None:
        self.field, self.name = field, name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.field if instance is None else instance.__dict__.get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value


BESIDE.add(CompanionAccessor.__set__)


class _BigInteger(BigIntegerField):
    accessor_class = CompanionAccessor


class _SmallInteger(SmallIntegerField):
    accessor_class = CompanionAccessor


class _Text(TextField):
    accessor_class = CompanionAccessor


def companions() -> dict[str, Field[Any]]:
    """Return new companion fields by the suffix of their name, in their order.

    The order is part of the design: MySQL assigns from left to right, so an
    expression may read only its own column and those after it.
    """
    return {
        "at": _BigInteger(constraints=[SQL("DEFAULT 0")]),
        "due": _BigInteger(constraints=[SQL("DEFAULT 0")]),
        "attempts": _SmallInteger(constraints=[SQL("DEFAULT 0")]),
        "crashes": _SmallInteger(constraints=[SQL("DEFAULT 0")]),
        "until": _BigInteger(constraints=[SQL("DEFAULT 0")]),
        "lease": _BigInteger(null=True),
        "error": _Text(null=True),
    }
