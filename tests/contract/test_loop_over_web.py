"""The tool loop and the resuming of streams over Connect and gRPC-Web: the same events as over gRPC."""

import json
import struct
from contextlib import asynccontextmanager

import aiohttp
import pytest
from whole import agent, budget, token, world

from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    Content,
    FinishReason,
    Part,
    Resumable,
    ResumeChatRequest,
    Role,
    RunTools,
)
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.json_codec import JSON_CODECS

BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("cost_micro_usd", 10**12))
SERVICE = "/agentic.gateway.v1.ModelService/"
TYPES = {
    "connect": ("application/connect+json", JSON_CODECS, 0x02),
    "grpc-web": ("application/grpc-web+proto", CODECS, 0x80),
}


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as running:
        yield running


@asynccontextmanager
async def visited(whole):
    """The same stations behind the real server and its web application; gives a session and the server's address."""
    stations = whole.stations
    models = ModelService(stations, whole.lasting)
    table = contract(models, ToolService(stations), OperatorService(stations))
    server = GatewayServer(table, WireConfig(), stations.clock, stations.ids, whole.log)
    web = WebApplication(server.table, server.surroundings, server.readiness, WebOptions())
    port = await server.start("127.0.0.1", 0, web)
    server.readiness.set_serving(True)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        await server.drain(0.05)


@asynccontextmanager
async def opened(whole, session, protocol, method, request):
    kind, codecs, _ = TYPES[protocol]
    message = codecs[type(request)].encode(request)
    headers = {"Content-Type": kind, "Authorization": f"Bearer {token(whole.world.clock)}"}
    body = struct.pack(">BI", 0, len(message)) + message
    async with session.post(SERVICE + method, data=body, headers=headers) as reply:
        yield reply


async def envelopes(reply):
    while True:
        try:
            flag, size = struct.unpack(">BI", await reply.content.readexactly(5))
        except EOFError:
            return
        yield flag, await reply.content.readexactly(size)


async def heard_of(whole, session, protocol, method, request):
    """All events, and what the last envelope says."""
    _, codecs, last = TYPES[protocol]
    events, end = [], b""
    async with opened(whole, session, protocol, method, request) as reply:
        async for flag, message in envelopes(reply):
            if flag & last:
                end = message
            else:
                events.append(codecs[ChatEvent].decode(message))
    return events, end


def chat(text, **fields):
    contents = [Content(role=Role.USER, parts=[Part(text=text)])]
    return ChatRequest(model="flash", contents=contents, **fields)


@pytest.mark.parametrize("protocol", TYPES)
async def test_a_loop_is_the_same_on_every_protocol(whole, protocol):
    async with visited(whole) as session:
        request = chat("buy 2 AAPL and buy 80 AAPL", run_tools=RunTools())
        events, end = await heard_of(whole, session, protocol, "Chat", request)
        runs = [event.tool_run for event in events if event.tool_run is not None]
        assert [run.outcome.tool for run in runs if run.outcome] == ["place_order"]
        assert [run.refused.reason for run in runs if run.refused] == ["limit.notional"]
        assert events[-1].finish.reason is FinishReason.STOP
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert b"error" not in end
        await whole.agree()


@pytest.mark.parametrize("protocol", TYPES)
async def test_who_closed_its_connection_comes_back_where_that_was_asked_for(whole, protocol):
    slow = "@pace deltas=40 interval_ms=2 size=2\nTell me."
    async with visited(whole) as session:
        _, codecs, _ = TYPES[protocol]
        heard = []
        request = chat(slow, resumable=Resumable.CANCELLED)
        async with opened(whole, session, protocol, "Chat", request) as reply:
            operation = reply.headers["gateway-operation"]
            async for _, message in envelopes(reply):
                heard.append(codecs[ChatEvent].decode(message))
                if len(heard) == 4:
                    reply.close()
                    break
        wish = ResumeChatRequest(operation_id=operation, after_sequence=4)
        rest, _ = await heard_of(whole, session, protocol, "ResumeChat", wish)
        assert [event.sequence for event in heard + rest] == list(range(1, 43))
        await whole.agree()


async def test_what_is_gone_is_said_in_the_words_of_connect(whole):
    async with visited(whole) as session:
        wish = ResumeChatRequest(operation_id="op-nobody")
        events, end = await heard_of(whole, session, "connect", "ResumeChat", wish)
        assert events == []
        error = json.loads(end)["error"]
        assert error["code"] == "not_found"
        assert "GetOperation" in error["message"]
