"""What calls read of PostgreSQL without waiting for the writer: operations by key and by id, many in one statement."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import asyncpg

from gateway.ledger import rows
from gateway.ledger.entries import Stored
from gateway.ledger.postgres_book import OPERATION
from gateway.ledger.postgres_link import LOST, LedgerDatabaseError, Link, unreachable
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.queue import Order, Queue
from gateway.ledger.tables import Row
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import OperationId
from gateway.terms.operations import OperationKey

_ASKED: Final = "SELECT " + ", ".join(f"o.{name}" for name in (*rows.WRITTEN, "number"))
_BY_KEY: Final = (
    f"{_ASKED} FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(tenant, principal, tool, key)"
    " JOIN operations o USING (tenant, principal, tool, key)"
)
_BY_ID: Final = f"{_ASKED} FROM unnest($1::text[]) AS k(id) JOIN operations o USING (id)"

_STANDING: Final = (
    "SELECT (SELECT array_agg(ROW(scope, reason)) FROM halts WHERE engaged <> 0) AS engaged,"  # noqa: S608 - constants
    f" (SELECT array_agg({OPERATION})"
    " FROM unnest($1::text[]) AS k(id) JOIN operations o USING (id)) AS standing"
)

Answer = TypeVar("Answer")

TRIES_MAX: Final = 3
"""How often a lost connection is made anew for one batch."""


@dataclass(frozen=True, slots=True)
class ByKey:
    """The operation with this key."""

    key: OperationKey


@dataclass(frozen=True, slots=True)
class ById:
    """The operation with this id."""

    id: OperationId


@dataclass(frozen=True, slots=True)
class Standing:
    """How an operation stands, and which switches are set, right before its effect."""

    operation: OperationId


@dataclass(frozen=True, slots=True)
class Stands:
    """The answer."""

    stored: Stored | None
    engaged: Mapping[str, str]
    """Scopes to reasons."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """Anything else; asked alone."""

    ask: Callable[[Connection], Awaitable[object]]


Question = ByKey | ById | Standing | Ask


class PostgresReader:
    """`read` is for callers; `serve` is the task's, until `close`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._why = "PostgreSQL does not answer in time"
        self._queue: Queue[Question] = Queue(lambda: f"the ledger cannot read: {self._why}")

    async def read(self, asked: ByKey | ById) -> Stored | None:
        """What is committed. Raises `LedgerUnavailableError`."""
        return cast("Stored | None", await self._queue.ask(asked))

    async def stands(self, operation: OperationId) -> Stands:
        """The same, for the last look before an effect."""
        return cast("Stands", await self._queue.ask(Standing(operation)))

    async def ask(self, question: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        """Anything else of what is committed."""
        return cast("Answer", await self._queue.ask(Ask(question)))

    def close(self) -> None:
        """Take no more; `serve` ends."""
        self._queue.close()

    async def serve(self) -> None:
        """The task."""
        while batch := await self._queue.batch():
            await self._answer(batch)

    async def _answer(self, batch: list[Order[Question]]) -> None:
        failure: Exception | None = None
        for _ in range(TRIES_MAX):
            try:
                found = await self._found(batch)
            except LOST as error:
                self._link.drop()
                failure, self._why = error, unreachable(error)
            except (asyncpg.PostgresError, LedgerDatabaseError) as error:
                failure, self._why = error, str(error)
                break
            else:
                for order in batch:
                    order.answer(found.get(order.ordered))
                return
        for order in batch:
            refused = LedgerUnavailableError(f"the ledger cannot read: {self._why}")
            refused.__cause__ = failure
            order.fail(refused)

    async def _found(self, batch: list[Order[Question]]) -> dict[Question, object]:
        connection = await self._link.connected()
        asked = {order.ordered for order in batch}
        keys = [rows.key_row(one.key) for one in asked if isinstance(one, ByKey)]
        names = [one.id for one in asked if isinstance(one, ById)]
        standing = [one.operation for one in asked if isinstance(one, Standing)]
        found: dict[Question, object] = {}
        if keys:
            for row in await connection.fetch(_BY_KEY, *zip(*keys, strict=True)):
                stored = rows.stored(cast("Row", tuple(row)))
                found[ByKey(stored.operation.key)] = stored
        if names:
            for row in await connection.fetch(_BY_ID, names):
                stored = rows.stored(cast("Row", tuple(row)))
                found[ById(stored.operation.id)] = stored
        if standing:
            [told] = await connection.fetch(_STANDING, standing)
            engaged = dict[str, str](told["engaged"] or ())
            stood = {one.operation.id: one for one in map(rows.stored, told["standing"] or ())}
            found.update((Standing(name), Stands(stood.get(name), engaged)) for name in standing)
        for question in asked:
            if isinstance(question, Ask):
                found[question] = await question.ask(connection)
        return found
