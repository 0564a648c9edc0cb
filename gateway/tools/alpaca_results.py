"""What an agent is told of a venue's answer: closed objects of our own, and refusals in stable codes."""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Succeeded
from gateway.terms.strict_json import JsonValue
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_rest import Answer
from gateway.tools.alpaca_wire import Quote, VenueOrder, plain
from gateway.tools.words import harmless

ONE_CALL: Final = ((Unit.CALLS, 1),)

_REASONS: Final[Mapping[int, str]] = {
    400: "venue.invalid",
    401: "venue.unauthorized",
    403: "venue.forbidden",
    404: "venue.not_found",
    409: "venue.conflict",
    422: "venue.unprocessable",
    429: "venue.rate_limited",
}
_TOLD: Final = (
    ("insufficient buying power", "venue.insufficient_funds"),
    ("insufficient qty", "venue.insufficient_quantity"),
    ("client_order_id must be unique", "venue.client_order_id_taken"),
)
"""The venue's code 40310000 stands for all of 403; only its words tell these apart."""


class Results:
    """Writes results in the name of one venue."""

    def __init__(self, config: AlpacaConfig) -> None:
        self._venue = config.name
        self._secrets = (config.secret_key, config.key_id)

    def encoded(self, members: Mapping[str, object]) -> bytes:
        """One JSON object that names the venue."""
        return msgspec.json.encode({"venue": self._venue, **members})

    def told(self, members: Mapping[str, object]) -> Succeeded:
        """A call that succeeded and cost nothing but itself."""
        return Succeeded(result=self.encoded(members), charges=ONE_CALL)

    def refused(self, answer: Answer) -> Failed:
        """A definite no of the venue, with its own words made harmless."""
        words = self._words(answer.body)
        reason = next((code for text, code in _TOLD if text in words), _REASONS.get(answer.status, "venue.refused"))
        message = f"The venue refused ({answer.status}): {words}" if words else f"The venue refused ({answer.status})."
        return Failed(failure=Failure(reason=reason, message=message), charges=ONE_CALL)

    def _words(self, body: JsonValue) -> str:
        """The venue's message: printable ASCII only, bounded, and without our credentials (attack rows 33 and 45)."""
        message = body.get("message") if isinstance(body, dict) else None
        if not isinstance(message, str):
            return ""
        return harmless(message, self._secrets)


def has_error_form(answer: Answer) -> bool:
    """Whether an error comes from the venue itself, and not from something on the way to it."""
    return isinstance(answer.body, dict) and isinstance(answer.body.get("message"), str)


def order_members(order: VenueOrder) -> dict[str, object]:
    """An order, as members of a result."""
    return {
        "order_id": order.id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "status": order.status,
        "quantity": None if order.quantity is None else plain(order.quantity),
        "filled_quantity": plain(order.filled),
        "average_price": None if order.average_price is None else plain(order.average_price),
        "limit_price": None if order.limit_price is None else plain(order.limit_price),
        "submitted_at": order.submitted_at,
    }


def quote_members(quote: Quote) -> dict[str, object]:
    """A quote, as members of a result."""
    return {
        "symbol": quote.symbol,
        "bid_price": plain(quote.bid),
        "bid_size": plain(quote.bid_size),
        "ask_price": plain(quote.ask),
        "ask_size": plain(quote.ask_size),
        "at": quote.at,
    }
