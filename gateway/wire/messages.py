"""The messages of a request that streams: an async iterator that opens the caller's window as it is read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.wire.errors import EndedError, Ending
from gateway.wire.message import CUT_OFF, PREFIX, announced, inflated


class Source(Protocol):
    """Where the pieces of the request come from."""

    def consumed(self, size: int) -> None:
        """So many bytes need no room any more: the caller may send as many again."""
        ...

    def unfinished(self, begun: bool) -> None:  # noqa: FBT001 - the value is all that it says
        """Whether the reader waits for the rest of a message that has begun: the time for it runs, or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What one message may be, and what it becomes."""

    bytes_max: int
    gzip: bool
    decode: Callable[[bytes], object]
    """Raises `EndedError` for what is no message."""


class Messages(AsyncIterator[object]):
    """Requests in their order, for one reader.

    The window opens only for bytes that the reader has taken or waits for. What is held is therefore at most one
    message, the stream's window and one DATA frame, however fast the caller sends.
    """

    __slots__ = ("_failed", "_finished", "_form", "_held", "_source", "_unopened", "_waiter", "_wanted")

    def __init__(self, form: Form, source: Source) -> None:
        self._form = form
        self._source = source
        self._held = bytearray()
        self._wanted = 0
        """Prefix and message of the first that is held; 0 until its prefix is read."""
        self._unopened = 0
        """Bytes that came and for which no window was opened since."""
        self._finished = False
        self._failed: Ending | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def held(self) -> int:
        """Bytes that wait for their reader."""
        return len(self._held)

    def add(self, data: bytes, size: int) -> None:
        """Take the next piece, which used so much of the window.

        Raises `EndedError` as soon as the message that comes next cannot be acceptable.
        """
        self._held += data
        self._unopened += size
        self._read_prefix()
        if self._waiter is not None:
            self._wake_or_ask()

    def finish(self) -> None:
        """The caller sends no more."""
        self._finished = True
        if self._waiter is not None:
            self._wake()

    def fail(self, ending: Ending) -> None:
        """Whoever reads on gets this."""
        self._failed = ending
        self._held.clear()
        if self._waiter is not None:
            self._wake()

    async def __anext__(self) -> object:
        """The next request, decoded; raises `EndedError` for one that is malformed or cut off."""
        if not self._complete() and not self._finished and self._failed is None:
            await self._arrival()
        if self._failed is not None:
            raise EndedError(self._failed)
        if not self._complete():
            if self._held:
                self.fail(CUT_OFF)
                raise EndedError(CUT_OFF)
            raise StopAsyncIteration
        return self._taken()

    async def _arrival(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("the requests of one call have one reader")
        self._waiter = asyncio.get_running_loop().create_future()
        self._ask()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._source.unfinished(False)  # noqa: FBT003 - see `Source`

    def _taken(self) -> object:
        flag, size = self._held[0], self._wanted
        message = bytes(memoryview(self._held)[PREFIX.size : size])
        del self._held[:size]
        self._wanted = 0
        self._open(min(size, self._unopened))
        try:
            return self._form.decode(inflated(message, self._form.bytes_max) if flag else message)
        except EndedError as error:
            self.fail(error.ending)
            raise
        finally:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """A bad prefix behind a good message does not take the good one along."""
        try:
            self._read_prefix()
        except EndedError as error:
            self.fail(error.ending)

    def _complete(self) -> bool:
        return 0 < self._wanted <= len(self._held)

    def _read_prefix(self) -> None:
        if not self._wanted and len(self._held) >= PREFIX.size:
            self._wanted = PREFIX.size + announced(self._held, self._form.bytes_max, gzip=self._form.gzip)

    def _wake_or_ask(self) -> None:
        if self._complete():
            self._wake()
        else:
            self._ask()

    def _ask(self) -> None:
        """The reader waits: all that is held is needed, and more."""
        self._open(self._unopened)
        self._source.unfinished(bool(self._held))

    def _open(self, size: int) -> None:
        self._unopened -= size
        self._source.consumed(size)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
