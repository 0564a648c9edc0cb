"""The rules of contents, settings and tools, each with the sentence that refuses."""

import msgspec
import pytest

from localcloud.vertex.address import Address
from localcloud.vertex.errors import ApiError
from localcloud.vertex.reading import read_count, read_generate
from localcloud.vertex.signature import FILLER, Seal

SEAL = Seal(1)
SIGNATURE = SEAL.make(b"somewhere")


def address(model="gemini-3.5-flash", method="generateContent"):
    return Address(version="v1", project="p", location="global", publisher="google", model=model, method=method)


def read(model="gemini-3.5-flash", **members):
    members.setdefault("contents", [{"role": "user", "parts": [{"text": "hi"}]}])
    return read_generate(msgspec.json.encode(members), address(model), SEAL)


def refused(model="gemini-3.5-flash", **members):
    with pytest.raises(ApiError) as caught:
        read(model, **members)
    assert caught.value.code == 400
    return caught.value.message


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def model_turn(*parts):
    return {"role": "model", "parts": list(parts)}


def text(words):
    return {"text": words}


def call(name="f", signature=SIGNATURE, **args):
    part = {"functionCall": {"name": name, "args": args}}
    return part | ({"thoughtSignature": signature} if signature else {})


def result(name="f", **response):
    return {"functionResponse": {"name": name, "response": response}}


@pytest.mark.parametrize(
    "contents, told",
    [
        ([], "at least one contents field"),
        ([{"role": "assistant", "parts": [{"text": "x"}]}], "valid role: user, model"),
        ([{"parts": [{"text": "x"}]}, {"role": "user", "parts": [{"text": "x"}]}], "valid role"),
        ([user()], "at least one parts field"),
        ([user({})], "has no data"),
        ([user({"thoughtSignature": "AA=="})], "has no data"),
        ([user(call())], "role model"),
        ([user(text("x")), model_turn(result()), user(text("y"))], "role user"),
        ([user({"functionCall": {"args": {}}})], "name of a functionCall is empty"),
        ([user({"executableCode": {"code": "1"}})], "does not support executableCode"),
        ([user({"inlineData": {"data": "AA=="}})], "mimeType"),
        ([user(text("x")), model_turn(text("y"))], "end with a user role"),
        ([user(text("x")), model_turn(call()), user(text("y"))], "number of function response parts"),
        ([user(text("x")), model_turn(call(), call()), user(result())], "number of function response parts"),
        ([user(text("x")), user(result())], "number of function response parts"),
        ([model_turn(call()), user(result())], "immediately after a user turn"),
    ],
)
def test_contents_that_are_refused(contents, told):
    assert told in refused(contents=contents)


def test_a_single_turn_needs_no_role():
    assert read(contents=[{"parts": [{"text": "x"}]}]).turns[0].role == "user"


def test_the_first_call_of_the_current_turn_needs_its_signature():
    history = [user(text("x")), model_turn(call(signature="")), user(result())]
    assert "function call `f` in the 2. content block is missing a `thought_signature`" in refused(contents=history)


def test_parallel_calls_carry_one_signature():
    history = [user(text("x")), model_turn(call(), call(signature="")), user(result(), result())]
    assert read(contents=history).steps_done == 1


def test_each_step_needs_its_own_signature():
    history = [
        user(text("x")),
        model_turn(call()),
        user(result()),
        model_turn(call(signature="")),
        user(result()),
    ]
    assert "in the 4. content block" in refused(contents=history)


def test_turns_before_the_users_last_text_are_not_checked():
    history = [user(text("x")), model_turn(call(signature="")), user(result()), model_turn(text("y")), user(text("z"))]
    assert read(contents=history).steps_done == 0


@pytest.mark.parametrize("filler", [FILLER, "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="])
def test_the_documented_filler_stands_for_a_signature(filler):
    assert read(contents=[user(text("x")), model_turn(call(signature=filler)), user(result())])


@pytest.mark.parametrize("forged", ["AAAA", SIGNATURE[:-8] + "AAAAAAA=", Seal(2).make(b"somewhere")])
def test_signatures_of_others_are_refused(forged):
    history = [user(text("x")), model_turn(call(signature=forged)), user(result())]
    assert "not valid" in refused(contents=history)


def test_older_models_ask_for_no_signature():
    history = [user(text("x")), model_turn(call(signature="")), user(result())]
    assert read("gemini-2.5-pro", contents=history)


