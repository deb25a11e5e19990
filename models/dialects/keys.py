"""Primary keys, of one column or several: their fields, values and conditions."""

from __future__ import annotations

from typing import Any

from peewee import Field, Model, Tuple

Key = tuple[Any, ...]


def keys_of(model: type[Model]) -> tuple[Field[Any], ...]:
    """Return the fields of the primary key, in its order."""
    return tuple(model._meta.get_primary_keys())


def key_of(model: type[Model]) -> Any:
    """Return the primary key as one expression: the field, or a row of fields."""
    fields = keys_of(model)
    return fields[0] if len(fields) == 1 else Tuple(*fields)


def key_names(model: type[Model]) -> tuple[str, ...]:
    """Return the names of the fields of the primary key, in its order."""
    return tuple(field.name for field in keys_of(model))


def key_values(row: Model) -> Key:
    """Return the values of the row's primary key, None for what it does not have."""
    return tuple([row.__data__.get(name) for name in key_names(type(row))])


def has_key(model: type[Model], *keys: tuple[Any, ...]) -> Any:
    """Return the condition that a row has one of `keys`, each a tuple of values."""
    fields = keys_of(model)
    if len(fields) == 1 == len(keys):
        return fields[0] == keys[0][0]
    if len(fields) == 1:
        return fields[0].in_([key[0] for key in keys])
    values = (
        Tuple(*(f.to_value(v) for f, v in zip(fields, key, strict=True)))
        for key in keys
    )
    return Tuple(*fields).in_(list(values))
