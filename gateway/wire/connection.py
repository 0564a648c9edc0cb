"""One HTTP/2 connection on grpclib's protocol classes: its beginning, its timers, its budgets and its end."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Final, cast

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from gateway.wire.config import WireConfig
from gateway.wire.frame_reader import FrameReader
from gateway.wire.header_block import EMPTY_TABLE
from gateway.wire.hpack_decoder import HeaderField
from gateway.wire.http2 import H2_CONFIG, STREAM_ID_MAX, GuardedHttp2
from gateway.wire.load import Surroundings
from gateway.wire.outbox import Outbox
from gateway.wire.stream import NOBODY, GatewayStream
from gateway.wire.toll import Toll

UNREAD_REFUSALS_MAX: Final = 100
"""Refusals are written without waiting for the socket; a peer that reads none of so many is not answered any more."""

_PING_ANSWER_S: Final = 20.0
"""A peer that does not answer our PING for so long is gone."""


class GatewayConnection(Connection):
    """grpclib's connection with our streams and our way to close."""

    def __init__(self, http2: GuardedHttp2, outbox: Outbox, toll: Toll, config: WireConfig) -> None:
        super().__init__(http2, outbox, config=_grpclib_config(config))
        self.http2 = http2
        self.outbox = outbox
        self.toll = toll
        self.send_stall_s = config.send_stall_s
        self.after_reading: list[Callable[[], None]] = []
        """What is to be done once all that arrived together is read, for what is not complete then."""
        self.names = (outbox.get_extra_info("peername"), outbox.get_extra_info("sockname"))
        """The addresses of the peer and of ours."""
        self._table_emptied = False
        self._unread_refusals = 0

    def read_all(self) -> None:
        """All that arrived together is read."""
        waiting, self.after_reading = self.after_reading, []
        for act in waiting:
            act()

    def refused(self) -> None:
        """A call was refused before it ran: bounds what is written to a peer that does not read."""
        if not self.write_ready.is_set():
            self._unread_refusals += 1
            if self._unread_refusals > UNREAD_REFUSALS_MAX:
                self.outbox.abort()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._unread_refusals = 0
        super().resume_writing()

    def data_send_process(self) -> None:
        """What grpclib does for every DATA frame that it sends itself."""
        super().data_send_process()
        self.toll.data_sent()

    def first_block_prefix(self) -> bytes:
        """What the first header block of the connection begins with; nothing for the others."""
        if self._table_emptied:
            return b""
        self._table_emptied = True
        return EMPTY_TABLE

    def create_stream(self, *, stream_id: int | None = None, wrapper: object = None) -> GatewayStream:  # noqa: ARG002 - grpclib's own
        """A stream that the peer opened."""
        return GatewayStream(self, cast("int", stream_id))

    def is_closing(self) -> bool:
        """Whether what is written now is lost."""
        return self.outbox.is_closing()

    def close(self) -> None:
        """What grpclib does when a PING of ours stays without answer."""
        self.outbox.abort()

    def finish(self) -> None:
        """Say that nothing follows and stop our PINGs."""
        self.outbox.end()
        for timer in (self._ping_handle, self._close_by_ping_handler):
            if timer is not None:
                timer.cancel()
        # Whoever waits to write shall see that there is no connection any more.
        self.write_ready.set()


