"""A route through a whole gateway: which targets are asked, what the caller, the record and the budgets are told."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from made_routes import SeededChance
from routed import (
    CHEAP,
    DEAR,
    TEN,
    A,
    B,
    C,
    Plan,
    always,
    asked,
    attempts,
    closed_of,
    recorded_attempts,
    replace_upstream,
    routed,
    standing,
)
from served import served
from whole import FLASH, eventually, prompt, refusal, world

from gateway.call.converse import Closed
from gateway.llm.breaker import BreakerTerms, Standing
from gateway.llm.retry_budget import RetryTerms
from gateway.llm.vertex_error import read_error
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import (
    Asking,
    Finish,
    Function,
    Generation,
    Text,
    Thinking,
    Usage,
    prompt_tokens_bound,
)
from gateway.terms.inputs import CachedContent, FileData, Inputs
from gateway.terms.models import DatedPrice
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import ChatRequest, Content, CountTokensRequest, ListModelsRequest, Part, Role

DAY_US = 86_400_000_000


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.mark.parametrize(
    "kind, params, fault",
    [
        ("status", {"code": 503}, "upstream.unreachable"),
        ("status", {"code": 500}, "upstream.unreachable"),
        ("status", {"code": 429}, "upstream.quota"),
        ("status", {"code": 404}, "upstream.model_missing"),
        ("status", {"code": 403}, "upstream.denied"),
        ("reset_before", {}, "upstream.unreachable"),
        ("truncate_after_n", {"n": 0}, "upstream.truncated"),
        ("malformed_sse", {"n": 1}, "upstream.malformed"),
    ],
)
async def test_what_one_target_cannot_do_the_next_one_does(around, tmp_path, kind, params, fault):
    async with routed(around, tmp_path, Plan()) as (whole, _, waits):
        around.vertex_fails(kind, None, model=A, **params)
        events = await whole.converse(TEN)
        closed = events[-1]
        assert isinstance(closed, Closed)
        assert sum(isinstance(event, Text) for event in events) == 10
        assert attempts(closed) == [(A, fault), (B, None)]
        assert recorded_attempts(whole) == [(A, fault), (B, "")]
        assert asked(around) == [A, B]
        assert waits.seconds == []
        assert closed.ending.model_version == B
        assert [fields["target"] for fields in whole.log.named("attempt.failed")] == [A]
        await whole.agree()


LOOK = Function(name="look", description="", parameters_json_schema="{}")
HANDBOOK = CachedContent(upstream_id="123", tokens_max=1_000)
ITS_OWN = CachedContent(upstream_id="456", tokens_max=2_000)


def reading(**kept):
    """A route whose callers are offered both names; `kept`: what each target has."""
    offered = replace(FLASH, inputs=Inputs(cached={"handbook": HANDBOOK, "law": ITS_OWN}))
    targets = [(A, {"order": 1}), (B, {"order": 2})]
    return Plan(model=offered, targets=tuple(targets), kept={A: kept.get("a", {}), B: kept.get("b", {})})


async def test_a_target_without_the_cached_beginning_is_not_asked(around, tmp_path):
    async with routed(around, tmp_path, reading(a={"handbook": HANDBOOK})) as (whole, _, __):
        around.vertex_fails("status", None, code=503)
        refused = await refusal(whole.converse(TEN, cached_content="handbook"))
        # What the target that has it said, and no "not found" of one that cannot have it.
        assert refused.reason == "upstream.unreachable"
        assert set(asked(around)) == {A}
        assert {target for target, _ in recorded_attempts(whole)} == {A}


async def test_a_cached_beginning_that_is_gone_is_told_as_one_and_the_next_target_asked(around, tmp_path):
    async with routed(around, tmp_path, reading(a={"handbook": HANDBOOK}, b={"handbook": ITS_OWN})) as (whole, _, __):
        refused = await refusal(whole.converse(TEN, cached_content="handbook"))
        assert (refused.kind, refused.reason) == (Kind.NOT_FOUND, "upstream.cache_missing")
        assert "without cached_content" in refused.sentence
        gone = "upstream.cache_missing"
        assert recorded_attempts(whole) == [(A, gone), (B, gone)]
        assert whole.held() == {}


async def test_a_cached_beginning_is_refused_where_no_target_has_it(around, tmp_path):
    async with routed(around, tmp_path, reading(b={"law": ITS_OWN})) as (whole, _, __):
        unknown = await refusal(whole.converse(TEN, cached_content="handbok"))
        assert unknown.sentence == "cached_content: flash has: handbook, law"
        beside = await refusal(whole.converse(TEN, cached_content="law", functions=(LOOK,)))
        assert beside.sentence == ("cached_content: has its own system instruction and functions: send none beside it")
        assert asked(around) == []


async def test_targets_of_a_lower_order_come_first_and_all_are_asked_in_their_order(around, tmp_path):
    plan = Plan(targets=((C, {"order": 3}), (A, {}), (B, {"order": 2})), retry=RetryTerms(attempts=3))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("status", None, model=A)
        around.vertex_fails("status", None, model=B)
        assert attempts(await closed_of(whole)) == [(A, "upstream.unreachable"), (B, "upstream.unreachable"), (C, None)]


async def test_if_all_fail_the_last_fault_is_told_and_nothing_is_charged(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, _, __):
        around.vertex_fails("status", None)
        refused = await refusal(whole.converse(TEN))
        assert refused.reason == "upstream.unreachable"
        assert recorded_attempts(whole) == [(A, "upstream.unreachable"), (B, "upstream.unreachable")]
        assert whole.held() == {}
        await whole.agree()


@pytest.mark.parametrize("kind", ["reset_after_n", "truncate_after_n", "error_event_after_n"])
async def test_after_the_first_chunk_nothing_is_tried_again(around, tmp_path, kind):
    async with routed(around, tmp_path, Plan(retry=RetryTerms(attempts=5))) as (whole, _, __):
        around.vertex_fails(kind, model=A, n=3)
        assert (await refusal(whole.converse(TEN))).kind is Kind.UNAVAILABLE
        assert asked(around) == [A]
        assert recorded_attempts(whole) == [(A, "")]
        await whole.agree()


async def test_a_refused_request_is_not_tried_elsewhere_and_opens_no_breaker(around, tmp_path):
    async with routed(around, tmp_path, Plan(retry=RetryTerms(attempts=5))) as (whole, route, _):
        around.vertex_fails("status", None, code=400)
        for _ in range(20):
            assert (await refusal(whole.converse(TEN))).reason == "upstream.refused"
        assert asked(around) == [A] * 20
        assert standing(route, around) == [Standing.CLOSED] * 2
        await whole.agree()


@pytest.mark.parametrize("code", [429, 403, 404])
async def test_neither_quotas_nor_refused_credentials_open_a_breaker(around, tmp_path, code):
    plan = Plan(targets=((A, {}),), retry=RetryTerms(attempts=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        around.vertex_fails("status", None, code=code)
        for _ in range(10):
            await refusal(whole.converse(TEN))
        assert standing(route, around) == [Standing.CLOSED]


async def test_a_breaker_opens_spares_its_target_lets_one_try_and_closes(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, route, _):
        around.vertex_fails("status", None, model=A)
        for _ in range(3):
            assert attempts(await closed_of(whole)) == [(A, "upstream.unreachable"), (B, None)]
        assert standing(route, around) == [Standing.OPEN, Standing.CLOSED]
        assert attempts(await closed_of(whole)) == [(B, None)]  # no attempt, and so no retry, is spent on it
        around.clock.pass_s(5.1)
        assert standing(route, around)[0] is Standing.HALF_OPEN
        assert attempts(await closed_of(whole)) == [(A, "upstream.unreachable"), (B, None)]
        assert standing(route, around)[0] is Standing.OPEN
        around.vertex.faults.clear()
        around.clock.pass_s(5.1)
        assert attempts(await closed_of(whole)) == [(B, None)]  # twice as long now
        around.clock.pass_s(5.1)
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert standing(route, around) == [Standing.CLOSED] * 2
        await whole.agree()


async def test_of_many_calls_at_once_only_one_tries_a_half_open_target(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, _, __):
        around.vertex_fails("status", 3, model=A)
        for _ in range(3):
            await closed_of(whole)
        around.clock.pass_s(5.1)
        around.vertex_fails("slow_first_byte", model=A, ms=50)
        all_closed = await asyncio.gather(*(closed_of(whole) for _ in range(10)))
        assert Counter(one.attempts[0].target for one in all_closed) == {A: 1, B: 9}


async def test_a_caller_that_leaves_its_trial_leaves_it_to_the_next(around, tmp_path):
    plan = Plan(targets=((A, {}),), retry=RetryTerms(attempts=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        around.vertex_fails("status", 3)
        for _ in range(3):
            await refusal(whole.converse(TEN))
        around.clock.pass_s(5.1)
        around.vertex_fails("slow_first_byte", ms=10_000)
        leaver = asyncio.ensure_future(whole.converse(TEN))
        await eventually(lambda: len(asked(around)) == 4)
        leaver.cancel()
        await asyncio.wait((leaver,))
        assert standing(route, around) == [Standing.HALF_OPEN]
        assert attempts(await closed_of(whole)) == [(A, None)]


async def test_with_every_breaker_open_a_call_is_refused_at_once_with_the_time_to_come_again(around, tmp_path):
    plan = Plan(targets=((A, {}),), retry=RetryTerms(attempts=1))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("status", 3)
        for _ in range(3):
            await refusal(whole.converse(TEN))
        refused = await refusal(whole.converse(TEN))
        assert (refused.reason, refused.kind) == ("upstream.breaker_open", Kind.UNAVAILABLE)
        assert 4_000 < refused.retry_after_ms <= 5_000
        assert len(asked(around)) == 3
        assert whole.held() == {}
        assert recorded_attempts(whole) == []
        await whole.agree()


async def test_when_the_retry_budget_is_spent_faults_are_told_at_once_until_calls_earn_it_again(around, tmp_path):
    plan = Plan(retry=RetryTerms(attempts=2, percent=20, burst=2), breaker=BreakerTerms(failures=1_000))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("status", None, model=A)
        answered = []
        for _ in range(12):
            try:
                answered.append(len((await closed_of(whole)).attempts))
            except Exception as error:  # noqa: BLE001 - counted below
                answered.append(error.refusal.reason)
        # Two at once, then every fifth call has earned one.
        told = "upstream.unreachable"
        assert answered == [2, 2, told, told, told, 2, told, told, told, told, 2, told]
        await whole.agree()


async def test_the_same_target_is_asked_again_after_a_wait_that_grows(around, tmp_path):
    plan = Plan(targets=((A, {}),), retry=RetryTerms(attempts=4), breaker=BreakerTerms(failures=100))
    async with routed(around, tmp_path, plan) as (whole, _, waits):
        around.vertex_fails("status", 3)
        closed = await closed_of(whole)
        assert attempts(closed) == [(A, "upstream.unreachable")] * 3 + [(A, None)]
        assert waits.seconds == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "code, reason, kind",
    [(429, "upstream.quota", Kind.EXHAUSTED), (503, "upstream.unreachable", Kind.UNAVAILABLE)],
)
async def test_a_named_delay_is_waited_for_and_other_calls_are_told_to_come_later(around, tmp_path, code, reason, kind):
    plan = Plan(targets=((A, {}),))
    async with routed(around, tmp_path, plan) as (whole, _, waits):
        around.vertex_fails("status", 1, code=code, retry_after_s=2)
        assert attempts(await closed_of(whole)) == [(A, reason), (A, None)]
        assert [round(seconds, 1) for seconds in waits.seconds] == [2.0]
        around.vertex_fails("status", 1, code=code, retry_after_s=60)
        assert (await refusal(whole.converse(TEN))).reason == reason  # longer than anybody waits here
        refused = await refusal(whole.converse(TEN))
        assert (refused.reason, refused.kind) == (reason, kind)
        assert 59_000 < refused.retry_after_ms <= 60_000
        assert len(asked(around)) == 3
        around.clock.pass_s(61)
        assert attempts(await closed_of(whole)) == [(A, None)]
        await whole.agree()


@pytest.mark.parametrize("ahead_s, left_ms", [(90, 90_000), (-90, 0), (86_400, 3_600_000)])
async def test_a_delay_that_is_named_as_a_date_is_told_as_what_is_left_of_it(around, tmp_path, ahead_s, left_ms):
    """What the double's answers lack: the header's other form, read by the gateway's own clock, within an hour."""

    def dated(upstream):
        async def stream(model, ask, call_ids):
            date = formatdate(around.clock.unix_us() / 1_000_000 + ahead_s, usegmt=True)
            raise read_error(503, b"", date)
            yield

        return SimpleNamespace(name=upstream.name, check=upstream.check, count=upstream.count, stream=stream)

    async with routed(around, tmp_path, Plan(targets=((A, {}),), retry=RetryTerms())) as (whole, route, _):
        replace_upstream(route, 0, dated)
        refused = await refusal(whole.converse(TEN))
        assert refused.reason == "upstream.unreachable"
        assert left_ms - 1_000 <= refused.retry_after_ms <= left_ms


