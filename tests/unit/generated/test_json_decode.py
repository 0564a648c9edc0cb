"""What the JSON reader refuses, with which sentence and path, and what it bounds."""

import importlib
import json
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from generated.agentic.gateway.v1 import ChatRequest, Content, GenerationSettings, Part, Role, ToolCall, Usage
from generated.agentic.gateway.v1.json_codec import JSON_CODECS, decode_ChatRequest, decode_Part, decode_Usage
from generated.agentic.wire.v1.json_codec import decode_ErrorInfo
from generated.json_format import MAX_BRACKETS, MAX_MESSAGES, JsonDecodeError, parsed


@pytest.fixture(scope="session")
def trees(probe):
    """The JSON codec of the package that holds every field type."""
    return importlib.import_module(f"{probe.folder.name}.probe.v1.json_codec")


REFUSED = {
    "unknown field": ('{"modle":"a"}', "modle: agentic.gateway.v1.ChatRequest has no such field"),
    "unknown field inside": (
        '{"contents":[{},{"parts":[{"tekst":"a"}]}]}',
        "contents[1].parts[0].tekst: agentic.gateway.v1.Part has no such field",
    ),
    "known field in another spelling": ('{"RunId":"a"}', "RunId: agentic.gateway.v1.ChatRequest has no such field"),
    "one key twice": ('{"model":"a","model":"a"}', "model: the field stands twice in one object"),
    "one field by both names": ('{"runId":"a","run_id":"a"}', "run_id: the field stands twice in one object"),
    "two members of a oneof": (
        '{"contents":[{"parts":[{"text":"a","toolCall":{}}]}]}',
        "contents[0].parts[0].toolCall: only one of this and text may be set",
    ),
    "number for a string": ('{"model":1}', "model: needs a string, not a number"),
    "fraction for a string": ('{"model":1.5}', "model: needs a string, not a number"),
    "object for a string": ('{"model":{}}', "model: needs a string, not an object"),
    "string for an object": ('{"settings":"a"}', "settings: needs an object, not a string"),
    "array for an object": ('{"settings":[]}', "settings: needs an object, not an array"),
    "object for an array": ('{"contents":{}}', "contents: needs an array, not an object"),
    "null in an array": ('{"contents":[null]}', "contents[0]: needs an object, not null"),
    "null in an array of strings": (
        '{"settings":{"stopSequences":["a",null]}}',
        "settings.stopSequences[1]: needs a string, not null",
    ),
    "string for true": (
        '{"settings":{"includeThoughts":"true"}}',
        "includeThoughts: needs true or false, not a string",
    ),
    "true for an integer": ('{"settings":{"topK":true}}', "settings.topK: needs an integer, not true"),
    "false for a number": ('{"settings":{"topP":false}}', "settings.topP: needs a number, not false"),
    "fraction for an integer": ('{"settings":{"topK":0.5}}', "settings.topK: needs an integer: without fraction"),
    "integer that is rounded": ('{"settings":{"seed":1.00000000000000000001}}', "needs an integer: without fraction"),
    "int32 too great": ('{"settings":{"topK":2147483648}}', "topK: the number is outside of -2147483648 to 2147483647"),
    "int32 too small": ('{"settings":{"topK":"-2147483649"}}', "topK: the number is outside of"),
    "integer of 5000 digits": ('{"settings":{"topK":%s}}' % ("1" * 5000), "a number has too many digits"),
    "integer of 5000 digits in a string": ('{"settings":{"topK":"%s"}}' % ("1" * 5000), "too many digits"),
    "exponent beyond all": ('{"settings":{"topK":1e-9999999999999999999}}', "topK: needs an integer"),
    "double too great": ('{"settings":{"topP":1e309}}', "topP: the number is beyond the range of 64 bits"),
    "integer too great for a double": ('{"settings":{"topP":1%s}}' % ("0" * 309), "beyond the range of 64 bits"),
    "NaN": ('{"settings":{"topP":NaN}}', "not JSON: NaN is written as a string"),
    "-Infinity": ('{"settings":{"topP":-Infinity}}', "not JSON: -Infinity is written as a string"),
    "no number": ('{"settings":{"topP":"half"}}', "topP: needs a number, not another string"),
    "unknown name of an enum": (
        '{"contents":[{"role":"ROLE_USR"}]}',
        "contents[0].role: Role has no value of the name 'ROLE_USR'",
    ),
    "number in a string for an enum": ('{"contents":[{"role":"1"}]}', "Role has no value of the name '1'"),
    "half a surrogate pair": ('{"model":"a\\ud800b"}', "model: the text holds half of a surrogate pair"),
    "half a surrogate pair as a key": ('{"\\ud800":1}', "\\ud800: agentic.gateway.v1.ChatRequest has no such field"),
    "a line break in a key": ('{"a\\nb":1}', "a\\nb: agentic.gateway.v1.ChatRequest has no such field"),
    "a long key": ('{"%s":1}' % ("k" * 100), "k" * 64 + ": agentic"),
    "nothing": ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    "a member cut off": ('\n{"model":', "not JSON: Expecting value: line 2 column 10 (char 10)"),
    "more behind the object": ('{"model":"a"}\n{}', "more follows behind the value, at character 13"),
    "a control character": ('{"model":"a\tb"}', "not JSON: Invalid control character"),
    "bytes that are not UTF-8": (b'{"model":"\xff"}', "not UTF-8 at byte 10"),
    "a surrogate in UTF-8": (b'{"model":"\xed\xa0\x80"}', "not UTF-8 at byte 10"),
    "a mark of byte order": (b"\xef\xbb\xbf{}", "not JSON: "),
    "a list": ([1], "a message is read from bytes or text, not from list"),
    "None": (None, "a message is read from bytes or text, not from NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_json(name):
    data, sentence = REFUSED[name]
    with pytest.raises(JsonDecodeError) as refusal:
        decode_ChatRequest(data)
    assert sentence in str(refusal.value)
    assert str(refusal.value).isascii()
    assert isinstance(refusal.value, ValueError)
    assert str(refusal.value) == ": ".join(filter(None, (refusal.value.path, refusal.value.sentence)))


def test_bytes_and_maps_name_their_path_too():
    with pytest.raises(JsonDecodeError, match=r"^signature: needs base64, whose padding is whole or left out$"):
        decode_Part('{"signature":"QQ="}')
    with pytest.raises(JsonDecodeError, match=r"^signature: needs base64$"):
        decode_Part('{"signature":"Q*=="}')
    with pytest.raises(JsonDecodeError) as refusal:
        decode_ErrorInfo('{"metadata":{"a":"b","\\u00e9":5}}')
    assert (refusal.value.path, refusal.value.sentence) == (r"metadata['\xe9']", "needs a string, not a number")
    with pytest.raises(JsonDecodeError, match=r"metadata\['a'\]: the key stands twice in one map"):
        decode_ErrorInfo('{"metadata":{"a":"b","a":"b"}}')


def test_a_message_is_read_from_bytes_and_text_by_both_names():
    wanted = ChatRequest(
        model="m",
        contents=[Content(role=Role.USER, parts=[Part(tool_call=ToolCall(id="1"), signature=b"\xfb")])],
        settings=GenerationSettings(top_k=100, temperature=0.5, max_output_tokens=0),
    )
    settings = '{"topK":1e2,"temperature":0.5,"maxOutputTokens":"0","seed":null}'
    text = (
        '{"model":"m","contents":[{"role":1,"parts":[{"%s":{"id":"1"},"signature":"-w"}]}],"settings":%s,"runId":null}'
    )
    for name in ("toolCall", "tool_call"):
        whole = text % (name, settings)
        for data in (whole, whole.encode(), bytearray(whole.encode()), memoryview(f" \t\r\n{whole}\n".encode())):
            assert decode_ChatRequest(data) == wanted


@pytest.mark.parametrize("text", ['"9223372036854775807"', "9223372036854775807"])
def test_64_bits_are_read_exactly(text):
    assert decode_Usage('{"inputTokens":%s}' % text) == Usage(input_tokens=2**63 - 1)  # noqa: UP031 # braces


def test_size_is_bounded():
    assert decode_ChatRequest(b'{"model":"a"}', 13) == decode_ChatRequest('{"model":"a"}', size_max=13)
    for data in (b'{"model":"ab"}', '{"model":"ab"}', b" " * 14):
        with pytest.raises(JsonDecodeError, match="longer than 13 bytes"):
            decode_ChatRequest(data, size_max=13)


def test_messages_are_bounded():
    items = ",".join(["{}"] * (MAX_MESSAGES - 1))
    assert len(decode_ChatRequest('{"contents":[%s]}' % items).contents) == MAX_MESSAGES - 1  # noqa: UP031 # braces
    with pytest.raises(JsonDecodeError, match=f"more than {MAX_MESSAGES} messages within one") as refusal:
        decode_ChatRequest('{"contents":[%s,{}]}' % items)  # noqa: UP031 # braces
    assert refusal.value.path == f"contents[{MAX_MESSAGES - 1}]"
    entries = ",".join(f'"{key}":""' for key in range(MAX_MESSAGES))
    with pytest.raises(JsonDecodeError, match=f"metadata: more than {MAX_MESSAGES} messages within one"):
        decode_ErrorInfo('{"metadata":{%s}}' % entries)  # noqa: UP031 # braces


def test_brackets_are_counted_before_anything_is_built():
    for text in ("[" * (MAX_BRACKETS + 1), '{"a":[' + "{}," * MAX_BRACKETS + "{}]}"):
        with pytest.raises(JsonDecodeError, match=f"more than {MAX_BRACKETS} objects and arrays"):
            decode_ChatRequest(text)


def test_brackets_in_strings_do_not_count():
    whole = '[{"\\' * MAX_BRACKETS
    assert decode_ChatRequest(json.dumps({"model": whole})).model == whole


def test_brackets_behind_a_string_that_ends_with_a_backslash_count():
    for end in ("\\\\", '\\\\\\"\\\\', "\\n"):
        with pytest.raises(JsonDecodeError, match=f"more than {MAX_BRACKETS} objects and arrays"):
            decode_ChatRequest('{"model":"' + end + '","contents":[' + "{}," * MAX_BRACKETS + "{}]}")


def test_a_string_that_never_ends_is_looked_at_once():
    """A search that began anew at each of its quotes would take hours."""
    with pytest.raises(JsonDecodeError, match="not JSON"):
        parsed('{"' + '\\"[' * 1_000_000, 1 << 30)


# Depth


def nested(levels, before='{"left":', after="}"):
    return before * (levels - 1) + "{}" + after * (levels - 1)


DEPTHS = {
    "100 messages": (nested(100), True),
    "101 messages": (nested(101), False),
    "100 messages through maps": (nested(100, '{"named":{"a":', "}}"), True),
    "101 messages through maps": (nested(101, '{"named":{"a":', "}}"), False),
    "101 members of a oneof": (nested(101, '{"branch":'), False),
    "400 messages": (nested(400), False),
    "10000 messages": (nested(10_000), False),
    "10000 arrays": ('{"left":' + "[" * 10_000, False),
    "1000000 arrays": ("[" * 1_000_000, False),
    "10000 arrays in an unknown field": ('{"x":' + "[" * 10_000 + "]" * 10_000 + "}", False),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_is_bounded_where_json_format_bounds_it(probe, trees, name):
    text, accepted = DEPTHS[name]
    files = descriptor_pb2.FileDescriptorSet.FromString((probe.folder / "descriptors.bin").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    google = message_factory.GetMessageClass(pool.FindMessageTypeByName("probe.v1.Tree"))
    if accepted:
        json_format.Parse(text, google())
        assert trees.encode_Tree(trees.decode_Tree(text)) == text.encode()
    else:
        with pytest.raises(json_format.ParseError):
            json_format.Parse(text, google())
        with pytest.raises(
            ValueError, match=r"nested (more than 100|too) deep|no such field|more than 40000"
        ) as refusal:
            trees.decode_Tree(text)
        assert type(refusal.value).__name__ == "JsonDecodeError"


# Every field type


def test_the_greatest_float_is_read_as_google_writes_it(trees):
    assert trees.decode_Scalars('{"aFloat":3.4028235e+38}').a_float == 3.4028234663852886e38
    for text in ("3.4028235677973366e38", '"1e39"', "1e39", "-1e39"):
        with pytest.raises(ValueError, match="aFloat: the number is beyond the range of 32 bits"):
            trees.decode_Scalars('{"aFloat":%s}' % text)  # noqa: UP031 # braces


def test_two_keys_of_a_map_that_are_one_number_are_refused(trees):
    with pytest.raises(ValueError, match=r"someBytes\['1.0'\]: the key stands twice in one map"):
        trees.decode_Maps('{"someBytes":{"1":"","1.0":""}}')


def test_map_values_are_not_null(trees):
    for field in ("texts", "doubles", "colours", "trees", "points", "someBytes"):
        with pytest.raises(ValueError, match=rf"{field}\['1'\]: needs .*, not null"):
            trees.decode_Maps(f'{{"{field}":{{"1":null}}}}')


def test_two_names_of_one_enum_value_are_read_and_the_first_is_written(probe):
    names = importlib.import_module(f"{probe.folder.name}.names.v1.json_codec")
    read = names.decode_Renamed('{"aliased":"ALIASED_SECOND","}[{":["ALIASED_FIRST","ALIASED_SECOND",1,5]}')
    assert (
        names.encode_Renamed(read)
        == b'{"}[{":["ALIASED_FIRST","ALIASED_FIRST","ALIASED_FIRST",5],"aliased":"ALIASED_FIRST"}'
    )


def test_the_binary_codec_does_not_import_the_one_of_json():
    program = (
        "import sys; import generated.agentic.gateway.v1.codec;"
        "sys.exit(any('json_' in name and name.startswith('generated') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_message_has_a_codec():
    assert JSON_CODECS[ChatRequest].decode is decode_ChatRequest
