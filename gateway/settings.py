"""What the operator decided: the environment and the configuration file, read once into frozen values.

Nobody else reads the environment. Everything is checked here, all faults are told at once, and a fault stops the
process before it listens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.terms.caller import Budget
from gateway.terms.ids import RUN_ID, TOOL_NAME
from gateway.terms.limits import LimitProfile
from gateway.terms.models import Price
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit, scaled

NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
GOOGLE_CERTS: Final = "https://www.googleapis.com/oauth2/v3/certs"


class SettingsError(Exception):
    """The configuration cannot be used; `faults` says everything that is wrong with it."""

    def __init__(self, source: str, faults: list[str]) -> None:
        super().__init__(f"{source}: " + "; ".join(faults))
        self.source = source
        self.faults = faults


class _Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file: what it does not know is a fault."""


class IdentityTable(_Table, frozen=True, kw_only=True):
    """`[identity]`."""

    audience: str
    certs_url: str = GOOGLE_CERTS


class VertexTable(_Table, frozen=True, kw_only=True):
    """`[vertex]`."""

    project: str
    location: str = "global"
    endpoint: str = ""
    credentials: Literal["metadata", "application-default"] = "metadata"


class ModelTable(_Table, frozen=True, kw_only=True):
    """`[[models]]`."""

    name: str
    upstream_id: str
    description: str = ""
    max_output_tokens: int
    constraints: list[Literal["json_schema", "choice"]] = []
    input_usd_per_million: str
    output_usd_per_million: str
    cached_usd_per_million: str = ""


class VenueTable(_Table, frozen=True, kw_only=True):
    """`[[venues]]`: an exchange in Alpaca's wire format."""

    name: str
    trading_url: str
    data_url: str
    account: str
    key_id: str
    secret_key: str
    order_key: str
    """Makes client order ids; must never change while orders may be asked for again."""


class BudgetTable(_Table, frozen=True, kw_only=True):
    """`[[budgets]]`."""

    scope: str
    unit: Literal["tokens", "cost_usd", "calls", "notional_usd"]
    window: Literal["hour", "day", "month", "total"]
    amount: str


class LimitTable(_Table, frozen=True, kw_only=True):
    """`[limits.NAME]`."""

    quantity_max: str
    notional_usd_max: str
    collar_bps: int
    reference_age_ms_max: int
    exposure_usd_max: str


class AgentTable(_Table, frozen=True, kw_only=True):
    """`[[agents]]`."""

    name: str
    email: str
    subject: str = ""
    team: str
    role: str
    models: list[str] = []
    tools: list[str] = []
    limits: str = ""


class LedgerTable(_Table, frozen=True, kw_only=True):
    """`[ledger]`."""

    path: str
    instance: str = "gateway"


class PolicyTable(_Table, frozen=True, kw_only=True):
    """`[policy]`."""

    path: str


class File(_Table, frozen=True, kw_only=True):
    """The configuration file."""

    tenant: str
    identity: IdentityTable
    vertex: VertexTable
    ledger: LedgerTable
    policy: PolicyTable
    models: list[ModelTable] = []
    venues: list[VenueTable] = []
    agents: list[AgentTable] = []
    budgets: list[BudgetTable] = []
    limits: dict[str, LimitTable] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The file, checked, and what the environment says."""

    file: File
    base: Path
    """Where relative paths of the file begin: its own folder."""
    host: str
    port: int
    edge_enforced: bool
    metadata_host: str
    environment: Mapping[str, str]

    def path(self, text: str) -> Path:
        """A path of the file."""
        return self.base / text

    def secret(self, reference: str) -> str:
        """What `env:NAME` or `file:PATH` refers to; raises `SettingsError`. Secrets never stand in the file itself."""
        kind, _, name = reference.partition(":")
        if kind == "env" and self.environment.get(name):
            return self.environment[name]
        if kind == "file":
            try:
                return self.path(name).read_text().strip()
            except OSError as error:
                raise SettingsError(reference, [f"cannot be read: {error.strerror}"]) from None
        what = "the environment has no such variable" if kind == "env" else "write env:NAME or file:PATH"
        raise SettingsError(reference, [what])


def read_settings(config: Path, environment: Mapping[str, str]) -> Settings:
    """Read and check everything, or raise `SettingsError` with all that is wrong."""
    try:
        file = msgspec.toml.decode(config.read_bytes(), type=File)
    except OSError as error:
        raise SettingsError(str(config), [f"cannot be read: {error.strerror}"]) from None
    except msgspec.DecodeError as error:
        raise SettingsError(str(config), [str(error)]) from None
    faults = [*_file_faults(file), *_environment_faults(environment)]
    if faults:
        raise SettingsError(str(config), faults)
    return Settings(
        file=file,
        base=config.resolve().parent,
        host=environment.get("GATEWAY_HOST", "0.0.0.0"),  # noqa: S104 - a container listens on all of its addresses
        port=int(environment.get("PORT", "8080")),
        edge_enforced=environment.get("GATEWAY_EDGE_IAM") == "required" and bool(environment.get("K_SERVICE")),
        metadata_host=environment.get("GCE_METADATA_HOST", "metadata.google.internal"),
        environment=environment,
    )


def limit_profile(name: str, table: LimitTable) -> LimitProfile:
    """A `[limits.NAME]` table in integers."""
    return LimitProfile(
        name=name,
        quantity_max=NanoUnits(scaled(table.quantity_max, NANO)),
        notional_max=MicroUsd(scaled(table.notional_usd_max, MICRO)),
        collar_bps=table.collar_bps,
        reference_age_ms_max=table.reference_age_ms_max,
        exposure_max=MicroUsd(scaled(table.exposure_usd_max, MICRO)),
    )


def budget(table: BudgetTable) -> Budget:
    """A `[[budgets]]` table in integers."""
    units = {
        "tokens": (Unit.TOKENS, 1),
        "calls": (Unit.CALLS, 1),
        "cost_usd": (Unit.COST, MICRO),
        "notional_usd": (Unit.NOTIONAL, MICRO),
    }
    unit, scale = units[table.unit]
    return Budget(scope=table.scope, unit=unit, window=table.window, amount=scaled(table.amount, scale))


def price(table: ModelTable) -> Price:
    """A model's prices in integers."""
    cached = table.cached_usd_per_million or table.input_usd_per_million
    return Price(
        input=MicroUsd(scaled(table.input_usd_per_million, MICRO)),
        output=MicroUsd(scaled(table.output_usd_per_million, MICRO)),
        cached=MicroUsd(scaled(cached, MICRO)),
    )


