"""What each stage of a governed call costs, in a table: processor time and commits, and what no stage accounts for.

One caller, one call after the other, at a gateway that tells of each stage what its whole process used between the
stage's borders (`GATEWAY_TIMING=costs`). The whole is not the sum of what was told but what Linux counted of the
process over all of these calls, so the rest of it (sockets and HTTP/2 before the first stage and after the last, the
loop's own turns, what goes on beside calls) is seen, and not assumed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from bench.rig import Report, cpu_s, quantile, tree_cpu_s
from localcloud.demo.processes import Running
from localcloud.demo.scene import stages_told
from localcloud.postgres import PostgresServer

Call = Callable[[str, int], Awaitable[tuple[float, str]]]
"""Places one order, given its key and its number: milliseconds, and what `gateway-timing` told."""

MEASURED: Final = ("GATEWAY_TIMING", "costs")

_STATISTICS_S: Final = 2.5
"""PostgreSQL's processes tell what they counted when a transaction ends, at most once a second."""

_SYNCS: Final = "SELECT wal_sync FROM pg_stat_wal"
_SYNCS_18: Final = "SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal'"
"""From PostgreSQL 18 on they are counted there."""


@dataclass(slots=True, kw_only=True)
class Costs:
    """What was counted of one ledger's calls."""

    calls: int = 0
    wall_ms: list[float] = field(default_factory=list)
    """Of each call, at its caller."""
    told: list[dict[str, dict[str, float]]] = field(default_factory=list)
    """What the gateway told of each call's stages."""
    process_us: float = 0.0
    """Processor time of the gateway's process, over all calls."""
    database_us: float = 0.0
    """The same of all of the database's processes."""
    syncs: int | None = None
    """Of the write-ahead log, as PostgreSQL counts them; None where nobody counts."""

    async def take(self, call: Call, places: range, gateway: Running, database: PostgresServer | None) -> None:
        """Make the calls of these numbers, one after the other."""
        synced = await _syncs(database)
        used, served = cpu_s(gateway), _database_s(database)
        for place in places:
            spent, timing = await call(f"cost-{place}", place)
            self.wall_ms.append(spent)
            self.told.append(stages_told(timing))
        self.process_us += (cpu_s(gateway) - used) * 1e6
        self.database_us += (_database_s(database) - served) * 1e6
        self.calls += len(places)
        if synced is not None:
            self.syncs = (self.syncs or 0) + (await _syncs(database) or 0) - synced


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stage, or what is none. Microseconds of processor time a call; None where it cannot be known."""

    name: str
    wall_ms: float | None = None
    """Median."""
    cpu_p50_us: float | None = None
    cpu_us: float
    """Mean: only means add up."""
    threads_us: float | None = None
    """Of it, on other threads than the event loop's; mean."""
    commits: float | None = None


def rows(costs: Costs) -> list[Row]:
    """The stages in their order, then what is between them, then the rest of the process, then all of it."""
    names = [name for name in dict.fromkeys(name for one in costs.told for name in one) if name != "between"]
    stages = [_stage(name, [one[name] for one in costs.told if name in one], costs.calls) for name in names]
    stages.append(_stage("between", [one["between"] for one in costs.told], costs.calls))
    whole = costs.process_us / costs.calls
    rest = whole - sum(stage.cpu_us for stage in stages)
    commits = sum(stage.commits or 0.0 for stage in stages)
    return [
        *stages,
        Row(name="rest", cpu_us=rest),
        Row(name="process", wall_ms=quantile(costs.wall_ms, 0.5), cpu_us=whole, commits=commits),
    ]


def _stage(name: str, told: list[dict[str, float]], calls: int) -> Row:
    return Row(
        name=name,
        wall_ms=quantile([one["dur"] for one in told], 0.5),
        cpu_p50_us=quantile([one["cpu"] for one in told], 0.5) * 1e3,
        cpu_us=sum(one["cpu"] for one in told) / calls * 1e3,
        threads_us=sum(one["threads"] for one in told) / calls * 1e3,
        commits=sum(one["commits"] for one in told) / calls,
    )


