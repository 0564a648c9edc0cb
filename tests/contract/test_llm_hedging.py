"""Hedging: a second attempt beside a slow one. What is sent, who wins, what is aborted, and who pays for it."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from failing import instead
from made_routes import MostChance
from routed import CHEAP, DEAR, TEN, A, B, C, Plan, always, asked, attempts, closed_of, routed, standing
from served import served
from stepping import at_every_step
from whole import FLASH, budget, eventually, prompt, refusal, world

from gateway.audit.usage_pages import RecordedUsage, SqlitePages
from gateway.call.converse import Closed
from gateway.call.operate import set_halt
from gateway.llm.breaker import BreakerTerms, Standing
from gateway.llm.compatible import Compatible, CompatibleConfig
from gateway.llm.compatible_request import Dialect
from gateway.llm.retry_budget import RetryTerms
from gateway.terms.conversation import Text, Usage, prompt_tokens_bound
from gateway.terms.faults import LedgerUnavailableError, UpstreamError
from gateway.terms.usage import Group, UsageQuery
from generated.agentic.gateway.v1 import ChatRequest, Content, Part, Role
from localcloud.compatible.server import CompatibleDouble

AFTER_MS = 800
LOST = "hedge.lost"
HEDGED = RetryTerms(attempts=2, hedge_after_ms=AFTER_MS)
FOREVER_MS = 60_000
BOUND = prompt_tokens_bound(prompt(TEN).read().conversation)


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@dataclass
class Due:
    """A wait for a hedge that is over when the test's condition is met; without one, it never is."""

    condition: object = None
    seconds: list = field(default_factory=list)
    cut: int = 0

    async def __call__(self, seconds, /):
        self.seconds.append(seconds)
        try:
            await eventually(self.condition) if self.condition else await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise


def due(around, *names):
    """A wait that is over once these models have been asked."""
    return Due(lambda: asked(around) == list(names))


def slow(around, *names, count=None):
    """These models take a minute for their first byte."""
    for name in names:
        around.vertex_fails("slow_first_byte", count, model=name, ms=FOREVER_MS)


def hedged(around, **changes):
    """A plan in which a hedge is due as soon as the first target is asked."""
    return Plan(**{"retry": HEDGED, "sleep": due(around, A)} | changes)


class Held:
    """The real upstream, whose chunks and faults are passed on once the gate of their model is open."""

    def __init__(self, upstream, gates):
        self.name, self.check, self.count = upstream.name, upstream.check, upstream.count
        self._upstream, self._gates = upstream, gates
        self.here = []

    async def stream(self, model, ask, call_ids):
        async with aclosing(self._upstream.stream(model, ask, call_ids)) as chunks:
            try:
                async for chunk in chunks:
                    await self._let(model.upstream_id)
                    yield chunk
            except UpstreamError:
                await self._let(model.upstream_id)
                raise

    async def _let(self, name):
        if name not in self.here:
            self.here.append(name)
        await self._gates[name].wait()


def hold(route, gates):
    """Put the gates before the first chunks of these models; gives what has them ready by now."""
    held = Held(route._standings[0].target.upstream, gates)
    for one in route._standings:
        one.target = replace(one.target, upstream=held)
    return held.here


@asynccontextmanager
async def no_orphans():
    """Nothing runs afterwards that did not run before."""
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: not {task for task in asyncio.all_tasks() - before if "gateway" in repr(task)})


def texts(events):
    return sum(isinstance(event, Text) for event in events)


def account(whole):
    record = whole.told("outcome")[-1]
    return json.loads(record.get("account") or record["result"])


async def endings(around):
    """How the double saw each stream end, once all of them have: it learns of a cut connection a moment later."""
    entries = around.vertex.journal.entries
    await eventually(lambda: all(entry.ending != "open" for entry in entries))
    return [(entry.model, entry.ending) for entry in entries]


def held_amounts(whole):
    return {claim["unit"]: claim["amount"] for claim in whole.told("intent")[-1]["claims"]}


