"""A spot exchange in Binance's wire format (REST v3) on a real socket, over the paper exchange's own books.

Real prices and matching, signatures and receive windows that are checked, and faults on request. ccxt's own class is
the judge of its wire: it signs what this checks, and reads what this writes.
"""

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import parse_qsl

from aiohttp import web

from localcloud.exchange import Credential, Instrument, Venue, VenueConfig
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.faults import Fault, FaultKind, Faults, Target
from localcloud.exchange.front import _reset
from localcloud.exchange.orders import OrderRefusedError, OrderTerms, OrderType, Reason, Status
from localcloud.exchange.server import system_clock

KEY, SECRET = "spot-key-id", "spot-secret-value"
LOTS_IN_ONE = 1_000
"""A lot is a thousandth of a coin."""
TICKS_IN_ONE = 100
"""A tick is a cent for a whole coin, and so ten millionths of a dollar for a lot."""
BTC = Instrument(
    symbol="BTCUSD",
    name="Bitcoin",
    reference_ticks=60_000 * TICKS_IN_ONE,
    tick_micros=10,
    min_notional_micros=100 * 10**6,
)
_STATUSES = {Status.REJECTED: "EXPIRED"}
_REFUSALS = {
    Reason.INVALID: (-1013, "Filter failure: NOTIONAL"),
    Reason.DUPLICATE_CLIENT_ORDER_ID: (-2010, "Duplicate order sent."),
    Reason.INSUFFICIENT_BUYING_POWER: (-2010, "Account has insufficient balance for requested action."),
    Reason.INSUFFICIENT_QUANTITY: (-2010, "Account has insufficient balance for requested action."),
    Reason.WASH_TRADE: (-2010, "Order would immediately match an order of the same account."),
    Reason.MARKET_CLOSED: (-2010, "Market is closed."),
    Reason.CAPACITY: (-2010, "Too many open orders."),
    Reason.NOT_FOUND: (-2013, "Order does not exist."),
    Reason.NOT_CANCELABLE: (-2011, "Unknown order sent."),
}


