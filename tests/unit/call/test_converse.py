"""A governed model stream: what the caller hears, what it costs and what is on record, wherever it ends."""

import asyncio
import json
from contextlib import aclosing

import pytest
from failing import instead, raises
from stepping import cut_when
from whole import FLASH, agent, budget, prompt, refusal, world

from gateway.call.converse import Closed, Spent, converse
from gateway.terms.conversation import (
    ChoiceConstraint,
    Ending,
    Finish,
    Generation,
    RegexConstraint,
    Text,
    Usage,
    prompt_tokens_bound,
)
from gateway.terms.faults import Fault, LedgerUnavailableError
from gateway.terms.operations import Replay
from gateway.terms.verdict import Kind

BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("cost_micro_usd", 10**12))
TEN = "@pace deltas=10 interval_ms=0 size=2\nTell me something."


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS), agent("other")]) as running:
        yield running


def spending(whole):
    """Calls, tokens and micro-dollars that are spent; nothing may be held."""
    return tuple(whole.spent(unit) for unit in ("calls", "tokens", "cost_micro_usd"))


def bound(text):
    return prompt_tokens_bound(prompt(text).read().conversation)


def cost(input_tokens, output_tokens):
    return FLASH.price.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def failures(whole):
    return [record["failure"]["reason"] for record in whole.told("outcome") if record["state"] == "failed"]


async def heard_until(whole, reason, **options):
    """What is heard before the stream is refused for this reason."""
    heard = []
    refused = await refusal(hear(whole, heard, **options))
    assert refused.reason == reason
    return heard, refused


async def hear(whole, heard, **options):
    """Listen to a stream to its end; what comes before a bad end is heard too."""
    async with aclosing(whole.stream(**options)) as told:
        async for event in told:
            heard.append(event)


async def test_a_whole_answer_is_heard_charged_and_proven(whole):
    passage = whole.passage()
    async with aclosing(converse(whole.stations, passage, prompt(TEN, run="run-1"))) as told:
        *texts, spent, closed = [event async for event in told]
    assert all(isinstance(event, Text) for event in texts)
    assert len(texts) == 10
    assert isinstance(spent, Spent)
    assert isinstance(closed, Closed)
    assert closed.ending.finish is Finish.STOP
    assert closed.ending.model_version == "gemini-3.5-flash"
    usage = spent.usage
    assert (usage.output_tokens, spent.cost) == (20, cost(usage.input_tokens, 20))
    assert spending(whole) == (1, usage.input_tokens + 20, spent.cost)
    assert passage.reply_headers == {"gateway-operation": closed.operation.id}
    assert list(passage.stages.spent_ns()) == [
        "identity", "form", "policy", "intent", "admit", "stopped", "first_chunk", "settle",
    ]  # fmt: skip
    intent, outcome = whole.told()
    assert intent["operation"] == outcome["operation"] == closed.operation.id
    assert {claim["unit"]: claim["amount"] for claim in intent["claims"]} == {
        "calls": 1,
        "tokens": bound(TEN) + FLASH.max_output_tokens,
        "cost_micro_usd": cost(bound(TEN), FLASH.max_output_tokens),
    }
    await whole.agree()


async def test_neither_prompt_nor_answer_enters_a_record_or_the_log(whole):
    answer = "".join(event.text for event in await whole.converse("@echo\nthe secret plan") if isinstance(event, Text))
    assert answer == "the secret plan"
    assert "secret plan" not in json.dumps(whole.told())
    assert "secret plan" not in repr(whole.log.events)


async def test_usage_is_told_once_and_just_before_the_end(whole):
    events = await whole.converse(TEN)
    assert [type(event) for event in events].count(Spent) == 1
    assert isinstance(events[-2], Spent)


async def test_an_answer_that_reaches_its_bound_says_so(whole):
    *_, spent, closed = await whole.converse(TEN, generation=Generation(max_output_tokens=7))
    assert closed.ending.finish is Finish.MAX_TOKENS
    assert spent.usage.output_tokens == 7
    await whole.agree()


