"""What an encoder refuses, and what it writes."""

import enum
import math
from decimal import Decimal

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
from generated.agentic.gateway.v1.codec import CODECS, decode_ChatRequest, encode_ChatEvent, encode_ChatRequest
from generated.agentic.wire.v1 import ErrorInfo, Status
from generated.agentic.wire.v1 import codec as wire_codec
from generated.wire_format import EncodeError, length


class Word(enum.StrEnum):
    A = "a"


class MixedIn(str, enum.Enum):  # noqa: UP042 # its str() is "MixedIn.A", which must not be what is written
    A = "a"


class Number(enum.IntEnum):
    SEVEN = 7


def settings(**fields):
    return ChatRequest(settings=GenerationSettings(**fields))


REFUSED = {
    "None for a string": (ChatRequest(model=None), "ChatRequest.model: needs str, not NoneType"),
    "bytes for a string": (ChatRequest(model=b"a"), "ChatRequest.model: needs str, not bytes"),
    "zero for a string": (ChatRequest(model=0), "ChatRequest.model: needs str, not int"),
    "string for bytes": (Part(signature="a"), "Part.signature: needs bytes, not str"),
    "bytearray for bytes": (Receipt(leaf_hash=bytearray(b"a")), "Receipt.leaf_hash: needs bytes, not bytearray"),
    "float for an integer": (Usage(input_tokens=1.0), "Usage.input_tokens: needs int, not float"),
    "zero as a float for an integer": (Usage(input_tokens=0.0), "Usage.input_tokens: needs int, not float"),
    "truth value for an integer": (Usage(input_tokens=True), "Usage.input_tokens: needs int, not bool"),
    "False for an integer": (Usage(input_tokens=False), "Usage.input_tokens: needs int, not bool"),
    "Decimal for an integer": (Usage(input_tokens=Decimal(1)), "Usage.input_tokens: needs int, not Decimal"),
    "string for an integer": (Usage(input_tokens="1"), "Usage.input_tokens: needs int, not str"),
    "int64 too great": (Usage(input_tokens=2**63), "Usage.input_tokens: 9223372036854775808 is outside of"),
    "int64 too small": (Usage(input_tokens=-(2**63) - 1), "is outside of"),
    "int32 too great": (settings(top_k=2**31), "GenerationSettings.top_k: 2147483648 is outside of"),
    "int32 too small": (settings(top_k=-(2**31) - 1), "is outside of"),
    "integer for a truth value": (settings(include_thoughts=1), "include_thoughts: needs bool, not int"),
    "None for a truth value": (settings(include_thoughts=None), "include_thoughts: needs bool, not NoneType"),
    "string for a float": (settings(temperature="0.5"), "temperature: needs float, not str"),
    "Decimal for a float": (settings(temperature=Decimal("0.5")), "temperature: needs float, not Decimal"),
    "truth value for a float": (settings(temperature=True), "temperature: needs float, not bool"),
    "integer that no float equals": (settings(temperature=2**53 + 1), "temperature: needs float, not int"),
    "other enum": (Content(role=Effect.READ), "Content.role: needs Role, not Effect"),
    "truth value for an enum": (Content(role=True), "Content.role: needs Role, not bool"),
    "name for an enum": (Content(role="USER"), "Content.role: needs Role, not str"),
    "enum too great": (Content(role=2**31), "Content.role: 2147483648 is outside of"),
    "other message": (ChatEvent(text=Usage()), "needs TextDelta, not Usage"),
    "dict for a message": (ChatRequest(settings={}), "needs GenerationSettings, not dict"),
    "None in a list of messages": (ChatRequest(contents=[None]), "needs Content, not NoneType"),
    "None for a list": (ChatRequest(contents=None), "ChatRequest.contents: needs list, not NoneType"),
    "string for a list of strings": (settings(stop_sequences="end"), "stop_sequences: needs list, not str"),
    "message for a list of messages": (ChatRequest(contents=Content()), "contents: needs list, not Content"),
    "number in a list of strings": (settings(stop_sequences=["a", 1]), "stop_sequences: needs str, not int"),
    "half a surrogate pair": (ChatRequest(run_id="a\ud800"), "ChatRequest.run_id: the text holds half"),
    "half a surrogate pair in a list": (settings(stop_sequences=["\udfff"]), "stop_sequences: the text holds half"),
    "two members of a oneof": (Part(text="a", thought="b"), "Part.kind: only one of text, thought, tool_call"),
    "two empty members of a oneof": (Part(text="", thought=""), "Part.kind: only one of"),
    "first and last member of a oneof": (ChatEvent(text=TextDelta(), finish=False), "ChatEvent.event: only one of"),
    "None in a map": (ErrorInfo(metadata={"a": None}), "needs str, not NoneType"),
    "number as a map's key": (ErrorInfo(metadata={1: "a"}), "needs str, not int"),
    "list for a map": (ErrorInfo(metadata=[("a", "b")]), "ErrorInfo.metadata: needs dict, not list"),
    "half a surrogate pair in a map": (ErrorInfo(metadata={"a": "\ud800"}), "ErrorInfo.metadata: the text holds half"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    message, sentence = REFUSED[name]
    encode = (CODECS | wire_codec.CODECS)[type(message)].encode
    with pytest.raises(EncodeError) as refusal:
        encode(message)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"{refusal.value.field}: ")


def test_each_function_writes_its_own_message_only():
    for other in (Usage(), None, "a", ListModelsRequest):
        with pytest.raises(EncodeError, match=r"^agentic.gateway.v1.ChatRequest: needs ChatRequest, not"):
            encode_ChatRequest(other)


def test_a_field_that_no_reader_could_hold_is_refused():
    assert length(2**31 - 1, "a.b") == b"\xff\xff\xff\xff\x07"
    with pytest.raises(EncodeError, match=r"a\.b: has 2147483648 bytes"):
        length(2**31, "a.b")


def test_defaults_are_not_written():
    assert encode_ChatRequest(ChatRequest()) == b""
    assert CODECS[ListModelsRequest].encode(ListModelsRequest()) == b""


def test_what_is_optional_is_written_even_where_it_is_zero():
    message = ChatRequest(settings=GenerationSettings(temperature=0.0, top_k=0, seed=-1))
    written = encode_ChatRequest(message)
    assert written == b"\x32\x16\x09" + bytes(8) + b"\x18\x00\x30" + b"\xff" * 9 + b"\x01"
    assert decode_ChatRequest(written) == message


def test_an_empty_member_of_a_oneof_is_written():
    assert CODECS[Part].encode(Part(text="")) == b"\x0a\x00"
    assert encode_ChatEvent(ChatEvent(text=TextDelta())) == b"\x12\x00"


def test_subclasses_of_the_fields_type_are_written_as_their_value():
    assert encode_ChatRequest(ChatRequest(model=Word.A, run_id=MixedIn.A)) == b"\x0a\x01a\x42\x01a"
    assert CODECS[Usage].encode(Usage(input_tokens=Number.SEVEN)) == b"\x08\x07"
    assert CODECS[Content].encode(Content(role=Role.USER)) == CODECS[Content].encode(Content(role=1)) == b"\x08\x01"
    assert CODECS[Content].encode(Content(role=Role(99))) == b"\x08\x63"


def test_a_tuple_is_a_list_and_an_exact_integer_is_a_float():
    message = settings(stop_sequences=("a", "b"), temperature=1)
    assert decode_ChatRequest(encode_ChatRequest(message)).settings == GenerationSettings(
        stop_sequences=["a", "b"], temperature=1.0
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e-320])
def test_every_double_can_be_written(value):
    found = decode_ChatRequest(encode_ChatRequest(settings(temperature=value))).settings.temperature
    assert repr(found) == repr(value)


