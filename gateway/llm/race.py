"""A race: one attempt, and perhaps a second one beside it, until the first chunk of an answer comes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from gateway.llm.tries import Trying
from gateway.terms.conversation import Attempt, Chunk
from gateway.terms.faults import UpstreamError

Value = TypeVar("Value")
Chunks = AsyncGenerator[Chunk, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One attempt of a race, and what it brings first: a chunk, or what it met instead."""

    trying: Trying
    chunks: Chunks
    first: asyncio.Task[Chunk | Exception]

    @property
    def fault(self) -> UpstreamError | None:
        """Why it has no answer, once it has ended; None if it has one. Raises what was no fault of its upstream's."""
        first = self.first.result()
        if isinstance(first, Exception) and not isinstance(first, UpstreamError):
            raise first
        return first if isinstance(first, UpstreamError) else None

    @property
    def chunk(self) -> Chunk:
        """The first one, of a lane without a fault."""
        first = self.first.result()
        if isinstance(first, Exception):
            raise first
        return first


class Race:
    """The attempts that are under way together. Leaving it ends all of them, whatever their upstreams do.

    The tasks never raise, so that what one attempt meets ends neither the other one nor whoever reads the race: it may
    be left and read by a generator that stands at a `yield` (a task group would cancel its reader in between).
    """

    def __init__(self, first: Callable[[Chunks], Awaitable[Chunk]]) -> None:
        """`first` gives the first chunk of an answer, or raises."""
        self._first = first
        self._lanes: list[Lane] = []
        self._ahead: list[Lane] = []
        """Those that have neither answered nor failed, as far as `ended` has told."""
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        """Begin without any attempt."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort what is under way, and wait until it has let go of its connection."""
        for lane in self._lanes:
            lane.first.cancel()
            lane.trying.leave()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            for lane in self._lanes:
                await lane.chunks.aclose()

    def start(self, trying: Trying, chunks: Chunks) -> None:
        """Send one more; not a byte leaves before the next await."""
        lane = Lane(trying=trying, chunks=chunks, first=self._group.create_task(_kept(self._first(chunks))))
        self._lanes.append(lane)
        self._ahead.append(lane)

    async def before(self, work: Awaitable[Value]) -> Value | None:
        """What this comes to; None if an attempt brought something before, and then the work is cut."""
        working = self._group.create_task(_kept(work))
        await asyncio.wait((working, *(lane.first for lane in self._ahead)), return_when=asyncio.FIRST_COMPLETED)
        if any(lane.first.done() for lane in self._ahead):
            working.cancel()
            return None
        result = working.result()
        if isinstance(result, Exception):
            raise result
        return result

    async def ended(self) -> Lane | None:
        """The next attempt that has its first chunk or a fault; None where none is left. Of equals, the older one."""
        if not self._ahead:
            return None
        await asyncio.wait([lane.first for lane in self._ahead], return_when=asyncio.FIRST_COMPLETED)
        lane = next(lane for lane in self._ahead if lane.first.done())
        self._ahead.remove(lane)
        return lane

    async def won(self) -> list[Attempt]:
        """Abort those that are still ahead, at once, also one that has its first chunk by now; what became of them."""
        lost = [lane.trying.lose() for lane in self._ahead]
        for lane in self._ahead:
            lane.first.cancel()
            if lane.first.done():
                await lane.chunks.aclose()
        self._ahead.clear()
        return lost


async def _kept(work: Awaitable[Value]) -> Value | Exception:
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - raised by who reads the race; in the group it would end all of it
        return error
