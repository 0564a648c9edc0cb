"""One call over the web: it runs in the task of the application, and ends once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, cast

from gateway.terms.passage import Leaving, Passage
from gateway.terms.verdict import Kind
from gateway.wire.asgi import Presence
from gateway.wire.errors import LEFT, EndedError, Ending, refused
from gateway.wire.load import Surroundings
from gateway.wire.messages import Form
from gateway.wire.running import Answer, CallerLeftError, ReaderStalledError, RunningCall
from gateway.wire.table import Route
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.inbox import Inbox, Upload
from gateway.wire.web.options import PassageOf
from gateway.wire.web.speech import Dialect

Received = Callable[[], Awaitable[object]]


class RunningHere(RunningCall):
    """A running call without a task of its own: it runs in the one that calls it, and receives its request there."""

    __slots__ = ("presence",)

    def __init__(self, route: Route, passage: Passage, answer: Answer, surroundings: Surroundings) -> None:
        super().__init__(route, passage, answer, surroundings)
        self.presence: Presence | None = None
        """Who can tell how the caller went; without, it has left."""

    async def here(self, received: Received) -> Ending | None:
        """Receive the request, run the call; how it ended is not said yet."""
        self._task = cast("asyncio.Task[None]", asyncio.current_task())
        self._started = True
        end = await self._outcome(received)
        if self._cause is not None:
            # The cancellation was ours and has done its work; what is said now must not be cut by it.
            self._task.uncancel()
        # From here on there is nothing left to cancel.
        self._cause = end or LEFT
        return end

    async def _replies(self, request: object) -> None:
        await super()._replies(await cast("Received", request)())

    def note_departure(self) -> None:
        """See `RunningCall`. Over HTTP/1.1 to close the connection is the one way to leave."""
        if self._passage.departure.how is Leaving.STAYED:
            broken = self.presence is not None and self.presence.broken
            self._passage.departure.how = Leaving.LOST if broken else Leaving.LEFT


class WebCall:
    """One call in one dialect, and an `OpenCall` of the server.

    While something waits, a second task watches whether the caller leaves, or receives its requests; a call that never
    waits never starts it.
    """

    __slots__ = (
        "_beyond",
        "_cut",
        "_dialect",
        "_due_s",
        "_ending",
        "_exchange",
        "_given_up",
        "_inbox",
        "_opened_ns",
        "_passage",
        "_passage_of",
        "_ran",
        "_running",
        "_speech",
        "_surroundings",
        "_task",
        "_timer",
        "_upload",
        "_watch_soon",
        "_watcher",
    )

    def __init__(self, dialect: Dialect, exchange: Exchange, surroundings: Surroundings, passage: PassageOf) -> None:
        self._opened_ns = surroundings.clock.monotonic_ns()
        self._dialect = dialect
        self._exchange = exchange
        self._surroundings = surroundings
        self._passage_of = passage
        self._speech = dialect.speak(dialect, exchange)
        self._inbox = Inbox(exchange.receive, surroundings)
        self._ran = self._cut = self._ending = self._given_up = False
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        """When, on the loop's clock, this call is to end, and how if it has not by then."""
        self._beyond = LEFT
        self._upload: Upload | None = None
        self._running: RunningHere | None = None
        self._watch_soon: asyncio.Handle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """The whole call; it raises nothing but its own cancellation from outside, and what is a defect here."""
        self._task = cast("asyncio.Task[None]", asyncio.current_task())
        self._surroundings.load.calls.add(self)
        end: Ending | None = LEFT
        try:
            end = await self._say(await self._outcome())
        finally:
            self._close(end)
            if self._watcher is not None:
                await self._stop_watching(self._watcher)

    def end(self, ending: Ending) -> None:
        """See `OpenCall`."""
        self._cut = True
        if self._upload is not None:
            self._upload.fail(ending)
        if self._running is not None:
            self._running.cancel(ending)

    def answer_now(self, ending: Ending) -> None:
        """See `OpenCall`: what can be said without waiting."""
        _at_once(self._speech.end(ending))

    async def _outcome(self) -> Ending | None:
        try:
            timeout_ns = self._open()
        except EndedError as error:
            self._spend_wire()
            return error.ending
        exchange = self._exchange
        passage = Passage(
            request=exchange.request,
            credentials=exchange.fields.credentials(),
            clock=self._surroundings.clock,
            deadline_ns=None if timeout_ns is None else self._opened_ns + timeout_ns,
            stages=exchange.stages,
            reply_headers=exchange.reply_headers,
        )
        self._passage = self._passage_of(exchange, passage)
        # Of an answer, a running call only sends; the ending is said here.
        answer = cast("Answer", self._speech)
        self._running = RunningHere(self._dialect.route, self._passage, answer, self._surroundings)
        self._running.presence = exchange.presence
        end = await self._running.here(self._received)
        if not self._ran:
            self._spend_wire()
        return end

    def _open(self) -> int | None:
        self._exchange.fields.check(self._surroundings.config)
        timeout_ns = self._speech.open()
        if self._surroundings.load.draining and not self._dialect.route.vital:
            raise EndedError(self._surroundings.busy("wire.draining", "this gateway is stopping; call again"))
        return timeout_ns

    async def _received(self) -> object:
        """The request that the call is given: a message, or an iterator of messages."""
        config, presence = self._surroundings.config, self._exchange.presence
        request: object
        if self._dialect.route.method.cardinality.request_streams:
            form = Form(bytes_max=config.message_bytes_max, gzip=self._speech.gzip, decode=self._dialect.decoded)
            self._upload = Upload(self._inbox, form, self._surroundings, lambda: self.end(_SLOW_BODY))
            request = self._upload.messages
        else:
            if presence is None or not presence.arrived:
                self._set_timer(config.body_s, _SLOW_BODY)
            request = await self._speech.request(self._inbox)
        self._check_room_and_time()
        self._surroundings.load.running += 1
        self._ran = True
        self._spend_wire()
        self._set_timer(config.call_s_max, _TOO_LONG)
        if presence is not None and self._upload is None:
            presence.on_leave(self._left)
        else:
            self._watch_soon = asyncio.get_running_loop().call_soon(self._start_watching)
        return request

    def _check_room_and_time(self) -> None:
        left_s = self._passage.left_s()
        if left_s is not None and left_s <= 0:
            raise EndedError(_LATE)
        full = self._surroundings.load.running >= self._surroundings.config.calls_running_max
        if full and not self._dialect.route.vital:
            sentence = "the gateway runs as many calls as it may; call again"
            raise EndedError(self._surroundings.busy("wire.full", sentence))

    async def _say(self, end: Ending | None) -> Ending | None:
        """Tell the caller how the call ended; gives how it did, which is `LEFT` when nobody took the answer."""
        if end is LEFT:
            return end
        self._ending = True
        if self._timer is None:
            self._set_timer(self._surroundings.config.send_stall_s, LEFT)
        try:
            if not (self._inbox.complete or self._cut or self._dialect.route.method.cardinality.request_streams):
                await self._inbox.hear_out()
            await self._speech.end(end)
        except (CallerLeftError, ReaderStalledError):
            return LEFT
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            self._task.uncancel()
            return LEFT
        return end

    def _spend_wire(self) -> None:
        self._exchange.stages.spend_since("wire", self._opened_ns)

    def _left(self) -> None:
        if self._running is not None:
            self._running.note_departure()
        self.end(LEFT)

    def _start_watching(self) -> None:
        # Not in a task group: that would have to be entered for every call. `run` waits for the end of this task.
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        try:
            if self._upload is None:
                await self._inbox.until_left()
            else:
                await self._upload.run()
        except CallerLeftError:
            self._left()
        except EndedError as error:
            self.end(error.ending)
        else:
            self._left()

    async def _stop_watching(self, watcher: asyncio.Task[None]) -> None:
        watcher.cancel()
        await asyncio.wait((watcher,))
        if not watcher.cancelled():
            watcher.result()

    def _set_timer(self, bound_s: float, beyond: Ending) -> None:
        """One timer for what ends this call first: the caller's deadline, or a bound of ours.

        When that moves away, the timer stays and sets itself again: most calls are over before it comes to it.
        """
        left_s = None if self._ending else self._passage.left_s()
        if left_s is not None and left_s <= bound_s:
            bound_s, beyond = left_s, _LATE
        loop = asyncio.get_running_loop()
        self._due_s, self._beyond = loop.time() + bound_s, beyond
        if self._timer is not None and self._timer.when() > self._due_s:
            self._drop_timer()
        if self._timer is None:
            self._timer = loop.call_at(self._due_s, self._time_out)

    def _time_out(self) -> None:
        loop = asyncio.get_running_loop()
        if self._due_s > loop.time():
            self._timer = loop.call_at(self._due_s, self._time_out)
            return
        self._timer = None
        if self._ending:
            self._given_up = True
            self._task.cancel()
        else:
            self.end(self._beyond)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, end: Ending | None) -> None:
        """Let go of everything and tell how it ended."""
        self._drop_timer()
        if self._watch_soon is not None:
            self._watch_soon.cancel()
        if self._upload is not None:
            # Whoever kept the iterator beyond the call must not wait for ever.
            self._upload.fail(end or LEFT)
        self._inbox.hold(0)
        load = self._surroundings.load
        load.running -= self._ran
        load.call_closed(self)
        fields = {
            "request": self._exchange.request,
            "path": self._dialect.route.method.path,
            "content_type": self._dialect.content_type.decode("ascii"),
            "status": "OK" if end is None else end.outcome.grpc.name,
            "reason": "" if end is None else end.refusal.reason,
            "duration_us": (self._surroundings.clock.monotonic_ns() - self._opened_ns) // 1_000,
        }
        self._surroundings.witness.tell("call.ended", fields)


def _at_once(saying: Coroutine[object, None, None]) -> None:
    """Run a coroutine as far as it comes without waiting."""
    try:
        saying.send(None)
    except (StopIteration, CallerLeftError, ReaderStalledError):
        return
    saying.close()


_LATE: Final = refused(Kind.LATE, "wire.deadline", "the deadline passed; give the call more time")
_SLOW_BODY: Final = refused(Kind.LATE, "wire.slow_body", "the request message did not arrive in time; send it at once")
_TOO_LONG: Final = refused(
    Kind.UNAVAILABLE, "wire.call_too_long", "this call ran as long as any may; call again", retry_after_ms=0
)
