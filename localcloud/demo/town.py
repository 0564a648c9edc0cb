"""The whole system on one machine: the outside world, the gateway behind its front door, and an agent."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from localcloud.demo.processes import Processes, Running
from localcloud.process import clean_environment
from policies import folder as shipped_policies

AUDIENCE: Final = "https://gateway-service-123456789012.us-central1.run.app"
GATEWAY_EMAIL: Final = "sa-gateway@local-project.iam.gserviceaccount.com"
AGENT_EMAIL: Final = "sa-agent@local-project.iam.gserviceaccount.com"
OPERATOR_EMAIL: Final = "sa-operator@local-project.iam.gserviceaccount.com"
STRANGER_EMAIL: Final = "sa-stranger@local-project.iam.gserviceaccount.com"
CASH_USD: Final = 100_000

CONFIGURATION: Final = """\
tenant = "demo"

[identity]
audience = "{audience}"
certs_url = "{certs_url}"

[vertex]
project = "local-project"
location = "us-central1"
endpoint = "{vertex_url}"

[ledger]
path = "{ledger}"
instance = "gateway"

[policy]
path = "{policies}"

[[models]]
name = "flash"
upstream_id = "gemini-3.5-flash"
description = "Fast and cheap."
max_output_tokens = {output_tokens_max}
constraints = ["json_schema", "choice"]
input_usd_per_million = "0.30"
output_usd_per_million = "2.50"
cached_usd_per_million = "0.075"

[[venues]]
name = "paper"
trading_url = "{exchange_url}"
data_url = "{exchange_url}"
account = "desk"
key_id = "env:EXCHANGE_KEY_ID"
secret_key = "env:EXCHANGE_SECRET_KEY"
order_key = "env:EXCHANGE_ORDER_KEY"

[limits.desk]
quantity_max = "100"
notional_usd_max = "{notional_usd_max}"
collar_bps = 500
reference_age_ms_max = 5000
exposure_usd_max = "{exposure_usd_max}"
{more_limits}

[[operators]]
name = "oncall"
email = "{operator_email}"

[[agents]]
name = "trader"
email = "{agent_email}"
team = "desk"
role = "trader"
models = ["flash"]
tools = ["place_order", "cancel_order", "get_order", "list_positions", "get_account", "get_clock", "get_quote"]
limits = "desk"

{budgets}
"""

BUDGETS: Final = """\
[[budgets]]
scope = "tenant:demo"
unit = "cost_usd"
window = "month"
amount = "{cost_usd_month}"

[[budgets]]
scope = "team:desk"
unit = "cost_usd"
window = "day"
amount = "{cost_usd_day}"

[[budgets]]
scope = "team:desk"
unit = "notional_usd"
window = "day"
amount = "{notional_usd_day}"

[[budgets]]
scope = "agent:trader"
unit = "tokens"
window = "hour"
amount = "{tokens_hour}"

[[budgets]]
scope = "agent:trader"
unit = "calls"
window = "hour"
amount = "{calls_hour}"

[[budgets]]
scope = "run"
unit = "calls"
window = "total"
amount = "{calls_run}"
"""


UNHURRIED: Final = (
    "duplicate_window_ms = 0",
    "messages_per_minute = 60000000",
    "message_burst = 60000000",
    "repeats_max = 0",
    "barrier_gamma_bps = 10000",
)
"""Limits for programs that place one and the same order as fast as they can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a town is built. Amounts as the configuration file writes them."""

    edge: Literal["keep", "strip"] = "keep"
    """Whether the front door forwards tokens whole or takes their signature off."""
    notional_usd_max: str = "10000"
    exposure_usd_max: str = "50000"
    more_limits: tuple[str, ...] = ()
    """More lines of the limits; without them the defaults are in force."""
    notional_usd_day: str = "50000"
    cost_usd_month: str = "500"
    cost_usd_day: str = "50"
    tokens_hour: str = "2000000"
    calls_hour: str = "1000"
    calls_run: str = "50"
    output_tokens_max: int = 2048
    """Of one answer of the model."""
    with_agent: bool = True
    with_door: bool = True
    cash_usd: int = CASH_USD
    shares: int = 0
    """Of every symbol, that the account begins with."""
    vertex_options: tuple[str, ...] = ()
    more_configuration: str = ""
    """Tables that are put behind the gateway's configuration."""
    gateway_environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Where everything is."""

    folder: Path
    processes: Processes
    google: Running
    exchange: Running
    vertex: Running
    gateway: Running
    door: Running | None
    agent: Running | None
    ledger: Path
    exchange_key_id: str
    exchange_secret: str

    @property
    def gateway_url(self) -> str:
        """The gateway's own port: what the front door protects."""
        return self.gateway.told("url")

    @property
    def door_url(self) -> str:
        """Where agents call."""
        return self.door.told("url") if self.door else self.gateway_url

    def metadata(self, name: str) -> str:
        """HOST:PORT of an identity's metadata server."""
        addresses = self.google.ready["metadata"]
        if not isinstance(addresses, dict):
            raise TypeError("the issuer's ready file has no metadata servers")
        return str(addresses[name])


@asynccontextmanager
async def built(folder: Path, plan: Plan = Plan()) -> AsyncIterator[Town]:
    """Start everything, in the order in which it is needed; end everything when left."""
    folder.mkdir(parents=True, exist_ok=True)
    async with Processes(folder, clean_environment()) as processes:
        yield await _started(processes, folder, plan)


