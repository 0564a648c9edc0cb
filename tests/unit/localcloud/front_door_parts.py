"""What the front door's tests share: a container that speaks gRPC with raw bytes, and clients for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpclib.const
import grpclib.server
from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection

from localcloud.front_door import DoorConfig, FrontDoor
from localcloud.google import GoogleConfig, LocalGoogle

AUDIENCE = "https://gateway-123.us-central1.run.app"
AGENT = "sa-agent@local-project.iam.gserviceaccount.com"
STRANGER = "sa-other@local-project.iam.gserviceaccount.com"
# grpclib's own window of 4 MiB would take in a whole test: with the protocol's, a slow reader is felt at once.
WINDOW = Configuration(http2_stream_window_size=65_535)


async def eventually(condition, seconds=5):
    """Wait until a condition holds that nobody announces: the state of the other end, of a log, of a library."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.002)


class BytesCodec(CodecBase):
    __content_subtype__ = "bytes"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


class Echo:
    """The service in the container. It remembers what it was asked, on which connection, and what became of it."""

    def __init__(self):
        self.metadata = []
        self.peers = []
        self.sent = 0
        self.received = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.gate = asyncio.Event()

    def _note(self, stream):
        self.metadata.append(dict(stream.metadata))
        self.peers.append(stream.peer.addr())

    async def unary(self, stream):
        self._note(stream)
        message = await stream.recv_message()
        await stream.send_message(message)
        await stream.send_trailing_metadata(metadata={"gateway-timing": "a;dur=1"})

    async def fail(self, stream):
        await stream.recv_message()
        raise GRPCError(Status.FAILED_PRECONDITION, "the market is closed")

    async def download(self, stream):
        """Send as many messages of 16 KiB as the request says."""
        message = await stream.recv_message()
        try:
            for _ in range(int(message)):
                await stream.send_message(b"d" * 16384)
                self.sent += 1
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def upload(self, stream):
        """Count what comes, behind the gate."""
        await self.gate.wait()
        async for message in stream:
            self.received += len(message)
        await stream.send_message(b"%d" % self.received)

    async def chat(self, stream):
        self._note(stream)
        async for message in stream:
            await stream.send_message(message)

    async def hang(self, stream):
        self._note(stream)
        await stream.recv_message()
        if stream.metadata.get("begin"):
            await stream.send_initial_metadata()
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await stream.send_message(b"after all")

    def __mapping__(self):
        kinds = {
            "Unary": (self.unary, Cardinality.UNARY_UNARY),
            "Fail": (self.fail, Cardinality.UNARY_UNARY),
            "Download": (self.download, Cardinality.UNARY_STREAM),
            "Upload": (self.upload, Cardinality.STREAM_UNARY),
            "Chat": (self.chat, Cardinality.STREAM_STREAM),
            "Hang": (self.hang, Cardinality.UNARY_STREAM),
        }
        return {
            f"/test.Echo/{name}": grpclib.const.Handler(function, cardinality, bytes, bytes)
            for name, (function, cardinality) in kinds.items()
        }


@contextlib.asynccontextmanager
async def container(port=0):
    """Run the echo service; yields it and its port."""
    echo = Echo()
    server = grpclib.server.Server([echo], codec=BytesCodec(), config=WINDOW)
    connections, make = [], server._protocol_factory

    def remember():
        connections.append(make())
        return connections[-1]

    server._protocol_factory = remember
    await server.start("127.0.0.1", port)
    try:
        yield echo, server._server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for connection in connections:  # grpclib would let them live, as a real container's end does not
            connection.connection.close()
        await asyncio.sleep(0)


class Client:
    """A gRPC client of the door that shows one token."""

    def __init__(self, door, token="", **metadata):
        self.channel = Channel(door.host, door.port, codec=BytesCodec(), config=WINDOW)
        self.metadata = {"authorization": f"Bearer {token}"} if token else {}
        self.metadata |= metadata

    def method(self, name):
        kinds = {
            "Unary": UnaryUnaryMethod,
            "Fail": UnaryUnaryMethod,
            "Upload": StreamUnaryMethod,
            "Chat": StreamStreamMethod,
        }
        return kinds.get(name, UnaryStreamMethod)(self.channel, f"/test.Echo/{name}", bytes, bytes)

    def open(self, name, **metadata):
        return self.method(name).open(metadata=self.metadata | metadata)

    async def unary(self, message=b"hello", **metadata):
        return await self.method("Unary")(message, metadata=self.metadata | metadata)


