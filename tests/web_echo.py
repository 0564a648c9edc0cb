"""A toy service with every kind of method behind the web application, and a client that drives it through ASGI."""

import asyncio
import json
import struct
from dataclasses import dataclass, field
from urllib.parse import unquote

from gateway.terms.clock import SystemClock, SystemIds
from gateway.wire.config import WireConfig
from gateway.wire.health import Health, Readiness
from gateway.wire.load import Load, Surroundings
from gateway.wire.table import bind
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1 import ExecuteToolRequest, Operation
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.json_codec import JSON_CODECS
from generated.grpc.health.v1.services import METHODS as HEALTH_METHODS
from generated.service_table import Cardinality, Method

SERVICE = "/toy.v1.Echo/"


def _method(name, cardinality, *, free=False):
    return Method(
        path=SERVICE + name, cardinality=cardinality, request=ExecuteToolRequest, reply=Operation, side_effect_free=free
    )


METHODS = (
    _method("Say", Cardinality.UNARY_UNARY),
    _method("Look", Cardinality.UNARY_UNARY, free=True),
    _method("Tell", Cardinality.UNARY_STREAM),
    _method("Collect", Cardinality.STREAM_UNARY),
    _method("Talk", Cardinality.STREAM_STREAM),
)


class Echo:
    """Gives back what it gets; a test replaces what it wants to see otherwise."""

    def __init__(self, on):
        self._on = on

    async def say(self, request, passage):
        return await self._on.get("say", _say)(request, passage)

    async def look(self, request, passage):
        return await self._on.get("look", _say)(request, passage)

    def tell(self, request, passage):
        return self._on.get("tell", _tell)(request, passage)

    async def collect(self, requests, passage):
        return await self._on.get("collect", _collect)(requests, passage)

    def talk(self, requests, passage):
        return self._on.get("talk", _talk)(requests, passage)


async def _say(request, passage):
    return Operation(id=request.tool, result_json=request.arguments_json)


async def _tell(request, passage):
    for number in range(3):
        yield Operation(id=f"{request.tool}{number}")


async def _collect(requests, passage):
    return Operation(id="+".join([request.tool async for request in requests]))


async def _talk(requests, passage):
    async for request in requests:
        yield Operation(id=request.tool)


@dataclass
class Log:
    """A witness that keeps what it was told."""

    events: list = field(default_factory=list)

    def tell(self, event, fields):
        self.events.append((event, dict(fields)))

    def named(self, name):
        return [fields for event, fields in self.events if event == name]


class Web:
    """The application over the toy service and health; `on` replaces methods by name."""

    def __init__(self, *, options=None, clock=None, bounds=None, **on):
        self.log = Log()
        self.load = Load()
        self.readiness = Readiness()
        self.readiness.set_serving(True)
        health = Health(self.readiness, ("toy.v1.Echo",), retry_after_ms=1)
        table = bind(METHODS, Echo(on)).joined(bind(HEALTH_METHODS, health, vital=("Check",)))
        self.surroundings = Surroundings(
            config=WireConfig(**(bounds or {})),
            clock=clock or SystemClock(),
            ids=SystemIds(),
            witness=self.log,
            load=self.load,
        )
        self.app = WebApplication(table, self.surroundings, self.readiness, options or WebOptions())

    def quiet(self):
        """Nothing is left of any call."""
        return not self.load.calls and not self.load.running and not self.load.receiving_bytes

    async def call(self, name, body=b"", content_type="application/json", *headers, **more):
        """One whole exchange."""
        headers = [("content-type", content_type), *headers] if content_type else headers
        path = name if name.startswith("/") else SERVICE + name
        exchange = Exchanged(self.app, "POST", path, headers, **more)
        exchange.write(body, more=False)
        await exchange.ended()
        return exchange

    def open(self, name, content_type, *headers):
        """An exchange whose request is written by and by."""
        return Exchanged(self.app, "POST", SERVICE + name, [("content-type", content_type), *headers])

    async def get(self, path, *headers, method="GET", query=b""):
        """One request without a body, anywhere."""
        exchange = Exchanged(self.app, method, path, headers, query=query)
        exchange.write(b"", more=False)
        await exchange.ended()
        return exchange


class Exchanged:
    """One HTTP exchange through ASGI: both directions are open at once, and either can be held up."""

    def __init__(self, app, method, path, headers=(), query=b""):
        self.status = None
        self.headers = {}
        self.header_list = []
        self.body = b""
        self.pieces = []
        self.complete = False
        self._incoming = asyncio.Queue()
        self._told = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        self.task = asyncio.get_running_loop().create_task(app(scope, self._incoming.get, self._send))

    def write(self, data, *, more=True):
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self):
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def _send(self, event):
        await self.reads.wait()
        if event["type"] == "http.response.start":
            assert self.status is None
            self.status = event["status"]
            self.header_list = [(name.decode(), value.decode()) for name, value in event["headers"]]
            self.headers = dict(self.header_list)
        else:
            assert self.status is not None
            assert not self.complete
            self.body += event["body"]
            self.pieces.append(event["body"])
            self.complete = not event.get("more_body", False)
        self._told.set()

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def ended(self):
        async with asyncio.timeout(5):
            await self.task

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def envelopes(self):
        return envelopes(self.body)


def envelope(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


def envelopes(body):
    """All envelopes of a body: (flag, bytes)."""
    found = []
    while body:
        flag, size = struct.unpack_from(">BI", body)
        assert len(body) >= 5 + size
        found.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def request(codec="json", **fields):
    return _codec(ExecuteToolRequest, codec).encode(ExecuteToolRequest(**fields))


def reply(data, codec="json"):
    return _codec(Operation, codec).decode(data)


def _codec(message, name):
    return (JSON_CODECS if name == "json" else CODECS)[message]


def trailers(envelope_body):
    """The trailers of gRPC-Web."""
    lines = envelope_body.decode("ascii").split("\r\n")
    assert lines.pop() == ""
    return dict(line.split(": ", 1) for line in lines)


def details(error):
    """The debug texts of a Connect error's details by their type."""
    return {detail["type"]: detail["debug"] for detail in error.get("details", ())}


async def eventually(condition):
    """Wait for what has no event of its own."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)
