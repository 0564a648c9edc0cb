"""Injected faults: what they match, how often they strike, and that a misspelt one is refused."""

import json

import pytest

from localcloud.exchange.faults import FAULTS_KEPT, FaultKind, Faults, InvalidFaultError, Target, decode_fault
from localcloud.exchange.strict_json import decode

POST_APPLE = Target(method="POST", path="/v2/orders", symbols=("AAPL",))
GET_APPLE = Target(method="GET", path="/v2/stocks/AAPL/quotes/latest", symbols=("AAPL",))


def fault(**members):
    return decode_fault(decode(json.dumps(members).encode()))


@pytest.mark.parametrize(
    "match, strikes_post, strikes_get",
    [
        ({}, True, True),
        ({"method": "POST"}, True, False),
        ({"path_prefix": "/v2/stocks"}, False, True),
        ({"symbol": "AAPL"}, True, True),
        ({"symbol": "MSFT"}, False, False),
        ({"method": "GET", "path_prefix": "/v2/", "symbol": "AAPL"}, False, True),
    ],
)
def test_what_a_fault_matches(match, strikes_post, strikes_get):
    injected = fault(kind="reset_before", match=match)
    assert (injected.matches(POST_APPLE), injected.matches(GET_APPLE)) == (strikes_post, strikes_get)


def test_a_fault_strikes_as_often_as_it_says_and_the_next_one_follows():
    faults = Faults()
    faults.add([fault(kind="status_before", status=429, count=2), fault(kind="status_before", status=500)])
    taken = [faults.take(FaultKind.STATUS_BEFORE, POST_APPLE) for _ in range(4)]
    assert [strike.status if strike else None for strike in taken] == [429, 429, 500, None]
    assert not faults


def test_a_fault_without_count_strikes_once_and_with_null_until_it_is_removed():
    faults = Faults()
    faults.add([fault(kind="halt"), fault(kind="zero_quote", count=None)])
    assert faults.take(FaultKind.HALT, POST_APPLE)
    assert faults.take(FaultKind.HALT, POST_APPLE) is None
    assert all(faults.take(FaultKind.ZERO_QUOTE, GET_APPLE) for _ in range(10))
    assert faults.listed()[0].seen == 10
    faults.clear()
    assert not faults


def test_looking_does_not_count():
    faults = Faults()
    faults.add([fault(kind="halt")])
    assert faults.peek(FaultKind.HALT, POST_APPLE)
    assert faults.peek(FaultKind.HALT, POST_APPLE)
    assert faults.listed()[0].seen == 0


def test_the_number_of_faults_is_bounded():
    faults = Faults()
    with pytest.raises(InvalidFaultError, match="remove some"):
        faults.add(fault(kind="halt") for _ in range(FAULTS_KEPT + 1))
    assert not faults


@pytest.mark.parametrize(
    "broken, says",
    [
        ({}, "kind must be one of"),
        ({"kind": "explode"}, "kind must be one of"),
        ({"kind": "halt", "times": 3}, "no member 'times'"),
        ({"kind": "halt", "match": {"path": "/v2"}}, "no member 'path'"),
        ({"kind": "halt", "match": []}, "match must be an object"),
        ({"kind": "halt", "match": {"symbol": 3}}, "symbol must be a string"),
        ({"kind": "halt", "count": 0}, "count must be at least 1"),
        ({"kind": "halt", "count": -1}, "count must be a whole number"),
        ({"kind": "halt", "count": 1.5}, "count must be a whole number"),
        ({"kind": "halt", "count": "1"}, "count must be a whole number"),
        ({"kind": "latency"}, "needs delay_ms"),
        ({"kind": "stale_quote"}, "needs delay_ms"),
        ({"kind": "status_before"}, "needs a status"),
        ({"kind": "status_after", "status": 200}, "needs a status"),
    ],
)
def test_a_fault_that_could_not_strike_is_refused(broken, says):
    with pytest.raises(InvalidFaultError, match=says):
        fault(**broken)
