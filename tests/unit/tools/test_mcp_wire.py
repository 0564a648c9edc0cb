"""MCP servers that do what they should not: everything ends in time, within bounds, and tells nothing but the truth."""

import asyncio
import contextlib
import gzip
import json

import pytest
from aiohttp import web
from toolcases import resets

from gateway.terms.asks import Effect
from gateway.terms.clock import SystemClock
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Unknown
from gateway.tools.declarations import Draft, declared
from gateway.tools.egress import guard_of, guarded_session
from gateway.tools.http_config import Credential
from gateway.tools.mcp_client import McpClient
from gateway.tools.mcp_config import HANDSHAKE, McpServer, McpTool
from gateway.tools.mcp_outcomes import McpAnswers
from gateway.tools.mcp_pins import PinsRefusedError, pins_file, read_pins, said
from gateway.tools.mcp_wire import Garbled, HttpFailed, NoAnswer, Replied, RpcFailed

TOOL = {"name": "ticket", "description": "A ticket.", "inputSchema": {"type": "object"}}


class Server:
    """Answers each method with the next responder that it was given; the last one stays."""

    def __init__(self):
        self.seen = []
        self.script = {
            "initialize": [replies({"protocolVersion": HANDSHAKE, "capabilities": {}, "serverInfo": {}})],
            "tools/list": [replies({"tools": [TOOL]})],
        }

    async def serve(self, request):
        message = json.loads(await request.read() or b"{}")
        self.seen.append(message)
        if "id" not in message or "method" not in message:
            return web.Response(status=202)
        responders = self.script[message["method"]]
        return await (responders.pop(0) if len(responders) > 1 else responders[0])(request, message)

    def asked(self, method):
        return [message for message in self.seen if message.get("method") == method]


def replies(result, **headers):
    async def respond(_, message):
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)

    return respond


def says(text, status=200, kind="application/json", **headers):
    async def respond(_, message):
        body = text.replace("ID", str(message["id"])) if isinstance(text, str) else text
        return web.Response(body=body, status=status, headers={"Content-Type": kind, **headers})

    return respond


def streams(*events, ends=True):
    async def respond(request, message):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for event in events:
                await response.write(event.replace("ID", str(message["id"])).encode())
            while not ends:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.002)
        return response

    return respond


@pytest.fixture
async def upstream():
    server = Server()
    runner = web.AppRunner(web.Application(), access_log=None, shutdown_timeout=0.1)
    runner.app.router.add_route("*", "/mcp", server.serve)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(upstream):
    settings = McpServer(name="crm", url=upstream.url, networks=("127.0.0.0/8",), listing_ms=2_000)
    async with guarded_session(guard_of(settings.url, settings.networks)) as session:
        yield McpClient(settings, session, SystemClock())


class Ends:
    """A deadline of so many seconds."""

    def __init__(self, left_s):
        self.left = left_s

    def left_s(self, share=1.0):
        return self.left * share


NO = '{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"no"}}'
NOTICE = 'data: {"jsonrpc":"2.0","method":"notifications/x","params":{"x":"' + "y" * 200_000 + '"}}\n\n'
OK = '{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}'


@pytest.mark.parametrize(
    "responder, expected",
    [
        (says(OK), Replied(result={"content": []})),
        (streams(f"data: {OK}\n\n"), Replied(result={"content": []})),
        (streams(f"event: message\r\ndata: {OK}\r\n\r\n"), Replied(result={"content": []})),
        (streams('data: {"jsonrpc":"2.0","id":999,"result":{}}\n\n', f"data: {OK}\n\n", ends=False), None),
        (streams('data: {"jsonrpc":"2.0","id":ID,"method":"ping"}\n\n', f"data: {OK}\n\n"), None),
        (streams("data:\n\n", f"data: {OK}\n\n"), None),
        (says(NO), RpcFailed(code=-32602, message="no")),
        (says(NO, 400), RpcFailed(code=-32602, message="no")),
        (says(NO, 500), HttpFailed(status=500)),
        (says('{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}', 404), HttpFailed(status=404)),
        (says("", 401), HttpFailed(status=401)),
        (says("", 302, Location="http://127.0.0.1:9/"), HttpFailed(status=302)),
    ],
)
async def test_the_answer_to_this_request_counts_and_no_other(client, upstream, responder, expected):
    upstream.script["tools/call"] = [responder]
    reply = await client.call("ticket", {}, Ends(5))
    assert reply == (expected or Replied(result={"content": []}))
    assert len(upstream.asked("tools/call")) == 1


