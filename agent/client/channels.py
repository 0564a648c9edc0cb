"""A small pool of HTTP/2 connections: Cloud Run's edge takes 100 streams on each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from grpclib.client import Channel

from agent.client.codec import DetailsCodec, MessageCodec

STREAMS_MAX: Final = 90
"""Below the edge's 100, so that no call waits inside of HTTP/2 where its deadline cannot be seen."""


class ChannelPool:
    """Gives the connection with the fewest running calls; waits when all are full."""

    def __init__(self, url: str, size: int) -> None:
        host, port, secure = _address(url)
        self._channels = [
            Channel(host, port, ssl=secure or None, codec=MessageCodec(), status_details_codec=DetailsCodec())
            for _ in range(size)
        ]
        self._running = [0] * size
        self._free = asyncio.Semaphore(size * STREAMS_MAX)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel for one call."""
        async with self._free:
            place = min(range(len(self._channels)), key=self._running.__getitem__)
            self._running[place] += 1
            try:
                yield self._channels[place]
            finally:
                self._running[place] -= 1

    def close(self) -> None:
        """Close every connection."""
        for channel in self._channels:
            channel.close()


def _address(url: str) -> tuple[str, int, bool]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"the gateway's URL must be like https://gateway-service-123.run.app, not {url!r}")
    secure = parts.scheme == "https"
    return parts.hostname, parts.port or (443 if secure else 80), secure
