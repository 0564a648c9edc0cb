"""`just bench steps`: how many steps of the interpreter a governed order and a governed stream take, and where.

A step is one bytecode instruction of Python, in any thread of the gateway. Their number hardly depends on the machine
or on what else it does, so two commits can be compared where times are too noisy; what C does in a step (SQLite, Cedar,
a sync to disk) is not in it. Orders come from one caller, so that commits are shared by nobody. Streams are those of
`grow` (64 deltas, as fast as they are taken), at several numbers of them at the same time: `spread` is the most that
one takes over the least.
"""

import asyncio
import json
import os
import signal
import sysconfig
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from agent.client.gateway import GatewayClient
from bench.act import place_governed
from bench.grow import FULL, converse
from bench.rig import AMPLE, Report, arguments, rig
from localcloud.postgres import NoPostgresError, postgres

COUNTING = Path(__file__).resolve().parent / "counting"
ROOT = str(COUNTING.parents[1]) + "/"
LIBRARIES = (sysconfig.get_path("platlib") + "/", sysconfig.get_path("stdlib") + "/")
WARM = 40
STREAMS_LEAST = 48
WRITTEN_S = 10.0

Line = tuple[str, str, int, int]
"""File, function, its calls, its steps."""


async def orders(client: GatewayClient, count: int, name: str) -> None:
    """Purchases and sales in turn, one after the other."""
    for place in range(count):
        await place_governed(client, f"{name}-{place}", place)


async def counted(
    warm: Callable[[GatewayClient], Awaitable[None]], work: Callable[[GatewayClient], Awaitable[None]], url: str | None
) -> list[Line]:
    """What the gateway does for the work, after the warming."""
    with tempfile.TemporaryDirectory(prefix="gateway-steps-") as folder:
        told = Path(folder) / "steps.json"
        environment = [("PYTHONPATH", str(COUNTING)), ("BENCH_STEPS", str(told))]
        if url is not None:
            environment.append(("GATEWAY_DATABASE_URL", url))
        async with rig(replace(AMPLE, gateway_environment=tuple(environment))) as (town, client):
            await warm(client)
            os.kill(town.gateway.process.pid, signal.SIGUSR1)
            await work(client)
            os.kill(town.gateway.process.pid, signal.SIGUSR2)
            await asyncio.to_thread(_wait_for, told)
        return [(_short(file), function, calls, steps) for file, function, calls, steps in json.loads(told.read_text())]


async def of_orders(asked: Namespace, url: str | None) -> list[Line]:
    """Of orders with one ledger."""
    return await counted(
        partial(orders, count=WARM, name="warm"), partial(orders, count=asked.orders, name="counted"), url
    )


async def of_streams(count: int, calls: int) -> list[Line]:
    """Of streams, so many of them at the same time."""
    work = partial(converse, prompt=FULL, count=count, calls=calls)
    return await counted(partial(converse, prompt=FULL, count=1, calls=WARM), work, None)


def _wait_for(file: Path) -> None:
    until = time.monotonic() + WRITTEN_S
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"the gateway told no steps within {WRITTEN_S:g} s")
        time.sleep(0.05)


def tell(report: Report, lines: list[Line], calls: int, top: int, name: str) -> None:
    """Print where the steps are, and keep the sums."""
    found = sorted(lines, key=lambda line: -line[3])
    steps, called = sum(line[3] for line in found), sum(line[2] for line in found)
    by_part: Counter[str] = Counter()
    for file, _, _, of_it in found:
        by_part[_part(file)] += of_it
    print(f"{name}: {steps / calls:,.0f} steps in {called / calls:,.0f} calls of functions")
    for part, of_it in by_part.most_common(top // 2):
        print(f"{of_it / calls:10,.0f}  {of_it / steps:6.1%}  {part}")
    print(f"{'steps':>10}  {'calls':>6}  function")
    for file, function, times, of_it in found[:top]:
        print(f"{of_it / calls:10,.0f}  {times / calls:6.1f}  {file}:{function}")
    print()
    report.figures[f"steps_{name}"] = round(steps / calls)
    report.figures[f"calls_of_functions_{name}"] = round(called / calls)


def _short(file: str) -> str:
    for folder in (*LIBRARIES, ROOT):
        if file.startswith(folder):
            return file.removeprefix(folder)
    return file


def _part(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] == "gateway" else parts[0]


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--streams", default="1,16,64,256", help="numbers of concurrent streams; empty for none")
    parser.add_argument("--top", type=int, default=30, help="how many functions to name")
    parser.add_argument("--ledger", choices=("sqlite", "postgres", "both"), default="both")
    asked = parser.parse_args()
    report = Report(bench="steps")
    if asked.ledger != "postgres":
        tell(report, asyncio.run(of_orders(asked, None)), asked.orders, asked.top, "order_sqlite")
    if asked.ledger != "sqlite":
        try:
            with postgres() as database:
                lines = asyncio.run(of_orders(asked, database.url()))
            tell(report, lines, asked.orders, asked.top, "order_postgres")
        except NoPostgresError as error:
            report.failures.append(str(error))
    levels = [int(count) for count in asked.streams.split(",") if count]
    for count in levels:
        calls = max(STREAMS_LEAST, count)
        tell(report, asyncio.run(of_streams(count, calls)), calls, asked.top, f"stream_of_{count}")
    if levels:
        taken = [report.figures[f"steps_stream_of_{count}"] for count in levels]
        report.figures["spread"] = round(max(taken) / min(taken), 3)
        report.bound("spread", "<=", 1.5)
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
