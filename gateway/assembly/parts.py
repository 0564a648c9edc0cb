"""What a gateway is made of before it has any connection: who may call, which tools there are, and the rules."""

import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.assembly.tls import CertificateError, server_context
from gateway.assembly.tool_services import Sources, ToolService, tool_services
from gateway.identity.registry import RegisteredAgent, RegisteredOperator, Registry
from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyLoadError
from gateway.policy.schema import PolicyInputs, PolicySchemaError
from gateway.settings.amounts import budget, limit_profiles
from gateway.settings.faults import SettingsError
from gateway.settings.file import AgentTable, File, VenueTable
from gateway.settings.reading import Settings
from gateway.terms.caller import Budget
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.halts import KnownScopes
from gateway.terms.ids import AgentName, ModelName, OperatorName, Principal, TeamName, TenantName, ToolName
from gateway.terms.limits import LimitProfile
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_tools import PLACE_ORDER, PLACE_ORDER_FACTS, SYMBOL_FORM, declarations
from gateway.tools.toolbox import Toolbox

TOOL_TIMEOUT_MS: Final = 10_000


class AssemblyError(Exception):
    """The gateway cannot be built as the settings say; a sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What needs no connection."""

    registry: Registry
    venues: tuple[Alpaca, ...]
    services: tuple[ToolService, ...]
    """What else offers tools; the settings say which."""
    toolbox: Toolbox
    policy: CedarPolicy
    tls: ssl.SSLContext | None
    clock: SystemClock
    ids: SystemIds


def parts_of(settings: Settings) -> Parts:
    """Build them; the rules have passed their own tests. Raises `AssemblyError` or `SettingsError`."""
    clock, ids = SystemClock(), SystemIds()
    try:
        venues = tuple(Alpaca(_venue(settings, table), clock) for table in settings.file.venues)
        services = tool_services(settings.file, Sources(settings.base, settings.secrets), clock)
        toolbox = Toolbox((*venues, *services), ids)
        policy = CedarPolicy.load(
            settings.path(settings.file.policy.path),
            PolicyInputs(tools=toolbox.declarations, facts=toolbox.fact_types),
        )
        registry = Registry(_agents(settings, toolbox), _operators(settings))
        tls = _tls(settings)
    except (PolicyLoadError, PolicySchemaError) as error:
        raise AssemblyError("\n  ".join(("the rules cannot be used:", *map(str, error.faults)))) from error
    except (CertificateError, ValueError) as error:
        raise AssemblyError(str(error)) from error
    return Parts(
        registry=registry,
        venues=venues,
        services=services,
        toolbox=toolbox,
        policy=policy,
        tls=tls,
        clock=clock,
        ids=ids,
    )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    table = settings.file.tls
    return None if table is None else server_context(settings.path(table.certificate), settings.path(table.key))


def checked(settings: Settings) -> tuple[str, ...]:
    """Build all that needs no connection and say what it is, a line each; raises as `parts_of`."""
    parts = parts_of(settings)
    file, environment = settings.file, settings.environment
    trusted = "trusted: it may take a token's signature off" if environment.edge_enforced else "not trusted"
    port = "TLS with a certificate of its own" if parts.tls else "cleartext: whatever stands before it ends TLS"
    return (
        f"policy: {len(parts.policy.rules)} rules, their own tests pass, hash {parts.policy.hash}",
        f"tools: {', '.join(tool.name for tool in parts.toolbox.declarations) or 'none'}",
        f"models: {', '.join(model.name for model in file.models) or 'none'}",
        f"agents: {', '.join(agent.name for agent in file.agents)}",
        f"operators: {', '.join(operator.name for operator in file.operators) or 'none: nobody can halt anything'}",
        f"tokens: for {file.identity.audience}, signed with the keys at {file.identity.certs_url}",
        f"edge: {trusted}",
        f"ledger: {_ledger(settings)} (not opened)",
        f"port: {port}",
    )


def _ledger(settings: Settings) -> str:
    if settings.environment.database_url:
        return "PostgreSQL, at GATEWAY_DATABASE_URL"
    return str(settings.path(settings.file.ledger.path))