def test_negative_numbers_take_ten_bytes():
    assert wire_codec.encode_Status(Status(code=-1)) == b"\x08" + b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize("size", [127, 128, 16383, 16384, 70_000])
def test_lengths_of_every_size(size):
    message = ChatRequest(model="x" * size, contents=[Content(parts=[Part(signature=b"y" * size)])])
    assert decode_ChatRequest(encode_ChatRequest(message)) == message


# Every field type


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("an_int32", -(2**31), 2**31 - 1),
        ("an_int64", -(2**63), 2**63 - 1),
        ("a_uint32", 0, 2**32 - 1),
        ("a_uint64", 0, 2**64 - 1),
        ("a_sint32", -(2**31), 2**31 - 1),
        ("a_sint64", -(2**63), 2**63 - 1),
        ("a_fixed32", 0, 2**32 - 1),
        ("a_fixed64", 0, 2**64 - 1),
        ("an_sfixed32", -(2**31), 2**31 - 1),
        ("an_sfixed64", -(2**63), 2**63 - 1),
    ],
)
def test_integers_keep_their_range(probe, field, low, high):
    for value in (low, high, 0, 1):
        message = probe.Scalars(**{field: value})
        assert probe.decode_Scalars(probe.encode_Scalars(message)) == message
    for value in (low - 1, high + 1):
        with pytest.raises(probe.EncodeError, match=f"probe.v1.Scalars.{field}: {value} is outside of {low} to {high}"):
            probe.encode_Scalars(probe.Scalars(**{field: value}))