async def test_a_slow_target_loses_to_the_next_one_and_is_aborted_at_once(around, tmp_path):
    plan = hedged(around, targets=((A, {"prices": always(DEAR)}), (B, {"order": 2})))
    async with routed(around, tmp_path, plan) as (whole, route, _), no_orphans():
        slow(around, A)
        events = await whole.converse(TEN)
        assert texts(events) == 10
        spent, closed = events[-2:]
        lost, won = closed.attempts
        assert attempts(closed) == [(A, LOST), (B, None)]
        assert (lost.hedge, won.hedge, closed.ending.model_version) == (False, True, B)
        assert plan.sleep.seconds == [AFTER_MS / 1_000]
        assert await endings(around) == [(A, "client_left"), (B, "complete")]
        # The loser's prompt is charged at its own target's price, as an estimate: the other tokenizer's count says
        # nothing of it.
        answered = Usage(input_tokens=spent.usage.input_tokens - BOUND, output_tokens=20)
        assert (lost.charged_tokens, lost.charged_cost) == (BOUND, DEAR.cost(Usage(input_tokens=BOUND)))
        assert spent.cost == lost.charged_cost + CHEAP.cost(answered)
        assert spent.usage.estimated
        assert whole.spent("tokens") == spent.usage.input_tokens + 20
        assert whole.spent("cost_micro_usd") == spent.cost
        first, second = account(whole)["attempts"]
        assert first == {
            "target": A,
            "fault": LOST,
            "milliseconds": lost.milliseconds,
            "charged_input_tokens": BOUND,
            "charged_cost_micro_usd": lost.charged_cost,
        }
        assert second == {"target": B, "fault": "", "milliseconds": won.milliseconds, "hedge": True}
        assert "in_flight" not in account(whole)
        assert [one["target"] for one in whole.log.named("attempt.lost")] == [A]
        assert whole.log.named("attempt.failed") == []
        assert standing(route, around) == [Standing.CLOSED] * 2
        await whole.agree()


async def test_the_loser_is_aborted_while_the_winner_still_answers(around, tmp_path):
    async with routed(around, tmp_path, hedged(around)) as (whole, _, __), no_orphans():
        slow(around, A)
        async with aclosing(whole.stream(TEN)) as told:
            assert isinstance(await anext(told), Text)
            # The caller takes its time, and the answer waits for it.
            (loser,) = [entry for entry in around.vertex.journal.entries if entry.model == A]
            await eventually(lambda: loser.ending == "client_left")
            assert texts([event async for event in told]) == 9
        await whole.agree()


async def test_a_trial_that_is_left_with_a_hedge_beside_it_makes_room_for_the_next(around, tmp_path):
    plan = hedged(around, breaker=BreakerTerms(failures=1, open_ms=5_000))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        breaker = route._standings[0].breaker
        now_ns = around.clock.monotonic_ns()
        breaker.failed(breaker.enter(now_ns), now_ns)
        around.clock.pass_s(5.1)
        slow(around, A, B, count=1)
        call = await both_in_flight(around, whole)
        call.cancel()
        await asyncio.wait((call,))
        assert standing(route, around)[0] is Standing.HALF_OPEN
        plan.sleep.condition = None
        assert attempts(await closed_of(whole)) == [(A, None)]


async def test_what_the_loser_is_charged_is_known_where_the_winner_counts_by_the_same_tokenizer(around, tmp_path):
    targets = ((A, {"tokenizer": "gemini"}), (B, {"tokenizer": "gemini", "order": 2}))
    async with routed(around, tmp_path, hedged(around, targets=targets)) as (whole, _, __):
        slow(around, A)
        *_, spent, closed = await whole.converse(TEN)
        counted = closed.attempts[0].charged_tokens
        assert 0 < counted < BOUND
        assert spent.usage.input_tokens == 2 * counted
        assert spent.usage.estimated  # nobody told that the loser billed it
        assert whole.spent("cost_micro_usd") == spent.cost
        await whole.agree()


async def test_the_hold_covers_both_prompts_and_the_retry_before_any_is_sent(around, tmp_path):
    async with routed(around, tmp_path, hedged(around)) as (whole, _, __):
        await closed_of(whole)
        most = FLASH.max_output_tokens
        once = CHEAP.cost(Usage(input_tokens=BOUND, output_tokens=most))
        assert held_amounts(whole)["tokens"] == 3 * BOUND + most
        assert held_amounts(whole)["cost_micro_usd"] == once + 2 * CHEAP.cost(Usage(input_tokens=BOUND))


