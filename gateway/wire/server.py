"""The server: one port, from its first connection to its drain."""

import asyncio
from typing import Final, cast

import grpclib.server
from grpclib.encoding.proto import ProtoCodec
from grpclib.protocol import H2Protocol

from gateway.call.stations import Witness
from gateway.terms.clock import Clock, IdSource
from gateway.wire.config import WireConfig
from gateway.wire.connection import GatewayProtocol
from gateway.wire.drain import Drained, drain
from gateway.wire.grpc import GrpcCalls
from gateway.wire.health import Health, Readiness
from gateway.wire.load import Load, Surroundings
from gateway.wire.table import Table, bind
from generated.grpc.health.v1.services import METHODS as HEALTH_METHODS

_HEALTH: Final = "grpc.health.v1.Health"


class Listener(grpclib.server.Server):
    """grpclib's server with our protocol on each connection. Its own `close` is not used: it cancels without a word."""

    def __init__(self, calls: GrpcCalls, surroundings: Surroundings) -> None:
        # A codec is named only so that grpclib does not look for google.rpc: it is not used.
        super().__init__([], codec=ProtoCodec())
        self._calls = calls
        self._surroundings = surroundings

    def _protocol_factory(self) -> H2Protocol:
        return GatewayProtocol(self._calls, self._surroundings)

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
    """Serves a table, and health beside it, over gRPC in cleartext HTTP/2 with prior knowledge.

    `readiness` begins with NOT_SERVING: whoever assembles the gateway says when it is ready.
    """

    def __init__(self, table: Table, config: WireConfig, clock: Clock, ids: IdSource, witness: Witness) -> None:
        self.readiness = Readiness()
        self._load = Load()
        self._surroundings = Surroundings(config=config, clock=clock, ids=ids, witness=witness, load=self._load)
        health = Health(self.readiness, (*table.services, _HEALTH), retry_after_ms=config.retry_after_ms)
        self._table = table.joined(bind(HEALTH_METHODS, health, vital=("Check",)))
        self._listener: Listener | None = None

    @property
    def running(self) -> int:
        """Calls that are in their services now."""
        return self._load.running

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._load.connections)

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port, which is the system's choice for port 0. Raises OSError when it cannot."""
        if self._listener is not None:
            raise RuntimeError("a server starts once; make another")
        listener = Listener(GrpcCalls(self._table, self._surroundings), self._surroundings)
        await listener.start(host, port, backlog=self._surroundings.config.backlog, reuse_address=True)
        self._listener = listener
        return listener.port

    async def drain(self, limit_s: float | None = None) -> Drained:
        """Stop in the order of `drain.drain`; a server that never started has nothing to drain."""
        self.readiness.close()
        if self._listener is None:
            return Drained(cut=0, abandoned=0)
        limit = self._surroundings.config.drain_s if limit_s is None else limit_s
        return await drain(self._listener, self._surroundings, limit)
