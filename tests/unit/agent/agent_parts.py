"""What the agent's tests share: a gateway that does what a test says, on grpclib's server, and one driven by hand."""

import asyncio
import base64
import contextlib

import grpclib.const
import grpclib.server
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from agent.client.gateway import GatewayClient, Patience
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    Content,
    CountTokensResponse,
    DryRun,
    Effect,
    Finish,
    FinishReason,
    ListModelsResponse,
    ListToolsResponse,
    Model,
    Operation,
    OperationState,
    Part,
    Role,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallEvent,
)
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS
from generated.agentic.wire.v1 import BadRequest, Delay, Detail, ErrorInfo, FieldViolation, RetryInfo
from generated.agentic.wire.v1 import Status as WireStatus
from generated.agentic.wire.v1.codec import CODECS as WIRE_CODECS

AGENT = "sa-agent@local-project.iam.gserviceaccount.com"
STRANGER = "sa-stranger@local-project.iam.gserviceaccount.com"
TEST_S = 30
"""A test that hangs fails after so many seconds."""
AUDIENCE = "https://gateway-123.us-central1.run.app"


async def eventually(condition):
    """Wait until a condition holds that nobody announces."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.002)


def detail(name, message):
    return Detail(type_url=f"type.googleapis.com/google.rpc.{name}", value=WIRE_CODECS[type(message)].encode(message))


def error_info(reason, **metadata):
    return detail("ErrorInfo", ErrorInfo(reason=reason, domain="agentic.gateway", metadata=metadata))


def retry_info(seconds, nanos=0):
    return detail("RetryInfo", RetryInfo(retry_delay=Delay(seconds=seconds, nanos=nanos)))


def bad_request(*violations):
    found = [FieldViolation(field=field, description=problem) for field, problem in violations]
    return detail("BadRequest", BadRequest(field_violations=found))


def status_bytes(status, message, details):
    return WIRE_CODECS[WireStatus].encode(WireStatus(code=status.value, message=message, details=list(details)))


def details_header(*details, status=Status.UNAVAILABLE, message=""):
    return base64.b64encode(status_bytes(status, message, details)).rstrip(b"=").decode()


def refusal(status, reason, sentence="no", *more, **metadata):
    """What a gateway's handler raises."""
    return grpclib.GRPCError(status, sentence, [error_info(reason, **metadata), *more])


class _Codec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message if isinstance(message, bytes) else CODECS[message_type].encode(message)

    def decode(self, data, message_type):
        return CODECS[message_type].decode(data)


class _Details(StatusDetailsCodecBase):
    def encode(self, status, message, details):
        return status_bytes(status, message or "", details)

    def decode(self, status, message, data):
        raise NotImplementedError


def text(sequence, words, signature=b""):
    return ChatEvent(sequence=sequence, text=TextDelta(text=words, signature=signature))


def tool_call(sequence, name, arguments="{}", *, call_id="", signature=b""):
    call = ToolCall(id=call_id or f"call-{sequence}", name=name, arguments_json=arguments)
    return ChatEvent(sequence=sequence, tool_call=ToolCallEvent(call=call, signature=signature))


def finish(sequence, reason=FinishReason.STOP):
    return ChatEvent(sequence=sequence, finish=Finish(reason=reason, operation_id="op-chat"))


def question(prompt="hello"):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=prompt)])])


def succeeded(operation_id="op-1", result='{"filled": "5"}', **more):
    return Operation(id=operation_id, state=OperationState.SUCCEEDED, result_json=result, **more)


async def two_words(stream):
    """The usual answer: two words and the end."""
    for event in (text(1, "hello "), text(2, "world"), finish(3)):
        await stream.send_message(event)


class StandIn:
    """The gateway's services as scripts: set `chat`, `execute` and the like to a function of the grpclib stream.

    A list instead of a function is used up one a call, its last one for all further calls. `requests` and `metadata`
    remember what came, by method name.
    """

    def __init__(self):
        self.chat = two_words
        self.execute = succeeded()
        self.look = succeeded()
        self.rehearsal = DryRun(message="Order less.")
        self.tools = ListToolsResponse(
            tools=[
                Tool(name="place_order", version="1", arguments_json_schema="{}", effect=Effect.IRREVERSIBLE),
                Tool(name="get_quote", version="1", arguments_json_schema="{}", effect=Effect.READ),
                Tool(name="get_clock", version="1", arguments_json_schema="{}", effect=Effect.READ),
            ]
        )
        self.models = ListModelsResponse(models=[Model(name="flash")])
        self.count = CountTokensResponse(input_tokens=7)
        self.requests = {method.name: [] for method in METHODS}
        self.metadata = {method.name: [] for method in METHODS}
        self.deadlines = []
        self.peers = set()
        self.running = 0
        self.most_running = 0
        self.left = asyncio.Event()
        self.began = asyncio.Event()
        self.gate = asyncio.Event()

    def __mapping__(self):
        scripts = {
            "Chat": "chat",
            "CountTokens": "count",
            "ListModels": "models",
            "ListTools": "tools",
            "ExecuteTool": "execute",
            "DryRunTool": "rehearsal",
            "GetOperation": "look",
        }
        return {
            method.path: grpclib.const.Handler(
                self._handler(method.name, scripts[method.name]),
                Cardinality.UNARY_STREAM if method.cardinality.reply_streams else Cardinality.UNARY_UNARY,
                method.request,
                method.reply,
            )
            for method in METHODS
            if method.name in scripts
        }

    def _handler(self, name, script):
        async def handle(stream):
            self.metadata[name].append(dict(stream.metadata))
            self.requests[name].append(await stream.recv_message())
            self.deadlines.append(stream.deadline.time_remaining() if stream.deadline else None)
            self.peers.add(stream.peer.addr())
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.began.set()
            try:
                await self._play(stream, getattr(self, script))
            except asyncio.CancelledError:
                self.left.set()
                raise
            finally:
                self.running -= 1

        return handle

    async def _play(self, stream, script):
        if isinstance(script, list):
            script = script.pop(0) if len(script) > 1 else script[0]
        await stream.send_initial_metadata(metadata={"gateway-request": "req-1"})
        if isinstance(script, Exception):
            raise script
        if callable(script):
            await script(stream)
        else:
            await stream.send_message(script)
        await stream.send_trailing_metadata(metadata={"gateway-timing": "policy;dur=0.1"})

    async def hang(self, stream):
        """Wait for the gate, after what has been sent."""
        await self.gate.wait()


