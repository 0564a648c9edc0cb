"""What comes back of one call: pushed in by the connection as it comes, pulled out message by message."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from grpclib.protocol import Connection, Stream
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, TooManyStreamsError

from agent.client.ending import Fields, ending, foreign, metadata, read_fields
from agent.client.errors import GatewayError, lost, too_late, unprocessed, unreadable
from agent.client.messages import Messages, UnreadableBodyError

if TYPE_CHECKING:
    from agent.client.connection import Events

STREAM_WINDOW: Final = 128 * 1024
"""Bytes that the gateway may send ahead on one stream."""

WAITING_BYTES_MAX: Final = 32 * 1024
"""Bytes of messages that may wait for their reader before the window is held back: a slow reader slows the gateway,
and it the model."""

CREDIT_BYTES: Final = 32 * 1024
"""The window is given back in steps of this size."""

ROUNDING_S: Final = 0.002
"""Servers may end a call by a reset at its deadline, which they were told rounded to a millisecond."""

Headers = list[tuple[str, str]]


class Reply(Stream):
    """The stream of one call. Who opens it closes it: `close` frees everything and tells a server that still works.

    grpclib's own stream, except that it pulls bytes where this is pushed messages, and that it ends a wait by
    cancelling the task that waits, which leaves a mark on the task (`Task.cancelling`) and breaks the time limits and
    task groups around it.
    """

    def __init__(self, connection: Connection, http2: H2Connection, transport: asyncio.Transport) -> None:
        # Without grpclib's own constructor, whose buffer and events are for reading by pulling.
        self.connection = connection
        self._h2_connection = http2
        self._transport = transport
        self.window_updated = asyncio.Event()
        self.number = 0
        self.sent = False
        self.when_closed: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._fields: dict[str, str] = {}
        self._trailing: dict[str, str] = {}
        self._messages = Messages()
        self._owed = 0
        self._ended = False
        self._answered = False
        self._failure: GatewayError | None = None
        self._sending: asyncio.Timeout | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._release: Callable[[], None] | None = None

    def init_stream(self, stream_id: int, connection: Connection) -> None:
        """See grpclib."""
        self.id = self.number = stream_id
        connection.streams_started += 1

    async def send(self, headers: Headers, body: bytes, events: "Events", end: float) -> None:
        """Send the whole request; `end` is the call's deadline in the loop's time. Raises `GatewayError`."""
        if events.leaving:
            raise unprocessed(events.leaving)
        self._timer = self._loop.call_at(end, self._expire)
        if not self._send_at_once(headers, body, events):
            await self._send_as_it_goes(headers, body, events)
        if self._failure is not None:
            raise self._failure

    def _send_at_once(self, headers: Headers, body: bytes, events: "Events") -> bool:
        """Send it in one write, as is nearly always possible; False, and nothing sent, where something is full."""
        http2 = self._h2_connection
        room = min(http2.outbound_flow_control_window, http2.remote_settings.initial_window_size)
        if len(body) > min(room, http2.max_outbound_frame_size) or not self.connection.write_ready.is_set():
            return False
        number = http2.get_next_available_stream_id()
        try:
            http2.send_headers(number, headers)
        except TooManyStreamsError:
            return False
        self.init_stream(number, self.connection)
        self._release = events.register(self)
        http2.send_data(number, body, end_stream=True)
        self.connection.flush()
        self.sent = True
        return True

    async def _send_as_it_goes(self, headers: Headers, body: bytes, events: "Events") -> None:
        """Send it by grpclib, which waits for streams to end, for the socket, and for the peer's window."""
        events.waiting.add(self)
        try:
            async with asyncio.timeout(None) as self._sending:
                self._release = await self.send_request(headers, _processor=events)
                events.waiting.discard(self)
                await self.send_data(body, end_stream=True)
                self.sent = True
        except ProtocolError as error:
            self.fail(unprocessed(f"the stream was closed ({error})"))
        except TimeoutError:
            if self._failure is None and not self._ended:
                raise
        finally:
            events.waiting.discard(self)
            self._sending = None

    async def next(self) -> bytes | None:
        """The next message; None when the call ended well. Raises `GatewayError`."""
        messages = self._messages
        while not messages.ready:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                self._raise_ending()
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = messages.take()
        self._answered = True
        if self._owed >= CREDIT_BYTES:
            self._give_credit()
        return message

    @property
    def due(self) -> bool:
        """Whether the deadline is here, as a server sees it that was told it in whole milliseconds."""
        return self._timer is not None and self._loop.time() >= self._timer.when() - ROUNDING_S

    @property
    def metadata(self) -> dict[str, str]:
        """What was said beside the answer, until now."""
        return metadata(self._fields) | metadata(self._trailing)

    def close(self) -> None:
        """Free everything. A server that has not ended the call is told at once that nobody waits for it."""
        if self._timer is not None:
            self._timer.cancel()
        self._reset()
        if self._release is not None:
            self._release()
            self._release = None
            if self._owed and not self.connection.is_closing():
                self.connection.ack(self.number, self._owed)
        if self.when_closed is not None:
            self.when_closed()
            self.when_closed = None

    # What the connection tells.

    def begin(self, fields: Fields) -> None:
        """The headers came."""
        self._fields = read_fields(fields)
        error = foreign(self._fields)
        if error is not None:
            self.fail(error)

    def add(self, data: bytes, flow_size: int) -> None:
        """A piece of the body came; `flow_size` is what it took of the window."""
        self._owed += flow_size
        if self._failure is not None:
            return
        try:
            self._messages.add(data)
        except UnreadableBodyError as error:
            self.fail(unreadable(str(error)))
            return
        if self._owed >= CREDIT_BYTES:
            self._give_credit()
        if self._waiter is not None and self._messages.ready:
            self._wake()

    def trail(self, fields: Fields) -> None:
        """The trailers came."""
        self._trailing = read_fields(fields)

    def finish(self) -> None:
        """The answer is complete; nothing that happens to the connection changes that."""
        self._ended = True
        self._wake()
        self._stop_sending()

    def fail(self, error: GatewayError) -> None:
        """End the call here and there, unless it is over. What came before is still read."""
        if self._ended or self._failure is not None:
            return
        error.effect_unknown = error.effect_unknown and self.sent
        self._failure = error
        self._reset()
        self._wake()
        self._stop_sending()

    def __terminated__(self, reason: str) -> None:
        """See grpclib: the connection is closed."""
        self.fail(lost(reason) if self.sent else unprocessed(reason))

    def _expire(self) -> None:
        self.fail(too_late(sent=self.sent))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_sending(self) -> None:
        """A request that still waits to be sent need not be."""
        if self._sending is not None:
            self._sending.reschedule(self._loop.time())

    def _give_credit(self) -> None:
        if self._messages.waiting_bytes <= WAITING_BYTES_MAX and not self.connection.is_closing():
            owed, self._owed = self._owed, 0
            self.connection.ack(self.number, owed)

    def _reset(self) -> None:
        if self.number and self.closable:
            self._h2_connection.reset_stream(self.number, ErrorCodes.CANCEL)
            self.connection.flush()

    def _raise_ending(self) -> None:
        error = ending(self._fields, self._trailing, answered=self._answered)
        if error is not None:
            raise error
        if self._messages.broken_off:
            raise unreadable("its last message is cut off")