async def test_a_target_that_answers_in_time_is_asked_alone(around, tmp_path):
    never = Due()
    async with routed(around, tmp_path, hedged(around, sleep=never)) as (whole, _, __), no_orphans():
        *_, spent, closed = await whole.converse(TEN)
        assert attempts(closed) == [(A, None)]
        assert asked(around) == [A]
        assert (len(never.seconds), never.cut) == (1, 1)
        assert not spent.usage.estimated
        assert account(whole)["attempts"] == [
            {"target": A, "fault": "", "milliseconds": closed.attempts[0].milliseconds}
        ]
        await whole.agree()


@pytest.mark.parametrize("retry", [RetryTerms(), RetryTerms(attempts=2)], ids=["as built", "with retries"])
async def test_it_is_off_unless_it_is_asked_for(around, tmp_path, retry):
    never = Due()
    async with routed(around, tmp_path, Plan(retry=retry, sleep=never)) as (whole, route, _):
        around.vertex_fails("slow_first_byte", model=A, ms=30)
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert (asked(around), never.seconds) == ([A], [])
        assert not route.model_at(around.clock.unix_us()).hedges
        assert held_amounts(whole)["tokens"] == (1 + retry.spoilt_max) * BOUND + FLASH.max_output_tokens


async def test_the_first_target_may_win_yet_and_then_the_hedge_is_aborted(around, tmp_path):
    gates = {A: asyncio.Event(), B: asyncio.Event()}
    async with routed(around, tmp_path, hedged(around)) as (whole, route, _), no_orphans():
        ready = hold(route, gates)
        call = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: sorted(ready) == [A, B])
        gates[A].set()
        events = await call
        assert texts(events) == 10
        assert attempts(events[-1]) == [(B, LOST), (A, None)]
        assert [one.hedge for one in events[-1].attempts] == [True, False]
        assert events[-1].attempts[0].charged_tokens == BOUND
        await whole.agree()


async def test_of_two_that_answer_at_once_exactly_one_is_heard(around, tmp_path):
    gate = asyncio.Event()
    async with routed(around, tmp_path, hedged(around)) as (whole, route, _), no_orphans():
        ready = hold(route, {A: gate, B: gate})
        text = "@pace deltas=10 interval_ms=20 size=2\nTell me something."
        call = asyncio.ensure_future(whole.converse(text))
        await eventually(lambda: sorted(ready) == [A, B])
        gate.set()  # both wake in the same turn of the loop: each has its first chunk before anybody looks
        events = await call
        assert texts(events) == 10
        assert attempts(events[-1]) == [(B, LOST), (A, None)]
        assert await endings(around) == [(A, "complete"), (B, "client_left")]
        await whole.agree()


async def test_the_retry_budget_pays_for_hedges_and_without_it_none_is_sent(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, burst=1, percent=0))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        slow(around, A, count=1)
        assert attempts(await closed_of(whole)) == [(A, LOST), (B, None)]
        around.vertex_fails("slow_first_byte", model=A, ms=30)
        plan.sleep.condition = lambda: len(asked(around)) == 3
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert asked(around) == [A, B, A]
        await whole.agree()


@pytest.mark.parametrize("unit", ["tokens", "cost_micro_usd"])
async def test_a_budget_without_room_for_the_second_prompt_allows_the_call_and_no_hedge(around, tmp_path, unit):
    retry = replace(HEDGED, attempts=1)
    once = Usage(input_tokens=BOUND, output_tokens=FLASH.max_output_tokens)
    most = {"tokens": BOUND + FLASH.max_output_tokens, "cost_micro_usd": CHEAP.cost(once)}[unit]
    plan = hedged(around, retry=retry, budgets=(budget("calls", 9), budget(unit, most)))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("slow_first_byte", model=A, ms=30)
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert asked(around) == [A]
        assert plan.sleep.seconds == []
        assert held_amounts(whole)[unit] == most
        assert len(whole.told("intent")) == 1
        assert whole.told("refusal") == []
        await whole.agree()
        # What is left now is not enough for a call without a hedge either: refused, once.
        assert (await refusal(whole.converse(TEN))).reason == f"budget.{unit}"
        assert len(whole.told("refusal")) == 1
        await whole.agree()


