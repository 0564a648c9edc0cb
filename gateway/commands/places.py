"""Where a command finds a ledger: in a file that is named, or in the database that the environment names.

A database's address holds its password, so it is never an argument: other users of the machine see those.
"""

import os
from pathlib import Path

import click

from gateway.audit.sources import Database
from gateway.commands.shown import CannotError
from gateway.settings.environment import DATABASE_URL, database_url

database_option = click.option(
    "--database", "in_database", is_flag=True, help=f"Read the ledger in the PostgreSQL database of ${DATABASE_URL}."
)


def place_of(file: Path | None, *, in_database: bool) -> Path | Database:
    """The one of both that was asked for. Raises `CannotError`."""
    if in_database and file is not None:
        raise CannotError("give a FILE or --database, not both")
    if in_database:
        url = database_url(os.environ)  # noqa: TID251 - settings is the one reader; this hands it over
        if not url:
            raise CannotError(f"set {DATABASE_URL} to the database's address: it is missing or empty")
        return Database(url)
    if file is None:
        raise CannotError(f"name a FILE, or give --database for the one of {DATABASE_URL}")
    return file
