"""One HTTP/2 connection to the gateway: grpclib's, with what a long-lived client needs and grpclib 0.4.9 lacks.

| Where grpclib's own                                              | this one                                          |
|------------------------------------------------------------------|---------------------------------------------------|
| cuts every running call when the server says GOAWAY              | lets them end, and takes no new ones              |
| loses a complete answer if the connection closes right behind it | keeps it                                          |
| breaks off at frames that it does not know                       | ignores them (RFC 9113, 5.5)                      |
| answers each late frame of a call that we left with a RST_STREAM | is silent: a server counts those against us       |
| lets one reader who does not read stop all others                | gives each stream its own share of the window     |
| waits for ever for a server that went silent                     | asks for a sign of life, then gives it up         |
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from grpclib.client import Handler
from grpclib.config import Configuration
from grpclib.protocol import Connection, EventsProcessor, H2Protocol, Stream
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from agent.client.errors import lost, too_late, unprocessed
from agent.client.http2 import H2_CONFIG, STREAM_ID_LAST, Http2
from agent.client.reply import Reply

PING: Final = b"agent-ok"


class Events(EventsProcessor):
    """What the server's frames mean for the calls of one connection."""

    def __init__(self, handler: Handler, connection: Connection, replies: dict[int, Reply]) -> None:
        super().__init__(handler, connection)
        self.replies = replies
        self.streams = cast("dict[int, Stream]", replies)
        self.leaving = ""
        """Why no new call can be made here; empty as long as one can."""
        self.waiting: set[Reply] = set()
        """Calls that have no stream yet."""

    def register(self, stream: Stream) -> Callable[[], None]:
        """See grpclib."""
        reply = cast("Reply", stream)
        number = reply.number
        self.replies[number] = reply

        def release() -> None:
            del self.replies[number]
            self.connection.stream_close_waiter.set()
            if self.leaving and not self.replies:
                self.close()

        return release

    def process(self, event: Event) -> None:
        """See grpclib; an event that means nothing to us is no error."""
        known = getattr(self, "processors", {}).get(type(event))
        if known is not None:
            known(event)

    def process_response_received(self, event: ResponseReceived) -> None:
        """The answer's headers."""
        reply = self.replies.get(event.stream_id or 0)
        if reply is not None:
            reply.begin(event.headers or [])

    def process_data_received(self, event: DataReceived) -> None:
        """A piece of the answer for which `Http2` has no shorter way."""
        reply = self.replies.get(event.stream_id or 0)
        if reply is not None:
            reply.add(event.data or b"", event.flow_controlled_length or 0)

    def process_trailers_received(self, event: TrailersReceived) -> None:
        """The answer's trailers."""
        reply = self.replies.get(event.stream_id or 0)
        if reply is not None:
            reply.trail(event.headers or [])

    def process_stream_ended(self, event: StreamEnded) -> None:
        """The answer is complete."""
        reply = self.replies.get(event.stream_id or 0)
        if reply is not None:
            reply.finish()

    def process_stream_reset(self, event: StreamReset) -> None:
        """The server gave the call up."""
        reply = self.replies.get(event.stream_id or 0)
        if reply is not None:
            code = event.error_code
            if code == ErrorCodes.REFUSED_STREAM:
                reply.fail(unprocessed("the server took no further call"))
            elif code == ErrorCodes.CANCEL and reply.due:
                reply.fail(too_late(sent=True))
            else:
                name = code.name if isinstance(code, ErrorCodes) else str(code)
                reply.fail(lost(f"the server reset the stream ({name})"))

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        """Requests that wait for window, or for a stream, may go on."""
        super().process_remote_settings_changed(event)
        self.connection.stream_close_waiter.set()

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """The server goes: calls that it took may end, others must be made elsewhere."""
        self.leaving = "the server is going away"
        self._turn_away()
        last = event.last_stream_id or 0
        for reply in [reply for number, reply in self.replies.items() if number > last]:
            reply.fail(unprocessed(self.leaving))
        if not self.replies:
            self.close()

    def close(self, reason: str = "the client was closed") -> None:
        """End the connection and every call that still runs on it."""
        self.leaving = self.leaving or reason
        cast("Http2", self.connection._connection).over = True  # noqa: SLF001 - grpclib has no name for it
        super().close(reason)
        self._turn_away()

    def _turn_away(self) -> None:
        """Tell those who wait for a stream that there will be none; grpclib would let them wait for ever."""
        for reply in tuple(self.waiting):
            reply.fail(unprocessed(self.leaving))


class GatewayProtocol(H2Protocol):
    """The connection as asyncio drives it. `silence_s`: how long it may be silent while calls run."""

    processor: Events

    def __init__(self, silence_s: float) -> None:
        super().__init__(Handler(), Configuration(), H2_CONFIG)
        self._silence_s = silence_s
        self._heard = False
        self._asked = False
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether it takes new calls."""
        return not self.processor.leaving and self._http2.highest_outbound_stream_id < STREAM_ID_LAST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are and how much we take."""
        replies: dict[int, Reply] = {}
        http2 = Http2(replies, self._tell)
        http2.open()
        self._http2 = http2
        self._transport = cast("asyncio.Transport", transport)
        self.connection = Connection(http2, self._transport, config=self.config)
        self.connection.flush()
        self.processor = Events(cast("Handler", self.handler), self.connection, replies)
        self._look = self._loop.call_later(self._silence_s, self._look_after)

    def data_received(self, data: bytes) -> None:
        """Read what came; a server that breaks the protocol is left."""
        self._heard = True
        try:
            self.connection.feed(data)
        except ProtocolError as error:
            self._flush()
            self.processor.close(f"the server broke HTTP/2 ({error})")
        else:
            self._flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell every call."""
        if self._look is not None:
            self._look.cancel()
        self.processor.close(str(exc) if exc else "the server closed the connection")
        if not self.gone.done():
            self.gone.set_result(None)

    def reply(self) -> Reply:
        """The stream of a new call."""
        return Reply(self.connection, self._http2, self._transport)

    def abort(self, reason: str) -> None:
        """End the connection at once, without a word to a server that does not hear."""
        self.processor.close(reason)
        self._transport.abort()

    def _tell(self, event: Event) -> None:
        self.processor.process(event)

    def _flush(self) -> None:
        if not self.connection.is_closing():
            self.connection.flush()

    def _look_after(self) -> None:
        """Called every `silence_s`."""
        if self._heard or not self.processor.replies:
            self._asked = False
        elif self._asked:
            self.abort(f"the server was silent for {2 * self._silence_s:g} s and more")
            return
        else:
            self._http2.ping(PING)
            self._flush()
            self._asked = True
        self._heard = False
        self._look = self._loop.call_later(self._silence_s, self._look_after)
