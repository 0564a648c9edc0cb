"""The answer to one gRPC call: headers with the first message, messages, trailers; all of it bounded and said once."""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from h2.errors import ErrorCodes

from gateway.terms.ids import RequestId
from gateway.terms.passage import Stages
from gateway.wire.errors import Ending, status_trailers
from gateway.wire.header_block import HeaderFields
from gateway.wire.message import framed
from gateway.wire.request import ENCODINGS
from gateway.wire.stream import GatewayStream

_STATUS: Final = (":status", "200")
_CONTENT_TYPE: Final = ("content-type", "application/grpc+proto")
_ACCEPT_ENCODING: Final = ("grpc-accept-encoding", ENCODINGS)

_FAIR_SENDS: Final = 32
"""After so many messages that never had to wait, a stream lets the others have a turn."""

METADATA_BYTES_MAX: Final = 4 * 1024
"""Of the call's own: with the largest refusal it still fits one frame, and what clients take."""
_METADATA_NAME: Final = re.compile(r"(?!grpc-)[a-z][0-9a-z_.-]*(?<!-bin)")
_METADATA_VALUE: Final = re.compile(r"[ -~]+")


class GrpcAnswer:
    """Writes one answer on one stream."""

    __slots__ = ("_ended", "_head_sent", "_request", "_sent", "_stages", "_stream", "reply_headers", "reply_trailers")

    def __init__(self, stream: GatewayStream, request: RequestId, stages: Stages) -> None:
        self._stream = stream
        self._request = request
        self._stages = stages
        self._sent = 0
        self._head_sent = self._ended = False
        self.reply_headers: dict[str, str] = {}
        """What the call wants to have said in its initial metadata."""
        self.reply_trailers: dict[str, str] = {}
        """What the call wants to have said behind its replies."""

    async def send(self, message: bytes) -> None:
        """Send one message, and the headers before the first; waits for window and socket.

        Raises ValueError for reply headers that no header can carry; see `Answer` for the rest.
        """
        if not self._head_sent:
            head = [*self._head(), *metadata(self.reply_headers)]
            await self._stream.writable()
            self._stream.put_headers(head, end_stream=False)
            self._head_sent = True
        await self._stream.send_data(framed(message))
        self._sent += 1
        if self._sent % _FAIR_SENDS == 0:
            await asyncio.sleep(0)

    def end(self, ending: Ending | None) -> None:
        """Send the trailers without waiting, once; None is OK. An error before all else is one block that says all."""
        if self._ended:
            return
        fields = [] if self._head_sent else self._late_head(ending)
        if ending is None:
            fields.append(("grpc-status", "0"))
        else:
            if ending.refusal.reason == "wire.encoding_unknown":
                fields.append(_ACCEPT_ENCODING)
            fields.extend(status_trailers(ending, self._request))
        if self.reply_trailers:
            fields.extend(metadata(self.reply_trailers))
        fields.append(("gateway-timing", self._stages.server_timing()))
        self._ended = True
        self._stream.put_headers(fields, end_stream=True)
        self._forget_request()

    def end_as_http(self, status: int) -> None:
        """Answer in plain HTTP what is not gRPC."""
        self._ended = True
        fields = [(":status", str(status)), ("gateway-request", self._request)]
        self._stream.put_headers(fields, end_stream=True)
        self._forget_request()

    async def writable(self) -> None:
        """See `Answer`."""
        await self._stream.writable()

    def abandon(self) -> None:
        """Leave no stream open that was not answered; nothing happens on one that is closed."""
        if not self._ended:
            self._ended = True
            self._stream.reset_nowait(ErrorCodes.INTERNAL_ERROR)

    def _forget_request(self) -> None:
        """Tell the caller that nobody reads the rest of its request, if there is a rest (RFC 9113, 8.1)."""
        if not self._stream.request_complete:
            self._stream.reset_nowait()

    def _head(self) -> HeaderFields:
        return [_STATUS, _CONTENT_TYPE, ("gateway-request", self._request)]

    def _late_head(self, ending: Ending | None) -> HeaderFields:
        """What the trailers begin with where no message was sent: the head, if it need not be a block of its own.

        "Trailers-Only" is for errors (gRPC over HTTP/2, "Responses"), and what stands in it is trailers to clients.
        """
        try:
            own = metadata(self.reply_headers)
        except ValueError:
            # The refusal is what the caller must learn; the same headers fail loudly with the first message.
            own = []
        if ending is not None and not own:
            return self._head()
        self._stream.put_headers([*self._head(), *own], end_stream=False)
        # grpcio's asyncio client forgets headers that come together with an error: they stand in both places.
        return [] if ending is None else own


def metadata(headers: Mapping[str, str]) -> HeaderFields:
    """Fields of the call's own; raises ValueError for what gRPC metadata cannot carry as text."""
    for name, value in headers.items():
        if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
            raise ValueError(f"{name!r} is no metadata of printable ASCII")
    if sum(len(name) + len(value) for name, value in headers.items()) > METADATA_BYTES_MAX:
        raise ValueError(f"more than {METADATA_BYTES_MAX} bytes of metadata")
    return list(headers.items())
