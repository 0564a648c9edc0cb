"""The eyes of the demonstration: what the exchange, the model upstream and the record say, never the gateway."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import aiohttp

from localcloud.demo.scene import Json
from localcloud.demo.town import Town


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """Looks at the town from outside of the gateway."""

    town: Town
    session: aiohttp.ClientSession

    async def orders(self) -> list[Json]:
        """Every order that the exchange knows and the agent's desk placed."""
        told = await self._admin(self.town.exchange.told("admin_url"), "/admin/orders")
        return [order for order in cast(list[Json], told["orders"]) if str(order["client_order_id"]).startswith("gw-")]

    async def break_exchange(self, faults: list[Json]) -> None:
        """Inject faults into the exchange; see `localcloud.exchange.faults`."""
        async with self.session.post(self.town.exchange.told("admin_url") + "/admin/faults", json=faults) as reply:
            reply.raise_for_status()

    async def exchange_requests(self) -> int:
        """How many requests reached the exchange's trading port."""
        return cast(int, (await self._admin(self.town.exchange.told("admin_url"), "/admin/requests"))["count"])

    async def model_requests(self) -> list[Json]:
        """The requests that reached the model upstream."""
        told = await self._admin(self.town.vertex.told("admin_url"), "/admin/requests")
        return cast(list[Json], told["requests"])

    async def model_streams(self) -> Json:
        """Streams at the model upstream: open, total, completed, aborted."""
        return await self._admin(self.town.vertex.told("admin_url"), "/admin/streams")

    def records(self) -> list[Json]:
        """Every record of the audit log, read from the file itself, oldest first."""
        with closing(sqlite3.connect(f"file:{self.town.ledger}?mode=ro", uri=True)) as ledger:
            rows = ledger.execute("SELECT record FROM audit ORDER BY position").fetchall()
        return [json.loads(record) for (record,) in rows]

    async def verified(self) -> tuple[int, Json]:
        """Exit code and report of `gateway audit verify --json`, run as a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            "audit",
            "verify",
            "--json",
            str(self.town.ledger),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, json.loads(out.decode().strip().splitlines()[-1])

    async def _admin(self, url: str, path: str) -> Json:
        async with self.session.get(url + path) as reply:
            return cast(Json, await reply.json())
