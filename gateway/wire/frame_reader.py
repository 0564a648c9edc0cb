"""The four frames that calls are made of, read without the objects that h2 makes for them; h2 reads all others.

HEADERS that open a stream, DATA and WINDOW_UPDATE in their plain form change h2's own state here, in the way h2 would.
Whatever is unusual about a frame (padding, priority, continuation, a stream that is closed or never was, a setting, an
error) sends it through h2, so that its rules stay the only ones. Decision 8 has the figures.
"""

from struct import Struct
from typing import Final, Protocol

from h2.connection import AllowedStreamIDs, ConnectionInputs, ConnectionState, _decode_headers
from h2.events import Event
from h2.exceptions import FlowControlError, FrameTooLargeError, ProtocolError
from h2.stream import H2Stream, StreamClosedBy, StreamState

from gateway.wire.hpack_decoder import HeaderField
from gateway.wire.http2 import GuardedHttp2
from gateway.wire.toll import TINY_DATA_BYTES, Toll

_FRAME: Final = Struct(">IBI")
"""Length (24 bits) and type (8 bits), flags, stream with a reserved bit (RFC 9113, 4.1)."""
_FRAME_BYTES: Final = _FRAME.size
_INCREMENT: Final = Struct(">I")

_DATA: Final = 0x0
_HEADERS: Final = 0x1
_SETTINGS: Final = 0x4
_WINDOW_UPDATE: Final = 0x8
_ACK: Final = 0x1
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_PREFACE_BYTES: Final = 24
_WINDOW_MAX: Final = 2**31 - 1
_ID_MASK: Final = 2**31 - 1
_RECEIVES: Final = frozenset({StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL})


class Sink(Protocol):
    """Who acts on what was read, at once: nothing is kept."""

    @property
    def stopped(self) -> bool:
        """Whether what follows is of no interest any more."""
        ...

    def event(self, event: Event) -> None:
        """What h2 made of a frame."""
        ...

    def request(self, stream_id: int, headers: list[HeaderField]) -> None:
        """A new stream."""
        ...

    def data(self, stream_id: int, data: bytes) -> None:
        """A piece of a body, which used as much of the windows as it is long."""
        ...

    def ended(self, stream_id: int) -> None:
        """A request is complete."""
        ...

    def window(self, stream_id: int) -> None:
        """A window opened: of one stream, or with 0 of all."""
        ...


