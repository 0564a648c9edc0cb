"""What the model calls follows from the user's words and the declared functions alone."""

import pytest

from localcloud.vertex.config import Pace
from localcloud.vertex.directives import read_directives
from localcloud.vertex.errors import ApiError
from localcloud.vertex.grammar import Malformed, steps
from localcloud.vertex.prompt import Call, Function

TEXT = {"type": "string"}
PLACE = Function(
    name="exchange.place_order",
    schema={
        "type": "object",
        "properties": {
            "symbol": TEXT,
            "side": {"type": "string", "enum": ["buy", "sell"]},
            "qty": TEXT,
            "type": {"type": "string", "enum": ["market", "limit"]},
            "limit_price": TEXT,
            "time_in_force": {"type": "string", "enum": ["day", "gtc"]},
        },
        "required": ["symbol", "side", "qty", "type", "time_in_force"],
    },
)
CANCEL = Function(name="cancel_order", schema={"type": "object", "properties": {"order_id": TEXT}})
STATUS = Function(name="getOrder", schema={"type": "object", "properties": {"orderId": TEXT}})
POSITIONS = Function(name="list_positions", schema={"type": "object", "properties": {}})
POSITION = Function(
    name="get_position", schema={"type": "object", "properties": {"symbol": TEXT}, "required": ["symbol"]}
)
QUOTE = Function(name="latest_quote", schema={"type": "object", "properties": {"symbol": TEXT}})
ACCOUNT = Function(name="get_account")
CLOCK = Function(name="get_clock")
ALL = (PLACE, CANCEL, STATUS, POSITIONS, POSITION, QUOTE, ACCOUNT, CLOCK)


def calls(text, functions=ALL):
    return [[(item.name, item.arguments) for item in step] for step in steps(text, functions)]


def order(**more):
    return ("exchange.place_order", {"time_in_force": "day"} | more)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("buy 5 AAPL", [[order(symbol="AAPL", side="buy", qty="5", type="market")]]),
        (
            "Please SELL 2 shares of MSFT at $410.50.",
            [[order(symbol="MSFT", side="sell", qty="2", type="limit", limit_price="410.50")]],
        ),
        ("buy 0.5 BTC/USD", [[order(symbol="BTC/USD", side="buy", qty="0.5", type="market")]]),
        ("cancel order ab-12", [[("cancel_order", {"order_id": "ab-12"})]]),
        ("what is the status of order 77x?", [[("getOrder", {"orderId": "77x"})]]),
        ("what is my position in AAPL?", [[("get_position", {"symbol": "AAPL"})]]),
        ("show my positions", [[("list_positions", {})]]),
        ("the price of MSFT please", [[("latest_quote", {"symbol": "MSFT"})]]),
        ("how much buying power is there", [[("get_account", {})]]),
        ("Is the market open?", [[("get_clock", {})]]),
        ("cancel order soon", []),
        ("call me tomorrow, the position is hopeless", []),
        ("hello", []),
        ("", []),
    ],
)
def test_phrases(text, wanted):
    assert calls(text) == wanted


def test_parallel_calls_keep_the_order_of_the_text():
    found = calls("quote for MSFT\nbuy 1 AAPL and sell 2 IBM")
    assert [[name for name, _ in step] for step in found] == [["latest_quote", PLACE.name, PLACE.name]]


def test_then_starts_the_next_step():
    found = calls("quote for MSFT and quote for IBM, then buy 1 MSFT, then show my positions")
    assert [[name for name, _ in step] for step in found] == [
        ["latest_quote", "latest_quote"],
        [PLACE.name],
        ["list_positions"],
    ]


def test_a_call_line_says_exactly_what_is_called():
    text = 'call exchange.place_order {"symbol": "A}P", "qty": "1", "x": {"y": ["then buy 5 AAPL"]}} and more'
    assert calls(text) == [[("exchange.place_order", {"symbol": "A}P", "qty": "1", "x": {"y": ["then buy 5 AAPL"]}})]]


def test_a_call_line_without_arguments():
    assert calls("Please call get_account.") == [[("get_account", {})]]


