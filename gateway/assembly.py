"""Builds every object once and joins them; no decisions."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.audit.chain import BootChain
from gateway.audit.records import Records
from gateway.call.effects import EffectTasks
from gateway.call.stations import Stations
from gateway.identity.google import GoogleIdentity, GoogleIdentityConfig
from gateway.identity.jwks import Jwks, JwksConfig, KeysUnavailableError
from gateway.identity.registry import RegisteredAgent, Registry
from gateway.identity.token import Expected
from gateway.ledger.files import LedgerFileError
from gateway.ledger.sqlite import SqliteLedger
from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.credentials import CachedToken, application_default_fetch, metadata_fetch
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.llm.vertex_request import ENFORCED
from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyLoadError
from gateway.policy.schema import PolicyInputs, PolicySchemaError
from gateway.services.models import ModelService
from gateway.services.tools import ToolService
from gateway.settings import Settings, SettingsError, VenueTable, budget, limit_profile, price
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import (
    AgentName,
    BootId,
    InstanceId,
    ModelName,
    Principal,
    TeamName,
    TenantName,
    ToolName,
)
from gateway.terms.models import Model
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.toolbox import Toolbox
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.witness import LogWitness

WARM_S: Final = 3.0
"""How long the start waits for the first keys."""


class AssemblyError(Exception):
    """The gateway cannot be built as the settings say; a sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that is ready to listen."""

    server: GatewayServer
    witness: LogWitness
    policy_hash: str
    boot: BootId


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What needs no connection: built the same way to serve and to check."""

    registry: Registry
    venues: tuple[Alpaca, ...]
    toolbox: Toolbox
    policy: CedarPolicy
    clock: SystemClock
    ids: SystemIds


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Gateway]:
    """Build everything, in the order of the way of a call; leave it in the opposite order.

    Raises `AssemblyError` or `SettingsError` before anything listens (invariant 10).
    """
    rules = _rules(settings)
    witness = LogWitness(rules.clock)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session())
        keys = Jwks(JwksConfig(url=settings.file.identity.certs_url), rules.clock, session)
        for venue in rules.venues:
            await stack.enter_async_context(venue)
        models = _models(settings, session, rules.clock)
        ledger, records, boot = _ledger(settings, rules)
        await stack.enter_async_context(_started(ledger))
        effects = await stack.enter_async_context(EffectTasks())
        stations = Stations(
            identity=_identity(settings, rules, keys),
            policy=rules.policy,
            ledger=ledger,
            models=models,
            tools=rules.toolbox,
            recorder=records,
            witness=witness,
            effects=effects,
            clock=rules.clock,
            ids=rules.ids,
        )
        server = GatewayServer(
            contract(ModelService(stations), ToolService(stations)), WireConfig(), rules.clock, rules.ids, witness
        )
        await _warmed(keys, witness)
        server.readiness.set_serving(True)
        yield Gateway(server=server, witness=witness, policy_hash=rules.policy.hash, boot=boot)


def checked(settings: Settings) -> tuple[str, ...]:
    """Build all that needs no connection and say what it is; raises as `assembled`."""
    rules = _rules(settings)
    file = settings.file
    return (
        f"policy {rules.policy.hash[:16]}: {len(rules.policy.rules)} rules, their own tests pass",
        f"tools: {', '.join(tool.name for tool in rules.toolbox.declarations) or 'none'}",
        f"models: {', '.join(model.name for model in file.models) or 'none'}",
        f"agents: {', '.join(agent.name for agent in file.agents)}",
        f"ledger: {settings.path(file.ledger.path)} (not opened)",
    )


def _rules(settings: Settings) -> _Rules:
    clock, ids = SystemClock(), SystemIds()
    try:
        venues = tuple(Alpaca(_venue(settings, table), clock) for table in settings.file.venues)
        toolbox = Toolbox(venues, ids)
        inputs = PolicyInputs(tools=toolbox.declarations, facts=toolbox.fact_types)
        policy = CedarPolicy.load(settings.path(settings.file.policy.path), inputs)
        registry = Registry(_agents(settings, toolbox))
    except (PolicyLoadError, PolicySchemaError) as error:
        raise AssemblyError("the policies cannot be used:\n  " + "\n  ".join(map(str, error.faults))) from error
    except ValueError as error:
        raise AssemblyError(str(error)) from error
    return _Rules(registry=registry, venues=venues, toolbox=toolbox, policy=policy, clock=clock, ids=ids)


