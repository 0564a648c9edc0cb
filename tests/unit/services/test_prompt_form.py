"""Every field of a model call is honoured, or refused by its name; nothing is dropped and nothing guessed."""

import json
import math

import pytest

from gateway.services.generation import CHOICES_MAX, STOP_SEQUENCE_LENGTH_MAX, STOP_SEQUENCES_MAX
from gateway.services.prompts import chat_prompt, count_prompt
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    RegexConstraint,
    Speaker,
    Text,
    Thinking,
    Thought,
    Turn,
)
from gateway.terms.limits import CONTENTS_MAX, FUNCTIONS_MAX, SCHEMA_BYTES_MAX
from gateway.terms.verdict import Kind, RefusedError
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Choice,
    Content,
    CountTokensRequest,
    FunctionCalling,
    FunctionCallingMode,
    FunctionDeclaration,
    GenerationSettings,
    Part,
    ResponseConstraint,
    Role,
    ThinkingLevel,
    ToolCall,
    ToolResult,
)
from generated.agentic.gateway.v1.codec import CODECS

OBJECT = '{"type":"object"}'
SAID = Content(role=Role.USER, parts=[Part(text="hello")])
UNKNOWN = 77
"""No enum has it; a newer client's message may."""


def request(**fields):
    return ChatRequest(**({"model": "flash", "contents": [SAID]} | fields))


def through_the_wire(message):
    """As it is when it was encoded and decoded: unknown enum values too."""
    codec = CODECS[type(message)]
    return codec.decode(codec.encode(message))


def read(**fields):
    return chat_prompt(through_the_wire(request(**fields)))


def user(*parts):
    return Content(role=Role.USER, parts=list(parts))


def model(*parts):
    return Content(role=Role.MODEL, parts=list(parts))


def history(*parts):
    """A model turn with these parts before the user's last."""
    return {"contents": [model(*parts), SAID]}


def declares(**changes):
    return FunctionDeclaration(**({"name": "f", "parameters_json_schema": OBJECT} | changes))


def call(**changes):
    return Part(tool_call=ToolCall(**({"id": "1", "name": "f", "arguments_json": "{}"} | changes)))


def result(**changes):
    return Part(tool_result=ToolResult(**({"call_id": "1", "name": "f", "result_json": "{}"} | changes)))


def setting(**settings):
    return {"settings": GenerationSettings(**settings)}


def constrained(**constraint):
    return {"constraint": ResponseConstraint(**constraint)}


def calling(mode=FunctionCallingMode.ANY, allowed=(), functions=("f",)):
    return {
        "functions": [declares(name=name) for name in functions],
        "function_calling": FunctionCalling(mode=mode, allowed_names=list(allowed)),
    }


def beyond(least, most):
    return (least - 0.001, most + 0.001, math.nan, math.inf, -math.inf)


BAD_JSON = ("", "null", "[]", '"text"', "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":1e999}', "{} {}", '{"a":"\\ud800"}')
DEEP = "[" * 40 + "]" * 40
BAD_NAMES = ("", "1f", "with space", "é", "a" * 65, "f\n", "f/../g")