def policy_inputs(file: File, base: Path) -> PolicyInputs:
    """What the rules of this configuration are about, told without its secrets; `base` is the file's folder.

    Raises `SettingsError` for a tool of a service that cannot be made.
    """
    services = tool_services(file, Sources(base, None), SystemClock())
    offered = tuple(tool for service in services for tool in service.declarations)
    facts = {name: types for service in services for name, types in service.fact_types.items()}
    if not file.venues:
        return PolicyInputs(tools=offered, facts=facts)
    known = every_tool()
    return PolicyInputs(tools=(*known.tools, *offered), facts={**known.facts, **facts})


def known_scopes(file: File, toolbox: Toolbox) -> KnownScopes:
    """What halt switches can stop with this configuration."""
    exchanges = {venue.name for venue in file.venues} | {venue.name for venue in file.ccxt_venues}
    services = {service.name for service in file.http_services} | {server.name for server in file.mcp_servers}
    names: dict[str, Iterable[str]] = {
        "tenant": {file.tenant},
        "team": {agent.team for agent in file.agents},
        "agent": {agent.name for agent in file.agents},
        "tool": {tool.name for tool in toolbox.declarations},
        "model": {model.name for model in file.models},
        "venue": exchanges | services,
        "symbol": {symbol for venue in file.ccxt_venues for symbol in venue.symbols},
    }
    symbols = (re.compile(SYMBOL_FORM),) if file.venues else ()
    return KnownScopes(names={kind: frozenset(known) for kind, known in names.items()}, symbols=symbols)


def every_tool() -> PolicyInputs:
    """All tools of this version, and the facts that are known of each."""
    return PolicyInputs(tools=declarations(TOOL_TIMEOUT_MS), facts={PLACE_ORDER: PLACE_ORDER_FACTS})


def _venue(settings: Settings, table: VenueTable) -> AlpacaConfig:
    try:
        return AlpacaConfig(
            name=table.name,
            trading_url=table.trading_url,
            data_url=table.data_url,
            feed=table.feed,
            key_id=settings.secrets[table.key_id],
            secret_key=settings.secrets[table.secret_key],
            account=table.account,
            client_order_key=settings.secrets[table.order_key].encode(),
            timeout_ms=TOOL_TIMEOUT_MS,
            acceptance_ms=table.acceptance_s * 1_000,
            networks=tuple(table.networks),
        )
    except ValueError as error:
        raise SettingsError(f"venues.{table.name}", [str(error)]) from error


def _agents(settings: Settings, toolbox: Toolbox) -> Iterator[RegisteredAgent]:
    """The agents as registered; a tool that nobody offers is a fault of the file, told with all others like it."""
    file = settings.file
    offered = {tool.name for tool in toolbox.declarations}
    faults = [
        f"agents.{table.name}.tools: {name!r} is not offered: write some of {', '.join(sorted(offered))}"
        for table in file.agents
        for name in table.tools
        if name not in offered
    ]
    if faults:
        raise SettingsError("agents", faults)
    limits = limit_profiles(file.limits, file.firm)
    budgets = [budget(table) for table in file.budgets]
    for table in file.agents:
        yield _agent(file.tenant, table, budgets, limits.get(table.limits))


def _operators(settings: Settings) -> Iterator[RegisteredOperator]:
    for table in settings.file.operators:
        sub = Principal(table.subject) if table.subject else None
        yield RegisteredOperator(name=OperatorName(table.name), sub=sub, email=table.email)


def _agent(tenant: str, table: AgentTable, budgets: list[Budget], limits: LimitProfile | None) -> RegisteredAgent:
    scopes = (f"tenant:{tenant}", f"team:{table.team}", f"agent:{table.name}", "run")
    return RegisteredAgent(
        agent=AgentName(table.name),
        team=TeamName(table.team),
        tenant=TenantName(tenant),
        role=table.role,
        sub=Principal(table.subject) if table.subject else None,
        email=table.email,
        models=frozenset(ModelName(name) for name in table.models),
        tools=frozenset(ToolName(name) for name in table.tools),
        budgets=tuple(held for scope in scopes for held in budgets if held.scope == scope),
        limits=limits,
    )