@pytest.mark.parametrize(
    "responder",
    [
        says("nonsense"),
        says('{"jsonrpc":"2.0","id":ID,"result":{},"result":{"content":[]}}'),
        says('{"jsonrpc":"2.0","id":999,"result":{}}'),
        says('{"jsonrpc":"2.0","id":[ID],"result":{}}'),
        says('{"jsonrpc":"2.0","id":null,"result":{}}'),
        says('{"jsonrpc":"2.0","id":ID,"result":[]}'),
        says('{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1,"message":""}}'),
        says('{"jsonrpc":"2.0","id":ID,"error":{"code":"1"}}'),
        says('[{"jsonrpc":"2.0","id":ID,"result":{}}]'),
        says(b" " * (2 << 20)),
        says(gzip.compress(b"{}"), **{"Content-Encoding": "gzip"}),
        streams("data: nonsense\n\n"),
        streams("data: " + "x" * (2 << 20)),
        streams(*[NOTICE] * 30),
    ],
)
async def test_what_cannot_be_read_is_no_answer(client, upstream, responder):
    upstream.script["tools/call"] = [responder]
    assert isinstance(await client.call("ticket", {}, Ends(5)), Garbled)
    assert len(upstream.asked("tools/call")) == 1


async def test_a_cut_connection_is_no_answer(client, upstream):
    upstream.script["tools/call"] = [lambda request, _: resets(request)]
    reply = await client.call("ticket", {}, Ends(5))
    assert isinstance(reply, NoAnswer)
    assert reply.sent
    assert len(upstream.asked("tools/call")) == 1


async def test_a_stream_that_never_answers_ends_with_the_calls_time(client, upstream):
    """Attack row 35: an endless stream of events, alive and without an answer."""
    upstream.script["tools/call"] = [streams(ends=False)]
    reply = await client.call("ticket", {}, Ends(0.4))
    assert isinstance(reply, NoAnswer)
    assert reply.sent


async def test_a_servers_own_requests_are_declined(client, upstream):
    asked = [
        'data: {"jsonrpc":"2.0","id":"s1","method":"ping"}\n\n',
        'data: {"jsonrpc":"2.0","id":"s2","method":"sampling/createMessage","params":{}}\n\n',
        'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n',
    ]
    upstream.script["tools/call"] = [streams(*asked, *asked * 20, f"data: {OK}\n\n")]
    assert isinstance(await client.call("ticket", {}, Ends(5)), Replied)
    assert client.list_changed
    answers = [message for message in upstream.seen if "method" not in message]
    assert len(answers) == 16
    assert answers[0] == {"jsonrpc": "2.0", "id": "s1", "result": {}}
    assert answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize(
    "responder",
    [
        replies({"protocolVersion": "2024-11-05"}),
        replies({"protocolVersion": "1900-01-01"}),
        replies({}),
        replies({"protocolVersion": HANDSHAKE}, **{"Mcp-Session-Id": "a b"}),
        says("", 500),
        says("nonsense"),
    ],
)
async def test_without_a_handshake_nothing_is_called(client, upstream, responder):
    upstream.script["initialize"] = [responder]
    reply = await client.call("ticket", {}, Ends(5))
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
    assert upstream.asked("tools/call") == []


@pytest.mark.parametrize(
    "pages",
    [
        [replies({"tools": [TOOL, TOOL]})],
        [replies({"tools": [{"name": "x"}]})],
        [replies({"tools": [{**TOOL, "name": 7}]})],
        [replies({"tools": [], "nextCursor": "a"})],
        [replies({"tools": [TOOL], "nextCursor": "a"}), replies({"tools": [TOOL]})],
        [replies({"tools": [{**TOOL, "name": f"t{n}"} for n in range(1_001)]})],
        [replies({"tools": [], "nextCursor": 7})],
    ],
)
async def test_a_list_that_does_not_hold_together_is_no_list(client, upstream, pages):
    upstream.script["tools/list"] = pages
    assert isinstance(await client.tools(), Garbled)


async def test_a_list_in_pages_is_one_list(client, upstream):
    other = {**TOOL, "name": "other", "icons": [{"src": "x"}], "_meta": {"a": 1}}
    upstream.script["tools/list"] = [replies({"tools": [TOOL], "nextCursor": "p2"}), replies({"tools": [other]})]
    found = await client.tools()
    assert set(found) == {"ticket", "other"}
    assert [message["params"] for message in upstream.asked("tools/list")] == [{}, {"cursor": "p2"}]
    assert set(found["other"].members) == {"name", "description", "inputSchema"}


