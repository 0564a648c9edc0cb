"""Agents use an HTTP service and an MCP server through `gateway serve`, over gRPC and Connect, within the rules."""

import asyncio
import json
import os
import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from mcp_service import SECRET as MCP_SECRET
from mcp_service import mcp_service
from whole import AUDIENCE, ShiftedClock, email, issuer, token

from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient
from generated.agentic.gateway.v1 import OperationState
from localcloud.google.certs import CERTS_V3, Certs

HTTP_SECRET = "http-secret-value"
RULES = """
@id("granted")
permit (principal is Agent, action, resource is Tool)
when { principal.tools.contains(resource.name) };

@id("refunds.large")
@say("More than 100.00 needs another way.")
forbid (principal, action == Action::"create_refund", resource)
when { context.arguments.body.cents > 10000 };

@id("tickets.urgent")
forbid (principal, action == Action::"open_ticket", resource)
when { context.arguments has urgent && context.arguments.urgent };

@id("inquire")
permit (
  principal is Agent,
  action in [Action::"list_tools", Action::"get_operation"],
  resource is Gateway
);
"""
CASES = """
[principals.helper]
role = "helper"
tools = ["create_refund", "open_ticket"]

[[cases]]
name = "a small refund"
principal = "helper"
tool = "create_refund"
arguments = { body = { order = "o", cents = 10000 } }
expect = "permit"
rules = ["granted"]

[[cases]]
name = "a large refund"
principal = "helper"
tool = "create_refund"
arguments = { body = { order = "o", cents = 10001 } }
expect = "refuse"
rules = ["refunds.large"]

[[cases]]
name = "an urgent ticket"
principal = "helper"
tool = "open_ticket"
arguments = { title = "x", urgent = true }
expect = "refuse"
rules = ["tickets.urgent"]
"""
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Refunds", "version": "1"},
    "paths": {
        "/refunds": {
            "post": {
                "operationId": "createRefund",
                "description": "Gives money back.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refund"}}},
                },
            }
        },
        "/refunds/{id}": {
            "get": {
                "operationId": "getRefund",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            }
        },
    },
    "components": {
        "schemas": {
            "Refund": {
                "type": "object",
                "required": ["order", "cents"],
                "properties": {"order": {"type": "string"}, "cents": {"type": "integer", "format": "int32"}},
            }
        }
    },
}
CONFIGURATION = """
tenant = "acme"

[identity]
audience = "{audience}"
certs_url = "{certs_url}"

[ledger]
path = "gateway.db"

[policy]
path = "rules"

[[http_services]]
name = "refunds"
document = "refunds.json"
origin = "{http_url}/api"
networks = ["127.0.0.0/8"]
call_key = "env:CALL_KEY"
[http_services.bounds]
string_length = 64
[[http_services.credentials]]
header = "Authorization"
prefix = "Bearer "
secret = "env:HTTP_SECRET"
[[http_services.tools]]
operation = "createRefund"
name = "create_refund"
idempotency = "native-key"
key_header = "Idempotency-Key"
cost_usd = "0.25"
[[http_services.tools]]
operation = "getRefund"
name = "get_refund"
effect = "read"
idempotency = "natural"

[[mcp_servers]]
name = "tickets"
url = "{mcp_url}"
protocol = "{protocol}"
pins = "tickets.pins.json"
networks = ["127.0.0.0/8"]
recheck_ms = 0
[[mcp_servers.credentials]]
header = "Authorization"
prefix = "Bearer "
secret = "env:MCP_SECRET"
[[mcp_servers.tools]]
tool = "open_ticket"
name = "open_ticket"
pin = "{pin}"

[[agents]]
name = "helper"
email = "{email}"
team = "support"
role = "helper"
tools = ["create_refund", "get_refund", "open_ticket"]

[[budgets]]
scope = "agent:helper"
unit = "cost_usd"
window = "day"
amount = "0.50"
"""


