"""Anthropic's and OpenAI's clients as judges of the doubles: whole answers, and refusals in their own classes."""

import sys
from pathlib import Path

import anthropic
import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import LLAMA, ask, compatible_at, heard, upstream

from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import Fault, VertexConfig, VertexDouble
from localcloud.vertex.faults import Params

HI = [{"role": "user", "content": "hi"}]
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
async def google():
    async with VertexDouble(VertexConfig(allow_any_token=True)) as double:
        yield double


@pytest.fixture
async def claude(google):
    async with anthropic.AsyncAnthropicVertex(
        region="us-central1", project_id="p", access_token="t", base_url=f"{google.url}/v1", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def server():
    async with CompatibleDouble(CompatibleConfig(keys=frozenset({"sk-1"}))) as double:
        yield double


@pytest.fixture
async def client(server):
    async with openai.AsyncOpenAI(api_key="sk-1", base_url=server.url, max_retries=0) as made:
        yield made


async def test_a_whole_message_is_what_the_stream_gives(claude):
    asked = {"model": "claude-sonnet-5", "max_tokens": 2_000, "messages": HI}
    whole = await claude.messages.create(**asked)
    async with claude.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    assert [block.text for block in whole.content] == [block.text for block in streamed.content]
    assert (whole.stop_reason, whole.usage.output_tokens) == (streamed.stop_reason, streamed.usage.output_tokens)


@pytest.mark.parametrize(
    "asked, told",
    [
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "first message must use the user role"),
        ({"messages": [*HI, {"role": "assistant", "content": [USE]}, *HI]}, "without `tool_result` blocks"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1_000}}, "budget_tokens"),
        ({"thinking": {"type": "adaptive"}, "extra_body": {"temperature": 0.5}}, "temperature may only be set to 1"),
        ({"tool_choice": {"type": "any"}}, "needs tools"),
        ({"extra_body": {"seed": 3}}, "unknown field `seed`"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "text"),
        (
            {
                "messages": [
                    *HI,
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "eA=="}]},
                    *HI,
                ]
            },
            "Invalid `signature`",
        ),
    ],
)
async def test_what_claude_refuses(claude, asked, told):
    with pytest.raises(anthropic.BadRequestError, match=told) as caught:
        await claude.messages.create(**({"model": "claude-sonnet-5", "max_tokens": 2_000, "messages": HI} | asked))
    assert caught.value.body["error"]["type"] == "invalid_request_error"


async def test_refusals_by_their_classes(google, claude, server, client):
    for code, theirs in ((429, "RateLimitError"), (403, "PermissionDeniedError"), (503, "InternalServerError")):
        for double in (google, server):
            double.faults.add([Fault(kind="status", params=Params(code=code, retry_after_s=2))])
        with pytest.raises(getattr(anthropic, theirs)) as caught:
            await claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=HI)
        # Google's front end speaks for itself, in its own form; what Anthropic's server says has a header.
        assert caught.value.response.headers.get("retry-after") == (None if code == 403 else "2")
        with pytest.raises(getattr(openai, theirs)):
            await client.chat.completions.create(model="llama-4-maverick", messages=HI)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(model="claude-1", max_tokens=9, messages=HI)
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="llama-1", messages=HI)


async def test_a_whole_completion_is_what_the_stream_gives(client):
    asked = {"model": "llama-4-maverick", "messages": HI}
    assert [model.id async for model in client.models.list()] == ["llama-4-maverick", "gpt-oss-120b"]
    whole = await client.chat.completions.create(**asked)
    async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        streamed = await stream.get_final_completion()
    assert whole.choices[0].message.content == streamed.choices[0].message.content
    assert whole.usage == streamed.usage


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": []},
        {"messages": [*HI, {"role": "assistant", "tool_calls": [CALL]}, *HI]},
        {"messages": [*HI, {"role": "tool", "tool_call_id": "c1", "content": "{}"}]},
        {"temperature": 3},
        {"tool_choice": "required"},
        {"extra_body": {"safe": True}},
        {"n": 2},
    ],
)
async def test_what_a_compatible_server_refuses(client, asked):
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(**({"model": "llama-4-maverick", "messages": HI} | asked))


async def test_the_key_goes_to_its_own_origin_alone(server):
    """A redirect is no answer: who follows it would carry the key to wherever it points."""

    async def play(exchange):
        await exchange.answer(307, b"", Location=server.url + "/chat/completions")

    async with upstream(play) as elsewhere, compatible_at(elsewhere.url, key="sk-1") as adapter:
        with pytest.raises(UpstreamError) as caught:
            await heard(adapter, ask("hi"), of=LLAMA)
    assert caught.value.fault is Broken.MALFORMED
    assert server.journal.requests == 0
    assert elsewhere.exchanges[0].token == "sk-1"
