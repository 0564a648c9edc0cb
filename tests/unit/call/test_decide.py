"""What operators see and decide: every operation, its records, and the outcome that no machine can know."""

import json

import pytest
from served import served
from whole import MARKET_BUY, RESTING_BUY, agent, budget, refusal, world

from gateway.audit.recount import recount
from gateway.audit.verify import verify
from gateway.call.decide import Resolution, list_operations, resolve_operation, show_operation
from gateway.ledger.check import check
from gateway.terms.operations import State
from gateway.terms.overview import Page
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import (
    Charge,
    ListHaltsRequest,
    ListOperationsRequest,
    OperationState,
    ResolveOperationRequest,
    ShowOperationRequest,
)

REASON = "the venue's statement has none"
BUDGETS = (budget("calls", 1_000), budget("notional_micro_usd", 10**12))


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS), agent("other")]) as running:
        yield running


async def unknown(whole, key="k-1"):
    whole.world.lose_replies()
    operation = (await whole.act(RESTING_BUY, key=key)).operation
    assert operation.state is State.UNKNOWN
    return operation


def resolving(
    whole, operation, outcome=State.FAILED, reason="the venue's statement has none", charges=(), caller="oncall"
):
    decided = Resolution(operation=operation, outcome=outcome, reason=reason, charges=charges)
    return resolve_operation(whole.stations, whole.passage(caller), decided)


@pytest.mark.parametrize(
    "outcome, charges, exposure, notional",
    [
        (State.FAILED, (), (0, 0), 0),
        (State.FAILED, (("calls", 1),), (0, 0), 0),
        (State.SUCCEEDED, (), (0, 379_020_000), 379_020_000),
        (
            State.SUCCEEDED,
            (("exposure_micro_usd", 5_000_000), ("notional_micro_usd", 7_000_000)),
            (0, 5_000_000),
            7_000_000,
        ),
        # Nobody gives a purchase's exposure back by saying so.
        (State.SUCCEEDED, (("exposure_micro_usd", -5_000_000),), (0, 0), 379_020_000),
    ],
)
async def test_a_person_ends_what_nobody_knows_and_it_is_charged_so(whole, outcome, charges, exposure, notional):
    operation = await unknown(whole)
    resolved = await resolving(whole, operation.id, outcome, charges=charges)
    assert resolved.operation.state is outcome
    held = {unit: amounts for (_, unit, _), amounts in whole.held().items()}
    assert held.get("exposure_micro_usd", (0, 0)) == exposure
    assert held.get("notional_micro_usd", (0, 0)) == (0, notional)
    (record,) = whole.told("resolved")
    assert (record["operator"], record["reason"], record["state"]) == (
        "oncall",
        REASON,
        outcome.value,
    )
    shown = (await show_operation(whole.stations, whole.passage("oncall"), operation.id)).overview
    charged = {(one.scope, one.unit, one.window): one.charged for one in shown.held}
    told = {(one["scope"], one["unit"], one["window"]): one["amount"] for one in record["charged"]}
    assert {unit: amount for unit, amount in record["charges"].items() if amount} == {
        unit: amount for (_, unit, _), amount in told.items() if amount
    }
    booked = {(one["scope"], one["unit"], one["window"]): one["charged"] for one in record.get("booked", ())}
    assert told | booked == charged
    assert recount(whole.path).ok
    again = await whole.act(RESTING_BUY)
    assert (again.replayed, again.operation.state) == (True, outcome)
    whole.world.exchange.faults.clear()
    await whole.swept(times=3, seconds=100)
    assert (await whole.act(RESTING_BUY)).operation == again.operation  # what is decided is not asked for any more
    assert check(whole.path) == ()
    assert verify(whole.path).ok


async def test_only_the_unknown_is_decided_and_only_once(whole):
    operation = await unknown(whole)
    await resolving(whole, operation.id)
    refused = await refusal(resolving(whole, operation.id, State.SUCCEEDED))
    assert (refused.kind, refused.reason) == (Kind.UNSUPPORTED, "operation.not_unknown")
    whole.world.exchange.faults.clear()
    done = (await whole.act(MARKET_BUY, key="k-2")).operation
    assert (await refusal(resolving(whole, done.id))).reason == "operation.not_unknown"
    assert len(whole.told("resolved")) == 1
    refusals = whole.told("refusal")
    assert [(one["operator"], one["about"]) for one in refusals] == [("oncall", operation.id), ("oncall", done.id)]


async def test_what_is_just_being_asked_for_is_not_decided(whole):
    operation = await unknown(whole)
    whole.world.clock.pass_s(2)
    (taken,) = await whole.taken(1_000)
    refused = await refusal(resolving(whole, operation.id))
    assert (refused.kind, refused.reason) == (Kind.IN_PROGRESS, "operation.in_progress")
    await whole.ledger.postpone(taken, None)
    await resolving(whole, operation.id)


