"""Attack rows 21 to 23: what changes between decision and effect, approvals that nobody gave, rules that cannot decide.

Every station is real, and so are the exchange, the sockets and the ledger's file.
"""

import asyncio
import json
from dataclasses import replace

import pytest
from failing import instead, raises
from served import served
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, refusal, world

from gateway.call.operate import set_halt
from gateway.terms.limits import Scopes
from gateway.terms.money import MICRO, NANO
from gateway.terms.operations import State
from gateway.terms.verdict import Hold, Kind, Permit, Refusal

WORTH = 2 * 190 * MICRO
STANDING = RESTING_BUY | {"time_in_force": "gtc"}


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


class Pause:
    """Stops the first call after the rules have decided on it, until it is let go on."""

    def __init__(self):
        self.decided = asyncio.Event()
        self.go_on = asyncio.Event()

    def __call__(self, stations):
        async def decide(caller, ask, facts):
            verdict = await stations.policy.decide(caller, ask, facts)
            if ask.name == "place_order" and not self.decided.is_set():
                self.decided.set()
                await self.go_on.wait()
            return verdict

        return instead("policy", decide=decide)(stations)


@pytest.mark.parametrize(
    "agents, reason",
    [
        ([agent(limits=replace(LIMITS, exposure_max=WORTH))], "limit.exposure"),
        ([agent(limits=replace(LIMITS, position_max=Scopes(agent=3 * NANO)))], "limit.position"),
        ([agent(limits=replace(LIMITS, duplicate_window_ms=60_000))], "limit.duplicate"),
        ([agent(budgets=(budget("notional_micro_usd", WORTH),))], "budget.notional_micro_usd"),
    ],
    ids=["exposure", "position", "duplicate", "budget"],
)
async def test_row_21_what_another_call_took_after_the_decision_is_not_given_twice(around, tmp_path, agents, reason):
    pause = Pause()
    async with around.gateway(tmp_path, agents, wrapped=pause) as whole, asyncio.TaskGroup() as group:
        slow = group.create_task(refusal(whole.act(RESTING_BUY, key="slow")))
        await pause.decided.wait()
        assert (await whole.act(RESTING_BUY, key="fast")).operation.state is State.SUCCEEDED
        pause.go_on.set()
        assert (await slow).reason == reason
        assert around.posts() == 1
        await whole.agree()


async def test_row_21_a_halt_after_the_decision_stops_the_call(around, tmp_path):
    pause = Pause()
    async with around.gateway(tmp_path, wrapped=pause) as whole, asyncio.TaskGroup() as group:
        slow = group.create_task(refusal(whole.act()))
        await pause.decided.wait()
        await set_halt(whole.stations, whole.passage("oncall"), "agent:trader", "drill")
        pause.go_on.set()
        assert (await slow).reason == "halt.engaged"
        assert around.posts() == 0


async def test_row_21_a_token_that_expires_during_a_call_admits_no_second_one(around, tmp_path):
    """Who called was decided once, at the start; whatever comes later needs a token of its own."""
    pause = Pause()
    async with around.gateway(tmp_path, wrapped=pause) as whole, asyncio.TaskGroup() as group:
        old = whole.passage()
        slow = group.create_task(whole.act(key="slow"))
        await pause.decided.wait()
        around.clock.pass_s(2 * 3_600)
        again = replace(whole.passage(), credentials=old.credentials)
        verdict = await whole.stations.identity.identify(again.credentials)
        assert isinstance(verdict, Refusal)
        pause.go_on.set()
        # Its reference price has become too old meanwhile: it is decided with the facts that the rules saw.
        assert (await slow).operation.state is State.SUCCEEDED
        [intent] = whole.told("intent")
        assert intent["facts"]["reference_age_ms"] <= LIMITS.reference_age_ms_max


@pytest.mark.parametrize("name", ["approved", "approval", "approval_id", "approved_by", "override"])
async def test_row_22_an_approval_cannot_be_brought_along(around, tmp_path, name):
    async with around.gateway(tmp_path) as whole, served(whole) as client:
        assert (await refusal(whole.act(STANDING | {name: "yes"}))).kind is Kind.MALFORMED
        told = await client.execute(json.dumps(STANDING), metadata=[(name, "yes"), (f"gateway-{name}", "true")])
        assert told.refused[1:] == ("approval.required", ("orders.standing",))
        assert around.posts() == 0


async def test_row_22_what_waits_for_a_person_passes_under_no_key_and_for_no_other_agent(around, tmp_path):
    async with around.gateway(tmp_path, [agent(), agent("other")]) as whole:
        for key, caller in (("k", "trader"), ("k", "trader"), ("k-2", "trader"), ("k", "other")):
            refused = await refusal(whole.act(STANDING, key=key, caller=caller))
            assert (refused.reason, refused.rules) == ("approval.required", ("orders.standing",))
        # A permit for another order is no permit for this one, and the refused key is still free.
        assert (await whole.act(RESTING_BUY, key="k")).operation.state is State.SUCCEEDED
        assert (await refusal(whole.act(STANDING, key="k"))).kind is Kind.KEY_REUSED
        assert around.posts() == 1


async def test_row_22_a_permit_for_another_ask_is_worth_nothing(around, tmp_path):
    """Only by force can a permit be swapped at all."""

    def swapping(stations):
        async def decide(caller, ask, facts):
            verdict = await stations.policy.decide(caller, ask, facts)
            if isinstance(verdict, Hold):
                small = replace(ask, arguments=MARKET_BUY)
                return Permit(caller=caller, ask=small, rules=("base.trade",), policy_hash=verdict.policy_hash)
            return verdict

        return instead("policy", decide=decide)(stations)

    async with around.gateway(tmp_path, wrapped=swapping) as whole:
        assert (await refusal(whole.act(STANDING))).reason == "policy.undecided"
        assert around.posts() == 0


async def test_row_23_rules_that_fail_decide_nothing(around, tmp_path):
    async with around.gateway(tmp_path, wrapped=instead("policy", decide=raises(OSError("gone")))) as whole:
        with pytest.raises(OSError, match="gone"):
            await whole.act()
        [record] = whole.told("refusal")
        assert record["refusal"]["reason"] == "gateway.fault"
        assert (around.posts(), whole.held(), whole.operations()) == (0, {}, {})


async def test_row_23_rules_that_never_answer_end_with_the_deadline(around, tmp_path):
    async def never(*_):
        await asyncio.Event().wait()

    async with around.gateway(tmp_path, wrapped=instead("policy", decide=never)) as whole, served(whole) as client:
        late = await client.execute(json.dumps(MARKET_BUY), timeout_s=0.2)
        assert late.error.status.name == "DEADLINE_EXCEEDED"
        assert (around.posts(), whole.held(), whole.operations()) == (0, {}, {})
        await whole.idle()
        assert whole.told("refusal")[-1]["refusal"]["reason"] == "deadline.passed"
