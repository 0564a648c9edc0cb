"""The tools of an account at a crypto exchange, as they are declared to agents: spot orders in configured symbols."""

import json
from collections.abc import Mapping
from typing import Final

from gateway.terms.asks import Effect, Idempotency, ToolDeclaration
from gateway.terms.ids import ToolName
from gateway.tools.alpaca_tools import (
    CANCEL_ORDER,
    CLIENT_ORDER_ID,
    GET_ACCOUNT,
    GET_ORDER,
    GET_QUOTE,
    LIST_ORDERS,
    LIST_POSITIONS,
    ORDERS_LISTED_MAX,
    PLACE_ORDER,
    VERSION,
    Schema,
    amount_schema,
    closed_object,
)
from gateway.tools.declarations import Draft, declared

_ORDER_ID: Final[Schema] = {
    "type": "string",
    "description": "The order_id that place_order gave.",
    "pattern": "^[A-Za-z0-9-]{1,64}$",
    "maxLength": 64,
}
_SYMBOL_REQUIRED: Final[Schema] = {"allOf": [{"required": ["symbol"]}]}
"""Required all the same, but told apart: other venues' tools of these names know no symbol here, and rules that are
written for all of them (and their tests) must stay valid, which they do where the policy schema has it as optional."""


def _symbol(symbols: tuple[str, ...]) -> Schema:
    """One of those that the operator configured, and no other: the exchange's own list is not asked."""
    return {"type": "string", "enum": list(symbols), "description": "What is traded, and what it is priced in."}


def _place_order(symbols: tuple[str, ...]) -> Schema:
    return closed_object(
        {
            "symbol": _symbol(symbols),
            "side": {"type": "string", "enum": ["buy", "sell"], "description": "Only what is held can be sold."},
            "type": {"type": "string", "enum": ["market", "limit"]},
            "quantity": amount_schema("How many coins.", 9),
            "limit_price": amount_schema("The price of one coin; for limit orders only.", 6),
            "time_in_force": {
                "type": "string",
                "enum": ["gtc", "ioc", "fok"],
                "description": "Until cancelled, what is possible at once (market orders), or all at once or nothing.",
            },
        },
        required=["symbol", "side", "type", "quantity", "time_in_force"],
        **{
            "if": {"properties": {"type": {"const": "limit"}}, "required": ["type"]},
            "then": {"required": ["limit_price"]},
            "else": {"properties": {"limit_price": False, "time_in_force": {"const": "ioc"}}},
        },
    )


def _reads(symbols: tuple[str, ...]) -> Mapping[ToolName, tuple[str, Schema]]:
    symbol = _symbol(symbols)
    return {
        GET_ORDER: (
            "Shows an order of the account: its state and what of it was filled.",
            closed_object(
                {"symbol": symbol, "order_id": _ORDER_ID, "client_order_id": CLIENT_ORDER_ID},
                oneOf=[{"required": ["order_id"]}, {"required": ["client_order_id"]}],
                **_SYMBOL_REQUIRED,
            ),
        ),
        LIST_ORDERS: (
            "Lists the newest orders of the account in a symbol.",
            closed_object(
                {
                    "symbol": symbol,
                    "status": {"type": "string", "enum": ["open", "all"]},
                    "limit": {"type": "integer", "minimum": 1, "maximum": ORDERS_LISTED_MAX},
                },
                required=["status", "limit"],
                **_SYMBOL_REQUIRED,
            ),
        ),
        GET_ACCOUNT: (
            "Shows the account's cash and what of it no open order holds, in the currencies that count as US dollars.",
            closed_object({}),
        ),
        LIST_POSITIONS: ("Lists what the account holds of each currency.", closed_object({})),
        GET_QUOTE: (
            "Shows the best bid and ask of a symbol now.",
            closed_object({"symbol": symbol}, required=["symbol"]),
        ),
    }


def declarations(symbols: tuple[str, ...], timeout_ms: int) -> tuple[ToolDeclaration, ...]:
    """The tools over these symbols. Their names are those of every venue; each asks for a symbol beside an order."""
    place = Draft(
        name=PLACE_ORDER,
        version=VERSION,
        description="Places an order at the exchange. It cannot be taken back once it is filled.",
        arguments_schema=_written(_place_order(symbols)),
        effect=Effect.IRREVERSIBLE.value,
        # Not native-key: the exchange takes an order id again once the order that had it has ended.
        idempotency=Idempotency.LOOKUP.value,
        timeout_ms=timeout_ms,
    )
    cancel = Draft(
        name=CANCEL_ORDER,
        version=VERSION,
        description="Cancels what is still open of an order.",
        arguments_schema=_written(
            closed_object(
                {"symbol": _symbol(symbols), "order_id": _ORDER_ID},
                required=["order_id"],
                **_SYMBOL_REQUIRED,
            )
        ),
        effect=Effect.REVERSIBLE.value,
        idempotency=Idempotency.NATURAL.value,
        timeout_ms=timeout_ms,
        reduces=True,
    )
    reads = (
        Draft(
            name=name,
            version=VERSION,
            description=description,
            arguments_schema=_written(schema),
            effect=Effect.READ.value,
            idempotency=Idempotency.NATURAL.value,
            timeout_ms=timeout_ms,
        )
        for name, (description, schema) in _reads(symbols).items()
    )
    return tuple(map(declared, (place, cancel, *reads)))


def _written(schema: Schema) -> str:
    return json.dumps(schema, separators=(",", ":"))