@pytest.mark.parametrize(
    "kind, params, fault",
    [
        ("status", {"code": 404}, "upstream.model_missing"),
        ("status", {"code": 403}, "upstream.denied"),
        ("malformed_sse", {"n": 1}, "upstream.malformed"),
    ],
)
async def test_a_target_that_would_not_serve_is_asked_last_for_a_while_and_costs_no_retries(
    around, tmp_path, kind, params, fault
):
    plan = Plan(retry=RetryTerms(attempts=2, percent=0, burst=5))
    async with routed(around, tmp_path, plan) as (whole, route, waits):
        around.vertex_fails(kind, None, model=A, **params)
        told = Counter()
        for _ in range(60):
            told[tuple(attempts(await closed_of(whole)))] += 1
            around.clock.pass_s(0.2)
        # Asked again after 1, 2 and 4 seconds, to see whether it serves; the next time is after 8.
        assert told == {((A, fault), (B, None)): 4, ((B, None),): 56}
        logged = whole.log.named("attempt.failed")
        assert [(one["target"], one["aside_ms"]) for one in logged] == [(A, 1_000 << n) for n in range(4)]
        attempted = [json.loads(one["result"])["attempts"] for one in whole.told("outcome")]
        assert [one[0]["aside_ms"] for one in attempted if len(one) == 2] == [1_000 << n for n in range(4)]
        assert standing(route, around) == [Standing.CLOSED] * 2
        assert waits.seconds == []
        around.vertex.faults.clear()
        around.clock.pass_s(301)
        assert attempts(await closed_of(whole)) == [(A, None)]
        assert attempts(await closed_of(whole)) == [(A, None)]
        await whole.agree()