async def test_one_token_more_and_the_hedge_is_sent(around, tmp_path):
    room = 2 * BOUND + FLASH.max_output_tokens
    plan = hedged(around, retry=replace(HEDGED, attempts=1), budgets=(budget("tokens", room),))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        slow(around, A)
        assert attempts(await closed_of(whole)) == [(A, LOST), (B, None)]
        await whole.agree()


async def both_in_flight(around, whole):
    """A call whose two attempts have both reached the upstream and have no answer."""
    call = asyncio.ensure_future(whole.converse(TEN))
    await eventually(lambda: asked(around) == [A, B])
    return call


async def test_a_caller_that_leaves_with_both_in_flight_leaves_nothing_behind(around, tmp_path):
    plan = hedged(around, targets=((A, {"prices": always(DEAR)}), (B, {"order": 2})))
    async with routed(around, tmp_path, plan) as (whole, route, _), no_orphans():
        slow(around, A, B)
        call = await both_in_flight(around, whole)
        call.cancel()
        await asyncio.wait((call,))
        await whole.agree()
        assert await endings(around) == [(A, "client_left"), (B, "client_left")]
        assert whole.told("outcome")[-1]["failure"]["reason"] == "call.cut"
        assert (account(whole)["in_flight"], account(whole)["attempts"]) == ([A, B], [])
        assert account(whole)["usage_estimated"] is True
        prompt_alone = Usage(input_tokens=BOUND)
        assert whole.spent("tokens") == 2 * BOUND
        assert whole.spent("cost_micro_usd") == DEAR.cost(prompt_alone) + CHEAP.cost(prompt_alone)
        assert standing(route, around) == [Standing.CLOSED] * 2


@pytest.mark.parametrize("answered", [False, True], ids=["while waiting", "as the answer comes"])
async def test_a_hedged_call_that_is_left_at_any_await_is_settled_and_both_upstreams_closed(around, tmp_path, answered):
    plan = hedged(around, retry=replace(HEDGED, burst=1_000))
    async with routed(around, tmp_path, plan) as (whole, _, __), no_orphans():
        slow(around, A)
        plan.sleep.condition = lambda: len(around.vertex.journal.entries) > plan.sleep.before

        async def listened(_):
            plan.sleep.before = len(around.vertex.journal.entries)
            async with aclosing(whole.stream("@pace deltas=2 interval_ms=1 size=2\nTell.")) as told:
                return [event async for event in told]

        async def check(_):
            await whole.agree()
            await endings(around)
            assert all(held == 0 for held, _ in whole.held().values())

        await listened(0)  # keys and connections are there from now on: each call has the same steps
        assert await at_every_step(listened, check, answered=answered) >= 6
        outcomes = whole.told("outcome")
        assert outcomes[-1]["state"] == "succeeded"
        cut = [json.loads(one["account"]) for one in outcomes if one.get("account")]
        assert any("in_flight" in one for one in cut)


async def test_on_the_wire_a_deadline_ends_both_and_a_finish_tells_of_both(around, tmp_path):
    plan = hedged(around)
    async with routed(around, tmp_path, plan) as (whole, _, __), served(whole) as client, no_orphans():
        slow(around, A)
        contents = [Content(role=Role.USER, parts=[Part(text=TEN)])]
        heard = await client.call("Chat", ChatRequest(model="flash", contents=contents))
        (finish,) = [event.finish for event in heard.replies if event.finish is not None]
        (usage,) = [event.usage for event in heard.replies if event.usage is not None]
        lost, won = finish.attempts
        assert (lost.target, lost.fault, lost.hedge) == (A, LOST, False)
        assert (won.target, won.fault, won.hedge) == (B, "", True)
        assert lost.charged_input_tokens == BOUND
        assert (won.charged_input_tokens, won.charged_cost_micro_usd) == (0, 0)
        assert usage.cost_micro_usd > lost.charged_cost_micro_usd > 0
        assert usage.estimated
        slow(around, B)
        plan.sleep.condition = lambda: len(asked(around)) == 3
        heard = await client.call("Chat", ChatRequest(model="flash", contents=contents), timeout_s=1)
        assert heard.error.status.name == "DEADLINE_EXCEEDED"
        await whole.agree()
        assert account(whole)["in_flight"] == [A, B]
        assert [ending for _, ending in await endings(around)].count("client_left") == 3


