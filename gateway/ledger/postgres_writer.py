"""The one writer of a process to PostgreSQL: a task that makes everything durable which waits at the same moment.

An order is answered after the commit that holds it, never before; one that is refused or fails changes nothing and
harms no other of its batch. A batch that met another instance's change is run again. Batches are run from memory and
written in one round trip (`postgres_book`); the oftener one meets such a change, the more of the next ones lock and
read first, four round trips each, so that instances that write the same balances wait for each other instead of trying
in vain.

A connection that is lost while a commit is on its way leaves open whether it happened. It is never assumed: every batch
counts itself in this boot's row of `boots`, and the next connection reads that row, waiting for its lock, which a
transaction that is still being committed holds. The number says which it was. A number that neither knows means that
the database lost what it had confirmed (a replica took over that had not all of it) or that another process has this
boot's name: nothing is written then any more.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar, cast

import asyncpg

from gateway.ledger.book import Book, Head, Unit
from gateway.ledger.entries import Reads, Writes
from gateway.ledger.postgres_book import PostgresSource
from gateway.ledger.postgres_link import LOST, TRIED_AGAIN, LedgerDatabaseError, Link, is_loss, unreachable
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.postgres_writes import write
from gateway.ledger.queue import PATIENCE_S, Order, Queue
from gateway.terms.clock import Sleep, system_sleep
from gateway.terms.faults import LedgerUnavailableError

Answer = TypeVar("Answer")
_Order = Order[Unit[object]]

TRIES_MAX: Final = 8
"""How often a batch is run again because of what other instances did meanwhile."""

MET_MAX: Final = 10
"""Of what is counted of other instances' changes: 2 to the half of it batches are locked and read at most."""

FIRST_PAUSE_S: Final = 0.02
LAST_PAUSE_S: Final = 0.5
"""Between attempts to reach the database."""

_NOT_KNOWN: Final = "; whether the last commit happened is not known"

_COMMITTED: Final = "SELECT batch FROM boots WHERE instance = $1 AND boot = $2 FOR UPDATE"


class StaleError(Exception):
    """PostgreSQL undid a transaction without saying why: run its batch again."""


class LostCommitsError(Exception):
    """The database does not know what it confirmed: nothing may be built upon it."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A batch that was run, and where the chain stands after it."""

    batch: list[_Order]
    answers: list[Callable[[], None]]
    head: Head
    number: int


