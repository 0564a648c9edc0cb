"""Connect's unary calls: the body of the request is the message, the body of the answer is the reply or an error.

The protocol: https://connectrpc.com/docs/protocol, "Unary (Request-Response) RPCs".
"""

from gateway.terms.verdict import Kind
from gateway.wire.asgi import Pairs
from gateway.wire.errors import EndedError, Ending, refused
from gateway.wire.message import inflated, too_large
from gateway.wire.web.connect_error import CONTENT_TYPE, error_body, hints
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.gzip import deflated
from gateway.wire.web.inbox import Inbox
from gateway.wire.web.speech import Dialect


class ConnectUnary:
    """One call by POST."""

    __slots__ = ("_dialect", "_exchange", "_leading", "_reply", "ended", "gzip", "gzip_back")

    def __init__(self, dialect: Dialect, exchange: Exchange) -> None:
        self._dialect = dialect
        self._exchange = exchange
        self._leading: Pairs = []
        self._reply = b""
        self.gzip = self.gzip_back = self.ended = False

    def open(self) -> int | None:
        """See `Speech`."""
        fields = self._exchange.fields
        check_version(fields.all(b"connect-protocol-version"), b"1", "connect-protocol-version: 1")
        self.gzip = fields.gzip(b"content-encoding")
        self.gzip_back = fields.gzip_accepted(b"accept-encoding", otherwise=self.gzip)
        return fields.connect_timeout_ns()

    async def request(self, inbox: Inbox) -> object:
        """See `Speech`. An empty body is not inflated, and no message in JSON: its sender means `{}`, or forgot it."""
        bytes_max = self._dialect.message_bytes_max
        announced = self._exchange.fields.one(b"content-length")
        if announced.isdigit() and int(announced) > bytes_max:
            raise EndedError(too_large(bytes_max))
        message = await inbox.bare(bytes_max)
        if self.gzip and message:
            message = inflated(message, bytes_max)
        return self._dialect.decoded(message)

    async def send(self, message: bytes) -> None:
        """See `Speech`. The only reply leaves with the end of the call."""
        self._leading = self._exchange.leading()
        self._reply = message

    async def end(self, ending: Ending | None) -> None:
        """See `Speech`."""
        if self.ended:
            return
        self.ended = True
        if ending is not None:
            await self._refuse(ending)
            return
        body = self._reply
        headers = [(b"content-type", self._dialect.content_type), *self._leading, *self._trailing()]
        if len(body) >= self._dialect.compress_bytes_min:
            headers.append((b"vary", b"accept-encoding"))
            if self.gzip_back:
                headers.append((b"content-encoding", b"gzip"))
                body = deflated(body)
        await self._exchange.whole(200, headers, body)

    async def _refuse(self, ending: Ending) -> None:
        headers = [CONTENT_TYPE, *self._exchange.leading_of_refusal(), *self._trailing(), *hints(ending)]
        await self._exchange.whole(ending.outcome.http, headers, error_body(ending, self._exchange.request))

    def _trailing(self) -> Pairs:
        return [(b"trailer-" + name.encode(), value.encode()) for name, value in self._exchange.trailing()]


class ConnectGet(ConnectUnary):
    """One call by GET: the message is in the query. Only for methods without side effects."""

    __slots__ = ()

    def __init__(self, dialect: Dialect, exchange: Exchange) -> None:
        super().__init__(dialect, exchange)
        # Whose answer it is depends on headers that a cache does not know; the gateway's answers are nobody else's.
        exchange.always = [*exchange.always, (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]

    def open(self) -> int | None:
        """See `Speech`."""
        fields = self._exchange.fields
        check_version(self._exchange.query.all(b"connect"), b"v1", "connect=v1")
        self.gzip = self._exchange.query.gzip()
        self.gzip_back = fields.gzip_accepted(b"accept-encoding", otherwise=self.gzip)
        return fields.connect_timeout_ns()

    async def request(self, inbox: Inbox) -> object:  # noqa: ARG002 - a request by GET has no body
        """See `Speech`."""
        bytes_max = self._dialect.message_bytes_max
        message = self._exchange.query.message()
        if len(message) > bytes_max:
            raise EndedError(too_large(bytes_max))
        if self.gzip and message:
            message = inflated(message, bytes_max)
        return self._dialect.decoded(message)


def check_version(values: list[bytes], version: bytes, wanted: str) -> None:
    """Raise `EndedError` for another version of the protocol. Nobody needs to name it: curl does not."""
    if values and values != [version]:
        sentence = f"only version 1 of the Connect protocol is spoken here; send {wanted} or nothing"
        raise EndedError(refused(Kind.MALFORMED, "wire.version_unknown", sentence))
