"""What the server carries now, and what every part of the wire is given."""

import asyncio
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import Protocol

from gateway.call.stations import Witness
from gateway.terms.clock import Clock, IdSource
from gateway.terms.passage import Stages
from gateway.terms.verdict import Kind
from gateway.wire.config import WireConfig
from gateway.wire.errors import Ending, refused


class OpenCall(Protocol):
    """A call that has not ended."""

    def end(self, ending: Ending) -> None:
        """End it from outside, once: whatever runs is cancelled, then the caller is told."""
        ...

    def answer_now(self, ending: Ending) -> None:
        """Tell the caller now, without waiting for what runs."""
        ...


class OpenConnection(Protocol):
    """A connection that is not closed."""

    def say_goodbye(self) -> None:
        """Ask the peer to open nothing more; close when nothing runs."""
        ...

    def shut(self) -> None:
        """Close now, with what is already written."""
        ...

    def abort(self) -> None:
        """Close without another word."""
        ...


@dataclass(slots=True, eq=False)
class Load:
    """The open connections and calls of one process, counted where they open and close."""

    connections: set[OpenConnection] = field(default_factory=set)
    calls: set[OpenCall] = field(default_factory=set)
    exchanges: set[OpenCall] = field(default_factory=set)
    """Requests in the hands of an application; the calls that it makes of them are among the calls."""
    running: int = 0
    """Calls whose message is complete."""
    receiving_bytes: int = 0
    """Of requests whose message is not."""
    draining: bool = False
    unrecorded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a call ended because nothing could be recorded; who looks after the ledger clears it."""
    _emptied: asyncio.Event = field(default_factory=asyncio.Event)

    def call_closed(self, call: OpenCall) -> None:
        """Forget a call."""
        self.calls.discard(call)
        if not self.calls:
            self._emptied.set()

    def exchange_closed(self, exchange: OpenCall) -> None:
        """Forget an exchange."""
        self.exchanges.discard(exchange)
        if not self.exchanges:
            self._emptied.set()

    def connection_closed(self, connection: OpenConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    async def until_no_calls(self, limit_s: float) -> None:
        """Return when no call and no exchange is open, or after so many seconds."""
        await self._until_empty((self.calls, self.exchanges), limit_s)

    async def until_no_connections(self, limit_s: float) -> None:
        """Return when no connection is open, or after so many seconds."""
        await self._until_empty((self.connections,), limit_s)

    async def _until_empty(self, these: Iterable[Sized], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while any(these):
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every connection and call of one server shares."""

    config: WireConfig
    clock: Clock
    ids: IdSource
    witness: Witness
    load: Load
    stages: Callable[[Clock], Stages] = Stages
    """Makes a call's account of its stages."""

    def busy(self, reason: str, sentence: str) -> Ending:
        """The refusal that sends a caller away for a while."""
        return refused(Kind.UNAVAILABLE, reason, sentence, retry_after_ms=self.config.retry_after_ms)
