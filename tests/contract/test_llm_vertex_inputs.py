"""What Gemini is given beside text, against the Vertex AI double: files, guards, cached beginnings, and thinking."""

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import MODEL, STOP, ask, conversation, ending, heard, upstream, usage, user, vertex_at

from gateway.terms.conversation import Finish, Generation, Text, Thinking, prompt_tokens_bound
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from gateway.terms.inputs import CachedContent, FileData, Guard, Harm, InlineData, Inputs
from gateway.terms.models import ThinkingForm
from localcloud.vertex import VertexConfig, VertexDouble

PNG = InlineData(mime_type="image/png", data=b"\x89PNG\r\n\x1a\n" + bytes(8))
PDF = FileData(mime_type="application/pdf", uri="gs://acme-inputs/report.pdf")
INPUTS = Inputs(
    media={"image/png": 1_120, "application/pdf": 560_000, "text/plain": 10},
    file_prefixes=("gs://acme-inputs/",),
    cached={"handbook": CachedContent(upstream_id="123", tokens_max=5_000)},
    guards={Harm.HARASSMENT: Guard.BLOCK_ONLY_HIGH},
)
SEEING = replace(MODEL, inputs=INPUTS)
KEPT = "projects/p/locations/us-central1/cachedContents/123"


@pytest.fixture
async def double():
    async with VertexDouble(VertexConfig(allow_any_token=True, cached_contents={KEPT: 4_321})) as server:
        yield server


@pytest.fixture
async def vertex(double):
    async with vertex_at(double.url) as adapter:
        yield adapter


async def sent(asked, of=SEEING):
    """The body that an upstream gets."""

    async def play(exchange):
        await exchange.start()
        await exchange.say(STOP)
        await exchange.end()

    async with upstream(play) as server, vertex_at(server.url) as adapter:
        await heard(adapter, asked, of=of)
    return json.loads(server.exchanges[0].body)


async def test_files_inline_and_by_reference_are_seen_and_within_their_bound(vertex):
    asked = conversation(user(Text(text="what is it?"), PNG, PDF))
    assert vertex.check(SEEING, asked) is None
    chunks = await heard(vertex, ask(asked), of=SEEING)
    assert ending(chunks).finish is Finish.STOP
    assert usage(chunks).input_tokens <= prompt_tokens_bound(asked, INPUTS)
    body = await sent(ask(asked))
    assert body["contents"][0]["parts"][1:] == [
        {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG.data).decode()}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://acme-inputs/report.pdf"}},
    ]


async def test_the_operators_guards_are_set_and_the_callers_stricter_ones_instead(vertex):
    asked = conversation("hi", guards={Harm.HARASSMENT: Guard.BLOCK_LOW_AND_ABOVE, Harm.HATE_SPEECH: Guard.OFF})
    assert vertex.check(SEEING, asked) is None
    assert ending(await heard(vertex, ask(asked), of=SEEING)).finish is Finish.STOP
    assert (await sent(ask("hi")))["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
    ]
    assert (await sent(ask(asked)))["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_LOW_AND_ABOVE"},
        {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"},
    ]
    assert "safetySettings" not in await sent(ask("hi"), of=MODEL)


async def test_a_cached_beginning_of_the_configured_project(vertex):
    asked = conversation("hi", cached_content="handbook")
    assert vertex.check(SEEING, asked) is None
    told = usage(await heard(vertex, ask(asked), of=SEEING))
    assert told.cached_tokens == 4_321 < told.input_tokens <= prompt_tokens_bound(asked, INPUTS)


async def test_a_cached_beginning_that_has_ended(double, vertex):
    gone = Inputs(cached={"handbook": CachedContent(upstream_id="124", tokens_max=5_000)})
    with pytest.raises(UpstreamError) as caught:
        await heard(vertex, ask("hi", cached_content="handbook"), of=replace(MODEL, inputs=gone))
    assert caught.value.fault is Broken.CACHE_MISSING


@pytest.mark.parametrize(
    "code, message, cached, fault",
    [
        (400, "Cache content 123 is expired.", "handbook", Broken.CACHE_MISSING),
        (400, "Cached content 123 has expired.", "handbook", Broken.CACHE_MISSING),
        (400, "Cache content 123 is expired.", "", Broken.REFUSED),
        (400, "Invalid value at 'contents[0]'.", "handbook", Broken.REFUSED),
        (404, "Publisher Model was not found.", "", Broken.MISSING),
        (403, "Cache content 123 is expired.", "handbook", Broken.DENIED),
    ],
)
async def test_an_expired_cached_beginning_is_told_as_one(code, message, cached, fault):
    async def play(exchange):
        await exchange.answer(code, {"error": {"code": code, "message": message, "status": "X"}})

    async with upstream(play) as server, vertex_at(server.url) as adapter:
        with pytest.raises(UpstreamError) as caught:
            await heard(adapter, ask("hi", cached_content=cached), of=SEEING)
    assert caught.value.fault is fault
    assert message in caught.value.detail


@pytest.mark.parametrize("word", ["MODEL_ARMOR", "JAILBREAK", "IMAGE_SAFETY", "SAFETY", "OTHER"])
async def test_a_refused_prompt_is_an_end_with_googles_word(vertex, word):
    end = ending(await heard(vertex, ask(f"@block reason={word}\nhi")))
    assert (end.finish, end.upstream_reason) == (Finish.PROMPT_BLOCKED, word)


@pytest.mark.parametrize(
    "word, finish",
    [
        ("MODEL_ARMOR", Finish.SAFETY),
        ("SPII", Finish.SAFETY),
        ("IMAGE_SAFETY", Finish.SAFETY),
        ("LANGUAGE", Finish.OTHER),
        ("TOO_MANY_TOOL_CALLS", Finish.MALFORMED_TOOL_CALL),
        ("SOME_NEW_REASON", Finish.OTHER),
    ],
)
async def test_a_reason_of_an_end(vertex, word, finish):
    end = ending(await heard(vertex, ask(f"@finish reason={word}\nhi")))
    assert (end.finish, end.upstream_reason) == (finish, word)


async def test_a_generation_that_takes_tokens_thinks_by_budget():
    older = replace(MODEL, upstream_id="gemini-2.5-flash", thinking=ThinkingForm.BUDGET)
    models = ("gemini-2.5-flash",)
    async with (
        VertexDouble(VertexConfig(allow_any_token=True, models=models)) as double,
        vertex_at(double.url) as vertex,
    ):
        asked = ask("hi", generation=Generation(thinking=Thinking.MEDIUM))
        assert usage(await heard(vertex, asked, of=older)).thinking_tokens > 0
        with pytest.raises(UpstreamError) as caught:
            await heard(vertex, asked, of=replace(older, thinking=ThinkingForm.LEVEL))
    assert caught.value.fault is Broken.REFUSED
    assert "set the thinking budget" in caught.value.detail


async def test_text_in_a_file_is_bounded_by_its_bytes():
    long = InlineData(mime_type="text/plain", data=b"word " * 400)
    empty = prompt_tokens_bound(conversation(user(Text(text="x"))), INPUTS)
    assert prompt_tokens_bound(conversation(user(Text(text="x"), long)), INPUTS) >= empty + 2_000
