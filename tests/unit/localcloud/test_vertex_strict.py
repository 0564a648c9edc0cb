"""Bodies are read as protobuf's JSON mapping says, and refused with the path of every violation."""

import base64

import msgspec
import pytest

from localcloud.vertex.errors import ApiError
from localcloud.vertex.strict import read_body


def read(document, version="v1", message="GenerateContentRequest"):
    return read_body(msgspec.json.encode(document), message, version)


def refused(document, **more):
    with pytest.raises(ApiError) as caught:
        read(document, **more)
    assert caught.value.code == 400
    assert caught.value.status == "INVALID_ARGUMENT"
    return caught.value


def test_both_spellings_read_alike():
    camel = {"systemInstruction": {"parts": [{"text": "a"}]}, "generationConfig": {"maxOutputTokens": 5}}
    snake = {"system_instruction": {"parts": [{"text": "a"}]}, "generation_config": {"max_output_tokens": 5}}
    assert read(camel) == read(snake)


def test_a_single_value_stands_for_an_array_of_one():
    assert read({"contents": {"parts": {"text": "hi"}}}) == {"contents": [{"parts": [{"text": "hi"}]}]}


def test_null_is_absent():
    assert read({"contents": None, "generationConfig": {"seed": None}}) == {"generationConfig": {}}


@pytest.mark.parametrize("given", [7, 7.0, "7"])
def test_integers_come_as_numbers_and_strings(given):
    assert read({"generationConfig": {"seed": given}})["generationConfig"] == {"seed": 7}


@pytest.mark.parametrize("given", [7.5, "7.5", "", "x", True, 2**31, str(-(2**31) - 1), "\uff19", [7], {}])
def test_what_is_no_int32_is_refused(given):
    error = refused({"generationConfig": {"seed": given}})
    assert "generation_config.seed" in error.message


@pytest.mark.parametrize("given", ["ANY", "any", 2])
def test_enums_by_name_or_number(given):
    document = {"toolConfig": {"functionCallingConfig": {"mode": given}}}
    assert read(document)["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"


@pytest.mark.parametrize("given", ["SOMETIMES", 4, True, 2.0])
def test_unknown_enum_values_are_refused(given):
    error = refused({"toolConfig": {"functionCallingConfig": {"mode": given}}})
    assert "Mode" in error.message


@pytest.mark.parametrize("given", ["_-8", "/+8=", "/+8"])
def test_bytes_in_both_alphabets(given):
    part = {"text": "x", "thoughtSignature": given}
    read_part = read({"contents": {"parts": part}})["contents"][0]["parts"][0]
    assert base64.b64decode(read_part["thoughtSignature"]) == b"\xff\xef"


def test_bytes_that_are_no_base64_are_refused():
    assert "Base64" in refused({"contents": {"parts": {"text": "x", "thoughtSignature": "%%%"}}}).message


def test_every_violation_is_told_with_its_path():
    error = refused({"contents": [{"parts": [{"text": 1, "tixt": "a"}]}], "colour": "red"})
    told = {(item["field"], item["description"]) for item in error.details[0]["fieldViolations"]}
    assert error.details[0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert ("contents[0].parts[0].text", "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 1") in told
    assert {field for field, _ in told} == {"contents[0].parts[0].text", "contents[0].parts[0]", ""}
    assert "Unknown name \"tixt\" at 'contents[0].parts[0]': Cannot find field." in error.message
    assert 'Unknown name "colour": Cannot find field.' in error.message


def test_only_one_member_of_a_oneof():
    error = refused({"contents": {"parts": {"text": "a", "functionCall": {"name": "f"}}}})
    assert "oneof field 'data' is already set. Cannot set 'functionCall'" in error.message


def test_a_member_in_both_spellings_is_refused():
    assert "already set" in refused({"generationConfig": {"topP": 0.5, "top_p": 0.5}}).message


def test_an_array_where_none_is_expected():
    assert "is not repeating" in refused({"generationConfig": [{}]}).message


def test_an_object_is_no_text_and_a_text_no_object():
    assert "Content" in refused({"contents": ["hello"]}).message
    assert "Struct" in refused({"contents": {"parts": {"functionCall": {"name": "f", "args": "x"}}}}).message


def test_ids_of_calls_are_known_to_v1beta1_only():
    document = {"contents": {"parts": {"functionCall": {"name": "f", "id": "1"}}}}
    assert read(document, version="v1beta1")["contents"][0]["parts"][0]["functionCall"]["id"] == "1"
    assert 'Unknown name "id"' in refused(document).message


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b'{"contents": NaN}', b'{"a":1,}'])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError) as caught:
        read_body(body, "GenerateContentRequest", "v1")
    assert caught.value.code == 400


def test_deep_nesting_is_refused():
    schema: dict[str, object] = {"type": "STRING"}
    for _ in range(150):
        schema = {"type": "ARRAY", "items": schema}
    assert "too deep" in refused({"generationConfig": {"responseSchema": schema}}).message
    with pytest.raises(ApiError):
        read_body(b"[" * 100_000, "GenerateContentRequest", "v1")


def test_violations_are_bounded():
    error = refused({f"x{number}": 1 for number in range(500)})
    assert len(error.details[0]["fieldViolations"]) == 20
