"""The shipped manifest in a local region: real gateway processes as instances, and an agent that calls them."""

import asyncio
import base64
import secrets
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from agent.client.contract import ChatRequest, Content, Part, Role
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from deploy.place import APIS, INVOKER, SECRET_READER, Place
from deploy.render import ALL_TO_LATEST, filled_in
from deploy.yaml_subset import read_yaml
from localcloud.demo.processes import Processes
from localcloud.demo.town import AUDIENCE, UNHURRIED, Around, Plan, configured, exchange_command, vertex_command
from localcloud.google import GoogleConfig, LocalGoogle
from localcloud.instances import Machine, Region, RegionConfig
from localcloud.process import clean_environment
from localcloud.run_admin import AdminConfig

ROOT = Path(__file__).parents[1]
PLACE = Place(project="acme-agents", region="us-central1")
IMAGE = f"us-central1-docker.pkg.dev/acme-agents/agentic-gateway/gateway@sha256:{'a' * 64}"
SECRETS = ("exchange-key-id", "exchange-secret-key", "exchange-order-key", "gateway-config")
ORDER = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "1", "time_in_force": "day"}
LOST = ("- {name: GATEWAY_LEDGER",)
DATABASE = (
    *("run.googleapis.com/network-interfaces", "run.googleapis.com/vpc-access-egress"),
    *("- name: GATEWAY_DATABASE_URL", "  valueFrom: {secretKeyRef: {name: gateway-database-url"),
)
"""The lines of the manifest that an operator takes the # off, for a ledger that may be lost or one in a database."""
SECOND = 0.25
"""What a second of the manifest's probes lasts in these tests."""


class GatewayRegion:
    """A region whose image is this tree's gateway, the world around it, and the operator's and the agent's hands."""

    def __init__(self, folder, google, region, exchange, vertex, stack, keys, database_url=""):
        self.folder, self.google, self.region = folder, google, region
        self.exchange, self.vertex = exchange, vertex
        self._stack = stack
        self.keys = keys
        self.database_url = database_url

    @property
    def services(self):
        return self.region.admin.services

    @property
    def project(self):
        return self.region.admin.project

    def configuration(self, ledger="gateway.db", **replaced):
        """What the gateway is configured with; a relative ledger ends with its instance, as on Cloud Run."""
        around = Around(
            certs_url=self.google.certs_url,
            exchange_url=self.exchange.told("url"),
            vertex_url=self.vertex.told("url"),
            agent_email=PLACE.email("sa-agent"),
        )
        plan = Plan(
            exposure_usd_max="5000000",
            notional_usd_day="5000000",
            calls_hour="100000",
            calls_run="100000",
            more_limits=UNHURRIED,
        )
        text = configured(around, ledger, replace(plan, more_limits=UNHURRIED))
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        return text

    def add_secret(self, name, value):
        """A new version; gives its number."""
        encoded = base64.b64encode(value.encode()).decode()
        return self.project.add_version(name, {"data": encoded})["name"].rpartition("/")[2]

    def values(self):
        """The value of each secret that the manifest refers to."""
        database = {"gateway-database-url": self.database_url} if self.database_url else {}
        return {**self.keys, **database, "gateway-config": self.configuration()}

    def manifest(self, *, traffic=ALL_TO_LATEST, **decided):
        """The shipped manifest as its operator decided it, as gcloud sends it."""
        service = read_yaml(filled_in(self.written(**decided), PLACE, IMAGE=IMAGE, TRAFFIC=traffic))
        service["metadata"]["namespace"] = PLACE.project
        return service

    def written(self, *, least=1, most=1, concurrency=80, config="1"):
        """The file of the shipped manifest with its operator's decisions in it."""
        text = (ROOT / "service.yaml").read_text()
        for line in DATABASE if self.database_url else LOST:
            assert text.count(f"# {line}") == 1
            text = text.replace(f"# {line}", line)
        for old, new in (
            ("ingress: all", f"ingress: all\n    run.googleapis.com/custom-audiences: '[\"{AUDIENCE}\"]'"),
            ('minScale: "1"', f'minScale: "{least}"'),
            ('maxScale: "1"', f'maxScale: "{most}"'),
            ("containerConcurrency: 80", f"containerConcurrency: {concurrency}"),
            ('{key: "1", path: gateway.toml}', f'{{key: "{config}", path: gateway.toml}}'),
        ):
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "service.yaml"
        path.write_text(text)
        return path

    def grant(self, policy, role, *members):
        bindings = policy.document().get("bindings", [])
        policy.replace({"bindings": [*bindings, {"role": role, "members": [*members]}]}, self.project.member_exists)

    async def deploy(self, service):
        """Send a manifest and wait until it is known what came of it; gives the newest revision's name."""
        if self.services.listed():
            self.services.replace("gateway-service", service, dry_run=False)
        else:
            self.services.create(service, dry_run=False)
            self.grant(self.services.policy("gateway-service"), INVOKER, PLACE.member("sa-agent"))
        await eventually(lambda: self.condition() != "Unknown", 40)
        return self.status()["latestCreatedRevisionName"]

    def status(self):
        return self.services.read("gateway-service")["status"]

    def condition(self):
        (ready,) = (one for one in self.status()["conditions"] if one["type"] == "Ready")
        return ready["status"]

    def served(self):
        """Requests by the revision that took them; those that the edge answered itself are not in it."""
        return Counter(one.instance.partition("/")[0] for one in self.region.door.entries if one.instance)

    async def agent(self, **patience):
        """A client as agents have it, with a token of sa-agent."""
        tokens = await self._stack.enter_async_context(MetadataTokens(self.google.metadata_address("agent")))
        return await self._stack.enter_async_context(
            GatewayClient(self.region.url, tokens, audience=AUDIENCE, patience=Patience(**patience))
        )

    async def orders(self):
        """What the exchange has of the desk's orders."""
        async with aiohttp.ClientSession() as session, session.get(f"{self._admin}/admin/orders") as reply:
            return [one for one in (await reply.json())["orders"] if str(one["client_order_id"]).startswith("gw-")]

    async def slow_orders(self, delay_ms):
        """Make the exchange slow for every order from now on."""
        match = {"method": "POST", "path_prefix": "/v2/orders"}
        fault = {"kind": "latency", "match": match, "delay_ms": delay_ms, "count": None}
        url = f"{self._admin}/admin/faults"
        async with aiohttp.ClientSession() as session, session.post(url, json=[fault]) as reply:
            reply.raise_for_status()

    async def order_under_way(self):
        """Wait until an order has met the slow exchange."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while True:
                async with session.get(f"{self._admin}/admin/faults") as reply:
                    if (await reply.json())[0]["seen"]:
                        return

    @property
    def _admin(self):
        return self.exchange.told("admin_url")


async def eventually(condition, seconds=20):
    """Wait until a condition holds that nobody announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.002)


