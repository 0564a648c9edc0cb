"""HTTP/2 as h2 speaks it, with what a client needs that stays connected: each event at once, and no word too many."""

from collections.abc import Callable
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.settings import SettingCodes, Settings
from h2.stream import StreamState
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame

from agent.client.reply import STREAM_WINDOW, Reply

STREAMS_MAX: Final = 90
"""Below the 100 that Cloud Run's edge takes on one connection (study of Cloud Run, 1.1)."""

CONNECTION_WINDOW: Final = STREAMS_MAX * STREAM_WINDOW
"""Enough for every stream's own window: who does not read holds up nobody else."""

STREAM_ID_LAST: Final = 2**31 - 1 - 2 * STREAMS_MAX
"""HTTP/2 has numbers for a billion calls on one connection, and h2 fails where they end."""

HEADER_LIST_BYTES_MAX: Final = 64 * 1024

H2_CONFIG: Final = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_inbound_headers=False,
    normalize_outbound_headers=False,
)
_SETTINGS: Final = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
}
_KNOWN: Final = frozenset(code.value for code in ErrorCodes)


class Http2(H2Connection):
    """h2's connection, which tells each event as soon as its frame is read, and small DATA without an event."""

    MAX_CLOSED_STREAMS = 1_024
    """Closed streams that are remembered: h2's 65,536 are megabytes a connection."""

    def __init__(self, replies: dict[int, Reply], tell: Callable[[Event], None]) -> None:
        super().__init__(H2_CONFIG)
        self._replies = replies
        self._tell = tell
        self.over = False
        self.local_settings = Settings(client=True, initial_values=_SETTINGS)
        self.decoder.max_header_list_size = HEADER_LIST_BYTES_MAX

    def open(self) -> None:
        """Prepare our preface: the settings, and the window that all streams share."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if self.over:
            return []
        if type(frame) is DataFrame and self._take_data(frame):
            return []
        for event in super()._receive_frame(frame):
            self._tell(event)
        return []

    def _take_data(self, frame: DataFrame) -> bool:
        """Hand DATA to its reply past h2's state machine if nothing can be wrong with it: 5.9 us, not 9.0."""
        reply = self._replies.get(frame.stream_id)
        stream = self.streams.get(frame.stream_id)
        if reply is None or stream is None or stream.closed:
            return self._drop_data(frame)
        if (
            "END_STREAM" in frame.flags
            or stream.state_machine.state is not StreamState.HALF_CLOSED_LOCAL
            or stream._expected_content_length is not None  # noqa: SLF001 - then h2 must see every piece
        ):
            return False
        size = frame.flow_controlled_length
        self._inbound_flow_control_window_manager.window_consumed(size)
        stream._inbound_window_manager.window_consumed(size)  # noqa: SLF001 - what h2's stream does with DATA
        reply.add(frame.data, size)
        return True

    def _drop_data(self, frame: DataFrame) -> bool:
        """DATA that was under way when we left its call: give its window back and say no more about it."""
        if not self._was_ours(frame):
            return False
        size = frame.flow_controlled_length
        self._inbound_flow_control_window_manager.window_consumed(size)
        self.acknowledge_received_data(size, frame.stream_id)
        return True

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        stream = self.streams.get(frame.stream_id)
        if self._was_ours(frame) and (stream is None or stream.closed):
            # The block must be read all the same: it changes the connection's compression state (RFC 7541, 2.2).
            _decode_headers(self.decoder, frame.data)
            return [], []
        return super()._receive_headers_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """What the server still works on may end (RFC 9113, 6.8); h2 would close the connection."""
        event = ConnectionTerminated()
        event.error_code = ErrorCodes(frame.error_code) if frame.error_code in _KNOWN else None
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    def _was_ours(self, frame: Frame) -> bool:
        return bool(frame.stream_id % 2) and frame.stream_id <= self.highest_outbound_stream_id
