"""`just bench wire`: what a call costs the gateway's processor on the wire alone, beside grpcio.aio and stock grpclib.

Each server is a process on the first processor, the load is on the second. Every request has its own header values. A
figure is calls or messages per second of the *server's* processor time. The servers take turns within each round, and
the ratios are taken round by round, because the machine is not the same from one second to the next.
"""

import asyncio
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.rig import Report, arguments
from bench.wire_load import KINDS, batch
from bench.wire_servers import MESSAGES

HERE = Path(__file__).resolve()


@dataclass(slots=True, kw_only=True)
class Server:
    """One running server."""

    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Processor seconds of all its threads, in user and system mode, to the nanosecond (proc(5), schedstat)."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


@contextmanager
def serving(name: str, processor: int, *, turns: bool) -> Iterator[Server]:
    """A server process, ended at the end."""
    command = [sys.executable, "-m", "bench.wire_servers", name, str(processor), *(["turns"] if turns else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent.parent)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.strip().isdigit():
            raise RuntimeError(f"{name} did not start")
        yield Server(process=process, port=int(line))
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@dataclass(slots=True, kw_only=True)
class Run:
    """Figures by name, round by round."""

    report: Report
    rates: dict[str, list[float]] = field(default_factory=dict)

    async def measure(self, name: str, server: Server, kind: str, calls: int) -> None:
        """One batch of one kind."""
        streams = kind.endswith("stream")
        made = await batch(server.port, KINDS[kind], calls, in_flight=4 if streams else 16)
        start = server.cpu_s()
        await made.run()
        spent = server.cpu_s() - start
        failed = made.failures()
        if failed:
            self.report.failures.append(f"{name} {kind}: {failed} of {calls} calls failed")
        work = calls * MESSAGES if streams else calls
        self.rates.setdefault(f"{name}_{kind}", []).append(work / spent)

    def ratio(self, figure: str, ours: str, other: str) -> None:
        """How many times as much of one thing as of another, round by round."""
        pairs = zip(self.rates[ours], self.rates[other], strict=True)
        self.report.figure(figure, [one / two for one, two in pairs], 2)


async def measured(report: Report, asked: Namespace) -> None:
    """Fill the report."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[1:] or processors)
    run = Run(report=report)
    with (
        serving("ours", processors[0], turns=False) as ours,
        serving("ours", processors[0], turns=True) as turning,
        serving("grpcio", processors[0], turns=False) as grpcio,
        serving("grpcio", processors[0], turns=True) as grpcio_turning,
        serving("grpclib", processors[0], turns=False) as stock,
    ):
        plan = [
            *(("ours", ours, kind) for kind in KINDS),
            ("ours_turning", turning, "stream"),
            *((name, server, kind) for name, server in (("grpcio", grpcio), ("grpclib", stock)) for kind in _GRPC),
            ("grpcio_turning", grpcio_turning, "stream"),
        ]
        for name, server, kind in plan:
            await Run(report=report).measure(name, server, kind, 64)
        for _ in range(asked.rounds):
            for name, server, kind in plan:
                calls = asked.streams if kind.endswith("stream") else asked.calls
                await run.measure(name, server, kind, calls)
    _conclude(run)


_GRPC = ("unary", "stream")


def _conclude(run: Run) -> None:
    report = run.report
    for name, rates in run.rates.items():
        unit = "messages" if name.endswith("stream") else "calls"
        report.figure(f"{name}_{unit}_per_cpu_s", rates, 0)
    run.ratio("unary_times_grpcio", "ours_unary", "grpcio_unary")
    run.ratio("stream_times_grpcio", "ours_stream", "grpcio_stream")
    run.ratio("stream_turning_times_grpcio", "ours_turning_stream", "grpcio_turning_stream")
    run.ratio("unary_times_grpclib", "ours_unary", "grpclib_unary")
    run.ratio("stream_times_grpclib", "ours_stream", "grpclib_stream")
    run.ratio("connect_unary_times_own_grpc", "ours_connect_unary", "ours_unary")
    run.ratio("connect_stream_times_own_grpc", "ours_connect_stream", "ours_stream")
    report.bound("unary_times_grpcio", ">=", 1.5)
    report.bound("stream_times_grpcio", ">=", 4)
    report.bound("connect_unary_times_own_grpc", ">=", 0.8)
    report.bound("connect_stream_times_own_grpc", ">=", 0.8)


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each unary batch, over 4 connections")
    parser.add_argument("--streams", type=int, default=64, help="calls of each streaming batch, 200 messages each")
    asked = parser.parse_args()
    report = Report(bench="wire")
    asyncio.run(measured(report, asked))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