def test_a_float_beyond_32_bits_is_refused(probe):
    with pytest.raises(probe.EncodeError, match="beyond the range of 32 bits"):
        probe.encode_Scalars(probe.Scalars(a_float=1e300))
    with pytest.raises(probe.EncodeError, match="beyond the range of 32 bits"):
        probe.encode_Lists(probe.Lists(floats=[1.0, 1e300]))
    assert probe.encode_Scalars(probe.Scalars(a_float=math.inf)) == b"\x15\x00\x00\x80\x7f"


def test_negative_zero_is_not_the_default(probe):
    assert probe.encode_Scalars(probe.Scalars(a_double=-0.0)) == b"\x09" + bytes(7) + b"\x80"
    assert probe.encode_Scalars(probe.Scalars(a_double=0.0)) == b""


def test_items_of_packed_lists_are_looked_at(probe):
    for lists in ({"int32s": [1, 2**31]}, {"int32s": [True]}, {"colours": [None]}, {"doubles": ["1"]}, {"bools": [1]}):
        with pytest.raises(probe.EncodeError):
            probe.encode_Lists(probe.Lists(**lists))


def test_a_message_that_holds_itself_is_refused(probe):
    tree = probe.Tree()
    tree.left = tree
    with pytest.raises(probe.EncodeError, match="nested more than 100 deep"):
        probe.encode_Tree(tree)


def test_100_levels_are_written_and_read_and_101_are_not(probe):
    tree = probe.Tree(value=1)
    for _ in range(100):
        tree = probe.Tree(left=tree)
    written = probe.encode_Tree(tree)
    assert probe.encode_Tree(probe.decode_Tree(written)) == written
    with pytest.raises(probe.EncodeError, match="nested more than 100 deep"):
        probe.encode_Tree(probe.Tree(left=tree))


def test_names_that_python_or_the_generator_use_do_no_harm(probe):
    names = probe.Names(
        from_="a", message="b", data=b"c", size=-1, out=["d", ""], class_=True, value=2, camel_case="e", end=0, tag=3,
        text=0.5, int=4, list=[5, 6],
    )  # fmt: skip
    assert probe.decode_Names(probe.encode_Names(names)) == names


def test_maps_of_every_kind(probe):
    maps = probe.Maps(
        texts={"": "", "a": "b"},
        some_bytes={-1: b"", 5: b"x"},
        doubles={-(2**63): -0.0},
        colours={7: probe.Colour.BLUE, 8: probe.Colour(55)},
        trees={2**64 - 1: probe.Tree(flag=False)},
        points={"p": probe.Point(x=-1, shapes=[probe.Shape.SQUARE])},
    )
    assert probe.decode_Maps(probe.encode_Maps(maps)) == maps
    with pytest.raises(probe.EncodeError, match=r"Maps.colours.value: needs Colour, not NoneType"):
        probe.encode_Maps(probe.Maps(colours={1: None}))
