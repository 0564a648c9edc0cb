"""What Claude may say, in which order, and what is no message of Claude's."""

import json

import pytest
from msgspec.structs import replace

from gateway.llm.claude_reply import Answer, read_count
from gateway.llm.pieces import CALLS_MAX
from gateway.terms.conversation import Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError

START = {"type": "message_start", "message": {"model": "claude-x", "usage": {"input_tokens": 9, "output_tokens": 1}}}
STOP = {"type": "message_stop"}
PROMPT = Usage(input_tokens=9, estimated=True)
"""What the start told, before the first words."""


def begun(index=0, **block):
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""} | block}


def delta(index=0, **more):
    return {"type": "content_block_delta", "index": index, "delta": more}


def stopped(index=0):
    return {"type": "content_block_stop", "index": index}


def reason(word="end_turn", **usage):
    return {"type": "message_delta", "delta": {"stop_reason": word}, "usage": {"output_tokens": 5} | usage}


def words(text="hi"):
    return [begun(), delta(type="text_delta", text=text), stopped()]


def said(*events, tokens=1_000):
    answer = Answer("call", tokens)
    chunks = [chunk for event in events for chunk in answer.chunks(json.dumps(event).encode())]
    return [*chunks, answer.end()] if answer.ended else chunks


def fault(*events, tokens=1_000):
    with pytest.raises(UpstreamError) as caught:
        said(*events, tokens=tokens)
    return caught.value.fault


def test_a_message():
    assert said(START, *words(), reason(), STOP) == [
        PROMPT,
        Text(text="hi"),
        Usage(input_tokens=9, output_tokens=5),
        Ending(finish=Finish.STOP, upstream_reason="end_turn", model_version="claude-x"),
    ]


def test_the_count_waits_for_the_first_words():
    """What comes before them is no answer: another upstream may still be asked."""
    assert said(START, begun()) == []


def test_a_thought_comes_as_it_is_made_and_its_signature_last():
    chunks = said(
        START,
        begun(type="thinking", thinking="", signature=""),
        delta(type="thinking_delta", thinking="hm"),
        delta(type="signature_delta", signature="ab"),
        delta(type="signature_delta", signature="c="),
        stopped(),
        begun(1, type="redacted_thinking", data="secret"),
        stopped(1),
        reason(),
    )
    assert [chunk for chunk in chunks if isinstance(chunk, Thought)] == [
        Thought(text="hm"),
        Thought(text="", signature=b"claude:abc="),
        Thought(text="", signature=b"claude-redacted:secret"),
    ]


@pytest.mark.parametrize(
    "pieces, whole",
    [([], "{}"), ([""], "{}"), (["", '{"a":', "1}"], '{"a":1}')],
)
def test_a_call_is_told_when_it_is_whole(pieces, whole):
    deltas = [delta(type="input_json_delta", partial_json=piece) for piece in pieces]
    counted, call, *_, end = said(
        START, begun(type="tool_use", id="toolu_1", name="f", input={}), *deltas, stopped(), reason("tool_use")
    )
    assert counted == replace(PROMPT, output_tokens=sum(map(len, pieces)))
    assert call == FunctionCall(id="call-1", name="f", arguments_json=whole)
    assert end.finish is Finish.TOOL_CALLS


def test_what_was_cached_counts_in_the_input():
    usage = {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 11}
    *_, told, _ = said(START, reason(**usage, output_tokens=3, output_tokens_details={"thinking_tokens": 2}))
    assert told == Usage(input_tokens=23, output_tokens=3, thinking_tokens=2, cached_tokens=7)


