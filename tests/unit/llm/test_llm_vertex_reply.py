"""Events of one answer, one by one: what becomes a chunk, what an ending, and what is refused."""

import base64
import json

import pytest
from msgspec.structs import replace

from gateway.llm.pieces import CHARACTERS_MORE, CHARACTERS_PER_TOKEN
from gateway.llm.vertex_reply import Answer, read_count
from gateway.terms.conversation import Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError

SIGNATURE = base64.b64encode(b"\x00\xffsigned").decode()


def answer(max_output_tokens=100):
    return Answer("call-x", max_output_tokens)


def candidate(*parts, **more):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


def read(reader, *documents):
    chunks = []
    for document in documents:
        chunks += reader.chunks(document if isinstance(document, bytes) else json.dumps(document).encode())
    return chunks


def fault_of(*documents, reader=None):
    with pytest.raises(UpstreamError) as caught:
        read(reader or answer(), *documents)
    return caught.value.fault


def finished(*documents):
    reader = answer()
    read(reader, *documents)
    return reader.end()


def test_parts_become_chunks_in_their_order():
    document = candidate(
        {"text": "hm", "thought": True},
        {"text": "well"},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": SIGNATURE},
        {"functionCall": {"name": "g"}},
        {"text": "", "thoughtSignature": SIGNATURE},
        {"thoughtSignature": SIGNATURE},
        {"text": ""},
        {},
    )
    assert read(answer(), document) == [
        Thought(text="hm"),
        Text(text="well"),
        FunctionCall(id="call-x-1", name="f", arguments_json='{"a": 1}', signature=b"\x00\xffsigned"),
        FunctionCall(id="call-x-2", name="g", arguments_json="{}"),
        Text(text="", signature=b"\x00\xffsigned"),
        Text(text="", signature=b"\x00\xffsigned"),
    ]


def test_what_google_adds_is_passed_over():
    document = candidate({"text": "a", "videoMetadata": {}, "partMetadata": 1}, safetyRatings=[{}], avgLogprobs=-1)
    assert read(answer(), document | {"responseId": "x", "createTime": 0, "serverTiming": None}) == [Text(text="a")]


@pytest.mark.parametrize("document", [{}, {"candidates": []}, candidate(), {"candidates": [{}]}])
def test_events_without_parts(document):
    reader = answer()
    assert read(reader, document) == []
    assert not reader.ended


@pytest.mark.parametrize(
    "reason, finish",
    [
        ("STOP", Finish.STOP),
        ("MAX_TOKENS", Finish.MAX_TOKENS),
        ("SAFETY", Finish.SAFETY),
        ("MODEL_ARMOR", Finish.SAFETY),
        ("RECITATION", Finish.RECITATION),
        ("MALFORMED_FUNCTION_CALL", Finish.MALFORMED_TOOL_CALL),
        ("UNEXPECTED_TOOL_CALL", Finish.MALFORMED_TOOL_CALL),
        ("A_WORD_OF_NEXT_YEAR", Finish.OTHER),
    ],
)
def test_finish_reasons_are_an_open_set(reason, finish):
    told = finished(candidate({"text": "a"}, finishReason=reason) | {"modelVersion": "m-1"})
    assert told == Ending(finish=finish, upstream_reason=reason, model_version="m-1")


def test_a_stop_with_calls_waits_for_tools():
    call = {"functionCall": {"name": "f"}}
    assert finished(candidate(call), candidate(finishReason="STOP")).finish is Finish.TOOL_CALLS
    assert finished(candidate(call, finishReason="MAX_TOKENS")).finish is Finish.MAX_TOKENS


def test_a_blocked_prompt_has_no_answer():
    blocked = {"promptFeedback": {"blockReason": "JAILBREAK"}}
    assert finished(blocked).finish is Finish.PROMPT_BLOCKED
    assert finished(blocked).upstream_reason == "JAILBREAK"
    assert fault_of(blocked, candidate({"text": "a"})) is Fault.MALFORMED
    assert fault_of(blocked | candidate({"text": "a"})) is Fault.MALFORMED


def test_an_unspecified_reason_is_none():
    reader = answer()
    read(reader, candidate({"text": "a"}, finishReason="FINISH_REASON_UNSPECIFIED"), candidate({"text": "b"}))
    assert not reader.ended


def test_long_words_of_the_upstream_are_cut():
    told = finished(candidate(finishReason="X" * 500) | {"modelVersion": "v" * 500})
    assert (len(told.upstream_reason), len(told.model_version)) == (64, 128)


def test_an_end_may_be_said_again_but_not_otherwise():
    reader = answer()
    read(reader, candidate({"text": "a"}, finishReason="STOP"), candidate({"text": ""}, finishReason="STOP"))
    assert reader.end().finish is Finish.STOP
    assert fault_of(candidate(finishReason="SAFETY"), reader=reader) is Fault.MALFORMED
    assert fault_of(candidate(finishReason="STOP"), candidate({"text": "b"})) is Fault.MALFORMED


# Usage.


def counted(**counts):
    return {"usageMetadata": counts}


