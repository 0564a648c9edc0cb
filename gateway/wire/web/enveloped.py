"""Protocols whose messages come in envelopes of five bytes and whose answer ends with an envelope of its own.

Connect's streams (connectrpc.com/docs/protocol, "Streaming RPCs") and gRPC-Web (github.com/grpc/grpc,
doc/PROTOCOL-WEB.md) differ in the names of their headers and in what the last envelope says.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

import msgspec

from gateway.wire.asgi import Pairs
from gateway.wire.errors import Ending, status_trailers
from gateway.wire.message import PREFIX
from gateway.wire.running import CallerLeftError
from gateway.wire.web.connect_error import error_object
from gateway.wire.web.connect_unary import check_version
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.gzip import deflated
from gateway.wire.web.inbox import Inbox
from gateway.wire.web.speech import Dialect

FAIR_SENDS: Final = 32
"""After so many messages that perhaps never had to wait, a stream lets the others have a turn."""

_COMPRESSED: Final = 0x01
_CONNECT_END: Final = 0x02
_GRPC_WEB_END: Final = 0x80


class Enveloped(ABC):
    """One call. A protocol says how its headers are read and written, and what its last envelope holds."""

    __slots__ = ("_dialect", "_exchange", "_held", "_sent", "_streams", "ended", "gzip", "gzip_back")

    end_flag: int

    def __init__(self, dialect: Dialect, exchange: Exchange) -> None:
        self._dialect = dialect
        self._exchange = exchange
        self._held = b""
        """The only reply of a method that has one: it leaves with the end, in one write."""
        self._streams = dialect.route.method.cardinality.reply_streams
        self._sent = 0
        self.gzip = self.gzip_back = self.ended = False

    @abstractmethod
    def open(self) -> int | None:
        """See `Speech`."""
        ...

    @abstractmethod
    def headers(self) -> Pairs:
        """What the answer begins with."""
        ...

    @abstractmethod
    def last(self, ending: Ending | None) -> bytes:
        """What the last envelope holds."""
        ...

    def written(self, data: bytes) -> bytes:
        """Bytes as the body has them."""
        return data

    async def request(self, inbox: Inbox) -> object:
        """See `Speech`."""
        message = await inbox.one(self._dialect.message_bytes_max, gzip=self.gzip)
        return self._dialect.decoded(message)

    async def send(self, message: bytes) -> None:
        """See `Speech`."""
        if self.ended:
            raise CallerLeftError
        flag = 0
        if self.gzip_back and len(message) >= self._dialect.compress_bytes_min:
            flag, message = _COMPRESSED, deflated(message)
        envelope = PREFIX.pack(flag, len(message)) + message
        exchange = self._exchange
        if not self._streams:
            exchange.leading()
            self._held = envelope
            return
        if not exchange.started:
            await exchange.start(200, [*self.headers(), *exchange.leading()])
        # Without `Exchange.body` between, because this is done for every message.
        try:
            await exchange.send({"type": "http.response.body", "body": self.written(envelope), "more_body": True})
        except OSError:
            raise CallerLeftError from None
        self._sent += 1
        if self._sent % FAIR_SENDS == 0:
            await asyncio.sleep(0)

    async def end(self, ending: Ending | None) -> None:
        """See `Speech`."""
        if self.ended:
            return
        self.ended = True
        if not self._exchange.started:
            await self._exchange.start(200, [*self.headers(), *self._exchange.leading_of_refusal()])
        last = self.last(ending)
        envelope = PREFIX.pack(self.end_flag, len(last)) + last
        await self._exchange.body(self.written(self._held + envelope))


class ConnectStream(Enveloped):
    """One call of Connect's streaming kind."""

    __slots__ = ()

    end_flag = _CONNECT_END

    def open(self) -> int | None:
        """See `Speech`."""
        fields = self._exchange.fields
        check_version(fields.all(b"connect-protocol-version"), b"1", "connect-protocol-version: 1")
        self.gzip = fields.gzip(b"connect-content-encoding")
        self.gzip_back = fields.gzip_accepted(b"connect-accept-encoding", otherwise=self.gzip)
        return fields.connect_timeout_ns()

    def headers(self) -> Pairs:
        """See `Enveloped`."""
        pairs = [(b"content-type", self._dialect.content_type), (b"connect-accept-encoding", b"gzip")]
        if self.gzip_back:
            pairs.append((b"connect-content-encoding", b"gzip"))
        return pairs

    def last(self, ending: Ending | None) -> bytes:
        """An EndStreamResponse."""
        said: dict[str, object] = {"metadata": {name: [value] for name, value in self._exchange.trailing()}}
        if ending is not None:
            said["error"] = error_object(ending, self._exchange.request)
        return msgspec.json.encode(said)


class GrpcWeb(Enveloped):
    """One call of gRPC-Web, of any kind."""

    __slots__ = ()

    end_flag = _GRPC_WEB_END

    def open(self) -> int | None:
        """See `Speech`."""
        fields = self._exchange.fields
        self.gzip = fields.gzip(b"grpc-encoding")
        self.gzip_back = fields.gzip_accepted(b"grpc-accept-encoding", otherwise=False)
        return fields.grpc_timeout_ns()

    def headers(self) -> Pairs:
        """See `Enveloped`."""
        pairs = [(b"content-type", self._dialect.content_type), (b"grpc-accept-encoding", b"gzip")]
        if self.gzip_back:
            pairs.append((b"grpc-encoding", b"gzip"))
        return pairs

    def last(self, ending: Ending | None) -> bytes:
        """The trailers, as HTTP/1.1 writes headers, their names in lower case."""
        status = [("grpc-status", "0")] if ending is None else status_trailers(ending, self._exchange.request)
        return "".join(f"{name}: {value}\r\n" for name, value in (*status, *self._exchange.trailing())).encode("ascii")