async def test_no_hedge_is_sent_that_could_not_answer_before_the_deadline(around, tmp_path):
    async with routed(around, tmp_path, Plan(retry=HEDGED)) as (whole, _, waits):  # waits move the clock
        around.vertex_fails("slow_first_byte", model=A, ms=30)
        closed = await closed_of(whole, timeout_s=AFTER_MS / 1_000 + 0.04)
        assert waits.seconds == [AFTER_MS / 1_000]
        assert attempts(closed) == [(A, None)]


async def kept_back(around, folder, *, stop):
    """A call whose hedge is due when `stop(whole)` has been awaited, and whose first target answers after that."""
    ready_to_hedge, gates = [], {A: asyncio.Event(), B: asyncio.Event()}
    async with routed(around, folder, hedged(around, sleep=Due(lambda: ready_to_hedge))) as (whole, route, _):
        ready = hold(route, gates)
        call = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: ready == [A])
        told = await stop(whole)
        ready_to_hedge.append(True)
        await eventually(lambda: whole.log.named(told))
        gates[A].set()
        assert attempts((await call)[-1]) == [(A, None)]
        assert asked(around) == [A]
        await whole.agree()


@pytest.mark.parametrize("scope", ["all", "model:flash", "agent:trader"])
async def test_a_switch_that_was_set_meanwhile_stops_the_hedge(around, tmp_path, scope):
    async def halt(whole):
        await set_halt(whole.stations, whole.passage("oncall"), scope, "drill")
        return "hedge.stopped"

    await kept_back(around, tmp_path, stop=halt)


async def test_a_switch_that_cannot_be_read_stops_the_hedge_too(around, tmp_path):
    blind = []

    def sometimes(stations):
        real = stations.ledger

        async def stopped(*asked):
            if blind:
                raise LedgerUnavailableError("no disk")
            return await real.stopped(*asked)

        return instead("ledger", stopped=stopped)(stations)

    gates, ready_to_hedge = {A: asyncio.Event()}, []
    plan = hedged(around, sleep=Due(lambda: ready_to_hedge), wrapped=sometimes)
    async with routed(around, tmp_path, plan) as (whole, route, _):
        ready = hold(route, gates)
        call = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: ready == [A])
        blind.append(True)
        ready_to_hedge.append(True)
        await eventually(lambda: whole.log.named("halt.unreadable"))
        gates[A].set()
        assert attempts((await call)[-1]) == [(A, None)]
        await whole.agree()


async def test_a_ledger_that_takes_its_time_over_the_switches_holds_up_no_answer(around, tmp_path):
    asked_for = []

    def slowly(stations):
        real = stations.ledger

        async def stopped(*about):
            asked_for.append(about)
            if len(asked_for) > 1:
                await asyncio.Event().wait()
            return await real.stopped(*about)

        return instead("ledger", stopped=stopped)(stations)

    gates = {A: asyncio.Event()}
    async with routed(around, tmp_path, hedged(around, wrapped=slowly)) as (whole, route, _), no_orphans():
        hold(route, gates)
        call = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: len(asked_for) == 2)
        gates[A].set()
        assert attempts((await call)[-1]) == [(A, None)]
        await whole.agree()


async def unhedged(around, whole, plan, before):
    """A call that is slow enough for a hedge, and has none."""
    around.vertex_fails("slow_first_byte", model=A, ms=30)
    plan.sleep.condition = lambda: len(asked(around)) > before
    assert attempts(await closed_of(whole)) == [(A, None)]
    assert asked(around)[before:] == [A]


async def test_no_hedge_goes_to_a_target_whose_breaker_is_open_or_on_trial(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, attempts=1), breaker=BreakerTerms(failures=1, open_ms=5_000))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        breaker = route._standings[1].breaker
        now_ns = around.clock.monotonic_ns()
        breaker.failed(breaker.enter(now_ns), now_ns)
        for before, expected in ((0, Standing.OPEN), (1, Standing.HALF_OPEN)):
            assert standing(route, around)[1] is expected
            await unhedged(around, whole, plan, before)
            around.clock.pass_s(5.1)
        assert standing(route, around)[1] is Standing.HALF_OPEN
        await whole.agree()