def test_an_answer_that_is_never_counted_stays_estimated():
    """The start's count is of no word of it."""
    chunks = said(START, *words(), {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert [chunk for chunk in chunks if isinstance(chunk, Usage)] == [PROMPT]


def test_without_a_count_there_is_none():
    started = {"type": "message_start", "message": {"model": "x"}}
    chunks = said(started, *words(), {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert not any(isinstance(chunk, Usage) for chunk in chunks)


@pytest.mark.parametrize(
    "word, finish",
    [
        ("stop_sequence", Finish.STOP),
        ("max_tokens", Finish.MAX_TOKENS),
        ("model_context_window_exceeded", Finish.MAX_TOKENS),
        ("refusal", Finish.SAFETY),
        ("pause_turn", Finish.OTHER),
        ("brand_new", Finish.OTHER),
    ],
)
def test_a_reason(word, finish):
    end = said(START, *words(), reason(word))[-1]
    assert (end.finish, end.upstream_reason) == (finish, word)


def test_events_that_anthropic_adds_are_passed_over():
    assert said({"type": "ping"}, START, {"type": "brand_new", "x": 1}, *words(), reason())[:2] == [
        PROMPT,
        Text(text="hi"),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        words(),
        [START, START],
        [START, STOP],
        [START, delta(type="text_delta", text="x")],
        [START, stopped()],
        [START, begun(1)],
        [START, begun(), begun(1)],
        [START, begun(), delta(1, type="text_delta", text="x")],
        [START, begun(), stopped(1)],
        [START, begun(), delta(type="thinking_delta", thinking="x")],
        [START, begun(), delta(type="input_json_delta", partial_json="{}")],
        [START, begun(type="tool_use", name="f"), delta(type="text_delta", text="x")],
        [START, begun(type="server_tool_use", name="f")],
        [START, begun(type="tool_use", name="f"), delta(type="input_json_delta", partial_json='{"a":1'), stopped()],
        [START, begun(type="tool_use", name="f"), delta(type="input_json_delta", partial_json="[1]"), stopped()],
        [
            START,
            begun(type="tool_use", name="f"),
            delta(type="input_json_delta", partial_json='{"a":1,"a":2}'),
            stopped(),
        ],
        [START, begun(type="tool_use", name="f g"), stopped()],
        [START, begun(), reason()],
        [START, reason(), reason()],
        [START, reason(), *words()],
        [START, reason(), STOP, STOP],
        [START, reason(), STOP, reason()],
        [START, {"type": "content_block_start", "index": 0}],
        [START, {"type": "message_delta", "usage": {"output_tokens": -1}}],
        [{"index": 0}],
    ],
)
def test_what_is_no_message(events):
    assert fault(*events) is Fault.MALFORMED


@pytest.mark.parametrize(
    "kind, broken",
    [
        ("overloaded_error", Fault.UNREACHABLE),
        ("api_error", Fault.UNREACHABLE),
        ("timeout_error", Fault.UNREACHABLE),
        ("rate_limit_error", Fault.QUOTA),
        ("invalid_request_error", Fault.REFUSED),
        ("permission_error", Fault.DENIED),
        ("not_found_error", Fault.MISSING),
        ("brand_new_error", Fault.UNREACHABLE),
    ],
)
def test_an_error_inside_of_the_stream(kind, broken):
    assert fault(START, *words(), {"type": "error", "error": {"type": kind, "message": "m"}}) is broken
    assert fault({"type": "error"}) is Fault.UNREACHABLE


def test_more_than_the_tokens_can_be():
    assert fault(START, begun(), delta(type="text_delta", text="x" * 20_000), tokens=10) is Fault.TOO_LARGE
    pieces = [delta(type="signature_delta", signature="x" * 100_000)] * 3
    assert fault(START, begun(type="thinking"), *pieces) is Fault.TOO_LARGE
    many = [(begun(place, type="tool_use", name="f"), stopped(place)) for place in range(CALLS_MAX + 1)]
    assert fault(START, *(event for pair in many for event in pair)) is Fault.TOO_LARGE


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"7"}', b"[1]", b"\xff"])
def test_what_is_no_count(body):
    with pytest.raises(UpstreamError) as caught:
        read_count(body)
    assert caught.value.fault is Fault.MALFORMED