def tell(report: Report, costs: Costs, plain: Costs, ledger: str) -> str:
    """Put it all into the report, and give it as a table; `plain` are calls at a gateway that was not measured."""
    counted = rows(costs)
    for row in counted:
        stage = row.name if row.name in {"rest", "process"} else f"stage_{row.name}"
        if row.cpu_p50_us is not None:
            report.figures[f"cpu_us_{stage}_{ledger}"] = round(row.cpu_p50_us, 1)
            report.figures[f"cpu_us_mean_{stage}_{ledger}"] = round(row.cpu_us, 1)
        else:
            report.figures[f"cpu_us_{stage}_{ledger}"] = round(row.cpu_us, 1)
        if row.commits:
            report.figures[f"commits_{stage}_{ledger}"] = round(row.commits, 3)
    report.figures[f"cpu_us_process_unmeasured_{ledger}"] = round(plain.process_us / plain.calls, 1)
    if ledger != "sqlite":
        report.figures[f"cpu_us_database_{ledger}"] = round(costs.database_us / costs.calls, 1)
    if costs.syncs is not None:
        report.figures[f"wal_syncs_{ledger}"] = round(costs.syncs / costs.calls, 3)
    # Stages that cost more than the process did would have been counted twice.
    report.bound(f"cpu_us_rest_{ledger}", ">=", 0)
    return "\n".join((*_table(counted, costs, ledger), *_notes(costs, plain)))


def _table(counted: list[Row], costs: Costs, ledger: str) -> list[str]:
    whole = counted[-1].cpu_us
    head = ("stage", "p50 ms", "CPU p50 us", "CPU mean us", "other threads", "commits", "share %")
    lines = [f"{ledger}, one caller, {costs.calls} calls: what a governed call costs the gateway", _line(head)]
    for row in counted:
        figures = (
            _figure(row.wall_ms, 3),
            _figure(row.cpu_p50_us, 0),
            _figure(row.cpu_us, 0),
            _figure(row.threads_us, 0),
            _figure(row.commits, 2),
            _figure(row.cpu_us / whole * 100, 1),
        )
        lines.append(_line((row.name, *figures)))
    return lines


def _notes(costs: Costs, plain: Costs) -> list[str]:
    between = "between: outside of the stages, from the request's headers to the reply's trailers"
    rest = "rest: what the process used besides (sockets, HTTP/2, the loop's turns, work beside calls)"
    measuring = f"process: {plain.process_us / plain.calls:.0f} us a call where it is not measured"
    notes = [between, rest, measuring]
    if costs.syncs is None:
        notes.append("syncs: not counted; SQLite syncs its log in each commit (synchronous=FULL), and at checkpoints")
    else:
        database = f"database: {costs.database_us / costs.calls:.0f} us a call in all of its processes"
        notes.append(f"{database}, {costs.syncs / costs.calls:.2f} syncs of its log")
    return notes


def _line(cells: tuple[str, ...]) -> str:
    return f"{cells[0]:<12}" + "".join(f"{cell:>15}" for cell in cells[1:])


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _database_s(database: PostgresServer | None) -> float:
    return 0.0 if database is None else tree_cpu_s(database.pid)


async def _syncs(database: PostgresServer | None) -> int | None:
    """How often PostgreSQL has synced its log until now."""
    if database is None:
        return None
    await asyncio.sleep(_STATISTICS_S)
    connection = await asyncpg.connect(database.url())
    try:
        newer = connection.get_server_version().major >= 18
        return int(await connection.fetchval(_SYNCS_18 if newer else _SYNCS))
    finally:
        await connection.close()


async def emptied(database: PostgresServer, name: str) -> str:
    """The address of a new database of the server, as new as a new file."""
    connection = await asyncpg.connect(database.url())
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return database.url(name)
