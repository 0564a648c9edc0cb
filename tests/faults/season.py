"""One season: an issuer, an exchange behind a relay, a ledger, and a gateway that lives and dies among them."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from fault_settings import AGENT_EMAIL, AUDIENCE, GATEWAY_EMAIL, Written
from plans import Life
from relay import CommitRelay, Relay

from agent.client.contract import OperationState
from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from localcloud.demo.processes import ProcessError, Processes, Running
from localcloud.postgres import postgres

DOOMED = Path(__file__).resolve().parent / "doomed.py"
ROOT = DOOMED.parent.parent.parent
PEACE_S = 150.0
"""Longer than the leases of what a killed instance ran and of what it looked for."""
FINAL = (OperationState.SUCCEEDED, OperationState.FAILED)
_SIDES = ("buy", "buy", "buy", "sell")


@dataclass(slots=True)
class Told:
    """What became of one order, as its caller sees it."""

    arguments: dict[str, str]
    state: OperationState | None = None
    refused: bool = False
    """The last answer was a refusal before anything was sent."""
    changed: list[str] = field(default_factory=list)
    """Definite answers that were different from the one before: there must be none."""

    def hear(self, state: OperationState) -> None:
        """An answer."""
        if self.state in FINAL and state is not self.state:
            self.changed.append(f"{self.state} became {state}")
        self.state, self.refused = state, False

    @property
    def open(self) -> bool:
        """Whether there is no definite answer yet."""
        return self.state not in FINAL


@dataclass
class Season:
    """What a season keeps."""

    folder: Path
    written: Written
    processes: Processes
    relay: Relay
    exchange: Running
    session: aiohttp.ClientSession
    tokens: MetadataTokens
    environment: dict[str, str]
    port: int
    order_key: bytes
    database: CommitRelay | None = None
    database_url: str = ""
    """The database itself, past the relay."""
    told: dict[str, Told] = field(default_factory=dict)
    gateway: Running | None = None

    @property
    def url(self) -> str:
        """Where the gateway listens in every life."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, if it lives."""
        if self.gateway is not None and self.gateway.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.gateway.process.send_signal(signal.SIGKILL)

    async def live(self, life: Life) -> bool:
        """One life; whether it ended where it was planned to."""
        await self._venue_fails(life)
        self.relay.arm(life.venue_strike())
        if self.database is not None:
            self.database.arm(life.database_strike())
        if not await self._born(life.commit):
            return True  # it was killed at a commit of its start
        fresh = {f"life-{life.number}-{place}": Told(_order(life, place)) for place in range(life.orders)}
        self.told |= fresh
        async with asyncio.TaskGroup() as group:
            load = group.create_task(self._load([key for key, told in self.told.items() if told.open]))
            if life.end == "any":
                await asyncio.sleep(life.after_s)
                self.kill()
            await load
        reached = self.gateway is not None and await self._dead_within(0.05)
        self.kill()
        await self._bury()
        return reached or life.end == "idle"

    async def peace(self) -> None:
        """A last life without any fault, until every order has its definite answer. TimeoutError if one never has."""
        await self._clear_faults()
        self.relay.arm(None)
        if self.database is not None:
            self.database.arm(None)
        if not await self._born(""):
            raise ProcessError("the last gateway does not start")
        with contextlib.suppress(TimeoutError):
            # What has no answer by then is told as a problem, by name.
            await self._ask_until_definite()
        if self.gateway is not None:
            await self.processes.stop(self.gateway)
            self.gateway = None

    async def _ask_until_definite(self) -> None:
        async with asyncio.timeout(PEACE_S):
            while pending := [key for key, told in self.told.items() if told.open and not told.refused]:
                await self._load(pending)
                await asyncio.sleep(0.05)
            # And once more, those that have an answer: it must be the same.
            await self._load([key for key, told in self.told.items() if not told.refused])

    async def _born(self, commit: str) -> bool:
        environment = {**self.environment, "FAULT_COMMIT": commit, "PORT": str(self.port)}
        arguments = [str(DOOMED), "serve", "--config", str(self.written.folder / "gateway.toml")]
        try:
            self.gateway = await self.processes.start("gateway", arguments, environment)
        except ProcessError:
            if f"({-signal.SIGKILL})" in str(sys.exception()):
                return False
            raise
        return True

    async def _load(self, keys: list[str]) -> None:
        """Send or repeat orders, all at once; what cannot be answered stays open."""
        patience = Patience(attempts=1, timeout_s=20.0)
        async with (
            GatewayClient(self.url, self.tokens, audience=AUDIENCE, patience=patience) as client,
            asyncio.TaskGroup() as group,
        ):
            for key in keys:
                group.create_task(self._call(client, key))

    async def _call(self, client: GatewayClient, key: str) -> None:
        told = self.told[key]
        try:
            operation = await client.execute_tool("place_order", told.arguments, key=key)
        except GatewayError as error:
            told.refused = not error.effect_unknown and not error.passing and told.state is None
            if told.state in FINAL and not error.passing and not error.effect_unknown:
                told.changed.append(f"{told.state} became the refusal {error.reason}")
            return
        told.hear(operation.state)

    async def _dead_within(self, seconds: float) -> bool:
        if self.gateway is None:
            return True
        try:
            await asyncio.wait_for(self.gateway.process.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _bury(self) -> None:
        if self.gateway is not None:
            await self.processes.stop(self.gateway, signal.SIGKILL)
            self.gateway = None

    async def _venue_fails(self, life: Life) -> None:
        await self._clear_faults()
        if life.venue:
            async with self.session.post(self._admin("/admin/faults"), json=list(life.venue)) as reply:
                if reply.status != 200:
                    raise RuntimeError(await reply.text())

    async def _clear_faults(self) -> None:
        async with self.session.delete(self._admin("/admin/faults")):
            pass

    async def orders(self) -> list[dict[str, object]]:
        """Every order of the exchange."""
        async with self.session.get(self._admin("/admin/orders")) as reply:
            shown = await reply.json()
        return list(shown["orders"])

    def _admin(self, path: str) -> str:
        return self.exchange.told("admin_url") + path


@asynccontextmanager
async def seasons_on(ledger: str, folder: Path) -> AsyncIterator[Season]:
    """A season on this kind of ledger: `sqlite` or `postgres`."""
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes(folder, _environment()))
        identities = ["--identity", f"gateway={GATEWAY_EMAIL}", "--identity", f"agent={AGENT_EMAIL}"]
        google = await processes.start("google", ["-m", "localcloud.google", *identities, "--project", "p"])
        key_id, secret = "PK" + secrets.token_hex(8).upper(), secrets.token_urlsafe(24)
        exchange = await processes.start(
            "exchange", ["-m", "localcloud.exchange", "--account", f"{key_id}:{secret}:900000000:1000"]
        )
        relay = Relay("127.0.0.1", int(exchange.told("url").rpartition(":")[2]), lambda: season.kill())  # noqa: PLW0108 - it is made below
        await relay.start()
        stack.push_async_callback(relay.stop)
        written = Written(
            folder=folder,
            certs_url=google.told("certs_url"),
            venue_url=f"http://127.0.0.1:{relay.listening}",
            venue="acceptance_s = 1",
        )
        written.write()
        metadata = google.ready["metadata"]
        if not isinstance(metadata, dict):
            raise TypeError("the issuer has no metadata servers")
        order_key = secrets.token_hex(32)
        season = Season(
            folder=folder,
            written=written,
            processes=processes,
            relay=relay,
            exchange=exchange,
            session=await stack.enter_async_context(aiohttp.ClientSession()),
            tokens=await stack.enter_async_context(MetadataTokens(metadata["agent"])),
            environment={
                "GATEWAY_HOST": "127.0.0.1",
                "GCE_METADATA_HOST": metadata["gateway"],
                "EXCHANGE_KEY_ID": key_id,
                "EXCHANGE_SECRET_KEY": secret,
                "EXCHANGE_ORDER_KEY": order_key,
            },
            port=_free_port(),
            order_key=order_key.encode(),
        )
        if ledger == "postgres":
            await _with_database(season, stack)
        yield season
        season.kill()


async def _with_database(season: Season, stack: AsyncExitStack) -> None:
    """Keep the ledger in a PostgreSQL of this season, behind a relay."""
    server = stack.enter_context(postgres())
    relay = CommitRelay("127.0.0.1", server.port, season.kill)
    await relay.start()
    stack.push_async_callback(relay.stop)
    season.database, season.database_url = relay, server.url()
    season.environment["GATEWAY_DATABASE_URL"] = server.url().replace(f":{server.port}/", f":{relay.listening}/")


def _order(life: Life, place: int) -> dict[str, str]:
    """Small market orders; every fourth sells."""
    return {
        "symbol": "AAPL",
        "side": _SIDES[(life.number + place) % len(_SIDES)],
        "type": "market",
        "quantity": "1",
        "time_in_force": "day",
    }


def _free_port() -> int:
    """A port that is free now; every life listens on it, so that callers find the next one where the last one was."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    reaching = ("GOOGLE_", "GCE_", "GATEWAY_", "AGENT_", "K_", "PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(reaching)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