BAD = [
    ({"contents": []}, "contents"),
    ({"contents": [SAID] * (CONTENTS_MAX + 1)}, "contents"),
    ({"contents": [Content(parts=[Part(text="x")])]}, "contents[0].role"),
    ({"contents": [SAID, Content(role=UNKNOWN, parts=[Part(text="x")])]}, "contents[1].role"),
    ({"contents": [user()]}, "contents[0].parts"),
    ({"contents": [user(Part())]}, "contents[0].parts[0]"),
    ({"contents": [user(Part(text="a"), Part(signature=b"s"))]}, "contents[0].parts[1]"),
    ({"contents": [SAID, model(Part(text="x"))]}, "contents[1].role"),
    ({"contents": [user(Part(thought="x"))]}, "contents[0].parts[0].thought"),
    ({"contents": [user(call())]}, "contents[0].parts[0].tool_call"),
    (history(result()), "contents[0].parts[0].tool_result"),
    ({"contents": [user(Part(tool_result=ToolResult(name="f", result_json="{}"), signature=b"s"))]},
     "contents[0].parts[0].signature"),
    *((history(call(arguments_json=text)), "contents[0].parts[0].tool_call.arguments_json") for text in BAD_JSON),
    *(({"contents": [user(result(result_json=text))]}, "contents[0].parts[0].tool_result.result_json")
      for text in BAD_JSON),
    (history(call(arguments_json='{"a":' + DEEP + "}")), "contents[0].parts[0].tool_call.arguments_json"),
    *((history(call(name=name)), "contents[0].parts[0].tool_call.name") for name in BAD_NAMES),
    *(({"contents": [user(result(name=name))]}, "contents[0].parts[0].tool_result.name") for name in BAD_NAMES),
    *(({"functions": [declares(name=name)]}, "functions[0].name") for name in BAD_NAMES),
    ({"functions": [declares(), declares(name="g"), declares()]}, "functions[2].name"),
    ({"functions": [declares(name=f"f{n}") for n in range(FUNCTIONS_MAX + 1)]}, "functions"),
    *(({"functions": [declares(parameters_json_schema=text)]}, "functions[0].parameters_json_schema")
      for text in (*BAD_JSON, "{}", '{"type":"string"}', '{"type":["object"]}')),
    ({"functions": [declares(parameters_json_schema='{"type":"object","x":"' + "é" * (SCHEMA_BYTES_MAX // 2) + '"}')]},
     "functions[0].parameters_json_schema"),
    (calling(UNKNOWN), "function_calling.mode"),
    (calling(functions=()), "function_calling.mode"),
    (calling(allowed=("g",)), "function_calling.allowed_names[0]"),
    (calling(allowed=("f", "f")), "function_calling.allowed_names[1]"),
    *((calling(mode, allowed=("f",)), "function_calling.allowed_names")
      for mode in (FunctionCallingMode.UNSPECIFIED, FunctionCallingMode.AUTO, FunctionCallingMode.NONE)),
    *((setting(temperature=value), "settings.temperature") for value in beyond(0, 2)),
    *((setting(top_p=value), "settings.top_p") for value in (0.0, *beyond(0, 1))),
    *((setting(presence_penalty=value), "settings.presence_penalty") for value in beyond(-2, 2)),
    *((setting(frequency_penalty=value), "settings.frequency_penalty") for value in beyond(-2, 2)),
    *((setting(top_k=value), "settings.top_k") for value in (0, -1, 1001)),
    *((setting(max_output_tokens=value), "settings.max_output_tokens") for value in (0, -1, -(2**31))),
    (setting(thinking_level=UNKNOWN), "settings.thinking_level"),
    (setting(stop_sequences=["x"] * (STOP_SEQUENCES_MAX + 1)), "settings.stop_sequences"),
    (setting(stop_sequences=["x", ""]), "settings.stop_sequences[1]"),
    (setting(stop_sequences=["x" * (STOP_SEQUENCE_LENGTH_MAX + 1)]), "settings.stop_sequences[0]"),
    ({"constraint": ResponseConstraint()}, "constraint"),
    *((constrained(json_schema=text), "constraint.json_schema") for text in BAD_JSON),
    (constrained(regex=""), "constraint.regex"),
    *((constrained(choice=Choice(texts=texts)), "constraint.choice.texts")
      for texts in ([], [""], ["a", "a"], [str(n) for n in range(CHOICES_MAX + 1)])),
    *(({"run_id": text}, "run_id") for text in ("no spaces", "a" * 65, "run\n", "é", "a/b")),
]  # fmt: skip


@pytest.mark.parametrize("fields, field", BAD, ids=[f"{number}-{case[1]}" for number, case in enumerate(BAD)])
def test_what_has_not_the_form_is_refused_by_the_name_of_its_field(fields, field):
    with pytest.raises(RefusedError) as caught:
        read(**fields)
    refused = caught.value.refusal
    assert (refused.kind, refused.reason) == (Kind.MALFORMED, "request.malformed")
    assert [violation.field for violation in refused.violations] == [field]
    assert refused.sentence == f"{field}: {refused.violations[0].description}"


def test_nothing_that_was_sent_comes_back_unescaped():
    """Attack row 45: a key of an agent's choice ends no line and hides nothing."""
    evil = '{"a\\n\\u202e":1,"a\\n\\u202e":2}'
    with pytest.raises(RefusedError) as caught:
        read(**history(call(arguments_json=evil)))
    assert caught.value.refusal.sentence.isprintable()


def test_a_plain_request_leaves_everything_else_to_the_upstream():
    prompt = read()
    conversation = prompt.conversation
    assert conversation.turns == (Turn(speaker=Speaker.USER, parts=(Text(text="hello"),)),)
    assert conversation.system_instruction == ""
    assert (conversation.functions, conversation.choosing, conversation.allowed_functions) == ((), Choosing.AUTO, ())
    assert (conversation.generation, conversation.constraint, prompt.run) == (Generation(), None, "")


def test_every_part_of_the_history_is_honoured():
    contents = [
        user(Part(text="buy 5 AAPL", signature=b"u")),
        model(
            Part(thought="hm", signature=b"t"),
            Part(text="well", signature=b"x"),
            Part(tool_call=ToolCall(id="c1", name="place_order", arguments_json='{"quantity": "5"}'), signature=b"c"),
        ),
        user(Part(tool_result=ToolResult(call_id="c1", name="place_order", result_json='{"filled": 5}'))),
    ]
    conversation = read(contents=contents, system_instruction="be brief").conversation
    assert conversation.system_instruction == "be brief"
    assert conversation.turns == (
        Turn(speaker=Speaker.USER, parts=(Text(text="buy 5 AAPL", signature=b"u"),)),
        Turn(
            speaker=Speaker.MODEL,
            parts=(
                Thought(text="hm", signature=b"t"),
                Text(text="well", signature=b"x"),
                FunctionCall(id="c1", name="place_order", arguments_json='{"quantity": "5"}', signature=b"c"),
            ),
        ),
        Turn(
            speaker=Speaker.USER,
            parts=(FunctionResult(call_id="c1", name="place_order", result_json='{"filled": 5}'),),
        ),
    )


def test_an_empty_text_with_a_signature_goes_back_as_it_came():
    conversation = read(**history(Part(text="", signature=b"s"))).conversation
    assert conversation.turns[0].parts == (Text(text="", signature=b"s"),)


def test_functions_and_how_to_choose_among_them_are_honoured():
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "number"}}})
    functions = [declares(name="f", description="does", parameters_json_schema=schema), declares(name="g.h-i_j")]
    asked = FunctionCalling(mode=FunctionCallingMode.ANY, allowed_names=["g.h-i_j"])
    conversation = read(functions=functions, function_calling=asked).conversation
    assert conversation.functions == (
        Function(name="f", description="does", parameters_json_schema=schema),
        Function(name="g.h-i_j", description="", parameters_json_schema=OBJECT),
    )
    assert (conversation.choosing, conversation.allowed_functions) == (Choosing.ANY, ("g.h-i_j",))


