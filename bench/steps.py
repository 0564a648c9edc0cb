"""`just bench steps`: how many steps of the interpreter a governed order takes, and where.

A step is one bytecode instruction of Python, in any thread of the gateway. Their number hardly depends on the machine
or on what else it does, so two commits can be compared where times are too noisy; what C does in a step (SQLite, Cedar,
a sync to disk) is not in it. One caller, so that commits are shared by nobody.
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
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.act import place_governed
from bench.rig import AMPLE, Report, arguments, rig
from localcloud.postgres import NoPostgresError, postgres

COUNTING = Path(__file__).resolve().parent / "counting"
ROOT = str(COUNTING.parents[1]) + "/"
LIBRARIES = (sysconfig.get_path("platlib") + "/", sysconfig.get_path("stdlib") + "/")
WARM = 40
WRITTEN_S = 10.0

Line = tuple[str, str, int, int]
"""File, function, its calls, its steps."""


async def counted(orders: int, url: str | None) -> list[Line]:
    """What the gateway did for these orders."""
    with tempfile.TemporaryDirectory(prefix="gateway-steps-") as folder:
        told = Path(folder) / "steps.json"
        environment = [("PYTHONPATH", str(COUNTING)), ("BENCH_STEPS", str(told))]
        if url is not None:
            environment.append(("GATEWAY_DATABASE_URL", url))
        async with rig(replace(AMPLE, gateway_environment=tuple(environment))) as (town, client):
            for place in range(WARM):
                await place_governed(client, f"warm-{place}", place)
            os.kill(town.gateway.process.pid, signal.SIGUSR1)
            for place in range(orders):
                await place_governed(client, f"counted-{place}", place)
            os.kill(town.gateway.process.pid, signal.SIGUSR2)
            await asyncio.to_thread(_wait_for, told)
        return [(_short(file), function, calls, steps) for file, function, calls, steps in json.loads(told.read_text())]


def _wait_for(file: Path) -> None:
    until = time.monotonic() + WRITTEN_S
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"the gateway told no steps within {WRITTEN_S:g} s")
        time.sleep(0.05)


def tell(report: Report, lines: Iterable[Line], asked: Namespace, ledger: str) -> None:
    """Print where the steps are, and keep the sums."""
    found = sorted(lines, key=lambda line: -line[3])
    steps, calls = sum(line[3] for line in found), sum(line[2] for line in found)
    by_part: Counter[str] = Counter()
    for file, _, _, of_it in found:
        by_part[_part(file)] += of_it
    print(f"{ledger}: {steps / asked.orders:,.0f} steps in {calls / asked.orders:,.0f} calls of functions for an order")
    for part, of_it in by_part.most_common(asked.top // 2):
        print(f"{of_it / asked.orders:10,.0f}  {of_it / steps:6.1%}  {part}")
    print(f"{'steps':>10}  {'calls':>6}  function")
    for file, function, called, of_it in found[: asked.top]:
        print(f"{of_it / asked.orders:10,.0f}  {called / asked.orders:6.1f}  {file}:{function}")
    print()
    report.figures[f"steps_per_order_{ledger}"] = round(steps / asked.orders)
    report.figures[f"calls_of_functions_per_order_{ledger}"] = round(calls / asked.orders)
    for part, of_it in by_part.most_common(asked.top // 2):
        report.figures[f"steps_{part.replace('/', '_').removesuffix('.py')}_{ledger}"] = round(of_it / asked.orders)


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
    parser.add_argument("--top", type=int, default=30, help="how many functions to name")
    parser.add_argument("--ledger", choices=("sqlite", "postgres", "both"), default="both")
    asked = parser.parse_args()
    report = Report(bench="steps")
    if asked.ledger != "postgres":
        tell(report, asyncio.run(counted(asked.orders, None)), asked, "sqlite")
    if asked.ledger != "sqlite":
        try:
            with postgres() as database:
                tell(report, asyncio.run(counted(asked.orders, database.url())), asked, "postgres")
        except NoPostgresError as error:
            report.failures.append(str(error))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
