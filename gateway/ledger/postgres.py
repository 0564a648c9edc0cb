"""The ledger in one PostgreSQL database, which any number of gateways share.

Every process is an instance of its own, with a name that no other has or had: its records are its own chain, and its
operations are its own until their lease ends. So a start declares nothing lost but operations whose lease has ended:
the others may be another instance's, at work.

Times are the gateways' own clocks, not the database's. A clock that is wrong by some seconds begins and ends leases
and budget windows by so much early or late: an operation whose owner's clock is behind, or whose finder's is ahead, can
be declared UNKNOWN while it still runs. Its owner cannot settle it then (the fence has risen) and what it held stays
held: never spent twice, never done twice, never freed. No order of events is ever taken from a clock.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg

from gateway.ledger.book import Book, Head
from gateway.ledger.book import Unit as LedgerUnit
from gateway.ledger.entries import LastBoot, Owner, Search
from gateway.ledger.halts import halt_refusal
from gateway.ledger.journal import Chain, Diary
from gateway.ledger.life import NOTHING_BEFORE, Beginning, BootRepeatedError, Ending
from gateway.ledger.losing import LOST_AT_ONCE, Losing
from gateway.ledger.postgres_book import PostgresSource
from gateway.ledger.postgres_link import LOST, LedgerDatabaseError, Link, connect_first, unreachable
from gateway.ledger.postgres_overview import engaged_scopes, halts, latches, listed, overview, record
from gateway.ledger.postgres_reader import ById, ByKey, PostgresReader
from gateway.ledger.postgres_schema import Connection, SchemaError, migrate
from gateway.ledger.postgres_writer import PostgresWriter
from gateway.ledger.queue import PATIENCE_S
from gateway.ledger.repeats import not_owned, repeat_of, shown
from gateway.ledger.states import OPEN
from gateway.ledger.written import CLOSED, WrittenLedger
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import BootId, OperationId
from gateway.terms.latches import Latched
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Counted,
    Operation,
    OperationKey,
    Receipt,
    Replay,
    Reservation,
)
from gateway.terms.overview import HaltStanding, Overview, Page
from gateway.terms.verdict import Refusal

Answer = TypeVar("Answer")

_LAST_BOOT: Final = (
    "SELECT b.boot, a.sequence, a.leaf, a.link FROM boots b JOIN audit a USING (instance, boot) WHERE instance = $1"
    " ORDER BY b.number DESC, a.sequence DESC LIMIT 1"
)
_BOOT_USED: Final = "SELECT count(*) FROM boots WHERE instance = $1 AND boot = $2"


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is there between start and close."""

    writer: PostgresWriter
    reader: PostgresReader
    links: tuple[Link, Link]
    tasks: asyncio.TaskGroup


