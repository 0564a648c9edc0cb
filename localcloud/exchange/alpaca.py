"""Alpaca's trading API and latest quotes (v2) as pure endpoints: a parsed call in, a status and a body out."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from localcloud.exchange.accounts import Account
from localcloud.exchange.book import Side
from localcloud.exchange.faults import FaultKind, Faults, Target
from localcloud.exchange.market import Market
from localcloud.exchange.orders import Order, OrderRefusedError, Reason
from localcloud.exchange.shapes import (
    account_shape,
    asset_shape,
    clock_shape,
    fill_shape,
    order_shape,
    position_shape,
    quote_shape,
)
from localcloud.exchange.strict_json import decode_object
from localcloud.exchange.terms import order_terms
from localcloud.exchange.venue import Venue

_VALIDATION: Final = (422, 42210000)
_FORBIDDEN: Final = (403, 40310000)
_CODES: Final = {
    Reason.INVALID: _VALIDATION,
    Reason.DUPLICATE_CLIENT_ORDER_ID: (422, 40010001),
    Reason.INSUFFICIENT_BUYING_POWER: _FORBIDDEN,
    Reason.INSUFFICIENT_QUANTITY: _FORBIDDEN,
    Reason.WASH_TRADE: _FORBIDDEN,
    Reason.MARKET_CLOSED: _FORBIDDEN,
    Reason.CAPACITY: _FORBIDDEN,
    Reason.NOT_FOUND: (404, 40410000),
    Reason.NOT_CANCELABLE: _VALIDATION,
}
_STATUSES: Final = ("open", "closed", "all")
_OPEN, _, _ALL = _STATUSES
_MOST_ORDERS_LISTED: Final = 500
_MOST_SYMBOLS: Final = 100
_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)


class ApiError(Exception):
    """An error answer in Alpaca's form: HTTP status, code, message and further members."""

    def __init__(self, status: int, code: int, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})

    def answer(self) -> "Answer":
        """The error as an answer."""
        return Answer(self.status, {**self.details, "code": self.code, "message": self.message})


class Answer(NamedTuple):
    """An HTTP status and a JSON-ready body; None is no body."""

    status: int
    body: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request, without HTTP: `argument` is the path's last variable part."""

    account: Account
    target: Target
    argument: str
    query: Mapping[str, str]
    body: bytes


Endpoint = Callable[[Call], Answer]


