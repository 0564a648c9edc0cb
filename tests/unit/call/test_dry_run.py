"""A dry run says what the real call would get, on the same facts, and leaves nothing but its record."""

import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from failing import instead
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from served import served
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, refusal, tool_request, world

from gateway.call.dry_run import dry_run
from gateway.call.operate import set_halt
from gateway.terms.limits import BarrierLimit, MessageRate, RepeatLimit, Scopes
from gateway.terms.money import MICRO, NANO, Unit
from gateway.terms.operations import State
from gateway.terms.verdict import Kind, RefusedError
from generated.agentic.gateway.v1 import Verdict

GUARDED = replace(
    LIMITS,
    exposure_max=3_000 * MICRO,
    position_max=Scopes(agent=9 * NANO),
    duplicate_window_ms=1_000,
    messages=MessageRate(per_minute=6, burst=4, cancel_reserve=2),
    repeats=RepeatLimit(executions=4, window_ms=60_000),
    barrier=BarrierLimit(gamma_bps=5_000, window_ms=60_000),
    restricted=frozenset({"MSFT"}),
)


async def rehearse(whole, arguments=None, *, tool="place_order", caller="trader", key="", run=""):
    request = tool_request(tool, arguments, key, run)
    return await dry_run(whole.stations, whole.passage(caller), request)


async def verdict(whole, arguments=None, **more):
    """The reason of the refusal that was foretold; empty for none."""
    foretold = (await rehearse(whole, arguments, **more)).rehearsal.refusal
    return "" if foretold is None else foretold.reason


def tables(whole):
    """Every row of every table, but for the records and the quota of dry runs."""
    with closing(sqlite3.connect(f"file:{whole.path}?mode=ro", uri=True)) as reader:
        names = [name for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {name: sorted(map(repr, reader.execute(f"SELECT * FROM {name}"))) for name in names if name != "audit"}
    rows["rates"] = [row for row in rows["rates"] if "dry-run:" not in row]
    return rows


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


async def test_a_dry_run_tells_what_would_be_held_and_sends_nothing(around, tmp_path):
    agents = [agent(limits=GUARDED, budgets=(budget("calls", 5),))]
    async with around.gateway(tmp_path, agents) as whole:
        rehearsed = await rehearse(whole, RESTING_BUY)
        assert rehearsed.rehearsal.refusal is None
        assert rehearsed.rehearsal.rules == ("base.trade",)
        told = {(claim.scope, claim.unit): claim.amount for claim in rehearsed.rehearsal.claims}
        assert told["agent:trader", Unit.CALLS] == 1
        assert told["agent:trader/AAPL", Unit.POSITION] == 2 * NANO
        assert told["agent:trader", Unit.EXPOSURE] == told["tenant:acme", Unit.EXPOSURE] >= 370 * MICRO
        assert (around.posts(), whole.held(), whole.operations()) == (0, {}, {})
        [record] = whole.told("dry_run")
        assert (record["ask"], record["about"], record["rules"]) == ("dry_run", "place_order", ["base.rehearse"])
        assert record["rehearsal"]["refusal"] is None
        assert whole.told("intent", "refusal") == []
        await whole.agree()


async def test_a_dry_run_changes_no_table(around, tmp_path):
    agents = [agent(limits=GUARDED, budgets=(budget("calls", 3), budget("notional_micro_usd", 900 * MICRO)))]
    async with around.gateway(tmp_path, agents) as whole:
        for number in range(3):
            before = tables(whole)
            await rehearse(whole, RESTING_BUY)
            await rehearse(whole, MARKET_BUY | {"quantity": "90"})
            await rehearse(whole, {"order_id": "0f4e6a52-7d1c-4f5e-9a6b-2f1f0c9d8e7a"}, tool="cancel_order")
            await rehearse(whole, {"symbol": "AAPL"}, tool="get_quote")
            assert tables(whole) == before
            # And a real call changes what is looked at here.
            await whole.act(RESTING_BUY | {"quantity": "1", "limit_price": str(185 + number)}, key=f"k-{number}")
            assert tables(whole) != before


async def test_nobody_rehearses_without_a_rule_that_says_so(around, tmp_path):
    agents = [agent(role="reader"), agent("other", tools=frozenset({"get_quote"}))]
    async with around.gateway(tmp_path, agents) as whole:
        refused = await refusal(rehearse(whole))
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "policy.no_permit")
        # A tool that is not granted does not exist, here as everywhere.
        assert (await refusal(rehearse(whole, caller="other"))).reason == "tool.unknown"
        assert [record["ask"] for record in whole.told("refusal")] == ["dry_run", "dry_run"]
        assert whole.told("dry_run") == []


async def test_dry_runs_have_a_quota_of_their_own(around, tmp_path):
    agents = [agent(budgets=(budget("calls", 1),)), agent("other")]
    async with around.gateway(tmp_path, agents, dry_runs_per_minute=3) as whole:
        assert [await verdict(whole) for _ in range(3)] == ["", "", ""]
        refused = await refusal(rehearse(whole))
        assert (refused.kind, refused.reason) == (Kind.EXHAUSTED, "quota.dry_runs")
        assert 0 < refused.retry_after_ms <= 20_000
        assert await verdict(whole, caller="other") == ""
        # It takes nothing of the calls, and the calls take nothing of it.
        assert (await whole.act()).operation.state is State.SUCCEEDED
        around.clock.pass_s(20)
        assert await verdict(whole) == "budget.calls"


