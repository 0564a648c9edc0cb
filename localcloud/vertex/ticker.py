"""Paced writing: prebuilt frames at fixed times, one write a frame, without waking a task for each.

Hundreds of streams at fifty chunks a second leave no room for a task switch per chunk, so the event loop's timer
writes to the transport directly; the stream's own task sleeps until the last frame is out.
"""

import asyncio
from collections.abc import Callable

# Above this many unsent bytes a tick passes without a write: a slow reader slows its stream and nothing piles up.
HIGH_WATER = 64 * 1024


def chunked(frame: bytes) -> bytes:
    """A frame in HTTP/1.1's chunked transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(frame), frame)


class Ticker:
    """Writes frames to one transport, `interval` seconds apart, the first of them one interval from now."""

    __slots__ = ("_at", "_endless", "_frames", "_interval", "_loop", "_place", "_sent", "_timer", "_transport", "done")

    def __init__(
        self, transport: asyncio.Transport, frames: list[bytes], interval: float, sent: Callable[[], None]
    ) -> None:
        """Take the transport, whose headers must be out; `sent` is called after each frame, before the next."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._frames = [chunked(frame) for frame in frames]
        self._interval = interval
        self._sent = sent
        self._place = 0
        self._endless = False
        self._at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[bool] = self._loop.create_future()

    async def run(self, *, endless: bool = False) -> bool:
        """Write all frames, or round and round; False if the peer's connection closed before the end."""
        self._endless = endless
        if not self._frames:
            return True
        self._schedule()
        try:
            return await self.done
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _schedule(self) -> None:
        self._at += self._interval
        self._timer = self._loop.call_at(self._at, self._tick)

    def _tick(self) -> None:
        if self.done.done():
            return
        if self._transport.is_closing():
            self.done.set_result(False)
            return
        if self._transport.get_write_buffer_size() <= HIGH_WATER:
            self._transport.write(self._frames[self._place])
            self._place += 1
            self._sent()
            if self._place == len(self._frames):
                if not self._endless:
                    self.done.set_result(True)
                    return
                self._place = 0
        self._schedule()
