"""The front door, running: its listening socket, its clients' connections, and the task that owns all exchanges."""

import asyncio
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import aiohttp
from h2.events import RequestReceived

from localcloud.front_door.access_log import AccessLog, Entry
from localcloud.front_door.config import Access, DoorConfig, DoorConfigError
from localcloud.front_door.downstream import ClientLink
from localcloud.front_door.edge import Edge
from localcloud.front_door.keys import PublishedKeys
from localcloud.front_door.relay import Exchange, Services
from localcloud.front_door.upstream import Behind, Container

_CLOSE_SECONDS = 0.5  # for a peer to take its last bytes


class FrontDoor:
    """`async with FrontDoor(config) as door`: listens inside; outside, every stream and socket of it is closed.

    It stands before the configuration's container, which is not dialled before the first request, or before `behind`.
    `access` says at every request who may come in; the configuration does without it. `clock` gives seconds since the
    epoch, for tokens and the access log; `log_file` gets one JSON object a line. Raises OSError for a taken port.
    """

    def __init__(
        self,
        config: DoorConfig,
        *,
        behind: Behind | None = None,
        access: Callable[[], Access] | None = None,
        clock: Callable[[], float] = time.time,
        log_file: TextIO | None = None,
    ) -> None:
        if behind is None and not config.container_host:
            raise DoorConfigError("Say what stands behind the door: a container's host and port.")
        self.config = config
        self._behind = behind
        self._access = access or config.access
        self.host = config.host
        self.port = 0
        self._clock = clock
        self._log = AccessLog(log_file)
        self._clients: set[ClientLink] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The last thousand requests that are over, oldest first."""
        return tuple(self._log.entries)

    @property
    def url(self) -> str:
        """Where clients connect: cleartext HTTP/2 with prior knowledge."""
        return f"http://{self.host}:{self.port}"

    def facts(self) -> dict[str, object]:
        """Return what the ready file tells."""
        return {
            "pid": os.getpid(),
            "url": self.url,
            "host": self.host,
            "port": self.port,
            "audiences": list(self.config.audiences),
            "invokers": list(self.config.invokers),
        }

    async def __aenter__(self) -> Self:
        # One task owns the group of exchanges, so that a test's fixture may enter and leave in tasks of its own.
        self._owner = asyncio.create_task(self._run())
        listening = asyncio.create_task(self._listening.wait())
        try:
            await asyncio.wait({self._owner, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            if not self._listening.is_set():
                self._stop.set()
                await self._owner  # it tells why it cannot listen
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._owner is not None:
            await self._owner

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for the event, or until the door has broken down; leaving the context then tells why."""
        if self._owner is None:
            return
        asked = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({self._owner, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._client_link, self.config.host, self.config.port, start_serving=False)
        self.host, self.port = server.sockets[0].getsockname()[:2]
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            self._group = group
            self._services = self._build(session, group)
            await server.start_serving()
            self._listening.set()
            await self._stop.wait()
            server.close()
            await self._drain()
            await self._services.behind.close(_CLOSE_SECONDS)
            await asyncio.gather(*(client.closed(_CLOSE_SECONDS) for client in tuple(self._clients)))

    def _build(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> Services:
        keys = PublishedKeys(session, self.config.certs_url, self._clock)
        return Services(
            config=self.config,
            edge=Edge(self._access, keys, self._clock, closed=self.config.ingress == "none"),
            behind=self._behind or Container(self.config, group),
            log=self._log,
            clock=self._clock,
        )

    def _client_link(self) -> ClientLink:
        link = ClientLink(stream_window=self.config.stream_window, accept=self._accept, on_gone=self._clients.discard)
        self._clients.add(link)
        return link

    def _accept(self, link: ClientLink, event: RequestReceived) -> None:
        exchange = Exchange(self._services, link, event)
        exchange.task = task = self._group.create_task(exchange.run())
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)

    async def _drain(self) -> None:
        """Let what is open go on for a while, take nothing new, then end what is left."""
        for client in self._clients:
            client.go_away()
        if self._exchanges:
            await asyncio.wait(self._exchanges, timeout=self.config.drain_seconds)
        for task in tuple(self._exchanges):
            task.cancel()
        if self._exchanges:
            await asyncio.wait(self._exchanges)
