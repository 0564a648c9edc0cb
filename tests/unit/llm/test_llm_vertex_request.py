"""What the upstream is asked: each field in Vertex's words, and nothing that nobody asked for."""

import base64
import json

import pytest
from made_streams import MODEL, ask, conversation, model, user

from gateway.llm.vertex_request import ENFORCED, chat_body, count_body
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

PLACE = "projects/p/locations/l"


def body(*turns, **more):
    return json.loads(chat_body(MODEL, ask(*turns, **more), PLACE))


def test_a_plain_question():
    assert body("hi", max_output_tokens=7) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 7, "candidateCount": 1},
    }


def test_the_limit_is_the_asks_and_not_the_callers():
    told = body("hi", generation=Generation(max_output_tokens=50), max_output_tokens=7)
    assert told["generationConfig"]["maxOutputTokens"] == 7


def test_a_whole_history():
    signature = b"\x00\xff"
    history = (
        user("buy"),
        model(
            Thought(text="hm", signature=signature),
            Text(text="ok", signature=signature),
            FunctionCall(id="1", name="f", arguments_json='{ "a": 1.50 }', signature=signature),
        ),
        user(FunctionResult(call_id="1", name="f", result_json='{"b":"ü"}')),
    )
    signed = {"thoughtSignature": base64.b64encode(signature).decode()}
    assert body(*history, system="be brief")["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True} | signed,
                {"text": "ok"} | signed,
                {"functionCall": {"name": "f", "args": {"a": 1.5}}} | signed,
            ],
        },
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"b": "ü"}}}]},
    ]
    assert body(*history, system="be brief")["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    # Arguments go as they stand: their digits are not rewritten.
    assert b'{ "a": 1.50 }' in chat_body(MODEL, ask(*history), PLACE)


def test_results_go_in_the_order_of_their_calls():
    calls = [FunctionCall(id=name, name="f", arguments_json="{}") for name in "abc"]
    results = [FunctionResult(call_id=name, name="f", result_json=f'{{"of":"{name}"}}') for name in "cab"]
    told = body(user("go"), model(*calls), user(results[0], "and", *results[1:]))["contents"][2]["parts"]
    said = [part["functionResponse"]["response"]["of"] if "functionResponse" in part else part["text"] for part in told]
    assert said == ["a", "and", "b", "c"]


@pytest.mark.parametrize("choosing, mode", [(Choosing.AUTO, "AUTO"), (Choosing.ANY, "ANY"), (Choosing.NONE, "NONE")])
def test_functions(choosing, mode):
    schema = '{"type":"object"}'
    functions = (
        Function(name="f", description="does", parameters_json_schema=schema),
        Function(name="g", description="", parameters_json_schema=schema),
    )
    told = body("hi", functions=functions, choosing=choosing, allowed_functions=("f",))
    assert told["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "does", "parametersJsonSchema": {"type": "object"}},
                {"name": "g", "parametersJsonSchema": {"type": "object"}},
            ]
        }
    ]
    assert told["toolConfig"] == {"functionCallingConfig": {"mode": mode, "allowedFunctionNames": ["f"]}}


def test_settings():
    settings = Generation(
        temperature=0.0,
        top_p=0.5,
        top_k=1,
        stop_sequences=("a", "b"),
        seed=0,
        presence_penalty=-1.0,
        frequency_penalty=2.0,
        thinking=Thinking.HIGH,
        include_thoughts=True,
    )
    assert body("hi", generation=settings, max_output_tokens=9)["generationConfig"] == {
        "maxOutputTokens": 9,
        "candidateCount": 1,
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 1,
        "seed": 0,
        "presencePenalty": -1.0,
        "frequencyPenalty": 2.0,
        "stopSequences": ["a", "b"],
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"},
    }


@pytest.mark.parametrize(
    "constraint, expected",
    [
        (
            JsonSchemaConstraint(schema_json='{"type":"integer"}'),
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "integer"}},
        ),
        (
            ChoiceConstraint(texts=("a", "b, c")),
            {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a", "b, c"]}},
        ),
    ],
)
def test_constraints(constraint, expected):
    told = body("hi", constraint=constraint)["generationConfig"]
    assert {name: told[name] for name in expected} == expected
    assert set(told) == {"maxOutputTokens", "candidateCount", *expected}


def test_a_constraint_that_vertex_has_no_words_for_is_left_to_the_verification_at_the_end():
    assert body("hi", constraint=RegexConstraint(pattern="a+")) == body("hi")
    assert MODEL.constraints == ENFORCED


def test_a_count_is_asked_with_the_prompt_alone():
    functions = (Function(name="f", description="", parameters_json_schema="{}"),)
    asked = conversation("hi", system="s", functions=functions, generation=Generation(seed=1))
    told = json.loads(count_body(MODEL, asked))
    assert sorted(told) == ["contents", "systemInstruction", "tools"]
