"""Counts of tokens that were asked for once: kept within a bound, and asked for by one caller at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

KEPT_MAX: Final = 4_096

CountKey = tuple[str, bytes]
"""The tokenizer, and `content_key` of the prompt."""


class Counts:
    """What the count methods of the upstreams said; the least recently used is forgotten first."""

    __slots__ = ("_kept", "_most", "_running")

    def __init__(self, most: int = KEPT_MAX) -> None:
        self._kept: OrderedDict[CountKey, int] = OrderedDict()
        self._most = most
        self._running: dict[CountKey, asyncio.Future[int | None]] = {}

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return bool(self._kept)

    def kept(self, key: CountKey) -> int | None:
        """The count, if it is known."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    async def counted(self, key: CountKey, ask: Callable[[], Awaitable[int | None]]) -> int | None:
        """What `ask` gives, asked once however many wait for the same; None where the upstream does not count.

        If who asks fails, all fail; if it leaves, the next one asks.
        """
        while (running := self._running.get(key)) is not None:
            await asyncio.wait((running,))
            if not running.cancelled():
                return running.result()
        if (known := self.kept(key)) is not None:
            return known
        return await self._asked(key, ask)

    async def _asked(self, key: CountKey, ask: Callable[[], Awaitable[int | None]]) -> int | None:
        running = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            tokens = await ask()
            running.set_result(tokens)
        except Exception as error:
            running.set_exception(error)
            running.exception()  # nobody may be waiting, and asyncio would mourn it
            raise
        finally:
            del self._running[key]
            running.cancel()  # without effect unless whoever asked was cancelled
        if tokens is not None:
            self._keep(key, tokens)
        return tokens

    def _keep(self, key: CountKey, tokens: int) -> None:
        self._kept[key] = tokens
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