class Standing:
    """A stand-in that listens. `cut` ends its connections as a power cut would."""

    def __init__(self, service, server, connections):
        self.service = service
        self._server = server
        self._connections = connections

    @property
    def port(self):
        return self._server._server.sockets[0].getsockname()[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def connected(self):
        """How many connections were made."""
        return len(self._connections)

    def cut(self):
        for connection in self._connections:
            if not connection.connection.is_closing():
                connection.connection._transport.abort()


@contextlib.asynccontextmanager
async def standing(service=None, port=0):
    """A stand-in gateway, listening."""
    service = service or StandIn()
    server = grpclib.server.Server([service], codec=_Codec(), status_details_codec=_Details())
    connections, make = [], server._protocol_factory

    def remember():
        connections.append(make())
        return connections[-1]

    server._protocol_factory = remember
    await server.start("127.0.0.1", port)
    try:
        async with asyncio.timeout(TEST_S):
            yield Standing(service, server, connections)
    finally:
        server.close()
        for connection in connections:
            connection.connection.close()
        await server.wait_closed()  # from Python 3.12 on this waits for connections
        await asyncio.sleep(0)


class Pauses:
    """A `sleep` that does not, and remembers."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def patience(pauses=None, **changes):
    """Patience whose pauses take no time."""
    return Patience(**({"sleep": pauses or Pauses(), "chance": lambda: 0.5, "timeout_s": 5.0} | changes))


@contextlib.asynccontextmanager
async def talking(service=None, tokens=None, **changes):
    """A stand-in gateway and a client of it."""
    connections = changes.pop("connections", 1)
    async with (
        standing(service) as gateway,
        GatewayClient(gateway.url, tokens, connections=connections, patience=patience(**changes)) as client,
    ):
        yield gateway, client


class ByHand:
    """The server's end of one HTTP/2 connection, frame by frame."""

    def __init__(self, reader, writer, **settings):
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        for name, value in settings.items():
            self.h2.local_settings[SettingCodes[name]] = value
            self.h2.local_settings.acknowledge()
        self.seen = []
        self.bytes = b""
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def raw(self, kind, stream, payload=b"", flags=0):
        """Write a frame as it stands."""
        header = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
        self.flush()
        self.writer.write(header + payload)

    async def until(self, kind, stream=None):
        """The next event of this kind; acknowledges data on the way."""
        async with asyncio.timeout(5):
            while True:
                for event in self.seen:
                    if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                        self.seen.remove(event)
                        return event
                data = await self.reader.read(65_536)
                self.bytes += data
                if not data:
                    raise EOFError(f"the connection ended before a {kind.__name__}")
                for event in self.h2.receive_data(data):
                    self.seen.append(event)
                    size = getattr(event, "flow_controlled_length", 0)
                    if size:
                        self.h2.acknowledge_received_data(size, event.stream_id)
                self.flush()

    async def settle(self):
        """Read what is there to read, until nothing comes for some milliseconds."""
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.02):
                    data = await self.reader.read(65_536)
                if not data:
                    return
                self.bytes += data
                self.seen += self.h2.receive_data(data)
                self.flush()

    def frames(self, kind):
        """How many frames of a kind have come, whether they mean something or not."""
        at, found = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0
        while at + 9 <= len(self.bytes):
            found += self.bytes[at + 3] == kind
            at += 9 + int.from_bytes(self.bytes[at : at + 3])
        return found

    def head(self, stream, *more, end=False, status="200", content_type="application/grpc"):
        fields = [(":status", status), ("content-type", content_type), *more]
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()

    def message(self, stream, message, *, end=False):
        self.h2.send_data(stream, framed(message), end_stream=end)
        self.flush()

    def trailers(self, stream, *more, status="0"):
        self.h2.send_headers(stream, [("grpc-status", status), *more], end_stream=True)
        self.flush()

    def whole_answer(self, stream):
        self.head(stream, ("gateway-request", "req-1"))
        for event in (text(1, "hello "), text(2, "world"), finish(3)):
            self.message(stream, event)
        self.trailers(stream)


def framed(message):
    body = message if isinstance(message, bytes) else CODECS[type(message)].encode(message)
    return b"\0" + len(body).to_bytes(4) + body


class HandDriven:
    """A listening socket whose connections the test drives by hand."""

    def __init__(self, port, arrived):
        self.url = f"http://127.0.0.1:{port}"
        self._arrived = arrived

    async def connection(self):
        """The next connection that a client makes."""
        async with asyncio.timeout(5):
            return await self._arrived.get()


@contextlib.asynccontextmanager
async def by_hand(**settings):
    """A server that does nothing by itself."""
    arrived, opened = asyncio.Queue(), []

    def accept(reader, writer):
        opened.append(writer)
        arrived.put_nowait(ByHand(reader, writer, **settings))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(TEST_S):
            yield HandDriven(server.sockets[0].getsockname()[1], arrived)
    finally:
        server.close()
        for writer in opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()
