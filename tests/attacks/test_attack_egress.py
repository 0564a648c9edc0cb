"""Attack rows 18, 19, 28 and 30 to 35: what an argument, a name, a service or its answer can try on the way out."""

import asyncio
import contextlib
import gzip
import json
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from gateway.terms.asks import Effect, Idempotency, ToolAsk, ToolRequest
from gateway.terms.caller import Caller
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import AgentName, BootId, InstanceId, OperationId, Principal, TeamName, TenantName, ToolName
from gateway.terms.operations import Counted, Failed, OperationKey, Receipt, Reservation, Succeeded, Unknown
from gateway.terms.verdict import Permit, Refusal
from gateway.tools import http
from gateway.tools.egress import guarded_session
from gateway.tools.http import HttpTools
from gateway.tools.http_config import Credential, HttpService, HttpTool
from gateway.tools.toolbox import Toolbox

SECRET = "the-services-secret"
TEXT = {"type": "string", "maxLength": 200}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Things", "version": "1"},
    "paths": {
        "/things/{id}": {
            "get": {
                "operationId": "read",
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": TEXT},
                    {"name": "q", "in": "query", "schema": TEXT},
                    {"name": "X-Note", "in": "header", "schema": TEXT},
                ],
            },
            "put": {
                "operationId": "write",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": TEXT}],
            },
        }
    },
}
TOOLS = (
    HttpTool(operation="read", name="read", effect=Effect.READ, idempotency=Idempotency.NATURAL, timeout_ms=2_000),
    HttpTool(operation="write", name="write", timeout_ms=2_000),
)
CALLER = Caller(
    principal=Principal("1"),
    email="agent@example.com",
    agent=AgentName("agent"),
    team=TeamName("team"),
    tenant=TenantName("acme"),
    role="role",
    models=frozenset(),
    tools=frozenset({ToolName("read"), ToolName("write")}),
    budgets=(),
    limits=None,
)


async def nothing_counted(places):
    """A ledger in which nothing was traded yet."""
    return tuple(Counted(held=0, spent=0) for _ in places)


class Site:
    """A service that does what it is told to."""

    def __init__(self):
        self.seen = []
        self.answer = None

    async def serve(self, request):
        self.seen.append(request)
        return await self.answer(request)


def says(body=b"{}", status=200, **headers):
    async def answer(_):
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **headers})

    return answer


@pytest.fixture
async def site():
    site = Site()
    site.answer = says()
    runner = web.AppRunner(web.Application(), access_log=None, shutdown_timeout=0.1)
    runner.app.router.add_route("*", r"/{path:[\s\S]*}", site.serve)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


def service(origin, **changed):
    plain = HttpService(
        name="things",
        origin=origin,
        document=json.dumps(DOCUMENT).encode(),
        tools=TOOLS,
        networks=("127.0.0.1/32",),
        credentials=(Credential(header="X-Api-Key", secret=SECRET),),
    )
    return replace(plain, **changed)


def local(site, **changed):
    return service(f"http://127.0.0.1:{site.port}", **changed)


async def act(settings, tool, **arguments):
    async with HttpTools(settings, SystemClock()) as backend:
        toolbox = Toolbox([backend], SystemIds())
        text = json.dumps({"id": "t-1", **arguments})
        ask = toolbox.ask(
            CALLER, ToolRequest(tool=tool, version="", arguments_json=text, idempotency_key="k", run_id="")
        )
        if not isinstance(ask, ToolAsk):
            return ask
        demand = toolbox.demand(CALLER, ask, await toolbox.facts(CALLER, ask, nothing_counted))
        if isinstance(demand, Refusal):
            return demand
        return await toolbox.execute(
            Reservation(
                operation=OperationId("op-1"),
                permit=Permit(caller=CALLER, ask=ask, rules=(), policy_hash=""),
                key=OperationKey(tenant=CALLER.tenant, principal=CALLER.principal, tool=ask.name, key=ask.key),
                claims=(),
                fence=1,
                intent=Receipt(instance=InstanceId("i"), boot=BootId("b"), sequence=1, leaf_hash=b""),
            )
        )


