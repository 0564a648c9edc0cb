"""Whose signature goes where: Gemini's on both of its wires, and Google's filler for the calls of all others."""

import json
from dataclasses import replace

import pytest
from made_streams import LLAMA, MODEL, ask, conversation, model, user

from gateway.llm import compatible_reply, compatible_request, vertex_request
from gateway.llm.compatible_request import Dialect
from gateway.llm.history import open_turn
from gateway.llm.signatures import LENGTH_MAX, read_geminis, written_geminis
from gateway.terms.conversation import FunctionCall, FunctionResult, Text, Thought
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import ThinkingForm

FILLER = "skip_thought_signature_validator"
OLDER = replace(MODEL, thinking=ThinkingForm.BUDGET)
UNTOLD = replace(MODEL, thinking=ThinkingForm.NONE)
GARDEN = replace(LLAMA, upstream_id="google/gemini-3.5-flash")


def call(name, signature=b""):
    return FunctionCall(id=name, name=name, arguments_json="{}", signature=signature)


def results(*names):
    return user(*(FunctionResult(call_id=name, name=name, result_json="{}") for name in names))


def native(turn, of=MODEL):
    """What the calls of a turn are signed with."""
    body = json.loads(vertex_request.chat_body(of, ask(user("go"), turn, results("f", "g")), "projects/p/locations/l"))
    counted = json.loads(vertex_request.count_body(of, conversation(user("go"), turn, results("f", "g"))))
    assert counted["contents"] == body["contents"]
    parts = body["contents"][1]["parts"]
    return [part.get("thoughtSignature") for part in parts if "functionCall" in part]


def compatible(turn, of=GARDEN, dialect=Dialect.GARDEN):
    asked = ask(user("go"), turn, results("f", "g"))
    body = json.loads(compatible_request.chat_body(of, asked, dialect))
    calls = body["messages"][1]["tool_calls"]
    return [one.get("extra_content", {}).get("google", {}).get("thought_signature") for one in calls]


@pytest.mark.parametrize(
    "parts, told",
    [
        ((call("f"), call("g")), [FILLER, None]),
        ((Text(text="ok"), call("f", b"\x00\xff"), call("g")), ["AP8=", None]),
        ((call("f"), call("g", b"\x00\xff")), [FILLER, "AP8="]),
        ((Thought(text="hm"), call("f"), call("g")), [FILLER, None]),
        ((Thought(text="", signature=b"claude:s"), call("f"), call("g")), [FILLER, None]),
    ],
)
def test_the_first_call_of_a_turn_is_signed_and_no_other_one_filled(parts, told):
    assert native(model(*parts)) == native(model(*parts), of=UNTOLD) == compatible(model(*parts)) == told


def test_every_turn_of_a_loop_has_its_own_first_call():
    turns = (user("go"), model(call("f")), results("f"), model(call("g")), results("g"))
    body = json.loads(vertex_request.chat_body(MODEL, ask(*turns), "projects/p/locations/l"))
    assert [body["contents"][place]["parts"][0]["thoughtSignature"] for place in (1, 3)] == [FILLER, FILLER]


def test_the_generation_before_signatures_gets_its_own_and_no_filler():
    assert native(model(call("f"), call("g")), of=OLDER) == [None, None]
    assert native(model(call("f", b"\x00\xff"), call("g")), of=OLDER) == ["AP8=", None]
    assert compatible(model(call("f"), call("g")), of=replace(GARDEN, thinking=ThinkingForm.BUDGET)) == [None, None]


def test_nobody_else_is_told_of_a_signature():
    signed = model(call("f", b"\x00\xff"), call("g"))
    assert compatible(signed, of=LLAMA) == [None, None]
    # Its name alone makes no server Google's.
    assert compatible(signed, dialect=Dialect.VLLM) == [None, None]


@pytest.mark.parametrize("text", ["AP8=", "AP8", "AP-_", "AP+/"])
def test_a_signature_is_read_in_either_alphabet(text):
    assert written_geminis(read_geminis(text)) in ("AP8=", "AP+/")


def piece(**more):
    function = {"name": "f", "arguments": "{}"}
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": function} | more]}
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}).encode()


@pytest.mark.parametrize(
    "extra, signature",
    [
        ({"google": {"thought_signature": "AP8="}}, b"\x00\xff"),
        ({"google": {}}, b""),
        ({"google": None}, b""),
        ({"other": 1}, b""),
        (None, b""),
    ],
)
def test_a_signature_beside_a_call_is_carried(extra, signature):
    (whole,) = compatible_reply.Answer("c", ask("hi")).chunks(piece(extra_content=extra))
    assert whole == FunctionCall(id="c-1", name="f", arguments_json="{}", signature=signature)


@pytest.mark.parametrize(
    "told, fault", [("***", Fault.MALFORMED), ("ü", Fault.MALFORMED), ("A" * (LENGTH_MAX + 1), Fault.TOO_LARGE)]
)
def test_what_is_no_signature_is_no_answer(told, fault):
    with pytest.raises(UpstreamError) as caught:
        compatible_reply.Answer("c", ask("hi")).chunks(piece(extra_content={"google": {"thought_signature": told}}))
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    "turns, place",
    [
        ([user("go")], None),
        ([user("go"), model(call("f")), results("f")], 1),
        ([user("go"), model(call("f")), results("f"), model(call("g")), results("g")], 1),
        ([user("go"), model(call("f")), results("f"), model(Text(text="done")), user("more")], None),
        ([user("go"), model(call("f")), user(*results("f").parts, Text(text="and?"))], 1),
        ([user("go"), model(call("f")), user(*results("f").parts, "x"), model(call("g")), results("g")], 1),
    ],
)
def test_where_the_turn_began_that_results_continue(turns, place):
    assert open_turn(tuple(turns)) == place
