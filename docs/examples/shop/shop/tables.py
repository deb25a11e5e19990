"""Make the tables: `python -m shop.tables`, at each release."""

from __future__ import annotations

from models import database

from .models import TABLES


def main() -> None:
    """Make the tables that are not there yet."""
    with database.connection_context():
        database.create_tables(TABLES)


if __name__ == "__main__":
    main()
