"""A governed tool call through every station: what is sent, what is held, what is on record, whatever the ending."""

import asyncio
from dataclasses import replace

import pytest
from failing import gated, instead, raises
from stepping import cut_at, cut_when
from whole import MARKET_BUY, RESTING_BUY, agent, budget, eventually, refusal, tool_request, world

from gateway.call.act import act
from gateway.terms.asks import ReadAsk
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import State
from gateway.terms.verdict import Kind, Permit, RefusedError

BUDGETS = (budget("calls", 100), budget("notional_micro_usd", 100_000_000_000))
EXPOSURE = ("account:paper/desk", "exposure_micro_usd", "total")


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as running:
        yield running


async def test_a_permitted_order_is_placed_once_and_proven(whole):
    passage = whole.passage()
    answer = await act(whole.stations, passage, tool_request(arguments=RESTING_BUY, run="run-1"))
    operation = answer.operation
    assert (operation.state, answer.replayed, operation.rules) == (State.SUCCEEDED, False, ("base.trade",))
    assert passage.reply_headers == {"gateway-operation": operation.id}
    assert list(passage.stages.spent_ns()) == [
        "identity", "form", "find", "facts", "policy", "intent", "admit", "stopped", "upstream", "settle",
    ]  # fmt: skip
    assert [order.client_order_id for order in whole.world.orders()]
    intent, outcome = whole.told()
    assert (intent["kind"], outcome["kind"]) == ("intent", "outcome")
    assert intent["operation"] == outcome["operation"] == operation.id
    assert intent["request"] == outcome["request"] == passage.request
    assert intent["facts"]["limit_price_micro"] == 185_000_000
    assert intent["rules"] == ["base.trade"]
    assert intent["policy_hash"] == operation.policy_hash == whole.stations.policy.hash
    assert (operation.intent.sequence, operation.outcome.sequence) == (1, 2)
    # The venue's 3 s and the margin.
    assert operation.lease_until_unix_us - operation.created_unix_us == 33_000_000
    assert whole.spent("calls") == 1
    assert whole.spent("notional_micro_usd") == 370_000_000
    await whole.agree()


async def test_a_definite_no_of_the_venue_is_a_failed_operation_that_gives_back_what_was_held(whole):
    whole.world.exchange_fails("status_before", status=403)
    answer = await whole.act()
    assert answer.operation.state is State.FAILED
    assert answer.operation.failure.reason.startswith("venue.")
    assert whole.spent("calls") == 1
    assert whole.spent("notional_micro_usd") == 0
    assert EXPOSURE not in whole.held()
    await whole.agree()


async def test_a_lost_reply_is_unknown_and_everything_stays_held(whole):
    whole.world.lose_replies()
    answer = await whole.act(RESTING_BUY)
    assert (answer.operation.state, answer.operation.failure.reason) == (State.UNKNOWN, "upstream.reply_lost")
    assert whole.holding("calls") == 1
    assert 3 * whole.holding("notional_micro_usd") == whole.holding("exposure_micro_usd") >= 3 * 370_000_000
    await whole.agree()
    assert whole.world.posts() == len(whole.world.orders()) == 1


async def test_a_lost_reply_that_the_lookup_finds_is_a_success(whole):
    whole.world.exchange_fails("reset_after_accept")
    answer = await whole.act(RESTING_BUY)
    assert answer.operation.state is State.SUCCEEDED
    assert whole.world.posts() == 1
    await whole.agree()


async def test_a_fault_of_ours_under_way_is_unknown_because_nobody_knows(around, tmp_path):
    broken = instead("tools", execute=raises(ZeroDivisionError("defect")))
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=broken) as whole:
        answer = await whole.act()
        assert (answer.operation.state, answer.operation.failure.reason) == (State.UNKNOWN, "gateway.fault")
        assert "defect" not in answer.operation.failure.message
        assert [told["error"] for told in whole.log.named("tool.failed")] == ["ZeroDivisionError('defect')"]
        assert (whole.holding("calls"), whole.holding("notional_micro_usd") > 0) == (1, True)
        await whole.agree()


REFUSED = [
    # What is asked, then kind, reason and rules of the refusal.
    ({"arguments": "{"}, Kind.MALFORMED, "arguments.malformed", ()),
    ({"arguments": MARKET_BUY | {"dry_run": True}}, Kind.MALFORMED, "arguments.schema", ()),
    ({"arguments": MARKET_BUY, "key": ""}, Kind.MALFORMED, "idempotency_key.missing", ()),
    ({"arguments": MARKET_BUY, "run": "no spaces"}, Kind.MALFORMED, "run_id.malformed", ()),
    ({"tool": "withdraw_cash"}, Kind.NOT_FOUND, "tool.unknown", ()),
    ({"arguments": MARKET_BUY | {"symbol": "GOOG"}}, Kind.FORBIDDEN, "policy.denied", ("orders.restricted",)),
    ({"arguments": RESTING_BUY | {"time_in_force": "gtc"}}, Kind.FORBIDDEN, "approval.required", ("orders.standing",)),
    ({"arguments": MARKET_BUY | {"quantity": "80"}}, Kind.FORBIDDEN, "limit.notional", ("limit.notional",)),
    ({"arguments": MARKET_BUY | {"symbol": "ZZZZ"}}, Kind.UNAVAILABLE, "limit.no_reference", ("limit.no_reference",)),
    ({"timeout_s": 0.04}, Kind.LATE, "deadline.bankrupt", ()),
]