async def test_more_tokens_than_the_model_gives_are_refused_by_name(whole):
    _, refused = await heard_until(whole, "request.malformed", generation=Generation(max_output_tokens=2_049))
    assert [(one.field, one.description) for one in refused.violations] == [
        ("settings.max_output_tokens", "this model gives at most 2048")
    ]
    assert len(whole.told("refusal")) == 1
    assert await whole.converse(generation=Generation(max_output_tokens=2_048))


async def test_a_prompt_that_the_upstream_blocks_is_an_answer_without_words(whole):
    spent, closed = await whole.converse("@block reason=PROHIBITED_CONTENT\nbad")
    assert (closed.ending.finish, closed.ending.upstream_reason) == (Finish.PROMPT_BLOCKED, "PROHIBITED_CONTENT")
    assert spent.usage.output_tokens == 0
    await whole.agree()


@pytest.mark.parametrize("deltas", [0, 1, 4])
async def test_a_truncated_answer_is_an_error_and_what_came_of_it_is_charged(whole, deltas):
    whole.world.vertex_fails("truncate_after_n", n=deltas)
    heard, refused = await heard_until(whole, "upstream.truncated", text=TEN)
    assert refused.kind is Kind.UNAVAILABLE
    assert len(heard) == deltas
    (outcome,) = whole.told("outcome")
    assert outcome["failure"]["reason"] == "upstream.truncated"
    received = sum(len(event.text.encode()) for event in heard)
    charged = outcome["charges"]
    assert charged["calls"] == 1
    assert bound(TEN) <= charged["tokens"] <= bound(TEN) + received
    assert spending(whole) == (1, charged["tokens"], charged["cost_micro_usd"])
    await whole.agree()


@pytest.mark.parametrize(
    "code, reason, kind",
    [
        (400, "upstream.refused", Kind.MALFORMED),
        (403, "upstream.denied", Kind.UNAVAILABLE),
        (404, "upstream.model_missing", Kind.NOT_FOUND),
        (429, "upstream.quota", Kind.EXHAUSTED),
        (503, "upstream.unreachable", Kind.UNAVAILABLE),
    ],
)
async def test_an_upstream_that_refuses_costs_nothing_and_its_words_stay_here(whole, code, reason, kind):
    whole.world.vertex_fails("status", code=code, message="project 4711 of our secret customer", retry_after_s=3)
    _, refused = await heard_until(whole, reason)
    assert refused.kind is kind
    assert "4711" not in repr(refused)
    assert "4711" in repr(whole.log.named("upstream.failed"))
    assert "4711" not in json.dumps(whole.told())
    if code == 429:
        assert refused.retry_after_ms == 3_000
    assert (whole.held(), failures(whole)) == ({}, [reason])
    await whole.agree()


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("reset_after_n", "upstream.truncated"),
        ("malformed_sse", "upstream.malformed"),
        ("wrong_json", "upstream.malformed"),
        ("error_event_after_n", "upstream.unreachable"),
        ("gigantic_delta", "upstream.too_large"),
    ],
)
async def test_an_answer_that_breaks_in_its_middle_is_charged_and_settled(whole, kind, reason):
    whole.world.vertex_fails(kind, n=3)
    heard, _ = await heard_until(whole, reason, text=TEN)
    assert heard
    assert failures(whole) == [reason]
    calls, tokens, _ = spending(whole)
    assert (calls, tokens >= bound(TEN)) == (1, True)
    await whole.agree()


async def test_an_upstream_without_end_is_stopped_by_the_deadline_closed_settled_and_recorded(whole):
    whole.world.vertex_fails("endless", ms=1)
    heard = []

    def passed(_):
        return len(heard) >= 3 and whole.world.clock.pass_s(11) is None

    assert await cut_when(hear(whole, heard, text=TEN, timeout_s=10), passed)
    await whole.agree()
    assert failures(whole) == ["deadline.passed"]
    assert whole.spent("tokens") > 0
    assert whole.world.vertex.journal.streams_aborted == 1


