"""What an OpenAI-compatible server may say, quirks included, and what is no completion."""

import json

import pytest
from made_streams import ask, thinking
from msgspec.structs import replace

from gateway.llm.compatible_error import read_compatible_error
from gateway.llm.compatible_reply import Answer, read_count
from gateway.terms.conversation import Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError

DONE = b"[DONE]"


def chunk(finish=None, index=0, **delta):
    return {"model": "m-1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def piece(index, arguments="", **more):
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return chunk(tool_calls=[({} if index is None else {"index": index}) | {"function": function} | more])


def used(prompt, completion, **more):
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion} | more}


def said(*events, asked=None):
    answer = Answer("call", asked or ask("hi", generation=thinking(), max_output_tokens=1_000))
    chunks = []
    for event in events:
        chunks += answer.chunks(event if isinstance(event, bytes) else json.dumps(event).encode())
    return [*chunks, answer.end()] if answer.ended else chunks


def fault(*events, asked=None):
    with pytest.raises(UpstreamError) as caught:
        said(*events, asked=asked)
    return caught.value.fault


def test_a_completion():
    assert said(chunk(role="assistant", content=""), chunk(content="hi"), chunk("stop"), used(3, 2), DONE) == [
        Text(text="hi"),
        Usage(input_tokens=3, output_tokens=2),
        Ending(finish=Finish.STOP, upstream_reason="stop", model_version="m-1"),
    ]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_under_both_names(name):
    assert said(chunk(**{name: "hm"}), chunk(content="hi"), chunk("stop"))[0] == Thought(text="hm")


def test_thoughts_that_nobody_asked_to_hear_are_counted_until_the_server_counts():
    quiet = ask("hi", max_output_tokens=8)
    chunks = said(chunk(reasoning="12345"), chunk(reasoning="6789"), chunk(content="hi"), chunk("stop"), asked=quiet)
    assert chunks[:3] == [
        Usage(input_tokens=100_000, output_tokens=5, estimated=True),
        Usage(input_tokens=100_000, output_tokens=8, estimated=True),
        Text(text="hi"),
    ]
    chunks = said(used(3, 1), chunk(reasoning="x"), chunk("stop"), used(3, 2), asked=quiet)
    assert [one for one in chunks if isinstance(one, Usage)] == [
        Usage(input_tokens=3, output_tokens=1),
        Usage(input_tokens=3, output_tokens=2),
    ]


def test_what_is_told_of_the_prompt_first_stands_with_thoughts_that_nobody_hears():
    quiet = ask("hi", max_output_tokens=8)
    told = Usage(input_tokens=3, cached_tokens=2, estimated=True)
    first = used(3, 0, prompt_tokens_details={"cached_tokens": 2})
    chunks = said(first, chunk(reasoning="12345"), chunk(content="hi"), asked=quiet)
    assert chunks == [replace(told, output_tokens=5), Text(text="hi")]
    chunks = said(chunk(reasoning="12345") | {"usage": first["usage"]}, asked=quiet)
    assert chunks == [replace(told, output_tokens=5)]
    chunks = said(chunk(content="hi"), first, chunk(content="ho"), chunk("stop"), used(3, 2), asked=quiet)
    assert chunks[:4] == [
        Text(text="hi"),
        replace(told, output_tokens=2),
        Text(text="ho"),
        Usage(input_tokens=3, output_tokens=2),
    ]


def calls(*events):
    return [one for one in said(*events) if isinstance(one, FunctionCall)]


def test_pieces_of_calls_that_take_turns():
    whole = calls(
        piece(0, id="a", name="f"), piece(1, id="b", name="g"), piece(1, "{}"), piece(0, '{"x"'), piece(0, ":1}"),
        chunk("tool_calls"),
    )  # fmt: skip
    assert whole == [
        FunctionCall(id="call-1", name="f", arguments_json='{"x":1}'),
        FunctionCall(id="call-2", name="g", arguments_json="{}"),
    ]


@pytest.mark.parametrize("index", [0, None])
def test_calls_that_share_an_index_are_told_apart_by_their_ids(index):
    """Ollama of old, and Gemini behind this wire."""
    whole = calls(piece(index, '{"x":1}', id="a", name="f"), piece(index, '{"x":2}', id="b", name="f"), chunk("stop"))
    assert [call.arguments_json for call in whole] == ['{"x":1}', '{"x":2}']


