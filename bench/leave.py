"""`just bench leave`: callers that leave their streams, also ones that had stopped reading, and what they leave behind.

Each leaver asks for a stream that would go on for long and cancels it (RST_STREAM) at a moment of its own. Half of them
read as it comes; the other half have not read for long, so that the gateway waits for them and the model for it. The
model double tells when it noticed that its client was gone; the ledger tells what is still held. Prompts differ in
their length, by which the double's entry of each is found again.
"""

import asyncio
import random
import sqlite3
import time
from argparse import Namespace
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Final, cast

import aiohttp

from agent.client.contract import ChatRequest, Content, Part, Role
from agent.client.gateway import GatewayClient
from bench.rig import AMPLE, Report, arguments, quantile, rig
from localcloud.demo.scene import Json
from localcloud.demo.town import Town

READING: Final = "@pace deltas=400 interval_ms=20 size=4\n"
STALLED: Final = "@pace deltas=50 size=200\n"
"""Without end, a chunk of about a kilobyte each millisecond: the caller's window is full after a fifth of a second."""

STAY_S: Final = {"reading": (0.05, 0.5), "stalled": (0.5, 0.8)}
QUIET_S: Final = 10.0
SETTLED_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of this benchmark: how much of it, and against what."""

    report: Report
    town: Town
    client: GatewayClient
    session: aiohttp.ClientSession
    at_once: int

    async def leavers(self, kind: str, count: int) -> None:
        """So many leavers of a kind, some at once."""
        chance = random.Random(count)  # noqa: S311 - when each of them leaves
        aborts: list[float] = []
        early = most_sent = 0
        for first in range(0, count, self.at_once):
            numbers = range(first, min(first + self.at_once, count))
            before = await self._last()
            left = await asyncio.gather(*(self._leaver(kind, number, chance) for number in numbers))
            for at_us, entry in zip(left, await self._entries(before, len(numbers)), strict=True):
                abort_ms = (cast(int, entry["left_us"]) - at_us) / 1_000
                # Who was let go of before it left did not leave.
                early += abort_ms < 0
                aborts.append(abort_ms)
                most_sent = max(most_sent, cast(int, entry["chunks_sent"]))
        self.report.samples[f"{kind}_abort_ms"] = aborts
        self.report.figures[f"{kind}_leavers"] = count
        self.report.figures[f"{kind}_abort_p50_ms"] = round(quantile(aborts, 0.5), 3)
        self.report.figures[f"{kind}_abort_p99_ms"] = round(quantile(aborts, 0.99), 3)
        self.report.figures[f"{kind}_ended_before"] = early
        self.report.figures[f"{kind}_chunks_sent_max"] = most_sent

    async def _leaver(self, kind: str, number: int, chance: random.Random) -> int:
        """Unix time in microseconds of its leaving."""
        text = (READING if kind == "reading" else STALLED) + "x" * (number + 1)
        request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])])
        stay_s = chance.uniform(*STAY_S[kind])
        ends = asyncio.get_running_loop().time() + stay_s
        async with aclosing(self.client.chat(request)) as events:
            async for _ in events:
                if kind == "stalled":
                    await asyncio.sleep(stay_s)
                if asyncio.get_running_loop().time() >= ends:
                    break
            return time.time_ns() // 1_000

    async def settled(self) -> None:
        """What is left behind when all have gone."""
        orphans = await self._orphans()
        self.report.figures["orphan_streams"] = orphans
        ends = time.perf_counter() + SETTLED_S
        while _unsettled(self.town) and time.perf_counter() < ends:  # noqa: ASYNC110 - another process settles
            await asyncio.sleep(0.01)
        self.report.figures["unsettled_holds"] = _unsettled(self.town)

    async def _orphans(self) -> int:
        ends = time.perf_counter() + QUIET_S
        while True:
            streams = await self._admin("/admin/streams")
            if not streams["open"] or time.perf_counter() > ends:
                return cast(int, streams["open"])
            await asyncio.sleep(0.01)

    async def _last(self) -> int:
        requests = cast(list[Json], (await self._admin("/admin/requests"))["requests"])
        return cast(int, requests[-1]["number"]) if requests else 0

    async def _entries(self, after: int, count: int) -> list[Json]:
        """What the double saw of the last leavers, in the order of their numbers."""
        await self._orphans()
        requests = cast(list[Json], (await self._admin("/admin/requests"))["requests"])
        mine = [one for one in requests if cast(int, one["number"]) > after and one["stream"]]
        if len(mine) != count or not all(one["client_left"] for one in mine):
            endings = sorted({str(one["ending"]) for one in mine})
            raise RuntimeError(f"{count} left, and the model upstream saw {len(mine)} streams, which ended {endings}")
        return sorted(mine, key=lambda one: cast(int, one["body_bytes"]))

    async def faults(self, *faults: Json) -> None:
        """What the double does wrong from now on."""
        url = self.town.vertex.told("admin_url") + "/admin/faults"
        async with self.session.delete(url) as reply:
            reply.raise_for_status()
        if faults:
            async with self.session.post(url, json=list(faults)) as reply:
                reply.raise_for_status()

    async def _admin(self, path: str) -> Json:
        async with self.session.get(self.town.vertex.told("admin_url") + path) as reply:
            return cast(Json, await reply.json())


async def measured(report: Report, asked: Namespace) -> None:
    """Fill the report."""
    async with rig(replace(AMPLE, output_tokens_max=65_536)) as (town, client), aiohttp.ClientSession() as session:
        run = Run(report=report, town=town, client=client, session=session, at_once=asked.at_once)
        await run.leavers("reading", asked.leavers // 2)
        await run.faults({"kind": "endless", "count": None, "params": {"ms": 1}})
        await run.leavers("stalled", asked.leavers - asked.leavers // 2)
        await run.faults()
        await run.settled()
    for kind in STAY_S:
        report.bound(f"{kind}_abort_p99_ms", "<=", 50)
        report.bound(f"{kind}_ended_before", "<=", 0)
    report.bound("orphan_streams", "<=", 0)
    report.bound("unsettled_holds", "<=", 0)


def _unsettled(town: Town) -> int:
    """Holds of operations without an outcome, as another process reads them in the ledger's file."""
    with closing(sqlite3.connect(f"file:{town.ledger}?mode=ro", uri=True)) as ledger:
        (count,) = ledger.execute("SELECT count(*) FROM holds WHERE state IN ('held', 'kept')").fetchone()
        (balances,) = ledger.execute("SELECT count(*) FROM balances WHERE held != 0").fetchone()
    return int(count) + int(balances)


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--leavers", type=int, default=1000, help="half of them read, half have stopped reading")
    parser.add_argument("--at-once", type=int, default=20, help="streams at the same time")
    asked = parser.parse_args()
    report = Report(bench="leave")
    asyncio.run(measured(report, asked))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