@pytest.mark.parametrize(
    "config, told",
    [
        ({"maxOutputTokens": 0}, "maxOutputTokens value of 0"),
        ({"maxOutputTokens": 65537}, "from 1 to 65536"),
        ({"temperature": 2.1}, "temperature"),
        ({"topP": 1.5}, "topP"),
        ({"presencePenalty": -3}, "presencePenalty"),
        ({"candidateCount": 2}, "Multiple candidates"),
        ({"stopSequences": list("abcdef")}, "At most 5 stopSequences"),
        ({"stopSequences": [""]}, "must not be empty"),
        ({"responseModalities": ["IMAGE"]}, "TEXT only"),
        ({"responseLogprobs": True}, "responseLogprobs is not enabled"),
        ({"speechConfig": {"languageCode": "de"}}, "speechConfig is not enabled"),
        ({"responseMimeType": "text/html"}, "not supported"),
        ({"responseJsonSchema": {"type": "object"}}, "needs a responseMimeType"),
        ({"responseMimeType": "text/x.enum"}, "needs a responseSchema with an enum"),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}, "responseJsonSchema": {}},
            "Only one of",
        ),
        ({"responseMimeType": "application/json", "responseJsonSchema": [1]}, "must be a JSON object"),
        ({"thinkingConfig": {"thinkingBudget": 100}}, "Thinking budget is not supported"),
        ({"thinkingConfig": {"thinkingBudget": 100, "thinkingLevel": "LOW"}}, "only one of"),
    ],
)
def test_settings_that_are_refused(config, told):
    assert told in refused(generationConfig=config)


def test_older_models_take_a_budget_and_no_level():
    assert "Thinking level is not supported" in refused(
        "gemini-2.5-pro", generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}
    )
    assert "invalid" in refused("gemini-2.5-pro", generationConfig={"thinkingConfig": {"thinkingBudget": -2}})
    read_back = read("gemini-2.5-pro", generationConfig={"thinkingConfig": {"thinkingBudget": 10}})
    assert read_back.settings.thinking_budget == 10


@pytest.mark.parametrize(
    "tools, config, told",
    [
        ([{"googleSearch": {}}], {}, "googleSearch is not supported"),
        ([{"functionDeclarations": [{"name": "1f"}]}], {}, "Invalid function name"),
        ([{"functionDeclarations": [{"name": "f"}, {"name": "f"}]}], {}, "Duplicate function declaration"),
        ([{"functionDeclarations": [{"name": "f", "parameters": {"type": "STRING"}}]}], {}, "type OBJECT"),
        (
            [{"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}],
            {},
            "only one of parameters",
        ),
        ([], {"mode": "ANY"}, "at least one function declaration"),
        ([{"functionDeclarations": [{"name": "f"}]}], {"allowedFunctionNames": ["f"]}, "ANY or VALIDATED"),
        ([{"functionDeclarations": [{"name": "f"}]}], {"mode": "ANY", "allowedFunctionNames": ["g"]}, "`g`"),
        ([{"functionDeclarations": [{"name": "f"}]}], {"streamFunctionCallArguments": True}, "not supported"),
    ],
)
def test_tools_that_are_refused(tools, config, told):
    assert told in refused(tools=tools, toolConfig={"functionCallingConfig": config})


def test_allowed_names_limit_what_may_be_called():
    tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["g"]}}
    assert [function.name for function in read(tools=tools, toolConfig=config).tooling.callable_functions] == ["g"]
    assert read(tools=tools, toolConfig={"functionCallingConfig": {"mode": "NONE"}}).tooling.callable_functions == ()


def test_what_is_not_provided_is_refused_and_not_dropped():
    assert "modelArmorConfig" in refused(modelArmorConfig={"promptTemplateName": "t"})
    assert "text parts only" in refused(
        systemInstruction={"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}
    )
    with pytest.raises(ApiError) as caught:
        read(cachedContent="projects/p/locations/global/cachedContents/1")
    assert caught.value.code == 404


def test_a_model_in_the_body_must_be_the_one_of_the_path():
    body = msgspec.json.encode({"model": "other", "contents": {"parts": {"text": "x"}}})
    with pytest.raises(ApiError, match="not the one of the path"):
        read_generate(body, address(), SEAL)


def test_counting_does_not_ask_who_has_the_last_word():
    body = msgspec.json.encode({"contents": [user(text("x")), model_turn(text("y"))]})
    assert len(read_count(body, address(method="countTokens")).turns) == 2
    with pytest.raises(ApiError, match="instances"):
        read_count(msgspec.json.encode({"instances": [1], "contents": [user(text("x"))]}), address())
