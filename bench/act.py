"""`just bench act`: what governance adds to a tool call, and how many governed calls a second there are.

Everything is on: token, schema, Cedar, limits, budgets, two durable commits. Orders are placed at the paper exchange,
through the gateway and directly, in turn; the difference is the gateway's. The ledger is a SQLite file, and then a
PostgreSQL server of this benchmark's own, with fsync on.
"""

import asyncio
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import aiohttp
import asyncpg

from agent.client.contract import OperationState
from agent.client.gateway import CallReport, GatewayClient
from bench.costs import MEASURED, Costs, emptied, tell
from bench.rig import AMPLE, Report, arguments, cpu_s, pin_tree, quantile, rig, tree_cpu_s
from localcloud.demo.scene import stages_ms
from localcloud.demo.town import Town
from localcloud.postgres import NoPostgresError, PostgresServer, postgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of this benchmark: how much of it, and against what."""

    report: Report
    town: Town
    client: GatewayClient
    session: aiohttp.ClientSession
    rounds: int
    ledger: str
    database: PostgresServer | None

    def name(self, figure: str) -> str:
        """SQLite's figures have the plain names."""
        return figure if self.ledger == "sqlite" else f"{figure}_{self.ledger}"

    async def latency(self, pairs: int) -> None:
        """One caller, governed and direct in turn."""
        p50: list[float] = []
        p99: list[float] = []
        stages: dict[str, list[float]] = {}
        for number in range(self.rounds):
            governed, direct = [], []
            for place in range(pairs):
                spent, timing = await place_governed(self.client, f"lat-{number}-{place}", place)
                governed.append(spent)
                direct.append(await _direct(self.town, self.session, place))
                for name, stage in stages_ms(timing).items():
                    stages.setdefault(name, []).append(stage)
            own = quantile(direct, 0.5)
            p50.append(quantile(governed, 0.5) - own)
            p99.append(quantile(governed, 0.99) - own)
            self.report.samples[self.name(f"governed_ms_round_{number}")] = governed
            self.report.samples[self.name(f"direct_ms_round_{number}")] = direct
        self.report.figure(self.name("governed_minus_direct_p50_ms"), p50)
        self.report.figure(self.name("governed_minus_direct_p99_ms"), p99)
        self._tell_stages("stage", stages)

    async def throughput(self, calls: int, callers: int) -> None:
        """Many callers at once."""
        rates, costs, database, commits = [], [], [], []
        spent: list[float] = []
        stages: dict[str, list[float]] = {}
        for number in range(self.rounds):
            keys = iter([(f"thr-{number}-{place}", place) for place in range(calls)])
            used, start = cpu_s(self.town.gateway), time.perf_counter()
            served, committed = self._database_cpu_s(), await self._commits()
            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(self._caller(keys, spent, stages))
            rates.append(calls / (time.perf_counter() - start))
            costs.append((cpu_s(self.town.gateway) - used) / calls * 1e6)
            database.append((self._database_cpu_s() - served) / calls * 1e6)
            commits.append((await self._commits() - committed) / calls)
        self.report.figure(f"calls_per_s_{callers}_callers_{self.ledger}", rates, 0)
        self.report.figure(self.name("gateway_cpu_us_per_call"), costs, 0)
        if self.database is not None:
            self.report.figure("database_cpu_us_per_call", database, 0)
            self.report.figure("database_commits_per_call", commits)
        for share, quarter in (("p50", 0.5), ("p99", 0.99)):
            self.report.figures[self.name(f"call_{share}_ms_{callers}_callers")] = round(quantile(spent, quarter), 3)
        self._tell_stages(f"stage_{callers}_callers", stages)

    async def _caller(
        self, keys: Iterator[tuple[str, int]], spent: list[float], stages: dict[str, list[float]]
    ) -> None:
        for key, place in keys:
            took, timing = await place_governed(self.client, key, place)
            spent.append(took)
            for name, stage in stages_ms(timing).items():
                stages.setdefault(name, []).append(stage)

    def _tell_stages(self, prefix: str, stages: dict[str, list[float]]) -> None:
        for name, samples in stages.items():
            self.report.figures[self.name(f"{prefix}_{name}_p50_ms")] = round(quantile(samples, 0.5), 3)
            if name in {"admit", "settle"}:
                self.report.figures[self.name(f"{prefix}_{name}_p99_ms")] = round(quantile(samples, 0.99), 3)

    def _database_cpu_s(self) -> float:
        """Of all of its processes; one that ended is counted with its parent's children."""
        return 0.0 if self.database is None else tree_cpu_s(self.database.pid)

    async def _commits(self) -> int:
        if self.database is None:
            return 0
        connection = await asyncpg.connect(self.database.url())
        try:
            return int(await connection.fetchval("SELECT max(batch) FROM boots"))
        finally:
            await connection.close()


