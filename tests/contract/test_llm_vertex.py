"""The Vertex adapter against the Vertex AI double: what is streamed, how it ends, and what the double saw of it."""

import asyncio
import json
import sys
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    MODEL,
    NAME,
    GivenTokens,
    ask,
    calls,
    count_ask,
    ending,
    heard,
    model,
    text,
    thinking,
    thoughts,
    until,
    usage,
    user,
    vertex_at,
)

from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Ending,
    Finish,
    Function,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Text,
    Thinking,
    Thought,
    Usage,
)
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from localcloud.vertex import Fault, Pace, Principal, VertexConfig, VertexDouble
from localcloud.vertex.bearer import CLOUD_PLATFORM
from localcloud.vertex.faults import Params

ORDER = Function(
    name="place_order",
    description="Place an order.",
    parameters_json_schema=json.dumps(
        {
            "type": "object",
            "properties": {
                "symbol": {"type": "string"},
                "side": {"type": "string", "enum": ["buy", "sell"]},
                "qty": {"type": "string"},
            },
            "required": ["symbol", "side", "qty"],
        }
    ),
)
QUOTE = Function(
    name="get_quote",
    description="Read a quote.",
    parameters_json_schema='{"type":"object","properties":{"symbol":{"type":"string"}},"required":["symbol"]}',
)


@asynccontextmanager
async def both(*, credentials=None, double=None, **config):
    async with (
        VertexDouble(double or VertexConfig(allow_any_token=True)) as upstream,
        vertex_at(upstream.url, credentials=credentials, **config) as vertex,
    ):
        yield upstream, vertex


@pytest.fixture
async def double():
    async with VertexDouble(VertexConfig(allow_any_token=True)) as upstream:
        yield upstream


@pytest.fixture
async def vertex(double):
    async with vertex_at(double.url, idle_s=0.3, tail_s=0.1) as adapter:
        yield adapter


def fault(double, kind, count=1, **params):
    double.faults.add([Fault(kind=kind, count=count, params=Params(**params))])


async def refused(vertex, asked=None, chunks=None):
    with pytest.raises(UpstreamError) as caught:
        await heard(vertex, asked or ask("@pace deltas=4\nhi"), chunks)
    return caught.value


# What is streamed.


async def test_an_answer_ends_with_usage_and_one_ending(vertex, double):
    chunks = await heard(vertex, ask("@echo\nGrüße, π ☃ 🙂"))
    assert text(chunks) == "Grüße, π ☃ 🙂"
    assert ending(chunks) == Ending(finish=Finish.STOP, upstream_reason="STOP", model_version=NAME)
    assert usage(chunks).output_tokens > 0
    assert isinstance(chunks[-2], Usage)
    assert double.journal.entries[-1].ending == "complete"


async def test_deltas_come_as_they_are_made(vertex):
    async with aclosing(vertex.stream(MODEL, ask("@pace deltas=8 interval_ms=15\nhi"), "c")) as stream:
        times = [time.monotonic() async for chunk in stream if isinstance(chunk, Text)]
    assert len(times) == 8
    assert times[-1] - times[0] > 0.09
    assert times[4] - times[0] > 0.03


async def test_thoughts_come_before_text_and_count_as_output(vertex):
    chunks = await heard(vertex, ask("hi", generation=thinking(thinking=Thinking.LOW)))
    places = [type(chunk) for chunk in chunks if isinstance(chunk, Text | Thought)]
    assert places == sorted(places, key=[Thought, Text].index)
    assert thoughts(chunks)
    told = usage(chunks)
    assert 0 < told.thinking_tokens < told.output_tokens
    assert chunks[-3].signature  # a text that was thought about is signed at its end


async def test_thinking_that_is_not_shown_counts_too(vertex):
    shown = await heard(vertex, ask("hi", generation=thinking(thinking=Thinking.HIGH)))
    hidden = await heard(vertex, ask("hi", generation=Generation(thinking=Thinking.HIGH)))
    assert thoughts(hidden) == ""
    assert usage(hidden).thinking_tokens == usage(shown).thinking_tokens > 0