@pytest.mark.parametrize("arguments", ['{"symbol": }', '{"symbol": "A"', "{symbol: 1}"])
def test_broken_arguments_are_a_malformed_call(arguments):
    (step,) = steps(f"call get_account {arguments}\nbuy 5 AAPL", ALL)
    assert isinstance(step[0], Malformed)
    assert isinstance(step[1], Call)


def test_only_declared_functions_are_called():
    assert calls("buy 5 AAPL\ncall place_order {}", (ACCOUNT, QUOTE)) == []
    assert calls("buy 5 AAPL", ()) == []


def test_numbers_and_choices_take_the_schemas_form():
    schema = {
        "type": "OBJECT",
        "properties": {
            "ticker": {"type": "STRING"},
            "action": {"type": "STRING", "enum": ["BUY", "SELL"]},
            "quantity": {"type": "INTEGER"},
            "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "account": {"type": "STRING", "default": "main"},
            "venue": {"type": "STRING", "enum": ["X"]},
            "comment": {"type": "STRING"},
        },
        "required": ["ticker", "action", "quantity", "account", "venue"],
    }
    function = Function(name="submitOrder", schema=schema)
    assert calls("sell 3 IBM @ 10.25", (function,)) == [
        [
            (
                "submitOrder",
                {"ticker": "IBM", "action": "SELL", "quantity": 3, "price": 10.25, "account": "main", "venue": "X"},
            )
        ]
    ]


def test_the_function_that_takes_what_was_said_is_chosen():
    assert calls("my position in IBM", (POSITIONS, POSITION)) == [[("get_position", {"symbol": "IBM"})]]
    assert calls("my positions", (POSITION, POSITIONS)) == [[("list_positions", {})]]


def test_one_member_takes_what_was_said():
    uuid = {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}$"}
    client_id = {"type": "string", "pattern": "^gw-[a-z2-7]{4}$"}
    function = Function(
        name="get_order", schema={"type": "object", "properties": {"order_id": uuid, "client_order_id": client_id}}
    )
    assert calls("status of order 0123abcd-0123", (function,)) == [[("get_order", {"order_id": "0123abcd-0123"})]]
    assert calls("status of order gw-ab2c", (function,)) == [[("get_order", {"client_order_id": "gw-ab2c"})]]
    assert calls("status of order 77", (function,)) == [[("get_order", {"order_id": "77"})]]


def test_required_members_that_were_not_said_conform():
    schema = {
        "type": "object",
        "properties": {"status": {"enum": ["open"]}, "limit": {"type": "integer", "minimum": 1, "maximum": 1}},
        "required": ["status", "limit"],
    }
    assert calls("show my orders", (Function(name="list_orders", schema=schema),)) == [
        [("list_orders", {"status": "open", "limit": 1})]
    ]


def test_directives_are_taken_off_the_text():
    found = read_directives("@pace deltas=3 size=2\n@echo\nhello\n@pace deltas=9", Pace(interval_ms=7))
    assert found.pace == Pace(deltas=3, size=2, interval_ms=7)
    assert found.echo
    assert found.text == "hello\n@pace deltas=9"


def test_other_lines_with_an_at_sign_are_text():
    assert read_directives("@john hello", Pace()).text == "@john hello"


@pytest.mark.parametrize(
    "line, told",
    [
        ("@pace deltas=x", "deltas must be an integer"),
        ("@pace deltas=-1", "deltas must be an integer"),
        ("@pace deltas=999999999999999", "from 0 to 100000"),
        ("@pace speed=1", "unknown parameter 'speed'"),
        ("@pace fast", "not a single name=value pair"),
        ("@pace deltas=1 deltas=2", "not a single name=value pair"),
        ("@finish reason=nice", "upper-case word"),
        ("@finish", "upper-case word"),
        ("@block", "upper-case word"),
        ("@echo loud=1", "unknown parameter"),
    ],
)
def test_wrong_directives_are_refused(line, told):
    with pytest.raises(ApiError, match=told):
        read_directives(line, Pace())
