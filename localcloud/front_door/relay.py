"""One request's way through the door: admitted, given a place and a stream, carried both ways, and accounted for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from h2.errors import ErrorCodes
from h2.events import RequestReceived

from localcloud.front_door.access_log import AccessLog, Entry
from localcloud.front_door.config import DoorConfig
from localcloud.front_door.downstream import ClientLink
from localcloud.front_door.edge import Admission, Edge
from localcloud.front_door.head import Arrival, for_container
from localcloud.front_door.leg import Leg
from localcloud.front_door.outbox import Outbox
from localcloud.front_door.refusals import CONNECTION_ERROR, TIMED_OUT, Headers, Refusal, Refused, page
from localcloud.front_door.upstream import Behind, ContainerLink

_LINGER = 5.0  # seconds that a client has to fetch the edge's own answer
_LEFT = "client-left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every exchange of one door needs."""

    config: DoorConfig
    edge: Edge
    behind: Behind
    log: AccessLog
    clock: Callable[[], float]


class Exchange:
    """One request and its response. `run` is its life; the two receivers below bring what happens on its legs."""

    def __init__(self, services: Services, link: ClientLink, event: RequestReceived) -> None:
        self.client = Leg(link, event.stream_id, FromClient(self), Outbox())
        self.client.heard_end = event.stream_ended is not None
        link.legs[event.stream_id] = self.client
        self.container: Leg | None = None
        self.request = Outbox()
        self.request.ended = self.client.heard_end
        self.responded = False
        self.status = 0
        self.over: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.client_done = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.cut_short = ""
        self._services = services
        self._arrival = Arrival(
            headers=event.headers, address=link.address, strip_signature=services.config.strip_signature
        )
        self._caller = ""
        self._instance = ""

    async def run(self) -> None:
        """Live until both sides have said all, one has left, or the request's time is over."""
        begun, started = self._services.clock(), asyncio.get_running_loop().time()
        try:
            refusal = await self._carry()
            if refusal is not None:
                await self._answer(refusal)
        finally:
            self._part()
            self._services.log.add(
                Entry(
                    time=begun,
                    path=self._path(),
                    caller=self._caller,
                    status=self.status,
                    reason=self.cut_short,
                    seconds=round(asyncio.get_running_loop().time() - started, 6),
                    instance=self._instance,
                )
            )

    def finish(self, refusal: Refusal | None = None) -> None:
        """Wake `run`: with a refusal the client still has to be answered."""
        if not self.over.done():
            self.over.set_result(refusal)

    async def _carry(self) -> Refusal | None:
        """Return how the request failed, or None when the container's response went through or the client left."""
        try:
            async with asyncio.timeout(self._services.config.timeout_seconds):
                admission = await self._services.edge.admit(self._arrival.headers)
                self._caller = admission.email
                async with self._services.behind.entered() as link:
                    self._instance = link.instance
                    self._open(link, admission)
                    return await self.over
        except Refused as refused:
            self._caller = self._caller or refused.caller
            return refused.refusal
        except TimeoutError:
            return TIMED_OUT

    def _open(self, link: ContainerLink, admission: Admission) -> None:
        """Open the stream to the container; what the client has sent so far is in the outbox already."""
        head = for_container(self._arrival, admission)
        bare = self.request.ended and not self.request.size and self.request.trailers is None
        self.container = link.open(head, ended=bare, receiver=FromContainer(self), outbox=self.request)
        self.container.peer, self.client.peer = self.client, self.container

    async def _answer(self, refusal: Refusal) -> None:
        """Show the edge's page; when the response has begun already, cut it off."""
        self.cut_short = refusal.reason
        if self.client.gone:
            return
        if self.container is not None:
            self.container.reset(ErrorCodes.CANCEL)
        if self.responded:
            self.client.reset(ErrorCodes.INTERNAL_ERROR)
            return
        self.status = refusal.status
        self.request.clear()
        self.responded = True
        head, body = page(refusal)
        self.client.send_headers(head, ended=False)
        self.client.outbox.put(body)
        self.client.outbox.end()
        self.client.reset_when_said()
        self.client.nudge()
        try:
            async with asyncio.timeout(_LINGER):
                await self.client_done.wait()
        except TimeoutError:
            return

    def _part(self) -> None:
        """Leave no stream open on either side, whatever ended the exchange."""
        if self.container is not None:
            self.container.reset(ErrorCodes.CANCEL)
        self.client.reset(ErrorCodes.INTERNAL_ERROR)

    def _path(self) -> str:
        for name, value in self._arrival.headers:
            if name == b":path":
                return value.decode("ascii", "replace")
        return ""


class FromClient:
    """What the client says, on its way to the container."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def on_headers(self, headers: Headers, *, ended: bool) -> None:
        """Take nothing: a request's head is what made the exchange."""

    def on_data(self, data: bytes, *, ended: bool) -> None:
        """Hand a piece of the body on; when the container is out of it, only give the window back."""
        exchange = self._exchange
        if exchange.over.done() or (exchange.container is not None and exchange.container.gone):
            exchange.client.credit(len(data))
            return
        exchange.request.put(data)
        if ended:
            exchange.request.end()
        self._nudge()

    def on_trailers(self, headers: Headers) -> None:
        """Hand the trailers on."""
        self._exchange.request.end(headers)
        self._nudge()

    def on_reset(self, code: int, *, lost: bool) -> None:
        """Tell the container in the same turn of the loop that its caller has left."""
        del lost
        exchange = self._exchange
        exchange.cut_short = exchange.cut_short or _LEFT
        if exchange.container is not None:
            exchange.container.reset(code or ErrorCodes.CANCEL)  # a client that gives up without an error has cancelled
        elif exchange.task is not None:
            exchange.task.cancel()  # it waits for keys, a place or a connection that nobody needs any more
        self._done()

    def on_closed(self) -> None:
        """End the exchange: the client has said and heard all."""
        self._done()

    def _done(self) -> None:
        self._exchange.client_done.set()
        self._exchange.finish()

    def _nudge(self) -> None:
        if self._exchange.container is not None:
            self._exchange.container.nudge()


class FromContainer:
    """What the container says, on its way to the client."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def on_headers(self, headers: Headers, *, ended: bool) -> None:
        """Hand a head on; the first that is not informational is the response's."""
        exchange = self._exchange
        status = int(dict(headers)[b":status"])
        if status >= 200:
            exchange.responded = True
            exchange.status = status
        exchange.client.send_headers(headers, ended=ended)

    def on_data(self, data: bytes, *, ended: bool) -> None:
        """Hand a piece of the body on."""
        client = self._exchange.client
        client.outbox.put(data)
        if ended:
            client.outbox.end()
        client.nudge()

    def on_trailers(self, headers: Headers) -> None:
        """Hand the trailers on, behind the body."""
        client = self._exchange.client
        client.outbox.end(headers)
        client.nudge()

    def on_reset(self, code: int, *, lost: bool) -> None:
        """Pass a reset on; before the response it becomes a 503 of the edge, after it the end of the request."""
        exchange, container = self._exchange, self._exchange.container
        if container is not None and container.heard_end:
            exchange.client.reset_when_said()
        elif not exchange.responded:
            exchange.finish(CONNECTION_ERROR)
        else:
            exchange.cut_short = "container-reset"
            exchange.client.reset(ErrorCodes.INTERNAL_ERROR if lost else code)
            exchange.finish()

    def on_closed(self) -> None:
        """Wait for the client to fetch the rest."""