async def test_cached_tokens_are_part_of_the_input():
    async with both(double=VertexConfig(allow_any_token=True, cache_from=10)) as (_, vertex):
        asked = ask("one two three four five six seven eight nine ten eleven twelve", system="be brief")
        first, second = usage(await heard(vertex, asked)), usage(await heard(vertex, asked))
    assert first.cached_tokens == 0
    assert 0 < second.cached_tokens <= second.input_tokens == first.input_tokens


async def test_the_limit_of_output_reaches_the_upstream(vertex):
    chunks = await heard(vertex, ask("@pace deltas=50 size=5\nhi", max_output_tokens=20))
    assert ending(chunks).finish is Finish.MAX_TOKENS
    assert usage(chunks).output_tokens == 20


async def test_settings_reach_the_upstream(vertex):
    settings = Generation(
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        seed=4,
        stop_sequences=("beta",),
        presence_penalty=0.1,
        frequency_penalty=0.2,
    )
    chunks = await heard(vertex, ask("@echo\nalpha beta gamma", generation=settings))
    assert text(chunks) == "alpha "
    drawn = [text(await heard(vertex, ask("hi", generation=Generation(seed=seed)))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "line, finish",
    [
        ("@finish reason=SAFETY after=3", Finish.SAFETY),
        ("@finish reason=RECITATION", Finish.RECITATION),
        ("@finish reason=SPII after=1", Finish.SAFETY),
        ("@finish reason=LANGUAGE", Finish.OTHER),
        ("@block reason=PROHIBITED_CONTENT", Finish.PROMPT_BLOCKED),
    ],
)
async def test_endings(vertex, line, finish):
    chunks = await heard(vertex, ask(f"{line}\nhi"))
    told = ending(chunks)
    assert told.finish is finish
    assert told.upstream_reason == line.split("reason=")[1].split()[0]
    assert usage(chunks).input_tokens > 0


async def test_a_count_is_what_the_answer_takes(vertex):
    turns = {"system": "be brief", "functions": (QUOTE,)}
    counted = await vertex.count(MODEL, count_ask("what is it all about?", **turns))
    assert counted == usage(await heard(vertex, ask("what is it all about?", **turns))).input_tokens > 0


# Function calls.


async def test_function_calls_in_parallel_and_their_results(vertex):
    question = user("buy 5 AAPL and buy 2 MSFT")
    chunks = await heard(vertex, ask(question, functions=(ORDER,)))
    asked = calls(chunks)
    assert [call.id for call in asked] == ["call-x-1", "call-x-2"]
    assert [json.loads(call.arguments_json)["symbol"] for call in asked] == ["AAPL", "MSFT"]
    assert ending(chunks).finish is Finish.TOOL_CALLS
    results = [
        FunctionResult(call_id=call.id, name=call.name, result_json=json.dumps({"filled": call.arguments_json}))
        for call in asked
    ]
    # The caller's order of results does not matter: they belong to their calls by id.
    told = [
        text(await heard(vertex, ask(question, model(*asked), user(*given), functions=(ORDER,))))
        for given in (results, results[::-1])
    ]
    assert told[0] == told[1] != ""


async def test_a_signature_goes_back_as_it_came(vertex):
    question = user("buy 5 AAPL")
    (call,) = calls(await heard(vertex, ask(question, functions=(ORDER,))))
    assert call.signature
    result = user(FunctionResult(call_id=call.id, name=call.name, result_json='{"status":"filled"}'))
    told = text(await heard(vertex, ask(question, model(call), result, functions=(ORDER,))))
    assert "filled" in told
    invented = replace(call, signature=b"invented")
    error = await refused(vertex, ask(question, model(invented), result, functions=(ORDER,)))
    assert error.fault is Broken.REFUSED
    unsigned = replace(call, signature=b"")
    assert "filled" in text(await heard(vertex, ask(question, model(unsigned), result, functions=(ORDER,))))


async def test_choosing_functions(vertex):
    any_of = {"functions": (ORDER, QUOTE), "choosing": Choosing.ANY, "allowed_functions": ("get_quote",)}
    assert [call.name for call in calls(await heard(vertex, ask("hello", **any_of)))] == ["get_quote"]
    none = ask("buy 5 AAPL", functions=(ORDER,), choosing=Choosing.NONE)
    assert calls(await heard(vertex, none)) == []


async def test_a_malformed_call_is_an_ending_and_no_call(vertex):
    chunks = await heard(vertex, ask('call place_order {"symbol": "AAPL"', functions=(ORDER,)))
    assert calls(chunks) == []
    assert ending(chunks).finish is Finish.MALFORMED_TOOL_CALL


# Constraints.


async def test_a_schema_is_enforced_by_the_upstream(vertex):
    schema = {
        "type": "object",
        "properties": {"side": {"enum": ["buy", "sell"]}, "qty": {"type": "integer", "minimum": 3}},
        "required": ["side", "qty"],
        "additionalProperties": False,
    }
    chunks = await heard(vertex, ask("hi", constraint=JsonSchemaConstraint(schema_json=json.dumps(schema))))
    said = json.loads(text(chunks))
    assert set(said) == {"side", "qty"}
    assert said["side"] in ("buy", "sell")
    assert said["qty"] >= 3


async def test_a_choice_is_enforced_by_the_upstream(vertex):
    texts = ("hold, for now", "sell")
    assert text(await heard(vertex, ask("hi", constraint=ChoiceConstraint(texts=texts)))) in texts


# Leaving.


async def test_leaving_is_noticed_at_once(double, vertex):
    stream = vertex.stream(MODEL, ask("@pace deltas=1000 interval_ms=5\nhi"), "c")
    assert isinstance(await anext(stream), Text)
    left_us = time.time_ns() // 1000
    await stream.aclose()
    entry = double.journal.entries[-1]
    await until(lambda: entry.client_left)
    assert entry.left_us - left_us < 50_000
    assert double.journal.streams()["open"] == 0


async def test_leaving_before_the_first_byte(double, vertex):
    fault(double, "slow_first_byte", ms=200)
    waiting = asyncio.ensure_future(heard(vertex, ask("hi")))
    await until(lambda: double.journal.requests == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: double.journal.entries[-1].client_left)


async def test_a_hundred_leave_and_nothing_stays_open():
    async with both() as (double, vertex):
        fault(double, "endless", count=None, ms=20)
        streams = [vertex.stream(MODEL, ask("hi"), "c") for _ in range(100)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        assert double.journal.streams()["open"] == 100
        left_us = time.time_ns() // 1000
        await asyncio.gather(*(stream.aclose() for stream in streams))
        await until(lambda: double.journal.streams()["open"] == 0)
        assert double.journal.streams()["aborted"] == 100
        noticed = sorted(entry.left_us - left_us for entry in double.journal.entries)
        assert noticed[-1] < 200_000


async def test_a_slow_consumer_stops_the_upstream_and_can_still_leave():
    """20 kB every millisecond would be 20 MB a second if nobody held it back."""
    pace = Pace(deltas=3, size=4000, interval_ms=1)
    async with both(double=VertexConfig(allow_any_token=True, pace=pace)) as (double, vertex):
        fault(double, "endless")
        asked = ask("hi", max_output_tokens=65_000)
        stream = vertex.stream(MODEL, asked, "c")
        size = len((await anext(stream)).text)
        entry = double.journal.entries[-1]
        held = -1
        async with asyncio.timeout(5):
            while entry.chunks_sent != held:
                held = entry.chunks_sent
                await asyncio.sleep(0.05)
        # What is held is in the buffers of the two sockets; the adapter itself reads 32 kB ahead.
        assert held * size < 16_000_000
        while entry.chunks_sent == held:
            await anext(stream)  # reading on opens the way again
        left_us = time.time_ns() // 1000
        await stream.aclose()
        await until(lambda: entry.client_left)
        assert entry.left_us - left_us < 50_000


async def test_a_whole_stream_leaves_its_connection_for_the_next():
    async with both() as (double, vertex):
        connections = await connected(double, vertex, 5)
    assert connections == 1


async def connected(double, vertex, times):
    """How many connections so many calls take; the double's own server knows its peers."""
    for _ in range(times):
        ending(await heard(vertex, ask("@pace deltas=3\nhi")))
        await vertex.count(MODEL, count_ask("hi"))
    assert double.journal.requests == 2 * times
    session = vertex._post._session
    return sum(len(kept) for kept in session.connector._conns.values())


# Broken upstreams; what all wires have in common is in test_llm_faults.py.


async def test_a_stalled_stream(double, vertex):
    fault(double, "stall_after_n", n=2)
    started = time.monotonic()
    chunks = []
    error = await refused(vertex, chunks=chunks)
    assert error.fault is Broken.STALLED
    assert len(chunks) == 2
    assert 0.25 < time.monotonic() - started < 1
    await until(lambda: double.journal.streams()["open"] == 0)


async def test_a_stall_after_the_end_does_not_matter(double, vertex):
    fault(double, "stall_after_n", n=4)
    chunks = await heard(vertex, ask("@pace deltas=4\nhi"))
    assert ending(chunks).finish is Finish.STOP
    await until(lambda: double.journal.streams()["open"] == 0)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ["malformed_sse", "wrong_json"])
async def test_events_that_cannot_be_read(double, vertex, kind, n):
    fault(double, kind, n=n)
    chunks = []
    error = await refused(vertex, chunks=chunks)
    assert error.fault is Broken.MALFORMED
    assert len(chunks) == n - 1


@pytest.mark.parametrize(
    "code, broken",
    [(503, Broken.UNREACHABLE), (429, Broken.QUOTA), (400, Broken.REFUSED), (500, Broken.UNREACHABLE)],
)
async def test_an_error_in_the_middle(double, vertex, code, broken):
    fault(double, "error_event_after_n", n=2, code=code, retry_after_s=2)
    chunks = []
    error = await refused(vertex, chunks=chunks)
    assert (error.fault, error.retry_after_ms) == (broken, 2000)
    assert len(chunks) == 2


@pytest.mark.parametrize(
    "code, delay, broken, retry_ms",
    [
        (400, None, Broken.REFUSED, None),
        (401, None, Broken.DENIED, None),
        (403, None, Broken.DENIED, None),
        (404, None, Broken.MISSING, None),
        (429, None, Broken.QUOTA, None),
        (429, 7, Broken.QUOTA, 7000),
        (429, 0.25, Broken.QUOTA, 250),
        (500, None, Broken.UNREACHABLE, None),
        (503, 1.5, Broken.UNREACHABLE, 1500),
        (504, None, Broken.UNREACHABLE, None),
    ],
)
async def test_errors_instead_of_an_answer(double, vertex, code, delay, broken, retry_ms):
    fault(double, "status", count=None, code=code, retry_after_s=delay)
    for calling in (heard(vertex, ask("hi")), vertex.count(MODEL, count_ask("hi"))):
        with pytest.raises(UpstreamError) as caught:
            await calling
        assert (caught.value.fault, caught.value.retry_after_ms) == (broken, retry_ms)


async def test_a_model_that_is_gone():
    async with both(double=VertexConfig(allow_any_token=True, models=("gemini-9",))) as (_, vertex):
        assert (await refused(vertex)).fault is Broken.MISSING


async def test_a_refused_request_says_why_in_the_detail(vertex):
    error = await refused(vertex, ask("@pace deltas=no\nhi"))
    assert error.fault is Broken.REFUSED
    assert "deltas must be an integer" in error.detail


# Credentials.


async def test_a_revoked_token_is_replaced_once():
    async def check(token):
        return None if token == "revoked" else Principal(email="sa@p", scope=CLOUD_PLATFORM, expires=4e9)

    tokens = GivenTokens("revoked", "young")
    async with both(credentials=tokens, double=VertexConfig(token_check=check)) as (double, vertex):
        assert ending(await heard(vertex, ask("hi"))).finish is Finish.STOP
        assert tokens.refusals == ["revoked"]
        assert await vertex.count(MODEL, count_ask("hi")) > 0
        assert [entry.status for entry in double.journal.entries] == [401, 200, 200]


async def test_a_second_refusal_is_final():
    async def nobody(token):
        return None

    for tokens, requests in ((GivenTokens("a", "b", "c"), 2), (GivenTokens("a"), 1)):
        async with both(credentials=tokens, double=VertexConfig(token_check=nobody)) as (double, vertex):
            assert (await refused(vertex)).fault is Broken.DENIED
            assert double.journal.requests == requests


async def test_a_conversation_may_be_long():
    """A body of megabytes is sent whole, and the HTTP library has nothing to warn of."""
    async with both() as (double, vertex):
        asked = ask("@echo\nok", system="x" * 2_000_000)
        assert ending(await heard(vertex, asked)).finish is Finish.STOP
        assert double.journal.entries[-1].body_bytes > 2_000_000
