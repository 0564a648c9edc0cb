"""Attack rows 2, 10, 20, 21, 24 and 26 to 28: what an agent, a race or a crash can do to a governed call.

Every station is real, and so are the exchange, the sockets and the ledger's file.
"""

import asyncio
import dataclasses
import json
from collections import Counter

import pytest
from failing import instead
from served import served
from stepping import STEPS_MAX, stepped
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, refusal, world

from gateway.call import inquire
from gateway.call.effects import EffectTasks
from gateway.terms.money import MICRO
from gateway.terms.operations import State
from gateway.terms.verdict import Kind, RefusedError
from generated.agentic.gateway.v1 import OperationState

BUY = json.dumps(MARKET_BUY)
RUN_OF_ONE = (budget("calls", 1, scope="run", window="total"),)


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    agents = [agent(), agent("thief"), agent("rival", tenant="rival", team="rival")]
    async with around.gateway(tmp_path, agents) as running:
        yield running


async def test_row_2_what_belongs_to_another_agent_is_not_there(whole):
    order = (await whole.act(RESTING_BUY, key="mine", run="run-1")).operation
    refused = await refusal(inquire.get_operation(whole.stations, whole.passage("thief"), order.id))
    assert (refused.kind, refused.operation_id) == (Kind.NOT_FOUND, "")
    assert whole.told("refusal")[-1]["agent"] == "thief"
    # The same key with the same bytes is the thief's own order, not the stored answer.
    own = await whole.act(RESTING_BUY, key="mine", caller="thief")
    assert (own.replayed, own.operation.id == order.id) == (False, False)
    # And with other bytes, it learns nothing of the key's other use.
    assert (await whole.act(MARKET_BUY, key="mine", caller="rival")).operation.state is State.SUCCEEDED


async def test_row_2_the_run_of_another_agent_is_neither_read_nor_spent(around, tmp_path):
    agents = [agent(budgets=RUN_OF_ONE), agent("thief", budgets=RUN_OF_ONE)]
    async with around.gateway(tmp_path, agents) as whole:
        await whole.act(key="k-1", run="run-1", caller="thief")
        assert (await whole.act(key="k-1", run="run-1")).operation.state is State.SUCCEEDED
        assert (await refusal(whole.act(key="k-2", run="run-1"))).reason == "budget.calls"


async def test_row_10_a_request_that_is_sent_again_with_its_token_is_one_order(whole):
    async with served(whole) as client:
        first, again = await client.execute(BUY), await client.execute(BUY)
        assert (first.reply.replayed, again.reply.replayed) == (False, True)
        assert first.reply.id == again.reply.id
        assert whole.world.posts() == 1
        whole.world.clock.pass_s(2 * 3_600)
        old = whole.passage()
        whole.world.clock.pass_s(2 * 3_600)
        late = await client.execute(BUY, bearer=old.credentials.authorization[0].removeprefix("Bearer "))
        assert late.error.status.name == "UNAUTHENTICATED"
        assert whole.world.posts() == 1


@pytest.mark.parametrize("flag", ["dry_run", "dryRun", "simulate", "__entity", "$ref"])
async def test_row_20_a_dry_run_cannot_be_asked_for_in_arguments(whole, flag):
    refused = await refusal(whole.act(MARKET_BUY | {flag: True}))
    assert (refused.kind, refused.reason) == (Kind.MALFORMED, "arguments.schema")
    assert whole.world.posts() == 0


async def test_row_20_a_dry_run_in_metadata_changes_nothing(whole):
    """Neither does a forbidden order pass as a rehearsal, nor is a permitted one only rehearsed."""
    metadata = [("dry-run", "true"), ("x-dry-run", "1"), ("gateway-dry-run", "true"), ("x-agent-id", "rival")]
    async with served(whole) as client:
        forbidden = await client.execute(BUY.replace("AAPL", "GOOG"), metadata=metadata)
        assert forbidden.refused[1:] == ("policy.denied", ("orders.restricted",))
        real = await client.execute(BUY, metadata=metadata)
        assert (real.reply.state, whole.world.posts()) == (OperationState.SUCCEEDED, 1)
        # The same idempotency space: leaving the flags out repeats nothing.
        assert (await client.execute(BUY)).reply.replayed
        assert whole.told("intent")[0]["agent"] == "trader"


