"""The admin face of the exchange, on a port of its own: inject faults, and see every order and request as a witness.

It has no authentication: bind it to loopback. Agents and the gateway are never given its address.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from aiohttp import web

from localcloud.exchange.alpaca import Answer
from localcloud.exchange.faults import Faults, InvalidFaultError, decode_fault
from localcloud.exchange.front import BODY_LIMIT, json_response, label_venue
from localcloud.exchange.orders import Order
from localcloud.exchange.requestlog import RequestLog
from localcloud.exchange.shapes import order_shape
from localcloud.exchange.strict_json import MalformedJsonError, decode
from localcloud.exchange.venue import Venue

_MOST_ORDERS_SHOWN: Final = 10_000


class Admin:
    """The admin endpoints over one venue, its faults and its request log."""

    def __init__(self, venue: Venue, faults: Faults, log: RequestLog) -> None:
        """Show and steer this exchange."""
        self._venue = venue
        self._faults = faults
        self._log = log

    def app(self) -> web.Application:
        """The aiohttp application with every route."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.on_response_prepare.append(label_venue)
        app.router.add_get("/admin/faults", self.list_faults)
        app.router.add_post("/admin/faults", self.add_faults)
        app.router.add_delete("/admin/faults", self.clear_faults)
        app.router.add_get("/admin/orders", self.list_orders)
        app.router.add_get("/admin/requests", self.list_requests)
        return app

    async def list_faults(self, _request: web.Request) -> web.Response:
        """GET /admin/faults: the faults in force."""
        return json_response(Answer(200, [fault.as_json() for fault in self._faults.listed()]))

    async def add_faults(self, request: web.Request) -> web.Response:
        """POST /admin/faults: a list of faults; all of them come into force or, with status 400, none."""
        try:
            wanted = decode(await request.read())
            if not isinstance(wanted, list):
                return _bad_request("the body must be a list of faults")
            self._faults.add([decode_fault(fault) for fault in wanted])
        except (MalformedJsonError, InvalidFaultError) as error:
            return _bad_request(str(error))
        return await self.list_faults(request)

    async def clear_faults(self, request: web.Request) -> web.Response:
        """DELETE /admin/faults: remove all faults."""
        self._faults.clear()
        return await self.list_faults(request)

    async def list_orders(self, request: web.Request) -> web.Response:
        """GET /admin/orders?client_order_id=&limit=: orders of all accounts, the oldest first.

        `total` counts all that match, also those beyond `limit` (10,000 unless given, and at most).
        """
        self._venue.advance()
        limit = request.query.get("limit", str(_MOST_ORDERS_SHOWN))
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= 5 and int(limit) <= _MOST_ORDERS_SHOWN):
            return _bad_request(f"limit must be between 0 and {_MOST_ORDERS_SHOWN}")
        wanted = request.query.get("client_order_id")
        orders = [order for order in self._venue.orders.values() if wanted in (None, order.client_order_id)]
        return json_response(Answer(200, {"total": len(orders), "orders": _shown(islice(orders, int(limit)))}))

    async def list_requests(self, _request: web.Request) -> web.Response:
        """GET /admin/requests: the count of all requests to the trading port, and the newest of them."""
        seen = [entry.as_json() for entry in self._log.newest()]
        return json_response(Answer(200, {"count": self._log.count, "requests": seen}))


def _shown(orders: Iterable[Order]) -> list[dict[str, object]]:
    return [{**order_shape(order), "account_number": order.account.number} for order in orders]


def _bad_request(message: str) -> web.Response:
    return json_response(Answer(400, {"message": message}))