@pytest.mark.parametrize("text", ["../admin", "..", "%2e%2e%2fadmin", "a/../b", "a\\b", "a\r\nHost: evil", "\x00"])
async def test_18_a_path_argument_leaves_its_place_nowhere(site, text):
    outcome = await act(local(site), "read", id=text)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "arguments.unencodable"
    assert site.seen == []


@pytest.mark.parametrize("text", ["x=1&admin=1", "a#b", "a?b", "a\r\nX-Evil: 1", "%0d%0a", "ü"])
async def test_18_a_query_argument_is_one_value(site, text):
    assert isinstance(await act(local(site), "read", q=text), Succeeded)
    (seen,) = site.seen
    assert dict(seen.query) == {"q": text}
    assert "X-Evil" not in seen.headers


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "\x7f", "ü"])
async def test_18_a_header_argument_is_one_line(site, text):
    outcome = await act(local(site), "read", X_Note=text)
    assert isinstance(outcome, Refusal)
    assert site.seen == []


@pytest.mark.parametrize("place", ["schema", "parameter"])
async def test_19_a_document_fetches_nothing(site, place):
    remote = {"$ref": f"http://127.0.0.1:{site.port}/schema.json"}
    document = json.loads(json.dumps(DOCUMENT))
    parameters = document["paths"]["/things/{id}"]["get"]["parameters"]
    parameters[1] = remote if place == "parameter" else {**parameters[1], "schema": remote}
    with pytest.raises(ValueError, match="nothing is ever fetched"):
        HttpTools(local(site, document=json.dumps(document).encode()), SystemClock())
    assert site.seen == []


@pytest.mark.parametrize("pattern", ["^(a+)+$\\1", "^(?=a)b$", "(a+)+", "^a|b$"])
def test_19_a_pattern_that_is_not_linear_or_whole_is_refused(pattern):
    document = json.loads(json.dumps(DOCUMENT))
    document["paths"]["/things/{id}"]["get"]["parameters"][1]["schema"] = {**TEXT, "pattern": pattern}
    with pytest.raises(ValueError, match="/properties/q/pattern"):
        HttpTools(service("https://x.example.com", document=json.dumps(document).encode()), SystemClock())


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_28_a_server_error_after_the_effect_sends_nothing_again(site, status):
    site.answer = says(status=status)
    assert isinstance(await act(local(site), "write"), Unknown)
    assert len(site.seen) == 1


async def test_28_a_cut_connection_sends_nothing_again(site):
    async def cut(request):
        request.transport.abort()
        return web.Response()

    site.answer = cut
    assert isinstance(await act(local(site), "write"), Unknown)
    assert len(site.seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_30_this_machine_is_out_of_reach_without_an_allowance(site, host):
    outcome = await act(service(f"http://{host}:{site.port}", networks=()), "write")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "egress.refused"
    assert site.seen == []


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.0.0.1", "0", "0177.0.0.1", "127.0.0.1.5"])
def test_30_no_other_spelling_of_an_address_is_an_origin(host):
    with pytest.raises(ValueError, match="is no host"):
        service(f"https://{host}")


@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "[::1]", "10.0.0.1", "[64:ff9b::7f00:1]"])
async def test_30_a_literal_is_judged_like_a_name(host):
    outcome = await act(service(f"https://{host}:9", networks=()), "write")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "egress.refused"