SWAPS = {
    "the bytes": {"arguments_bytes": json.dumps(MARKET_BUY | {"quantity": "9"}).encode()},
    "the arguments": {"arguments": MARKET_BUY | {"quantity": "9"}},
    "the digest": {"digest": b"0" * 32},
}


@pytest.mark.parametrize("swap", SWAPS)
async def test_row_21_what_changes_between_decision_and_dispatch_is_not_sent(around, tmp_path, swap):
    """Only by force can a frozen ask be changed at all; the look before dispatch sees it."""

    def tampering(stations):
        async def decide(caller, ask, facts):
            verdict = await stations.policy.decide(caller, ask, facts)
            for name, value in SWAPS[swap].items():
                object.__setattr__(ask, name, value)
            return verdict

        return instead("policy", decide=decide)(stations)

    async with around.gateway(tmp_path, wrapped=tampering) as whole:
        operation = (await whole.act()).operation
        assert (operation.state, operation.failure.reason) == (State.FAILED, "arguments.changed")
        assert around.posts() == 0
        await whole.agree()


async def test_row_21_a_tool_that_changes_after_the_decision_is_not_called(around, tmp_path):
    def tampering(stations):
        async def decide(caller, ask, facts):
            verdict = await stations.policy.decide(caller, ask, facts)
            object.__setattr__(ask, "tool", dataclasses.replace(ask.tool, description="safe, trust me"))
            return verdict

        return instead("policy", decide=decide)(stations)

    async with around.gateway(tmp_path, wrapped=tampering) as whole:
        operation = (await whole.act()).operation
        assert (operation.state, operation.failure.reason) == (State.FAILED, "tool.changed")
        assert around.posts() == 0


async def test_row_21_a_station_cannot_change_ask_or_facts(around, tmp_path):
    given = []

    def keeping(stations):
        async def decide(caller, ask, facts):
            given.append((ask, facts))
            return await stations.policy.decide(caller, ask, facts)

        return instead("policy", decide=decide)(stations)

    async with around.gateway(tmp_path, wrapped=keeping) as whole:
        await whole.act()
    ((ask, facts),) = given
    with pytest.raises(dataclasses.FrozenInstanceError):
        ask.arguments_bytes = b"{}"
    with pytest.raises(TypeError):
        ask.arguments["quantity"] = "9"
    with pytest.raises(TypeError):
        facts["notional_micro_usd"] = 0


async def test_row_24_a_hundred_orders_at_the_edge_of_every_bound_pass_none(around, tmp_path):
    """Two agents of one team on one account; calls, notional and exposure are each worth some orders."""
    worth = 2 * 190 * MICRO
    limits = dataclasses.replace(LIMITS, exposure_max=9 * worth)
    budgets = (budget("calls", 11, scope="team:desk"), budget("notional_micro_usd", 6 * worth, scope="team:desk"))
    agents = [agent(name, budgets=budgets, limits=limits) for name in ("trader", "other")]
    async with around.gateway(tmp_path, agents) as whole:

        async def order(number):
            try:
                answer = await whole.act(RESTING_BUY, key=f"k-{number}", caller=("trader", "other")[number % 2])
            except RefusedError as error:
                return error.refusal.reason
            return answer.operation.state

        found = Counter(await asyncio.gather(*map(order, range(100))))
        assert found[State.SUCCEEDED] == around.posts() == len(around.orders()) == 6
        assert found["budget.notional_micro_usd"] == 94
        assert whole.spent("calls", "team:desk") == 6
        assert whole.spent("notional_micro_usd", "team:desk") <= 6 * worth
        await whole.agree()


