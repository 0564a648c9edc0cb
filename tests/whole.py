"""A whole gateway in this process, with the outside world on loopback sockets: every station is the real one.

async with world() as around, around.gateway(tmp_path) as whole:
    answer = await whole.act(MARKET_BUY, key="k-1")
    await whole.agree()
"""

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import sqlite3
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import cache, partial

import aiohttp
from aiohttp import web

from gateway.audit.chain import BootChain
from gateway.audit.records import Records
from gateway.audit.recount import recount
from gateway.audit.usage_pages import RecordedUsage, SqlitePages
from gateway.audit.verify import verify
from gateway.call.act import act
from gateway.call.changes import Changes
from gateway.call.converse import converse
from gateway.call.count import count
from gateway.call.denials import Denials
from gateway.call.effects import EffectTasks
from gateway.call.lasting import Bounds, LastingStreams
from gateway.call.prompted import Prompt, PromptRequest
from gateway.call.recover import Recovery
from gateway.call.stations import Stations
from gateway.call.unsettled import Unsettled
from gateway.identity.google import GoogleIdentity, GoogleIdentityConfig
from gateway.identity.jwks import Jwks, JwksConfig
from gateway.identity.registry import RegisteredAgent, RegisteredOperator, Registry
from gateway.identity.token import Expected
from gateway.ledger.check import check
from gateway.ledger.sqlite import SqliteLedger, _let_go
from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.credentials import AccessToken, CachedToken
from gateway.llm.route import sole
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.llm.vertex_request import ENFORCED
from gateway.policy.cedar import CedarPolicy
from gateway.policy.schema import PolicyInputs
from gateway.terms.aftercare import Room
from gateway.terms.asks import ToolRequest
from gateway.terms.caller import Budget, Credentials
from gateway.terms.clock import SystemIds
from gateway.terms.conversation import Conversation, Generation, Speaker, Text, Turn
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.halts import KnownScopes
from gateway.terms.limits import LimitProfile
from gateway.terms.models import Model, Price
from gateway.terms.money import MICRO, NANO, Unit
from gateway.terms.passage import Passage, Stages
from gateway.terms.verdict import RefusedError
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_tools import SYMBOL_FORM
from gateway.tools.toolbox import Toolbox
from localcloud.exchange import Credential, ExchangeConfig, PaperExchange, VenueConfig
from localcloud.exchange.faults import Fault as ExchangeFault
from localcloud.exchange.faults import FaultKind
from localcloud.google.certs import CERTS_V3, Certs
from localcloud.google.identities import ServiceAccount
from localcloud.google.issuer import Issuer
from localcloud.vertex.config import VertexConfig as DoubleConfig
from localcloud.vertex.faults import Fault as VertexFault
from localcloud.vertex.faults import Match, Params
from localcloud.vertex.server import VertexDouble
from policies import folder as shipped_policies

AUDIENCE = "https://gateway-service-123456789012.us-central1.run.app"
TRADING = ("place_order", "cancel_order")
READING = ("get_order", "list_orders", "list_positions", "get_account", "get_clock", "get_quote")
LIMITS = LimitProfile(
    name="desk",
    quantity_max=100 * NANO,
    notional_max=10_000 * MICRO,
    collar_bps=500,
    reference_age_ms_max=5_000,
    exposure_max=1_000_000 * MICRO,
)
FLASH = Model(
    name="flash",
    description="Fast and cheap.",
    upstream_id="gemini-3.5-flash",
    max_output_tokens=2_048,
    constraints=ENFORCED,
    price=Price(input=300_000, output=2_500_000, cached=75_000),
)
MARKET_BUY = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "2", "time_in_force": "day"}
"""About 379 USD."""
RESTING_BUY = MARKET_BUY | {"type": "limit", "limit_price": "185"}
"""Stays open: it costs exactly 370 USD and is not filled."""