async def test_leaving_early_closes_the_upstream_at_once(whole):
    whole.world.vertex_fails("stall_after_n", n=2)
    async with aclosing(whole.stream(TEN)) as told:
        await anext(told)
        await anext(told)
    assert failures(whole) == ["call.cut"]
    await whole.world.upstream_quiet()
    assert whole.world.vertex.journal.streams_aborted == 1
    await whole.agree()


async def test_the_upstream_is_closed_in_the_callers_own_task_before_the_outcome_is_settled(around, tmp_path):
    """A generator that is left to the garbage collector closes its upstream somewhere and some time."""
    order = []

    def watched(stations):
        async def stream(*_):
            try:
                for number in range(5):
                    yield Text(text=str(number))
            finally:
                await asyncio.sleep(0)
                order.append(("closed", asyncio.current_task()))

        async def settle(settlement):
            order.append(("settled", asyncio.current_task()))
            return await stations.ledger.settle(settlement)

        return instead("ledger", settle=settle)(instead("models", stream=stream)(stations))

    async with around.gateway(tmp_path, wrapped=watched) as whole:
        told = whole.stream()
        kept = await anext(told)
        await told.aclose()
        assert kept == Text(text="0")
        assert [what for what, _ in order] == ["closed", "settled"]
        assert order[0][1] is asyncio.current_task()


async def test_two_streams_at_once_do_not_mix(whole):
    async def said(number):
        text = f"{number} " * 40
        events = await whole.converse(f"@pace interval_ms=1\n@echo\n{text}", caller=("trader", "other")[number % 2])
        assert "".join(event.text for event in events if isinstance(event, Text)) == text
        return events[-1].operation

    operations = await asyncio.gather(*map(said, range(6)))
    assert len({operation.id for operation in operations}) == 6
    await whole.agree()


# Refused before anything is spent


@pytest.mark.parametrize(
    "asked, kind, reason",
    [
        ({"model": "pro"}, Kind.NOT_FOUND, "model.unknown"),
        ({"constraint": RegexConstraint(pattern="a+")}, Kind.UNSUPPORTED, "model.constraint_unsupported"),
        ({"generation": Generation(max_output_tokens=2**31 - 1)}, Kind.MALFORMED, "request.malformed"),
        ({"timeout_s": 0.04}, Kind.LATE, "deadline.bankrupt"),
    ],
)
async def test_a_refused_stream_leaves_a_record_and_never_reaches_the_upstream(whole, asked, kind, reason):
    _, refused = await heard_until(whole, reason, **asked)
    assert refused.kind is kind
    assert [record["refusal"]["reason"] for record in whole.told()] == [reason]
    assert (whole.operations(), whole.held(), whole.world.vertex.journal.requests) == ({}, {}, 0)


async def test_a_constraint_that_the_model_can_be_held_to_is_passed_on(whole):
    events = await whole.converse("yes or no?", constraint=ChoiceConstraint(texts=("yes", "no")))
    assert "".join(event.text for event in events if isinstance(event, Text)) in {"yes", "no"}


async def test_without_a_ledger_nothing_is_streamed(whole):
    await whole.ledger.close()
    with pytest.raises(LedgerUnavailableError):
        await whole.converse()
    assert whole.world.vertex.journal.requests == 0


async def test_on_a_full_disk_nothing_is_streamed(whole):
    await whole.fill_disk()
    with pytest.raises(LedgerUnavailableError):
        await whole.converse()
    assert whole.world.vertex.journal.requests == 0


# Upstreams and stations that fail


def speaking(*chunks, error=None):
    """For `wrapped`: an upstream that says just this."""

    async def stream(*_):
        for chunk in chunks:
            yield chunk
        if error is not None:
            raise error

    return instead("models", stream=stream)


async def test_an_upstream_that_makes_more_than_was_reserved_is_stopped_and_charged_in_full(around, tmp_path):
    over = Usage(input_tokens=5, output_tokens=FLASH.max_output_tokens + 1)
    wrapped = speaking(Text(text="so much"), over, Text(text="never heard"))
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=wrapped) as whole:
        text, spent, closed = await whole.converse()
        assert (text, spent.usage) == (Text(text="so much"), over)
        assert closed.ending.finish is Finish.BUDGET_SPENT
        assert whole.spent("tokens") == 5 + FLASH.max_output_tokens + 1
        await whole.agree()