async def test_row_20_a_dry_run_has_no_idempotency_space(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        first = await whole.act(key="k")
        assert await verdict(whole, MARKET_BUY | {"quantity": "3"}, key="k") == ""
        assert await verdict(whole, key="not a key \n") == ""
        await rehearse(whole, key="later")
        assert not (await whole.act(MARKET_BUY | {"quantity": "4"}, key="later")).replayed
        assert (await whole.act(key="k")).operation.id == first.operation.id
        assert around.posts() == 2


async def test_what_has_not_the_tools_form_is_refused_as_ever(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        for arguments in ("{", MARKET_BUY | {"dry_run": True}, MARKET_BUY | {"symbol": "aapl"}):
            refused = await refusal(rehearse(whole, arguments))
            assert refused.kind is Kind.MALFORMED
        assert len(whole.told("refusal")) == 3


async def test_a_halt_is_foretold_and_stays(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        await set_halt(whole.stations, whole.passage("oncall"), "tool:place_order", "drill")
        assert await verdict(whole) == (await refusal(whole.act())).reason == "halt.engaged"


async def test_what_needs_a_person_is_said_to_be_held(around, tmp_path):
    async with around.gateway(tmp_path) as whole, served(whole) as client:
        gtc = json.dumps(RESTING_BUY | {"time_in_force": "gtc"})
        reply = await client.dry_run(gtc)
        assert (reply.decision.verdict, reply.decision.reason) == (Verdict.HELD, "approval.required")
        assert reply.decision.rule_ids == ["orders.standing"]
        assert reply.message
        assert reply.holds == []


async def test_over_the_wire_a_dry_run_is_a_method_of_its_own(around, tmp_path):
    async with around.gateway(tmp_path) as whole, served(whole) as client:
        reply = await client.dry_run(json.dumps(MARKET_BUY))
        assert (reply.decision.verdict, reply.decision.reason) == (Verdict.PERMITTED, "policy.permitted")
        assert {(hold.scope, hold.unit) for hold in reply.holds} >= {("agent:trader", "exposure_micro_usd")}
        assert reply.receipt.sequence > 0
        forbidden = await client.dry_run(json.dumps(MARKET_BUY | {"symbol": "GOOG"}))
        assert (forbidden.decision.verdict, forbidden.decision.rule_ids) == (Verdict.REFUSED, ["orders.restricted"])
        assert around.posts() == 0


ORDERS = st.builds(
    lambda symbol, side, quantity, price: (
        RESTING_BUY | {"symbol": symbol, "side": side, "quantity": str(quantity), "limit_price": str(price)}
    ),
    st.sampled_from([*["AAPL"] * 8, "MSFT", "GOOG"]),
    st.sampled_from(["buy", "buy", "sell"]),
    st.integers(1, 6),
    st.sampled_from([*[185, 186] * 4, 150]),
)
CANCEL = {"order_id": "0f4e6a52-7d1c-4f5e-9a6b-2f1f0c9d8e7a"}
STEPS = st.lists(
    st.tuples(st.one_of(ORDERS, st.just(CANCEL)), st.sampled_from([0, 0, 0, 2, 61])), min_size=4, max_size=12
)
STATES = st.fixed_dictionaries(
    {
        "calls": st.integers(1, 8),
        "notional": st.integers(300, 4_000),
        "exposure": st.integers(300, 5_000),
        "gamma": st.sampled_from([1_000, 5_000, 10_000]),
        "executions": st.integers(1, 4),
        "burst": st.integers(1, 4),
    }
)


def still(stations):
    """Tools whose facts are taken once a step: a dry run and the call after it see the same."""
    seen = {}

    async def facts(caller, ask, tally):
        if ask.digest not in seen:
            seen[ask.digest] = await stations.tools.facts(caller, ask, tally)
        return seen[ask.digest]

    return instead("tools", facts=facts)(stations)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(STATES, STEPS)
async def test_a_dry_run_and_the_call_after_it_agree(state, steps):
    limits = replace(
        GUARDED,
        exposure_max=state["exposure"] * MICRO,
        barrier=BarrierLimit(gamma_bps=state["gamma"], window_ms=60_000),
        repeats=RepeatLimit(executions=state["executions"], window_ms=60_000),
        messages=MessageRate(per_minute=60, burst=state["burst"], cancel_reserve=1),
    )
    budgets = (budget("calls", state["calls"]), budget("notional_micro_usd", state["notional"] * MICRO))
    with tempfile.TemporaryDirectory() as folder:
        async with world(Stopped()) as around:
            agents = [agent(limits=limits, budgets=budgets)]
            async with around.gateway(Path(folder), agents, wrapped=still) as whole:
                for number, (arguments, pause_s) in enumerate(steps):
                    around.clock.pass_s(pause_s)
                    tool = "cancel_order" if arguments is CANCEL else "place_order"
                    before = tables(whole)
                    foretold = await rehearse(whole, arguments, tool=tool)
                    assert tables(whole) == before
                    real = await ended(whole.act(arguments, key=f"k-{number}", tool=tool))
                    event(real.reason if real else "admitted")
                    assert (foretold.rehearsal.refusal or "") == real


class Stopped:
    """A clock that stands between two steps, so that both see the same moment; sockets have their own."""

    def __init__(self):
        self.now_us = 1_795_953_600_000_000

    def unix_us(self):
        return self.now_us

    def monotonic_ns(self):
        return self.now_us * 1_000

    def pass_s(self, seconds):
        self.now_us += int(seconds * 1e6)


async def ended(call):
    """The refusal of a real call; empty when it was admitted, whatever the exchange said then."""
    try:
        await call
    except RefusedError as error:
        return error.refusal
    return ""