async def measured(report: Report, asked: Namespace, ledger: str, database: PostgresServer | None) -> None:
    """Fill the report with the figures of one ledger."""
    told = () if database is None else (("GATEWAY_DATABASE_URL", database.url()),)
    plain = Costs()
    async with rig(replace(AMPLE, gateway_environment=told)) as (town, client), aiohttp.ClientSession() as session:
        run = Run(
            report=report,
            town=town,
            client=client,
            session=session,
            rounds=asked.rounds,
            ledger=ledger,
            database=database,
        )
        for place in range(50):
            await place_governed(client, f"warm-{place}", place)
            await _direct(town, session, place)
        await run.latency(asked.pairs)
        await plain.take(partial(place_governed, client), range(asked.rounds * asked.pairs), town.gateway, database)
        await run.throughput(asked.calls, asked.callers)
    suffix = "" if ledger == "sqlite" else f"_{ledger}"
    report.bound(f"governed_minus_direct_p50_ms{suffix}", "<=", 3)
    report.bound(f"governed_minus_direct_p99_ms{suffix}", "<=", 8)
    if asked.callers == 64:
        report.bound(f"calls_per_s_64_callers_{ledger}", ">=", 800 if ledger == "sqlite" else 500)
    costs = await costed(asked, database)
    print(tell(report, costs, plain, ledger), end="\n\n")


async def costed(asked: Namespace, database: PostgresServer | None) -> Costs:
    """What the stages cost, at a gateway and a ledger of their own."""
    told = [MEASURED]
    if database is not None:
        told.append(("GATEWAY_DATABASE_URL", await emptied(database, "costs")))
    costs = Costs()
    async with rig(replace(AMPLE, gateway_environment=tuple(told))) as (town, client):
        call = partial(place_governed, client)
        for place in range(50):
            await call(f"warm-{place}", place)
        await costs.take(call, range(asked.rounds * asked.pairs), town.gateway, database)
    return costs


async def place_governed(client: GatewayClient, key: str, place: int) -> tuple[float, str]:
    """One order; every second one sells what the one before bought. Milliseconds, and the stages."""
    side = "sell" if place % 2 else "buy"
    order = {"symbol": "AAPL", "side": side, "type": "market", "quantity": _shares(place), "time_in_force": "day"}
    report, start = CallReport(), time.perf_counter()
    operation = await client.execute_tool("place_order", order, key=key, report=report)
    spent = (time.perf_counter() - start) * 1000
    if operation.state is not OperationState.SUCCEEDED:
        # Buys and sells of racing callers may cross: the venue's definite no is a governed call too, any other is not.
        reason = operation.error.reason if operation.error else ""
        if operation.state is not OperationState.FAILED or not reason.startswith("venue."):
            raise RuntimeError(f"{key}: {operation.state} {reason}")
    return spent, report.metadata.get("gateway-timing", "")


def _shares(place: int) -> str:
    """A purchase and the sale after it are of one size, and orders that follow closely are no duplicates."""
    return str(1 + place // 2 % 40)


async def _direct(town: Town, session: aiohttp.ClientSession, place: int) -> float:
    """The same order straight at the exchange, with the same requests that the gateway makes."""
    keys = {"APCA-API-KEY-ID": town.exchange_key_id, "APCA-API-SECRET-KEY": town.exchange_secret}
    side = "sell" if place % 2 else "buy"
    order = {"symbol": "AAPL", "qty": _shares(place), "side": side, "type": "market", "time_in_force": "day"}
    url, start = town.exchange.told("url"), time.perf_counter()
    asked = ["/v2/stocks/AAPL/quotes/latest", *(["/v2/positions/AAPL"] if side == "sell" else [])]
    await asyncio.gather(*(_read(session, url + path, keys) for path in asked))
    async with session.post(f"{url}/v2/orders", json=order, headers=keys) as reply:
        await reply.read()
        if reply.status != 200:
            raise RuntimeError(f"the exchange said {reply.status}")
    return (time.perf_counter() - start) * 1000


async def _read(session: aiohttp.ClientSession, url: str, keys: dict[str, str]) -> None:
    async with session.get(url, headers=keys) as reply:
        await reply.read()


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="governed and direct orders of each round")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each throughput round")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--ledger", choices=("sqlite", "postgres", "both"), default="both")
    asked = parser.parse_args()
    report = Report(bench="act")
    report.figures["load_before"] = round(os.getloadavg()[0], 2)
    if asked.ledger != "postgres":
        asyncio.run(measured(report, asked, "sqlite", None))
    if asked.ledger != "sqlite":
        try:
            with postgres() as database:
                pin_tree(database.pid)
                asyncio.run(measured(report, asked, "postgres", database))
        except NoPostgresError as error:
            report.failures.append(str(error))
    report.figures["load_after"] = round(os.getloadavg()[0], 2)
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
