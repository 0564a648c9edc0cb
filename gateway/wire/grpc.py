"""gRPC on the service table: one stream is one call, from its headers to its trailers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from grpclib.protocol import AbstractHandler, Stream
from h2.errors import ErrorCodes

from gateway.terms.ids import RequestId
from gateway.terms.passage import Leaving, Passage
from gateway.terms.verdict import Kind
from gateway.wire.answer import GrpcAnswer
from gateway.wire.errors import LEFT, EndedError, Ending, plain, refused, unimplemented
from gateway.wire.load import Surroundings
from gateway.wire.message import OneMessage
from gateway.wire.messages import Form, Messages
from gateway.wire.request import Head, Headers, HttpStatusError, MalformedRequestError, read_head
from gateway.wire.running import RunningCall
from gateway.wire.stream import GatewayStream
from gateway.wire.table import Route, Table
from generated.wire_format import DecodeError


class GrpcCalls(AbstractHandler):
    """Takes every new stream. What grpclib calls a handler has one for each connection; this serves all of them."""

    def __init__(self, table: Table, surroundings: Surroundings) -> None:
        self._routes = table.routes
        self._surroundings = surroundings

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:  # noqa: ANN401 - h2's bytes, where grpclib says text
        """Open a call on a stream and make it the stream's receiver."""
        own = cast("GatewayStream", stream)
        call = GrpcCall(own, release_stream, self._surroundings)
        own.receiver = call
        call.open(headers, self._routes)

    def cancel(self, stream: Stream) -> None:
        """Nothing: a stream tells its receiver itself."""

    def close(self) -> None:
        """Nothing: as `cancel`."""


