"""The server: one port, from its first connection to its drain."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

import grpclib.server
from grpclib.encoding.proto import ProtoCodec
from grpclib.protocol import AbstractHandler, H2Protocol

from gateway.call.stations import Witness
from gateway.terms.clock import Clock, IdSource
from gateway.terms.passage import Stages
from gateway.wire.asgi import Application
from gateway.wire.asgi_stream import Streams
from gateway.wire.config import WireConfig
from gateway.wire.connection import GatewayProtocol
from gateway.wire.descriptors import read_descriptors
from gateway.wire.door import Door
from gateway.wire.drain import Drained, drain
from gateway.wire.grpc import GrpcCalls
from gateway.wire.health import Health, Readiness
from gateway.wire.http1_connection import Http1Connection
from gateway.wire.load import Load, Surroundings
from gateway.wire.reflection import reflected
from gateway.wire.table import Table, bind
from generated.grpc.health.v1.services import METHODS as HEALTH_METHODS

_HEALTH: Final = "grpc.health.v1.Health"


class Listener(grpclib.server.Server):
    """grpclib's server with our protocol on each connection. Its own `close` is not used: it cancels without a word."""

    def __init__(self, streams: AbstractHandler, surroundings: Surroundings, web: Application | None) -> None:
        # A codec is named only so that grpclib does not look for google.rpc: it is not used.
        super().__init__([], codec=ProtoCodec())
        self._streams = streams
        self._surroundings = surroundings
        self._web = web

    def _protocol_factory(self) -> H2Protocol:
        if self._web is None:
            return self._http2()
        # grpclib hands what it gets to asyncio, which asks for no more than a protocol.
        return cast("H2Protocol", Door(self._http2, self._http1, self._surroundings))

    def _http2(self) -> GatewayProtocol:
        return GatewayProtocol(self._streams, self._surroundings)

    def _http1(self) -> Http1Connection:
        return Http1Connection(cast("Application", self._web), self._surroundings)

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None, *, shared: bool) -> None:
        """Listen, `shared` with other processes on the port.

        A peer that does not come to an end with TLS in the time of a preface is gone.
        """
        config = self._surroundings.config
        handshake = config.preface_s if tls else None
        self._server = await asyncio.get_running_loop().create_server(
            self._protocol_factory,
            host,
            port,
            backlog=config.backlog,
            reuse_address=True,
            reuse_port=shared or None,
            ssl=tls,
            ssl_handshake_timeout=handshake,
            ssl_shutdown_timeout=config.linger_s if tls else None,
        )

    def stop_listening(self) -> None:
        """Take no further connection; those that are open stay."""
        if self._server is not None:
            self._server.close()

    async def wait_stopped(self) -> None:
        """Wait until the socket is closed and, from Python 3.12 on, every connection too: close them first."""
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        server = cast("asyncio.Server", self._server)
        return int(server.sockets[0].getsockname()[1])


class GatewayServer:
    """Serves a table, and health and reflection beside it, over gRPC in cleartext HTTP/2 with prior knowledge.

    `readiness` begins with NOT_SERVING: whoever assembles the gateway says when it is ready.
    """

    def __init__(self, table: Table, config: WireConfig, clock: Clock, ids: IdSource, witness: Witness) -> None:
        self.readiness = Readiness()
        self._load = Load()
        self._surroundings = Surroundings(config=config, clock=clock, ids=ids, witness=witness, load=self._load)
        health = Health(self.readiness, (*table.services, _HEALTH), retry_after_ms=config.retry_after_ms)
        table = table.joined(bind(HEALTH_METHODS, health, vital=("Check",)))
        self._table = reflected(table, read_descriptors())
        self._listener: Listener | None = None

    @property
    def running(self) -> int:
        """Calls that are in their services now."""
        return self._load.running

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._load.connections)

    def account(self, stages: Callable[[Clock], Stages]) -> None:
        """Keep each call's account of its stages in this way; to be said before `start`."""
        self._surroundings = replace(self._surroundings, stages=stages)

    @property
    def table(self) -> Table:
        """All that is served: the table that was given, health and reflection."""
        return self._table

    @property
    def surroundings(self) -> Surroundings:
        """What this server shares with an application that it carries."""
        return self._surroundings

    async def start(
        self,
        host: str,
        port: int,
        web: Application | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        shared: bool = False,
    ) -> int:
        """Listen; gives the port, which is the system's choice for port 0. Raises OSError when it cannot.

        `web` gets everything that is not gRPC. Without `tls` the port speaks cleartext. Processes can have one port if
        all of them share it.
        """
        if self._listener is not None:
            raise RuntimeError("a server starts once; make another")
        streams: AbstractHandler = GrpcCalls(self._table, self._surroundings)
        if web is not None:
            streams = Streams(streams, web, self._surroundings)
        listener = Listener(streams, self._surroundings, web)
        await listener.open(host, port, tls, shared=shared)
        self._listener = listener
        return listener.port

    async def drain(self, limit_s: float | None = None) -> Drained:
        """Stop in the order of `drain.drain`; a server that never started has nothing to drain."""
        self.readiness.close()
        if self._listener is None:
            return Drained(cut=0, abandoned=0)
        limit = self._surroundings.config.drain_s if limit_s is None else limit_s
        return await drain(self._listener, self._surroundings, limit)
