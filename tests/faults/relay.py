"""A TCP relay that sees every byte between the gateway and what it speaks to, and can strike at any one of them.

The process that is killed is the real one and knows nothing of this: what it wrote before the strike is forwarded as
far as the strike says, and not a byte further.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Moment(StrEnum):
    """When, in one exchange of a request and its reply, the process is killed."""

    FIRST = "first"
    """It has written, and nothing of it is forwarded."""
    HEAD = "head"
    """A part of the first line and the headers is forwarded."""
    BODY = "body"
    """All of the headers and a part of the body are forwarded."""
    SENT = "sent"
    """The whole request is forwarded: the other side may act on it while the process dies."""
    ACCEPTED = "accepted"
    """The other side has acted and replies; nothing of the reply is forwarded."""
    PARTIAL = "partial"
    """A part of the reply is forwarded."""
    REPLIED = "replied"
    """The whole reply is forwarded: the process may have begun to read it."""


@dataclass(slots=True, kw_only=True)
class Strike:
    """Kill at a moment of the exchange number `nth` (from 0) whose request begins with `prefix`."""

    prefix: bytes
    moment: Moment
    nth: int
    share: float
    """Which part of a part: from 0 to 1."""


@dataclass(slots=True)
class Relay:
    """Listens on loopback, forwards to one port, and calls `kill` once when its strike comes."""

    host: str
    port: int
    kill: Callable[[], None]
    strike: Strike | None = None
    struck: bool = False
    listening: int = 0
    posted: list[bytes] = field(default_factory=list)
    """Every POST that was forwarded whole."""
    _seen: int = 0
    _server: asyncio.Server | None = None
    _links: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """The port to connect to."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.listening = self._server.sockets[0].getsockname()[1]
        return self.listening

    def arm(self, strike: Strike | None) -> None:
        """From now on."""
        self.strike, self.struck, self._seen = strike, False, 0

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._links.add(task)
            task.add_done_callback(self._links.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, to = await asyncio.open_connection(self.host, self.port)
            link = self._link(writer, to)
            pumps = [asyncio.ensure_future(link.requests(reader)), asyncio.ensure_future(link.replies(there))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                to.close()
                writer.close()

    def _link(self, back: asyncio.StreamWriter, to: asyncio.StreamWriter) -> "_Link | _DatabaseLink":
        return _Link(self, back, to)

    def meets(self, request: bytes) -> Strike | None:
        """The strike, if this request is the one that it waits for; each is asked about once."""
        if self.strike is None or self.struck or not request.startswith(self.strike.prefix):
            return None
        self._seen += 1
        return self.strike if self._seen == self.strike.nth + 1 else None

    def hit(self) -> None:
        """Kill."""
        self.struck = True
        self.kill()


class _Link:
    """One connection. HTTP/1.1 without pipelining: a new request begins when the one before was answered."""

    def __init__(self, relay: Relay, back: asyncio.StreamWriter, to: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._back = back
        self._to = to
        self._request = bytearray()
        self._answered = True
        self._strike: Strike | None = None
        self._forwarded = 0

    async def requests(self, reader: asyncio.StreamReader) -> None:
        """From the gateway."""
        while piece := await reader.read(65_536):
            if self._answered:
                self._answered, self._forwarded = False, 0
                self._request.clear()
                self._strike = self._relay.meets(piece)
            self._request += piece
            if self._to.is_closing():
                return
            if self._strike is None:
                self._to.write(piece)
                self._note(_whole(self._request))
            elif self._forward():
                return
            await self._to.drain()
        if self._to.can_write_eof():
            self._to.write_eof()

    def _note(self, whole: int | None) -> None:
        if whole is not None and self._request.startswith(b"POST "):
            self._relay.posted.append(bytes(self._request))
            self._request.clear()

    def _forward(self) -> bool:
        """Forward of a request that is struck as much as the strike says; true once it has struck."""
        strike, whole = self._strike, _whole(self._request)
        end = self._request.find(b"\r\n\r\n")
        if strike is None or whole is None:
            return False  # until the whole request is there, so that its parts are known
        limits = {
            Moment.FIRST: 0,
            Moment.HEAD: 1 + int(strike.share * (end - 1)),
            Moment.BODY: end + 4 + int(strike.share * max(whole - end - 5, 0)),
        }
        limit = limits.get(strike.moment, whole)
        self._to.write(bytes(self._request[self._forwarded : limit]))
        self._forwarded = limit
        self._note(limit if limit == whole else None)
        if strike.moment in (*limits, Moment.SENT):
            self._relay.hit()
            return strike.moment is not Moment.SENT
        return False

    async def replies(self, reader: asyncio.StreamReader) -> None:
        """To the gateway."""
        while piece := await reader.read(65_536):
            self._answered = True
            strike, self._strike = self._strike, None
            if self._back.is_closing():
                return
            if strike is None or strike.moment is Moment.SENT:
                self._back.write(piece)
            elif strike.moment is Moment.ACCEPTED:
                self._relay.hit()
                return
            elif strike.moment is Moment.PARTIAL:
                self._back.write(piece[: 1 + int(strike.share * (len(piece) - 2))])
                await self._back.drain()
                self._relay.hit()
                return
            else:
                self._back.write(piece)
                await self._back.drain()
                self._relay.hit()
            await self._back.drain()


def _whole(request: bytes | bytearray) -> int | None:
    """How long the request is when all of it is there."""
    head, found, body = bytes(request).partition(b"\r\n\r\n")
    if not found:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return len(head) + 4 + length if len(body) >= length else None


class CommitRelay(Relay):
    """Stands before PostgreSQL and strikes at a COMMIT: before it is passed on, once it is durable, or once told."""

    def _link(self, back: asyncio.StreamWriter, to: asyncio.StreamWriter) -> "_DatabaseLink":
        return _DatabaseLink(self, back, to)


class _DatabaseLink:
    """One connection in PostgreSQL's protocol, of which only the simple query COMMIT is looked for."""

    def __init__(self, relay: Relay, back: asyncio.StreamWriter, to: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._back = back
        self._to = to
        self._strike: Strike | None = None

    async def requests(self, reader: asyncio.StreamReader) -> None:
        """From the gateway. asyncpg sends a simple query in one write."""
        while piece := await reader.read(65_536):
            self._strike = self._relay.meets(piece)
            if self._strike is not None and self._strike.moment is Moment.FIRST:
                self._relay.hit()
                return
            if self._to.is_closing():
                return
            self._to.write(piece)
            await self._to.drain()

    async def replies(self, reader: asyncio.StreamReader) -> None:
        """To the gateway."""
        while piece := await reader.read(65_536):
            strike, self._strike = self._strike, None
            if self._back.is_closing():
                return
            if strike is not None and strike.moment is Moment.ACCEPTED:
                self._relay.hit()
                return
            self._back.write(piece)
            await self._back.drain()
            if strike is not None:
                self._relay.hit()