def paced(deltas, interval_ms):
    """A chat of so many pieces."""
    text = f"@pace deltas={deltas} interval_ms={interval_ms} size=4\nSay something."
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])])


@asynccontextmanager
async def gateway_region(folder, *, seed=0, project=None, environment=None, database_url="", **machine):
    """A region with the exchange, Vertex AI and Google's tokens around it; nothing is deployed yet.

    Its project is ready for the shipped manifest, unless another one is given. `environment` goes to every
    instance. With a `database_url` the ledger is there, else on each instance's own disk.
    """
    key_id, secret = "PK" + secrets.token_hex(8).upper(), secrets.token_urlsafe(24)
    async with AsyncExitStack() as stack:
        identities = {"gateway": PLACE.email("sa-gateway"), "agent": PLACE.email("sa-agent")}
        google = await stack.enter_async_context(
            LocalGoogle(GoogleConfig(identities=identities, project_id=PLACE.project))
        )
        processes = await stack.enter_async_context(Processes(folder, clean_environment()))
        exchange = await processes.start("exchange", exchange_command(key_id, secret, 10_000_000))
        vertex = await processes.start("vertex", vertex_command(google.introspect_url, PLACE.email("sa-gateway")))
        given = {"accounts": ("sa-gateway", "sa-agent"), "secrets": dict.fromkeys(SECRETS, 0), "apis": APIS}
        around = {"GATEWAY_HOST": "{host}", "GCE_METADATA_HOST": google.metadata_address("gateway")}
        around |= environment or {}
        config = RegionConfig(
            admin=project or AdminConfig(project=PLACE.project, **given),
            machine=Machine(
                folder=folder / "instances",
                images={IMAGE: (sys.executable, "-m")},
                environment=around,
                **{"second": SECOND, **machine},
            ),
            certs_url=google.certs_url,
            seed=seed,
        )
        region = await stack.enter_async_context(Region(config, google.issuer))
        clients = await stack.enter_async_context(AsyncExitStack())
        keys = {"exchange-key-id": key_id, "exchange-secret-key": secret, "exchange-order-key": "k" * 48}
        at = GatewayRegion(folder, google, region, exchange, vertex, clients, keys, database_url)
        for name, value in at.values().items() if project is None else ():
            if name not in SECRETS:
                at.project.create_secret(name)
            at.grant(at.project.secret_policy(name), SECRET_READER, PLACE.member("sa-gateway"))
            at.add_secret(name, value)
        yield at
