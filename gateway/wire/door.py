"""The door of the port: the first bytes of a connection tell which HTTP it speaks, and who takes it from there."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from gateway.wire.load import Surroundings

_PREFACE_START: Final = b"PRI "
"""No request of HTTP/1.1 begins so: the method is kept free for the preface of HTTP/2 (RFC 9113, 3.4)."""

NewProtocol = Callable[[], asyncio.Protocol]


class Door(asyncio.Protocol):
    """What asyncio calls until the first bytes have come."""

    def __init__(self, http2: NewProtocol, http1: NewProtocol, surroundings: Surroundings) -> None:
        self._http2 = http2
        self._http1 = http1
        self._surroundings = surroundings
        self._transport: asyncio.Transport | None = None
        self._first = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes, but not long; more connections than the bound get no word."""
        config, load = self._surroundings.config, self._surroundings.load
        self._transport = cast("asyncio.Transport", transport)
        if load.draining or len(load.connections) >= config.connections_max:
            self._transport.abort()
            return
        load.connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(config.preface_s, self.abort)

    def data_received(self, data: bytes) -> None:
        """Hand over as soon as it is clear to whom."""
        self._first += data
        if not self._first.startswith(_PREFACE_START[: len(self._first)]):
            self._hand_over(self._http1())
        elif len(self._first) >= len(_PREFACE_START):
            self._hand_over(self._http2())

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's own
        """Gone before it said enough."""
        self._drop_timer()
        self._surroundings.load.connection_closed(self)

    def say_goodbye(self) -> None:
        """See `OpenConnection`: nothing was asked yet."""
        self.abort()

    def shut(self) -> None:
        """See `OpenConnection`."""
        self.abort()

    def abort(self) -> None:
        """See `OpenConnection`."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._drop_timer()
        transport = cast("asyncio.Transport", self._transport)
        # Before the next one counts itself: it is the same connection.
        self._surroundings.load.connections.discard(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_closing():
            protocol.data_received(self._first)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