class FrameReader:
    """Reads what one connection receives."""

    __slots__ = ("_held", "_http2", "_preface_left", "_settled", "_sink", "_toll")

    def __init__(self, http2: GuardedHttp2, toll: Toll, sink: Sink) -> None:
        self._http2 = http2
        self._toll = toll
        self._sink = sink
        self._held = b""
        self._preface_left = _PREFACE_BYTES
        self._settled = False

    def feed(self, data: bytes) -> None:
        """Read every frame that is complete; raises h2's `ProtocolError`, with the GOAWAY already written."""
        if self._preface_left:
            preface, data = data[: self._preface_left], data[self._preface_left :]
            self._preface_left -= len(preface)
            self._by_h2(preface)
        held = self._held + data if self._held else data
        try:
            self._held = held[self._frames(held) :]
        except ProtocolError as error:
            if self._http2.state_machine.state is not ConnectionState.CLOSED:
                self._http2._terminate_connection(error.error_code)  # noqa: SLF001 - what h2 does for its own
            raise

    def _frames(self, held: bytes) -> int:
        """Read frames; gives where the first begins that is not complete."""
        at, size_held = 0, len(held)
        while size_held - at >= _FRAME_BYTES:
            length_and_kind, flags, stream_id = _FRAME.unpack_from(held, at)
            size = length_and_kind >> 8
            if size > self._http2.max_inbound_frame_size:
                # h2 would receive all of it before it says so: 16 MiB.
                raise FrameTooLargeError(f"a frame of {size} bytes")
            end = at + _FRAME_BYTES + size
            if end > size_held:
                break
            if not self._plain(length_and_kind & 0xFF, flags, stream_id & _ID_MASK, held[at + _FRAME_BYTES : end]):
                self._by_h2(held[at:end])
            if self._sink.stopped:
                return size_held
            at = end
        return at

    def _plain(self, kind: int, flags: int, stream_id: int, body: bytes) -> bool:
        """Act on a frame in its plain form; false for everything else."""
        http2 = self._http2
        if not self._settled:
            self._settle(kind, flags)
        if http2.incoming_buffer._headers_buffer or http2.state_machine.state is ConnectionState.CLOSED:  # noqa: SLF001 - a block that goes on
            return False
        if kind == _DATA and flags & ~_END_STREAM == 0:
            return self._data(stream_id, body, ended=flags == _END_STREAM)
        if kind == _WINDOW_UPDATE and len(body) == _INCREMENT.size:
            return self._window_update(stream_id, _INCREMENT.unpack(body)[0] & _ID_MASK)
        if kind == _HEADERS and flags & ~_END_STREAM == _END_HEADERS:
            return self._request(stream_id, body, ended=bool(flags & _END_STREAM))
        return False

    def _settle(self, kind: int, flags: int) -> None:
        """The first frame must be SETTINGS (RFC 9113, 3.4); h2 does not ask for it."""
        if kind != _SETTINGS or flags & _ACK:
            raise ProtocolError("a connection begins with SETTINGS")
        self._settled = True

    def _request(self, stream_id: int, block: bytes, *, ended: bool) -> bool:
        http2 = self._http2
        if stream_id <= http2.highest_inbound_stream_id or not stream_id % 2 or http2.is_full():
            return False
        headers = list(_decode_headers(http2.decoder, block))
        lengths = [value for name, value in headers if name == b"content-length"]
        stream = http2._begin_new_stream(stream_id, AllowedStreamIDs.ODD)  # noqa: SLF001 - as h2 does it
        http2.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        machine = stream.state_machine
        machine.client = False
        machine.headers_received = True
        machine.state = StreamState.HALF_CLOSED_REMOTE if ended else StreamState.OPEN
        if lengths and not _announce(stream, lengths, ended=ended):
            self._sink.event(http2.malformed(stream))
            return True
        self._sink.request(stream_id, headers)
        if ended:
            self._sink.ended(stream_id)
        return True

    def _data(self, stream_id: int, body: bytes, *, ended: bool) -> bool:
        http2 = self._http2
        stream = http2.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in _RECEIVES:
            return False
        size = len(body)
        if size < TINY_DATA_BYTES and not ended:
            self._toll.charge_chatter()
        for window in (http2._inbound_flow_control_window_manager, stream._inbound_window_manager):  # noqa: SLF001 - as h2 does it
            window.current_window_size -= size
            if window.current_window_size < 0:
                raise FlowControlError("more than the window allows")
        if stream._expected_content_length is not None and not _counted(stream, size, ended=ended):  # noqa: SLF001 - as h2 does it
            http2.open_connection_window(size)
            self._sink.event(http2.malformed(stream))
            return True
        if ended:
            _end(stream)
        self._sink.data(stream_id, body)
        if ended:
            self._sink.ended(stream_id)
        return True

    def _window_update(self, stream_id: int, increment: int) -> bool:
        http2 = self._http2
        if not increment:
            return False
        if not stream_id:
            if http2.outbound_flow_control_window + increment > _WINDOW_MAX:
                return False
            self._toll.charge_chatter()
            http2.outbound_flow_control_window += increment
        else:
            stream = http2.streams.get(stream_id)
            if stream is None or stream.closed or stream.outbound_flow_control_window + increment > _WINDOW_MAX:
                return False
            self._toll.charge_chatter()
            stream.outbound_flow_control_window += increment
        self._sink.window(stream_id)
        return True

    def _by_h2(self, data: bytes) -> None:
        for event in self._http2.receive_data(data):
            self._sink.event(event)
            if self._sink.stopped:
                return


def _end(stream: H2Stream) -> None:
    machine = stream.state_machine
    if machine.state is StreamState.OPEN:
        machine.state = StreamState.HALF_CLOSED_REMOTE
    else:
        machine.state = StreamState.CLOSED
        machine.stream_closed_by = StreamClosedBy.RECV_END_STREAM


def _announce(stream: H2Stream, lengths: list[bytes], *, ended: bool) -> bool:
    """Keep the announced length of the body; false for what is none (RFC 9110, 8.6)."""
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 15:
        return False
    stream._expected_content_length = int(lengths[0])  # noqa: SLF001 - where h2 keeps it
    return not (ended and stream._expected_content_length)  # noqa: SLF001 - as above


def _counted(stream: H2Stream, size: int, *, ended: bool) -> bool:
    """Whether the body can still have its announced length (RFC 9113, 8.1.1)."""
    stream._actual_content_length += size  # noqa: SLF001 - where h2 keeps it
    left = (stream._expected_content_length or 0) - stream._actual_content_length  # noqa: SLF001 - as above
    return left == 0 if ended else left >= 0