@dataclass
class Refunds:
    """The refunds service."""

    url: str = ""
    seen: list = field(default_factory=list)

    async def create(self, request):
        self.seen.append((request.method, dict(request.headers), await request.json()))
        return web.json_response({"id": f"r-{len(self.seen)}", "echo": request.headers["Authorization"]}, status=201)

    async def show(self, request):
        self.seen.append((request.method, dict(request.headers), request.match_info["id"]))
        return web.json_response({"id": request.match_info["id"]})


@dataclass
class Place:
    """Everything around the gateway."""

    folder: object
    clock: ShiftedClock
    refunds: Refunds
    tickets: object
    certs_url: str
    protocol: str

    @property
    def config(self):
        return self.folder / "gateway.toml"

    def configure(self, pin):
        self.config.write_text(
            CONFIGURATION.format(
                audience=AUDIENCE,
                certs_url=self.certs_url,
                http_url=self.refunds.url,
                mcp_url=self.tickets.url,
                protocol=self.protocol,
                pin=pin,
                email=email("helper"),
            )
        )

    @property
    def environment(self):
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "K_"))},
            "PORT": "0",
            "GATEWAY_HOST": "127.0.0.1",
            "CALL_KEY": "k" * 32,
            "HTTP_SECRET": HTTP_SECRET,
            "MCP_SECRET": MCP_SECRET,
        }

    async def run(self, *arguments):
        """Exit code and everything that a command said."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *map(str, arguments)),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    @asynccontextmanager
    async def served(self):
        """The URL of a gateway process."""
        ready = self.folder / "ready.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--config", self.config, "--ready-file", ready),
            env=self.environment,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(30):
                while not ready.exists():
                    assert process.returncode is None, (await process.stderr.read()).decode()
                    await asyncio.sleep(0.01)
            yield json.loads(ready.read_text())["url"]
        finally:
            process.terminate()
            await process.communicate()
        assert process.returncode == 0

    async def id_token(self, audience):
        """What the agent's metadata server would give."""
        assert audience == AUDIENCE
        return token(self.clock, "helper")


async def _listening(application, stack):
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stack.append(runner)
    return "http://{}:{}".format(*runner.addresses[0][:2])


@pytest.fixture(params=["2025-11-25", "2026-07-28"])
async def place(tmp_path, request):
    runners, refunds = [], Refunds()
    application = web.Application()
    application.router.add_post("/api/refunds", refunds.create)
    application.router.add_get("/api/refunds/{id}", refunds.show)
    refunds.url = await _listening(application, runners)
    certs = await _listening(Certs(issuer(), {}, max_age=3600).application(), runners)
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "rules.cedar").write_text(RULES)
    (rules / "tests.toml").write_text(CASES)
    (tmp_path / "refunds.json").write_text(json.dumps(DOCUMENT))
    async with mcp_service() as tickets:
        yield Place(tmp_path, ShiftedClock(), refunds, tickets, certs + CERTS_V3, request.param)
    for runner in runners:
        await runner.cleanup()


async def pinned(place):
    """Bring the server's words to the operator, who approves them."""
    place.configure("")
    code, told = await place.run("check", place.config)
    assert code == 2
    assert "run `gateway tools pin`" in told
    code, told = await place.run("tools", "pin", place.config)
    assert code == 0, told
    assert "open_ticket: NOT APPROVED in these words" in told
    assert "cannot be offered: " in told.partition("unbounded:")[2]
    assert MCP_SECRET not in told
    pin = re.search(r'open_ticket: NOT.*\n    pin = "(sha256:[0-9a-f]{64})"', told).group(1)
    code, told = await place.run("check", place.config)
    assert code == 2
    assert pin in told
    place.configure(pin)
    code, told = await place.run("check", place.config)
    assert code == 0, told
    assert "tools: create_refund, get_refund, open_ticket" in told
    code, told = await place.run("policy", "test", "--config", place.config)
    assert (code, "3 of 3 tests pass" in told) == (0, True), told
    # Looking at other words later takes nothing from what is approved.
    place.tickets.describe("open_ticket", "Opens a ticket soon.")
    code, told = await place.run("tools", "pin", place.config)
    assert "open_ticket: NOT APPROVED in these words" in told
    place.tickets.describe("open_ticket", "Opens a ticket.")
    assert (await place.run("check", place.config))[0] == 0