class AlpacaApi:
    """The endpoints over one venue. All raise ApiError, OrderRefusedError or MalformedJsonError for bad requests."""

    def __init__(self, venue: Venue, faults: Faults) -> None:
        """Answer for `venue`; quote, fill and halt faults strike here, the others around the call."""
        self._venue = venue
        self._faults = faults
        self._instruments = {symbol: market.instrument for symbol, market in venue.markets.items()}

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """Method, path (in aiohttp's syntax, variable part `argument`) and endpoint of everything there is."""
        return [
            ("POST", "/v2/orders", self.place_order),
            ("GET", "/v2/orders", self.list_orders),
            ("DELETE", "/v2/orders", self.cancel_orders),
            ("GET", "/v2/orders:by_client_order_id", self.order_by_client_id),
            ("GET", "/v2/orders/{argument}", self.get_order),
            ("DELETE", "/v2/orders/{argument}", self.cancel_order),
            ("GET", "/v2/positions", self.list_positions),
            ("GET", "/v2/positions/{argument}", self.get_position),
            ("GET", "/v2/account", self.get_account),
            ("GET", "/v2/account/activities/{argument}", self.list_activities),
            ("GET", "/v2/clock", self.get_clock),
            ("GET", "/v2/assets/{argument}", self.get_asset),
            ("GET", "/v2/stocks/quotes/latest", self.latest_quotes),
            ("GET", "/v2/stocks/{argument}/quotes/latest", self.latest_quote),
        ]

    def place_order(self, call: Call) -> Answer:
        """POST /v2/orders: accept, match, answer with the order as it stands afterwards."""
        terms = order_terms(decode_object(call.body), self._instruments)
        if self._faults.take(FaultKind.HALT, call.target):
            raise ApiError(*_VALIDATION, f"trading of {terms.symbol} is halted")
        return Answer(200, self._shape(self._venue.submit(call.account, terms), call))

    def list_orders(self, call: Call) -> Answer:
        """GET /v2/orders: filtered by status, symbols, side, after and until; 50 unless limit says otherwise."""
        wanted = _order_filter(call.query)
        limit = _limit(call.query, 50)
        newest_first = _choice(call.query, "direction", ("desc", "asc")) == "desc"
        orders = self._orders(call, newest_first=newest_first)
        return Answer(200, [self._shape(order, call) for order in islice(filter(wanted, orders), limit)])

    def get_order(self, call: Call) -> Answer:
        """GET /v2/orders/{id}."""
        return Answer(200, self._shape(self._venue.order(call.account, _order_id(call)), call))

    def order_by_client_id(self, call: Call) -> Answer:
        """GET /v2/orders:by_client_order_id?client_order_id=: how an unknown outcome is cleared up."""
        client_order_id = call.query.get("client_order_id")
        if not client_order_id:
            raise ApiError(*_VALIDATION, "client_order_id is required")
        return Answer(200, self._shape(self._venue.order_by_client_id(call.account, client_order_id), call))

    def cancel_order(self, call: Call) -> Answer:
        """DELETE /v2/orders/{id}: 204, or 422 when the order has ended."""
        self._venue.cancel(call.account, _order_id(call))
        return Answer(204)

    def cancel_orders(self, call: Call) -> Answer:
        """DELETE /v2/orders: 207 with one status for each order that was open."""
        cancelled = self._venue.cancel_all(call.account)
        return Answer(207, [{"id": order.id, "status": 200, "body": order_shape(order)} for order in cancelled])

    def list_positions(self, call: Call) -> Answer:
        """GET /v2/positions."""
        self._venue.advance()
        positions = sorted(call.account.positions.items())
        return Answer(200, [position_shape(self._venue.markets[symbol], held) for symbol, held in positions])

    def get_position(self, call: Call) -> Answer:
        """GET /v2/positions/{symbol or asset id}."""
        self._venue.advance()
        market = self._market(call.argument)
        position = call.account.positions.get(market.instrument.symbol) if market else None
        if market is None or position is None:
            raise ApiError(404, 40410000, "position does not exist")
        return Answer(200, position_shape(market, position))

    def get_account(self, call: Call) -> Answer:
        """GET /v2/account."""
        self._venue.advance()
        return Answer(200, account_shape(self._venue, call.account))

    def list_activities(self, call: Call) -> Answer:
        """GET /v2/account/activities/FILL: the newest fills first, page_size of them (100 unless given)."""
        if call.argument != "FILL":
            raise ApiError(*_VALIDATION, f"invalid activity type {call.argument!r}: this exchange only reports FILL")
        page = list(islice(self._venue.fills_of(call.account), _limit(call.query, 100, "page_size")))
        times = self._reported_fills(call) if page else 1
        return Answer(200, [fill_shape(trade) for trade in page for _ in range(times)])

    def get_clock(self, call: Call) -> Answer:
        """GET /v2/clock."""
        now = self._venue.advance()
        return Answer(200, clock_shape(self._venue, now, is_open=self._tradable(call)))

    def get_asset(self, call: Call) -> Answer:
        """GET /v2/assets/{symbol or asset id}."""
        market = self._market(call.argument)
        if market is None:
            raise ApiError(404, 40410000, f"asset not found for {call.argument}")
        return Answer(200, asset_shape(market.instrument, tradable=self._tradable(call)))

    def latest_quote(self, call: Call) -> Answer:
        """GET /v2/stocks/{symbol}/quotes/latest."""
        self._venue.advance()
        quote = self._quote(call.argument, call)
        if quote is None:
            raise ApiError(404, 40410000, f"no quote found for {call.argument}")
        return Answer(200, {"symbol": call.argument, "quote": quote})

    def latest_quotes(self, call: Call) -> Answer:
        """GET /v2/stocks/quotes/latest?symbols=: symbols without a quote are left out, as Alpaca does."""
        self._venue.advance()
        symbols = call.query.get("symbols", "").split(",")
        if not all(symbols) or len(symbols) > _MOST_SYMBOLS:
            raise ApiError(400, 40010000, f"symbols must name 1 to {_MOST_SYMBOLS} symbols, separated by commas")
        quotes = {symbol: quote for symbol in symbols if (quote := self._quote(symbol, call)) is not None}
        return Answer(200, {"quotes": quotes})

    def _quote(self, symbol: str, call: Call) -> dict[str, object] | None:
        market = self._venue.markets.get(symbol)
        target = Target(method=call.target.method, path=call.target.path, symbols=(symbol,))
        if market is None or self._faults.take(FaultKind.MISSING_QUOTE, target):
            return None
        if self._faults.take(FaultKind.ZERO_QUOTE, target):
            return quote_shape(market, empty=True)
        stale = self._faults.take(FaultKind.STALE_QUOTE, target)
        return quote_shape(market, age_us=stale.delay_ms * 1_000 if stale else 0)

    def _orders(self, call: Call, *, newest_first: bool) -> Iterator[Order]:
        """What a listing looks through: the open orders are kept apart, so asking for them costs no search."""
        if _choice(call.query, "status", _STATUSES) != _OPEN:
            return self._venue.orders_of(call.account, newest_first=newest_first)
        orders = self._venue.open_orders(call.account)
        return reversed(orders) if newest_first else iter(orders)

    def _shape(self, order: Order, call: Call) -> dict[str, object]:
        return order_shape(order, self._reported_fills(call) if order.filled_lots else 1)

    def _reported_fills(self, call: Call) -> int:
        return 2 if self._faults and self._faults.take(FaultKind.DUPLICATE_FILL, call.target) else 1

    def _tradable(self, call: Call) -> bool:
        return self._venue.config.is_open and not self._faults.peek(
            FaultKind.HALT, Target(method="POST", path="/v2/orders", symbols=call.target.symbols)
        )

    def _market(self, symbol_or_asset_id: str) -> Market | None:
        markets = self._venue.markets
        by_id = (market for market in markets.values() if market.instrument.asset_id == symbol_or_asset_id)
        return markets.get(symbol_or_asset_id) or next(by_id, None)


