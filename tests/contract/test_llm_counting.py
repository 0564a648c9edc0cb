"""Counts of prompts on a route: who is asked, what is told and kept, and what a chat holds by it."""

import asyncio
import json
from dataclasses import replace

import pytest
from made_routes import SeededChance
from routed import TEN, A, B, C, Plan, attempts, closed_of, replace_upstream, routed, standing
from whole import FLASH, eventually, prompt, refusal, world

from gateway.llm import prompt_count
from gateway.llm.breaker import BreakerTerms, Standing
from gateway.llm.retry_budget import RetryTerms
from gateway.llm.tries import NEEDED_NS
from gateway.terms.asks import CountAsk
from gateway.terms.conversation import JsonSchemaConstraint, TokenCount, counted_tokens_bound, prompt_tokens_bound
from gateway.terms.faults import Fault
from gateway.terms.inputs import CachedContent, Inputs


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


async def test_a_count_is_kept_and_lets_a_chat_hold_less(around, tmp_path):
    async with routed(around, tmp_path, Plan(targets=((A, {}),))) as (whole, _, __):
        text = TEN * 40
        first = await whole.count(text)
        assert await whole.count(text) == TokenCount(tokens=first.tokens, cached=True)
        assert sum("countTokens" in entry.path for entry in around.vertex.journal.entries) == 1
        *_, spent, _ = await whole.converse(text)
        held = {claim["unit"]: claim["amount"] for claim in whole.told("intent")[-1]["claims"]}["tokens"]
        assert spent.usage.input_tokens <= first.tokens + 64
        assert held < first.tokens * 9 // 8 + 64 * 2 + 2 * FLASH.max_output_tokens
        bound = prompt_tokens_bound(prompt(text).read().conversation)
        assert held < bound + FLASH.max_output_tokens
        estimate = json.loads(whole.told("outcome")[-1]["result"])["estimate"]
        assert estimate["input_tokens"] == first.tokens
        assert whole.spent("calls") == 3  # a count is a call, also one that nobody had to be asked for
        await whole.agree()


async def test_a_count_goes_over_the_targets_too(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, _, __):
        around.vertex_fails("status", None, model=A)
        assert (await whole.count(TEN)).tokens > 0
        assert [entry.model for entry in around.vertex.journal.entries] == [A, B]


class Gated:
    """The same upstream, that counts when it is let."""

    def __init__(self, upstream):
        self.stream, self.check, self.name = upstream.stream, upstream.check, upstream.name
        self.go = asyncio.Event()
        self._upstream = upstream

    async def count(self, model, ask):
        await self.go.wait()
        return await self._upstream.count(model, ask)


async def test_one_count_that_many_wait_for_fails_once(around, tmp_path):
    async with routed(around, tmp_path, Plan(targets=((A, {}),), retry=RetryTerms())) as (whole, route, _):
        target = route._standings[0].target
        gated = Gated(target.upstream)
        route._standings[0].target = replace(target, upstream=gated)
        around.vertex_fails("status")
        ask = CountAsk(model=FLASH.name, conversation=prompt(TEN).read().conversation, digest=b"")
        counts = [asyncio.ensure_future(route.count(ask, None)) for _ in range(10)]
        await eventually(lambda: route._counts._running)
        gated.go.set()
        faults = await asyncio.gather(*counts, return_exceptions=True)
        assert {error.fault for error in faults} == {Fault.UNREACHABLE}
        assert len(around.vertex.journal.entries) == 1
        assert standing(route, around) == [Standing.CLOSED]  # three failures would open it
        assert (await whole.count(TEN)).tokens > 0


class Uncounted:
    """The same upstream, as one that has no count method."""

    def __init__(self, upstream):
        self.stream, self.check, self.name = upstream.stream, upstream.check, upstream.name

    async def count(self, model, ask):
        return None