class Edge:
    """A local Google, a container, and a door before it; clients that are closed at the end."""

    def __init__(self, google, door, echo, stack):
        self.google = google
        self.door = door
        self.echo = echo
        self._stack = stack
        self.agent = google.metadata["agent"].account
        self.stranger = google.metadata["stranger"].account

    def token(self, account=None, audience=AUDIENCE):
        return self.google.issuer.id_token(account or self.agent, audience)

    def client(self, token=None, *, door=None, **metadata):
        client = Client(door or self.door, self.token() if token is None else token, **metadata)
        self._stack.callback(client.channel.close)
        return client

    async def raw(self):
        """Return a client's connection to be driven by hand."""
        raw = Raw(*await asyncio.open_connection(self.door.host, self.door.port), client_side=True)
        self._stack.callback(raw.close)
        return raw

    async def ended(self, count=1):
        """Return the entries of the access log once there are `count`."""
        await eventually(lambda: len(self.door.entries) >= count)
        return self.door.entries


def config(google, container_port, **changes):
    """Return a door's configuration before a container's port, with short waits."""
    given = {
        "container_host": "127.0.0.1",
        "container_port": container_port,
        "audiences": (AUDIENCE,),
        "invokers": (f"serviceAccount:{AGENT}",),
        "certs_url": google.certs_url,
        "start_seconds": 0.2,
        "reconnect_seconds": 0.2,
        "drain_seconds": 0.05,
    }
    return DoorConfig(**(given | changes))


@contextlib.asynccontextmanager
async def edge(**changes) -> AsyncIterator[Edge]:
    """Run everything; `changes` go into the door's configuration (`container_port` puts another container there)."""
    async with contextlib.AsyncExitStack() as stack:
        google = await stack.enter_async_context(
            LocalGoogle(GoogleConfig(identities={"agent": AGENT, "stranger": STRANGER}))
        )
        echo, port = await stack.enter_async_context(container())
        door = await stack.enter_async_context(
            FrontDoor(config(google, changes.pop("container_port", port), **changes))
        )
        clients = stack.enter_context(contextlib.ExitStack())
        yield Edge(google, door, echo, clients)


class Raw:
    """One end of an HTTP/2 connection, frame by frame: what a gRPC library would not let a test do or see."""

    def __init__(self, reader, writer, *, client_side):
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=client_side, validate_outbound_headers=False))
        self.seen = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def request(self, token=None, *, path="/test.Echo/Unary", end=True, extra=()):
        """Open a stream; returns its number."""
        number = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "gateway")]
        head += [("te", "trailers"), ("content-type", "application/grpc+bytes")]
        head += [("authorization", f"Bearer {token}")] if token else []
        self.h2.send_headers(number, [*head, *extra], end_stream=end)
        self.flush()
        return number

    async def until(self, kind, stream=None):
        """Return the next event of this kind (of this stream); acknowledges data on the way."""
        async with asyncio.timeout(5):
            while True:
                for event in self.seen:
                    if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                        self.seen.remove(event)
                        return event
                data = await self.reader.read(65_536)
                if not data:
                    raise EOFError(f"The connection ended before a {kind.__name__}.")
                self.seen += self.h2.receive_data(data)
                self.flush()

    def close(self):
        self.writer.close()


@contextlib.asynccontextmanager
async def raw_container():
    """Run a container whose connections the test drives by hand: yields a queue of them, and the port."""
    arrived = asyncio.Queue()
    opened = []

    def accept(reader, writer):
        opened.append(writer)
        arrived.put_nowait(Raw(reader, writer, client_side=False))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield arrived, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in opened:
            writer.close()
