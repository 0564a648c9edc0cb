"""Streams that outlive their caller's connection for a while: a bounded window of events each, for who comes back.

A stream that may be resumed runs in a task of its own, which puts its events into a window; the caller's call only
reads them. So a slow reader still slows the model, and a broken connection ends the reading and not the stream.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self

from gateway.call.act import Answer
from gateway.call.told import Ran, Told, ToolStep
from gateway.terms.caller import Caller
from gateway.terms.conversation import FunctionCall, Text, Thought
from gateway.terms.ids import OperationId
from gateway.terms.passage import Leaving, Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError

EVENT_BYTES: Final = 256
"""What an event weighs beside its texts."""

Numbered = tuple[int, Told]
"""An event and its place in the stream, from 1."""


RequestName = tuple[str, str, str, bytes]
"""Tenant, principal, idempotency key and digest of a request that says by its key that it may be sent again."""


class Resumable(Enum):
    """After which ends of its caller's call a stream goes on."""

    CONNECTION_LOST = "connection_lost"
    CANCELLED = "cancelled"
    """After that one too, and when the caller cancels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What lasting streams may take."""

    window_bytes: int = 256 * 1024
    """Of one stream's events. More than what can be on its way to a caller that reads: its HTTP/2 window."""
    ahead_bytes: int = 64 * 1024
    """How far a stream may be ahead of a caller that reads slowly."""
    grace_s: float = 15.0
    """How long a stream goes on, or is kept after its end, for a caller that is not there."""
    streams_max: int = 256
    """So many windows at once."""

    @property
    def share_max(self) -> int:
        """So many of them for one caller: three quarters, so that no agent alone takes resuming from all others."""
        return self.streams_max - self.streams_max // 4


GONE: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="stream.gone",
    sentence="This instance holds no such stream of yours, or not its events from there on: it was not resumable, was "
    "left for too long, or runs elsewhere. What you have of it is not a whole answer. GetOperation tells what became "
    "of the operation; to go on, send Chat again, with the same run_tools.idempotency_key if it ran tools.",
)
FULL: Final = Refusal(
    kind=Kind.UNAVAILABLE,
    reason="stream.windows_full",
    sentence="This instance keeps as many resumable streams as it may. Call again later, or without `resumable`.",
    retry_after_ms=1_000,
)
_SHARE_FULL: Final = Refusal(
    kind=Kind.EXHAUSTED,
    reason="stream.share_full",
    sentence="You have as many resumable streams on this instance as one caller may. Let some come to their end, or "
    "call without `resumable`.",
    retry_after_ms=1_000,
)
_TAKEN: Final = Refusal(
    kind=Kind.IN_PROGRESS,
    reason="stream.resumed_elsewhere",
    sentence="Another call of yours has resumed this stream; it gets the rest.",
)
_ENDED: Final = Refusal(
    kind=Kind.UNAVAILABLE,
    reason="stream.ended",
    sentence="This stream was ended before its end. What you have of it is not a whole answer.",
)
_LATE: Final = Refusal(
    kind=Kind.LATE,
    reason="deadline.passed",
    sentence="The deadline of the call that asked for this stream has passed; what you have is not a whole answer.",
)


