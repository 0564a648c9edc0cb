"""The tools of an exchange account, as they are declared to agents."""

import json
from collections.abc import Mapping
from typing import Final

from gateway.terms.asks import Effect, Idempotency, ToolDeclaration
from gateway.terms.ids import ToolName
from gateway.tools.backend import FactTypes
from gateway.tools.declarations import Draft, declared

VERSION: Final = "1"

PLACE_ORDER: Final = ToolName("place_order")
CANCEL_ORDER: Final = ToolName("cancel_order")
GET_ORDER: Final = ToolName("get_order")
LIST_ORDERS: Final = ToolName("list_orders")
LIST_POSITIONS: Final = ToolName("list_positions")
GET_ACCOUNT: Final = ToolName("get_account")
GET_CLOCK: Final = ToolName("get_clock")
GET_QUOTE: Final = ToolName("get_quote")

ORDERS_LISTED_MAX: Final = 100

PLACE_ORDER_FACTS: Final[FactTypes] = {
    "quantity_nano": int,
    "limit_price_micro": int,
    "reference_micro": int,
    "reference_age_ms": int,
    "notional_micro_usd": int,
    "reduces_exposure": bool,
}
"""Billionths of a share, millionths of a dollar, milliseconds; the limit price of a market order is 0."""

Schema = Mapping[str, object]

SYMBOL_FORM: Final = r"[A-Z]{1,5}(\.[A-Z])?"

_SYMBOL: Final[Schema] = {
    "type": "string",
    "description": "The ticker symbol, in capital letters.",
    "pattern": f"^{SYMBOL_FORM}$",
    "maxLength": 7,
}
_ORDER_ID: Final[Schema] = {
    "type": "string",
    "description": "The order_id that place_order gave.",
    "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "maxLength": 36,
}
CLIENT_ORDER_ID: Final[Schema] = {
    "type": "string",
    "description": "The client_order_id that place_order gave.",
    "pattern": "^gw-[a-z2-7]{32}$",
    "maxLength": 35,
}
_ZERO: Final[Schema] = {"pattern": r"^0(\.0+)?$"}


def amount_schema(description: str, fraction_digits: int) -> Schema:
    """A decimal string above zero: no sign, exponent, space or leading zero (attack rows 13 and 14)."""
    return {
        "type": "string",
        "description": f"{description} A decimal string above zero such as 10 or 12.5.",
        "pattern": rf"^(0|[1-9][0-9]{{0,8}})(\.[0-9]{{1,{fraction_digits}}})?$",
        "maxLength": 10 + fraction_digits,
        "not": _ZERO,
    }


def closed_object(properties: Mapping[str, Schema], **more: object) -> Schema:
    """An object with these members and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


_PLACE_ORDER: Final = closed_object(
    {
        "symbol": _SYMBOL,
        "side": {"type": "string", "enum": ["buy", "sell"], "description": "Only what is held can be sold."},
        "type": {"type": "string", "enum": ["market", "limit"]},
        "quantity": amount_schema("How many shares.", 9),
        "limit_price": amount_schema("US dollars a share; for limit orders only.", 6),
        "time_in_force": {
            "type": "string",
            "enum": ["day", "gtc", "ioc", "fok"],
            "description": "Until the day's end, until cancelled, what is possible at once, or all at once or nothing.",
        },
    },
    required=["symbol", "side", "type", "quantity", "time_in_force"],
    **{
        "if": {"properties": {"type": {"const": "limit"}}, "required": ["type"]},
        "then": {"required": ["limit_price"]},
        "else": {"properties": {"limit_price": False}},
    },
)

_LIST_ORDERS: Final = closed_object(
    {
        "status": {"type": "string", "enum": ["open", "closed", "all"]},
        "limit": {"type": "integer", "minimum": 1, "maximum": ORDERS_LISTED_MAX},
    },
    required=["status", "limit"],
)

_READS: Final[Mapping[ToolName, tuple[str, Schema]]] = {
    GET_ORDER: (
        "Shows an order of the account: its state and what of it was filled.",
        closed_object(
            {"order_id": _ORDER_ID, "client_order_id": CLIENT_ORDER_ID},
            oneOf=[{"required": ["order_id"]}, {"required": ["client_order_id"]}],
        ),
    ),
    LIST_ORDERS: ("Lists the newest orders of the account.", _LIST_ORDERS),
    LIST_POSITIONS: ("Lists what the account holds.", closed_object({})),
    GET_ACCOUNT: ("Shows the account's cash, buying power and equity in US dollars.", closed_object({})),
    GET_CLOCK: ("Shows whether the market is open, and when it opens and closes next.", closed_object({})),
    GET_QUOTE: ("Shows the best bid and ask of a symbol now.", closed_object({"symbol": _SYMBOL}, required=["symbol"])),
}


def declarations(timeout_ms: int) -> tuple[ToolDeclaration, ...]:
    """The tools of an exchange account, each with this timeout. Raises `DeclarationRefusedError` for a bad timeout."""
    place = _tool(
        PLACE_ORDER,
        "Places an order at the exchange. It cannot be taken back once it is filled.",
        _PLACE_ORDER,
        (Effect.IRREVERSIBLE, Idempotency.NATIVE_KEY),
        timeout_ms,
    )
    cancel = _tool(
        CANCEL_ORDER,
        "Cancels what is still open of an order.",
        closed_object({"order_id": _ORDER_ID}, required=["order_id"]),
        (Effect.REVERSIBLE, Idempotency.NATURAL),
        timeout_ms,
        reduces=True,
    )
    reads = (
        _tool(name, description, schema, (Effect.READ, Idempotency.NATURAL), timeout_ms)
        for name, (description, schema) in _READS.items()
    )
    return (place, cancel, *reads)


def _tool(  # noqa: PLR0913 - the fields of one declaration
    name: ToolName,
    description: str,
    schema: Schema,
    nature: tuple[Effect, Idempotency],
    timeout_ms: int,
    *,
    reduces: bool = False,
) -> ToolDeclaration:
    return declared(
        Draft(
            name=name,
            version=VERSION,
            description=description,
            arguments_schema=json.dumps(schema, separators=(",", ":")),
            effect=nature[0].value,
            idempotency=nature[1].value,
            timeout_ms=timeout_ms,
            reduces=reduces,
        )
    )