class GatewayEvents(EventsProcessor):
    """grpclib's reading of h2's events, with bodies pushed instead of queued and nothing unknown fatal."""

    connection: GatewayConnection

    def __init__(self, protocol: "GatewayProtocol", handler: AbstractHandler, connection: GatewayConnection) -> None:
        super().__init__(handler, connection)
        self._protocol = protocol

    def process(self, event: Event) -> None:
        """One event; kinds that mean nothing here are ignored (RFC 9113, 5.5)."""
        act = cast("Callable[[Event], None] | None", self.processors.get(event.__class__))
        if act is not None:
            act(event)

    @property
    def stopped(self) -> bool:
        """See `Sink`."""
        return self._protocol.closed

    def event(self, event: Event) -> None:
        """See `Sink`."""
        self.process(event)

    def request(self, stream_id: int, headers: list[HeaderField]) -> None:
        """See `Sink`: whoever accepts a stream becomes its receiver."""
        stream = self.connection.create_stream(stream_id=stream_id)
        self.streams[stream_id] = stream
        self.handler.accept(stream, cast("list[tuple[str, str]]", headers), lambda: self.release(stream))

    def data(self, stream_id: int, data: bytes) -> None:
        """See `Sink`."""
        self._push(stream_id, data, len(data))

    def ended(self, stream_id: int) -> None:
        """See `Sink`."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.__ended__()

    def window(self, stream_id: int) -> None:
        """See `Sink`."""
        for stream in self.streams.values() if not stream_id else filter(None, (self.streams.get(stream_id),)):
            cast("GatewayStream", stream).window_opened()

    def process_request_received(self, event: RequestReceived) -> None:
        """A new stream that h2 read."""
        self.request(event.stream_id, list(event.headers))

    def release(self, stream: GatewayStream) -> None:
        """Forget a stream whose call has ended."""
        if self.streams.pop(stream.id, None) is not None:
            # Without a way back to its call, neither waits for the garbage collector.
            stream.receiver = NOBODY
            self._protocol.stream_closed()

    def process_data_received(self, event: DataReceived) -> None:
        """A piece of a body that h2 read."""
        self._push(event.stream_id, event.data, event.flow_controlled_length)

    def _push(self, stream_id: int, data: bytes, size: int) -> None:
        """Give a piece of a body to its receiver. The window of the whole connection opens again at once.

        Otherwise a few streams that nobody reads would hold up all others of a connection that a front end shares
        between callers. What each of them may send ahead is its own window; all together is `receiving_bytes_max`.
        """
        if size:
            self.connection.http2.open_connection_window(size)
        stream = self.streams.get(stream_id)
        if stream is not None:
            cast("GatewayStream", stream).receiver.data(data, size)

    def process_window_updated(self, event: WindowUpdated) -> None:
        """A window that h2 opened."""
        self.window(event.stream_id or 0)

    def process_trailers_received(self, event: TrailersReceived) -> None:
        """Nothing: no protocol here has trailers of requests. Their end of the stream is an event of its own."""

    def process_stream_reset(self, event: StreamReset) -> None:
        """The caller gave a stream up, or made h2 give it up, which costs it the same."""
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            cast("GatewayStream", stream).was_reset = True
            stream.__terminated__("reset")
        if not event.remote_reset:
            self.connection.toll.charge_reset()

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        """The preface is complete, or windows have changed."""
        self._protocol.prefaced()
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self.window(0)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """The peer says goodbye: what runs is finished, unless the goodbye is an accusation."""
        if event.error_code is ErrorCodes.NO_ERROR:
            self._protocol.leave()
        else:
            self._protocol.shut()

    def close(self, reason: str = "Connection closed") -> None:
        """Every open stream has lost its caller."""
        self.connection.finish()
        for stream in list(self.streams.values()):
            stream.__terminated__(reason)


class GatewayProtocol(H2Protocol):
    """What asyncio calls for one connection."""

    connection: GatewayConnection
    processor: GatewayEvents

    def __init__(self, handler: AbstractHandler, surroundings: Surroundings) -> None:
        super().__init__(handler, _grpclib_config(surroundings.config), H2_CONFIG)
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._active_at = 0.0
        self._prefaced = self._leaving = self._shut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our preface, or close: more connections than the bound get no word, because a word costs memory too."""
        config, load = self._surroundings.config, self._surroundings.load
        self._transport = cast("asyncio.Transport", transport)
        if load.draining or len(load.connections) >= config.connections_max:
            self._shut = True
            self._transport.abort()
            return
        load.connections.add(self)
        toll = Toll(self._surroundings.clock, config)
        http2 = GuardedHttp2(config, toll)
        http2.open(config.connection_window_bytes)
        outbox = Outbox(self._transport, config.write_burst_bytes)
        self.connection = GatewayConnection(http2, outbox, toll, config)
        self.connection.flush()
        self.connection.initialize()
        self.processor = GatewayEvents(self, self.handler, self.connection)
        self._reader = FrameReader(http2, toll, self.processor)
        self._timer = self._loop.call_later(config.preface_s, self._tick)

    def data_received(self, data: bytes) -> None:
        """Read frames, act on them, and answer what h2 answers by itself."""
        if self._shut:
            return
        try:
            self._reader.feed(data)
        except ProtocolError as error:
            self._tell("connection.refused", error=type(error).__name__, sentence=str(error))
            self._close(ErrorCodes(error.error_code))
        except Exception as error:  # noqa: BLE001 - a defect ends this connection, told whole, and no other
            self._tell("connection.failed", traceback="".join(traceback.format_exception(error)))
            self._close(ErrorCodes.INTERNAL_ERROR)
        else:
            if not self._shut:
                self.connection.read_all()
                self.connection.flush()

    @property
    def closed(self) -> bool:
        """Whether nothing is read any more."""
        return self._shut

    def pause_writing(self) -> None:
        """The peer reads slower than we write; for too long, it is gone."""
        super().pause_writing()
        self._stall = self._loop.call_later(self._surroundings.config.write_stall_s, self.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._forget_stall()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's own
        """The socket is gone, and with it every caller on it."""
        self._forget_stall()
        if self._timer is not None:
            self._timer.cancel()
        self._shut = True
        if self in self._surroundings.load.connections:
            self.processor.close("connection lost")
            self._surroundings.load.connection_closed(self)

    def prefaced(self) -> None:
        """The client's first SETTINGS have come."""
        if not self._prefaced:
            self._prefaced = True
            self._active_at = self._loop.time()
            self._tick()

    def stream_closed(self) -> None:
        """A stream's call has ended; the last one of a leaving connection takes it along."""
        self._active_at = self._loop.time()
        if self._leaving and not self.processor.streams:
            self.shut()

    def leave(self) -> None:
        """Close when nothing runs."""
        self._leaving = True
        if not self.processor.streams:
            self.shut()

    def say_goodbye(self) -> None:
        """Ask the peer to open nothing more (RFC 9113, 6.8: the first GOAWAY names the highest id); then as `leave`."""
        if not self._shut and not self._leaving:
            self.connection.outbox.write(self.connection.http2.goodbye(ErrorCodes.NO_ERROR, last_stream=STREAM_ID_MAX))
            self.leave()

    def shut(self) -> None:
        """Close now, with what is already written."""
        self._close(ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        """Close without another word."""
        self._shut = True
        if self._transport is not None:
            self._transport.abort()

    def _close(self, error: ErrorCodes) -> None:
        """GOAWAY, end of our bytes, and a while of reading on, so that the peer sees them instead of a reset."""
        if self._shut:
            return
        self._shut = True
        http2 = self.connection.http2
        self.connection.flush()
        if http2.state_machine.state is not ConnectionState.CLOSED:
            # Otherwise h2 has written one already.
            self.connection.outbox.write(http2.goodbye(error))
        self.processor.close("connection closed")
        self._set_timer(self._surroundings.config.linger_s, self.abort)

    def _tick(self) -> None:
        """No preface in time, or no stream for long: close. Else look again when that could be."""
        config = self._surroundings.config
        if not self._prefaced:
            self.abort()
            return
        idle_s = 0.0 if self.processor.streams else self._loop.time() - self._active_at
        if idle_s >= config.idle_s:
            self.shut()
        else:
            self._set_timer(config.idle_s - idle_s, self._tick)

    def _set_timer(self, delay_s: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, act)

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _tell(self, event: str, **fields: str) -> None:
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        self._surroundings.witness.tell(event, {"peer": str(peer), **fields})


def _grpclib_config(config: WireConfig) -> Configuration:
    """Only the PINGs of grpclib are left to it; they run while streams are open."""
    return Configuration(
        _keepalive_time=config.keepalive_s,
        _keepalive_timeout=_PING_ANSWER_S,
        _http2_max_pings_without_data=0,
        _http2_min_sent_ping_interval_without_data=config.keepalive_s,
    )