class LastingStreams:
    """All lasting streams of one gateway. Leaving the context ends those that still run, and settles them."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._group = asyncio.TaskGroup()
        self._open: dict[LastingStream, None] = {}
        self._named: dict[OperationId, LastingStream] = {}
        self._keyed: dict[RequestName, LastingStream] = {}

    async def __aenter__(self) -> Self:
        """Open the task group."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every stream, and wait until each is settled."""
        for stream in tuple(self._open):
            stream.cut()
        await self._group.__aexit__(None, None, None)

    def make_room(self, caller: Caller) -> None:
        """Raise `RefusedError` if there is no window left for this caller.

        Who has its share gives back one of its own that is over and read to its end; where all are taken, anybody does.
        """
        if len(self._open) >= self.bounds.streams_max:
            _free(self._open, FULL)
        mine = [stream for stream in self._open if stream.is_of(caller)]
        if len(mine) >= self.bounds.share_max:
            _free(mine, _SHARE_FULL)

    @property
    def held_bytes(self) -> int:
        """Of all windows together."""
        return sum(stream.held_bytes for stream in self._open)

    def begin(self, stream: "LastingStream", pump: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a stream's pump until its end."""
        self._open[stream] = None
        if stream.request is not None:
            self._keyed[stream.request] = stream
        return self._group.create_task(pump)

    def name(self, operation: OperationId, stream: "LastingStream") -> None:
        """From now on it can be found."""
        self._named[operation] = stream

    def find(self, operation: OperationId, caller: Caller) -> "LastingStream | None":
        """A stream of this caller; another's is as absent as none (attack row 2)."""
        stream = self._named.get(operation)
        return stream if stream is not None and stream.is_of(caller) else None

    def same(self, name: "RequestName") -> "LastingStream | None":
        """The stream of an earlier attempt at the same request, if all of it is still here and it did not fail."""
        stream = self._keyed.get(name)
        return stream if stream is not None and stream.whole else None

    def forget_key(self, stream: "LastingStream") -> None:
        """The same request sent again begins a stream of its own; the operation still finds this one."""
        if stream.request is not None and self._keyed.get(stream.request) is stream:
            del self._keyed[stream.request]

    def forget(self, stream: "LastingStream") -> None:
        """Its window is free again."""
        self._open.pop(stream, None)
        self.forget_key(stream)
        if self._named.get(stream.operation) is stream:
            del self._named[stream.operation]


class LastingStream:
    """One stream: its window, the task that fills it, and the one call that reads it."""

    def __init__(self, streams: LastingStreams, caller: Caller, passage: Passage, mode: Resumable) -> None:
        self.caller = caller
        self.request: RequestName | None = None
        """Under which the same request sent again finds it."""
        self.operation = OperationId("")
        self.held_bytes = 0
        self._streams = streams
        self._bounds = streams.bounds
        self._passage = passage
        self._mode = mode
        self._window: deque[tuple[int, Told, int]] = deque()
        self._last = 0
        self._given = 0
        """The last event that the reader took."""
        self._ahead = 0
        """Bytes after that one."""
        self._reader: object | None = None
        self._ended = False
        self._cut = False
        self._error: Exception | None = RefusedError(_ENDED)
        self._changed = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None
        self._kept_until: float | None = None
        """Of a stream that has ended, on the loop's clock: reading it again does not keep it for longer."""
        self._deadline: asyncio.TimerHandle | None = None
        """Of the call that asked for the stream: a reader that comes later has its own, and may have more time."""
        self._task: asyncio.Task[None] | None = None

    def start(self, begun: Coroutine[object, object, AsyncGenerator[Told, None]]) -> None:
        """Let the stream run."""
        left_s = self._passage.left_s()
        if left_s is not None:
            self._deadline = asyncio.get_running_loop().call_later(max(left_s, 0.0), self._expire)
        self._task = self._streams.begin(self, self._pump(begun))
        # A task that is cancelled before its first step awaits nothing.
        self._task.add_done_callback(lambda _: begun.close())

    def is_of(self, caller: Caller) -> bool:
        """Whether this caller asked for it."""
        return (self.caller.tenant, self.caller.principal) == (caller.tenant, caller.principal)

    @property
    def over(self) -> bool:
        """Whether it has ended, all of it was given, and nobody reads it."""
        return self._ended and self._given == self._last and self._reader is None

    @property
    def whole(self) -> bool:
        """Whether all of its events are here or still to come, and it neither failed nor was ended from outside."""
        failed = self._ended and self._error is not None
        return not self._cut and not failed and (not self._last or self._window[0][0] == 1)

    def check(self, after: int) -> None:
        """Raise `RefusedError` unless every event after this one is here or still to come."""
        first = self._window[0][0] if self._window else self._last + 1
        if not first - 1 <= after <= self._last:
            raise RefusedError(GONE)

    async def read(self, passage: Passage, after: int) -> AsyncGenerator[Numbered, None]:
        """The events after this one, each once. Who reads takes the place of who read before.

        How the reader goes decides: see `Resumable`. A stream that is left is settled before this generator ends.
        Raises `RefusedError` where not all of them are here: since it was found, another reader may have gone on.
        """
        self.check(after)
        me = self._reader = object()
        self._stop_grace()
        self._rewind(after)
        try:
            while True:
                if self._reader is not me:
                    raise RefusedError(_TAKEN)
                event = self._next()
                if event is not None:
                    passage.reply_headers["gateway-operation"] = self.operation
                    yield event
                elif self._ended or self._cut:
                    break
                else:
                    await self._change()
            if self._error is not None:
                raise self._error
        finally:
            if self._reader is me:
                self._reader = None
                await self._unread(passage)

    def cut(self) -> None:
        """End it: nobody waits for it any more."""
        self._stop_grace()
        if not self._cut:
            self._cut = True
            if self._task is not None:
                self._task.cancel()
            self._streams.forget(self)
            self._wake()

    def _expire(self) -> None:
        self._error = RefusedError(_LATE)
        self.cut()

    async def left(self) -> None:
        """End it, and return when it is settled."""
        self.cut()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _pump(self, begun: Coroutine[object, object, AsyncGenerator[Told, None]]) -> None:
        try:
            async with aclosing(await begun) as told:
                async for event in told:
                    self._put(event)
                    while not self._has_room:
                        await self._change()
            self._error = None
        except Exception as error:  # noqa: BLE001 - raised to who reads
            self._error = error
        finally:
            self._ended = True
            if self._deadline is not None:
                self._deadline.cancel()
            if self._error is not None:
                # Who sends the request again wants another try, not the same failure.
                self._streams.forget_key(self)
            if self._grace is not None:
                self._keep()
            self._wake()

    def _put(self, event: Told) -> None:
        if not self._last:
            # The first operation was admitted before its first event.
            self.operation = OperationId(self._passage.reply_headers["gateway-operation"])
            self._streams.name(self.operation, self)
        size = _size(event)
        self._last += 1
        self._window.append((self._last, event, size))
        self._ahead += size
        self.held_bytes += size
        self._trim()
        self._wake()

    @property
    def _has_room(self) -> bool:
        """Whether the model may go on. Without a reader nothing is let go of, so the window fills and then it waits."""
        if self._reader is None:
            return self.held_bytes < self._bounds.window_bytes
        return self._ahead < self._bounds.ahead_bytes

    def _trim(self) -> None:
        """Let go of what was given longest ago; who reads on has it."""
        while self.held_bytes > self._bounds.window_bytes and self._reader and self._window[0][0] <= self._given:
            self.held_bytes -= self._window.popleft()[2]

    def _next(self) -> Numbered | None:
        if self._given == self._last:
            return None
        self._given += 1
        sequence, event, size = self._window[self._given - self._window[0][0]]
        self._ahead -= size
        self._trim()
        self._wake()
        return sequence, event

    def _rewind(self, after: int) -> None:
        self._given = after
        self._ahead = sum(size for sequence, _, size in self._window if sequence > after)
        self._wake()

    async def _unread(self, passage: Passage) -> None:
        """The reader has gone."""
        how = passage.departure.how
        kept = how is Leaving.LOST or (how is Leaving.LEFT and self._mode is Resumable.CANCELLED)
        if not kept and not self.over:
            await self.left()
            return
        if self._ended and not self._last:
            # It was refused before its first event: nothing can be asked for again.
            self.cut()
            return
        # Also at its end: what was given last may never have arrived.
        self._keep()
        self._wake()

    def _keep(self) -> None:
        """Let the grace begin; that of a stream that has ended begins once."""
        self._stop_grace()
        loop = asyncio.get_running_loop()
        until = self._kept_until
        if until is None:
            left_s = self._passage.left_s()
            until = loop.time() + self._bounds.grace_s
            if left_s is not None:
                until = min(until, loop.time() + max(left_s, 0.0))
            self._kept_until = until if self._ended else None
        self._grace = loop.call_at(until, self.cut)

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()


def _free(streams: Iterable[LastingStream], full: Refusal) -> None:
    """Let go of one that is over; raise the refusal if none is."""
    over = next((stream for stream in streams if stream.over), None)
    if over is None:
        raise RefusedError(full)
    over.cut()


def _size(event: Told) -> int:
    """What an event holds, in bytes."""
    match event:
        case Text(text=text, signature=signature) | Thought(text=text, signature=signature):
            return EVENT_BYTES + len(text.encode()) + len(signature)
        case FunctionCall(arguments_json=arguments, signature=signature):
            return EVENT_BYTES + len(arguments.encode()) + len(signature)
        case ToolStep(step=Ran(answer=answer, told=told)):
            result = len(answer.operation.result) if isinstance(answer, Answer) else 0
            return EVENT_BYTES + len(told) + result
        case _:
            return EVENT_BYTES
