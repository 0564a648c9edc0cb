"""An HTTP/2 stream under an ASGI application: the bridge of everything on the port that is not gRPC."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from grpclib.protocol import AbstractHandler, Stream
from h2.errors import ErrorCodes

from gateway.terms.verdict import Kind
from gateway.wire.asgi import Application, AsgiExchange, Pairs, Scope, new_request, plain_refusal, plain_status
from gateway.wire.errors import EndedError, Ending, refused
from gateway.wire.header_block import pairs_block, trailers_block
from gateway.wire.load import Surroundings
from gateway.wire.request import Fields, Headers, MalformedRequestError, read_fields
from gateway.wire.stream import GatewayStream

_GRPC: Final = b"application/grpc"
_AFTER_GRPC: Final = (b"", b"+", b";", b" ")
"""What may follow it; `application/grpc-web` is another protocol."""


_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_SCHEMES: Final = {b"http": "http", b"https": "https"}
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}


class Streams(AbstractHandler):
    """Routes each stream by its content type: gRPC to its calls, everything else to the application.

    By stream and not by connection, because Cloud Run's front end mixes clients on one connection (study, section 4).
    """

    def __init__(self, grpc: AbstractHandler, web: Application, surroundings: Surroundings) -> None:
        self._grpc = grpc
        self._web = web
        self._surroundings = surroundings

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:  # noqa: ANN401 - h2's bytes, where grpclib says text
        """Give a new stream to what speaks its protocol."""
        if _is_grpc(headers):
            self._grpc.accept(stream, headers, release_stream)
            return
        carrier = StreamCarrier(stream, release_stream, self._surroundings)  # type: ignore[arg-type] # ours makes only its own
        carrier.open(headers, self._web)

    def cancel(self, stream: Stream) -> None:
        """Nothing: a stream tells its receiver itself."""

    def close(self) -> None:
        """Nothing: as `cancel`."""


class StreamCarrier:
    """One stream as a `Carrier`, and as the `Receiver` of the request."""

    __slots__ = ("_exchange", "_release", "_stream", "_surroundings", "_timer", "put_now", "writable")

    def __init__(self, stream: GatewayStream, release: Callable[[], None], surroundings: Surroundings) -> None:
        self._stream = stream
        self.put_now, self.writable = stream.put_now, stream.writable
        """See `Carrier`: the stream's own, without a step between, because they are called for every message."""
        self._release = release
        self._surroundings = surroundings
        self._exchange: AsgiExchange | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self, headers: Headers, application: Application) -> None:
        """Read the headers and start the application."""
        try:
            fields = read_fields(headers, self._surroundings.config)
            scope = self._scope(fields)
            check_not_draining(self._surroundings)
        except MalformedRequestError:
            self._stream.reset_nowait(ErrorCodes.PROTOCOL_ERROR)
            self._release()
        except EndedError as error:
            self._refuse(error.ending)
        else:
            self._exchange = AsgiExchange(self, scope, self._surroundings)
            self._stream.receiver = self
            if fields.one(b"content-length"):
                # A body of a known length is one message: it may not wait for ever (row 42). Others may be streams,
                # whose messages the application gives their time.
                self._stream.connection.after_reading.append(self._await_body)
            self._exchange.start(application)

    def data(self, data: bytes, size: int) -> None:
        """See `Receiver`."""
        if self._exchange is not None:
            self._exchange.data(data, size)

    def ended(self) -> None:
        """See `Receiver`."""
        self._drop_timer()
        if self._exchange is not None:
            self._exchange.ended()

    def lost(self) -> None:
        """See `Receiver`."""
        if self._exchange is not None:
            self._exchange.lost(broken=not self._stream.was_reset)

    def consumed(self, size: int) -> None:
        """See `Carrier`."""
        self._stream.consumed(size)

    def waiting(self, begun: bool) -> None:  # noqa: FBT001 - see `Carrier`
        """See `Carrier`: HTTP/2 carries streams in both directions, on which a caller may be silent."""

    def put_head(self, status: int, headers: Pairs, *, last: bool) -> None:
        """See `Carrier`."""
        self._stream.put_block(pairs_block(status, headers), end_stream=last)
        if last:
            self._forget_request()

    async def put_body(self, data: bytes, *, last: bool) -> None:
        """See `Carrier`."""
        await self._stream.send_data(data, last)
        if last:
            self._forget_request()

    def put_whole(self, status: int, headers: Pairs, body: bytes) -> None:
        """See `Carrier`."""
        fits = bool(body) and self._stream.fits(body)
        if not fits:
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        self.put_head(status, headers, last=not fits)
        if fits:
            self._stream.put_data(body, end_stream=True)
            self._forget_request()

    def put_trailers(self, headers: Pairs) -> None:
        """See `Carrier`."""
        self._stream.put_block(trailers_block(headers), end_stream=True)
        self._forget_request()

    def cut(self) -> None:
        """See `Carrier`."""
        self._stream.reset_nowait(ErrorCodes.INTERNAL_ERROR)

    def close(self, *, answered: bool) -> None:
        """See `Carrier`."""
        self._drop_timer()
        self._exchange = None
        if answered:
            self._stream.connection.toll.call_answered()
        self._release()

    def _refuse(self, ending: Ending) -> None:
        self.put_whole(plain_status(ending), *plain_refusal(ending, new_request(self._surroundings)))
        self._stream.connection.refused()
        self._release()

    def _await_body(self) -> None:
        if self._exchange is not None and not self._stream.request_complete:
            body_s = self._surroundings.config.body_s
            self._timer = asyncio.get_running_loop().call_later(body_s, self._slow)

    def _slow(self) -> None:
        if self._exchange is not None:
            self._exchange.refuse(SLOW_BODY)

    def _forget_request(self) -> None:
        """Tell the caller that nobody reads the rest of its request, if there is a rest (RFC 9113, 8.1)."""
        if not self._stream.request_complete:
            self._stream.reset_nowait()

    def _scope(self, fields: Fields) -> Scope:
        path, _, query = fields.one(b":path").partition(b"?")
        authority, host = fields.one(b":authority"), fields.all(b"host")
        method, scheme = fields.one(b":method"), _SCHEMES.get(fields.one(b":scheme"))
        if not path.startswith(b"/") or scheme is None or method == b"CONNECT" or not _METHOD.fullmatch(method):
            raise MalformedRequestError("a method is a word, a scheme http or https, and a path begins with a slash")
        if host and (len(host) > 1 or (authority and host[0] != authority)):
            raise MalformedRequestError("two names of the host")
        headers = fields.pairs()
        if authority and not host:
            headers.insert(0, (b"host", authority))
        client, server = self._stream.connection.names
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "2",
            "method": method.decode("ascii"),
            "scheme": scheme,
            "path": decoded_path(path),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": client,
            "server": server,
            "extensions": {"http.response.trailers": {}},
        }

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def check_not_draining(surroundings: Surroundings) -> None:
    """Raise `EndedError` when nothing new may begin."""
    if surroundings.load.draining:
        raise EndedError(surroundings.busy("wire.draining", "this gateway is stopping; call again"))


def decoded_path(path: bytes) -> str:
    """The path as text; raises `EndedError` for one that is none."""
    try:
        return (unquote_to_bytes(path) if b"%" in path else path).decode()
    except UnicodeDecodeError:
        raise EndedError(_PATH) from None


def _is_grpc(headers: Headers) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(_GRPC) and value[len(_GRPC) : len(_GRPC) + 1] in _AFTER_GRPC
    return False


_PATH: Final = refused(Kind.MALFORMED, "wire.path_malformed", "the path is not percent-encoded UTF-8")
SLOW_BODY: Final = refused(Kind.LATE, "wire.slow_body", "the request did not arrive in time; send it at once")
