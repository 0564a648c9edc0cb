"""The toolbox sends what was decided on, byte for byte, or nothing (attack row 21)."""

import json
from dataclasses import replace

import msgspec
import pytest
from toolcases import CALLER, LIMIT_BUY, TOOLS, accepts, asked, config, request, reserved, toolbox_of

from gateway.call.stations import Tools
from gateway.terms.asks import ReadAsk
from gateway.terms.clock import SystemIds
from gateway.terms.ids import OperationId, ToolName
from gateway.terms.operations import Failed, Succeeded
from gateway.tools.alpaca import Alpaca
from gateway.tools.toolbox import Toolbox


def test_it_is_the_tools_station(toolbox):
    station: Tools = toolbox
    assert [tool.name for tool in station.offered(CALLER)] == sorted(TOOLS)
    assert {tool.name for tool in toolbox.declarations} == set(TOOLS)


async def test_what_is_unchanged_is_sent(venue, toolbox):
    venue.on("POST", "/v2/orders", accepts())
    assert isinstance(await toolbox.execute(reserved(asked(toolbox, "place_order", LIMIT_BUY))), Succeeded)


DEARER = LIMIT_BUY | {"quantity": "99"}


@pytest.mark.parametrize(
    "changed",
    [
        {"arguments_bytes": json.dumps(DEARER).encode()},
        {"arguments": DEARER},
        {"arguments_bytes": json.dumps(DEARER).encode(), "arguments": DEARER},
        {"digest": b"\0" * 32},
        {"arguments_bytes": b"not json"},
    ],
    ids=["bytes", "arguments", "bytes and arguments", "digest", "no JSON"],
)
async def test_what_changed_after_the_decision_is_not_sent(venue, toolbox, changed):
    ask = replace(asked(toolbox, "place_order", LIMIT_BUY), **changed)
    outcome = await toolbox.execute(reserved(ask))
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "arguments.changed"
    assert venue.seen == []


async def test_a_tool_that_changed_after_the_decision_is_not_sent(venue, toolbox):
    ask = asked(toolbox, "place_order", LIMIT_BUY)
    other = replace(ask, tool=replace(ask.tool, description="Places an order, always."))
    outcome = await toolbox.execute(reserved(other))
    assert outcome.failure.reason == "tool.changed"
    assert venue.seen == []


async def test_only_a_tool_call_is_executed(venue, toolbox):
    ask = asked(toolbox, "get_account", {}, key="")
    reservation = reserved(ask)
    other = msgspec.structs.replace(reservation.permit, ask=ReadAsk(what="list_tools", operation=OperationId("")))
    outcome = await toolbox.execute(msgspec.structs.replace(reservation, permit=other))
    assert isinstance(outcome, Failed)
    assert venue.seen == []


async def test_two_venues_with_the_same_tools_are_refused(clock, venue):
    first, second = Alpaca(config(venue.url), clock), Alpaca(config(venue.url, name="other"), clock)
    with pytest.raises(ValueError, match="declared twice"):
        Toolbox([first, second], SystemIds())


async def test_pins_reach_the_catalogue(clock, venue):
    exchange = Alpaca(config(venue.url), clock)
    toolbox = Toolbox([exchange], SystemIds(), {ToolName("place_order"): "another hash"})
    assert toolbox.ask(CALLER, request("place_order", LIMIT_BUY)).reason == "tool.changed"
    assert toolbox_of(exchange).ask(CALLER, request("place_order", LIMIT_BUY)).name == "place_order"