class GrpcCall:
    """One call: a `Receiver` of its stream, and an `OpenCall` of the server.

    It receives without a task: until the message is complete, a slow or endless body costs what was received and no
    more. Then a `RunningCall` takes over, and this waits for its end. Where requests stream, it runs from the headers
    on and this is the `Source` of its messages.
    """

    __slots__ = (
        "_answer",
        "_closed",
        "_hurry",
        "_message",
        "_messages",
        "_opened_ns",
        "_passage",
        "_path",
        "_received",
        "_release",
        "_request",
        "_route",
        "_running",
        "_stages",
        "_stream",
        "_surroundings",
        "_timer",
        "_timer_is_deadline",
    )

    def __init__(self, stream: GatewayStream, release: Callable[[], None], surroundings: Surroundings) -> None:
        self._stream = stream
        self._release = release
        self._surroundings = surroundings
        self._request = RequestId(surroundings.ids.new("req"))
        self._opened_ns = surroundings.clock.monotonic_ns()
        self._stages = surroundings.stages(surroundings.clock)
        self._answer = GrpcAnswer(stream, self._request, self._stages)
        self._path = ""
        self._message: OneMessage | None = None
        self._messages: Messages | None = None
        self._hurry: asyncio.TimerHandle | None = None
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_is_deadline = False
        self._running: RunningCall | None = None
        self._closed = False
        surroundings.load.calls.add(self)

    def open(self, headers: Headers, routes: Mapping[str, Route]) -> None:
        """Read the headers; then the message may come."""
        try:
            head = read_head(headers, self._surroundings.config)
            self._path = head.path
            self._route = self._routed(routes)
        except MalformedRequestError:
            self._stream.reset_nowait(ErrorCodes.PROTOCOL_ERROR)
            self._close(_MALFORMED)
        except HttpStatusError as error:
            self._answer.end_as_http(error.status)
            self._close(_NOT_GRPC)
        except EndedError as error:
            self._refuse(error.ending)
        else:
            self._passage = self._opened(head)
            self._receive(head)

    def data(self, data: bytes, size: int) -> None:
        """See `Receiver`."""
        if self._closed:
            return
        try:
            if self._messages is not None:
                self._messages.add(data, size)
                self._hold(self._messages.held)
            elif self._message is not None:
                self._message.add(data)
                self._stream.consumed(size)
                self._hold(self._received + len(data))
        except EndedError as error:
            self.end(error.ending)

    def ended(self) -> None:
        """See `Receiver`: decode the message and run the call."""
        if self._messages is not None:
            self._messages.finish()
        if self._message is None:
            return
        try:
            self._check_room_and_time()
            request = self._decoded(self._message.finish())
        except EndedError as error:
            self._refuse(error.ending)
            return
        self._forget_message()
        self._run(request)

    def consumed(self, size: int) -> None:
        """See `Source`."""
        if self._messages is not None and not self._closed:
            self._stream.consumed(size)
            self._hold(self._messages.held)

    def unfinished(self, begun: bool) -> None:  # noqa: FBT001 - see `Source`
        """See `Source`: a message that has begun must be complete in time, as the one of a unary call."""
        if not begun:
            self._drop_hurry()
        elif self._hurry is None and not self._closed:
            body_s = self._surroundings.config.body_s
            self._hurry = asyncio.get_running_loop().call_later(body_s, self.end, _SLOW_BODY)

    def lost(self) -> None:
        """See `Receiver`: what runs is cancelled, what was received is forgotten."""
        if self._running is None:
            self._close(LEFT)
        else:
            self._passage.departure.how = Leaving.LEFT if self._stream.was_reset else Leaving.LOST
            self._cut(LEFT)

    def end(self, ending: Ending) -> None:
        """See `OpenCall`. Before anything runs, the caller is told at once."""
        if self._running is None:
            self._refuse(ending)
        else:
            self._cut(ending)

    def answer_now(self, ending: Ending) -> None:
        """See `OpenCall`."""
        self._answer.end(ending)

    def _cut(self, ending: Ending) -> None:
        if self._messages is not None:
            self._messages.fail(ending)
        if self._running is not None:
            self._running.cancel(ending)

    def _routed(self, routes: Mapping[str, Route]) -> Route:
        route = routes.get(self._path)
        if route is None:
            # It is in the log and in the sentence from here on, and was the caller's to choose.
            self._path = plain(self._path, _PATH_BYTES_MAX)
            raise EndedError(unimplemented("wire.method_unknown", f"there is no method {self._path}"))
        if self._surroundings.load.draining and not route.vital:
            raise EndedError(self._surroundings.busy("wire.draining", "this gateway is stopping; call again"))
        return route

    def _opened(self, head: Head) -> Passage:
        return Passage(
            request=self._request,
            credentials=head.credentials,
            clock=self._surroundings.clock,
            deadline_ns=None if head.timeout_ns is None else self._opened_ns + head.timeout_ns,
            stages=self._stages,
            reply_headers=self._answer.reply_headers,
        )

    def _receive(self, head: Head) -> None:
        config = self._surroundings.config
        if not self._route.method.cardinality.request_streams:
            self._message = OneMessage(config.message_bytes_max, gzip=head.gzip)
            # Most messages come together with their headers, and then no timer is needed for them.
            self._stream.connection.after_reading.append(self._await_message)
            return
        try:
            self._check_room_and_time()
        except EndedError as error:
            self._refuse(error.ending)
            return
        form = Form(bytes_max=config.message_bytes_max, gzip=head.gzip, decode=self._decoded)
        self._messages = Messages(form, self)
        self._run(self._messages)

    def _await_message(self) -> None:
        if self._message is not None and self._running is None and not self._closed:
            self._set_timer(self._left_ns(), self._surroundings.config.body_s, _SLOW_BODY)

    def _run(self, request: object) -> None:
        self._spend_wire()
        self._set_timer(self._left_ns(), self._surroundings.config.call_s_max, _TOO_LONG)
        self._running = RunningCall(self._route, self._passage, self._answer, self._surroundings)
        self._running.start(request, self._close)

    def _hold(self, size: int) -> None:
        """Count what is held of the request; raises `EndedError` when all calls together hold too much."""
        load = self._surroundings.load
        grown = size - self._received
        load.receiving_bytes += grown
        self._received = size
        if grown > 0 and load.receiving_bytes > self._surroundings.config.receiving_bytes_max:
            sentence = "the gateway is receiving too much at once; call again"
            raise EndedError(self._surroundings.busy("wire.receiving_full", sentence))

    def _check_room_and_time(self) -> None:
        left_ns = self._left_ns()
        if left_ns is not None and left_ns <= 0:
            raise EndedError(_LATE)
        full = self._surroundings.load.running >= self._surroundings.config.calls_running_max
        if full and not self._route.vital:
            sentence = "the gateway runs as many calls as it may; call again"
            raise EndedError(self._surroundings.busy("wire.full", sentence))

    def _decoded(self, message: bytes) -> object:
        try:
            return self._route.request_codec.decode(message)
        except DecodeError as error:
            sentence = f"the message is not a {self._route.method.request.__name__}: {error}"
            raise EndedError(refused(Kind.MALFORMED, "wire.message_malformed", sentence)) from None

    def _left_ns(self) -> int | None:
        deadline_ns = self._passage.deadline_ns
        return None if deadline_ns is None else deadline_ns - self._surroundings.clock.monotonic_ns()

    def _set_timer(self, left_ns: int | None, bound_s: float, beyond: Ending) -> None:
        """One timer for what ends this call first: the caller's deadline, or a bound of ours."""
        if left_ns is not None and left_ns / 1e9 <= bound_s:
            if self._timer_is_deadline:
                return
            bound_s, beyond = left_ns / 1e9, _LATE
        self._drop_timer()
        self._timer_is_deadline = beyond is _LATE
        self._timer = asyncio.get_running_loop().call_later(bound_s, self.end, beyond)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, end: Ending) -> None:
        """Answer before anything runs."""
        if not self._closed:
            self._spend_wire()
            self._answer.end(end)
            self._close(end)

    def _spend_wire(self) -> None:
        self._stages.spend_since("wire", self._opened_ns)

    def _drop_hurry(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _forget_message(self) -> None:
        self._message = self._messages = None
        self._hold(0)

    def _close(self, end: Ending | None) -> None:
        """Let go of everything, once, and tell how it ended."""
        if self._closed:
            return
        self._closed = True
        if self._messages is not None:
            # Whoever kept the iterator beyond the call must not wait for ever.
            self._messages.fail(end or LEFT)
        self._forget_message()
        self._drop_timer()
        self._drop_hurry()
        self._answer.abandon()
        if end is None:
            self._stream.connection.toll.call_answered()
        elif self._running is None:
            self._stream.connection.refused()
        self._running = None
        self._release()
        self._surroundings.load.call_closed(self)
        fields = {
            "request": self._request,
            "path": self._path,
            "status": "OK" if end is None else end.outcome.grpc.name,
            "reason": "" if end is None else end.refusal.reason,
            "duration_us": (self._surroundings.clock.monotonic_ns() - self._opened_ns) // 1_000,
        }
        self._surroundings.witness.tell("call.ended", fields)


_PATH_BYTES_MAX: Final = 128

_MALFORMED: Final = refused(Kind.MALFORMED, "wire.malformed", "not a request in HTTP/2")
_NOT_GRPC: Final = unimplemented("wire.not_grpc", "answered in plain HTTP")
_LATE: Final = refused(Kind.LATE, "wire.deadline", "the deadline passed; give the call more time")
_SLOW_BODY: Final = refused(Kind.LATE, "wire.slow_body", "the request message did not arrive in time; send it at once")
_TOO_LONG: Final = refused(
    Kind.UNAVAILABLE, "wire.call_too_long", "this call ran as long as any may; call again", retry_after_ms=0
)
