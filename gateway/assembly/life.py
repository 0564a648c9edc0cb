"""A gateway from its first connection to its last record."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp

from gateway.assembly.bookkeeping import Bookkeeping, bookkeeping
from gateway.assembly.parts import Parts, known_scopes, parts_of
from gateway.assembly.routes import catalogue
from gateway.assembly.upstreams import upstreams
from gateway.assembly.watch import RETRY_S, LedgerWatch, watched
from gateway.audit.usage_pages import RecordedUsage
from gateway.call.changes import Changes
from gateway.call.denials import Denials
from gateway.call.effects import EffectTasks
from gateway.call.lasting import Bounds, LastingStreams
from gateway.call.recover import Recovery
from gateway.call.stations import Stations, Witness
from gateway.call.unsettled import Unsettled
from gateway.identity.google import GoogleIdentity, GoogleIdentityConfig
from gateway.identity.jwks import Jwks, JwksConfig, KeysUnavailableError
from gateway.identity.token import Expected
from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.credentials import CachedToken, application_default_fetch, metadata_fetch
from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.settings.file import StreamsTable
from gateway.settings.reading import Settings
from gateway.terms.clock import SystemProcessorClock
from gateway.terms.faults import UpstreamError
from gateway.terms.ids import BootId
from gateway.terms.limits import DRAIN_S
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions

KEEPALIVE_S: Final = 90.0
"""How long an idle connection to Google is kept for the next call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How long the beginning and the end of a life may take. Seconds.

    Cloud Run kills ten seconds after SIGTERM. What is left of them after `effects_s` is for the closing record.
    """

    warm_s: float = 3.0
    """How long the start waits for keys and token; without them the gateway starts, and refuses until it has them."""
    drain_s: float = DRAIN_S
    """How long running calls may go on."""
    drained_s: float = 9.2
    """From the beginning of the end: when also the connections must be closed."""
    retry_s: float = RETRY_S
    """Between two tries of a ledger that takes no records."""
    effects_s: float = 9.4
    """From the beginning of the end: when effects without an outcome are given up and recorded as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that is ready to listen."""

    server: GatewayServer
    web: WebApplication
    """What the server carries beside gRPC: Connect, gRPC-Web, plain HTTP."""
    policy_hash: str
    boot: BootId
    tls: ssl.SSLContext | None = None


@asynccontextmanager
async def assembled(settings: Settings, witness: Witness, grace: Grace = Grace()) -> AsyncIterator[Gateway]:
    """Build everything, in the order of the way of a call; leave it in the opposite order, however it is left.

    The end: the server drains, then streams that wait for their callers end, then effects that were sent are awaited,
    then the ledger is closed with its closing record, then the connections. Raises `AssemblyError` or `SettingsError`
    before anything listens (invariant 10), and `LedgerUnavailableError` at the end if there can be no closing record.
    """
    parts = parts_of(settings)
    ending = Ending(grace=grace, witness=witness)
    async with AsyncExitStack() as stack:
        google = await stack.enter_async_context(_google(settings, parts))
        for venue in parts.venues:
            await stack.enter_async_context(venue)
        for service in parts.services:
            await stack.enter_async_context(service)
        book = await stack.enter_async_context(bookkeeping(settings, parts))
        denials = await stack.enter_async_context(_summed(settings, parts, book))
        effects = await stack.enter_async_context(_awaited(ending))
        stations = Stations(
            identity=_identity(settings, parts, google),
            policy=parts.policy,
            ledger=book.ledger,
            models=_models(settings, parts, google),
            tools=parts.toolbox,
            recorder=book.records,
            usage=RecordedUsage(book.pages),
            witness=witness,
            effects=effects,
            denials=denials,
            clock=parts.clock,
            ids=parts.ids,
            changes=Changes(),
            unsettled=Unsettled(),
            bell=asyncio.Event(),
            dry_runs_per_minute=settings.file.quotas.dry_runs_per_minute,
            scopes=known_scopes(settings.file, parts.toolbox),
        )
        await stack.enter_async_context(_recovering(Recovery(stations)))
        lasting = await stack.enter_async_context(LastingStreams(_bounds(settings.file.streams)))
        table = contract(ModelService(stations, lasting), ToolService(stations), OperatorService(stations))
        server = GatewayServer(table, WireConfig(), parts.clock, parts.ids, witness)
        if settings.environment.costs_told:
            _account_costs(server, book)
        stack.push_async_callback(ending.drain, server)
        await _warmed(google, witness, grace.warm_s)
        server.readiness.set_serving(True)

        async def beat() -> None:
            await book.ledger.note(book.records.heartbeat())

        await stack.enter_async_context(
            watched(LedgerWatch(server=server, beat=beat, witness=witness, retry_s=grace.retry_s))
        )
        options = WebOptions(origins=tuple(settings.file.web.origins))
        web = WebApplication(server.table, server.surroundings, server.readiness, options)
        yield Gateway(server=server, web=web, policy_hash=parts.policy.hash, boot=book.boot, tls=parts.tls)


def _account_costs(server: GatewayServer, book: Bookkeeping) -> None:
    from gateway.terms.costs import MeasuredStages, Meter  # noqa: PLC0415 - only who measures needs it

    meter = Meter(processor=SystemProcessorClock(), commits=lambda: book.ledger.commits)
    server.account(partial(MeasuredStages, meter=meter))


def _bounds(table: StreamsTable) -> Bounds:
    return Bounds(
        window_bytes=table.resume_window_kib * 1024,
        grace_s=float(table.resume_s),
        streams_max=table.resumable_max,
    )


@dataclass(slots=True, kw_only=True)
class Ending:
    """The last seconds, counted from the moment in which they begin."""

    grace: Grace
    witness: Witness
    _began: float | None = None

    async def drain(self, server: GatewayServer) -> None:
        """Take no more calls and let the running ones end."""
        self.witness.tell("server.draining", {"running": server.running})
        try:
            async with asyncio.timeout_at(self._at(self.grace.drained_s)):
                await server.drain(self.grace.drain_s)
        except TimeoutError:
            self.witness.tell("server.drain_cut", {"running": server.running})

    async def await_effects(self, effects: EffectTasks) -> None:
        """Let what was sent come to its outcome. What does not in time is cut, and the ledger records it as lost."""
        running = effects.running
        try:
            async with asyncio.timeout_at(self._at(self.grace.effects_s)):
                # Never with the error that ends this life: a task group would cut its effects for it.
                await effects.__aexit__(None, None, None)
        except TimeoutError:
            self.witness.tell("effects.abandoned", {"running": running})

    def _at(self, seconds: float) -> float:
        now = asyncio.get_running_loop().time()
        self._began = now if self._began is None else self._began
        return self._began + seconds


@asynccontextmanager
async def _awaited(ending: Ending) -> AsyncIterator[EffectTasks]:
    effects = await EffectTasks().__aenter__()
    try:
        yield effects
    finally:
        await ending.await_effects(effects)


@asynccontextmanager
async def _recovering(recovery: Recovery) -> AsyncIterator[None]:
    """The recovery goes on until the calls have ended, however they end; what it found out by then, effects record."""
    group = await asyncio.TaskGroup().__aenter__()
    task = group.create_task(recovery.run())
    try:
        yield
    finally:
        task.cancel()
        await group.__aexit__(None, None, None)


@asynccontextmanager
async def _summed(settings: Settings, parts: Parts, book: Bookkeeping) -> AsyncIterator[Denials]:
    """The count of refusals; what of it is not on record at the end is put there."""
    denials = Denials(parts.clock, settings.file.quotas.refusals_per_minute)
    try:
        yield denials
    finally:
        for denied in denials.rest():
            await book.ledger.note(book.records.denied(denied))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Google:
    """The connections to Google, its keys, and the gateway's own access token where there are models to ask with it."""

    session: aiohttp.ClientSession
    keys: Jwks
    token: CachedToken | None