def agent(name="trader", **changes):
    """An agent as the operator registers it: a trader with every grant, unless told otherwise."""
    plain = RegisteredAgent(
        agent=name,
        team="desk",
        tenant="acme",
        role="trader",
        email=email(name),
        models=frozenset({"flash"}),
        tools=frozenset((*TRADING, *READING)),
        limits=LIMITS,
    )
    return replace(plain, **changes)


def budget(unit, amount, scope="agent:trader", window="day"):
    return Budget(scope=scope, unit=Unit(unit), window=window, amount=amount)


def email(name):
    return f"sa-{name}@demo.iam.gserviceaccount.com"


class ShiftedClock:
    """The machine's clock, moved ahead when told to: sockets are real, so time must pass."""

    def __init__(self):
        self.shift_ns = 0

    def unix_us(self):
        return (time.time_ns() + self.shift_ns) // 1000

    def monotonic_ns(self):
        return time.monotonic_ns() + self.shift_ns

    def pass_s(self, seconds):
        self.shift_ns += int(seconds * 1e9)


@dataclass
class Log:
    """A witness that keeps what it was told."""

    events: list = field(default_factory=list)

    def tell(self, event, fields):
        self.events.append((event, dict(fields)))

    def named(self, name):
        return [fields for event, fields in self.events if event == name]


@cache
def issuer():
    """One pair of keys for all tests: making one takes a tenth of a second."""
    return Issuer()


@cache
def _policy(folder, inputs):
    return CedarPolicy.load(folder, inputs.value)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Policy inputs that are the same whenever their declarations are."""

    value: PolicyInputs

    def __hash__(self):
        return hash(tuple(tool.hash for tool in self.value.tools))

    def __eq__(self, other):
        return hash(self) == hash(other)


@dataclass
class World:
    """What is outside of the gateway: Google's keys, an exchange and a model upstream; it outlives gateways."""

    clock: ShiftedClock
    certs_url: str
    exchange: PaperExchange
    vertex: VertexDouble
    session: aiohttp.ClientSession

    @asynccontextmanager
    async def gateway(self, folder, agents=None, **changes):
        """A gateway with its ledger in this folder. `changes` replace stations or what they are made of."""
        plan = Plan(agents=tuple(agents or (agent(),)), **changes)
        async with AsyncExitStack() as stack:
            whole = await _built(self, folder / "ledger.db", plan, stack)
            yield whole
            if whole.ledger._opened is not None:
                await whole.idle()

    def orders(self):
        """Every order that the exchange has, the oldest first."""
        return list(self.exchange.venue.orders.values())

    def posts(self):
        """How many orders were posted to the exchange, accepted or not."""
        return sum(
            one.method == "POST" and one.path.startswith("/v2/orders") for one in self.exchange.requests.newest()
        )

    def exchange_fails(self, kind, *, method="POST", path="/v2/orders", **more):
        self.exchange.faults.add([ExchangeFault(kind=FaultKind(kind), method=method, path_prefix=path, **more)])

    def lose_replies(self):
        """The exchange takes every order, and neither its answer nor a look-up's comes through."""
        self.exchange_fails("reset_after_accept", remaining=None)
        self.exchange_fails("status_before", method="GET", path="/v2/orders:by", remaining=None, status=503)

    def vertex_fails(self, kind, count=1, *, model="", **params):
        self.vertex.faults.add([VertexFault(kind=kind, count=count, match=Match(model=model), params=Params(**params))])

    async def upstream_quiet(self):
        """Wait until the model upstream has no open stream: it learns of a cut connection a moment later."""
        await eventually(lambda: self.vertex.journal.streams_open == 0)


@dataclass(frozen=True)
class Plan:
    agents: tuple
    operators: tuple = (RegisteredOperator(name="oncall", email=email("oncall")),)
    models: tuple = (FLASH,)
    routes: object = None
    """A function from the model upstream to the routes by name, in the place of `models`."""
    policies: object = None
    services: tuple = ()
    """Tool services beside the exchange, not opened yet."""
    boot: str = ""
    effects: object = EffectTasks
    bounds: Bounds = field(default_factory=Bounds)
    """Of streams that can be resumed."""
    refusals_per_minute: int = 300
    dry_runs_per_minute: int = 300
    wrapped: object = None
    """A function from the real stations to those that are used."""