class WireError(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class SpotExchange:
    """Listens while `spot_exchange` runs."""

    def __init__(self, clock=system_clock):
        credential = Credential(key_id=KEY, secret=SECRET, cash_micros=1_000_000 * 10**6)
        self.venue = Venue(VenueConfig(credentials=(credential,), instruments=(BTC,)), clock)
        self.account = self.venue.accounts[0]
        self.clock = clock
        self.faults = Faults()
        self.error_body = b"<html>a gateway on the way</html>"
        """What an injected status comes with."""
        self.status_headers = {}
        self.seen = []
        """Method, path and signed members of every request that arrived."""
        self.url = ""

    def breaks(self, kind, method, path="/api/v3/order", **more):
        self.faults.add([Fault(kind=FaultKind(kind), method=method, path_prefix=path, **more)])

    def count(self, method, path="/api/v3/order"):
        return sum(1 for seen in self.seen if seen[:2] == (method, path))

    def orders(self):
        return [order for order in self.venue.orders.values() if order.account is self.account]

    def app(self):
        app = web.Application()
        for method, path, endpoint, signed in (
            ("GET", "exchangeInfo", self._info, False),
            ("GET", "ticker/24hr", self._ticker, False),
            ("POST", "order", self._place, True),
            ("GET", "order", self._show, True),
            ("DELETE", "order", self._cancel, True),
            ("GET", "openOrders", self._open_orders, True),
            ("GET", "allOrders", self._all_orders, True),
            ("GET", "account", self._account, True),
        ):
            app.router.add_route(method, f"/api/v3/{path}", self._responder(endpoint, signed))
        return app

    def _responder(self, endpoint, signed):
        async def respond(request):
            text = request.query_string if request.method != "POST" else (await request.read()).decode()
            members = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
            self.seen.append((request.method, request.path, members))
            target = Target(method=request.method, path=request.path, symbols=frozenset({members.get("symbol")}))
            return await self._served(request, target, lambda: self._answer(request, text, members, endpoint, signed))

        return respond

    async def _served(self, request, target, answer):
        if latency := self.faults.take(FaultKind.LATENCY, target):
            await asyncio.sleep(latency.delay_ms / 1_000)
        if self.faults.take(FaultKind.RESET_BEFORE, target):
            _reset(request)
            return web.Response()
        if before := self.faults.take(FaultKind.STATUS_BEFORE, target):
            return web.Response(status=before.status, body=self.error_body, headers=self.status_headers)
        response = answer()
        if late := self.faults.take(FaultKind.LATENCY_AFTER, target):
            await asyncio.sleep(late.delay_ms / 1_000)
        if self.faults.take(FaultKind.RESET_AFTER_ACCEPT, target):
            _reset(request)
            return web.Response()
        if after := self.faults.take(FaultKind.STATUS_AFTER, target):
            return web.Response(status=after.status, body=self.error_body, headers=self.status_headers)
        return response

    def _answer(self, request, text, members, endpoint, signed):
        try:
            if signed:
                self._authenticate(request, text, members)
            return web.json_response(endpoint(members))
        except OrderRefusedError as error:
            status, (code, message) = 400, _REFUSALS[error.reason]
        except WireError as error:
            status, code, message = error.status, error.code, error.message
        return web.json_response({"code": code, "msg": message}, status=status)

    def _authenticate(self, request, text, members):
        """HMAC-SHA256 over all that stands before the signature, and a time within the receive window."""
        if request.headers.getall("X-MBX-APIKEY", []) != [KEY]:
            raise WireError(401, -2015, "Invalid API-key, IP, or permissions for action.")
        signed, _, signature = text.rpartition("&signature=")
        if not hmac.compare_digest(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest(), signature):
            raise WireError(400, -1022, "Signature for this request is not valid.")
        late_ms = self.clock() // 1_000 - int(members["timestamp"])
        if not -1_000 < late_ms <= int(members.get("recvWindow", "5000")):
            raise WireError(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    def _info(self, members):
        if not set(json.loads(members["symbols"])) <= {"BTCUSD"}:
            raise WireError(400, -1121, "Invalid symbol.")
        return {
            "timezone": "UTC",
            "serverTime": self.clock() // 1_000,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [
                {
                    "symbol": "BTCUSD",
                    "status": "TRADING",
                    "baseAsset": "BTC",
                    "baseAssetPrecision": 8,
                    "quoteAsset": "USD",
                    "quotePrecision": 8,
                    "quoteAssetPrecision": 8,
                    "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
                    "icebergAllowed": False,
                    "ocoAllowed": False,
                    "quoteOrderQtyMarketAllowed": True,
                    "isSpotTradingAllowed": True,
                    "isMarginTradingAllowed": False,
                    "permissions": ["SPOT"],
                    "filters": [
                        {
                            "filterType": "PRICE_FILTER",
                            "minPrice": "0.01000000",
                            "maxPrice": "1000000.00000000",
                            "tickSize": "0.01000000",
                        },
                        {
                            "filterType": "LOT_SIZE",
                            "minQty": "0.00100000",
                            "maxQty": "9000.00000000",
                            "stepSize": "0.00100000",
                        },
                        {"filterType": "NOTIONAL", "minNotional": "100.00000000", "applyMinToMarket": True},
                    ],
                }
            ],
        }

    def _ticker(self, members):
        now_us = self.venue.advance()
        target = Target(method="GET", path="/api/v3/ticker/24hr", symbols=frozenset({members["symbol"]}))
        if self.faults.take(FaultKind.MISSING_QUOTE, target):
            raise WireError(400, -1121, "Invalid symbol.")
        stale = self.faults.take(FaultKind.STALE_QUOTE, target)
        zero = self.faults.take(FaultKind.ZERO_QUOTE, target)
        book = self.venue.markets[members["symbol"]].book
        sides = [(0, 0) if zero else book.best(side) or (0, 0) for side in (Side.BUY, Side.SELL)]
        (bid, bid_lots), (ask, ask_lots) = sides
        close_ms = (now_us // 1_000) - (stale.delay_ms if stale else 0)
        return {
            "symbol": members["symbol"],
            "priceChange": "0.00000000",
            "priceChangePercent": "0.000",
            "weightedAvgPrice": _price(ask),
            "prevClosePrice": _price(bid),
            "lastPrice": _price(ask),
            "lastQty": "0.00100000",
            "bidPrice": _price(bid),
            "bidQty": _quantity(bid_lots),
            "askPrice": _price(ask),
            "askQty": _quantity(ask_lots),
            "openPrice": _price(bid),
            "highPrice": _price(ask),
            "lowPrice": _price(bid),
            "volume": "10.00000000",
            "quoteVolume": "600000.00000000",
            "openTime": close_ms - 86_400_000,
            "closeTime": close_ms,
            "firstId": 1,
            "lastId": 2,
            "count": 2,
        }

    def _place(self, members):
        lots, ticks = _whole(members["quantity"], LOTS_IN_ONE), None
        if lots is None:
            raise WireError(400, -1013, "Filter failure: LOT_SIZE")
        if members["type"] == "LIMIT":
            ticks = _whole(members["price"], TICKS_IN_ONE)
            if ticks is None:
                raise WireError(400, -1013, "Filter failure: PRICE_FILTER")
        terms = OrderTerms(
            symbol=members["symbol"],
            side=Side(members["side"].lower()),
            type=OrderType(members["type"].lower()),
            tif=TimeInForce(members.get("timeInForce", "IOC").lower()),
            lots=lots,
            limit_ticks=ticks,
            client_order_id=members["newClientOrderId"],
        )
        order = self.venue.submit(self.account, terms)
        return {**_order(order), "transactTime": order.submitted_us // 1_000, "fills": []}

    def _show(self, members):
        return {**_order(self._found(members)), "icebergQty": "0.00000000", "stopPrice": "0.00000000"}

    def _found(self, members):
        if ours := members.get("origClientOrderId"):
            return self.venue.order_by_client_id(self.account, ours)
        found = next((order for order in self.orders() if str(order.number) == members["orderId"]), None)
        if found is None:
            raise OrderRefusedError(Reason.NOT_FOUND, "none")
        return found

    def _cancel(self, members):
        try:
            order = self.venue.cancel(self.account, self._found(members).id)
        except OrderRefusedError:
            raise WireError(400, -2011, "Unknown order sent.") from None
        # A cancel has a client order id of its own; the order's stands beside it.
        return {**_order(order), "origClientOrderId": order.client_order_id, "clientOrderId": "cancel-of-it"}

    def _open_orders(self, _members):
        return [_order(order) for order in self.venue.open_orders(self.account)]

    def _all_orders(self, members):
        return [_order(order) for order in self.venue.orders_of(self.account, newest_first=False)][
            -int(members.get("limit", "500")) :
        ]

    def _account(self, _members):
        position = self.account.position("BTCUSD")
        dollars = (self.account.buying_power_micros, self.account.held_micros)
        return {
            "canTrade": True,
            "accountType": "SPOT",
            "updateTime": self.clock() // 1_000,
            "balances": [
                {"asset": "USD", "free": _plain(dollars[0], 10**6), "locked": _plain(dollars[1], 10**6)},
                {
                    "asset": "BTC",
                    "free": _quantity(position.available_lots),
                    "locked": _quantity(position.held_lots),
                },
            ],
        }


@asynccontextmanager
async def spot_exchange(clock=system_clock):
    """A running exchange."""
    exchange = SpotExchange(clock)
    runner = web.AppRunner(exchange.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        exchange.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield exchange
    finally:
        await runner.cleanup()


def _order(order):
    terms = order.terms
    return {
        "symbol": terms.symbol,
        "orderId": order.number,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": _price(terms.limit_ticks or 0),
        "origQty": _quantity(terms.lots),
        "executedQty": _quantity(order.filled_lots),
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": _plain(order.filled_micros, 10**6),
        "status": _STATUSES.get(order.status, str(order.status).upper()),
        # A market order has no time in force of its own; the exchange says this.
        "timeInForce": "GTC" if terms.type is OrderType.MARKET else str(terms.tif).upper(),
        "type": str(terms.type).upper(),
        "side": str(terms.side).upper(),
        "time": order.submitted_us // 1_000,
        "updateTime": order.updated_us // 1_000,
        "isWorking": True,
        "workingTime": order.submitted_us // 1_000,
        "selfTradePreventionMode": "NONE",
    }


def _whole(text, scale):
    """A decimal as a whole number of parts, or None."""
    parts = Decimal(text) * scale
    return int(parts) if parts == int(parts) and parts > 0 else None


def _plain(value, scale):
    return f"{Decimal(value) / scale:.8f}"


def _price(ticks):
    return _plain(ticks, TICKS_IN_ONE)


def _quantity(lots):
    return _plain(lots, LOTS_IN_ONE)