async def test_a_target_that_is_set_aside_is_asked_at_once_where_no_other_one_is_left(around, tmp_path):
    async with routed(around, tmp_path, Plan(retry=RetryTerms(attempts=2))) as (whole, _, waits):
        around.vertex_fails("status", 1, model=A, code=404)
        assert attempts(await closed_of(whole)) == [(A, "upstream.model_missing"), (B, None)]
        around.vertex_fails("status", 1, model=B)
        assert attempts(await closed_of(whole)) == [(B, "upstream.unreachable"), (A, None)]
        assert waits.seconds == []
        assert attempts(await closed_of(whole)) == [(A, None)]  # it answered: it has its place again


@pytest.mark.parametrize("named", ["cached", "file"])
async def test_what_a_caller_refers_to_sets_no_target_aside(around, tmp_path, named):
    """An upstream says 403 and 404 of a file and of a cached beginning too, and those are one caller's."""
    kept = {"handbook": HANDBOOK}
    inputs = Inputs(media={"application/pdf": 100}, file_prefixes=("gs://reports/",), cached=kept)
    file = FileData(mime_type="application/pdf", uri="gs://reports/1.pdf")
    options = {"cached_content": "handbook"} if named == "cached" else {"files": (file,)}
    async with routed(around, tmp_path, Plan(model=replace(FLASH, inputs=inputs), kept={A: kept, B: kept})) as (
        whole,
        _,
        __,
    ):
        around.vertex_fails("status", 1, model=A, code=403)
        around.vertex_fails("status", 1, model=B)
        assert (await refusal(whole.converse(**options))).reason == "upstream.unreachable"
        assert asked(around) == [A, B]
        assert attempts(await closed_of(whole)) == [(A, None)]


