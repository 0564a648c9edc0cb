"""`just cuts`: callers whose connections are cut at random bytes repeat their calls by key; no effect happens twice.

The cutter stands between the callers and a real gateway process. Every connection lives for a random number of bytes,
both ways together, and is then reset. A call is repeated until it has its definite answer.
"""

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402 - after the path

from agent.client.contract import OperationState  # noqa: E402 - as above
from agent.client.errors import GatewayError  # noqa: E402 - as above
from agent.client.gateway import GatewayClient, Patience  # noqa: E402 - as above
from agent.tokens import MetadataTokens  # noqa: E402 - as above
from bench.rig import AMPLE  # noqa: E402 - as above
from gateway.audit.recount import recount  # noqa: E402 - as above
from gateway.ledger.check import check  # noqa: E402 - as above
from localcloud.demo.town import AUDIENCE, UNHURRIED, Town, built  # noqa: E402 - as above

CALLERS = 32
LIFE_BYTES = (20, 6_000)
"""A connection's life: from within the preface of HTTP/2 to some dozen calls."""
TRIES_MAX = 400


@dataclass(slots=True)
class Cutter:
    """Forwards to one port and resets every connection after a random number of bytes."""

    port: int
    chance: random.Random
    made: int = 0
    cut: int = 0
    _server: asyncio.Server | None = None
    _links: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """The port to connect to."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._links.add(task)
            task.add_done_callback(self._links.discard)
        self.made += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, to = await asyncio.open_connection("127.0.0.1", self.port)
            left = [self.chance.randint(*LIFE_BYTES)]
            pumps = [
                asyncio.ensure_future(_pump(reader, to, left)),
                asyncio.ensure_future(_pump(there, writer, left)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.cut += left[0] <= 0
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                for end in (to, writer):
                    _reset(end)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
    while left[0] > 0 and (piece := await reader.read(65_536)):
        writer.write(piece[: left[0]])
        left[0] -= len(piece)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: what was not read yet is lost too."""
    made = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Run:
    """What the callers came to."""

    states: dict[str, OperationState] = field(default_factory=dict)
    tries: int = 0
    problems: list[str] = field(default_factory=list)

    async def caller(self, client: GatewayClient, keys: "list[str]") -> None:
        """Make calls until there are none left."""
        while keys:
            await self._call(client, keys.pop())

    async def _call(self, client: GatewayClient, key: str) -> None:
        side = "sell" if int(key.rpartition("-")[2]) % 2 else "buy"
        order = {"symbol": "AAPL", "side": side, "type": "market", "quantity": "1", "time_in_force": "day"}
        for _ in range(TRIES_MAX):
            self.tries += 1
            try:
                operation = await client.execute_tool("place_order", order, key=key)
            except GatewayError as error:
                if not error.passing and not error.effect_unknown:
                    self.problems.append(f"{key}: {error}")
                    return
                await asyncio.sleep(0.002)
                continue
            if operation.state in (OperationState.SUCCEEDED, OperationState.FAILED):
                self.states[key] = operation.state
                return
        self.problems.append(f"{key} has no definite answer after {TRIES_MAX} tries")


async def measured(seed: int, calls: int) -> dict[str, object]:
    """Make the calls and compare."""
    begun, run = time.monotonic(), Run()
    with tempfile.TemporaryDirectory(prefix="gateway-cuts-") as folder:
        async with built(Path(folder), replace(AMPLE, more_limits=UNHURRIED)) as town:
            cutter = Cutter(int(town.gateway_url.rpartition(":")[2]), random.Random(seed))
            port = await cutter.start()
            keys = [f"cut-{number}" for number in range(calls)]
            async with (
                MetadataTokens(town.metadata("agent")) as tokens,
                GatewayClient(
                    f"http://127.0.0.1:{port}",
                    tokens,
                    audience=AUDIENCE,
                    connections=8,
                    patience=Patience(attempts=1),
                ) as client,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(CALLERS):
                    group.create_task(run.caller(client, keys))
            await cutter.stop()
            orders = await _orders(town)
            run.problems += _compared(run, orders)
        run.problems += [f"{difference.what}: {difference.problem}" for difference in check(town.ledger)]
        counted = recount(town.ledger)
        run.problems += [f"recounted: {one}" for one in (*counted.differences, *counted.untold, counted.bad) if one]
    return {
        "cuts": cutter.cut,
        "connections": cutter.made,
        "seed": seed,
        "calls": calls,
        "tries": run.tries,
        "succeeded": sum(state is OperationState.SUCCEEDED for state in run.states.values()),
        "orders": len(orders),
        "problems": run.problems,
        "seconds": round(time.monotonic() - begun),
        "ok": not run.problems,
    }


async def _orders(town: Town) -> list[dict[str, object]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(town.exchange.told("admin_url") + "/admin/orders") as reply,
    ):
        shown = await reply.json()
    if shown["total"] != len(shown["orders"]):
        raise RuntimeError("there are more orders than the exchange shows: make fewer calls")
    return list(shown["orders"])


def _compared(run: Run, orders: list[dict[str, object]]) -> list[str]:
    counted = Counter(str(order["client_order_id"]) for order in orders)
    problems = [f"the exchange has {times} orders {name}" for name, times in counted.items() if times > 1]
    accepted = sum(order["status"] != "rejected" for order in orders)
    succeeded = sum(state is OperationState.SUCCEEDED for state in run.states.values())
    if accepted != succeeded:
        problems.append(f"{succeeded} calls succeeded, and the exchange accepted {accepted} orders")
    return problems


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None, help="draws every cut; printed")
    parser.add_argument("--calls", type=int, default=10_000)
    asked = parser.parse_args()
    seed = secrets.randbelow(10**9) if asked.seed is None else asked.seed
    summary = asyncio.run(measured(seed, asked.calls))
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