async def test_no_hedge_goes_to_a_target_that_has_no_quota(around, tmp_path):
    plan = hedged(around)
    async with routed(around, tmp_path, plan) as (whole, route, _):
        route._standings[1].cooling.refused(around.clock.monotonic_ns(), 30_000, MostChance())
        await unhedged(around, whole, plan, 0)
        await whole.agree()


async def test_no_number_of_lost_hedges_opens_a_breaker(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, burst=100), breaker=BreakerTerms(failures=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        slow(around, A)
        for number in range(5):
            plan.sleep.condition = lambda before=2 * number: len(asked(around)) > before
            assert attempts(await closed_of(whole)) == [(A, LOST), (B, None)]
        assert standing(route, around) == [Standing.CLOSED] * 2
        await whole.agree()


async def test_a_half_open_target_that_loses_is_tried_by_the_next_call(around, tmp_path):
    plan = hedged(around, breaker=BreakerTerms(failures=1, open_ms=5_000))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        breaker = route._standings[0].breaker
        now_ns = around.clock.monotonic_ns()
        breaker.failed(breaker.enter(now_ns), now_ns)
        around.clock.pass_s(5.1)
        slow(around, A, count=1)
        assert attempts(await closed_of(whole)) == [(A, LOST), (B, None)]
        assert standing(route, around)[0] is Standing.HALF_OPEN
        plan.sleep.condition = None
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert standing(route, around)[0] is Standing.CLOSED


@asynccontextmanager
async def two_in_flight(around, folder, faults, **changes):
    """A call of which both attempts have reached the upstream; each one goes on, or fails so, when its gate opens."""
    gates = {name: asyncio.Event() for name in (A, B, C)}
    async with routed(around, folder, hedged(around, **changes)) as (whole, route, _), no_orphans():
        ready = hold(route, gates)
        for name, (kind, params) in faults.items():
            around.vertex_fails(kind, model=name, **params)
        call = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: sorted(ready) == [A, B])
        yield whole, route, gates, call


DOWN, BUSY, BROKEN_OFF = ("status", {"code": 503}), ("status", {"code": 429}), ("truncate_after_n", {"n": 0})
WRONG, DENIED = ("status", {"code": 400}), ("status", {"code": 403})


@pytest.mark.parametrize("failing, going", [(A, B), (B, A)])
@pytest.mark.parametrize(
    "fault, told, spoilt",
    [
        (DOWN, "upstream.unreachable", 0),
        (BUSY, "upstream.quota", 0),
        (BROKEN_OFF, "upstream.truncated", 1),
        (WRONG, "upstream.refused", 0),
        (DENIED, "upstream.denied", 0),
    ],
)
async def test_where_one_of_the_two_fails_the_other_one_goes_on(around, tmp_path, failing, going, fault, told, spoilt):
    async with two_in_flight(around, tmp_path, {failing: fault}) as (whole, _, gates, call):
        gates[failing].set()
        await eventually(lambda: whole.log.named("attempt.failed"))
        assert not call.done()
        gates[going].set()
        *events, spent, closed = await call
        assert texts(events) == 10
        assert attempts(closed) == [(failing, told), (going, None)]
        assert [one.hedge for one in closed.attempts] == [failing == B, going == B]
        assert closed.attempts[0].charged_tokens == spoilt * BOUND
        assert asked(around) == [A, B]
        assert spent.usage.estimated is bool(spoilt)
        assert whole.spent("tokens") == spent.usage.input_tokens + 20
        await whole.agree()