@pytest.mark.parametrize("timeout_s, tries", [(1.0, 1), (30.0, 2), (None, 2)])
async def test_a_wait_that_the_deadline_does_not_allow_is_not_begun(around, tmp_path, timeout_s, tries):
    async with routed(around, tmp_path, Plan(targets=((A, {}),))) as (whole, _, waits):
        around.vertex_fails("status", None, code=429, retry_after_s=2)
        refused = await refusal(whole.converse(TEN, timeout_s=timeout_s))
        assert refused.reason == "upstream.quota"
        assert len(asked(around)) == tries
        assert len(waits.seconds) == tries - 1
        await whole.agree()


async def test_a_target_that_is_busy_is_asked_after_the_others(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, _, __):
        around.vertex_fails("status", 1, model=A, code=429, retry_after_s=30)
        assert attempts(await closed_of(whole)) == [(A, "upstream.quota"), (B, None)]
        assert attempts(await closed_of(whole)) == [(B, None)]
        around.clock.pass_s(31)
        assert attempts(await closed_of(whole)) == [(A, None)]


async def test_weights_share_the_calls_and_a_weight_of_nothing_is_only_for_need(around, tmp_path):
    plan = Plan(targets=((A, {"weight": 3}), (B, {"weight": 1}), (C, {"weight": 0})), chance=SeededChance(7))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        for _ in range(200):
            await closed_of(whole, "@pace deltas=1 interval_ms=0 size=1\nA.")
        shares = Counter(asked(around))
        assert set(shares) == {A, B}
        assert 130 <= shares[A] <= 170  # 150 expected, standard deviation 6
        around.vertex_fails("status", None, model=A)
        around.vertex_fails("status", None, model=B)
        assert (await refusal(whole.converse(TEN))).reason == "upstream.unreachable"  # two attempts