@asynccontextmanager
async def world(clock=None):
    clock = clock or ShiftedClock()
    async with AsyncExitStack() as stack:
        credential = Credential(key_id="KEY", secret="SECRET", cash_micros=10_000_000 * MICRO)
        config = ExchangeConfig(venue=VenueConfig(credentials=(credential,)), clock=clock.unix_us)
        exchange = await stack.enter_async_context(PaperExchange(config))
        vertex = await stack.enter_async_context(VertexDouble(DoubleConfig(allow_any_token=True)))
        certs = await _served(Certs(issuer(), {}, max_age=3600).application(), stack)
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield World(clock, certs + CERTS_V3, exchange, vertex, session)


async def _served(application, stack):
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return "http://{}:{}".format(*runner.addresses[0][:2])


@dataclass
class Whole:
    """A running gateway and everything that can tell what it did."""

    world: World
    path: object
    plan: Plan
    stations: Stations
    ledger: SqliteLedger
    records: Records
    effects: EffectTasks
    lasting: LastingStreams
    identity: GoogleIdentity
    log: Log

    def passage(self, caller="trader", timeout_s=None, request=None):
        """What the wire gives to a call of this agent."""
        return passage(self.stations.clock, token(self.world.clock, caller), timeout_s, request)

    async def act(self, arguments=None, key="k-1", *, tool="place_order", run="", caller="trader", timeout_s=None):
        arguments = MARKET_BUY if arguments is None else arguments
        request = tool_request(tool, arguments, key, run)
        return await act(self.stations, self.passage(caller, timeout_s), request)

    async def converse(self, text="hello", **options):
        """Everything that a caller hears of one stream, to its end."""
        async with aclosing(self.stream(text, **options)) as told:
            return [event async for event in told]

    def stream(self, text="hello", *, caller="trader", timeout_s=None, **options):
        return converse(self.stations, self.passage(caller, timeout_s), prompt(text, **options))

    async def count(self, text="hello", *, caller="trader", timeout_s=None, **options):
        return await count(self.stations, self.passage(caller, timeout_s), prompt(text, **options))

    def told(self, *kinds):
        """The durable records of these kinds, in their order; without kinds, all of every call."""
        wanted = kinds or ("intent", "outcome", "refusal", "denied", "replay", "lost")
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            rows = reader.execute("SELECT record FROM audit ORDER BY position").fetchall()
        return [record for (raw,) in rows if (record := json.loads(raw))["kind"] in wanted]

    def held(self):
        """Balances that are not all zero: (scope, unit, window) -> (held, spent)."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            rows = reader.execute("SELECT scope, unit, time_window, held, spent FROM balances").fetchall()
        return {(scope, unit, window): (held, spent) for scope, unit, window, held, spent in rows if held or spent}

    def spent(self, unit, scope="agent:trader"):
        """What is spent of a unit in a scope, in all windows; fails if any of it is only held."""
        found = [amounts for (owner, one, _), amounts in self.held().items() if (owner, one) == (scope, unit)]
        assert all(held == 0 for held, _ in found), found
        return sum(spent for _, spent in found)

    def holding(self, unit):
        """What is held of a unit, in all scopes and windows together, and not spent yet."""
        return sum(held for (_, one, _), (held, _) in self.held().items() if one == unit)

    def operations(self):
        """State by operation id."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            return dict(reader.execute("SELECT id, state FROM operations ORDER BY created_unix_us, id"))

    def recovery(self):
        """The care beside all calls, to be swept by hand."""
        return Recovery(self.stations)

    async def swept(self, times=1, seconds=0):
        """Let so many seconds pass, so many times, and do each time what is due then."""
        recovery = self.recovery()
        for _ in range(times):
            self.world.clock.pass_s(seconds)
            await recovery.sweep()

    async def taken(self, lease_ms):
        """What is due, for whoever asks; withdrawals first."""
        rooms = tuple(Room(withdraw=withdraw, most=9) for withdraw in (True, False))
        return await self.ledger.take(rooms, lease_ms=lease_ms)

    async def idle(self):
        """Wait until no effect runs."""
        await eventually(lambda: self.effects.running == 0)

    async def agree(self):
        """Ledger, record, exchange and model upstream tell one story, in which nothing is open (invariants 5 and 6)."""
        await self.idle()
        await self.world.upstream_quiet()
        assert check(self.path) == ()
        counted = recount(self.path)
        assert counted.ok, counted
        report = verify(self.path)
        assert report.ok, report.bad
        assert report.open_count == 0
        kinds = dict(report.kinds)
        endings = kinds.get("outcome", 0) + kinds.get("lost", 0)
        assert kinds.get("intent", 0) == endings == len(self.operations())
        self._agree_on_orders()

    def _agree_on_orders(self):
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            rows = reader.execute("SELECT state, result FROM operations WHERE tool = 'place_order'").fetchall()
        known = {json.loads(result)["order_id"] for state, result in rows if state == "succeeded"}
        doubtful = sum(state == "unknown" for state, _ in rows)
        # One that ended with nothing filled is no order to the books: its operation has failed.
        there = {order.id for order in self.world.orders() if order.is_open or order.filled_lots or order.id in known}
        assert known <= there
        assert len(there - known) <= doubtful, "the exchange has an order that no operation tells of"

    async def fill_disk(self):
        """From now on the ledger's file cannot take even a refusal's record, let alone an intent or an outcome."""
        connection = self.ledger._opened.source.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with contextlib.suppress(LedgerUnavailableError):
            for _ in range(100):
                await refusal(self.act(tool="get_clock", arguments="{"))
            raise AssertionError("the disk does not fill")

    def free_disk(self):
        _free(self.ledger)

    def snapshot(self, folder):
        """The ledger as a process that is killed now leaves it."""
        folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", folder / f"ledger.db{suffix}")
        return folder

    def kill(self):
        """Let go of the ledger as a killed process does: no closing record, and no lock."""
        opened, self.ledger._opened = self.ledger._opened, None
        _let_go(opened)


