"""A whole town of processes around a gateway, and an agent's way to call it: grpcio with the agent's own token."""

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import grpc.aio
from wire_clients import stub

from generated.agentic.gateway.v1 import ChatRequest, Content, ExecuteToolRequest, Part, Role, SetHaltRequest
from localcloud.demo.town import AUDIENCE, UNHURRIED, Plan, Town, built

IDENTITY = "/computeMetadata/v1/instance/service-accounts/default/identity"
ORDER = '{"symbol":"AAPL","side":"buy","type":"market","quantity":"5","time_in_force":"day"}'


@dataclass
class Visitor:
    """Calls the gateway as the agent, and looks at the exchange."""

    town: Town
    session: aiohttp.ClientSession
    channel: grpc.aio.Channel
    token: str

    @property
    def metadata(self):
        return (("authorization", f"Bearer {self.token}"),)

    def execute(self, tool="place_order", arguments=ORDER, *, key="key-1", run_id="", timeout=20, metadata=()):
        request = ExecuteToolRequest(tool=tool, arguments_json=arguments, idempotency_key=key, run_id=run_id)
        return stub(self.channel, "ExecuteTool")(request, metadata=self.metadata + metadata, timeout=timeout)

    def chat(self, prompt):
        contents = [Content(role=Role.USER, parts=[Part(text=prompt)])]
        request = ChatRequest(model="flash", contents=contents, run_id="run-1")
        return stub(self.channel, "Chat")(request, metadata=self.metadata, timeout=20)

    async def slow_orders(self, delay_ms):
        """Make the exchange slow for every order from now on."""
        fault = {
            "kind": "latency",
            "match": {"method": "POST", "path_prefix": "/v2/orders"},
            "delay_ms": delay_ms,
            "count": None,
        }
        async with self.session.post(self._admin("/admin/faults"), json=[fault]) as reply:
            reply.raise_for_status()

    async def late_replies(self, delay_ms):
        """Make the exchange take every order at once and answer late."""
        orders = {"method": "POST", "path_prefix": "/v2/orders"}
        fault = {"kind": "latency_after", "match": orders, "delay_ms": delay_ms, "count": None}
        async with self.session.post(self._admin("/admin/faults"), json=[fault]) as reply:
            reply.raise_for_status()

    async def another(self, name):
        """The same way in, as another identity of the town."""
        return replace(self, token=await token_of(self.session, self.town, name))

    def halt(self, scope, reason="drill"):
        return stub(self.channel, "SetHalt")(
            SetHaltRequest(scope=scope, reason=reason), metadata=self.metadata, timeout=20
        )

    async def orders(self):
        """What the exchange has of the desk's orders."""
        async with self.session.get(self._admin("/admin/orders")) as reply:
            return [one for one in (await reply.json())["orders"] if str(one["client_order_id"]).startswith("gw-")]

    async def order_under_way(self):
        """Wait until an order has reached the slow exchange."""
        async with asyncio.timeout(10):
            while True:
                async with self.session.get(self._admin("/admin/faults")) as reply:
                    if (await reply.json())[0]["seen"]:
                        return

    def _admin(self, path):
        return self.town.exchange.told("admin_url") + path


async def token_of(session, town, name):
    """An ID token as the metadata server of this identity gives it."""
    url, headers = f"http://{town.metadata(name)}{IDENTITY}", {"Metadata-Flavor": "Google"}
    # With the address in it, as agents ask for it.
    async with session.get(url, params={"audience": AUDIENCE, "format": "full"}, headers=headers) as reply:
        return await reply.text()


@asynccontextmanager
async def visited(folder, *, limits=(), **variables):
    """A town without door and agent, whose gateway has these limits and these variables too."""
    environment = tuple(variables.items())
    plan = Plan(with_agent=False, with_door=False, more_limits=(*UNHURRIED, *limits), gateway_environment=environment)
    async with built(folder, plan) as town, aiohttp.ClientSession() as session:
        token = await token_of(session, town, "agent")
        async with grpc.aio.insecure_channel(town.gateway_url.removeprefix("http://")) as channel:
            yield Visitor(town, session, channel, token)


async def gateway(*arguments):
    """Exit code and output of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()