async def test_the_hold_covers_a_spoilt_prompt_and_it_is_charged_at_its_targets_price(around, tmp_path):
    """A body that ended before its first event may have been billed: its prompt is paid, and the answer too."""
    plan = Plan(targets=((A, {"prices": always(DEAR)}), (B, {"order": 2})))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("truncate_after_n", model=A, n=0)
        *_, spent, closed = await whole.converse(TEN)
        assert attempts(closed) == [(A, "upstream.truncated"), (B, None)]
        bound = prompt_tokens_bound(prompt(TEN).read().conversation)
        answered = Usage(input_tokens=spent.usage.input_tokens - bound, output_tokens=20)
        assert spent.cost == DEAR.cost(Usage(input_tokens=bound)) + CHEAP.cost(answered)
        (intent,) = whole.told("intent")
        held = {claim["unit"]: claim["amount"] for claim in intent["claims"]}
        assert held["tokens"] == 2 * bound + FLASH.max_output_tokens
        assert held["cost_micro_usd"] == DEAR.cost(Usage(input_tokens=2 * bound, output_tokens=FLASH.max_output_tokens))
        assert whole.spent("cost_micro_usd") == spent.cost
        assert whole.spent("tokens") == spent.usage.input_tokens + 20
        await whole.agree()


async def test_no_second_prompt_is_spoilt(around, tmp_path):
    plan = Plan(targets=((A, {}), (B, {"order": 2}), (C, {"order": 3})), retry=RetryTerms(attempts=3))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("truncate_after_n", None, n=0)
        assert (await refusal(whole.converse(TEN))).reason == "upstream.truncated"
        assert asked(around) == [A, B]
        bound = prompt_tokens_bound(prompt(TEN).read().conversation)
        assert whole.spent("tokens") == 2 * bound
        await whole.agree()