class PostgresWriter:
    """`do` is for callers; `serve` is the task's, until `close`."""

    def __init__(
        self,
        link: Link,
        book: Book,
        source: PostgresSource,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Sleep = system_sleep,
    ) -> None:
        self._link = link
        self._book = book
        self._source = source
        self._sleep = sleep
        self._why = "PostgreSQL does not answer in time"
        self._queue: Queue[Unit[object]] = Queue(lambda: f"the ledger cannot write: {self._why}", patience_s)
        self._committed = 0
        """The number of the last batch of this boot that is known to be durable."""
        self._open: _Done | None = None
        """A batch whose COMMIT was sent and not answered."""
        self._broken: str | None = None
        self._wary = 0
        """How many batches more are locked and read."""
        self._met = 0
        """Two for each batch from memory that met another instance's change, less one for each that did not."""

    async def do(self, unit: Unit[Answer]) -> Answer:
        """Run the unit in the next commit and give its answer, or raise what it raised.

        Raises `LedgerUnavailableError` when nothing can be made durable now. Where PostgreSQL is lost during a commit
        and does not come back in time, that is not known of the order: it may be durable.
        """
        return cast("Answer", await self._queue.ask(unit))

    @property
    def durable(self) -> int:
        """Commits of this boot that are known to be durable."""
        return self._committed

    def close(self) -> None:
        """Take no more orders; `serve` ends with the last that waits."""
        self._queue.close()

    async def serve(self) -> None:
        """The task."""
        while batch := await self._queue.batch():
            await self._write(batch)

    async def _write(self, batch: list[_Order]) -> None:
        """Run the batch until it is durable, refused, or nobody waits for it any more."""
        pause_s, tries = FIRST_PAUSE_S, 0
        while tries == 0 or not all(order.future.done() for order in batch):
            tries += 1
            try:
                await self._attempt(batch)
            except (*TRIED_AGAIN, StaleError) as error:
                await self._roll_back()
                if tries < TRIES_MAX:
                    continue
                _fail(batch, f"other instances changed what it reads {tries} times: {error}")
            except (LedgerDatabaseError, LostCommitsError) as error:
                _fail(batch, str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends this batch and not the writer
                if is_loss(error) or self._open is not None:
                    self._link.drop()
                    self._why = unreachable(error) + _NOT_KNOWN * (self._open is not None)
                    await self._sleep(pause_s)
                    pause_s = min(2 * pause_s, LAST_PAUSE_S)
                    continue
                await self._roll_back()
                await self._apart(batch, error)
            return

    async def _apart(self, batch: list[_Order], error: Exception) -> None:
        """One order that PostgreSQL will not have must not fail the others: each has a commit of its own then."""
        if len(batch) == 1:
            _fail(batch, str(error), error)
            return
        for order in batch:
            await self._write([order])

    async def _attempt(self, batch: list[_Order]) -> None:
        """One try, or none if the last one is found to have been committed."""
        resolved = await self._resolved()
        if resolved is None or resolved.batch is not batch:
            await self._run(await self._link.connected(), batch)

    async def _resolved(self) -> _Done | None:
        """Make sure what is durable, where a connection was lost; the open batch, if it is."""
        if self._broken is not None:
            raise LostCommitsError(self._broken)
        done = self._open
        if (self._link.alive and done is None) or (self._committed == 0 and done is None):
            return None
        connection = await self._link.connected()
        chain = self._book.chain
        stored = await connection.fetchval(_COMMITTED, chain.instance, chain.boot) or 0
        self._open = None
        if done is not None and stored == done.number:
            self._conclude(done)
            return done
        if stored != self._committed:
            self._broken = (
                f"PostgreSQL has {stored} batches of this process, which was told of {self._committed}: it lost what it"
                " confirmed, or another process writes under the same name. Nothing is written any more; start anew"
            )
            raise LostCommitsError(self._broken)
        return None

    def _conclude(self, done: _Done) -> None:
        """The batch is durable: tell who waits."""
        self._committed, self._book.head, self._open = done.number, done.head, None
        for answer in done.answers:
            answer()

    async def _run(self, connection: Connection, batch: list[_Order]) -> None:
        """One try of a batch, to its commit. Where it ends earlier, it is as if it had never been."""
        units, answers = _announced(batch)
        reads = [reads for _, reads in units]
        if self._wary == 0 and self._source.recall(reads):
            done, writes = self._ran(batch, units, answers)
            if not writes.nothing:
                await self._commit(done, self._remembered(connection, done, writes))
                return
        self._wary = max(0, self._wary - 1)
        await self._source.begin(connection, reads)
        done, writes = self._ran(batch, units, answers)
        if writes.nothing:
            await connection.execute("ROLLBACK")
            self._conclude(replace(done, number=self._committed))
            return
        written = await write(connection, writes, self._book.chain, done.number)
        await self._commit(done, _committed(connection))
        self._source.learn(writes, written)

    def _ran(
        self, batch: list[_Order], units: list[tuple[_Order, Reads]], answers: list[Callable[[], None]]
    ) -> tuple[_Done, Writes]:
        """Run the units on what the source has. The book's head stays where it was until the commit."""
        book, head = self._book, self._book.head
        try:
            book.begin_batch()
            told = [*answers, *(self._called(order) for order, _ in units)]
            return _Done(batch, told, book.head, self._committed + 1), book.writes()
        finally:
            book.head = head

    async def _remembered(self, connection: Connection, done: _Done, writes: Writes) -> None:
        """Write what was run from memory, if it is still so."""
        try:
            written = await write(connection, writes, self._book.chain, done.number, self._source.seen())
        except asyncpg.SerializationError:
            self._met = min(self._met + 2, MET_MAX)
            self._wary = 2 ** (self._met // 2)
            raise
        self._met = max(0, self._met - 1)
        self._source.learn(writes, written)

    async def _commit(self, done: _Done, committing: Awaitable[None]) -> None:
        self._open = done
        try:
            await committing
        except (asyncpg.PostgresError, StaleError, ValueError) as error:
            if not is_loss(error):
                self._open = None  # PostgreSQL says that it did not, or was not asked
            raise
        self._conclude(done)

    def _called(self, order: _Order) -> Callable[[], None]:
        """Run one unit; its answer waits for the commit."""
        self._book.begin_unit()
        try:
            value = order.ordered(self._book)
        except Exception as error:  # noqa: BLE001 - whoever ordered the unit gets what it raised
            self._book.undo()
            return partial(order.fail, error)
        return partial(order.answer, value)

    async def _roll_back(self) -> None:
        """End the transaction; where that cannot be said, the connection's end ends it."""
        connection = self._link.connection
        if connection is None or not connection.is_in_transaction():
            return
        try:
            await connection.execute("ROLLBACK")
        except (*LOST, asyncpg.PostgresError):
            self._link.drop()


async def _committed(connection: Connection) -> None:
    told = await connection.execute("COMMIT")
    if told != "COMMIT":
        raise StaleError(f"PostgreSQL answered COMMIT with {told}")


def _announced(batch: list[_Order]) -> tuple[list[tuple[_Order, Reads]], list[Callable[[], None]]]:
    """The orders with what they read, and the answers of those that could not even say that."""
    units: list[tuple[_Order, Reads]] = []
    answers: list[Callable[[], None]] = []
    for order in batch:
        if order.given_up or (order.future.done() and not order.future.cancelled()):
            continue
        try:
            units.append((order, order.ordered.reads()))
        except Exception as error:  # noqa: BLE001 - as in running it
            answers.append(partial(order.fail, error))
    return units, answers


def _fail(batch: list[_Order], why: str, cause: Exception | None = None) -> None:
    for order in batch:
        failure = LedgerUnavailableError(f"the ledger cannot write: {why}")
        failure.__cause__ = cause
        order.fail(failure)