async def test_only_where_no_upstream_counts_the_gateway_estimates_and_says_so(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, route, _):
        for place in range(2):
            replace_upstream(route, place, Uncounted)
        counted = await whole.count(TEN)
        assert counted.estimated
        assert not counted.cached
        assert counted.tokens == -(-prompt_tokens_bound(prompt(TEN).read().conversation) // 4)
        assert await whole.count(TEN) == counted  # an estimate is not kept as a count
        assert json.loads(whole.told("outcome")[-1]["result"])["estimated"] is True


async def test_a_target_that_does_not_count_leaves_it_to_the_next_at_no_cost(around, tmp_path):
    plan = Plan(targets=((A, {}), (B, {"order": 2}), (C, {"order": 3})), retry=RetryTerms())
    async with routed(around, tmp_path, plan) as (whole, route, _):
        for place in range(2):
            replace_upstream(route, place, Uncounted)
        assert not (await whole.count(TEN)).estimated  # of a route that retries nothing
        assert counts_asked(around) == [C]
        assert standing(route, around) == [Standing.CLOSED] * 3
        assert (await whole.count(TEN)).cached
        await closed_of(whole, TEN)
        estimate = json.loads(whole.told("outcome")[-1]["result"])["estimate"]
        # Whoever answers may count otherwise, so the chat's hold stays in bytes.
        assert estimate["input_tokens"] == -(-prompt_tokens_bound(prompt(TEN).read().conversation) // 4)


async def test_an_upstream_without_a_count_closes_no_breaker(around, tmp_path):
    """Nothing was sent to it, so it has not shown that it is back."""
    plan = Plan(targets=((A, {}),), retry=RetryTerms(), breaker=BreakerTerms(failures=1, open_ms=5_000))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        replace_upstream(route, 0, Uncounted)
        around.vertex_fails("status")
        await refusal(whole.converse(TEN))
        around.clock.pass_s(5.1)
        assert (await whole.count(TEN)).estimated
        assert standing(route, around) == [Standing.HALF_OPEN]


async def test_a_target_that_is_passed_over_is_no_attempt(around, tmp_path):
    plan = Plan(targets=((A, {}), (B, {"order": 2}), (C, {"order": 3})), retry=RetryTerms(attempts=2))
    async with routed(around, tmp_path, plan) as (whole, route, _):
        replace_upstream(route, 0, Uncounted)
        around.vertex_fails("status", None, model=B)
        assert not (await whole.count(TEN)).estimated
        assert counts_asked(around) == [B, C]


@pytest.mark.parametrize("code, reason", [(503, "upstream.unreachable"), (404, "upstream.model_missing")])
async def test_where_the_target_fails_that_counts_nothing_is_estimated(around, tmp_path, code, reason):
    async with routed(around, tmp_path, Plan()) as (whole, route, _):
        replace_upstream(route, 1, Uncounted)
        around.vertex_fails("status", None, code=code)
        assert (await refusal(whole.count(TEN))).reason == reason
        around.vertex.faults.clear()
        assert not (await whole.count(TEN)).estimated


def counts_asked(around):
    return [entry.model for entry in around.vertex.journal.entries if "countTokens" in entry.path]


async def test_each_tokenizer_of_a_route_is_asked_and_then_a_chat_holds_the_largest_count(around, tmp_path):
    targets = ((A, {}), (B, {"order": 2}), (C, {"order": 3, "tokenizer": A}))
    async with routed(around, tmp_path, Plan(targets=targets)) as (whole, route, _):
        replace_upstream(route, 1, Generous)
        text = TEN * 40
        counted = await whole.count(text)
        assert (counts_asked(around), counted.cached) == ([A, B], False)
        assert await whole.count(text) == replace(counted, cached=True)
        assert len(counts_asked(around)) == 2
        *_, spent, _ = await whole.converse(text)
        assert counted.tokens == spent.usage.input_tokens + MORE
        assert held_input(whole) == counted_tokens_bound(counted.tokens)
        estimate = json.loads(whole.told("outcome")[-1]["result"])["estimate"]
        assert estimate["input_tokens"] == counted.tokens
        await whole.agree()


MORE = 100


class Generous(Uncounted):
    """The same upstream, that counts a hundred tokens more."""

    def __init__(self, upstream):
        super().__init__(upstream)
        self._upstream = upstream

    async def count(self, model, ask):
        return await self._upstream.count(model, ask) + MORE


def held_input(whole):
    """Of the last chat on a route that holds its prompt twice."""
    held = {claim["unit"]: claim["amount"] for claim in whole.told("intent")[-1]["claims"]}["tokens"]
    return (held - FLASH.max_output_tokens) // 2


async def test_a_count_is_held_beside_the_bound_of_what_nobody_is_asked_to_count(around, tmp_path):
    constraint = JsonSchemaConstraint(schema_json='{"type":"object","properties":{"answer":{"type":"string"}}}')
    cached = {"handbook": CachedContent(upstream_id="123", tokens_max=1_000)}
    plan = Plan(targets=((A, {}),), model=replace(FLASH, inputs=Inputs(cached=cached)), kept={A: cached})
    async with routed(around, tmp_path, plan) as (whole, _, __):
        text = TEN * 40
        counted = counted_tokens_bound((await whole.count(text)).tokens)
        await refusal(whole.converse(text, constraint=constraint, cached_content="handbook"))
        assert held_input(whole) == counted + len(constraint.schema_json) + 1_000 + 16
        await refusal(whole.converse(text, cached_content="handbook"))
        assert held_input(whole) == counted + 1_000 + 16


@pytest.mark.parametrize("kind, params", [("slow_first_byte", {"ms": 60_000}), ("status", {"code": 404})])
async def test_who_has_a_count_hears_nothing_of_another_tokenizers_trouble(around, tmp_path, monkeypatch, kind, params):
    monkeypatch.setattr(prompt_count, "OTHERS_S", 0.05)
    async with routed(around, tmp_path, Plan(breaker=BreakerTerms(failures=1))) as (whole, route, _):
        around.vertex_fails(kind, None, model=B, **params)
        assert not (await whole.count(TEN)).estimated
        assert standing(route, around) == [Standing.CLOSED] * 2  # given up is not failed
        await around.upstream_quiet()
        await closed_of(whole)
        bound = prompt_tokens_bound(prompt(TEN).read().conversation)
        assert held_input(whole) == bound  # in bytes, as long as one count is missing
        await whole.agree()


async def test_a_tokenizer_whose_target_is_not_well_is_not_asked(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (whole, route, _):
        route._standings[1].cooling.refused(around.clock.monotonic_ns(), 30_000, SeededChance())
        await whole.count(TEN)
        assert counts_asked(around) == [A]
        assert (await whole.count(TEN)).cached is True
        around.clock.pass_s(31)
        assert (await whole.count(TEN)).cached is False
        assert counts_asked(around) == [A, B]


async def test_near_the_deadline_one_count_is_enough(around, tmp_path):
    async with routed(around, tmp_path, Plan()) as (_, route, __):
        ask = CountAsk(model=FLASH.name, conversation=prompt(TEN).read().conversation, digest=b"")
        await route.count(ask, around.clock.monotonic_ns() + NEEDED_NS)
        assert counts_asked(around) == [A]


async def test_a_target_that_cannot_count_is_set_aside_for_counts_alone(around, tmp_path):
    plan = Plan(retry=RetryTerms(attempts=2, percent=0, burst=1))
    async with routed(around, tmp_path, plan) as (whole, _, __):
        around.vertex_fails("status", 1, model=A, code=404)
        for number in range(3):
            assert not (await whole.count(f"{TEN} {number}")).estimated
        assert counts_asked(around) == [A, B, B, B]  # one retry was all that there was
        assert attempts(await closed_of(whole)) == [(A, None)]
