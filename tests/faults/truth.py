"""What must be true after a season: the ledger, the record, the exchange and the callers say the same."""

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from fractions import Fraction

import asyncpg
from fault_settings import BUDGET_USD, TENANT
from season import FINAL, ROOT, Season

from gateway.terms.money import MICRO
from gateway.terms.operations import OperationKey
from gateway.tools.client_order_id import client_order_id

_CLIENT_ID = re.compile(rb'"client_order_id"\s*:\s*"([^"]+)"')


async def compared(season: Season) -> list[str]:
    """Everything that is not true, a sentence each."""
    orders = await season.orders()
    rows = await _read(season, _OPERATIONS)
    balances = await _read(season, "SELECT scope, unit, time_window, held, spent FROM balances")
    return [
        *_callers(season),
        *_once(season, orders),
        *_states(season, orders, rows),
        *_money(orders, balances),
        *_exposure(orders, balances),
        *_added_up(season),
        *_record(season),
    ]


def _callers(season: Season) -> list[str]:
    problems = []
    for key, told in season.told.items():
        problems += [f"{key}: a caller was told that {change}" for change in told.changed]
        if told.state not in FINAL and not told.refused:
            problems.append(f"{key}: its caller never got a definite answer")
    return problems


def _once(season: Season, orders: list[dict[str, object]]) -> list[str]:
    counted = Counter(str(order["client_order_id"]) for order in orders)
    problems = [f"the exchange has {times} orders {name}" for name, times in counted.items() if times > 1]
    sent = Counter(match[1].decode() for body in season.relay.posted if (match := _CLIENT_ID.search(body)))
    problems += [f"{name} was sent {times} times" for name, times in sent.items() if times > 1]
    return problems


def _states(season: Season, orders: list[dict[str, object]], rows: list[tuple[str, ...]]) -> list[str]:
    """Which operation each order belongs to is told by our derivation of its id alone."""
    there = {str(order["client_order_id"]): order for order in orders}
    problems, known = [], set()
    for tenant, principal, tool, key, state, failure in rows:
        name = client_order_id(season.order_key, OperationKey(tenant=tenant, principal=principal, tool=tool, key=key))
        known.add(name)
        accepted = name in there and there[name]["status"] != "rejected"
        if state not in ("succeeded", "failed"):
            problems.append(f"{key} is {state} ({failure})")
        elif (state == "succeeded") is not accepted:
            problems.append(f"{key} is {state} ({failure}), and the exchange {'has' if accepted else 'lacks'} it")
        told = season.told.get(key)
        if told is not None and told.state is not None and told.state.name.lower() != state:
            problems.append(f"{key} is {state}, but its caller was told {told.state.name}")
    problems += [f"the exchange has the order {name}, which no intent explains" for name in there.keys() - known]
    return problems


def _money(orders: list[dict[str, object]], balances: list[tuple[object, ...]]) -> list[str]:
    problems = []
    filled = sum(map(_worth, orders)) / MICRO
    for scope, unit, _, held, spent in balances:
        if held:
            problems.append(f"{held} {unit} of {scope} are still held")
        if unit == "notional_micro_usd" and not filled * MICRO <= int(str(spent)) <= BUDGET_USD * MICRO:
            problems.append(f"{spent} {unit} of {scope} are spent; the exchange filled {float(filled)} USD")
    return problems


def _exposure(orders: list[dict[str, object]], balances: list[tuple[object, ...]]) -> list[str]:
    """What is open cost what is on the books for it, nothing open cost nothing, and no sale gave back more."""
    spent = {tuple(map(str, place)): int(str(amount)) for *place, _, amount in balances}
    books = {place: cost for place, cost in spent.items() if place[1] == "book_micro_usd"}
    problems = [] if books or not orders else ["no order is on the books"]
    for (scope, _, window), cost in books.items():
        position = spent[scope, "position_nano", window]
        if cost < 0 or (cost > 0) is not (position > 0):
            problems.append(f"{position} of {scope} are open and cost {cost}")
    bought = sum(_worth(order) + 1 for order in orders if order["side"] == "buy")
    for (scope, unit, _), exposure in spent.items():
        if unit != "exposure_micro_usd":
            continue
        on_books = sum(cost for (lot, _, _), cost in books.items() if lot.startswith(f"{scope}/"))
        if not 0 <= exposure <= bought or (on_books != exposure and not scope.startswith("tenant:")):
            problems.append(f"{exposure} of exposure in {scope}; {on_books} on the books, {float(bought)} was bought")
    return problems


def _worth(order: dict[str, object]) -> Fraction:
    """In millionths of a dollar."""
    return Fraction(str(order["filled_qty"])) * Fraction(str(order["filled_avg_price"] or 0)) * MICRO


def _added_up(season: Season) -> list[str]:
    return _told(season, "ledger", "check")


def _record(season: Season) -> list[str]:
    return _told(season, "audit", "verify")


def _told(season: Season, *command: str) -> list[str]:
    """What the operator's own command says; nothing if it is content."""
    place = ["--database"] if season.database_url else [str(season.written.ledger)]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *command, "--json", *place],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "GATEWAY_DATABASE_URL": season.database_url},
        cwd=ROOT,
    )
    return [] if done.returncode == 0 else [f"{' '.join(command)}: {(done.stdout or done.stderr)[:500]}"]


async def _read(season: Season, statement: str) -> list[tuple[object, ...]]:
    if not season.database_url:
        with closing(sqlite3.connect(season.written.ledger)) as connection:
            return connection.execute(statement).fetchall()
    database = await asyncpg.connect(season.database_url)
    try:
        return [tuple(row) for row in await database.fetch(statement)]
    finally:
        await database.close()


_OPERATIONS = (
    "SELECT tenant, principal, tool, key, state, coalesce(failure_reason, '') FROM operations"
    f" WHERE tenant = '{TENANT}' AND tool = 'place_order'"
)
