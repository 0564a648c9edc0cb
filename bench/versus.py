"""`just bench versus --base COMMIT`: the governed orders of this tree and of another commit, in turn on one machine.

Other guests of a shared machine change what a call costs by a factor of two within an hour, so figures of two runs
tell nothing. Here both gateways stand side by side, each in a town of its own, and take slices of calls in turn; what
counts is the median of the ratios.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

GIT: Final = shutil.which("git") or "git"
ROOT: Final = Path(__file__).resolve().parents[1]
HEADING: Final = ("cpu_us_per_call", "database_cpu_us_per_call", "calls_per_s", "p50_ms")
"""What a slice of calls tells: of the gateway, of the database, of the callers."""

WARM: Final = 100
UNCOUNTED: Final = 2
"""Slices before the first that counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A gateway that waits for slices of calls."""

    name: str
    process: subprocess.Popen[str]

    def slice(self, calls: int, callers: int) -> tuple[float, ...]:
        """The figures of `HEADING`. Raises RuntimeError when it has ended."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("a side speaks over pipes")
        self.process.stdin.write(f"{calls} {callers}\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline().split()
        if len(told) != len(HEADING):
            raise RuntimeError(f"{self.name} has ended: run `python bench/versus.py --side` in its tree")
        return tuple(map(float, told))


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A tree of that commit. Raises CalledProcessError for one that git does not know."""
    with tempfile.TemporaryDirectory(prefix="gateway-versus-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run([GIT, "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run([GIT, "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


@contextmanager
def side(name: str, tree: Path, ledger: str) -> Iterator[Side]:
    """A gateway of that tree, warm."""
    command = [sys.executable, __file__, "--side", "--ledger", ledger]
    with subprocess.Popen(
        command,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name} did not start")
        yield Side(name=name, process=process)


def compared(asked: Namespace) -> int:
    """Print both sides, and the ratios as the closing line."""
    from bench.rig import Report  # noqa: PLC0415 - not of the tree that a side stands in

    report = Report(bench="versus")
    with (
        checked_out(asked.base) as tree,
        side("base", tree, asked.ledger) as base,
        side("this", ROOT, asked.ledger) as this,
    ):
        rounds = [
            (base.slice(asked.calls, asked.callers), this.slice(asked.calls, asked.callers))
            for _ in range(UNCOUNTED + asked.rounds)
        ][UNCOUNTED:]
    for place, name in enumerate(HEADING):
        if rounds[0][0][place] == 0:
            continue  # there is no database
        for which, one in enumerate(("base", "this")):
            report.figure(f"{one}_{name}", (pair[which][place] for pair in rounds))
        report.figure(f"ratio_{name}", (pair[1][place] / pair[0][place] for pair in rounds))
    return report.close(asked)


async def stand(ledger: str) -> None:
    """Be a side: a town, and a slice of orders for each line of the input."""
    from bench.rig import AMPLE, pin_tree, rig  # noqa: PLC0415 - of the tree that this side stands in
    from localcloud.postgres import postgres  # noqa: PLC0415

    if ledger == "sqlite":
        async with rig(AMPLE) as (town, client):
            await _slices(client, town.gateway.process.pid, None)
        return
    with postgres() as database:
        pin_tree(database.pid)
        plan = replace(AMPLE, gateway_environment=(("GATEWAY_DATABASE_URL", database.url()),))
        async with rig(plan) as (town, client):
            await _slices(client, town.gateway.process.pid, database.pid)


async def _slices(client: object, gateway: int, database: int | None) -> None:
    from bench.act import place_governed  # noqa: PLC0415
    from bench.rig import processor_s, tree_cpu_s  # noqa: PLC0415

    def used() -> tuple[float, float]:
        return processor_s(gateway), 0.0 if database is None else tree_cpu_s(database)

    for place in range(WARM):
        await place_governed(client, f"warm-{place}", place)  # type: ignore[arg-type]  # of whichever tree
    print("ready", flush=True)
    number = 0
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        calls, callers = map(int, line.split())
        number += 1
        keys = iter(range(calls))
        spent: list[float] = []

        async def caller(number: int = number, keys: Iterator[int] = keys, spent: list[float] = spent) -> None:
            for place in keys:
                milliseconds, _ = await place_governed(client, f"{number}-{place}", place)  # type: ignore[arg-type]
                spent.append(milliseconds)

        before, start = used(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        took, after = time.perf_counter() - start, used()
        costs = [(end - begin) / calls * 1e6 for begin, end in zip(before, after, strict=True)]
        print(*costs, calls / took, median(spent), flush=True)


def main() -> int:
    """Compare, or be one side."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--base", default="HEAD", help="the commit to compare this tree with (its uncommitted changes too)"
    )
    parser.add_argument("--rounds", type=int, default=12, help="pairs of slices of which the median is taken")
    parser.add_argument("--calls", type=int, default=200, help="governed orders of each slice")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", type=Path, help="write the closing line here too")
    parser.add_argument("--side", action="store_true", help="be one side: a line `CALLS CALLERS` for each slice")
    asked = parser.parse_args()
    if asked.side:
        sys.path.insert(0, str(Path.cwd()))
        asyncio.run(stand(asked.ledger))
        return 0
    return compared(asked)


if __name__ == "__main__":
    raise SystemExit(main())