async def test_an_upstream_that_only_stops_is_truncated(around, tmp_path):
    wrapped = speaking(Text(text="half a sen"))
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=wrapped) as whole:
        heard, _ = await heard_until(whole, Fault.TRUNCATED.value)
        assert heard == [Text(text="half a sen")]
        assert whole.spent("tokens") == bound("hello") + len("half a sen")
        await whole.agree()


async def test_a_stream_that_was_left_after_its_usage_was_told_pays_that_and_what_came_since(around, tmp_path):
    wrapped = speaking(
        Text(text="abc"), Usage(input_tokens=4, output_tokens=2), Text(text="defgh"), Ending(
            finish=Finish.STOP, upstream_reason="STOP", model_version=""
        )
    )  # fmt: skip
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=wrapped) as whole:
        async with aclosing(whole.stream()) as told:
            assert [await anext(told), await anext(told)] == [Text(text="abc"), Text(text="defgh")]
        assert whole.spent("tokens") == 4 + 2 + 5
        await whole.agree()


async def test_a_defect_while_reading_is_settled_charged_and_goes_up_whole(around, tmp_path):
    wrapped = speaking(Text(text="abc"), error=ZeroDivisionError("defect"))
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], wrapped=wrapped) as whole:
        with pytest.raises(ZeroDivisionError):
            await whole.converse()
        assert failures(whole) == ["gateway.fault"]
        assert whole.spent("tokens") == bound("hello") + 3
        await whole.agree()


async def test_an_answer_whose_outcome_cannot_be_recorded_does_not_end_well(around, tmp_path):
    wrapped = instead("ledger", settle=raises(LedgerUnavailableError("disk")))
    async with around.gateway(tmp_path, wrapped=wrapped) as whole:
        heard, refused = await heard_until(whole, "ledger.outcome_unrecorded", text=TEN)
        assert all(isinstance(event, Text) for event in heard)
        assert refused.operation_id in whole.operations()


async def test_an_operation_of_a_stream_is_never_a_replay(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        first = (await whole.converse())[-1].operation
        second = (await whole.converse())[-1].operation
        assert first.id != second.id

        async def admit(_):
            return Replay(operation=first)

        whole.stations = instead("ledger", admit=admit)(whole.stations)
        with pytest.raises(TypeError):
            await whole.converse()
        assert around.vertex.journal.streams_total == 2


async def test_the_count_of_a_prompt_is_a_governed_call(whole):
    assert (await whole.count("hello world")).tokens > 0
    intent, outcome = whole.told()
    assert (intent["ask"], outcome["state"], outcome["result"][:16]) == (
        "count:flash",
        "succeeded",
        '{"input_tokens":',
    )
    assert spending(whole) == (1, 0, 0)
    assert (await refusal(whole.count(model="pro"))).reason == "model.unknown"
    assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["model.unknown"]
    await whole.agree()


async def test_a_count_that_fails_gives_its_call_back(whole):
    whole.world.vertex_fails("status", code=503)
    refused = await refusal(whole.count())
    assert refused.reason == "upstream.unreachable"
    assert (whole.held(), failures(whole)) == ({}, ["upstream.unreachable"])
    await whole.agree()


async def test_a_count_with_too_little_time_asks_nobody(whole):
    assert (await refusal(whole.count(timeout_s=0.01))).reason == "deadline.bankrupt"
    assert whole.world.vertex.journal.requests == 0


async def test_a_count_of_a_defect_is_settled(around, tmp_path):
    wrapped = instead("models", count=raises(ZeroDivisionError("defect")))
    async with around.gateway(tmp_path, wrapped=wrapped) as whole:
        with pytest.raises(ZeroDivisionError):
            await whole.count()
        assert failures(whole) == ["call.cut"]
        await whole.agree()