def test_a_call_without_arguments_and_a_stop_that_is_a_call():
    chunks = said(piece(0, id="a", name="f"), chunk("stop"))
    assert chunks[0].arguments_json == "{}"
    assert chunks[-1].finish is Finish.TOOL_CALLS


def test_thinking_that_only_the_total_counts():
    *_, told, _ = said(chunk("stop"), used(10, 5, total_tokens=40, completion_tokens_details={"reasoning_tokens": 25}))
    assert told == Usage(input_tokens=10, output_tokens=30, thinking_tokens=25)


@pytest.mark.parametrize(
    "word, finish",
    [("length", Finish.MAX_TOKENS), ("content_filter", Finish.SAFETY), ("function_call", Finish.OTHER)],
)
def test_a_reason(word, finish):
    assert said(chunk(content="x"), chunk(word))[-1].finish is finish


def test_a_refusal_of_the_model_is_heard_and_named():
    chunks = said(chunk(refusal="I will not."), chunk("stop"))
    assert chunks[0] == Text(text="I will not.")
    assert chunks[-1].finish is Finish.SAFETY


@pytest.mark.parametrize(
    "events",
    [
        [DONE],
        [chunk(content="x"), DONE],
        [chunk("stop"), DONE, DONE],
        [chunk("stop"), DONE, chunk(content="x")],
        [chunk("stop"), chunk("stop")],
        [chunk("stop"), chunk(content="x")],
        [chunk(index=1, content="x")],
        [chunk(function_call={"name": "f"})],
        [chunk("tool_calls")],
        [piece(0, id="a", name="f"), piece(0, name="g")],
        [piece(1, id="a", name="f"), piece(1, id="b", name="f")],
        [piece(-1, id="a", name="f")],
        [piece(128, id="a", name="f")],
        [piece(0, "{", id="a", name="f"), chunk("tool_calls")],
        [piece(0, '{"a":1,"a":2}', id="a", name="f"), chunk("tool_calls")],
        [piece(0, "{}", id="a"), chunk("tool_calls")],
        [{"choices": "none"}],
        [{"usage": []}],
        [{"hello": 1}],
        [used(-1, 2)],
        [b"not json"],
        [b"\xff"],
    ],
)
def test_what_is_no_completion(events):
    assert fault(*events) is Fault.MALFORMED


@pytest.mark.parametrize(
    "error, broken",
    [
        ({"error": {"message": "m", "type": "server_error", "code": 500}}, Fault.UNREACHABLE),
        ({"error": {"message": "m", "code": 429}}, Fault.QUOTA),
        ({"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}, Fault.QUOTA),
        ({"error": {"message": "m", "type": "invalid_request_error", "code": None}}, Fault.REFUSED),
        ({"error": {"message": "m", "type": "BadRequestError", "param": None, "code": 400}}, Fault.REFUSED),
        ({"error": "model runner has stopped"}, Fault.UNREACHABLE),
        ({"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, Fault.MISSING),
        ({"error": {}}, Fault.UNREACHABLE),
    ],
)
def test_an_error_inside_of_the_stream(error, broken):
    assert fault(chunk(content="x"), error) is broken


@pytest.mark.parametrize(
    "body, told",
    [
        (b'{"error":{"message":"m","type":"t","code":"c"}}', "429 t: m"),
        (b'{"error":"m"}', "429 : m"),
        (b'{"object":"error","message":"m","type":"t","code":429}', "429 t: m"),
        (b'{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}', "429 RESOURCE_EXHAUSTED: m"),
        (b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]', "429 RESOURCE_EXHAUSTED: m"),
        (b"<html>busy</html>", "busy"),
        (b"", "429"),
    ],
)
def test_an_error_instead_of_a_stream(body, told):
    error = read_compatible_error(429, body, "3")
    assert (error.fault, error.retry_after_ms) == (Fault.QUOTA, 3_000)
    assert told in error.detail


def test_more_than_the_tokens_can_be():
    small = ask("hi", max_output_tokens=10)
    assert fault(chunk(content="x" * 20_000), asked=small) is Fault.TOO_LARGE
    assert fault(chunk(reasoning="x" * 20_000), asked=small) is Fault.TOO_LARGE
    assert fault(piece(0, "x" * 20_000, id="a", name="f"), asked=small) is Fault.TOO_LARGE


@pytest.mark.parametrize("body", [b"", b"{}", b'{"count":-1}', b"[1]"])
def test_what_is_no_count(body):
    with pytest.raises(UpstreamError) as caught:
        read_count(body)
    assert caught.value.fault is Fault.MALFORMED
