"""Budgets under races: at the edge of each, exactly as many calls pass as it is worth, and what fails is given back."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from failing import instead
from whole import FLASH, LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, eventually, prompt, refusal, world

from gateway.terms.conversation import Generation, prompt_tokens_bound
from gateway.terms.limits import CALLS_RUNNING_MAX
from gateway.terms.money import MICRO
from gateway.terms.operations import State
from gateway.terms.verdict import RefusedError

RACERS = 100
GRANTED = 7
ORDER_WORTH = 2 * 185 * MICRO
"""What a resting order costs: it is held at the market price, above that, and charged at its limit."""
PROMPT_TOKENS = prompt_tokens_bound(prompt("hello").read().conversation)


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


async def raced(calls):
    """How many of these calls ended how."""

    async def one(call):
        try:
            answer = await call
        except RefusedError as error:
            return error.refusal.reason
        return getattr(getattr(answer, "operation", None), "state", "granted")

    return Counter(await asyncio.gather(*map(one, calls)))


@pytest.mark.parametrize("scope", ["tenant:acme", "team:desk", "agent:trader", "run"])
async def test_a_budget_of_calls_grants_exactly_its_number_in_every_scope(around, tmp_path, scope):
    agents = [agent(budgets=(budget("calls", GRANTED, scope=scope),))]
    async with around.gateway(tmp_path, agents) as whole:
        await whole.act({"symbol": "AAPL"}, key="", tool="get_quote", run="another-run")
        spent_before = 0 if scope == "run" else 1
        found = await raced(whole.act({"symbol": "AAPL"}, key="", tool="get_quote", run="race") for _ in range(RACERS))
        assert found == {State.SUCCEEDED: GRANTED - spent_before, "budget.calls": RACERS - GRANTED + spent_before}
        assert sum(spent for _, spent in whole.held().values()) == GRANTED + (scope == "run")
        assert len(whole.told("refusal")) == RACERS - GRANTED + spent_before
        await whole.agree()


async def test_a_budget_of_notional_is_never_passed_by_orders_at_once(around, tmp_path):
    limit = GRANTED * 2 * 190 * MICRO
    agents = [agent(budgets=(budget("notional_micro_usd", limit),))]
    async with around.gateway(tmp_path, agents) as whole:
        found = await raced(whole.act(RESTING_BUY, key=f"k-{number}") for number in range(RACERS))
        assert found == {State.SUCCEEDED: GRANTED, "budget.notional_micro_usd": RACERS - GRANTED}
        assert whole.spent("notional_micro_usd") == GRANTED * ORDER_WORTH
        assert around.posts() == GRANTED
        await whole.agree()


async def test_the_exposure_of_an_account_is_never_passed_by_orders_at_once(around, tmp_path):
    limits = replace(LIMITS, exposure_max=GRANTED * 2 * 190 * MICRO)
    agents = [agent(limits=limits), agent("other", limits=limits)]
    async with around.gateway(tmp_path, agents) as whole:
        found = await raced(
            whole.act(RESTING_BUY, key=f"k-{number}", caller=("trader", "other")[number % 2])
            for number in range(RACERS)
        )
        assert found == {State.SUCCEEDED: GRANTED, "limit.exposure": RACERS - GRANTED}
        assert whole.spent("exposure_micro_usd", scope="account:paper/desk") == GRANTED * ORDER_WORTH
        assert around.posts() == GRANTED
        await whole.agree()


@pytest.mark.parametrize(
    "unit, each",
    [
        ("tokens", PROMPT_TOKENS + 10),
        ("cost_micro_usd", -(-(PROMPT_TOKENS * FLASH.price.input + 10 * FLASH.price.output) // MICRO)),
        ("calls", 1),
    ],
)
async def test_a_budget_of_a_model_grants_exactly_what_it_is_worth(around, tmp_path, unit, each):
    """Every stream holds the most that it can take until it has ended: so many can be open at once, and no more."""
    agents = [agent(budgets=(budget(unit, GRANTED * each),))]
    decided = asyncio.Semaphore(0)

    def patient(stations):
        """An upstream that does not answer anybody before everybody was decided on."""

        async def stream(reservation, deadline_ns, may_hedge):
            decided.release()
            await eventually(lambda: decided._value == RACERS)
            async for chunk in stations.models.stream(reservation, deadline_ns, may_hedge):
                yield chunk

        return instead("models", stream=stream)(stations)

    async with around.gateway(tmp_path, agents, wrapped=patient) as whole:

        async def one():
            try:
                async for _ in whole.stream("hello", generation=Generation(max_output_tokens=10)):
                    pass
            except RefusedError as error:
                decided.release()
                return error.refusal.reason
            return "granted"

        found = Counter(await asyncio.gather(*(one() for _ in range(RACERS))))
        assert found == {"granted": GRANTED, f"budget.{unit}": RACERS - GRANTED}
        assert whole.world.vertex.journal.streams_total == GRANTED
        assert 0 < whole.spent(unit) <= GRANTED * each
        await whole.agree()


async def test_streams_give_back_what_they_did_not_take(around, tmp_path):
    """One at a time, far more streams pass than the most that they could take would let through."""
    agents = [agent(budgets=(budget("tokens", 2 * (PROMPT_TOKENS + 100)),))]
    async with around.gateway(tmp_path, agents) as whole:
        for _ in range(6):
            await whole.converse("@pace deltas=1 size=2\nhi", generation=Generation(max_output_tokens=100))
        assert whole.spent("tokens") < 100
        await whole.agree()


async def test_failed_orders_give_back_and_unknown_ones_do_not(around, tmp_path):
    limit = 3 * 2 * 190 * MICRO
    agents = [agent(budgets=(budget("notional_micro_usd", limit),))]
    async with around.gateway(tmp_path, agents) as whole:
        around.exchange_fails("status_before", status=403, remaining=5)
        for number in range(5):
            assert (await whole.act(RESTING_BUY, key=f"no-{number}")).operation.state is State.FAILED
        assert whole.spent("notional_micro_usd") == 0
        around.lose_replies()
        for number in range(3):
            assert (await whole.act(RESTING_BUY, key=f"lost-{number}")).operation.state is State.UNKNOWN
        around.exchange.faults.clear()
        refused = await refusal(whole.act(RESTING_BUY, key="one-more"))
        assert refused.reason == "budget.notional_micro_usd"
        assert whole.holding("notional_micro_usd") > 3 * ORDER_WORTH
        await whole.agree()


async def test_a_sale_gives_the_exposure_back_that_a_purchase_took(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        await whole.act(MARKET_BUY, key="buy")
        taken = whole.spent("exposure_micro_usd", scope="account:paper/desk")
        assert taken > 0
        await whole.act(MARKET_BUY | {"side": "sell"}, key="sell")
        assert whole.spent("exposure_micro_usd", scope="account:paper/desk") < taken // 10
        await whole.agree()


async def test_a_window_that_ended_is_forgotten(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=(budget("calls", 1, window="hour"),))]) as whole:
        await whole.count()
        assert (await refusal(whole.count())).reason == "budget.calls"
        around.clock.pass_s(3_600)
        await whole.count()
        assert min(window for _, _, window in whole.held()).startswith("hour:")
        assert len(whole.held()) == 2


async def test_a_clock_that_goes_back_finds_the_windows_as_they_were(around, tmp_path):
    """What a wrong clock took of a later day is missing there, and no day has more than its budget."""
    budgets = (budget("calls", 2, window="day"), budget("calls", 3, window="month"))
    async with around.gateway(tmp_path, [agent(budgets=budgets)]) as whole:
        await whole.count()
        around.clock.pass_s(31 * 86_400)
        await whole.count()
        around.clock.pass_s(-31 * 86_400)
        await whole.count()
        assert (await refusal(whole.count())).reason == "budget.calls"
        around.clock.pass_s(31 * 86_400)
        await whole.count()
        assert (await refusal(whole.count())).reason == "budget.calls"
        assert set(whole.held().values()) == {(0, 2)}


async def test_a_call_without_a_run_is_bounded_like_a_run(around, tmp_path):
    """Attack: leave the run id out, and the run's budget with it."""
    async with around.gateway(tmp_path, [agent(budgets=(budget("tokens", 50, scope="run", window="total"),))]) as whole:
        assert (await refusal(whole.converse("x" * 100))).reason == "budget.tokens"
        assert (await refusal(whole.converse("x" * 100, run="run-1"))).reason == "budget.tokens"


def test_the_races_here_are_within_what_a_gateway_runs_at_once():
    assert RACERS < CALLS_RUNNING_MAX
