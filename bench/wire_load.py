"""The load of `bench wire`: raw HTTP/2 with requests that were written before the clock ran.

Each request has its own ids and timeout, so that no header block is like another; each connection's compression table
is filled and Huffman-coded as clients do it. Answers are kept and judged after the clock has stopped.
"""

import asyncio
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from hpack import Decoder, Encoder

from bench.wire_servers import CHAT, EXECUTE, MESSAGES
from generated.agentic.gateway.v1 import ExecuteToolRequest
from generated.agentic.gateway.v1.codec import encode_ExecuteToolRequest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
TOKEN = "Bearer " + secrets.token_urlsafe(600)
WINDOW_MAX = 2**31 - 1
WINDOW_STEP = 32_768


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(body) << 8 | kind, flags, stream) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of call."""

    path: str
    content_type: str
    body: bytes
    timeout: Callable[[], tuple[str, str]]
    judge: Callable[[dict[str, str], bytes], bool]

    def headers(self) -> list[tuple[str, str]]:
        """Those of one request, with values of its own."""
        return [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", self.path),
            (":authority", "gateway.example.com"),
            ("te", "trailers"),
            ("content-type", self.content_type),
            ("user-agent", "grpc-python-asyncio/1.80.0 grpc-c/53.0.0 (linux; chttp2)"),
            self.timeout(),
            ("authorization", TOKEN),
            ("x-request-id", secrets.token_hex(8)),
            ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
        ]


def enveloped(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _grpc_timeout() -> tuple[str, str]:
    return "grpc-timeout", f"{20_000_000 + secrets.randbelow(9_000_000)}u"


def _connect_timeout() -> tuple[str, str]:
    return "connect-timeout-ms", str(20_000 + secrets.randbelow(9_000))


def _envelopes(body: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(body):
        flag, size = struct.unpack_from(">BI", body, at)
        found.append((flag, body[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def _grpc_is_well(messages: int) -> Callable[[dict[str, str], bytes], bool]:
    return lambda fields, body: fields.get("grpc-status") == "0" and len(_envelopes(body)) == messages


def _connect_is_well(fields: dict[str, str], body: bytes) -> bool:
    return fields.get(":status") == "200" and len(body) > 90


def _connect_stream_is_well(fields: dict[str, str], body: bytes) -> bool:
    envelopes = _envelopes(body)
    last_flag, last = envelopes[-1]
    return fields.get(":status") == "200" and len(envelopes) == MESSAGES + 1 and last_flag == 2 and b"error" not in last


_ECHO = encode_ExecuteToolRequest(ExecuteToolRequest(tool="echo", arguments_json='{"a":"' + "x" * 86 + '"}'))

KINDS = {
    "unary": Kind(
        path=EXECUTE,
        content_type="application/grpc",
        body=enveloped(_ECHO),
        timeout=_grpc_timeout,
        judge=_grpc_is_well(1),
    ),
    "stream": Kind(
        path=CHAT,
        content_type="application/grpc",
        body=enveloped(b""),
        timeout=_grpc_timeout,
        judge=_grpc_is_well(MESSAGES),
    ),
    "connect_unary": Kind(
        path=EXECUTE,
        content_type="application/proto",
        body=_ECHO,
        timeout=_connect_timeout,
        judge=_connect_is_well,
    ),
    "connect_stream": Kind(
        path=CHAT,
        content_type="application/connect+proto",
        body=enveloped(b""),
        timeout=_connect_timeout,
        judge=_connect_stream_is_well,
    ),
}


@dataclass(slots=True)
class Connection(asyncio.Protocol):
    """One connection that keeps so many calls in flight."""

    requests: list[bytes]
    in_flight: int
    done: asyncio.Future[None]
    blocks: list[tuple[int, bytes]] = field(default_factory=list)
    bodies: dict[int, list[bytes]] = field(default_factory=dict)
    ended: int = 0
    sent: int = 0
    unread: bytes = b""
    unopened: int = 0
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what an honest client says."""
        self.transport = cast("asyncio.Transport", transport)
        settings = struct.pack(">HIHI", 4, 1_048_576, 2, 0)
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 4_194_304))
        self.transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + window)

    def begin(self) -> None:
        """Let the calls begin."""
        self._send(self.in_flight)

    def data_received(self, data: bytes) -> None:
        """Keep what comes, open the window, and ask for as much again as has ended."""
        data, at, finished, reply = self.unread + data, 0, 0, b""
        while len(data) - at >= 9:
            head, flags, stream = struct.unpack_from(">IBI", data, at)
            end = at + 9 + (head >> 8)
            if end > len(data):
                break
            kind = head & 0xFF
            if kind == DATA:
                self.bodies.setdefault(stream, []).append(data[at + 9 : end])
                self.unopened += end - at - 9
            elif kind == HEADERS:
                self.blocks.append((stream, data[at + 9 : end]))
            elif kind in (SETTINGS, PING) and not flags & 1:
                reply += frame(kind, 1, 0, data[at + 9 : end] if kind == PING else b"")
            elif kind == GOAWAY and not self.done.done():
                self.done.set_exception(RuntimeError(f"the server said goodbye: {data[at + 9 : end]!r}"))
            finished += kind in (DATA, HEADERS) and flags & 1
            at = end
        self.unread = data[at:]
        if self.unopened >= WINDOW_STEP:
            reply += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.unopened))
            self.unopened = 0
        self.ended += finished
        self._send(finished, reply)
        if self.ended == len(self.requests) and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Too early, it is a failure."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the connection broke: {exc}"))

    def failures(self, kind: Kind) -> int:
        """How many answers were not what they must be."""
        decoder = Decoder()
        fields: dict[int, dict[str, str]] = {}
        for stream, block in self.blocks:
            fields.setdefault(stream, {}).update((str(name), str(value)) for name, value in decoder.decode(block))
        well = sum(kind.judge(said, b"".join(self.bodies.get(stream, []))) for stream, said in fields.items())
        return len(self.requests) - well

    def _send(self, count: int, reply: bytes = b"") -> None:
        out = reply + b"".join(self.requests[self.sent : self.sent + count])
        self.sent += count
        if out and self.transport is not None:
            self.transport.write(out)


def written(kind: Kind, count: int) -> list[bytes]:
    """So many requests of one connection, in their order."""
    encoder = Encoder()
    return [
        frame(HEADERS, 4, stream, encoder.encode(kind.headers())) + frame(DATA, 1, stream, kind.body)
        for stream in range(1, 2 * count, 2)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Calls of one kind on some connections, written and ready."""

    kind: Kind
    connections: list[Connection]

    async def run(self, limit_s: float = 120) -> None:
        """Make all calls; raises TimeoutError and RuntimeError."""
        for connection in self.connections:
            connection.begin()
        async with asyncio.timeout(limit_s):
            await asyncio.gather(*(connection.done for connection in self.connections))

    def failures(self) -> int:
        """How many answers were not what they must be; closes the connections."""
        failed = sum(connection.failures(self.kind) for connection in self.connections)
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.close()
        return failed


async def batch(port: int, kind: Kind, calls: int, in_flight: int, connections: int = 4) -> Batch:
    """Connect, and write all requests."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        requests = written(kind, calls // connections)
        _, made = await loop.create_connection(
            lambda requests=requests: Connection(requests, in_flight, loop.create_future()),  # type: ignore[misc] # bound at once
            "127.0.0.1",
            port,
        )
        opened.append(made)
    return Batch(kind=kind, connections=opened)