class Rebinding(AbstractResolver):
    """A name that has another answer every time it is asked for."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def resolve(self, host, port=0, family=0):
        hosts = self.answers.pop(0)
        return [
            {"hostname": host, "host": one, "port": port, "family": family, "proto": 0, "flags": 0} for one in hosts
        ]

    async def close(self):
        pass


@pytest.mark.parametrize("answers", [["127.0.0.2"], ["169.254.169.254"], ["10.0.0.1", "::1", "fe80::1"]])
async def test_30_a_name_that_changes_its_answer_is_judged_at_the_socket(site, monkeypatch, answers):
    """DNS rebinding: every way of checking the name before connecting would look at another answer than this one."""

    def rebound(guard, **options):
        return guarded_session(replace(guard, ports=frozenset({site.port})), resolver=Rebinding(answers), **options)

    monkeypatch.setattr(http, "guarded_session", rebound)
    outcome = await act(service(f"https://things.example.com:{site.port}"), "write")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "egress.refused"
    assert site.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_30_a_redirect_is_not_followed_and_takes_no_credential_along(site, status):
    site.answer = says(status=status, Location=f"http://127.0.0.1:{site.port}/latest/meta-data")
    assert not isinstance(await act(local(site), "write"), Succeeded)
    assert len(site.seen) == 1


RANGES = (
    *("169.254.1.1", "[64:ff9b::a00:1]", "[2002:a9fe:a9fe::1]", "[2001:0:1::1]"),
    *("100.64.0.1", "224.0.0.1", "[ff02::1]", "0.0.0.0", "[::]", "192.0.2.1", "[2001:db8::1]", "[fc00::1]"),
)


@pytest.mark.parametrize("host", RANGES)
async def test_31_no_special_range_is_connected_to(host):
    outcome = await act(service(f"https://{host}:9", networks=()), "write")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "egress.refused"


@pytest.mark.parametrize(
    "host", ["metadata.google.internal", "metadata", "169.254.169.254", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]"]
)
def test_32_a_metadata_server_is_no_origin_whatever_is_allowed(host):
    with pytest.raises(ValueError, match="metadata"):
        service(f"https://{host}", networks=("169.254.0.0/16",))


def test_32_no_agent_sets_the_metadata_header():
    document = json.dumps(DOCUMENT).replace("X-Note", "Metadata-Flavor").encode()
    with pytest.raises(ValueError, match="no agent may set"):
        HttpTools(service("https://x.example.com", document=document), SystemClock())


async def test_33_a_service_that_echoes_everything_tells_no_credential(site):
    async def echo(request):
        body = {"headers": dict(request.headers), "secret": SECRET, SECRET: "key"}
        return web.json_response(body, headers={"X-Api-Key": SECRET, "Set-Cookie": f"s={SECRET}"})

    site.answer = echo
    outcome = await act(local(site), "read")
    assert isinstance(outcome, Succeeded)
    assert site.seen[0].headers["X-Api-Key"] == SECRET
    assert SECRET.encode() not in outcome.result
    site.answer = says(json.dumps({"detail": f"the key {SECRET} is wrong"}).encode(), 403)
    refused = await act(local(site), "read")
    assert refused.failure.message == "The service refused (403): the key [removed] is wrong"


async def test_33_no_cookie_is_kept(site):
    site.answer = says(**{"Set-Cookie": "session=1"})
    for _ in range(2):
        await act(local(site), "read")
    assert all("Cookie" not in request.headers for request in site.seen)


@pytest.mark.parametrize("tool, kind", [("read", Failed), ("write", Unknown)])
async def test_34_a_bomb_is_left_unread(site, tool, kind):
    bomb = gzip.compress(b" " * (64 << 20), 1)
    site.answer = says(bomb, **{"Content-Encoding": "gzip"})
    assert isinstance(await act(local(site), tool), kind)
    assert site.seen[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("tool, kind", [("read", Failed), ("write", Unknown)])
async def test_35_one_byte_at_a_time_ends_with_the_calls_time(site, tool, kind):
    async def drip(request):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.005)
        return response

    site.answer = drip
    short = tuple(replace(one, timeout_ms=300) for one in TOOLS)
    assert isinstance(await act(local(site, tools=short), tool), kind)


@pytest.mark.parametrize("tool, kind", [("read", Failed), ("write", Unknown)])
async def test_35_an_endless_body_ends_at_the_bound(site, tool, kind):
    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"data: x\n\n" * 8_192)
        return response

    site.answer = endless
    assert isinstance(await act(local(site), tool), kind)