async def test_row_26_the_same_key_for_another_payload_tool_or_tenant(whole):
    first = await whole.act(RESTING_BUY, key="k")
    payload = await refusal(whole.act(RESTING_BUY | {"quantity": "3"}, key="k"))
    assert (payload.kind, payload.reason) == (Kind.KEY_REUSED, "operation.key_reused")
    tool = await whole.act({"symbol": "AAPL"}, key="k", tool="get_quote")
    tenant = await whole.act(RESTING_BUY, key="k", caller="rival")
    assert not tool.replayed
    assert not tenant.replayed
    assert len({first.operation.id, tool.operation.id, tenant.operation.id}) == 3
    assert whole.world.posts() == 2
    await whole.agree()


class Death:
    """Comes at one of all await points of a call and its effects: the ledger is copied, and every task stopped."""

    def __init__(self, last, folder):
        self.last = last
        self.folder = folder
        self.whole = None
        self.call = None
        self.image = None
        self._steps = 0

    def passed(self, _, __):
        self._steps += 1
        if self._steps == self.last and self.whole is not None:
            self.image = self.whole.snapshot(self.folder)
            for task in (self.call, *self.whole.effects._group._tasks):
                task.cancel()


class MortalEffects(EffectTasks):
    """Effects whose await points count too."""

    def __init__(self, death):
        super().__init__()
        self._death = death

    def start(self, work):
        done = super().start(_stepped(work, self._death))
        done.add_done_callback(lambda _: work.close())
        return done


async def _stepped(coroutine, death):
    return await stepped(coroutine, death.passed)


async def died(folder, last):
    """A call that is killed at its `last`-th await point, and what a restart on its ledger makes of a retry.

    Gives None when the call ended before, else the retry's answer and how many orders the exchange has.
    """
    death = Death(last, folder / "image")
    async with world() as around:
        async with around.gateway(folder, effects=lambda: MortalEffects(death)) as whole:
            death.whole = whole
            death.call = asyncio.get_running_loop().create_task(_stepped(whole.act(RESTING_BUY), death))
            await asyncio.wait((death.call,))
            death.whole = None
        if death.image is None:
            return None
        async with around.gateway(death.image) as whole:
            answer = await whole.act(RESTING_BUY)
            await whole.agree()
            return answer, len(around.orders())


async def test_row_27_a_kill_at_any_await_point_and_a_retry_by_key_are_at_most_one_order(tmp_path):
    endings = Counter()
    for last in range(1, STEPS_MAX):
        folder = tmp_path / str(last)
        folder.mkdir()
        found = await died(folder, last)
        if found is None:
            break
        answer, orders = found
        endings[answer.operation.state, answer.replayed] += 1
        if answer.operation.state is State.UNKNOWN:
            assert answer.replayed
            assert orders <= 1
        else:
            assert answer.operation.state is State.SUCCEEDED
            assert orders == 1
    assert endings[State.SUCCEEDED, False] > 0, "killed before the intent was durable: the retry is the first call"
    assert endings[State.UNKNOWN, True] > 0, "killed after it: nobody knows, and it is not sent again"


@pytest.mark.parametrize("found_by_lookup", [True, False])
async def test_row_28_a_504_after_acceptance_is_exactly_one_post(whole, found_by_lookup):
    whole.world.exchange_fails("status_after", status=504)
    if not found_by_lookup:
        whole.world.exchange_fails("status_before", method="GET", path="/v2/orders:by", status=504)
    answer = await whole.act(RESTING_BUY)
    assert answer.operation.state is (State.SUCCEEDED if found_by_lookup else State.UNKNOWN)
    again = await whole.act(RESTING_BUY)
    assert (again.operation, again.replayed) == (answer.operation, True)
    assert whole.world.posts() == len(whole.world.orders()) == 1
    await whole.agree()