def _agents(settings: Settings, toolbox: Toolbox) -> list[RegisteredAgent]:
    file = settings.file
    offered = {tool.name for tool in toolbox.declarations}
    limits = {name: limit_profile(name, table) for name, table in file.limits.items()}
    budgets = [budget(table) for table in file.budgets]
    agents = []
    for table in file.agents:
        unknown = sorted(set(table.tools) - offered)
        if unknown:
            raise AssemblyError(f"agents.{table.name}: no venue offers {', '.join(unknown)}")
        scopes = (f"tenant:{file.tenant}", f"team:{table.team}", f"agent:{table.name}", "run")
        agents.append(
            RegisteredAgent(
                agent=AgentName(table.name),
                team=TeamName(table.team),
                tenant=TenantName(file.tenant),
                role=table.role,
                sub=Principal(table.subject) if table.subject else None,
                email=table.email,
                models=frozenset(ModelName(name) for name in table.models),
                tools=frozenset(ToolName(name) for name in table.tools),
                budgets=tuple(held for scope in scopes for held in budgets if held.scope == scope),
                limits=limits[table.limits] if table.limits else None,
            )
        )
    return agents


def _venue(settings: Settings, table: VenueTable) -> AlpacaConfig:
    try:
        return AlpacaConfig(
            name=table.name,
            trading_url=table.trading_url,
            data_url=table.data_url,
            key_id=settings.secret(table.key_id),
            secret_key=settings.secret(table.secret_key),
            account=table.account,
            client_order_key=settings.secret(table.order_key).encode(),
        )
    except ValueError as error:
        raise SettingsError(f"venues.{table.name}", [str(error)]) from None


def _identity(settings: Settings, rules: _Rules, keys: Jwks) -> GoogleIdentity:
    config = GoogleIdentityConfig(
        expected=Expected(audience=settings.file.identity.audience), edge_enforced=settings.edge_enforced
    )
    return GoogleIdentity(config, keys, rules.registry, rules.clock)


def _models(settings: Settings, session: aiohttp.ClientSession, clock: SystemClock) -> ModelCatalogue:
    vertex = settings.file.vertex
    adc = vertex.credentials == "application-default"
    fetch = application_default_fetch(clock) if adc else metadata_fetch(session, settings.metadata_host, clock)
    config = VertexConfig(project=vertex.project, location=vertex.location, endpoint=vertex.endpoint)
    upstream = Vertex(config, session, CachedToken(fetch, clock))
    models = [
        Model(
            name=ModelName(table.name),
            description=table.description,
            upstream_id=table.upstream_id,
            max_output_tokens=table.max_output_tokens,
            constraints=ENFORCED & frozenset[str](table.constraints),
            price=price(table),
        )
        for table in settings.file.models
    ]
    return ModelCatalogue({model.name: (model, upstream) for model in models})


def _ledger(settings: Settings, rules: _Rules) -> tuple[SqliteLedger, Records, BootId]:
    instance, boot = InstanceId(settings.file.ledger.instance), BootId(rules.ids.new("boot"))
    # Commitments to redacted values can be opened only by who holds this key; nobody keeps it.
    redaction_key = secrets.token_bytes(32)
    records = Records(clock=rules.clock, instance=instance, boot=boot, redaction_key=redaction_key)
    path = settings.path(settings.file.ledger.path)
    ledger = SqliteLedger(path, clock=rules.clock, chain=BootChain(instance, boot), diary=records)
    return ledger, records, boot


@asynccontextmanager
async def _started(ledger: SqliteLedger) -> AsyncIterator[None]:
    try:
        await ledger.start()
    except LedgerFileError as error:
        raise AssemblyError(str(error)) from error
    try:
        yield
    finally:
        await ledger.close()


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    """The connections to Google: kept alive by the kernel, because idle ones are dropped without a word."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=90)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield session


async def _warmed(keys: Jwks, witness: LogWitness) -> None:
    """Fetch the keys ahead of the first caller; without them the gateway starts, and refuses until it has them."""
    try:
        async with asyncio.timeout(WARM_S):
            await keys.warm()
    except (KeysUnavailableError, TimeoutError) as error:
        witness.tell("keys.fetch_failed", {"error": str(error)})
