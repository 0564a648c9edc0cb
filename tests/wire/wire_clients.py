"""Clients for the wire tests: grpcio's stubs over our codecs, and raw HTTP/2 for what no honest client does."""

import asyncio
import contextlib
import struct
import time
import tracemalloc

import grpc.aio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import Settings

from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS
from generated.grpc.health.v1.codec import CODECS as HEALTH_CODECS
from generated.grpc.health.v1.services import METHODS as HEALTH_METHODS

CODECS_BY_TYPE = {**CODECS, **HEALTH_CODECS}
METHODS_BY_NAME = {method.name: method for method in (*METHODS, *HEALTH_METHODS)}
PATH = "/agentic.gateway.v1.ModelService/CountTokens"
CHAT_PATH = "/agentic.gateway.v1.ModelService/Chat"


def stub(channel, name):
    """A grpcio callable for one of the methods."""
    method = METHODS_BY_NAME[name]
    make = channel.unary_stream if method.cardinality.reply_streams else channel.unary_unary
    return make(
        method.path,
        request_serializer=CODECS_BY_TYPE[method.request].encode,
        response_deserializer=CODECS_BY_TYPE[method.reply].decode,
    )


def grpcio(served, **options):
    return grpc.aio.insecure_channel(served.target, options=tuple(options.items()))


def message(body, flag=0):
    return struct.pack(">BI", flag, len(body)) + body


async def eventually(condition, limit_s=5):
    """Wait for what has no event of its own."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def cost_below(memory, cpu_s=1.0):
    """What both ends allocate inside stays below a number of bytes, and what they compute below processor seconds.

    Watching memory makes the seconds about three times as many; no attack took more than 0.3 on a busy machine.
    """
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory
    assert spent < cpu_s


def frame(kind, flags, stream, body=b""):
    """Any HTTP/2 frame, right or wrong."""
    return struct.pack(">I", len(body) << 8 | kind) + struct.pack(">BI", flags, stream) + body


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0x0, 0x1, 0x2, 0x3, 0x4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0x5, 0x6, 0x7, 0x8, 0x9
END_STREAM, END_HEADERS = 0x1, 0x4


def request_headers(path=PATH, *extra, content_type="application/grpc", method="POST"):
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("te", "trailers"),
        ("content-type", content_type),
        *extra,
    ]


class PatientHttp2(H2Connection):
    """A client that goes on reading after GOAWAY, as RFC 9113 (6.8) wants and h2 does not."""

    def _receive_goaway_frame(self, frame):
        return [], []


class Raw:
    """A client connection that does what it is told, and keeps every event and frame.

    With `follows` off, h2 does not see what comes: it knows nothing of streams that were written past it.
    """

    def __init__(self, reader, writer, settings):
        self.reader, self.writer = reader, writer
        self.h2 = PatientHttp2(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(client=True, initial_values=settings)
        self.events = []
        self.frames = []
        self.follows = True
        self.closed = False
        self._unread = b""

    @classmethod
    async def open(cls, port, *, settings=None, acks=True):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self = cls(reader, writer, settings or {})
        self.acks = acks
        self.h2.initiate_connection()
        self.flush()
        return self

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def write(self, data):
        self.writer.write(data)

    def request(self, headers=None, body=None, *, end=True):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers or request_headers(), end_stream=end and body is None)
        if body is not None:
            pieces = [body[at : at + 16_384] for at in range(0, len(body), 16_384)] or [b""]
            for piece in pieces:
                self.h2.send_data(stream, piece, end_stream=end and piece is pieces[-1])
        self.flush()
        return stream

    def data(self, stream, body, *, end=False):
        self.h2.send_data(stream, body, end_stream=end)
        self.flush()

    def reset(self, stream, error=8):
        self.h2.reset_stream(stream, error)
        self.flush()

    async def read(self):
        """Read once; False at the end."""
        data = await self.reader.read(65536)
        if not data:
            self.closed = True
            return False
        self._split(data)
        if not self.follows:
            return True
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if self.acks and isinstance(event, DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return True

    def _split(self, data):
        self._unread += data
        while len(self._unread) >= 9:
            size = int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self._unread[3:9])
            self.frames.append((kind, flags, stream, self._unread[9 : 9 + size]))
            self._unread = self._unread[9 + size :]

    def of_kind(self, kind):
        return [frame for frame in self.frames if frame[0] == kind]

    async def until(self, done, limit_s=5):
        async with asyncio.timeout(limit_s):
            while not done():
                if not await self.read():
                    raise AssertionError(f"connection closed; had {self.events[-5:]}")

    async def until_closed(self, limit_s=5):
        """Read to the end, whether it comes as an end or as a reset."""
        async with asyncio.timeout(limit_s):
            try:
                while await self.read():
                    pass
            except ConnectionError:
                self.closed = True

    def of(self, kind, stream=None):
        return [e for e in self.events if isinstance(e, kind) and stream in (None, getattr(e, "stream_id", None))]

    async def ending(self, stream):
        """All headers and trailers of the answer, once it has ended or was reset."""
        await self.until(lambda: self.of(StreamEnded, stream) or self.of(StreamReset, stream))
        fields = {}
        for event in (*self.of(ResponseReceived, stream), *self.of(TrailersReceived, stream)):
            fields.update(event.headers)
        return fields

    def body(self, stream):
        return b"".join(event.data for event in self.of(DataReceived, stream))

    def goaway(self):
        """The error of the last GOAWAY that came; None when none did."""
        goodbyes = self.of_kind(GOAWAY)
        return ErrorCodes(struct.unpack(">I", goodbyes[-1][3][4:8])[0]) if goodbyes else None

    async def close(self):
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