@asynccontextmanager
async def _google(settings: Settings, parts: Parts) -> AsyncIterator[_Google]:
    """Connections without a limit of their own: they are bounded by the calls that run."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        keys = Jwks(JwksConfig(url=settings.file.identity.certs_url), parts.clock, session)
        yield _Google(session=session, keys=keys, token=_token(settings, parts, session))


def _token(settings: Settings, parts: Parts, session: aiohttp.ClientSession) -> CachedToken | None:
    vertex = settings.file.vertex
    if vertex is None:
        return None
    if vertex.credentials == "application-default":
        return CachedToken(application_default_fetch(parts.clock), parts.clock)
    return CachedToken(metadata_fetch(session, settings.environment.metadata_host, parts.clock), parts.clock)


def _models(settings: Settings, parts: Parts, google: _Google) -> ModelCatalogue:
    return catalogue(settings.file.models, upstreams(settings, google.session, google.token), parts.clock)


def _identity(settings: Settings, parts: Parts, google: _Google) -> GoogleIdentity:
    config = GoogleIdentityConfig(
        expected=Expected(audience=settings.file.identity.audience),
        edge_enforced=settings.environment.edge_enforced,
    )
    return GoogleIdentity(config, google.keys, parts.registry, parts.clock)


async def _warmed(google: _Google, witness: Witness, limit_s: float) -> None:
    """Fetch keys and token ahead of the first caller, at the same time."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_tried("keys.fetch_failed", google.keys.warm(), witness, limit_s))
        if google.token is not None:
            group.create_task(_tried("token.fetch_failed", google.token.token(), witness, limit_s))


async def _tried(event: str, fetching: Awaitable[object], witness: Witness, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await fetching
    except (KeysUnavailableError, UpstreamError, TimeoutError) as error:
        witness.tell(event, {"error": str(error) or f"nothing came within {limit_s} s"})
