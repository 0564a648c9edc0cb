"""A small pool of HTTP/2 connections: Cloud Run's edge takes 100 streams on each."""

import asyncio
import socket
import ssl
from typing import Final

from agent.client.address import Address
from agent.client.call import Call
from agent.client.connection import GatewayProtocol
from agent.client.errors import UnreachableError
from agent.client.http2 import STREAMS_MAX
from agent.client.reply import Reply
from agent.single_flight import SingleFlight

CONNECT_S: Final = 10.0
CLOSE_S: Final = 1.0
"""For a peer to take our last bytes."""


class Line:
    """One connection to the gateway, made when it is needed, and anew when the old one goes."""

    def __init__(self, address: Address, silence_s: float) -> None:
        self._address = address
        self._silence_s = silence_s
        self._dialling = SingleFlight[GatewayProtocol]()
        self._connections: list[GatewayProtocol] = []
        self.running = 0
        """Calls, those that wait to be sent included."""

    async def open(self, call: Call) -> Reply:
        """Send a call. Raises `UnreachableError` and `GatewayError`."""
        protocol = self._usable() or await self._dialling.join(self._dial)
        reply = protocol.reply()
        try:
            await reply.send(call.headers(self._address), call.framed, protocol.processor, call.end)
        except BaseException:
            reply.close()
            raise
        return reply

    async def hang_up(self) -> None:
        """Close every connection, and wait until they are, for a short time."""
        for protocol in self._connections:
            protocol.processor.close()
        if self._connections:
            await asyncio.wait([protocol.gone for protocol in self._connections], timeout=CLOSE_S)
        for protocol in self._connections:
            protocol.abort("the client was closed")

    def _usable(self) -> GatewayProtocol | None:
        return next((protocol for protocol in reversed(self._connections) if protocol.usable), None)

    async def _dial(self) -> GatewayProtocol:
        """A new connection; those who come meanwhile wait for it, and hear why if there is none."""
        loop, to = asyncio.get_running_loop(), self._address
        try:
            async with asyncio.timeout(CONNECT_S):
                transport, protocol = await loop.create_connection(
                    lambda: GatewayProtocol(self._silence_s), to.host, to.port, ssl=_tls() if to.secure else None
                )
        except (OSError, TimeoutError) as error:
            raise _unreachable(to, error) from error
        self._connections = [known for known in self._connections if not known.gone.done()]
        self._connections.append(protocol)
        spoken = transport.get_extra_info("ssl_object")
        if spoken is not None and spoken.selected_alpn_protocol() != "h2":
            protocol.abort("the server does not speak HTTP/2")
            raise UnreachableError(f"{to.authority} does not speak HTTP/2; check the URL.", lasting=True)
        return protocol


class ChannelPool:
    """Gives the line with the fewest running calls; who comes when all are full waits for a place."""

    def __init__(self, address: Address, size: int, silence_s: float) -> None:
        self._lines = [Line(address, silence_s) for _ in range(size)]
        self._places = asyncio.Semaphore(size * STREAMS_MAX)

    async def open(self, call: Call) -> Reply:
        """Send a call on a line with room; the caller bounds the wait. Raises as `Line.open` does."""
        await self._places.acquire()
        line = min(self._lines, key=lambda each: each.running)
        line.running += 1
        try:
            reply = await line.open(call)
        except BaseException:
            self._free(line)
            raise
        reply.when_closed = lambda: self._free(line)
        return reply

    async def close(self) -> None:
        """Close every connection; calls that still run end with an error."""
        await asyncio.gather(*(line.hang_up() for line in self._lines))

    def _free(self, line: Line) -> None:
        line.running -= 1
        self._places.release()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    return context


def _unreachable(to: Address, error: OSError) -> UnreachableError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachableError(
            f"The certificate of {to.authority} is not trusted: {error.verify_message}.", lasting=True
        )
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"There is no host {to.host}; check the URL, and this network's DNS.")
    if isinstance(error, TimeoutError):
        return UnreachableError(f"{to.authority} did not answer within {CONNECT_S:g} s.")
    return UnreachableError(f"The gateway cannot be reached at {to.authority}: {error.strerror or error}.")
