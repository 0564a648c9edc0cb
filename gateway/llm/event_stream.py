"""The body of an HTTP reply as server-sent events, bounded in time and in bytes."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.sse import EventReader, EventTooLargeError

HELD_S: Final = 1.0
"""Whoever holds an upstream back for so long may be the one whom it gave up on."""

_BROKEN: Final = frozenset({Fault.TRUNCATED, Fault.STALLED, Fault.UNREAD, Fault.TOO_LONG})

LOOK_S: Final = 1.0
"""How often the connection itself is looked at: aiohttp's parser loses sight of one that broke its chunk coding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds."""

    idle_s: float
    """For one whole event, comments not counted: bytes that drip are no progress."""
    total_s: float
    """For the whole stream, whatever its consumer does. Its end by this time is no failure of the upstream: callers
    can ask for long answers, and read them slowly."""
    tail_s: float
    """For the end of a stream whose answer has said that it is whole."""


class EventStream:
    """Gives the events of a reply in the order and at the pace of its consumer: nothing is read ahead of need.

    Inside the context one timer watches the stream. It looks when the time is up instead of being set anew with every
    packet, because a stream has thousands of packets and is hardly ever late.
    """

    __slots__ = (
        *("_ends", "_held_s", "_late", "_now", "_patience", "_reader", "_reply", "_room", "_since", "_timer"),
        *("_gave", "_left"),
    )

    def __init__(self, reply: aiohttp.ClientResponse, patience: Patience, bytes_max: int) -> None:
        self._reply = reply
        self._patience = patience
        self._room = bytes_max
        self._reader = EventReader()
        self._now = asyncio.get_running_loop().time
        self._ends = self._now() + patience.total_s
        self._since: float | None = None
        """When the wait for the next event began; None while the consumer has the word."""
        self._gave: float | None = None
        """When the consumer got the word; None before the first event."""
        self._held_s = 0.0
        """How long the consumer has held the upstream back, less what it has waited for it since: an upstream that
        nobody waits for may have given up long before its buffered events are read."""
        self._late: UpstreamError | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def pending(self) -> bool:
        """Whether the stream ended inside an event."""
        return self._reader.pending

    async def more(self, *, whole: bool) -> list[bytes] | None:
        """The data of the next events, at least one; None at the end of the stream. Raises `UpstreamError`.

        `whole` says that the answer has had its end: then a little is waited for, and a cut is an end like any other.
        """
        if not whole:
            return await self._more()
        try:
            async with asyncio.timeout(self._patience.tail_s):
                return await self._more()
        except TimeoutError:
            return None
        except UpstreamError as error:
            if error.fault in _BROKEN:
                return None
            raise

    def broken(self, fault: Fault, detail: str) -> UpstreamError:
        """What a stream that breaks now has met: this fault, or, where its consumer held it back, that consumer."""
        if self._held_s >= HELD_S:
            return UpstreamError(Fault.UNREAD, f"after {self._held_s:.1f} s in which nobody read: {detail}")
        return UpstreamError(fault, detail)

    async def _more(self) -> list[bytes] | None:
        self._since = began = self._now()
        if self._gave is not None:
            self._held_s += began - self._gave
        while received := await self._received():
            self._room -= len(received)
            if self._room < 0:
                raise UpstreamError(Fault.TOO_LARGE, "the stream is longer than any answer to this request")
            try:
                events = self._reader.feed(received)
            except EventTooLargeError:
                raise UpstreamError(Fault.TOO_LARGE, "an event is beyond the bound") from None
            if events:
                self._since, self._gave = None, self._now()
                self._held_s = max(0.0, self._held_s - (self._gave - began))
                return events
        return None

    async def _received(self) -> bytes:
        try:
            return await self._reply.content.readany()
        except (aiohttp.ClientError, HttpProcessingError, RuntimeError) as error:
            # RuntimeError is aiohttp's word for a connection that its own session has closed.
            if self._late is not None:
                raise self._late from None
            raise self.broken(Fault.TRUNCATED, repr(error)) from error

    def _look(self) -> None:
        """Cut the stream if it is late or its connection is lost; else look again when it can be."""
        now = self._now()
        late = (now if self._since is None else self._since) + self._patience.idle_s
        if now >= min(late, self._ends):
            self._late = self._lateness(idle=now >= late)
        if self._reply.content.is_eof():
            return
        connection = self._reply.connection
        if self._late is not None or connection is None or connection.closed:
            self._reply.close()
        else:
            due = min(late, self._ends, now + LOOK_S)
            self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _lateness(self, *, idle: bool) -> UpstreamError:
        """Whose doing it is that the time is up. An upstream that never said a word is silent, whichever time it is."""
        if self._since is None:
            return UpstreamError(Fault.UNREAD, f"not read to its end within {self._patience.total_s:g} s")
        if idle or self._gave is None:
            return self.broken(Fault.STALLED, f"no event for {self._patience.idle_s:g} s")
        return UpstreamError(Fault.TOO_LONG, f"not at its end after {self._patience.total_s:g} s")