def refusal(error: OrderRefusedError) -> ApiError:
    """A venue's refusal in Alpaca's form."""
    status, code = _CODES[error.reason]
    return ApiError(status, code, error.message, error.details)


def _order_id(call: Call) -> str:
    try:
        return str(uuid.UUID(call.argument))
    except ValueError:
        raise ApiError(422, 40010001, "order_id must be a UUID") from None


def _choice(query: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """A query parameter that is one of `words`; the first is the default."""
    word = query.get(name, words[0])
    if word not in words:
        raise ApiError(*_VALIDATION, f"invalid {name}: it must be one of {', '.join(words)}")
    return word


def _limit(query: Mapping[str, str], default: int, name: str = "limit") -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 0 < int(text) <= _MOST_ORDERS_LISTED):
        raise ApiError(*_VALIDATION, f"{name} must be between 1 and {_MOST_ORDERS_LISTED}")
    return int(text)


def _moment(query: Mapping[str, str], name: str) -> int | None:
    """A query parameter in RFC 3339 as unix microseconds."""
    text = query.get(name)
    if text is None:
        return None
    try:
        since_epoch = dt.datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError):  # TypeError: a time without a zone cannot be subtracted from one with.
        raise ApiError(*_VALIDATION, f"{name} must be an RFC 3339 time with a zone") from None
    return since_epoch // dt.timedelta(microseconds=1)


def _order_filter(query: Mapping[str, str]) -> Callable[[Order], bool]:
    """Which orders a listing wants."""
    status = _choice(query, "status", _STATUSES)
    side = _choice(query, "side", ("", *Side))
    symbols = frozenset(filter(None, query.get("symbols", "").split(",")))
    after, until = _moment(query, "after"), _moment(query, "until")

    def wanted(order: Order) -> bool:
        return (
            (status == _ALL or order.is_open == (status == _OPEN))
            and (not side or order.terms.side == side)
            and (not symbols or order.terms.symbol in symbols)
            and (after is None or order.submitted_us > after)
            and (until is None or order.submitted_us <= until)
        )

    return wanted
