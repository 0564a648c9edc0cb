"""What Claude and OpenAI-compatible servers are asked: each field in their words, and nothing that nobody asked for."""

import json
from dataclasses import replace

import pytest
from made_streams import CLAUDE, LLAMA, ask, conversation, model, user

from gateway.llm import claude_request, compatible_request
from gateway.llm.compatible_request import Dialect
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    RegexConstraint,
    Text,
    Thinking,
    Thought,
)
from gateway.terms.inputs import FileData, InlineData
from gateway.terms.models import ThinkingForm

PDF = InlineData(mime_type="application/pdf", data=b"%PDF-1.7")
NOTE = InlineData(mime_type="text/markdown", data="# Ü".encode())
F, G = (Function(name=name, description="", parameters_json_schema='{"type": "object"}') for name in "fg")
HISTORY = (
    user("go"),
    model(
        Thought(text="h"),
        Thought(text="m"),
        Thought(text="", signature=b"claude:sig="),
        Text(text="ok"),
        FunctionCall(id="ü", name="f", arguments_json='{ "a": 1.50 }'),
        FunctionCall(id="x y/z", name="g", arguments_json="{}"),
    ),
    user(Text(text="and now?"), FunctionResult(call_id="x y/z", name="g", result_json='{"g":1}'),
         FunctionResult(call_id="ü", name="f", result_json='{"f":1}')),
)  # fmt: skip


def claude(*turns, of=CLAUDE, **more):
    return json.loads(claude_request.chat_body(of, ask(*turns, **more)))


def compatible(*turns, dialect=Dialect.VLLM, of=LLAMA, **more):
    return json.loads(compatible_request.chat_body(of, ask(*turns, **more), dialect))


def test_a_plain_question():
    assert claude("hi", max_output_tokens=7) == {
        "anthropic_version": "vertex-2023-10-16",
        "stream": True,
        "max_tokens": 7,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert compatible("hi", max_output_tokens=7) == {
        "model": "llama-4-maverick",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
    }
    assert compatible("hi", dialect=Dialect.OPENAI, max_output_tokens=7)["max_completion_tokens"] == 7


def test_a_history_for_claude():
    """Thoughts are joined again, ids have Claude's form, and results come first, in the order of their calls."""
    _, answered, given = claude(*HISTORY)["messages"]
    assert answered["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig="},
        {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "call_1_0", "name": "f", "input": {"a": 1.5}},
        {"type": "tool_use", "id": "call_1_1", "name": "g", "input": {}},
    ]
    assert given["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1_0", "content": '{"f":1}'},
        {"type": "tool_result", "tool_use_id": "call_1_1", "content": '{"g":1}'},
        {"type": "text", "text": "and now?"},
    ]
    assert b'{ "a": 1.50 }' in claude_request.chat_body(CLAUDE, ask(*HISTORY))  # the arguments, byte for byte


def test_a_history_for_a_compatible_server():
    _, answered, *given = compatible(*HISTORY)["messages"]
    assert answered == {
        "role": "assistant",
        "content": "ok",
        "tool_calls": [
            {"id": "call_1_0", "type": "function", "function": {"name": "f", "arguments": '{ "a": 1.50 }'}},
            {"id": "call_1_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert given == [
        {"role": "tool", "tool_call_id": "call_1_0", "content": '{"f":1}'},
        {"role": "tool", "tool_call_id": "call_1_1", "content": '{"g":1}'},
        {"role": "user", "content": "and now?"},
    ]


def test_thoughts_that_claude_cannot_read_are_no_part_of_its_conversation():
    history = (
        user("go"),
        model(Thought(text="hm", signature=b"gemini's"), Thought(text="x"), Text(text="")),
        user("?"),
    )
    assert claude(*history)["messages"][1]["content"] == []
    redacted = model(Thought(text="", signature=b"claude-redacted:abc"), Text(text="ok"))
    assert claude(user("go"), redacted, user("?"))["messages"][1]["content"][0] == {
        "type": "redacted_thinking",
        "data": "abc",
    }


@pytest.mark.parametrize(
    "form, generation, told",
    [
        (ThinkingForm.LEVEL, Generation(), {}),
        (
            ThinkingForm.LEVEL,
            Generation(include_thoughts=True),
            {"thinking": {"type": "adaptive", "display": "summarized"}},
        ),
        (
            ThinkingForm.LEVEL,
            Generation(thinking=Thinking.LOW),
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}},
        ),
        (ThinkingForm.LEVEL, Generation(thinking=Thinking.MINIMAL), {"thinking": {"type": "disabled"}}),
        (ThinkingForm.BUDGET, Generation(include_thoughts=True), {}),
        (
            ThinkingForm.BUDGET,
            Generation(thinking=Thinking.MEDIUM, include_thoughts=True),
            {"thinking": {"type": "enabled", "budget_tokens": 4_999, "display": "summarized"}},
        ),
    ],
)
def test_how_claude_is_told_to_think(form, generation, told):
    body = claude("hi", of=replace(CLAUDE, thinking=form), generation=generation, max_output_tokens=5_000)
    assert {name: value for name, value in body.items() if name in ("thinking", "output_config")} == told


def test_files():
    content = claude(conversation(user(PDF, NOTE)))["messages"][0]["content"]
    assert content == [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjc="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# Ü"}},
    ]
    picture = FileData(mime_type="image/png", uri="https://files.acme.com/a.png")
    assert compatible(conversation(user(NOTE, picture)))["messages"][0]["content"] == [
        {"type": "text", "text": "# Ü"},
        {"type": "image_url", "image_url": {"url": "https://files.acme.com/a.png"}},
    ]


def test_one_of_several_functions():
    """Neither wire can say "one of these": it is shown these alone."""
    several = {"functions": (F, G, replace(F, name="h")), "choosing": Choosing.ANY, "allowed_functions": ("f", "g")}
    body = claude("hi", **several)
    assert ([tool["name"] for tool in body["tools"]], body["tool_choice"]) == (["f", "g"], {"type": "any"})
    body = compatible("hi", **several)
    assert ([tool["function"]["name"] for tool in body["tools"]], body["tool_choice"]) == (["f", "g"], "required")


def test_a_server_without_a_word_for_none_is_shown_no_function():
    body = compatible("hi", dialect=Dialect.OLLAMA, functions=(F,), choosing=Choosing.NONE)
    assert "tools" not in body
    body = compatible("hi", dialect=Dialect.OLLAMA, functions=(F,))
    assert len(body["tools"]) == 1
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    "constraint, told",
    [
        (
            JsonSchemaConstraint(schema_json='{"type":"object"}'),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
        (RegexConstraint(pattern="a+"), {"structured_outputs": {"regex": "a+"}}),
        (ChoiceConstraint(texts=("a", "b")), {"structured_outputs": {"choice": ["a", "b"]}}),
    ],
)
def test_a_form_is_asked_for_only_where_it_is_enforced(constraint, told):
    plain = compatible("hi")
    assert compatible("hi", constraint=constraint) == plain | told
    assert compatible("hi", of=replace(LLAMA, constraints=frozenset()), constraint=constraint) == plain
    unheld = claude("hi", of=replace(CLAUDE, constraints=frozenset()), constraint=constraint)
    assert unheld == claude("hi")
