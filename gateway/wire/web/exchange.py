"""One HTTP request as the server gave it, and what every protocol says in its answer."""

from dataclasses import dataclass, field

from gateway.terms.ids import RequestId
from gateway.terms.passage import Stages
from gateway.wire.answer import metadata
from gateway.wire.asgi import Pairs, Presence, Receive, Send
from gateway.wire.running import CallerLeftError
from gateway.wire.web.fields import WebFields
from gateway.wire.web.query import Query


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """A request and its answer."""

    receive: Receive
    send: Send
    fields: WebFields
    query: Query
    request: RequestId
    stages: Stages
    always: Pairs
    """What every answer to this caller says."""
    presence: Presence | None = None
    """Where the server has it."""
    head: bool = False
    """Only the headers of the answer are wanted (RFC 9110, 9.3.2)."""
    reply_headers: dict[str, str] = field(default_factory=dict)
    """What the call wants to have said before its replies."""
    reply_trailers: dict[str, str] = field(default_factory=dict)
    """What the call wants to have said behind its replies."""
    started: bool = False

    def leading(self) -> Pairs:
        """The headers that do not depend on the protocol; ValueError for reply headers that no header can carry."""
        pairs = [(b"gateway-request", self.request.encode()), *self.always]
        if self.reply_headers:
            pairs.extend((name.encode(), value.encode()) for name, value in metadata(self.reply_headers))
        return pairs

    def leading_of_refusal(self) -> Pairs:
        """The same; without reply headers that cannot be said, because the refusal is what the caller must learn."""
        try:
            return self.leading()
        except ValueError:
            return [(b"gateway-request", self.request.encode()), *self.always]

    def trailing(self) -> list[tuple[str, str]]:
        """What is said last, as headers that each protocol carries in its way."""
        timing = ("gateway-timing", self.stages.server_timing())
        return [*metadata(self.reply_trailers), timing] if self.reply_trailers else [timing]

    async def start(self, status: int, headers: Pairs) -> None:
        """Send the status and the headers; raises `CallerLeftError`."""
        self.started = True
        try:
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
        except OSError:
            # What ASGI servers raise when there is nobody to send to.
            raise CallerLeftError from None

    async def body(self, data: bytes) -> None:
        """Send the last of the body, which waits while the caller reads slowly; raises `CallerLeftError`."""
        try:
            await self.send({"type": "http.response.body", "body": data, "more_body": False})
        except OSError:
            raise CallerLeftError from None

    async def whole(self, status: int, headers: Pairs, body: bytes) -> None:
        """Send a complete answer."""
        headers.append((b"content-length", b"%d" % len(body)))
        if self.head:
            body = b""
        if self.presence is None:
            await self.start(status, headers)
            await self.body(body)
            return
        self.started = True
        try:
            await self.presence.answer(status, headers, body)
        except OSError:
            raise CallerLeftError from None