@pytest.mark.parametrize(
    "asked, kind, reason, rules", REFUSED, ids=[f"{case[2]}-{at}" for at, case in enumerate(REFUSED)]
)
async def test_every_refusal_of_a_known_caller_leaves_one_record_and_nothing_else(whole, asked, kind, reason, rules):
    await whole.act(RESTING_BUY, key="before")  # a quote is kept, so that little time is spent on facts
    refused = await refusal(whole.act(**asked))
    assert (refused.kind, refused.reason, refused.rules) == (kind, reason, rules)
    (record,) = whole.told("refusal")
    told = record["refusal"]
    assert (told["kind"], told["reason"], tuple(record["rules"])) == (kind.value, reason, rules)
    assert record["agent"] == "trader"
    assert whole.world.posts() == 1
    assert len(whole.operations()) == 1
    assert [event["reason"] for event in whole.log.named("call.refused")] == [reason]
    await whole.agree()


async def test_a_refused_budget_is_recorded_and_takes_nothing(around, tmp_path):
    async with around.gateway(
        tmp_path, [agent(budgets=(budget("calls", 5), budget("notional_micro_usd", 1)))]
    ) as whole:
        passage = whole.passage()
        with pytest.raises(RefusedError) as caught:
            await act(whole.stations, passage, tool_request())
        assert (caught.value.refusal.kind, caught.value.refusal.reason) == (
            Kind.EXHAUSTED,
            "budget.notional_micro_usd",
        )
        assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["budget.notional_micro_usd"]
        assert (whole.held(), whole.operations(), passage.reply_headers) == ({}, {}, {})
        assert whole.world.posts() == 0


async def test_the_record_of_a_refusal_after_the_decision_says_on_which_facts_and_policy(whole):
    await refusal(whole.act(MARKET_BUY | {"quantity": "80"}))
    (record,) = whole.told("refusal")
    assert record["facts"]["notional_micro_usd"] > 10_000_000_000
    assert record["policy_hash"] == whole.stations.policy.hash
    assert record["arguments"]


async def test_the_record_of_what_never_had_a_form_holds_only_the_beginning_of_its_name(whole):
    await refusal(whole.act(tool="x" * 100_000))
    (record,) = whole.told("refusal")
    assert (record["ask"], record["about"]) == ("execute_tool", "x" * 128)
    assert "arguments" not in record


async def test_an_unknown_caller_is_refused_before_anything_of_the_request_is_read(whole):
    passage = whole.passage()
    passage = replace(passage, credentials=replace(passage.credentials, authorization=("Bearer nonsense",)))
    refused = await refusal(act(whole.stations, passage, tool_request(arguments="{")))
    assert refused.kind is Kind.UNAUTHENTICATED
    assert whole.told() == []


async def test_a_call_with_too_little_time_is_refused_with_what_it_needs(whole):
    await whole.act(RESTING_BUY)
    refused = await refusal(whole.act(RESTING_BUY, key="k-2", timeout_s=0.03))
    assert "50 ms" in refused.sentence
    refused = await refusal(whole.act(RESTING_BUY, key="k-2", timeout_s=-1))
    assert "0 ms are left" in refused.sentence
    assert (await whole.act(RESTING_BUY, key="k-2", timeout_s=5)).operation.state is State.SUCCEEDED


async def test_a_deadline_that_passes_before_admission_is_recorded_as_a_refusal(whole):
    """The wire cancels the call at its deadline; the caller learns DEADLINE_EXCEEDED, and the record says the same."""

    async def facts(*_):
        whole.world.clock.pass_s(11)
        raise asyncio.CancelledError

    whole.stations = instead("tools", facts=facts)(whole.stations)
    with pytest.raises(asyncio.CancelledError):
        await whole.act(timeout_s=10)
    await whole.idle()
    assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["deadline.passed"]
    assert whole.world.posts() == 0


async def test_a_caller_that_leaves_before_admission_was_refused_nothing(whole):
    await cut_at(whole.act(), 1)
    await whole.idle()
    assert whole.told() == []


