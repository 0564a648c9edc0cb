"""The same refused call over every protocol, codec and version of HTTP: the same code, reason, rules and sentence."""

import base64
import json
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpclib.const import Status
from pyqwest import Client, HTTPTransport, HTTPVersion
from whole import MARKET_BUY, agent, budget, token, world

from gateway.call import governed
from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    ExecuteToolRequest,
    GenerationSettings,
    ListToolsRequest,
    Part,
    ResumeChatRequest,
    Role,
    SetHaltRequest,
    WatchOperationRequest,
)
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.json_codec import JSON_CODECS
from generated.agentic.gateway.v1.services import METHODS

BUY = json.dumps(MARKET_BUY)
STREAMS = {method.name: method.cardinality.reply_streams for method in METHODS}
PATHS = {method.name: method.path for method in METHODS}
VERSIONS = {"1.1": HTTPVersion.HTTP1, "2": HTTPVersion.HTTP2}
WAYS = [
    ("grpc", "proto", "2"),
    *(("grpc-web", codec, version) for codec in ("proto", "json") for version in VERSIONS),
    ("grpc-web-text", "proto", "1.1"),
    *(("connect", codec, version) for codec in ("proto", "json") for version in VERSIONS),
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A call that is refused, and how."""

    name: str
    method: str
    request: object
    code: str
    reason: str
    rules: str = ""
    fields: tuple = ()
    """Those that the BadRequest names."""
    budgets: tuple = ()
    bearer: str = ""
    timeout_s: int = 30


def execute(arguments):
    return ExecuteToolRequest(tool="place_order", arguments_json=arguments, idempotency_key="k-1")


def chat(**fields):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text="hi")])], **fields)


GOOG, HOT = execute(BUY.replace("AAPL", "GOOG")), chat(settings=GenerationSettings(temperature=3.0))
DENIED = {"code": "permission_denied", "reason": "policy.denied", "rules": "orders.restricted"}
SPENT = {"code": "resource_exhausted", "reason": "budget.calls", "budgets": (budget("calls", 0),)}
LATE = {"code": "deadline_exceeded", "reason": "deadline.bankrupt", "timeout_s": 5}
ROWS = [
    Row(name="policy", method="ExecuteTool", request=GOOG, **DENIED),
    Row(name="budget of a tool", method="ExecuteTool", request=execute(BUY), **SPENT),
    Row(name="budget of a model", method="Chat", request=chat(), **SPENT),
    Row(
        name="limit",
        method="ExecuteTool",
        request=execute(BUY.replace('"2"', '"80"')),
        code="permission_denied",
        reason="limit.notional",
        rules="limit.notional",
    ),
    *(
        Row(
            name=f"bad token of {method}",
            method=method,
            request=request,
            bearer="no.token.atall",
            code="unauthenticated",
            reason="identity.malformed",
        )
        for method, request in (
            ("ExecuteTool", execute(BUY)),
            ("DryRunTool", execute(BUY)),
            ("Chat", chat()),
            ("ListTools", ListToolsRequest()),
            ("WatchOperation", WatchOperationRequest(operation_id="op-1")),
            ("SetHalt", SetHaltRequest(scope="global", reason="drill")),
        )
    ),
    Row(
        name="bad argument of a tool",
        method="ExecuteTool",
        request=execute(BUY.replace('"2"', '"-2"')),
        code="invalid_argument",
        reason="arguments.schema",
        fields=("/quantity",),
    ),
    Row(
        name="bad argument of a model",
        method="Chat",
        request=HOT,
        code="invalid_argument",
        reason="request.malformed",
        fields=("settings.temperature",),
    ),
    Row(name="deadline of a tool", method="ExecuteTool", request=execute(BUY), **LATE),
    Row(name="deadline of a model", method="Chat", request=chat(), **LATE),
    Row(
        name="no such stream",
        method="ResumeChat",
        request=ResumeChatRequest(operation_id="op-nobody"),
        code="not_found",
        reason="stream.gone",
    ),
    Row(
        name="no such operation",
        method="WatchOperation",
        request=WatchOperationRequest(operation_id="op-nobody"),
        code="not_found",
        reason="operation.unknown",
    ),
    Row(
        name="no operator",
        method="SetHalt",
        request=SetHaltRequest(scope="global", reason="drill"),
        code="permission_denied",
        reason="operator.required",
    ),
]


@dataclass(kw_only=True)
class Told:
    """What a caller hears of a refusal, whatever it speaks."""

    code: str
    sentence: str
    details: dict = field(default_factory=dict)

    @property
    def info(self):
        return error_details_pb2.ErrorInfo.FromString(self.details["google.rpc.ErrorInfo"])

    @property
    def fields(self):
        bad = error_details_pb2.BadRequest.FromString(self.details.get("google.rpc.BadRequest", b""))
        return tuple(violation.field for violation in bad.field_violations)


@asynccontextmanager
async def listening(whole):
    """The address of the same stations behind the real server and its web application."""
    stations = whole.stations
    models = ModelService(stations, whole.lasting)
    table = contract(models, ToolService(stations), OperatorService(stations))
    server = GatewayServer(table, WireConfig(linger_s=0.05), stations.clock, stations.ids, whole.log)
    web = WebApplication(server.table, server.surroundings, server.readiness, WebOptions())
    port = await server.start("127.0.0.1", 0, web)
    server.readiness.set_serving(True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.drain(0.05)


async def told(whole, url, row, way):
    protocol, codec, version = way
    message = (JSON_CODECS if codec == "json" else CODECS)[type(row.request)].encode(row.request)
    headers = {"authorization": f"Bearer {row.bearer or token(whole.world.clock)}"}
    streams = protocol != "connect" or STREAMS[row.method]
    body = struct.pack(">BI", 0, len(message)) + message if streams else message
    if protocol == "connect":
        headers |= {"content-type": f"application/{'connect+' if streams else ''}{codec}"}
        headers |= {"connect-timeout-ms": str(row.timeout_s * 1_000)}
    else:
        kind = f"application/{protocol}" if codec == "proto" else f"application/{protocol}+{codec}"
        headers |= {"content-type": kind, "grpc-timeout": f"{row.timeout_s}S", "te": "trailers"}
        body = base64.b64encode(body) if protocol == "grpc-web-text" else body
    async with HTTPTransport(http_version=VERSIONS[version]) as transport:
        answer = await Client(transport).post(url + PATHS[row.method], headers=headers, content=body)
    return _by_connect(answer, streams) if protocol == "connect" else _by_grpc(answer, protocol)


def _by_connect(answer, streams):
    if streams:
        assert answer.status == 200
        flag, size = struct.unpack_from(">BI", answer.content)
        assert (flag, size) == (2, len(answer.content) - 5)
        error = json.loads(answer.content[5:])["error"]
    else:
        assert answer.status >= 400
        error = json.loads(answer.content)
    details = {one["type"]: _bytes(one["value"]) for one in error["details"]}
    return Told(code=error["code"], sentence=error["message"], details=details)


def _by_grpc(answer, protocol):
    assert answer.status == 200
    fields = {**dict(answer.headers.items()), **dict(answer.trailers.items())}
    if protocol != "grpc" and "grpc-status" not in fields:
        content = base64.b64decode(answer.content) if protocol == "grpc-web-text" else answer.content
        assert content[0] == 0x80
        fields = dict(line.split(": ", 1) for line in content[5:].decode().split("\r\n") if line)
    status = status_pb2.Status.FromString(_bytes(fields["grpc-status-details-bin"]))
    assert status.code == int(fields["grpc-status"])
    assert status.message == unquote(fields["grpc-message"])
    details = {one.type_url.rpartition("/")[2]: one.value for one in status.details}
    return Told(code=Status(status.code).name.lower(), sentence=status.message, details=details)


def _bytes(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_same_call_is_refused_for_the_same_reason_everywhere(row, tmp_path, monkeypatch):
    # A deadline that is too short whatever the machine does, and never so short that it passes.
    monkeypatch.setattr(governed, "NEEDED_S", 20)
    async with world() as around, around.gateway(tmp_path, [agent(budgets=row.budgets)]) as whole:
        async with listening(whole) as url:
            heard = {way: await told(whole, url, row, way) for way in WAYS}
        for one in heard.values():
            assert (one.code, one.info.reason) == (row.code, row.reason)
            assert one.info.metadata["rules"] == row.rules
            assert one.fields == row.fields
        if row.reason != "deadline.bankrupt":
            # That one says how many milliseconds were left.
            assert len({one.sentence for one in heard.values()}) == 1
        assert (around.posts(), around.vertex.journal.requests) == (0, 0)