async def _built(around, path, plan, stack):
    clock, ids, log = around.clock, SystemIds(), Log()
    venue = await stack.enter_async_context(Alpaca(_venue_config(around), clock))
    services = [await stack.enter_async_context(one) for one in plan.services]
    toolbox = Toolbox([venue, *services], ids)
    inputs = PolicyInputs(tools=toolbox.declarations, facts=toolbox.fact_types)
    boot = plan.boot or ids.new("boot")
    records = Records(clock=clock, instance="gateway", boot=boot, redaction_key=b"r" * 32)
    ledger = SqliteLedger(path, clock=clock, chain=BootChain("gateway", boot), diary=records)
    await ledger.start()
    stack.push_async_callback(_closed, ledger)
    keys = Jwks(JwksConfig(url=around.certs_url), clock, around.session)
    identity_config = GoogleIdentityConfig(expected=Expected(audience=AUDIENCE), edge_enforced=False)
    identity = GoogleIdentity(identity_config, keys, Registry(plan.agents, plan.operators), clock)
    effects = await stack.enter_async_context(plan.effects())
    stations = Stations(
        identity=identity,
        policy=_policy(plan.policies or shipped_policies(), _Inputs(inputs)),
        ledger=ledger,
        models=_models(around, plan),
        tools=toolbox,
        recorder=records,
        usage=RecordedUsage(SqlitePages(path)),
        witness=log,
        effects=effects,
        denials=Denials(clock, plan.refusals_per_minute),
        clock=clock,
        ids=ids,
        changes=Changes(),
        unsettled=Unsettled(),
        bell=asyncio.Event(),
        dry_runs_per_minute=plan.dry_runs_per_minute,
        scopes=_known_scopes(plan, toolbox),
    )
    used = plan.wrapped(stations) if plan.wrapped else stations
    lasting = await stack.enter_async_context(LastingStreams(plan.bounds))
    return Whole(around, path, plan, used, ledger, records, effects, lasting, identity, log)


