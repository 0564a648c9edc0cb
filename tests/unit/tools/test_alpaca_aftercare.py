"""What is found out later of orders and cancels, over a real socket, whatever the venue does."""

from dataclasses import replace

import msgspec
import pytest
from aiohttp import web
from toolcases import (
    CALLER,
    LIMIT_BUY,
    MARKET_SELL,
    UUID,
    asked,
    error,
    finds,
    nothing_counted,
    order_json,
    resets,
    says,
)

from gateway.terms.aftercare import NotYet, Unknowable, Watched
from gateway.terms.asks import Effect
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Operation, OperationKey, Receipt, State, Succeeded
from gateway.tools.alpaca_wire import unix_us

NOW_US = unix_us("2026-11-23T12:00:01Z")
WINDOW_US = (10_000 + 30_000 + 5_000) * 1_000
"""Sending, acceptance, clocks."""
BY_ID = "/v2/orders:by_client_order_id"
NOT_FOUND = error(404, 40410000, "order not found")


async def demanded(toolbox, arguments=LIMIT_BUY, tool="place_order"):
    ask = asked(toolbox, tool, arguments)
    return ask, toolbox.demand(CALLER, ask, await toolbox.facts(CALLER, ask, nothing_counted))


async def watched(toolbox, state=State.RECONCILING, arguments=LIMIT_BUY, tool="place_order", **changes):
    """The operation as another instance finds it: with its memo, and without its ask."""
    ask, demand = await demanded(toolbox, arguments, tool)
    receipt = Receipt(instance="i", boot="b", sequence=1, leaf_hash=b"")
    operation = Operation(
        id="op-1",
        key=OperationKey(tenant=CALLER.tenant, principal=CALLER.principal, tool=tool, key=ask.key),
        version="1",
        fingerprint=ask.digest,
        state=state,
        result=b"",
        failure=None,
        rules=(),
        policy_hash="",
        intent=receipt,
        outcome=None,
        created_unix_us=NOW_US,
        lease_until_unix_us=0,
    )
    held = tuple((claim.unit, claim.amount) for claim in demand.claims)
    plain = Watched(operation=operation, memo=demand.memo, held=held, looks=0, withdraw=False, fence=2)
    return replace(plain, **changes)


async def test_an_order_says_what_stops_it_and_how_to_ask_for_it(toolbox):
    _, demand = await demanded(toolbox)
    assert demand.halts == ("symbol:AAPL", "venue:paper")
    assert b"gw-" in demand.memo
    assert b"SECRET" not in demand.memo


async def test_a_cancel_is_stopped_by_nothing_and_a_read_needs_no_memo(toolbox):
    ask, demand = await demanded(toolbox, {"order_id": UUID}, "cancel_order")
    assert (ask.tool.reduces, demand.halts) == (True, ())
    assert UUID.encode() in demand.memo
    ask, demand = await demanded(toolbox, {}, "get_account")
    assert (ask.tool.effect, demand.memo, demand.halts) == (Effect.READ, b"", ())


async def test_an_order_that_is_there_tells_the_whole_truth(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="filled", filled_qty="10", filled_avg_price="190"))
    found = await toolbox.look(await watched(toolbox))
    assert isinstance(found, Succeeded)
    assert not found.live
    assert {(Unit.CALLS, 1), (Unit.NOTIONAL, 1_900_000_000), (Unit.EXPOSURE, 1_900_000_000)} <= set(found.charges)


async def test_an_open_order_goes_on_and_holds_what_it_may_still_cost(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="partially_filled", filled_qty="4", filled_avg_price="190"))
    found = await toolbox.look(await watched(toolbox))
    assert found.live
    assert dict(found.charges)[Unit.EXPOSURE] == 4 * 190_000_000 + 6 * 190_500_000