def test_a_pin_is_for_the_words_and_not_for_their_spelling():
    plain = said(TOOL).pin
    assert said(dict(reversed(TOOL.items()))).pin == plain
    assert said({**TOOL, "icons": [], "_meta": {}}).pin == plain
    for changed in ({"description": "A ticket. "}, {"title": "T"}, {"inputSchema": {"type": "object", "x": 1}}):
        assert said({**TOOL, **changed}).pin != plain
    assert said({**TOOL, "annotations": {"readOnlyHint": True}}).pin != plain
    other = said({**TOOL, "description": "Another."})
    assert read_pins(pins_file([other, said(TOOL), other])) == {plain: said(TOOL), other.pin: other}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"tools":{}}', b'{"tools":[{}]}', b'{"tools":[],"tools":[]}', b'{"tools":7}']
)
def test_a_file_that_nobody_pinned_is_refused(data):
    with pytest.raises(PinsRefusedError, match="gateway tools pin"):
        read_pins(data)


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol": "2024-11-05"},
        {"credentials": (Credential(query="token", secret="x"),)},
        {"tools": (McpTool(tool="a\r\nb", name="a"),)},
        {"url": "https://metadata.google.internal/mcp"},
        {"name": "CRM"},
    ],
)
def test_a_server_that_cannot_be_right_is_refused(changed):
    with pytest.raises(ValueError, match=r"protocol|header|tool|metadata|name"):
        McpServer(**{"name": "crm", "url": "https://crm.example.com/mcp", **changed})


def declaration(effect):
    return declared(
        Draft(
            name="ticket",
            version="1",
            description="",
            arguments_schema='{"type":"object","additionalProperties":false}',
            effect=effect,
        )
    )


def answered(effect, reply, **said):
    """What an answer says of a tool with this effect, of which the operator says no more than this."""
    return McpAnswers(server="crm", secrets=()).outcome(declaration(effect), McpTool(tool="t", name="t", **said), reply)


TIMED_OUT = Replied(result={"content": [{"type": "text", "text": "the bank did not answer"}], "isError": True})
ASKS_BACK = Replied(result={"content": [], "resultType": "input_required"})


@pytest.mark.parametrize("effect", ["irreversible", "reversible"])
@pytest.mark.parametrize(
    "reply, reason, words",
    [(TIMED_OUT, "tool.error", "the bank did not answer"), (ASKS_BACK, "tool.needs_input", "it did not end")],
)
def test_a_tools_own_error_proves_nothing_unless_the_operator_says_so(effect, reply, reason, words):
    unknown = answered(effect, reply)
    assert isinstance(unknown, Unknown)
    assert unknown.failure.reason == reason
    assert unknown.failure.message.startswith("Nobody knows whether something of it happened before. The tool")
    assert words in unknown.failure.message
    failed = answered(effect, reply, errors_are_final=True, cost=7)
    assert isinstance(failed, Failed)
    assert (failed.failure.reason, dict(failed.charges)) == (reason, {Unit.CALLS: 1, Unit.COST: 7})
    garbled = answered(effect, Replied(result={"content": "x"}), errors_are_final=True)
    assert isinstance(garbled, Unknown)


@pytest.mark.parametrize(
    "reply, effect, reason",
    [
        (Replied(result={"content": [], "resultType": "input_required"}), "read", "tool.needs_input"),
        (Replied(result={"content": [], "isError": True}), "read", "tool.error"),
        (Replied(result={"content": [], "resultType": "task"}), "irreversible", "upstream.reply_unreadable"),
        (Replied(result={"content": "x"}), "irreversible", "upstream.reply_unreadable"),
        (Replied(result={"content": [], "isError": "no"}), "irreversible", "upstream.reply_unreadable"),
        (RpcFailed(code=-32602, message="x"), "irreversible", "tool.refused"),
        (RpcFailed(code=-32603, message="x"), "irreversible", "upstream.reply_lost"),
        (RpcFailed(code=1, message="x"), "read", "upstream.reply_lost"),
        (HttpFailed(status=401), "irreversible", "service.refused"),
        (HttpFailed(status=408), "irreversible", "upstream.reply_lost"),
        (HttpFailed(status=503), "irreversible", "upstream.reply_lost"),
        (HttpFailed(status=302), "irreversible", "upstream.reply_lost"),
        (Garbled(detail=""), "irreversible", "upstream.reply_unreadable"),
        (NoAnswer(sent=True, detail=""), "irreversible", "upstream.reply_lost"),
        (NoAnswer(sent=False, detail=""), "irreversible", "upstream.unreachable"),
        (NoAnswer(sent=False, detail="", guarded=True), "irreversible", "egress.refused"),
    ],
)
def test_an_answer_says_no_more_than_it_means(reply, effect, reason):
    outcome = answered(effect, reply)
    assert outcome.failure.reason == reason
    unknown = reason.startswith("upstream.reply") and Effect(effect) is not Effect.READ
    assert type(outcome).__name__ == ("Unknown" if unknown else "Failed")


def test_only_texts_are_told():
    content = [{"type": "image", "data": "AAAA"}, {"type": "text", "text": "x"}, 7, {"type": "text", "text": 8}]
    outcome = answered("read", Replied(result={"content": content}))
    assert json.loads(outcome.result)["content"] == [
        {"type": "image", "omitted": True},
        {"type": "text", "text": "x"},
        {"type": "unknown", "omitted": True},
        {"type": "text", "omitted": True},
    ]
