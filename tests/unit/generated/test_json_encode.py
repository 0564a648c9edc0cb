"""What the JSON writer writes, and what it refuses."""

import enum
import importlib
import json
import math

import pytest

from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    Content,
    Effect,
    GenerationSettings,
    ListModelsRequest,
    Part,
    Receipt,
    Role,
    TextDelta,
    Usage,
)
from generated.agentic.gateway.v1.json_codec import JSON_CODECS, encode_ChatEvent, encode_ChatRequest
from generated.agentic.wire.v1 import ErrorInfo
from generated.agentic.wire.v1 import json_codec as wire_codec
from generated.wire_format import EncodeError


@pytest.fixture(scope="session")
def every(probe):
    """The JSON codec of the package that holds every field type."""
    return importlib.import_module(f"{probe.folder.name}.probe.v1.json_codec")


class Word(enum.StrEnum):
    A = "a"


def settings(**fields):
    return ChatRequest(settings=GenerationSettings(**fields))


REFUSED = {
    "None for a string": (ChatRequest(model=None), "ChatRequest.model: needs str, not NoneType"),
    "string for bytes": (Part(signature="a"), "Part.signature: needs bytes, not str"),
    "bytearray for bytes": (Receipt(leaf_hash=bytearray(b"a")), "Receipt.leaf_hash: needs bytes, not bytearray"),
    "truth value for an integer": (Usage(input_tokens=True), "Usage.input_tokens: needs int, not bool"),
    "string for an integer": (Usage(input_tokens="1"), "Usage.input_tokens: needs int, not str"),
    "int64 too great": (Usage(input_tokens=2**63), "Usage.input_tokens: 9223372036854775808 is outside of"),
    "int32 too small": (settings(top_k=-(2**31) - 1), "is outside of"),
    "integer for a truth value": (settings(include_thoughts=1), "include_thoughts: needs bool, not int"),
    "truth value for a float": (settings(temperature=True), "temperature: needs float, not bool"),
    "other enum": (Content(role=Effect.READ), "Content.role: needs Role, not Effect"),
    "enum too great": (Content(role=2**31), "Content.role: 2147483648 is outside of"),
    "other message": (ChatEvent(text=Usage()), "needs TextDelta, not Usage"),
    "None in a list of messages": (ChatRequest(contents=[None]), "needs Content, not NoneType"),
    "string for a list of strings": (settings(stop_sequences="end"), "stop_sequences: needs list, not str"),
    "half a surrogate pair": (ChatRequest(run_id="a\ud800"), "ChatRequest.run_id: the text holds half"),
    "half a surrogate pair inside": (
        ChatRequest(contents=[Content(parts=[Part(text="ok"), Part(text="\udfff")])]),
        "agentic.gateway.v1.ChatRequest.contents.parts.text: the text holds half",
    ),
    "half a surrogate pair in a list": (
        settings(stop_sequences=["\udfff"]),
        "settings.stop_sequences: the text holds half",
    ),
    "half a surrogate pair in a map": (ErrorInfo(metadata={"a": "\ud800"}), "ErrorInfo.metadata: the text holds half"),
    "half a surrogate pair as a key": (ErrorInfo(metadata={"\ud800": ""}), "ErrorInfo.metadata: the text holds half"),
    "two members of a oneof": (Part(text="a", thought="b"), "Part.kind: only one of text, thought, tool_call"),
    "number as a map's key": (ErrorInfo(metadata={1: "a"}), "needs str, not int"),
    "list for a map": (ErrorInfo(metadata=[("a", "b")]), "ErrorInfo.metadata: needs dict, not list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_field_cannot_carry_is_refused(name):
    message, sentence = REFUSED[name]
    with pytest.raises(EncodeError) as refusal:
        (JSON_CODECS | wire_codec.JSON_CODECS)[type(message)].encode(message)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"{refusal.value.field}: ")


def test_each_function_writes_its_own_message_only_as_json():
    for other in (Usage(), None, "a", ListModelsRequest):
        with pytest.raises(EncodeError, match=r"^agentic.gateway.v1.ChatRequest: needs ChatRequest, not"):
            encode_ChatRequest(other)


def test_compact_in_the_order_of_field_numbers_with_camel_case():
    message = ChatRequest(
        model="m",
        system_instruction="s",
        contents=[Content(role=Role.USER, parts=[Part(text="a"), Part(text="")]), Content()],
        settings=GenerationSettings(temperature=0.0, top_k=0, stop_sequences=["a", ""], max_output_tokens=-5),
        run_id="r",
    )
    assert encode_ChatRequest(message) == (
        b'{"model":"m","systemInstruction":"s","contents":[{"role":"ROLE_USER","parts":[{"text":"a"},{"text":""}]},{}],'
        b'"settings":{"temperature":0.0,"topK":0,"maxOutputTokens":-5,"stopSequences":["a",""]},"runId":"r"}'
    )


def test_defaults_are_left_out_and_presence_is_kept():
    assert encode_ChatRequest(ChatRequest()) == JSON_CODECS[ListModelsRequest].encode(ListModelsRequest()) == b"{}"
    assert encode_ChatRequest(settings()) == b'{"settings":{}}'
    assert encode_ChatEvent(ChatEvent(text=TextDelta())) == b'{"text":{}}'


def test_64_bits_bytes_and_enums():
    assert encode_ChatEvent(ChatEvent(sequence=-(2**63))) == b'{"sequence":"-9223372036854775808"}'
    assert JSON_CODECS[Receipt].encode(Receipt(leaf_hash=b"\xfb\xff")) == b'{"leafHash":"+/8="}'
    for role, text in ((Role.MODEL, b'"ROLE_MODEL"'), (2, b'"ROLE_MODEL"'), (Role(99), b"99"), (-1, b"-1")):
        assert JSON_CODECS[Content].encode(Content(role=role)) == b'{"role":%s}' % text


def test_what_is_quoted_of_every_kind_of_number(every, probe):
    kinds = ["int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64"]
    written = every.encode_Lists(probe.Lists(**{f"{kind}s": [1, 2] for kind in kinds}))
    assert {
        name: str(values[0]) if type(values[0]) is int else values for name, values in json.loads(written).items()
    } == {f"{kind}s": ["1", "2"] if kind.endswith("64") else "1" for kind in kinds}


def test_text_is_utf8_with_control_characters_escaped():
    everything = "".join(map(chr, [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0xE9, 0x2028, 0x1F600]))
    written = encode_ChatRequest(ChatRequest(model=everything))
    assert json.loads(written) == {"model": everything}
    assert not any(byte < 0x20 for byte in written)
    assert written.endswith('\\u001f\\"/\\\\\x7fé\u2028\U0001f600"}'.encode())
    assert encode_ChatRequest(ChatRequest(model=Word.A)) == b'{"model":"a"}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, '"NaN"'),
        (math.inf, '"Infinity"'),
        (-math.inf, '"-Infinity"'),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (1e-7, "1e-07"),
        (5e-324, "5e-324"),
        (3, "3.0"),
    ],
)
def test_doubles_are_shortest(value, text):
    assert encode_ChatRequest(settings(temperature=value)) == b'{"settings":{"temperature":%s}}' % text.encode()