def _file_faults(file: File) -> list[str]:
    faults: list[str] = []
    _check_names(file, faults)
    _check_references(file, faults)
    _check_amounts(file, faults)
    if not file.identity.audience.startswith("https://") or file.identity.audience.endswith("/"):
        faults.append("identity.audience: write the service's URL, https:// and no slash at the end")
    if not file.agents:
        faults.append("agents: register at least one, or every call is refused")
    return faults


def _check_names(file: File, faults: list[str]) -> None:
    named = {
        "tenant": [file.tenant],
        "models": [model.name for model in file.models],
        "venues": [venue.name for venue in file.venues],
        "agents": [agent.name for agent in file.agents],
        "limits": list(file.limits),
        "ledger.instance": [file.ledger.instance],
    }
    for where, names in named.items():
        faults += [f"{where}: {name!r} is no name; use a-z 0-9 _ . -" for name in names if not NAME.fullmatch(name)]
        faults += [f"{where}: {name!r} stands twice" for name in sorted({n for n in names if names.count(n) > 1})]


def _check_references(file: File, faults: list[str]) -> None:
    models = {model.name for model in file.models}
    teams = {agent.team for agent in file.agents}
    agents = {agent.name for agent in file.agents}
    for agent in file.agents:
        faults += [
            f"agents.{agent.name}: no model {name!r} is configured" for name in agent.models if name not in models
        ]
        faults += [
            f"agents.{agent.name}: {tool!r} is no tool name" for tool in agent.tools if not TOOL_NAME.fullmatch(tool)
        ]
        if agent.limits and agent.limits not in file.limits:
            faults.append(f"agents.{agent.name}: no limits.{agent.limits} is configured")
        if not RUN_ID.fullmatch(agent.team) or not RUN_ID.fullmatch(agent.role):
            faults.append(f"agents.{agent.name}: team and role must be names")
    scopes = {
        f"tenant:{file.tenant}",
        "run",
        *(f"team:{team}" for team in teams),
        *(f"agent:{name}" for name in agents),
    }
    faults += [
        f"budgets: scope {table.scope!r} is none of {', '.join(sorted(scopes))}"
        for table in file.budgets
        if table.scope not in scopes
    ]


def _check_amounts(file: File, faults: list[str]) -> None:
    readings = (
        [(f"budgets {table.scope}", lambda table=table: budget(table)) for table in file.budgets]
        + [(f"limits.{name}", lambda n=name, t=table: limit_profile(n, t)) for name, table in file.limits.items()]
        + [(f"models.{table.name}", lambda table=table: price(table)) for table in file.models]
    )
    for where, reading in readings:
        try:
            reading()
        except ValueError as error:
            faults.append(f"{where}: {error}")
    faults += [
        f"models.{model.name}: max_output_tokens must be 1 to 1000000"
        for model in file.models
        if not 1 <= model.max_output_tokens <= 1_000_000
    ]
    faults += [
        f"limits.{name}: collar_bps must be 1 to 10000, reference_age_ms_max above 0"
        for name, table in file.limits.items()
        if not 0 < table.collar_bps <= 10_000 or table.reference_age_ms_max <= 0
    ]


def _environment_faults(environment: Mapping[str, str]) -> list[str]:
    faults = []
    port = environment.get("PORT", "8080")
    if not (port.isascii() and port.isdigit() and 0 <= int(port) <= 65535):
        faults.append("PORT: write a port number")
    edge = environment.get("GATEWAY_EDGE_IAM", "")
    if edge not in ("", "required"):
        faults.append("GATEWAY_EDGE_IAM: write 'required' (the edge checks every caller) or leave it out")
    if edge == "required" and not environment.get("K_SERVICE"):
        faults.append("GATEWAY_EDGE_IAM=required: this process does not run on Cloud Run (no K_SERVICE)")
    if environment.get("GATEWAY_DATABASE_URL"):
        faults.append("GATEWAY_DATABASE_URL: this version keeps its ledger in SQLite only; leave it out")
    return faults