@pytest.mark.parametrize(
    "first, second, told, spoilt",
    [
        (DOWN, BUSY, "upstream.unreachable", 0),
        (BUSY, DOWN, "upstream.quota", 0),
        (BROKEN_OFF, BROKEN_OFF, "upstream.truncated", 2),
        (DOWN, WRONG, "upstream.refused", 0),  # any target would say so: nothing else is worth telling
        (WRONG, DOWN, "upstream.refused", 0),
    ],
)
@pytest.mark.parametrize("order", [(A, B), (B, A)])
async def test_where_both_fail_the_call_fails_as_it_does_without_a_hedge(
    around, tmp_path, first, second, told, spoilt, order
):
    async with two_in_flight(around, tmp_path, {A: first, B: second}) as (whole, _, gates, call):
        for number, name in enumerate(order, 1):
            gates[name].set()
            await eventually(lambda: len(whole.log.named("attempt.failed")) == number)  # noqa: B023 - awaited here
        assert (await refusal(call)).reason == told
        assert [one["target"] for one in account(whole)["attempts"]] == list(order)
        assert whole.spent("tokens") == spoilt * BOUND
        assert asked(around) == [A, B]
        await whole.agree()


async def test_where_both_fail_a_third_target_is_asked_if_there_are_attempts_left_and_never_a_second_hedge(
    around, tmp_path
):
    targets = ((A, {}), (B, {"order": 2}), (C, {"order": 3}))
    more = {"targets": targets, "retry": replace(HEDGED, attempts=3)}
    async with two_in_flight(around, tmp_path, {A: BROKEN_OFF, B: BROKEN_OFF}, **more) as (whole, _, gates, call):
        gates[A].set()
        gates[B].set()
        await eventually(lambda: asked(around) == [A, B, C])
        gates[C].set()
        *_, spent, closed = await call
        assert attempts(closed) == [(A, "upstream.truncated"), (B, "upstream.truncated"), (C, None)]
        assert spent.usage.input_tokens > 2 * BOUND
        assert whole.spent("tokens") <= held_amounts(whole)["tokens"]
        await whole.agree()


async def test_a_retry_may_have_a_hedge_and_the_hold_covers_all_three_prompts(around, tmp_path):
    targets = ((A, {}), (B, {"order": 2}), (C, {"order": 3}))
    plan = hedged(around, targets=targets, sleep=due(around, A, B))
    async with routed(around, tmp_path, plan) as (whole, _, __), no_orphans():
        around.vertex_fails("truncate_after_n", model=A, n=0)
        slow(around, B)
        *_, spent, closed = await whole.converse(TEN)
        assert attempts(closed) == [(A, "upstream.truncated"), (B, LOST), (C, None)]
        assert [one.charged_tokens for one in closed.attempts] == [BOUND, BOUND, 0]
        assert spent.usage.input_tokens > 2 * BOUND
        assert held_amounts(whole)["tokens"] == 3 * BOUND + FLASH.max_output_tokens
        await whole.agree()


async def test_of_three_targets_the_next_in_the_order_is_the_hedge(around, tmp_path):
    targets = ((C, {"order": 3}), (A, {}), (B, {"order": 2}))
    async with routed(around, tmp_path, hedged(around, targets=targets)) as (whole, _, __):
        slow(around, A)
        assert attempts(await closed_of(whole)) == [(A, LOST), (B, None)]


@pytest.mark.parametrize("same", [False, True])
async def test_the_same_target_is_asked_again_only_if_it_is_the_only_one_and_the_file_says_so(around, tmp_path, same):
    plan = hedged(around, targets=((A, {}),), retry=RetryTerms(hedge_after_ms=AFTER_MS, hedge_same_target=same))
    async with routed(around, tmp_path, plan) as (whole, _, __), no_orphans():
        around.vertex_fails("slow_first_byte", model=A, ms=FOREVER_MS if same else 30)
        *_, spent, closed = await whole.converse(TEN)
        assert attempts(closed) == [(A, LOST), (A, None)][-1 - same :]
        assert asked(around) == [A] * (1 + same)
        assert spent.usage.estimated is same
        await whole.agree()


