"""One HTTP/2 stream: the request is pushed to a receiver, the answer waits for window and socket."""

import asyncio
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from grpclib.protocol import Stream
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.stream import StreamInputs, StreamState

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

    def data(self, data: bytes) -> None:
        """The next piece of the body, possibly empty."""
        ...

    def ended(self) -> None:
        """The request is complete."""
        ...

    def lost(self) -> None:
        """The caller has left; nothing can be answered."""
        ...


class Nobody:
    """Receives for a stream whose call has ended."""

    def data(self, data: bytes) -> None:
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
        self.window_updated = asyncio.Event()
        self.receiver: Receiver = NOBODY

    def __ended__(self) -> None:
        self.receiver.ended()

    def __terminated__(self, reason: str) -> None:
        self.receiver.lost()

    @property
    def request_complete(self) -> bool:
        """Whether the caller has sent all that it will send."""
        stream = self._h2_connection.streams.get(self.id)
        return stream is None or stream.state_machine.state not in _REQUEST_OPEN

    async def writable(self) -> None:
        """Wait until the socket takes more. A peer that reads nothing loses its connection, which ends the wait."""
        if not self.connection.write_ready.is_set():
            await self.connection.write_ready.wait()

    def put_headers(self, headers: HeaderFields, *, end_stream: bool) -> None:
        """Send a header block without waiting; on a stream that is closed, nothing happens."""
        http2 = self._h2_connection
        stream = http2.streams.get(self.id)
        if stream is None or stream.state_machine.state not in _SENDABLE or self._transport.is_closing():
            return
        block = self.connection.first_block_prefix() + header_block(headers)
        if len(block) > http2.max_outbound_frame_size:
            raise ValueError(f"a header block of {len(block)} bytes does not fit a frame")
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        if end_stream:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
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
        if not end_stream and self.connection.write_ready.is_set() and self._put_data(data):
            return
        stall = asyncio.timeout(self.connection.send_stall_s)
        try:
            async with stall:
                await super().send_data(data, end_stream)
        except TimeoutError:
            if stall.expired():
                raise ReaderStalledError from None
            raise
        except ProtocolError:
            raise CallerLeftError from None

    def _put_data(self, data: bytes) -> bool:
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
        self._transport.write(_DATA_HEADER.pack(size << 8, 0, self.id) + data)
        self.connection.toll.data_sent()
        return True
