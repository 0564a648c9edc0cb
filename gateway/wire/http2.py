"""HTTP/2 as h2 speaks it, with what h2 leaves to its users: budgets, refused streams, and goodbyes that end nothing."""

from typing import Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, StreamReset
from h2.exceptions import InvalidBodyLengthError, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy
from hpack import Decoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, WindowUpdateFrame

from gateway.wire.config import WireConfig
from gateway.wire.hpack_decoder import BlockDecoder
from gateway.wire.toll import Toll

H2_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    # `request.read_head` checks what matters here, once and on bytes.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

STREAM_ID_MAX: Final = 2**31 - 1


class GuardedHttp2(H2Connection):
    """One server-side connection.

    Where h2 would end the whole connection for a stream too many, which on a connection that a front end shares
    between callers punishes all of them, this refuses the stream (RFC 9113, 5.1.2). Every frame pays its toll first.
    Overriding `_receive_*` is the only place where h2 lets a frame be judged before its work is done; the wire tests
    hold these methods to what they must do.
    """

    MAX_CLOSED_STREAMS = 1_024
    """Closed streams that are remembered, for frames still under way: h2's 65,536 are megabytes a connection."""

    def __init__(self, config: WireConfig, toll: Toll) -> None:
        super().__init__(H2_CONFIG)
        self._toll = toll
        self._streams_max = config.streams_max
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.streams_max,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.metadata_bytes_max,
                SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window_bytes,
            },
        )
        # h2 asks for nothing but what this has too.
        self.decoder = cast("Decoder", BlockDecoder(config.header_bytes_max))

    def open(self, connection_window: int) -> None:
        """Prepare our preface: the settings, and the window that all streams share."""
        self.initiate_connection()
        grown = connection_window - self.inbound_flow_control_window
        if grown > 0:
            self.increment_flow_control_window(grown)

    def open_connection_window(self, size: int) -> None:
        """All streams together may send so many bytes more."""
        increment = self._inbound_flow_control_window_manager.process_bytes(size)
        if increment:
            self._prepare_for_sending([_window_update(0, increment)])

    def open_stream_window(self, stream_id: int, size: int) -> None:
        """One stream, which is open, may send so many bytes more."""
        self._prepare_for_sending(self.streams[stream_id].acknowledge_received_data(size))

    def goodbye(self, error: ErrorCodes, *, last_stream: int | None = None) -> bytes:
        """A GOAWAY frame. Unlike h2's own it leaves the connection usable for the streams that run."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = self.highest_inbound_stream_id if last_stream is None else last_stream
        frame.error_code = error
        return frame.serialize()

    def is_full(self) -> bool:
        """Whether no further stream may be opened now; forgets those that are closed when it must count."""
        return len(self.streams) >= self._streams_max and self.open_inbound_streams >= self._streams_max

    def malformed(self, stream: H2Stream) -> StreamReset:
        """Give up a stream whose request is none (RFC 9113, 8.1.1); what is told of it is h2's event."""
        if not stream.closed:
            self._prepare_for_sending(stream.reset_stream(ErrorCodes.PROTOCOL_ERROR))
        return StreamReset(stream_id=stream.stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if not isinstance(frame, RstStreamFrame):
            self._toll.charge(frame)
        elif frame.stream_id in self.streams and not self.streams[frame.stream_id].closed:
            self._toll.charge_reset()
        elif frame.stream_id > self.highest_inbound_stream_id:
            # RFC 9113, 6.4; h2 lets it pass.
            raise ProtocolError("a stream is reset that never was")
        else:
            self._toll.charge_echo(frame)
        return super()._receive_frame(frame)

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        try:
            return super()._receive_data_frame(frame)
        except InvalidBodyLengthError:
            # h2 would end the connection for the fault of one stream.
            self.open_connection_window(frame.flow_controlled_length)
            return [], [self.malformed(self.streams[frame.stream_id])]

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        if frame.stream_id > self.highest_inbound_stream_id and frame.stream_id % 2 and self.is_full():
            return self._refuse_stream(frame), []
        return super()._receive_headers_frame(frame)

    def _refuse_stream(self, frame: HeadersFrame) -> list[Frame]:
        self._toll.charge_reset()
        # The block must be read all the same: it changes the connection's compression state (RFC 7541, 2.2).
        _decode_headers(self.decoder, frame.data)
        self.highest_inbound_stream_id = frame.stream_id
        self._closed_streams[frame.stream_id] = StreamClosedBy.SEND_RST_STREAM
        reset = RstStreamFrame(frame.stream_id)
        reset.error_code = ErrorCodes.REFUSED_STREAM
        return [reset]

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """A client that says goodbye still waits for what it asked (RFC 9113, 6.8); h2 would stop all sending."""
        event = ConnectionTerminated()
        event.error_code = ErrorCodes(frame.error_code) if frame.error_code in _KNOWN_ERRORS else None
        event.last_stream_id = frame.last_stream_id
        return [], [event]


def _window_update(stream_id: int, increment: int) -> WindowUpdateFrame:
    frame = WindowUpdateFrame(stream_id)
    frame.window_increment = increment
    return frame


_KNOWN_ERRORS: Final = frozenset(code.value for code in ErrorCodes)
