"""From what people type to flags, keys and conditions, and back. No SQL is typed."""

from __future__ import annotations

import csv
import difflib
import io
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import peewee
from peewee import Field

from .columns import CompanionAccessor
from .dialects import keys_of
from .errors import BadText, NoSuchFlag
from .flags import PendingFlag
from .rows import PendingModel

_CONTAINS, _IS = "~", "="


def flags() -> list[PendingFlag]:
    """Return the flags of all models that this process has imported, by their labels.

    Not those of a model that others derive from: a base class lends its flags, and
    mostly has no table. `lent_flags()` has them.
    """
    return _by_label(one for one in _models() if not one.__subclasses__())


def lent_flags() -> list[PendingFlag]:
    """Return the flags of models that others derive from."""
    return _by_label(one for one in _models() if one.__subclasses__())


def flag_named(label: str, known: Iterable[PendingFlag] | None = None) -> PendingFlag:
    """Return the flag called `label`, `<table>.<flag>`.

    Args:
        known: where to look; default: all flags.

    Raises:
        NoSuchFlag: there is none; the message names those that are near, or all.
    """
    found = [*lent_flags(), *flags()] if known is None else known
    by_label = {flag.label: flag for flag in found}
    called = {flag.new_label: flag for flag in found} | by_label
    if label in called:
        return called[label]
    near = difflib.get_close_matches(label, by_label, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"there are {', '.join(by_label) or 'none'}"
    raise NoSuchFlag(f"no flag is called {label!r}; {hint}")


def key_text(key: tuple[Any, ...]) -> str:
    """Return a key as people type it: several columns separated by commas, as CSV."""
    if len(key) == 1:
        return str(key[0])
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(key)
    return line.getvalue()


def printable(text: str) -> str:
    """Return `text` as one line in which nothing drives a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def key_from_text(flag: PendingFlag, text: str) -> tuple[Any, ...]:
    """Return the key that `key_text` wrote so.

    Raises:
        BadText: it is no key of the flag's model.
    """
    fields: Any = keys_of(flag.model)
    parts = [text] if len(fields) == 1 else next(csv.reader([text]), [])
    if len(parts) != len(fields):
        names = ",".join(str(field.name) for field in fields)
        raise BadText(f"{text!r} is no key of {flag.label}; write {names}")
    return tuple(_typed(f, part) for f, part in zip(fields, parts, strict=True))


def filtered(flag: PendingFlag, texts: Iterable[str]) -> list[Any]:
    """Return the conditions that typed filters stand for; a row must meet them all.

    `field=value` is equality, `field~text` is "contains", whatever the case (numbers
    and dates as the database writes them);
    `field=` matches NULL, too. Fields are those of the model, and the flag's own
    `error`, `attempts` and `crashes`.

    Raises:
        BadText: a filter has another form, names no field, or no value of it.
    """
    return [_filter(flag, text) for text in texts]


def filter_fields(flag: PendingFlag) -> dict[str, Field[Any]]:
    """Return the fields that filters may name."""
    own = {
        field.name: field
        for field in flag.model._meta.sorted_fields
        if getattr(field, "accessor_class", None) is not CompanionAccessor
    }
    flags = {name: flag.companions[name] for name in ("error", "attempts", "crashes")}
    return {**flags, **own}


def _filter(flag: PendingFlag, text: str) -> Any:
    at = min((i for i in map(text.find, (_IS, _CONTAINS)) if i > 0), default=0)
    name, sign, value = text[:at], text[at : at + 1], text[at + 1 :]
    fields = filter_fields(flag)
    if not name:
        raise BadText(f"{text!r} is no filter; write field=value or field~text")
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=3) or sorted(fields)
        raise BadText(f"{flag.label} has no field {name!r}; write {', '.join(near)}")
    field = fields[name]
    if sign == _CONTAINS:
        words = field if _is_text(field) else field.cast(flag.dialect.text)
        return words.contains(_plain(value))
    if value:
        return field == _typed(field, value)
    if _is_text(field):
        return field.is_null() | (field == "")
    return field.is_null()


def _is_text(field: Any) -> bool:
    return isinstance(field, (peewee.CharField, peewee.TextField))


def _typed(field: Any, text: str) -> Any:
    if isinstance(field, peewee.ForeignKeyField):
        return _typed(field.rel_field, text)
    name = field.name
    for kind, parse in _PARSERS:
        if isinstance(field, kind):
            try:
                return parse(text.strip())
            except (ValueError, ArithmeticError, KeyError):
                raise BadText(f"{text!r} is no value of {name}") from None
    return _plain(text)


def _plain(text: str) -> str:
    if "\0" in text or not text.isprintable():
        try:
            text.replace("\0", "\ud800").encode()  # what no driver stores
        except UnicodeEncodeError:
            raise BadText(f"{text!r} is in no database") from None
    return text


def _integer(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _finite(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError
    return number


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


_PARSERS: list[tuple[type, Callable[[str], Any]]] = [
    (peewee.BooleanField, _truth),
    (peewee.IntegerField, _integer),
    (peewee.FloatField, lambda text: float(_finite(text))),
    (peewee.DecimalField, _finite),
    (peewee.UUIDField, uuid.UUID),
    (peewee.BinaryUUIDField, uuid.UUID),
    (peewee.BlobField, bytes.fromhex),
    (peewee.DateTimeField, datetime.fromisoformat),
    (peewee.DateField, date.fromisoformat),
    (peewee.TimeField, time.fromisoformat),
]


def _by_label(models: Iterable[type[PendingModel]]) -> list[PendingFlag]:
    found: dict[str, PendingFlag] = {}
    for model in models:
        for flag in model._meta.flags:
            found.setdefault(flag.label, flag)
    return [found[label] for label in sorted(found)]


def _models() -> Iterator[type[PendingModel]]:
    # The frozen copies in a migration's script are no models of the application.
    return (m for m in derived(PendingModel) if m.__module__ in sys.modules)


def derived(model: type[PendingModel]) -> Iterator[type[PendingModel]]:
    """Yield the models that derive from `model`, directly or not."""
    for one in model.__subclasses__():
        yield one
        yield from derived(one)