def test_usage_is_normalised():
    document = counted(
        promptTokenCount=100,
        candidatesTokenCount=20,
        thoughtsTokenCount=30,
        toolUsePromptTokenCount=7,
        cachedContentTokenCount=40,
        totalTokenCount=157,
    )
    expected = Usage(input_tokens=107, output_tokens=50, thinking_tokens=30, cached_tokens=40)
    assert read(answer(), document) == [expected]


def test_usage_is_told_when_it_changes():
    first = counted(promptTokenCount=5, candidatesTokenCount=1)
    chunks = read(answer(), first, first, counted(promptTokenCount=5, candidatesTokenCount=2))
    assert [chunk.output_tokens for chunk in chunks] == [1, 2]


def test_a_count_of_the_prompt_alone_says_nothing_of_an_answer_that_runs():
    """Who leaves then is charged for that prompt, and for the answer by its bound."""
    told = Usage(input_tokens=5, cached_tokens=2, estimated=True)
    first = candidate({"text": "a"}) | counted(promptTokenCount=5, cachedContentTokenCount=2)
    assert read(answer(), first, first) == [told, Text(text="a"), Text(text="a")]
    later = [candidate({"text": "äh"}), counted(promptTokenCount=5, cachedContentTokenCount=2)]
    assert read(answer(), *later) == [Text(text="äh"), replace(told, output_tokens=3)]
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}} | counted(promptTokenCount=5)
    assert read(answer(), blocked) == [Usage(input_tokens=5)]


def test_a_count_of_the_prompt_is_no_answer():
    """Another target may still be asked; it is told with the first words."""
    reader = answer()
    assert read(reader, counted(promptTokenCount=5)) == []
    assert read(reader, candidate({"text": "a"})) == [Usage(input_tokens=5, estimated=True), Text(text="a")]


def test_a_count_without_a_prompt_counts_no_prompt():
    """As Vertex AI sends them while an answer runs."""
    assert read(answer(), candidate({"text": "a"}) | counted(trafficType="ON_DEMAND")) == [Text(text="a")]


def test_a_prompt_that_is_told_after_the_answer_was_counted_changes_nothing():
    events = (counted(promptTokenCount=5, candidatesTokenCount=2), counted(promptTokenCount=9))
    assert read(answer(), candidate({"text": "a"}), *events)[1:] == [Usage(input_tokens=5, output_tokens=2)]


def test_more_cached_tokens_than_there_are_is_no_refund():
    (told,) = read(answer(), counted(promptTokenCount=5, candidatesTokenCount=1, cachedContentTokenCount=9))
    assert told.cached_tokens == 5


@pytest.mark.parametrize("count", [-1, 2**31, 10**30, 1.5, "5", None, True, [1]])
def test_a_count_that_is_none(count):
    assert fault_of(counted(promptTokenCount=count)) is Fault.MALFORMED
    assert fault_of(counted(candidatesTokenCount=count)) is Fault.MALFORMED


# What is refused.


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"null",
        b"\xff",
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]}}]}',
        {"candidates": "none"},
        {"candidates": [1]},
        {"candidates": [{"content": []}]},
        {"candidates": [{"finishReason": 1}]},
        {"usageMetadata": []},
        {"promptFeedback": "SAFETY"},
        {"modelVersion": 3},
        candidate({"text": 5}),
        candidate({"text": "a", "thought": "yes"}),
        candidate({"text": "a", "thoughtSignature": "***"}),
        candidate({"text": "a", "thoughtSignature": "ü"}),
        candidate({"functionCall": {}}),
        candidate({"functionCall": {"name": 5}}),
    ],
)
def test_what_is_not_of_the_form(document):
    assert fault_of(document) is Fault.MALFORMED


@pytest.mark.parametrize(
    "kind", ["inlineData", "fileData", "functionResponse", "executableCode", "codeExecutionResult"]
)
def test_parts_that_no_chunk_can_carry_are_not_dropped(kind):
    assert fault_of(candidate({kind: {"x": 1}})) is Fault.MALFORMED


@pytest.mark.parametrize(
    "code, fault", [(503, Fault.UNREACHABLE), (429, Fault.QUOTA), (400, Fault.REFUSED), (0, Fault.UNREACHABLE)]
)
def test_an_error_event(code, fault):
    assert fault_of(candidate({"text": "a"}), {"error": {"code": code, "message": "no", "status": "X"}}) is fault


def test_an_answer_has_a_bound_in_characters():
    reader = answer(max_output_tokens=10)
    room = 10 * CHARACTERS_PER_TOKEN + CHARACTERS_MORE
    read(reader, candidate({"text": "x" * (room - 100)}), candidate({"text": "y" * 60, "thought": True}))
    assert fault_of(candidate({"text": "z" * 41}), reader=reader) is Fault.TOO_LARGE
    call = {"functionCall": {"name": "f", "args": {"a": "x" * room}}}
    assert fault_of(candidate(call), reader=answer(max_output_tokens=10)) is Fault.TOO_LARGE


def test_a_signature_has_a_bound():
    assert fault_of(candidate({"text": "a", "thoughtSignature": "A" * 400_000})) is Fault.TOO_LARGE


def test_a_count():
    assert read_count(b'{"totalTokens": 12, "totalBillableCharacters": 30}') == 12