async def test_where_there_is_another_target_the_same_one_is_never_the_hedge(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, hedge_same_target=True), breaker=BreakerTerms(failures=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        breaker = route._standings[1].breaker
        now_ns = around.clock.monotonic_ns()
        breaker.failed(breaker.enter(now_ns), now_ns)
        await unhedged(around, whole, plan, 0)


async def test_both_are_given_up_where_neither_answers_in_the_time_for_a_first_delta(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, first_delta_ms=150))
    async with routed(around, tmp_path, plan) as (whole, route, _), no_orphans():
        slow(around, A, B)
        assert (await refusal(whole.converse(TEN))).reason == "upstream.stalled"
        await whole.agree()
        assert await endings(around) == [(A, "client_left"), (B, "client_left")]
        assert whole.spent("tokens") == 2 * BOUND
        assert standing(route, around) == [Standing.CLOSED] * 2
        await whole.agree()


async def test_after_its_first_delta_an_answer_that_breaks_counts_against_its_target_alone(around, tmp_path):
    plan = hedged(around, breaker=BreakerTerms(failures=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        slow(around, A)
        around.vertex_fails("reset_after_n", model=B, n=3)
        assert (await refusal(whole.converse(TEN))).reason == "upstream.truncated"
        assert asked(around) == [A, B]
        assert standing(route, around) == [Standing.CLOSED, Standing.OPEN]
        assert [one["fault"] for one in account(whole)["attempts"]] == [LOST, ""]
        await whole.agree()


async def test_a_defect_of_an_upstream_ends_both_and_is_told_as_one(around, tmp_path):
    """What is no fault of an upstream's is raised as it is, and never as a group of errors."""
    gates = {A: asyncio.Event(), B: asyncio.Event()}
    async with routed(around, tmp_path, hedged(around)) as (whole, route, _), no_orphans():
        hold(route, gates)
        slow(around, A)
        gates[B].wait = defect
        with pytest.raises(ZeroDivisionError):
            await whole.converse(TEN)
        await whole.agree()
        assert whole.told("outcome")[-1]["failure"]["reason"] == "gateway.fault"
        assert (A, "client_left") in await endings(around)


async def defect():
    raise ZeroDivisionError("made by the test")


async def test_the_usage_of_hedged_calls_adds_up_to_what_was_charged(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, burst=100))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        slow(around, A, count=3)
        costs = inputs = 0
        for number in range(3):
            plan.sleep.condition = lambda before=2 * number: len(asked(around)) > before
            *_, spent, _ = await whole.converse(TEN)
            costs, inputs = costs + spent.cost, inputs + spent.usage.input_tokens
        now_us = around.clock.unix_us()
        query = UsageQuery(from_unix_us=now_us - 10**9, to_unix_us=now_us + 10**9, by=(Group.MODEL,))
        report = await RecordedUsage(SqlitePages(whole.path)).used(query)
        assert (report.total.calls, report.total.cost_micro_usd, report.total.input_tokens) == (3, costs, inputs)
        assert whole.spent("cost_micro_usd") == costs
        await whole.agree()


async def test_two_upstreams_with_different_wires_race_and_the_slow_one_sees_its_caller_leave(around, tmp_path):
    async with CompatibleDouble() as llama, aiohttp.ClientSession(auto_decompress=False) as session:
        config = CompatibleConfig(name="llama", url=llama.url, dialect=Dialect.OPENAI)
        other = {"order": 2, "upstream": Compatible(config, session, None)}
        plan = hedged(around, targets=((A, {}), (llama.config.models[0], other)))
        async with routed(around, tmp_path, plan) as (whole, _, __), no_orphans():
            slow(around, A)
            events = await whole.converse(TEN)
            assert attempts(events[-1]) == [(A, LOST), (llama.config.models[0], None)]
            assert texts(events) > 0
            await whole.agree()
            assert await endings(around) == [(A, "client_left")]
            assert [entry.ending for entry in llama.journal.entries] == ["complete"]


async def test_closing_the_stream_at_any_event_settles_it_and_closes_both_upstreams(around, tmp_path):
    plan = hedged(around, retry=replace(HEDGED, burst=100))
    async with routed(around, tmp_path, plan) as (whole, _, __), no_orphans():
        slow(around, A)
        for heard in range(1, 13):
            before = len(around.vertex.journal.entries)
            plan.sleep.condition = lambda before=before: len(around.vertex.journal.entries) > before
            told = whole.stream(TEN)
            for _ in range(heard):
                last = await anext(told)
            await told.aclose()
            await whole.agree()
        assert isinstance(last, Closed)
        assert whole.spent("calls") == 12