async def test_a_slow_first_answer_is_given_up_for_another_target_and_opens_no_breaker(around, tmp_path):
    plan = Plan(retry=RetryTerms(attempts=2, first_delta_ms=100, burst=100), breaker=BreakerTerms(failures=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        around.vertex_fails("slow_first_byte", model=A, ms=10_000)
        assert attempts(await closed_of(whole)) == [(A, "upstream.stalled"), (B, None)]
        assert standing(route, around) == [Standing.CLOSED] * 2
        await around.upstream_quiet()
        assert attempts(await closed_of(whole)) == [(A, None)]
        await whole.agree()


async def test_a_call_costs_what_the_target_takes_that_answers_by_the_price_of_its_day(around, tmp_path):
    tomorrow = around.clock.unix_us() + DAY_US
    rising = (*always(CHEAP), DatedPrice(valid_from="2999-01-01", from_unix_us=tomorrow, price=DEAR))
    async with routed(around, tmp_path, Plan(targets=((A, {"prices": rising}),))) as (whole, _, __):
        for price, valid_from in ((CHEAP, ""), (DEAR, "2999-01-01")):
            *_, spent, _ = await whole.converse(TEN)
            assert spent.cost == price.cost(spent.usage)
            told = json.loads(whole.told("outcome")[-1]["result"])["price"]
            assert told == {
                "valid_from": valid_from,
                "input": price.input,
                "output": price.output,
                "cached": price.cached,
            }
            around.clock.pass_s(25 * 3_600)


async def test_before_its_first_price_a_model_is_refused(around, tmp_path):
    dated = (DatedPrice(valid_from="2999-01-01", from_unix_us=around.clock.unix_us() + DAY_US, price=CHEAP),)
    async with routed(around, tmp_path, Plan(targets=((A, {}), (B, {"prices": dated})))) as (whole, _, __):
        refused = await refusal(whole.converse(TEN))
        assert (refused.reason, refused.kind) == ("model.unpriced", Kind.UNAVAILABLE)
        assert asked(around) == []


async def test_what_answers_are_like_is_learnt_shown_and_held_only_where_the_operator_says_so(around, tmp_path):
    model = replace(FLASH, holds_typical=True)
    async with routed(around, tmp_path, Plan(targets=((A, {}),), model=model)) as (whole, route, _):
        for _ in range(20):
            assert (await closed_of(whole, paced(300))).ending.finish is Finish.STOP
        typical = route.model_at(around.clock.unix_us()).typical_output_tokens
        assert 300 <= typical <= 375
        *_, spent, closed = await whole.converse(paced(500))
        assert closed.ending.finish is Finish.BUDGET_SPENT
        assert closed.ending.upstream_reason == "MAX_TOKENS"
        assert spent.usage.output_tokens == typical
        bound = prompt_tokens_bound(prompt(paced(500)).read().conversation)
        held = {claim["unit"]: claim["amount"] for claim in whole.told("intent")[-1]["claims"]}["tokens"]
        assert held == bound * 2 + typical
        # Who asks for less than that gets its own bound, and its own word for it.
        *_, closed = await whole.converse(TEN, generation=Generation(max_output_tokens=7))
        assert closed.ending.finish is Finish.MAX_TOKENS
        for _ in range(20):  # answers that are cut by the hold want more
            await closed_of(whole, paced(500))
        assert (await closed_of(whole, paced(500))).ending.finish is Finish.STOP
        await whole.agree()


def paced(tokens):
    return f"@pace deltas={tokens // 10} interval_ms=0 size=10\nSay something."


async def test_no_caller_cuts_the_answers_of_others_by_asking_for_little(around, tmp_path):
    model = replace(FLASH, holds_typical=True)
    async with routed(around, tmp_path, Plan(targets=((A, {}),), model=model)) as (whole, route, _):
        for _ in range(40):
            await closed_of(whole, paced(300), generation=Generation(max_output_tokens=1))
        assert route.model_at(around.clock.unix_us()).typical_output_tokens is None
        for _ in range(40):
            await closed_of(whole, paced(10))
        assert route.model_at(around.clock.unix_us()).typical_output_tokens <= 12
        *_, spent, closed = await whole.converse(paced(300))
        assert (closed.ending.finish, spent.usage.output_tokens) == (Finish.BUDGET_SPENT, 256)
        # Nor those who ask it to think: thoughts alone may be longer than what is typical.
        *_, closed = await whole.converse(paced(300), generation=Generation(thinking=Thinking.HIGH))
        assert closed.ending.finish is Finish.STOP


async def test_a_trial_that_is_closed_before_it_was_sent_makes_room_for_the_next(around, tmp_path):
    plan = Plan(targets=((A, {}),), retry=RetryTerms(attempts=1))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        around.vertex_fails("status", 3)
        for _ in range(3):
            await refusal(whole.converse(TEN))
        around.clock.pass_s(5.1)
        ask = ChatAsk(
            model=FLASH.name,
            conversation=prompt(TEN).read().conversation,
            max_output_tokens=10,
            input_tokens_bound=100,
            run="",
            digest=b"",
        )
        trial = route.stream(ask, "call", None)
        assert await anext(trial) == Asking(target=A)
        await trial.aclose()
        assert attempts(await closed_of(whole)) == [(A, None)]


async def test_on_the_wire_the_attempts_are_in_the_finish_and_a_count_says_what_it_is(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, _, __), served(whole) as client:
        around.vertex_fails("status", model=A, code=429)
        contents = [Content(role=Role.USER, parts=[Part(text=TEN)])]
        heard = await client.call("Chat", ChatRequest(model="flash", contents=contents))
        (finish,) = [event.finish for event in heard.replies if event.finish is not None]
        assert [(one.target, one.fault) for one in finish.attempts] == [(A, "upstream.quota"), (B, "")]
        assert all(one.milliseconds >= 0 for one in finish.attempts)
        for cached in (False, True):
            counted = (await client.call("CountTokens", CountTokensRequest(model="flash", contents=contents))).reply
            assert (counted.cached, counted.estimated) == (cached, False)
            assert counted.input_tokens > 0
        (model,) = (await client.call("ListModels", ListModelsRequest())).reply.models
        assert (model.cached_price_micro_usd_per_million, model.typical_output_tokens) == (CHEAP.cached, 0)
