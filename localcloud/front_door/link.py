"""One HTTP/2 connection of the door: bytes to events for its legs, frames to one joined write a loop turn."""

import asyncio

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame

from localcloud.front_door.leg import Leg

_CONNECTION_WINDOW = 1 << 20  # bytes; given back at once, so that one slow stream cannot hold up its neighbours
_BURST = 256 * 1024  # bytes of bodies in one write: a writer that is slower than its source is noticed in time
_MAX_UNSENT = 8 << 20  # bytes of replies to pings, settings and heads for a peer that does not read them
_MAX_HEADER_LIST = 65_536
_UNLIMITED_STREAMS = 2**31 - 1


class _Http2(H2Connection):
    """h2's connection, except that a GOAWAY does not close it: open streams may finish (RFC 9113 section 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class _PlainEncoder(Encoder):
    """HPACK without Huffman coding: on loopback the bytes are cheaper than coding them in Python, at both ends."""

    def add(self, to_add: tuple[bytes, bytes], sensitive: bool, huffman: bool = False) -> bytes:  # noqa: FBT001, FBT002  # hpack's
        del huffman
        return super().add(to_add, sensitive, huffman=False)


class Link(asyncio.Protocol):
    """One connection. Windows in bytes; `advertised_streams` is what the peer is told, not what is enforced here."""

    def __init__(self, *, client_side: bool, stream_window: int, advertised_streams: int) -> None:
        self.legs: dict[int, Leg] = {}
        self.credit_step = stream_window // 2
        self.closing = False
        self.lost = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._owed = 0
        self._burst = 0
        self._paused = False
        self._scheduled = False
        self._touched: dict[Leg, None] = {}
        self._stuck: dict[Leg, None] = {}
        self._announced = _settings(client_side, stream_window, advertised_streams)
        self._enforced = _settings(client_side, stream_window, _UNLIMITED_STREAMS)
        self.h2 = _Http2(
            H2Configuration(client_side=client_side, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.h2.encoder = _PlainEncoder()

    # What legs ask for.

    def touch(self, leg: Leg | None = None) -> None:
        """Write before this turn of the loop ends, and pump this leg first."""
        if leg is not None:
            self._touched[leg] = None
        if not self._scheduled and not self.closing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def room(self, leg: Leg) -> int:
        """Return how many bytes the leg may send now; if none, remember that it waits."""
        room = 0
        if not self._paused and self._burst < _BURST and not self.closing:
            room = min(self.h2.local_flow_control_window(leg.stream_id), self.h2.max_outbound_frame_size)
        if room <= 0:
            self._stuck[leg] = None
        return room

    def send_data(self, stream_id: int, data: bytes, *, ended: bool) -> None:
        """Frame a piece of a body that there was room for."""
        self.h2.send_data(stream_id, data, end_stream=ended)
        self._burst += len(data)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, unless the connection or the stream is over."""
        if self.closing or stream_id not in self.h2.streams:
            return
        self.h2.reset_stream(stream_id, code)
        self.touch()

    def forget(self, leg: Leg) -> None:
        """Let a leg go that is over."""
        self.legs.pop(leg.stream_id, None)
        self._touched.pop(leg, None)
        self._stuck.pop(leg, None)

    def say_goaway(self) -> None:
        """Tell the peer to open nothing more here; what is open goes on. Past h2, which would close the connection."""
        if self.transport is None or self.closing:
            return
        self._flush()
        frame = GoAwayFrame(0, last_stream_id=self.h2.highest_inbound_stream_id, error_code=ErrorCodes.NO_ERROR)
        self.transport.write(frame.serialize())

    def close(self) -> None:
        """Write what is framed, close the socket, and tell all legs that they are lost."""
        if self.transport is not None and not self.closing:
            self._flush()
            self.closing = True
            self.transport.close()
        self._lose_all()

    async def closed(self, seconds: float) -> None:
        """Close, and wait until the socket is: a peer that does not read its last bytes within `seconds` is cut off."""
        self.close()
        if self.transport is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.lost.wait()
        except TimeoutError:
            self.transport.abort()
            await self.lost.wait()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the socket. Subclasses start the HTTP/2 connection when they know that the peer speaks it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # asyncio gives a Protocol nothing else
        self.transport = transport

    def start(self) -> None:
        """Send our settings and the connection's window."""
        self.h2.local_settings = self._announced
        self.h2.initiate_connection()
        self.h2.local_settings = self._enforced
        self.h2.increment_flow_control_window(_CONNECTION_WINDOW - self.h2.inbound_flow_control_window)
        self.touch()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket; a peer that breaks the protocol gets a GOAWAY and is cut off."""
        if self.closing:
            return
        try:
            for event in self.h2.receive_data(data):
                self.on_event(event)
        except ProtocolError:
            self.close()
            return
        self.touch()

    def on_event(self, event: Event) -> None:
        """Pass one event on to the leg that it belongs to."""
        if isinstance(event, DataReceived):
            self._on_data(event)
        elif isinstance(event, WindowUpdated):
            self._wake(event.stream_id)
        elif isinstance(event, TrailersReceived):
            self._on_trailers(event)
        elif isinstance(event, StreamReset):
            self._on_reset(event)
        elif isinstance(event, RemoteSettingsChanged):
            self._wake(0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all legs that nothing comes any more."""
        del exc
        self.closing = True
        self.lost.set()
        self._lose_all()

    def pause_writing(self) -> None:
        """Stop taking from outboxes: the peer reads more slowly than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on taking from outboxes."""
        self._paused = False
        self._wake(0)

    # Inside.

    def _on_data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length
        self._owed += size
        if self._owed >= _CONNECTION_WINDOW // 2:
            self.h2.increment_flow_control_window(self._owed)
            self._owed = 0
        leg = self.legs.get(event.stream_id)
        if leg is None:
            return
        leg.heard_end = event.stream_ended is not None
        leg.credit(size - len(event.data))  # padding is nobody's to carry
        leg.receiver.on_data(event.data, ended=leg.heard_end)
        leg.close_if_done()

    def _on_trailers(self, event: TrailersReceived) -> None:
        leg = self.legs.get(event.stream_id)
        if leg is not None:
            leg.heard_end = True
            leg.receiver.on_trailers(event.headers)
            leg.close_if_done()

    def _on_reset(self, event: StreamReset) -> None:
        leg = self.legs.get(event.stream_id)
        if leg is not None:
            leg.leave()
            leg.receiver.on_reset(int(event.error_code or 0), lost=False)

    def _wake(self, stream_id: int) -> None:
        """Pump the leg of a stream that got window, or every leg that waits."""
        if stream_id:
            leg = self.legs.get(stream_id)
            if leg is not None and leg in self._stuck:
                del self._stuck[leg]
                self.touch(leg)
        elif self._stuck:
            self._touched.update(self._stuck)
            self._stuck.clear()
            self.touch()

    def _flush(self) -> None:
        self._scheduled = False
        if self.closing or self.transport is None:
            return
        touched, self._touched = self._touched, {}
        for leg in touched:
            leg.pump()
        data = self.h2.data_to_send()
        if data:
            self.transport.write(data)
        full, self._burst = self._burst >= _BURST, 0
        if self._paused:
            if self.transport.get_write_buffer_size() > _MAX_UNSENT:
                self.transport.abort()
        elif full:
            self._wake(0)

    def _lose_all(self) -> None:
        for leg in list(self.legs.values()):
            leg.leave()
            leg.receiver.on_reset(ErrorCodes.CANCEL, lost=True)


def _settings(client_side: bool, stream_window: int, streams: int) -> Settings:  # noqa: FBT001  # h2's own term
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST,
        SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
    }
    if client_side:
        values[SettingCodes.ENABLE_PUSH] = 0
    return Settings(client=client_side, initial_values=values)
