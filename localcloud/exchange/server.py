"""The paper exchange as running servers: one trading port in Alpaca's wire format and one admin port."""

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from localcloud.exchange.admin import Admin
from localcloud.exchange.faults import Faults
from localcloud.exchange.front import Front
from localcloud.exchange.requestlog import RequestLog
from localcloud.exchange.venue import Clock, Venue, VenueConfig

_SHUTDOWN_SECONDS: Final = 1.0


def system_clock() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeConfig:
    """A venue and where it listens; port 0 takes any free port."""

    venue: VenueConfig
    host: str = "127.0.0.1"
    port: int = 0
    admin_port: int = 0
    clock: Clock = system_clock


class PaperExchange:
    """An exchange that listens while its `async with` block runs.

    `url` and `admin_url` are known inside the block; `venue`, `faults` and `requests` are the state in this process.
    Raises OSError when a port cannot be had.
    """

    def __init__(self, config: ExchangeConfig) -> None:
        """Open the venue; nothing listens yet."""
        self.venue: Final = Venue(config.venue, config.clock)
        self.faults: Final = Faults()
        self.requests: Final = RequestLog()
        self.url = ""
        self.admin_url = ""
        self._config = config
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        front, admin = Front(self.venue, self.faults, self.requests), Admin(self.venue, self.faults, self.requests)
        async with AsyncExitStack() as stack:
            self.url = await self._listen(stack, front.app(), self._config.port)
            self.admin_url = await self._listen(stack, admin.app(), self._config.admin_port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: AsyncExitStack, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._config.host, port).start()
        host, bound = runner.addresses[0][:2]
        return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