@pytest.mark.parametrize(
    "mode, choosing",
    [
        (FunctionCallingMode.UNSPECIFIED, Choosing.AUTO),
        (FunctionCallingMode.AUTO, Choosing.AUTO),
        (FunctionCallingMode.ANY, Choosing.ANY),
        (FunctionCallingMode.NONE, Choosing.NONE),
    ],
)
def test_every_mode_is_honoured(mode, choosing):
    assert read(**calling(mode)).conversation.choosing is choosing


def test_every_setting_is_honoured_also_at_its_bounds():
    settings = GenerationSettings(
        temperature=0.0,
        top_p=1.0,
        top_k=1000,
        max_output_tokens=1,
        stop_sequences=["a", "b" * STOP_SEQUENCE_LENGTH_MAX],
        seed=-(2**31),
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        thinking_level=ThinkingLevel.LOW,
        include_thoughts=True,
    )
    assert read(settings=settings).conversation.generation == Generation(
        temperature=0.0,
        top_p=1.0,
        top_k=1000,
        max_output_tokens=1,
        stop_sequences=("a", "b" * STOP_SEQUENCE_LENGTH_MAX),
        seed=-(2**31),
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        thinking=Thinking.LOW,
        include_thoughts=True,
    )


def test_every_thinking_level_has_its_word():
    levels = {level: read(**setting(thinking_level=level)).conversation.generation.thinking for level in ThinkingLevel}
    assert sorted(levels.values()) == sorted(Thinking)


@pytest.mark.parametrize(
    "asked, constraint",
    [
        ({"json_schema": OBJECT}, JsonSchemaConstraint(schema_json=OBJECT)),
        ({"regex": "a+"}, RegexConstraint(pattern="a+")),
        ({"choice": Choice(texts=["a", "b"])}, ChoiceConstraint(texts=("a", "b"))),
    ],
)
def test_every_constraint_is_honoured(asked, constraint):
    assert read(**constrained(**asked)).conversation.constraint == constraint


def test_a_count_reads_the_same_prompt():
    asked = CountTokensRequest(
        model="flash", system_instruction="be brief", contents=[SAID], functions=[declares(name="f")]
    )
    counted = count_prompt(through_the_wire(asked)).conversation
    chatted = read(system_instruction="be brief", functions=[declares(name="f")]).conversation
    assert counted == chatted
    with pytest.raises(RefusedError):
        count_prompt(CountTokensRequest(model="flash"))


def test_the_digest_is_of_every_field():
    digests = {
        read(**fields).digest
        for fields in (
            {},
            {"model": "pro"},
            {"run_id": "run-1"},
            {"system_instruction": "x"},
            {"functions": [declares()]},
            setting(seed=1),
            constrained(regex="a"),
        )
    }
    assert len(digests) == 7
    assert read().digest == read().digest
