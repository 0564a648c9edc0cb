"""The one writer: a thread that makes everything durable which waits at the same moment, in one commit.

An order is answered after the commit that holds it, never before. Each order is a unit of its own: one that is refused
or fails changes nothing and harms no other of its batch; a commit that fails fails them all, and the chain goes on
where it stood. A caller that leaves while it waits changes nothing either: its unit is committed all the same.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

import msgspec

from gateway.ledger.book import Book
from gateway.ledger.handoff import Handoff
from gateway.ledger.sqlite_book import SqliteSource
from gateway.terms.faults import LedgerUnavailableError

Answer = TypeVar("Answer")

BATCH_MAX: Final = 128
"""Orders in one commit: enough to share a sync widely, few enough that none waits long for the others."""

WAITING_MAX: Final = 4_096
"""Orders that wait at once; more than the calls that a gateway runs."""

PATIENCE_S: Final = 5.0
"""Without any commit for so long, what waits is told that nothing can be made durable."""


class _Order(msgspec.Struct, frozen=True):
    """A unit of work and who waits for it."""

    unit: Callable[[Book], object]
    future: asyncio.Future[object]


class _Answered(msgspec.Struct, frozen=True):
    """What came of an order; a failure is raised where it is awaited."""

    future: asyncio.Future[object]
    value: object = None
    failure: Exception | None = None


class Writer:
    """Owns book and source while it runs. `do` is for the event loop that called `start`."""

    def __init__(self, book: Book, source: SqliteSource, *, patience_s: float = PATIENCE_S) -> None:
        self._book = book
        self._source = source
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._handoff = Handoff(self._loop)
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._gathered: list[_Order] = []
        """Of this turn of the loop. A commit costs nearly as much for one order as for many."""
        self._waiting: set[asyncio.Future[object]] = set()
        self._commits = 0
        self.durable = 0
        """Commits that had something in them."""
        self._watch: asyncio.TimerHandle | None = None
        self._stuck = False
        # A daemon, so that a process that failed before `stop` can end; what is durable stays so.
        self._thread = threading.Thread(target=self._serve, name="ledger-writer", daemon=True)
        self._thread.start()

    async def do(self, unit: Callable[[Book], Answer]) -> Answer:
        """Run the unit in the next commit and give its answer, or raise what it raised.

        Raises `LedgerUnavailableError` when nothing can be made durable: too many wait, the disk fails or hangs. Only
        after a hanging disk may an order become durable that was told so.
        """
        if self._stuck:
            raise LedgerUnavailableError(f"no commit has ended for {self._patience_s} s: look at the ledger's disk")
        if len(self._waiting) >= WAITING_MAX:
            raise LedgerUnavailableError(f"{WAITING_MAX} orders wait for the ledger already: send calls more slowly")
        future: asyncio.Future[object] = self._loop.create_future()
        self._waiting.add(future)
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Order(unit, future))
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience_s / 2, self._look, self._commits, 1)
        return await future  # type: ignore[return-value]  # the future carries what this unit returned

    def stop(self) -> None:
        """End the thread after the orders that it has; nothing may be ordered any more."""
        self._hand_over()
        self._handoff.rest()
        if self._watch is not None:
            self._watch.cancel()
        self._orders.put(None)
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            raise LedgerUnavailableError("the ledger's last commit does not end: look at its disk")

    def _hand_over(self) -> None:
        """Give the thread all that the turn of the loop has brought."""
        if self._gathered:
            for order in self._gathered:
                self._orders.put(order)
            self._gathered.clear()
            self._handoff.begin()

    def _look(self, commits: int, looks: int) -> None:
        """Twice in the time of patience while orders wait: no commit since the look before the last means it hangs.

        One look would not do: it may come first of all after the whole process was frozen.
        """
        self._watch = None
        if not self._waiting:
            return
        if commits == self._commits and looks == 2:
            self._stuck = True
            self._handoff.rest()
            failure = LedgerUnavailableError(f"no commit ended within {self._patience_s} s: look at the ledger's disk")
            for future in self._waiting:
                _settle(_Answered(future, failure=failure))
            return
        looks = 2 if commits == self._commits else 1
        self._watch = self._loop.call_later(self._patience_s / 2, self._look, self._commits, looks)

    def _receive(self, answers: list[_Answered]) -> None:
        """In the loop: a batch is done."""
        self._commits += 1
        self._stuck = False
        for answer in answers:
            self._waiting.discard(answer.future)
            _settle(answer)
        self._handoff.answered(more=bool(self._waiting))

    def _serve(self) -> None:
        """The thread."""
        while batch := self._next_batch():
            answers = self._write(batch)
            self._handoff.commit_done()
            try:
                self._loop.call_soon_threadsafe(self._receive, answers)
            except RuntimeError:  # the loop was closed without `stop`: nobody waits any more
                return

    def _next_batch(self) -> list[_Order]:
        """Wait for an order and take those that are there with it; nothing at the end."""
        batch: list[_Order] = []
        try:
            order = self._orders.get()
            while order is not None:
                batch.append(order)
                if len(batch) == BATCH_MAX:
                    return batch
                order = self._orders.get_nowait()
        except Empty:
            return batch
        if batch:
            self._orders.put(None)
        return batch

    def _write(self, batch: list[_Order]) -> list[_Answered]:
        head = self._book.head
        try:
            self._source.begin()
            self._book.begin_batch()
            answers = [self._run(order) for order in batch]
            writes = self._book.writes()
            self._source.write(writes)
            self._handoff.statements_done()
            self._source.commit()
            self.durable += not writes.nothing
        except sqlite3.Error as error:
            self._book.head = head
            self._book.forget()
            self._source.forget()
            self._roll_back()
            return [_Answered(order.future, failure=_unavailable(error)) for order in batch]
        return answers

    def _run(self, order: _Order) -> _Answered:
        self._book.begin_unit()
        try:
            answer = _Answered(order.future, order.unit(self._book))
        except Exception as error:  # whoever ordered the unit gets what it raised
            if not self._source.connection.in_transaction:
                raise sqlite3.OperationalError(str(error)) from error  # SQLite gave up the whole batch
            self._book.undo()
            failure = _unavailable(error) if isinstance(error, sqlite3.Error) else error
            answer = _Answered(order.future, failure=failure)
        return answer

    def _roll_back(self) -> None:
        try:
            if self._source.connection.in_transaction:
                self._source.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN fails then, and so does every order: nothing is done on half a transaction.
            return


def _settle(answer: _Answered) -> None:
    if answer.future.done():  # its caller left, or was told that the disk hangs
        return
    if answer.failure is not None:
        answer.future.set_exception(answer.failure)
    else:
        answer.future.set_result(answer.value)


def _unavailable(error: sqlite3.Error) -> LedgerUnavailableError:
    failure = LedgerUnavailableError(f"the ledger cannot write: {error}")
    failure.__cause__ = error
    return failure
