"""What calls read of PostgreSQL without waiting for the writer: all that waits at the moment, in one statement."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Final, TypeVar, cast

import asyncpg
import msgspec

from gateway.ledger import rows
from gateway.ledger.entries import Stored
from gateway.ledger.postgres_book import OPERATION
from gateway.ledger.postgres_link import LOST, LedgerDatabaseError, Link, is_loss, unreachable
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.queue import Order, Queue
from gateway.ledger.tables import Row, storable
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import OperationId
from gateway.terms.money import Unit
from gateway.terms.operations import Counted, OperationKey, State

_KEYED: Final = (
    f"SELECT array_agg({OPERATION}) FROM unnest({{}}) AS k(tenant, principal, tool, key)"  # noqa: S608 - constants
    " JOIN operations o USING (tenant, principal, tool, key)"
)
_NAMED: Final = f"SELECT array_agg({OPERATION}) FROM unnest({{}}) AS k(id) JOIN operations o USING (id)"  # noqa: S608 - constants
_STANDING: Final = "SELECT array_agg(ROW(o.id, o.state, o.fence)) FROM unnest({}) AS k(id) JOIN operations o USING (id)"
_ENGAGED: Final = "SELECT array_agg(ROW(scope, reason)) FROM halts WHERE engaged <> 0"
_COUNTED: Final = (
    "SELECT array_agg(ROW(coalesce(b.held, 0), coalesce(b.spent, 0)) ORDER BY asked.place)"
    " FROM unnest({}) WITH ORDINALITY AS asked(scope, unit, place)"
    " LEFT JOIN balances b ON b.scope = asked.scope AND b.unit = asked.unit AND b.time_window = 'total'"
)

_PARTS: Final = {"keyed": (4, _KEYED), "named": (1, _NAMED), "standing": (1, _STANDING), "counted": (2, _COUNTED)}
"""What can be asked together: of how many arrays of texts, and what it selects."""

Answer = TypeVar("Answer")

TRIES_MAX: Final = 3
"""How often a lost connection is made anew for one batch."""


class ByKey(msgspec.Struct, frozen=True):
    """The operation with this key."""

    key: OperationKey


class ById(msgspec.Struct, frozen=True):
    """The operation with this id."""

    id: OperationId


class Standing(msgspec.Struct, frozen=True):
    """How an operation stands, and which switches are set, right before its effect."""

    operation: OperationId


class Stands(msgspec.Struct, frozen=True):
    """The answer."""

    standing: tuple[State, int] | None
    """State and fence; None where there is no such operation."""
    engaged: Mapping[str, str]
    """Scopes to reasons."""


class Counting(msgspec.Struct, frozen=True):
    """What is held and charged in each place over all time."""

    places: tuple[tuple[str, Unit], ...]


class Ask(msgspec.Struct, frozen=True, eq=False):
    """Anything else; asked alone."""

    ask: Callable[[Connection], Awaitable[object]]


Question = ByKey | ById | Standing | Counting | Ask


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

    async def counted(self, places: tuple[tuple[str, Unit], ...]) -> tuple[Counted, ...]:
        """The same, of balances at one moment."""
        return cast("tuple[Counted, ...]", await self._queue.ask(Counting(places)))

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
            except (*LOST, asyncpg.PostgresError, LedgerDatabaseError) as error:
                if is_loss(error):
                    self._link.drop()
                    failure, self._why = error, unreachable(error)
                    continue
                if len(batch) > 1:
                    # One question that PostgreSQL will not have must not fail the others: each is asked alone then.
                    for order in batch:
                        await self._answer([order])
                    return
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
        asked = tuple(dict.fromkeys(order.ordered for order in batch))
        found = await _told(connection, asked)
        for question in asked:
            if isinstance(question, Ask):
                found[question] = await question.ask(connection)
        return found


async def _told(connection: Connection, asked: Sequence[Question]) -> dict[Question, object]:
    """The answers to all that is asked in one statement; a question without one has found nothing."""
    keys = [_texts(rows.key_row(one.key)) for one in asked if isinstance(one, ByKey)]
    names = _texts(one.id for one in asked if isinstance(one, ById))
    standing = [one.operation for one in asked if isinstance(one, Standing)]
    counting = [one for one in asked if isinstance(one, Counting)]
    places = [(scope, unit.value) for one in counting for scope, unit in one.places]
    arrays: dict[str, Sequence[Sequence[str]]] = {
        "keyed": list(zip(*keys, strict=True)),
        "named": [names] if names else [],
        "standing": [standing] if standing else [],
        "counted": list(zip(*places, strict=True)),
    }
    parts = tuple(name for name, given in arrays.items() if given)
    told: dict[str, Sequence[Row]] = {}
    if parts:
        [row] = await connection.fetch(_statement(parts), *(array for name in parts for array in arrays[name]))
        told = {name: part or () for name, part in row.items()}
    stored = tuple(map(rows.stored, (*told.get("keyed", ()), *told.get("named", ()))))
    found: dict[Question, object] = {ByKey(one.operation.key): one for one in stored}
    found |= {ById(one.operation.id): one for one in stored}
    engaged = dict(cast("Iterable[tuple[str, str]]", told.get("engaged", ())))
    of_standing = cast("Iterable[tuple[str, str, int]]", told.get("standing", ()))
    stood = {name: (State(state), fence) for name, state, fence in of_standing}
    found |= {Standing(name): Stands(stood.get(name), engaged) for name in standing}
    balances = cast("Iterable[tuple[int, int]]", told.get("counted", ()))
    sums = (Counted(held=held, spent=spent) for held, spent in balances)
    return found | {one: tuple(islice(sums, len(one.places))) for one in counting}


def _texts(said: Iterable[str]) -> tuple[str, ...]:
    """As they would be stored: what a caller says may be no text of PostgreSQL's, and then it is nowhere."""
    return tuple(str(storable(text)) for text in said)


@cache
def _statement(parts: tuple[str, ...]) -> str:
    """One statement for these parts: a column for each, in it an array of rows."""
    columns: list[str] = []
    used = 0
    for part in parts:
        arrays, text = _PARTS[part]
        given = ", ".join(f"${used + place}::text[]" for place in range(1, arrays + 1))
        columns.append(f"({text.format(given)}) AS {part}")
        used += arrays
    if "standing" in parts:
        columns.append(f"({_ENGAGED}) AS engaged")
    return "SELECT " + ", ".join(columns)