async def gateway_again(town: Town) -> Town:
    """The gateway started once more, at the address where the front door looks for it."""
    port = town.gateway_url.rpartition(":")[2]
    return replace(town, gateway=await town.processes.again(town.gateway, {"PORT": port}))


async def _started(processes: Processes, folder: Path, plan: Plan) -> Town:
    google = await processes.start("google", _google())
    key_id, secret = "PK" + secrets.token_hex(8).upper(), secrets.token_urlsafe(24)
    exchange, vertex = await asyncio.gather(
        processes.start("exchange", exchange_command(key_id, secret, plan.cash_usd, plan.shares)),
        processes.start("vertex", [*vertex_command(google.told("introspect_url")), *plan.vertex_options]),
    )
    ledger = folder / "gateway.db"
    around = Around(
        certs_url=google.told("certs_url"), exchange_url=exchange.told("url"), vertex_url=vertex.told("url")
    )
    configuration = folder / "gateway.toml"
    configuration.write_text(configured(around, ledger, plan))
    addresses = google.ready["metadata"]
    metadata: Mapping[str, str] = addresses if isinstance(addresses, dict) else {}
    gateway = await processes.start(
        "gateway",
        ["-m", "gateway", "serve", "--config", str(configuration)],
        {
            "PORT": "0",
            "GATEWAY_HOST": "127.0.0.1",
            "GCE_METADATA_HOST": metadata["gateway"],
            "EXCHANGE_KEY_ID": key_id,
            "EXCHANGE_SECRET_KEY": secret,
            "EXCHANGE_ORDER_KEY": secrets.token_hex(32),
            **(
                {
                    "K_SERVICE": "gateway-service",
                    "GATEWAY_EDGE_IAM": "required",
                    "GATEWAY_LEDGER_MAY_BE_LOST": "accepted",
                }
                if plan.edge == "strip"
                else {}
            ),
            **dict(plan.gateway_environment),
        },
    )
    door = await processes.start("door", _door(gateway, google, plan)) if plan.with_door else None
    agent = None
    if plan.with_agent:
        agent = await processes.start("agent", ["-m", "agent"], _agent(door or gateway, metadata["agent"]))
    return Town(
        folder=folder,
        processes=processes,
        google=google,
        exchange=exchange,
        vertex=vertex,
        gateway=gateway,
        door=door,
        agent=agent,
        ledger=ledger,
        exchange_key_id=key_id,
        exchange_secret=secret,
    )


def _google() -> list[str]:
    identities = {
        "gateway": GATEWAY_EMAIL,
        "agent": AGENT_EMAIL,
        "operator": OPERATOR_EMAIL,
        "stranger": STRANGER_EMAIL,
    }
    given = [item for name, email in identities.items() for item in ("--identity", f"{name}={email}")]
    return ["-m", "localcloud.google", *given, "--project", "local-project"]


def exchange_command(key_id: str, secret: str, cash_usd: int, shares: int = 0) -> list[str]:
    """What Python runs as the exchange."""
    return ["-m", "localcloud.exchange", "--account", f"{key_id}:{secret}:{cash_usd}:{shares}"]


def vertex_command(introspect_url: str, member: str = GATEWAY_EMAIL) -> list[str]:
    """What Python runs as Vertex AI, which this member may use."""
    return ["-m", "localcloud.vertex", "--introspect-url", introspect_url, "--member", member]


def _door(gateway: Running, google: Running, plan: Plan) -> list[str]:
    return [
        "-m",
        "localcloud.front_door",
        "--container",
        gateway.told("url").removeprefix("http://"),
        "--audience",
        AUDIENCE,
        "--invoker",
        AGENT_EMAIL,
        "--certs-url",
        google.told("certs_url"),
        "--signature",
        plan.edge,
    ]


def _agent(way_in: Running, metadata: str) -> dict[str, str]:
    return {
        "GATEWAY_URL": way_in.told("url"),
        "GATEWAY_AUDIENCE": AUDIENCE,
        "AGENT_MODEL": "flash",
        "AGENT_INSTRUCTION": "You trade stocks for a small desk. Use the tools; never invent a result.",
        "AGENT_HOST": "127.0.0.1",
        "PORT": "0",
        "GCE_METADATA_HOST": metadata,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a gateway has around it, and who calls it."""

    certs_url: str
    exchange_url: str
    vertex_url: str
    audience: str = AUDIENCE
    agent_email: str = AGENT_EMAIL


def configured(around: Around, ledger: Path | str, plan: Plan) -> str:
    """A gateway's configuration file; a relative ledger is beside it."""
    budgets = BUDGETS.format(
        notional_usd_day=plan.notional_usd_day,
        cost_usd_month=plan.cost_usd_month,
        cost_usd_day=plan.cost_usd_day,
        tokens_hour=plan.tokens_hour,
        calls_hour=plan.calls_hour,
        calls_run=plan.calls_run,
    )
    return CONFIGURATION.format(
        audience=around.audience,
        certs_url=around.certs_url,
        vertex_url=around.vertex_url,
        exchange_url=around.exchange_url,
        ledger=ledger,
        policies=shipped_policies(),
        output_tokens_max=plan.output_tokens_max,
        notional_usd_max=plan.notional_usd_max,
        exposure_usd_max=plan.exposure_usd_max,
        agent_email=around.agent_email,
        operator_email=OPERATOR_EMAIL,
        more_limits="\n".join(plan.more_limits),
        budgets=budgets + plan.more_configuration,
    )
