"""What the tests of the tools share: a caller, asks, reservations, and a venue on a real socket that does as told."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from aiohttp import web

from gateway.terms.asks import ToolAsk, ToolRequest
from gateway.terms.caller import Caller
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import (
    AgentName,
    BootId,
    InstanceId,
    OperationId,
    Principal,
    TeamName,
    TenantName,
    ToolName,
)
from gateway.terms.limits import LimitProfile
from gateway.terms.money import MicroUsd, NanoUnits
from gateway.terms.operations import Counted, OperationKey, Receipt, Reservation
from gateway.terms.verdict import Permit
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.toolbox import Toolbox

TOOLS = (
    "place_order",
    "cancel_order",
    "get_order",
    "list_orders",
    "list_positions",
    "get_account",
    "get_clock",
    "get_quote",
)
UUID = "0f4e6a52-7d1c-4f5e-9a6b-2f1f0c9d8e7a"

LIMITS = LimitProfile(
    name="small",
    quantity_max=NanoUnits(100 * 10**9),
    notional_max=MicroUsd(20_000 * 10**6),
    collar_bps=500,
    reference_age_ms_max=5_000,
    exposure_max=MicroUsd(50_000 * 10**6),
)

CALLER = Caller(
    principal=Principal("1234"),
    email="agent@example.com",
    agent=AgentName("trader"),
    team=TeamName("desk"),
    tenant=TenantName("acme"),
    role="trader",
    models=frozenset(),
    tools=frozenset(map(ToolName, TOOLS)),
    budgets=(),
    limits=LIMITS,
)

LIMIT_BUY = {
    "symbol": "AAPL",
    "side": "buy",
    "type": "limit",
    "quantity": "10",
    "limit_price": "190.5",
    "time_in_force": "day",
}
MARKET_SELL = {"symbol": "AAPL", "side": "sell", "type": "market", "quantity": "4", "time_in_force": "ioc"}


class FixedClock:
    """A clock that is set; its monotonic side is the machine's, because sockets are real."""

    def __init__(self, unix_us: int) -> None:
        self.now_us = unix_us
        self.shift_ns = 0

    def unix_us(self) -> int:
        return self.now_us

    def monotonic_ns(self) -> int:
        return SystemClock().monotonic_ns() + self.shift_ns


def request(tool, arguments, key="key-1", version="", run_id="run-1"):
    """A tool call as received."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolRequest(tool=tool, version=version, arguments_json=text, idempotency_key=key, run_id=run_id)


async def nothing_counted(places):
    """A ledger in which nothing was traded yet."""
    return tuple(Counted(held=0, spent=0) for _ in places)


def asked(toolbox, tool, arguments, key="key-1", caller=CALLER) -> ToolAsk:
    """The ask of a good call."""
    ask = toolbox.ask(caller, request(tool, arguments, key))
    assert isinstance(ask, ToolAsk), ask
    return ask


def reserved(ask, claims=(), caller=CALLER) -> Reservation:
    """A reservation as the ledger makes it."""
    return Reservation(
        operation=OperationId("op-1"),
        permit=Permit(caller=caller, ask=ask, rules=(), policy_hash="hash"),
        key=OperationKey(tenant=caller.tenant, principal=caller.principal, tool=ask.name, key=ask.key),
        claims=tuple(claims),
        fence=1,
        intent=Receipt(instance=InstanceId("i"), boot=BootId("b"), sequence=1, leaf_hash=b""),
    )


async def executed(toolbox, tool, arguments, key="key-1"):
    """Take a call all the way: ask, facts, demand, execute with what was demanded as claims."""
    ask = asked(toolbox, tool, arguments, key)
    demand = toolbox.demand(CALLER, ask, await toolbox.facts(CALLER, ask, nothing_counted))
    return await toolbox.execute(reserved(ask, demand.claims))


Responder = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """One request as the venue saw it."""

    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class VenueDouble:
    """Answers each method and path prefix with the next responder that it was given; the last one stays."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    script: dict[tuple[str, str], list[Responder]] = field(default_factory=dict)

    def on(self, method, prefix, *responders):
        self.script[method, prefix] = list(responders)

    def count(self, method, prefix=""):
        return sum(1 for seen in self.seen if seen.method == method and seen.raw_path.startswith(prefix))

    async def serve(self, received: web.Request) -> web.StreamResponse:
        body = await received.read()
        self.seen.append(Seen(received.method, received.raw_path, dict(received.headers), body))
        prefixes = [prefix for method, prefix in self.script if method == received.method]
        fitting = [prefix for prefix in prefixes if received.raw_path.startswith(prefix)]
        if not fitting:
            return web.json_response({"code": 40410000, "message": "not found"}, status=404)
        responders = self.script[received.method, max(fitting, key=len)]
        return await (responders.pop(0) if len(responders) > 1 else responders[0])(received)


def says(body, status=200, **headers) -> Responder:
    """Answers with a JSON body."""

    async def respond(_):
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json", headers=headers)

    return respond


def error(status, code, message) -> Responder:
    """Answers with an error in the venue's form."""
    return says({"code": code, "message": message}, status)


async def resets(received: web.Request) -> web.StreamResponse:
    """Cuts the connection instead of answering."""
    received.transport.abort()
    return web.Response()


def quote(bid="189.5", ask="189.6", at="2026-11-23T12:00:00Z", symbol="AAPL") -> Responder:
    """The latest quote; prices are JSON numbers."""
    return says(f'{{"symbol":"{symbol}","quote":{{"t":"{at}","ap":{ask},"as":3,"ax":"V","bp":{bid},"bs":2,"bx":"V"}}}}')


def holding(quantity="1000", side="long", symbol="AAPL") -> Responder:
    """What the account holds of a symbol."""
    return says({"symbol": symbol, "qty": quantity, "side": side, "avg_entry_price": "180", "market_value": "1"})


def order_json(**changed):
    """An order of the venue, as it was asked for with `LIMIT_BUY`."""
    return {
        "id": UUID,
        "client_order_id": "overwritten",
        "symbol": "AAPL",
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "status": "new",
        "qty": "10",
        "filled_qty": "0",
        "filled_avg_price": None,
        "limit_price": "190.5",
        "submitted_at": "2026-11-23T12:00:00.123456Z",
        "unknown_member": {"secret": "venue internals"},
        **changed,
    }


def accepts(**changed) -> Responder:
    """Accepts the posted order under its client order id."""

    async def respond(received):
        sent = json.loads(await received.read())
        return web.json_response(order_json(client_order_id=sent["client_order_id"], **changed))

    return respond


def finds(**changed) -> Responder:
    """Finds an order under the client order id that is looked for."""

    async def respond(received):
        return web.json_response(order_json(client_order_id=received.query["client_order_id"], **changed))

    return respond


def config(url, **changed) -> AlpacaConfig:
    """The adapter's configuration for a venue on this machine."""
    plain = AlpacaConfig(
        name="paper",
        trading_url=url,
        data_url=url,
        key_id="KEY-ID",
        secret_key="SECRET-KEY",
        account="main",
        client_order_key=b"k" * 32,
    )
    return replace(plain, **changed)


def toolbox_of(exchange: Alpaca) -> Toolbox:
    return Toolbox([exchange], SystemIds())
