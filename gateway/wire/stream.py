"""One HTTP/2 stream: the request is pushed to a receiver, the answer waits for window and socket."""

import asyncio
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from grpclib.protocol import Stream
from h2.errors import ErrorCodes
from h2.stream import H2Stream, StreamClosedBy, StreamState

from gateway.wire.header_block import HeaderFields, header_block, headers_frame
from gateway.wire.running import CallerLeftError, ReaderStalledError

if TYPE_CHECKING:
    from gateway.wire.connection import GatewayConnection

_DATA_HEADER: Final = Struct(">IBI")
"""Length (24 bits) and type (8 bits, 0 is DATA), flags, stream (RFC 9113, 4.1)."""

_SENDABLE: Final = frozenset({StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE})
_REQUEST_OPEN: Final = frozenset({StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL})


class Receiver(Protocol):
    """What takes the request of one stream: the seam between HTTP/2 and the protocols spoken on it.

    None of these waits; all are called while bytes are being read.
    """

    def data(self, data: bytes, size: int) -> None:
        """The next piece of the body, possibly empty, and what it used of the stream's window.

        The window opens again when the receiver says so, with `GatewayStream.consumed`.
        """
        ...

    def ended(self) -> None:
        """The request is complete."""
        ...

    def lost(self) -> None:
        """The caller has left; nothing can be answered."""
        ...


class Nobody:
    """Receives for a stream whose call has ended."""

    def data(self, data: bytes, size: int) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Nothing."""

    def lost(self) -> None:
        """Nothing."""


NOBODY: Final = Nobody()


class GatewayStream(Stream):
    """grpclib's stream with a pushed body, a fast path for small messages, and a bound on waiting."""

    def __init__(self, connection: "GatewayConnection", stream_id: int) -> None:
        # Without grpclib's own constructor: its buffer and two of its three events are for clients and for readers
        # that pull, and cost more than all of the rest of a small stream.
        self.connection: GatewayConnection = connection
        self._h2_connection = connection.http2
        self._transport: Any = connection.outbox
        self.id: int = stream_id
        self._window_waiter: asyncio.Event | None = None
        self.receiver: Receiver = NOBODY
        self.was_reset = False
        """The caller, or a front end for it, gave this stream up; else its connection broke."""

    def __ended__(self) -> None:
        self.receiver.ended()

    def __terminated__(self, reason: str) -> None:
        self.receiver.lost()
        # Who waits for a window shall see that none will open.
        self.window_opened()

    @property
    def request_complete(self) -> bool:
        """Whether the caller has sent all that it will send."""
        stream = self._h2_connection.streams.get(self.id)
        return stream is None or stream.state_machine.state not in _REQUEST_OPEN

    def window_opened(self) -> None:
        """Whoever waits for a window may look again."""
        if self._window_waiter is not None:
            self._window_waiter.set()
            self._window_waiter = None

    def put_now(self, data: bytes) -> bool:
        """Send one DATA frame if nothing must be waited for."""
        return self.connection.write_ready.is_set() and self.put_data(data)

    def consumed(self, size: int) -> None:
        """Let the caller send so many bytes more on this stream."""
        if size and not self.request_complete and not self._transport.is_closing():
            self.connection.http2.open_stream_window(self.id, size)
            self.connection.flush()

    async def writable(self) -> None:
        """Wait until the socket takes more. A peer that reads nothing loses its connection, which ends the wait."""
        if not self.connection.write_ready.is_set():
            await self.connection.write_ready.wait()

    def put_headers(self, headers: HeaderFields, *, end_stream: bool) -> None:
        """Send headers without waiting; on a stream that is closed, nothing happens."""
        self.put_block(header_block(headers), end_stream=end_stream)

    def put_block(self, block: bytes, *, end_stream: bool) -> None:
        """The same for a header block."""
        http2 = self._h2_connection
        stream = http2.streams.get(self.id)
        if stream is None or stream.state_machine.state not in _SENDABLE or self._transport.is_closing():
            return
        block = self.connection.first_block_prefix() + block
        if len(block) > http2.max_outbound_frame_size:
            raise ValueError(f"a header block of {len(block)} bytes does not fit a frame")
        if end_stream:
            _end(stream)
        self._transport.write(headers_frame(self.id, block, end_stream=end_stream))

    def reset_nowait(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Ask the caller to send nothing more on this stream."""
        stream = self._h2_connection.streams.get(self.id)
        if stream is not None and not stream.closed and not self._transport.is_closing():
            self._h2_connection.reset_stream(self.id, error_code=error_code)
            self.connection.flush()

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:  # noqa: FBT001, FBT002 - grpclib's own
        """Send bytes: as one frame if window and socket allow it, else piece by piece as they open.

        Raises `ReaderStalledError` and `CallerLeftError`.
        """
        if self.connection.write_ready.is_set() and self.put_data(data, end_stream=end_stream):
            return
        stall = asyncio.timeout(self.connection.send_stall_s)
        try:
            async with stall:
                await self._send_in_pieces(data, end_stream=end_stream)
        except TimeoutError:
            if stall.expired():
                raise ReaderStalledError from None
            raise

    async def _send_in_pieces(self, data: bytes, *, end_stream: bool) -> None:
        rest = memoryview(data)
        while True:
            await self.writable()
            window = self._window()
            if window is None:
                raise CallerLeftError
            # A window can be below zero (RFC 9113, 6.9.2); an empty frame needs none.
            if window <= 0 and rest:
                self._window_waiter = asyncio.Event()
                await self._window_waiter.wait()
                continue
            piece, rest = rest[: max(0, window)], rest[max(0, window) :]
            self.put_data(bytes(piece), end_stream=end_stream and not rest)
            if not rest:
                return

    def _window(self) -> int | None:
        """What one frame can carry now; None when there is nobody to send to."""
        http2 = self._h2_connection
        stream = http2.streams.get(self.id)
        if stream is None or stream.state_machine.state not in _SENDABLE or self._transport.is_closing():
            return None
        return min(
            stream.outbound_flow_control_window, http2.outbound_flow_control_window, http2.max_outbound_frame_size
        )

    def fits(self, data: bytes) -> bool:
        """Whether one DATA frame could carry so much now."""
        window = self._window()
        return window is not None and len(data) <= window

    def put_data(self, data: bytes, *, end_stream: bool = False) -> bool:
        """Send one DATA frame if all bounds allow it; packed here, without h2's objects for it (study, step 2)."""
        http2 = self._h2_connection
        stream = http2.streams.get(self.id)
        size = len(data)
        if (
            stream is None
            or stream.state_machine.state not in _SENDABLE
            or size > stream.outbound_flow_control_window
            or size > http2.outbound_flow_control_window
            or size > http2.max_outbound_frame_size
        ):
            return False
        stream.outbound_flow_control_window -= size
        http2.outbound_flow_control_window -= size
        if end_stream:
            _end(stream)
        self._transport.write(_DATA_HEADER.pack(size << 8, 1 if end_stream else 0, self.id) + data)
        self.connection.toll.data_sent()
        return True


def _end(stream: H2Stream) -> None:
    """Our side is complete: what h2's state machine does for it, which knows of nothing that was sent past it."""
    machine = stream.state_machine
    if machine.state is StreamState.OPEN:
        machine.state = StreamState.HALF_CLOSED_LOCAL
    else:
        machine.state = StreamState.CLOSED
        machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM
