"""The way to the container: dialled when first needed, shared by all clients, dialled anew after a GOAWAY or a loss."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from h2.events import (
    ConnectionTerminated,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
)
from h2.exceptions import H2Error

from localcloud.front_door.config import DoorConfig
from localcloud.front_door.leg import Leg, Receiver
from localcloud.front_door.link import Link
from localcloud.front_door.outbox import Outbox
from localcloud.front_door.refusals import CONNECTION_ERROR, NO_INSTANCE, START_FAILED, Headers, Refusal, Refused

_DIAL_PAUSE = 0.02  # seconds between two tries to reach a container that does not listen yet


class ContainerLink(Link):
    """One connection to the container: h2c with prior knowledge, as Cloud Run speaks it (study, section 1.1)."""

    def __init__(self, stream_window: int, instance: str) -> None:
        super().__init__(client_side=True, stream_window=stream_window, advertised_streams=100)
        self.instance = instance
        self.draining = False
        self.settled: asyncio.Future[bool] = self._loop.create_future()

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened here."""
        limit = self.h2.remote_settings.max_concurrent_streams
        return not self.draining and not self.closing and len(self.legs) < limit

    def open(self, headers: Headers, *, ended: bool, receiver: Receiver, outbox: Outbox) -> Leg:
        """Open a stream with this head; raises Refused when the connection turns out not to take it."""
        try:
            stream_id = self.h2.get_next_available_stream_id()
            self.h2.send_headers(stream_id, headers, end_stream=ended)
        except H2Error as error:
            self.draining = True
            raise Refused(CONNECTION_ERROR) from error
        leg = Leg(self, stream_id, receiver, outbox)
        leg.said_end = ended
        self.legs[stream_id] = leg
        self.touch(leg)
        return leg

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first: the client side of HTTP/2 does."""
        super().connection_made(transport)
        self.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait of whoever dialled."""
        super().connection_lost(exc)
        if not self.settled.done():
            self.settled.set_result(False)

    def on_event(self, event: Event) -> None:
        """Add to the common events what only a client gets: responses, and the server's wish to end."""
        if isinstance(event, ResponseReceived):
            self._on_response(event)
        elif isinstance(event, InformationalResponseReceived):
            leg = self.legs.get(event.stream_id)
            if leg is not None:
                leg.receiver.on_headers(event.headers, ended=False)
        elif isinstance(event, ConnectionTerminated):
            self._on_goaway(event)
        else:
            super().on_event(event)
            if isinstance(event, RemoteSettingsChanged) and not self.settled.done():
                self.settled.set_result(True)

    def _on_response(self, event: ResponseReceived) -> None:
        leg = self.legs.get(event.stream_id)
        if leg is None:
            return
        leg.heard_end = event.stream_ended is not None
        leg.receiver.on_headers(event.headers, ended=leg.heard_end)
        leg.close_if_done()

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        """Open nothing here any more; the streams above the last one that it names were never looked at."""
        self.draining = True
        last = event.last_stream_id or 0
        for leg in [leg for leg in self.legs.values() if leg.stream_id > last]:
            leg.leave()
            leg.receiver.on_reset(0, lost=True)
        self._close_when_empty()

    def forget(self, leg: Leg) -> None:
        """Close a draining connection behind its last stream."""
        super().forget(leg)
        self._close_when_empty()

    def _close_when_empty(self) -> None:
        if self.draining and not self.legs and not self.closing:
            self._loop.call_soon(self.close)  # behind the write of the last frames


class Behind(Protocol):
    """What stands behind a door."""

    def entered(self) -> contextlib.AbstractAsyncContextManager[ContainerLink]:
        """Hold a place inside, and give a connection with room for one more stream. Raises Refused without one."""
        ...

    async def close(self, seconds: float) -> None:
        """Close all connections, each within `seconds`."""
        ...


class Container:
    """The one container at a fixed address, its connections, and the places inside it; `name` is for the access log."""

    def __init__(self, config: DoorConfig, group: asyncio.TaskGroup, name: str = "") -> None:
        self._config = config
        self._group = group
        self._name = name
        self._links: list[ContainerLink] = []
        self._places = asyncio.Semaphore(config.concurrency)
        self._reached = False
        self._dialling: asyncio.Task[Refusal | None] | None = None

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[ContainerLink]:
        """See `Behind`."""
        async with self.place():
            yield await self.link()

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the container's places; raises Refused when none gets free in time."""
        try:
            async with asyncio.timeout(self._config.pending_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise Refused(NO_INSTANCE) from error
        try:
            yield
        finally:
            self._places.release()

    async def link(self) -> ContainerLink:
        """Return a connection with room for one more stream; raises Refused when the container cannot be reached."""
        while True:
            self._links = [link for link in self._links if not link.closing]
            for link in self._links:
                if link.has_room:
                    return link
            if self._dialling is None or self._dialling.done():
                self._dialling = self._group.create_task(self._dial())
            refusal = await asyncio.shield(self._dialling)
            if refusal is not None:
                raise Refused(refusal)

    async def close(self, seconds: float) -> None:
        """Close all connections, each within `seconds`, and stop dialling."""
        if self._dialling is not None:
            self._dialling.cancel()
        await asyncio.gather(*(link.closed(seconds) for link in self._links))

    async def _dial(self) -> Refusal | None:
        """Try until the container listens, as long as a start may take; afterwards, as long as a reconnect may."""
        limit = self._config.reconnect_seconds if self._reached else self._config.start_seconds
        try:
            async with asyncio.timeout(limit):
                return await self._try_until_it_listens()
        except TimeoutError:
            return CONNECTION_ERROR if self._reached else START_FAILED

    async def _try_until_it_listens(self) -> Refusal | None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, link = await loop.create_connection(
                    lambda: ContainerLink(self._config.stream_window, self._name),
                    self._config.container_host,
                    self._config.container_port,
                )
            except OSError:
                await asyncio.sleep(_DIAL_PAUSE)
                continue
            self._links.append(link)  # from here on it is closed with the door, whatever happens
            if not await link.settled or not link.has_room:
                link.close()
                return CONNECTION_ERROR  # it listens, but does not speak h2c or takes no streams
            self._reached = True
            return None
