"""One stream on one connection, as the relay sees it: an exchange has a leg to its client and one to the container."""

from typing import TYPE_CHECKING, Protocol

from h2.errors import ErrorCodes

from localcloud.front_door.outbox import Outbox
from localcloud.front_door.refusals import Headers

if TYPE_CHECKING:
    from localcloud.front_door.link import Link


class Receiver(Protocol):
    """What happens on a leg, told to whoever carries it on."""

    def on_headers(self, headers: Headers, *, ended: bool) -> None:
        """Take a head: of a response, or an informational one before it."""

    def on_data(self, data: bytes, *, ended: bool) -> None:
        """Take a piece of the body."""

    def on_trailers(self, headers: Headers) -> None:
        """Take the trailers; the peer says nothing after them."""

    def on_reset(self, code: int, *, lost: bool) -> None:
        """The peer has given the stream up, or the connection is lost."""

    def on_closed(self) -> None:
        """Both sides have said all."""


class Leg:
    """The stream's state and what waits to be sent on it. `peer` is the other leg: what leaves here is its credit."""

    __slots__ = (
        "_owed",
        "gone",
        "heard_end",
        "link",
        "outbox",
        "peer",
        "receiver",
        "reset_after",
        "said_end",
        "stream_id",
    )

    def __init__(self, link: "Link", stream_id: int, receiver: Receiver, outbox: Outbox) -> None:
        self.link = link
        self.stream_id = stream_id
        self.receiver = receiver
        self.outbox = outbox
        self.peer: Leg | None = None
        self.heard_end = False
        self.said_end = False
        self.gone = False
        self.reset_after = False
        self._owed = 0

    def send_headers(self, headers: Headers, *, ended: bool) -> None:
        """Send a head now; with `ended` there is no body."""
        if self.gone:
            return
        self.link.h2.send_headers(self.stream_id, headers, end_stream=ended)
        self.link.touch()
        if ended:
            self._end_said()

    def nudge(self) -> None:
        """Have the outbox looked at before this turn of the loop ends."""
        if not self.gone and not self.said_end:
            self.link.touch(self)

    def pump(self) -> None:
        """Send from the outbox what the windows and the socket allow; the rest waits at the link."""
        outbox = self.outbox
        while outbox.size and not self.gone:
            room = self.link.room(self)
            if room <= 0:
                return
            data = outbox.take(room)
            last = outbox.ended and not outbox.size and outbox.trailers is None
            self.link.send_data(self.stream_id, data, ended=last)
            if self.peer is not None:
                self.peer.credit(len(data))
            if last:
                self._end_said()
        if outbox.ended and not self.gone and not self.said_end:
            self._send_end()

    def credit(self, size: int) -> None:
        """Let the peer of this leg send `size` bytes more; told to it by half windows."""
        if self.gone or self.heard_end:
            return
        self._owed += size
        if self._owed >= self.link.credit_step:
            self.link.h2.increment_flow_control_window(self._owed, self.stream_id)
            self.link.touch()
            self._owed = 0

    def reset(self, code: int = ErrorCodes.CANCEL) -> None:
        """Give the stream up; what waits is forgotten. Nothing happens when it is over already."""
        if self.gone:
            return
        self.link.reset_stream(self.stream_id, code)
        self.leave()

    def reset_when_said(self) -> None:
        """End the stream after the reply without waiting for the rest of the request (RFC 9113 section 8.1)."""
        self.reset_after = True
        if self.said_end:
            self._decline_rest()

    def leave(self) -> None:
        """Be over, without a word to the peer."""
        self.gone = True
        self.outbox.clear()
        self.link.forget(self)

    def close_if_done(self) -> None:
        """Be over when both sides have said all."""
        if self.heard_end and self.said_end and not self.gone:
            self.leave()
            self.receiver.on_closed()

    def _send_end(self) -> None:
        if self.outbox.trailers is not None:
            self.link.h2.send_headers(self.stream_id, self.outbox.trailers, end_stream=True)
        else:
            self.link.h2.end_stream(self.stream_id)
        self._end_said()

    def _end_said(self) -> None:
        self.said_end = True
        self.close_if_done()
        if self.reset_after:
            self._decline_rest()

    def _decline_rest(self) -> None:
        if not self.gone:
            self.reset(ErrorCodes.NO_ERROR)
            self.receiver.on_closed()