async def test_a_deadline_during_the_order_leaves_its_outcome_for_the_retry(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole:

        def dispatched(_):
            return whole.effects.running and around.clock.pass_s(11) is None

        assert await cut_when(whole.act(timeout_s=10), dispatched)
        await eventually(lambda: "dispatched" in whole.operations().values())
        again = await refusal(whole.act())
        assert (again.kind, again.reason) == (Kind.IN_PROGRESS, "operation.in_progress")
        gate.set()
        await whole.idle()
        answer = await whole.act()
        assert (answer.operation.state, answer.replayed) == (State.SUCCEEDED, True)
        assert around.posts() == 1
        assert whole.told("refusal")[-1]["refusal"]["reason"] == "operation.in_progress"
        await whole.agree()


# A ledger that cannot write


async def test_without_a_ledger_nothing_is_sent(whole):
    await whole.act(RESTING_BUY, key="before")
    await whole.ledger.close()
    with pytest.raises(LedgerUnavailableError):
        await whole.act()
    assert whole.world.posts() == 1


async def test_on_a_full_disk_nothing_is_sent_and_later_everything_goes_on(whole):
    await whole.fill_disk()
    for _ in range(3):
        with pytest.raises(LedgerUnavailableError):
            await whole.act()
    assert whole.world.posts() == 0
    whole.free_disk()
    assert (await whole.act()).operation.state is State.SUCCEEDED
    await whole.agree()


async def test_a_ledger_that_fails_for_a_moment_is_no_verdict_on_the_call(around, tmp_path):
    broken = instead("ledger", admit=raises(LedgerUnavailableError("disk")))
    async with around.gateway(tmp_path, wrapped=broken) as whole:
        with pytest.raises(LedgerUnavailableError):
            await whole.act()
        assert (whole.told(), whole.log.named("call.refused"), around.posts()) == ([], [], 0)


async def test_a_refusal_that_cannot_be_recorded_is_no_answer(whole):
    await whole.fill_disk()
    with pytest.raises(LedgerUnavailableError):
        await whole.act(MARKET_BUY | {"symbol": "GOOG"})


async def test_an_outcome_that_cannot_be_recorded_is_told_as_such_and_never_as_nothing_happened(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=gated(gate)) as whole:
        placing = asyncio.get_running_loop().create_task(refusal(whole.act(RESTING_BUY)))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        await whole.fill_disk()
        gate.set()
        refused = await placing
        (operation,) = whole.operations()
        assert (refused.kind, refused.reason) == (Kind.UNAVAILABLE, "ledger.outcome_unrecorded")
        assert refused.operation_id == operation
        assert "was sent" in refused.sentence
        (left,) = whole.log.named("outcome.record_failed")
        assert (left["operation"], left["outcome"]) == (operation, "succeeded")
        whole.free_disk()
        assert (await refusal(whole.act(RESTING_BUY))).reason == "operation.in_progress"
        assert whole.holding("calls") == 1
        whole.kill()
    # The next start makes it unknown, and everything stays held.
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as whole:
        again = await whole.act(RESTING_BUY)
        assert (again.operation.state, again.replayed) == (State.UNKNOWN, True)
        assert len(whole.told("lost")) == 1
        await whole.agree()
    assert around.posts() == 1


async def test_a_defect_while_settling_is_told_the_same_way(around, tmp_path):
    broken = instead("ledger", settle=raises(ValueError("two charges of calls")))
    async with around.gateway(tmp_path, wrapped=broken) as whole:
        refused = await refusal(whole.act())
        assert refused.reason == "ledger.outcome_unrecorded"
        assert "two charges" not in refused.sentence
        assert "two charges" in whole.log.named("outcome.record_failed")[0]["error"]


# Stations that fail


@pytest.mark.parametrize(
    "station, replaced",
    [
        ("policy", {"decide": raises(RuntimeError("engine"))}),
        ("tools", {"facts": raises(RuntimeError("engine"))}),
        ("tools", {"demand": lambda *_: 1 / 0}),
        ("ledger", {"find": raises(RuntimeError("engine"))}),
        ("recorder", {"intent": lambda *_: 1 / 0}),
        ("ledger", {"admit": raises(RuntimeError("engine"))}),
    ],
    ids=["policy", "facts", "demand", "find", "intent", "admit"],
)
async def test_a_station_that_raises_refuses_and_is_on_record(around, tmp_path, station, replaced):
    """Invariant 4: what errs is a no. The error itself goes up to the wire, which logs it whole."""
    async with around.gateway(tmp_path, wrapped=instead(station, **replaced)) as whole:
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            await whole.act()
        assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["gateway.fault"]
        assert (whole.world.posts(), whole.operations()) == (0, {})
        await whole.agree()


@pytest.mark.parametrize("verdict", [None, True, "Allow"])
async def test_a_verdict_that_is_none_permits_nothing(around, tmp_path, verdict):
    async def decide(*_):
        return verdict

    async with around.gateway(tmp_path, wrapped=instead("policy", decide=decide)) as whole:
        with pytest.raises(AttributeError):
            await whole.act()
        assert whole.world.posts() == 0
        assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["gateway.fault"]


async def test_a_permit_for_another_ask_is_none(around, tmp_path):
    async def decide(caller, _, __):
        return Permit(caller=caller, ask=ReadAsk(what="list_tools", operation=""), rules=(), policy_hash="")

    async with around.gateway(tmp_path, wrapped=instead("policy", decide=decide)) as whole:
        refused = await refusal(whole.act())
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "policy.undecided")
        assert whole.world.posts() == 0