def _known_scopes(plan, toolbox):
    names = {
        "tenant": {agent.tenant for agent in plan.agents},
        "team": {agent.team for agent in plan.agents},
        "agent": {agent.agent for agent in plan.agents},
        "tool": {tool.name for tool in toolbox.declarations},
        "model": {model for agent in plan.agents for model in agent.models},
        "venue": {"paper"},
    }
    return KnownScopes(
        names={kind: frozenset(known) for kind, known in names.items()}, symbols=(re.compile(SYMBOL_FORM),)
    )


async def _closed(ledger):
    """With room for the last record, where a test has filled the disk."""
    if ledger._opened is not None:
        _free(ledger)
        await ledger.close()


def _free(ledger):
    ledger._opened.source.connection.execute("PRAGMA max_page_count = 1073741823")


def _venue_config(around):
    return AlpacaConfig(
        name="paper",
        trading_url=around.exchange.url,
        data_url=around.exchange.url,
        key_id="KEY",
        secret_key="SECRET",
        account="desk",
        client_order_key=b"k" * 32,
        timeout_ms=3_000,
    )


def _models(around, plan):
    async def fetch():
        return AccessToken(token="ya29.test", expires_ns=around.clock.monotonic_ns() + 3_600_000_000_000)

    config = VertexConfig(project="local-project", location="us-central1", endpoint=around.vertex.url)
    upstream = Vertex(config, around.session, CachedToken(fetch, around.clock))
    routes = {model.name: sole(model, upstream, around.clock) for model in plan.models}
    if plan.routes is not None:
        routes = plan.routes(upstream)
    return ModelCatalogue(routes, around.clock)


@cache
def _signed(name, issued_at):
    return issuer().id_token(ServiceAccount.of(email(name)), AUDIENCE, issued_at=issued_at)


def token(clock, name="trader"):
    """An ID token of this agent; the same one for some minutes."""
    return _signed(name, clock.unix_us() // 1_000_000 // 600 * 600)


def passage(clock, bearer, timeout_s=None, request=None):
    deadline = None if timeout_s is None else clock.monotonic_ns() + int(timeout_s * 1e9)
    return Passage(
        request=request or f"req-{secrets.token_hex(8)}",
        credentials=Credentials(authorization=(f"Bearer {bearer}",)),
        clock=clock,
        deadline_ns=deadline,
        stages=Stages(clock),
    )


def tool_request(tool="place_order", arguments=None, key="k-1", run="", version=""):
    text = arguments if isinstance(arguments, str) else json.dumps(MARKET_BUY if arguments is None else arguments)
    return ToolRequest(tool=tool, version=version, arguments_json=text, idempotency_key=key, run_id=run)


def prompt(text="hello", *, model="flash", run="", generation=None, files=(), **conversation):
    """A model call with one turn of the user's."""
    turns = (Turn(speaker=Speaker.USER, parts=(Text(text=text), *files)),)
    asked = Conversation(system_instruction="", turns=turns, generation=generation or Generation(), **conversation)
    return PromptRequest(model=model, read=partial(Prompt, conversation=asked, run=run, digest=b"d" * 32))


async def eventually(condition, limit_s=5):
    """Wait for what has no event of its own."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


async def refusal(call):
    """What a call is refused with."""
    try:
        answer = await call
    except RefusedError as error:
        return error.refusal
    raise AssertionError(f"not refused: {answer}")


def only_trading(folder):
    """Rules that let every agent place orders, and do nothing else: the folder that they are in."""
    rules = folder / "only-trading"
    rules.mkdir()
    (rules / "only.cedar").write_text(
        '@id("only.trade")\npermit (principal is Agent, action == Action::"place_order", resource is Tool);\n'
    )
    (rules / "tests.toml").write_text(
        '[principals.trader]\nrole = "trader"\n[[cases]]\nname = "nobody reads operations"\nprincipal = "trader"\n'
        'read = "get_operation"\nexpect = "refuse"\nrules = []\n'
    )
    return rules
