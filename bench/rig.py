"""What every benchmark shares: a pinned town, the processor time of a process, quantiles, and the closing line."""

import json
import os
import platform
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from localcloud.demo.processes import Running
from localcloud.demo.town import AUDIENCE, Plan, Town, built

RESULTS = Path(__file__).resolve().parent / "results"
AMPLE = Plan(
    with_agent=False,
    with_door=False,
    cash_usd=900_000_000,
    shares=1_000_000,
    exposure_usd_max="900000000",
    more_limits=(
        'position_max = "900000000"',
        "messages_per_minute = 60000000",
        "message_burst = 60000000",
        "duplicate_window_ms = 5",
        "repeats_max = 1000",
        "repeats_window_ms = 5",
        "barrier_gamma_bps = 9999",
    ),
    notional_usd_day="900000000",
    cost_usd_month="9000000",
    cost_usd_day="9000000",
    tokens_hour="9000000000",
    calls_hour="9000000",
    calls_run="9000000",
)
"""Budgets that no benchmark reaches; all of them are counted all the same."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The figures of one benchmark and the bounds they must keep."""

    bench: str
    figures: dict[str, float] = field(default_factory=dict)
    must: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def figure(self, name: str, rounds: Iterable[float], digits: int = 3) -> None:
        """The median over the rounds; the rounds are kept."""
        values = list(rounds)
        self.samples[name] = values
        self.figures[name] = round(median(values), digits)

    def bound(self, name: str, rule: str, limit: float) -> None:
        """A figure must keep a bound: rule is `<=` or `>=`."""
        self.must[name] = f"{rule} {limit:g}"
        value = self.figures[name]
        if not (value <= limit if rule == "<=" else value >= limit):
            self.failures.append(f"{name} is {value:g}, must be {rule} {limit:g}")

    def close(self, arguments: Namespace) -> int:
        """Keep the samples, print the table and the closing JSON line. 1 if a bound was missed or a call failed."""
        for name, value in self.figures.items():
            print(f"{name:<44}{value:>14g}   {self.must.get(name, '')}")
        for failure in self.failures:
            print(f"MISSED: {failure}")
        told = {
            "bench": self.bench,
            "figures": self.figures,
            "must": self.must,
            "ok": not self.failures,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        samples = {name: [round(value, 4) for value in values] for name, values in self.samples.items()}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.bench}.raw.json").write_text(json.dumps(told | {"samples": samples}) + "\n")
        line = json.dumps(told)
        if arguments.json:
            arguments.json.write_text(line + "\n")
        print(line)
        return 1 if self.failures else 0


def arguments(description: str) -> ArgumentParser:
    """The arguments that every benchmark takes."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median is taken")
    parser.add_argument("--json", type=Path, help="write the closing line here too")
    return parser


@asynccontextmanager
async def rig(plan: Plan) -> AsyncIterator[tuple[Town, GatewayClient]]:
    """A town with the gateway alone on the first processor and everything else on the others, and a client."""
    processors = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        async with built(Path(folder), plan) as town:
            _pin(town)
            try:
                async with (
                    MetadataTokens(town.metadata("agent")) as tokens,
                    GatewayClient(
                        town.gateway_url, tokens, audience=AUDIENCE, connections=8, patience=Patience(attempts=1)
                    ) as client,
                ):
                    yield town, client
            finally:
                # Else a second rig of the same process would find one processor only.
                os.sched_setaffinity(0, processors)


def _pin(town: Town) -> None:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        print("only one processor: the gateway shares it with everything else", file=sys.stderr)
        return
    os.sched_setaffinity(town.gateway.process.pid, processors[:1])
    for thread in Path(f"/proc/{town.gateway.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors[:1])
    for running in (town.google, town.exchange, town.vertex):
        os.sched_setaffinity(running.process.pid, processors[1:])
    os.sched_setaffinity(0, processors[1:])


def cpu_s(running: Running) -> float:
    """Processor seconds that a process has used, in user and system mode, all of its threads together."""
    return processor_s(running.process.pid)


def tree_cpu_s(pid: int) -> float:
    """Processor seconds of a process, of its children, and of those children that have ended."""
    used = 0.0
    for one in (pid, *_children(pid)):
        try:
            used += processor_s(one)
        except OSError:  # it ended meanwhile: its parent counts it from now on
            continue
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return used + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def processor_s(pid: int) -> float:
    """By the clock that Linux keeps of each process, to the nanosecond (clock_getcpuclockid(3)); proc(5) has ticks."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def pin_tree(pid: int) -> None:
    """Keep a process, and what it will start, from the first processor, where the gateway is alone."""
    processors = sorted(os.sched_getaffinity(0))
    for one in (pid, *_children(pid)):
        os.sched_setaffinity(one, processors[1:] or processors)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mb(running: Running) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(samples: list[float], share: float) -> float:
    """The smallest sample that so large a share of the samples does not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