def test_floats_are_shortest_in_32_bits(every, probe):
    for value, text in (
        (0.1, "0.1"),
        (0.10000000149011612, "0.1"),
        (16777217.0, "16777216.0"),
        (1 / 3, "0.33333334"),
        (1e-45, "1.4013e-45"),
    ):
        assert every.encode_Scalars(probe.Scalars(a_float=value)) == b'{"aFloat":%s}' % text.encode()
    assert every.encode_Scalars(probe.Scalars(a_float=3.4028234663852886e38)) == b'{"aFloat":3.4028235e+38}'
    assert every.encode_Scalars(probe.Scalars(a_float=-0.0)) == b'{"aFloat":-0.0}'
    assert every.encode_Scalars(probe.Scalars(a_float=1e-60)) == b"{}"
    assert every.encode_Lists(probe.Lists(floats=[math.nan, -math.inf, 0.0])) == b'{"floats":["NaN","-Infinity",0.0]}'
    with pytest.raises(ValueError, match=r"probe.v1.Scalars.a_float: a float is beyond the range of 32 bits"):
        every.encode_Scalars(probe.Scalars(a_float=1e300))


def test_maps(every, probe):
    maps = probe.Maps(
        texts={"": "", "\u00e9\n": "b"},
        some_bytes={-1: b"", 5: b"x"},
        doubles={-(2**63): -0.0},
        colours={7: probe.Colour.BLUE, 8: probe.Colour(55)},
        trees={2**64 - 1: probe.Tree(flag=False)},
        points={"p": probe.Point(x=-1, shapes=[probe.Shape.SQUARE, 9])},
    )
    text = every.encode_Maps(maps)
    assert text.decode() == (
        '{"texts":{"":"","\u00e9\\n":"b"},"someBytes":{"-1":"","5":"eA=="},"doubles":{"-9223372036854775808":-0.0},'
        '"colours":{"7":"COLOUR_BLUE","8":55},"trees":{"18446744073709551615":{"flag":false}},'
        '"points":{"p":{"x":-1,"shapes":["SQUARE",9]}}}'
    )
    assert every.decode_Maps(text) == maps


def test_names_of_json_that_would_break_a_template(probe):
    names = importlib.import_module(f"{probe.folder.name}.names.v1.json_codec")
    message = names.Renamed(here="a", empty="b", braces=5, in_braces={"k": 1}, list=[2], this_one=0.0)
    written = names.encode_Renamed(message)
    assert written.startswith(b'{"":"b","There":"a",')
    assert json.loads(written) == {
        "There": "a", "": "b", "{value}\"\\'\u00e9\n": "5", "{}": {"k": "1"}, "}[{": ["Aliased_mixed"], "thisOne": 0.0,
    }  # fmt: skip
    assert names.decode_Renamed(written) == message


def test_100_levels_are_written_as_json_and_101_are_not(every, probe):
    tree = probe.Tree(value=1)
    for _ in range(99):
        tree = probe.Tree(left=tree)
    assert every.decode_Tree(every.encode_Tree(tree)) == tree
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        every.encode_Tree(probe.Tree(left=tree))
    tree.left = tree
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        every.encode_Tree(tree)
