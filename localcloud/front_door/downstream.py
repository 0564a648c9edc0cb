"""One client's connection to the door: recognised by its first bytes, then one exchange per stream."""

import asyncio
from collections.abc import Callable

from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived

from localcloud.front_door.link import Link

STREAMS_PER_CLIENT = 100  # Cloud Run's limit for one client connection (study, section 1.1)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4
_SENTENCE = b"This door speaks HTTP/2 with prior knowledge only: use a gRPC client, or curl --http2-prior-knowledge.\n"
_HTTP1_REPLY = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_SENTENCE), _SENTENCE)
)


class ClientLink(Link):
    """A client's connection. `accept` gets each new request; `on_gone` hears when the connection is lost."""

    def __init__(
        self,
        *,
        stream_window: int,
        accept: Callable[["ClientLink", RequestReceived], None],
        on_gone: Callable[["ClientLink"], None],
    ) -> None:
        super().__init__(client_side=False, stream_window=stream_window, advertised_streams=STREAMS_PER_CLIENT)
        self.address = "127.0.0.1"
        self.refusing = False
        self._accept = accept
        self._on_gone = on_gone
        self._first_bytes = b""
        self._recognised = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.address = str(peer[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the door as well."""
        super().connection_lost(exc)
        self._on_gone(self)

    def data_received(self, data: bytes) -> None:
        """Look at the first bytes: only a client with HTTP/2's preface gets our settings."""
        if self._recognised:
            super().data_received(data)
            return
        self._first_bytes += data
        if not _PREFACE.startswith(self._first_bytes[: len(_PREFACE)]):
            self._turn_away()
        elif len(self._first_bytes) >= len(_PREFACE):
            self._recognised = True
            self.start()
            super().data_received(self._first_bytes)
            self._first_bytes = b""

    def on_event(self, event: Event) -> None:
        """Add to the common events what only a server gets: requests."""
        if not isinstance(event, RequestReceived):
            super().on_event(event)
        elif self.refusing or len(self.legs) >= STREAMS_PER_CLIENT:
            self.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            self._accept(self, event)

    def go_away(self) -> None:
        """Take no new streams; what is open goes on."""
        if self._recognised and not self.refusing:
            self.say_goaway()
        self.refusing = True

    def _turn_away(self) -> None:
        if self.transport is not None and not self.closing:
            self.transport.write(_HTTP1_REPLY)
            self.closing = True
            self.transport.close()
