"""A call in its service: one task that runs the function, sends what it gives, and ends once.

Nothing here knows a wire protocol; each brings its own `Answer`.
"""

import asyncio
import traceback
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Protocol

from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.passage import Leaving, Passage
from gateway.terms.verdict import Kind, RefusedError
from gateway.wire.errors import LEFT, EndedError, Ending, ending, internal, refused
from gateway.wire.load import Surroundings
from gateway.wire.table import Route


class ReaderStalledError(Exception):
    """The caller opened no window for one message for too long."""


class CallerLeftError(Exception):
    """There is nobody to send to any more."""


class Answer(Protocol):
    """What a wire protocol makes of replies and endings."""

    async def send(self, message: bytes) -> None:
        """Send one encoded reply; waits while the caller reads slowly. `ReaderStalledError`, `CallerLeftError`."""
        ...

    async def writable(self) -> None:
        """Wait until the socket takes more."""
        ...

    def end(self, ending: Ending | None) -> None:
        """Say how the call ended, once, without waiting; None is well."""
        ...


class RunningCall:
    """The task of one call.

    It is cancelled at most once, by whichever comes first of deadline, leaving caller and drain: a second time would
    cut the clean-up that the first one started. What it had to say then is said when the function has ended.
    """

    __slots__ = ("_answer", "_cause", "_closed", "_passage", "_route", "_started", "_surroundings", "_task")

    def __init__(self, route: Route, passage: Passage, answer: Answer, surroundings: Surroundings) -> None:
        self._route = route
        self._passage = passage
        self._answer = answer
        self._surroundings = surroundings
        self._cause: Ending | None = None
        self._started = False

    def start(self, request: object, closed: Callable[[Ending | None], None]) -> None:
        """Run the call; `closed` is called when it has ended, with how."""
        self._surroundings.load.running += 1
        self._closed = closed
        # A task for each stream, as grpclib's own handler makes them. A task group would have to be entered and left
        # by one task that outlives all calls; here the server's drain waits for each of them instead.
        self._task = asyncio.get_running_loop().create_task(self._run(request))

    def cancel(self, cause: Ending) -> None:
        """End it from outside."""
        if self._cause is not None:
            return
        self._cause = cause
        # A task that is cancelled before its first step never runs, and its call would never be closed; `_run` looks
        # at the cause instead.
        if self._started:
            self._task.cancel()

    async def _run(self, request: object) -> None:
        self._started = True
        end: Ending | None = LEFT
        try:
            end = self._cause or await self._outcome(request)
            # From here on there is nothing left to cancel.
            self._cause = end or LEFT
            if end is not LEFT:
                await self._answer.writable()
                self._answer.end(end)
        finally:
            self._surroundings.load.running -= 1
            self._closed(end)

    async def _outcome(self, request: object) -> Ending | None:
        try:
            await self._replies(request)
        except asyncio.CancelledError as error:
            if self._cause is None and self._task.cancelling():
                # Somebody stops the loop: there is nobody left to answer.
                raise
            return self._cause or self._failed(error)
        except Exception as error:  # noqa: BLE001 - what is not foreseen is told whole to the log, never to the caller
            return self._ending(error)
        return None

    async def _replies(self, request: object) -> None:
        call: Any = self._route.call
        encode = self._route.reply_codec.encode
        if not self._route.method.cardinality.reply_streams:
            await self._answer.send(encode(await call(request, self._passage)))
            return
        # Closed in this task, whatever happens: a generator that is left to the garbage collector keeps its upstream
        # open after its caller and its record are gone (code-models study, 6.5).
        async with aclosing(call(request, self._passage)) as replies:
            async for reply in replies:
                try:
                    await self._answer.send(encode(reply))
                except CallerLeftError:
                    self.note_departure()
                    raise

    def note_departure(self) -> None:
        """There is no connection to send on, and nobody has noted why yet: it broke."""
        if self._passage.departure.how is Leaving.STAYED:
            self._passage.departure.how = Leaving.LOST

    def _ending(self, error: Exception) -> Ending:
        match error:
            case CallerLeftError():
                end = LEFT
            case ReaderStalledError():
                end = refused(Kind.LATE, "wire.reader_stalled", "the caller stopped reading; read on, or cancel")
            case RefusedError():
                end = ending(error.refusal)
            case EndedError():
                # Of a request that streams, the next message was none.
                end = error.ending
            case LedgerUnavailableError():
                self._tell_failure(error)
                self._surroundings.load.unrecorded.set()
                sentence = "nothing can be recorded now, so nothing may happen; call again"
                end = self._surroundings.busy("ledger.unavailable", sentence)
            case _:
                end = self._failed(error)
        # A call that was cancelled ends for that reason, whatever its clean-up made of it.
        return self._cause or end

    def _failed(self, error: BaseException) -> Ending:
        self._tell_failure(error)
        return internal(self._passage.request)

    def _tell_failure(self, error: BaseException) -> None:
        fields = {
            "request": self._passage.request,
            "path": self._route.method.path,
            "error": type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
        }
        self._surroundings.witness.tell("call.failed", fields)