async def test_an_order_that_ended_without_a_fill_gives_everything_back(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="canceled"))
    found = await toolbox.look(await watched(toolbox))
    assert isinstance(found, Failed)
    assert found.failure.reason == "venue.order_canceled"
    assert dict(found.charges) == {Unit.CALLS: 1}


async def test_a_market_order_is_charged_at_what_was_held_until_it_is_filled(toolbox, venue):
    same = {"side": "sell", "type": "market", "time_in_force": "ioc", "qty": "4", "limit_price": None}
    venue.on("GET", BY_ID, finds(**same, status="new"))
    found = await toolbox.look(await watched(toolbox, arguments=MARKET_SELL))
    assert found.live
    assert dict(found.charges)[Unit.EXPOSURE] == 0


@pytest.mark.parametrize("passed_us, proof", [(0, False), (WINDOW_US, False), (WINDOW_US + 1, True)])
async def test_not_found_is_proof_only_after_the_acceptance_window(toolbox, venue, clock, passed_us, proof):
    venue.on("GET", BY_ID, NOT_FOUND)
    one = await watched(toolbox)
    clock.now_us += passed_us
    found = await toolbox.look(one)
    if proof:
        assert isinstance(found, Failed)
        assert found.failure.reason == "venue.order_never_arrived"
    else:
        assert isinstance(found, NotYet)
        assert found.failure.reason == "venue.not_found_yet"


async def test_a_clock_that_went_back_proves_nothing(toolbox, venue, clock):
    venue.on("GET", BY_ID, NOT_FOUND)
    one = await watched(toolbox)
    clock.now_us -= 3_600_000_000
    assert isinstance(await toolbox.look(one), NotYet)


@pytest.mark.parametrize(
    "responder",
    [
        resets,
        error(503, 50310000, "unavailable"),
        error(401, 40110000, "unauthorized"),
        error(429, 42910000, "slow down"),
        says("{}", 404),
        says("<html>", 404),
        says({"id": "nonsense"}),
        finds(client_order_id="gw-other"),
    ],
    ids=["reset", "503", "401", "429", "no error form", "a proxy's page", "malformed", "another order"],
)
async def test_what_is_no_answer_of_the_venue_never_proves_anything(toolbox, venue, clock, responder):
    venue.on("GET", BY_ID, responder)
    one = await watched(toolbox)
    clock.now_us += 10 * WINDOW_US
    assert isinstance(await toolbox.look(one), NotYet)


async def test_an_order_that_is_followed_is_never_taken_for_one_that_never_was(toolbox, venue, clock):
    venue.on("GET", BY_ID, NOT_FOUND)
    one = await watched(toolbox, State.SUCCEEDED)
    clock.now_us += 10 * WINDOW_US
    assert isinstance(await toolbox.look(one), NotYet)


FILLED = {"filled_qty": "4", "filled_avg_price": "190"}


@pytest.mark.parametrize("terms", [{"qty": "11"}, {"time_in_force": "gtc"}, {"type": "stop_limit"}])
@pytest.mark.parametrize(
    "state, status, kind",
    [
        (State.RECONCILING, {"status": "new"}, NotYet),
        (State.RECONCILING, {"status": "partially_filled", **FILLED}, NotYet),
        (State.RECONCILING, {"status": "canceled", **FILLED}, Unknowable),
        (State.RECONCILING, {"status": "canceled"}, Failed),
        (State.SUCCEEDED, {"status": "new"}, NotYet),
        (State.SUCCEEDED, {"status": "canceled", **FILLED}, NotYet),
        (State.SUCCEEDED, {"status": "canceled"}, Failed),
    ],
)
async def test_an_order_under_our_id_with_other_terms_is_kept_until_it_is_nothing(
    toolbox, venue, terms, state, status, kind
):
    venue.on("GET", BY_ID, finds(**terms, **status))
    found = await toolbox.look(await watched(toolbox, state))
    assert isinstance(found, kind), found
    assert kind is Failed or found.failure.reason == "venue.order_not_as_sent"
    assert venue.count("DELETE") == 0