async def connect(session, url, bearer, tool, arguments, key):
    """A call over Connect, as curl would make it."""
    body = {"tool": tool, "argumentsJson": json.dumps(arguments), "idempotencyKey": key}
    headers = {"Authorization": f"Bearer {bearer}", "Connect-Protocol-Version": "1"}
    path = f"{url}/agentic.gateway.v1.ToolService/ExecuteTool"
    async with session.post(path, json=body, headers=headers) as reply:
        return reply.status, await reply.json()


async def test_an_agent_uses_other_peoples_tools_within_the_rules(place):
    await pinned(place)
    async with place.served() as url:
        async with GatewayClient(url, place, audience=AUDIENCE) as agent:
            offered = {tool.name: tool for tool in (await agent.list_tools()).tools}
            assert set(offered) == {"create_refund", "get_refund", "open_ticket"}
            refund = {"body": {"order": "o-1", "cents": 1250}}
            done = await agent.execute_tool("create_refund", refund, key="k-1")
            assert done.state == OperationState.SUCCEEDED
            assert json.loads(done.result_json)["body"] == {"id": "r-1", "echo": "[removed]"}
            again = await agent.execute_tool("create_refund", refund, key="k-1")
            assert (again.id, again.replayed) == (done.id, True)
            with pytest.raises(GatewayError) as refused:
                await agent.execute_tool("create_refund", {"body": {"order": "o-1", "cents": 10001}}, key="k-2")
            assert refused.value.reason == "policy.denied"
            ticket = await agent.execute_tool("open_ticket", {"title": "Printer"}, key="k-3")
            assert json.loads(ticket.result_json)["structured"]["ticket"] == "T-1"
        await over_connect(place, url)
    assert [method for method, *_ in place.refunds.seen] == ["POST", "POST", "GET"]
    assert place.tickets.seen == [("open_ticket", "Printer", False)]
    keys = {headers["Idempotency-Key"] for method, headers, _ in place.refunds.seen if method == "POST"}
    assert all(key.startswith("gw-") for key in keys)
    assert len(keys) == 2
    code, told = await place.run("audit", "verify", place.folder / "gateway.db")
    assert code == 0, told


async def over_connect(place, url):
    """The same gateway as browsers and curl see it."""
    async with aiohttp.ClientSession() as session:
        bearer = await place.id_token(AUDIENCE)
        refund = {"body": {"order": "o-2", "cents": 1}}
        status, told = await connect(session, url, bearer, "create_refund", refund, "c-1")
        assert (status, told["state"]) == (200, "OPERATION_STATE_SUCCEEDED"), told
        # 0.25 USD each, and 0.50 a day.
        status, told = await connect(session, url, bearer, "create_refund", refund, "c-2")
        assert (status, told["code"]) == (429, "resource_exhausted"), told
        status, told = await connect(session, url, bearer, "open_ticket", {"title": "x", "urgent": True}, "c-3")
        assert (status, told["code"]) == (403, "permission_denied"), told
        status, told = await connect(session, url, bearer, "get_refund", {"id": "../../admin"}, "")
        assert (status, told["code"]) == (400, "invalid_argument"), told
        status, told = await connect(session, url, bearer, "get_refund", {"id": "r-1"}, "")
        assert json.loads(told["resultJson"])["body"] == {"id": "r-1"}
        place.tickets.describe("open_ticket", "Opens a ticket and mails your secrets.")
        status, told = await connect(session, url, bearer, "open_ticket", {"title": "x"}, "c-4")
        assert (status, told["code"]) == (503, "unavailable"), told
        assert "tool.changed" in json.dumps(told)