class PostgresLedger(WrittenLedger):
    """See `Ledger` in `gateway.call.stations`; besides, it is started, closed, and takes halts, as `SqliteLedger` is.

    One task writes and one reads, each over a connection of its own; both make a lost connection anew.
    """

    def __init__(self, url: str, *, clock: Clock, chain: Chain, diary: Diary, patience_s: float = PATIENCE_S) -> None:
        super().__init__(clock, chain, diary)
        self._url = url
        self._patience_s = patience_s
        self._opened: _Opened | None = None

    async def start(self) -> Receipt:
        """Connect, make the tables or bring them up to date, and begin this boot's chain.

        Gives the boot record's receipt. Raises `LedgerDatabaseError` with what to do; then the gateway must not start.
        """
        if self._opened is not None:
            raise LedgerDatabaseError("the ledger is open already")
        connection = await connect_first(self._url)
        try:
            before = await _prepared(connection, self._chain)
        except (SchemaError, BootRepeatedError, asyncpg.PostgresError) as error:
            raise LedgerDatabaseError(f"cannot use the database as ledger: {error}") from error
        except LOST as error:
            raise LedgerDatabaseError(unreachable(error)) from error
        finally:
            await Link(self._url, connection).close()
        async with AsyncExitStack() as undoing:
            self._opened = await self._begun(before)
            undoing.push_async_callback(self._let_go)
            try:
                receipt = await self._opened.writer.do(Beginning(self._diary))
                while len(await self.expire()) == LOST_AT_ONCE:
                    pass
            except (LedgerUnavailableError, BootRepeatedError) as error:
                raise LedgerDatabaseError(f"cannot begin the record: {error}") from error
            undoing.pop_all()
        return receipt

    async def close(self) -> Receipt:
        """Write what was ordered, then the closing record, and let the database go. Later orders are refused.

        What this instance still runs is recorded as lost: nobody will record its outcome. Gives the closing record's
        receipt. Raises `LedgerUnavailableError` when it cannot be written; the connections are let go all the same.
        """
        opened = self._now_open()
        try:
            own = Search(states=OPEN, owner=Owner(self._chain.instance, self._chain.boot))
            while len(await opened.writer.do(Losing(self._diary, own, self._clock.unix_us()))) == own.limit:
                pass
            return await opened.writer.do(Ending(self._diary))
        finally:
            await self._let_go()

    @property
    def commits(self) -> int:
        """How many were made since the start, of those that had something in them; 0 while it is not open."""
        return 0 if self._opened is None else self._opened.writer.durable

    async def find(self, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
        """What an earlier call with this key means for one with this digest; None where there was none."""
        earlier = await self._now_open().reader.read(ByKey(key))
        return None if earlier is None else repeat_of(earlier.operation, digest)

    async def get(self, operation: OperationId, caller: Caller) -> Operation | None:
        """An operation of this caller; another's is as absent as none."""
        return shown(await self._now_open().reader.read(ById(operation)), caller)

    async def tally(self, places: tuple[tuple[str, Unit], ...]) -> tuple[Counted, ...]:
        """See `gateway.call.stations.Ledger`. Raises `LedgerUnavailableError`."""
        return await self._now_open().reader.counted(places)

    async def stopped(self, reservation: Reservation, halts: tuple[str, ...]) -> Refusal | None:
        """See `Ledger`."""
        stands = await self._now_open().reader.stands(reservation.operation)
        for scope in halts:
            if scope in stands.engaged:
                return halt_refusal(scope, stands.engaged[scope], reservation.permit.policy_hash)
        return not_owned(reservation, stands.standing)

    async def halts(self) -> tuple[HaltStanding, ...]:
        """See `Oversight`."""
        return await self._now_open().reader.ask(halts)

    async def listed(self, page: Page) -> tuple[Overview, ...]:
        """See `Oversight`."""
        return await self._now_open().reader.ask(lambda connection: listed(connection, page))

    async def shown(self, operation: OperationId) -> Overview | None:
        """See `Oversight`."""
        return await self._now_open().reader.ask(lambda connection: overview(connection, operation))

    async def record(self, receipt: Receipt) -> bytes | None:
        """See `Oversight`."""
        return await self._now_open().reader.ask(lambda connection: record(connection, receipt))

    async def latches(self) -> tuple[Latched, ...]:
        """See `Oversight`."""
        return await self._now_open().reader.ask(latches)

    async def _do(self, unit: LedgerUnit[Answer]) -> Answer:
        return await self._now_open().writer.do(unit)

    async def _engaged_scopes(self) -> Sequence[str]:
        return await self._now_open().reader.ask(engaged_scopes)

    async def _begun(self, before: LastBoot | None) -> _Opened:
        links = Link(self._url), Link(self._url)
        source = PostgresSource(before)
        writer = PostgresWriter(
            links[0], Book(source, self._chain, Head(0, NOTHING_BEFORE)), source, patience_s=self._patience_s
        )
        reader = PostgresReader(links[1])
        tasks = await asyncio.TaskGroup().__aenter__()
        tasks.create_task(writer.serve())
        tasks.create_task(reader.serve())
        return _Opened(writer, reader, links, tasks)

    async def _let_go(self) -> None:
        """End both tasks after what they have, and both connections."""
        opened, self._opened = self._now_open(), None
        opened.writer.close()
        opened.reader.close()
        # Never with the error that ends this life: the group would cut a commit for it.
        await opened.tasks.__aexit__(None, None, None)
        for link in opened.links:
            await link.close()

    def _now_open(self) -> _Opened:
        if self._opened is None:
            raise LedgerUnavailableError(CLOSED)
        return self._opened


async def _prepared(connection: Connection, chain: Chain) -> LastBoot | None:
    """Make the tables ready, and find the end of this instance's boot before."""
    await migrate(connection)
    if await connection.fetchval(_BOOT_USED, chain.instance, chain.boot):
        raise BootRepeatedError(f"the boot id {chain.boot} of {chain.instance} was used before: start with a new one")
    for boot, sequence, leaf, link in await connection.fetch(_LAST_BOOT, chain.instance):
        last = Receipt(instance=chain.instance, boot=BootId(boot), sequence=sequence, leaf_hash=leaf)
        return LastBoot(last, link)
    return None