@pytest.mark.parametrize(
    "terms", [{"time_in_force": "gtc"}, {"qty": "11"}, {"symbol": "MSFT"}, {"qty": "11 shares"}, {"type": None}]
)
async def test_a_withdrawal_cancels_what_is_open_under_our_id_whatever_its_terms(toolbox, venue, terms):
    venue.on("GET", BY_ID, finds(status="new", **terms), finds(status="canceled", time_in_force="gtc"))
    venue.on("DELETE", "/v2/orders/" + UUID, says("", 204))
    found = await toolbox.look(await watched(toolbox, withdraw=True))
    assert venue.count("DELETE") == 1
    assert isinstance(found, Failed)
    assert found.failure.reason == "venue.order_canceled"


async def test_a_withdrawal_cancels_nothing_that_is_not_under_our_id(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="new", client_order_id="someone-elses"))
    assert isinstance(await toolbox.look(await watched(toolbox, withdraw=True)), NotYet)
    assert venue.count("DELETE") == 0


async def test_what_is_to_be_withdrawn_is_cancelled_and_looked_at_again(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="new"), finds(status="canceled"))
    venue.on("DELETE", "/v2/orders/" + UUID, says("", 204))
    found = await toolbox.look(await watched(toolbox, State.SUCCEEDED, withdraw=True))
    assert isinstance(found, Failed)
    assert venue.count("DELETE") == 1


async def test_a_cancel_that_does_not_come_through_is_tried_again_later(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="new"))
    venue.on("DELETE", "/v2/orders/" + UUID, resets)
    found = await toolbox.look(await watched(toolbox, State.SUCCEEDED, withdraw=True))
    assert found.live
    assert venue.count("DELETE") >= 1  # aiohttp itself repeats what may be repeated


async def test_what_ended_already_is_not_cancelled_again(toolbox, venue):
    venue.on("GET", BY_ID, finds(status="filled", filled_qty="10", filled_avg_price="190"))
    assert not (await toolbox.look(await watched(toolbox, withdraw=True))).live
    assert venue.count("DELETE") == 0


@pytest.mark.parametrize(
    "status, late, reason",
    [
        ("canceled", False, None),
        ("pending_cancel", False, None),
        ("expired", False, "venue.not_cancelable"),
        ("new", False, "venue.no_look_up"),
        ("new", True, "venue.cancel_never_arrived"),
    ],
)
async def test_a_cancel_is_known_by_its_order(toolbox, venue, clock, status, late, reason):
    venue.on("GET", "/v2/orders/" + UUID, says(order_json(status=status)))
    one = await watched(toolbox, arguments={"order_id": UUID}, tool="cancel_order")
    clock.now_us += (WINDOW_US + 1) * late
    found = await toolbox.look(one)
    assert (None if isinstance(found, Succeeded) else found.failure.reason) == reason
    assert isinstance(found, NotYet) == (reason == "venue.no_look_up")
    assert venue.count("DELETE") == 0


@pytest.mark.parametrize("memo", [b"", b"{}", b"nonsense", b'{"memo":"order"}'])
async def test_without_a_memo_that_can_be_read_a_person_must_decide(toolbox, venue, memo):
    assert isinstance(await toolbox.look(await watched(toolbox, memo=memo)), Unknowable)


async def test_a_tool_that_is_gone_cannot_be_asked(toolbox):
    one = await watched(toolbox)
    gone = replace(one, operation=msgspec.structs.replace(one.operation, version="2"))
    assert isinstance(await toolbox.look(gone), Unknowable)


async def test_a_look_has_one_deadline(toolbox, venue, clock):
    async def slow(_):
        clock.shift_ns += 11_000_000_000
        return web.Response(status=503)

    venue.on("GET", BY_ID, slow)
    assert isinstance(await toolbox.look(await watched(toolbox, withdraw=True)), NotYet)
    assert venue.count("GET", BY_ID) == 1