async def test_of_an_operator_and_a_finding_at_the_same_time_one_decides(whole):
    operation = await unknown(whole)
    seen = await whole.ledger.shown(operation.id)
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=2)

    async def shown(_):
        return seen

    stale = whole.stations.ledger
    original, stale.shown = stale.shown, shown
    try:
        assert (await refusal(resolving(whole, operation.id))).reason == "operation.in_progress"
    finally:
        stale.shown = original
    assert list(whole.operations().values()) == ["succeeded"]
    await whole.agree()


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"outcome": State.UNKNOWN}, "outcome"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"charges": (("shares", 1),)}, "charges"),
        ({"charges": (("calls", 1), ("calls", 2))}, "charges"),
        ({"charges": (("calls", -1),)}, "charges"),
        ({"charges": (("calls", 1 << 63),)}, "charges"),
        ({"charges": (("cost_micro_usd", 99),)}, "charges"),
        ({"charges": (("calls", 1), ("tokens", 0))}, "charges"),
        ({"charges": (("cost_micro_usd", 99),), "outcome": State.SUCCEEDED}, "charges"),
    ],
)
async def test_a_decision_without_its_form_decides_nothing(whole, changes, field):
    operation = await unknown(whole)
    refused = await refusal(resolving(whole, operation.id, **changes))
    assert (refused.kind, [one.field for one in refused.violations]) == (Kind.MALFORMED, [field])
    assert list(whole.operations().values()) == ["unknown"]
    assert whole.told("resolved") == []


async def test_a_charge_that_nothing_is_held_for_is_refused_with_what_is(whole):
    operation = await unknown(whole)
    refused = await refusal(resolving(whole, operation.id, charges=(("tokens", 5),)))
    (violation,) = refused.violations
    assert violation.description == (
        "the operation holds no tokens: charge what it holds: book_micro_usd, calls, exposure_micro_usd, filled_nano,"
        " notional_micro_usd, open_micro_usd, paid_micro_usd, position_nano"
    )
    # What it held is not decided on twice: nothing of a failed one is left to charge.
    assert (await resolving(whole, operation.id)).units == frozenset()


async def test_an_agent_neither_sees_nor_decides(whole):
    operation = await unknown(whole)
    for call in (
        resolving(whole, operation.id, caller="trader"),
        show_operation(whole.stations, whole.passage("trader"), operation.id),
        list_operations(whole.stations, whole.passage("other"), Page(size=10)),
    ):
        assert (await refusal(call)).reason == "operator.required"


async def test_the_records_of_an_operation_are_shown_in_their_order(whole):
    operation = await unknown(whole)
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=2)
    order = whole.world.orders()[0].id
    await whole.act({"order_id": order}, key="c", tool="cancel_order")
    await whole.swept(times=2, seconds=60)
    shown = await show_operation(whole.stations, whole.passage("oncall"), operation.id)
    kinds = [json.loads(one.record)["kind"] for one in shown.records]
    assert kinds == ["intent", "outcome", "reconciled", "followed"]
    assert shown.records[-1].receipt == shown.overview.operation.outcome
    assert {(one.unit, one.charged) for one in shown.overview.held} == {
        ("calls", 1),
        *((unit, 0) for unit in ("exposure_micro_usd", "notional_micro_usd", "position_nano", "book_micro_usd")),
        *((unit, 0) for unit in ("filled_nano", "paid_micro_usd", "open_micro_usd")),
    }
    assert (await refusal(show_operation(whole.stations, whole.passage("oncall"), "op-none"))).kind is Kind.NOT_FOUND
    assert (await refusal(show_operation(whole.stations, whole.passage("oncall"), "op 1"))).kind is Kind.MALFORMED


async def test_lists_are_paged_newest_first_and_filtered(whole):
    ids = [(await whole.act({"symbol": "AAPL"}, key="", tool="get_quote")).operation.id for _ in range(5)]
    lost = (await unknown(whole)).id
    async with served(whole) as client:

        async def listed(**asked):
            return (await client.call("ListOperations", ListOperationsRequest(**asked), caller="oncall")).reply

        first = await listed(page_size=4)
        assert [one.operation.id for one in first.operations] == [lost, *reversed(ids[2:])]
        second = await listed(page_size=4, page_token=first.next_page_token)
        assert [one.operation.id for one in second.operations] == [ids[1], ids[0]]
        assert second.next_page_token == ""
        only = await listed(states=[OperationState.UNKNOWN])
        assert [one.operation.id for one in only.operations] == [lost]
        overview = only.operations[0]
        assert (overview.tenant, overview.kind, overview.idempotency_key) == ("acme", "tool", "k-1")
        assert "symbol:AAPL" in overview.halt_scopes
        assert (await listed(needs_person=True)).operations == []
        for wrong in ({"page_size": 501}, {"page_token": "x"}, {"states": [OperationState.UNSPECIFIED]}):
            heard = await client.call("ListOperations", ListOperationsRequest(**wrong), caller="oncall")
            assert heard.refused[0] == "INVALID_ARGUMENT"
        shown = await client.call("ShowOperation", ShowOperationRequest(operation_id=lost), caller="oncall")
        assert [json.loads(one.record_json)["kind"] for one in shown.reply.records] == ["intent", "outcome"]
        request = ResolveOperationRequest(
            operation_id=lost,
            outcome=OperationState.SUCCEEDED,
            reason="seen at the venue",
            charges=[Charge(unit="exposure_micro_usd", amount=1)],
        )
        heard = await client.call("ResolveOperation", request, caller="oncall")
        assert heard.reply.overview.operation.state is OperationState.SUCCEEDED
        again = await client.call("ResolveOperation", request, caller="oncall")
        assert again.refused[:2] == ("FAILED_PRECONDITION", "operation.not_unknown")
        assert (await client.call("ListHalts", ListHaltsRequest(), caller="oncall")).reply.halts == []
