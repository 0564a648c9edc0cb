"""Every irreversible tool is latched when it runs in a loop, whatever its backend knows of limits."""

from dataclasses import replace

import pytest
from toolcases import CALLER, LIMITS, MARKET_SELL, asked, nothing_counted

from gateway.terms.asks import Effect
from gateway.terms.limits import RepeatLimit
from gateway.terms.operations import Demand, Latch
from gateway.tools.repeats import latched, shape

LOOPING = replace(CALLER, limits=replace(LIMITS, repeats=RepeatLimit(executions=5, window_ms=1_000)))


@pytest.fixture
def ask(toolbox):
    return asked(toolbox, "place_order", MARKET_SELL)


def with_effect(ask, effect):
    return replace(ask, tool=replace(ask.tool, effect=effect))


def test_an_irreversible_tool_gets_the_latch_of_its_agents_limits(ask):
    [latch] = latched(LOOPING, ask, Demand(amounts={})).guards
    assert latch == Latch(scope="agent:trader/place_order", digest=shape(ask), executions=5, window_ms=1_000)


@pytest.mark.parametrize("effect", [Effect.READ, Effect.REVERSIBLE])
def test_what_can_be_taken_back_is_not_latched(ask, effect):
    assert latched(LOOPING, with_effect(ask, effect), Demand(amounts={})).guards == ()


@pytest.mark.parametrize("caller", [CALLER, replace(CALLER, limits=None)])
def test_without_a_limit_there_is_no_latch(ask, caller):
    assert latched(caller, ask, Demand(amounts={})).guards == ()


def test_a_backends_own_latch_is_the_only_one(ask, toolbox):
    own = Latch(scope="agent:trader/place_order", digest=b"o" * 32, executions=2, window_ms=7)
    assert latched(LOOPING, ask, Demand(amounts={}, guards=(own,))).guards == (own,)


@pytest.mark.parametrize(
    "arguments, same",
    [
        ({"a": "1", "b": 2}, True),
        ({"b": 9, "a": "other"}, True),
        ({"a": "1"}, False),
        ({"a": "1", "b": "2"}, False),
        ({"a": "1", "b": 2, "c": None}, False),
        ({"a": "1", "b": True}, False),
    ],
)
def test_a_shape_is_which_arguments_of_which_kind(ask, arguments, same):
    first = replace(ask, arguments={"a": "1", "b": 2})
    assert (shape(replace(ask, arguments=arguments)) == shape(first)) == same


async def test_an_order_has_one_latch(toolbox):
    """Its backend's, which knows that an order's symbol and side tell strategies apart."""
    ask = asked(toolbox, "place_order", MARKET_SELL)
    facts = await toolbox.facts(LOOPING, ask, nothing_counted)
    demand = toolbox.demand(LOOPING, ask, facts)
    [latch] = [guard for guard in demand.guards if isinstance(guard, Latch)]
    assert latch.digest != shape(ask)
