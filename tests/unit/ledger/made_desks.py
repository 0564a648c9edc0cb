"""Ledgers of every backend for tests, each with its tables as a test sees them."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from made_calls import Desk, members
from real_postgres import rows_of

from gateway.audit.recount import recount
from gateway.audit.sources import Database
from gateway.audit.verify import verify
from gateway.ledger.check import check
from gateway.ledger.postgres import PostgresLedger
from gateway.ledger.postgres_check import check_database
from gateway.terms.money import Unit


class SeenDesk(Desk):
    """A ledger and its tables as a test sees them."""

    def records_stored(self):
        return [members(record) for (record,) in self.rows("SELECT record FROM audit ORDER BY position")]

    def balance(self, scope="agent:trader", unit=Unit.CALLS):
        """Held and spent."""
        found = self.rows("SELECT held, spent FROM balances WHERE scope = ? AND unit = ?", scope, unit)
        return found[0] if found else (0, 0)


class SqliteDesk(SeenDesk):
    """In a file."""

    def rows(self, statement, *values):
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement, values).fetchall()

    def verified(self):
        return verify(self.path)

    def checked(self):
        return (*check(self.path), *problems(recount(self.path)))


class PostgresDesk(SeenDesk):
    """In a database; `path` is its address."""

    def made(self, **parts):
        return PostgresLedger(self.path, **parts)

    async def crash_now(self):
        """What a killed process leaves: no closing record, and no connection."""
        opened, self.ledger._opened = self.ledger._opened, None
        for link in opened.links:
            link.drop()
        opened.writer.close()
        opened.reader.close()
        await opened.tasks.__aexit__(None, None, None)

    def rows(self, statement, *values):
        for number in range(1, len(values) + 1):
            statement = statement.replace("?", f"${number}", 1)
        return apart(lambda: asyncio.run(rows_of(self.path, statement, *values)))

    def verified(self):
        return apart(lambda: verify(Database(self.path)))

    def checked(self):
        added = apart(lambda: asyncio.run(check_database(self.path)))
        return (*added, *problems(apart(lambda: recount(Database(self.path)))))


BACKENDS = {
    "sqlite": lambda request: SqliteDesk(request.getfixturevalue("tmp_path") / "ledger.db"),
    "postgres": lambda request: PostgresDesk(request.getfixturevalue("postgres_url")),
}
"""A backend is added by one more entry."""


def problems(told):
    """Why what was added up again from the records is not what the ledger says; nothing if it is."""
    found = [*told.differences, *told.untold]
    return found if told.bad is None else [told.bad, *found]


def apart(work):
    """Done in a thread of its own, where an event loop may be started."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(30)
