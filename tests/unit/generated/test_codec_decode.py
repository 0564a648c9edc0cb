"""What a decoder refuses, and how it reads what is unusual but right."""

import math
import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as GoogleDecodeError

from generated.agentic.gateway.v1 import ChatRequest, Content, Part, ToolCall, ToolResult
from generated.agentic.gateway.v1.codec import decode_ChatRequest, decode_ListModelsRequest, decode_Part
from generated.agentic.wire.v1.codec import decode_ErrorInfo
from generated.wire_format import MAX_MESSAGES, DecodeError

REFUSED = {
    "nothing behind the tag": (b"\x0a", "field 1 is cut off"),
    "tag cut off": (b"\x8a", "cut off"),
    "length cut off": (b"\x0a\x80", "field 1 is cut off"),
    "string cut off": (b"\x0a\x05abcd", "field 1 is cut off"),
    "inner message cut off": (b"\x1a\x05\x12\x02\x0a\x00", "Content: field 2 is cut off|field 3 is cut off"),
    "inner message longer than its holder": (b"\x1a\x02\x12\x03\x0a\x01a", "Content: field 2 is cut off"),
    "inner varint runs into what follows": (b"\x1a\x02\x08\x80\x01", "Content: field 1 is cut off"),
    "inner tag runs into what follows": (b"\x1a\x01\x88\x01", "Content: field 17 is cut off"),
    "unknown varint cut off": (b"\x98\x06\x80", "field 99 is cut off"),
    "unknown eight bytes cut off": (b"\x99\x061234567", "cut off"),
    "unknown four bytes cut off": (b"\x9d\x06123", "cut off"),
    "double cut off": (b"\x32\x08\x091234567", "GenerationSettings: field 1 is cut off"),
    "tag over 32 bits": (b"\x8a\x80\x80\x80\x10\x00", "does not fit 32 bits"),
    "tag of six bytes": (b"\x8a\x80\x80\x80\x80\x00\x00", "does not fit 32 bits"),
    "length over 31 bits": (b"\x0a\x80\x80\x80\x80\x08", "does not fit 31 bits"),
    "length of six bytes": (b"\x0a\x81\x80\x80\x80\x80\x00a", "does not fit 31 bits"),
    "varint of eleven bytes": (b"\x98\x06" + b"\xff" * 10 + b"\x01", "does not fit 64 bits"),
    "varint over 64 bits": (b"\x98\x06" + b"\xff" * 9 + b"\x02", "does not fit 64 bits"),
    "field number 0, varint": (b"\x00\x01", "has the number 0"),
    "field number 0, sized": (b"\x02\x00", "has the number 0"),
    "field number 0, eight bytes": (b"\x0112345678", "has the number 0"),
    "field number 0, group": (b"\x03\x04", "has the number 0"),
    "field number 0, padded": (b"\x80\x80\x00\x01", "has the number 0"),
    "field number 0 in a group": (b"\x9b\x06\x02\x00\x9c\x06", "unknown group has the number 0"),
    "wire type 6": (b"\x0e\x00", "wire type 6 does not exist"),
    "wire type 7": (b"\x9f\x06\x00", "wire type 7 does not exist"),
    "wire type 6 in a group": (b"\x9b\x06\x0e\x00\x9c\x06", "wire type 6 does not exist"),
    "group never ends": (b"\x9b\x06\x08\x01", "cut off"),
    "group ends behind its holder": (b"\x1a\x02\x9b\x06\x9c\x06", "cut off"),
    "group ends as another": (b"\x9b\x06\xa4\x06", "ends that did not begin"),
    "group ends only": (b"\x9c\x06", "ends that did not begin"),
    "string of wrong bytes": (b"\x0a\x01\xff", "field 1 is not UTF-8"),
    "string of half a surrogate pair": (b"\x0a\x03\xed\xa0\x80", "field 1 is not UTF-8"),
    "string of overlong bytes": (b"\x0a\x02\xc0\x80", "field 1 is not UTF-8"),
    "string in a list of wrong bytes": (b"\x2a\x03\x12\x01\xff", "FunctionCalling: field 2 is not UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    data, sentence = REFUSED[name]
    with pytest.raises(DecodeError, match=sentence) as refusal:
        decode_ChatRequest(data)
    assert 0 <= refusal.value.offset <= len(data) + 8
    assert f"at byte {refusal.value.offset}" in str(refusal.value)


@pytest.mark.parametrize("cut", range(1, 40))
def test_every_prefix_that_cuts_a_field_is_refused(cut):
    whole = b'\x0a\x05model\x1a\x1d\x08\x01\x12\x19\x1a\x14\x0a\x02id\x12\x04name\x1a\x08{"k": 1}\x7a\x01s'
    data = whole[: cut % len(whole)]
    if len(data) in (0, 7):  # between two fields
        decode_ChatRequest(data)
    else:
        with pytest.raises(DecodeError):
            decode_ChatRequest(data)


def test_the_offset_says_where_the_wrong_byte_is():
    with pytest.raises(DecodeError) as refusal:
        decode_ChatRequest(b"\x0a\x05model\x42\x04ab\xffd")
    assert refusal.value.offset == 11


def test_map_strings_must_be_utf8():
    for data in (b"\x1a\x03\x0a\x01\xff", b"\x1a\x03\x12\x01\xff"):
        with pytest.raises(DecodeError, match=r"ErrorInfo.* is not UTF-8"):
            decode_ErrorInfo(data)


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2]])
def test_only_bytes_are_read(data):
    with pytest.raises(DecodeError, match="is read from bytes, not from"):
        decode_ChatRequest(data)


def test_other_buffers_are_read_as_bytes():
    for data in (bytearray(b"\x7a\x01s"), memoryview(b"\x7a\x01s")):
        assert decode_Part(data).signature == b"s"
        assert type(decode_Part(data).signature) is bytes


def test_a_message_that_comes_twice_is_merged():
    data = b"\x1a\x06\x0a\x04\x0a\x02id" + b""
    first, second = b"\x1a\x04\x0a\x02id", b"\x1a\x06\x12\x04name"
    assert decode_Part(first + second) == Part(tool_call=ToolCall(id="id", name="name"))
    assert decode_ChatRequest(data)


def test_the_last_member_of_a_oneof_wins_and_forgets_the_others():
    call, text, result = b"\x1a\x04\x0a\x02id", b"\x0a\x01t", b"\x22\x00"
    assert decode_Part(call + text) == Part(text="t")
    assert decode_Part(text + call) == Part(tool_call=ToolCall(id="id"))
    assert decode_Part(call + result) == Part(tool_result=ToolResult())
    assert decode_Part(call + text + b"\x1a\x00") == Part(tool_call=ToolCall())


def test_the_last_scalar_wins():
    assert decode_ChatRequest(b"\x0a\x01a\x0a\x01b").model == "b"


def test_the_items_of_lists_are_appended_not_merged():
    assert decode_ChatRequest(b"\x1a\x02\x08\x01\x1a\x02\x08\x02") == ChatRequest(
        contents=[Content(role=1), Content(role=2)]
    )


def test_unknown_fields_are_skipped():
    unknown = b"\x98\x06\x01\x99\x0612345678\x9a\x06\x02ab\x9d\x061234\x9b\x06\x0a\x01a\x08\x01\x9c\x06"
    assert decode_ChatRequest(unknown + b"\x0a\x01a" + unknown) == ChatRequest(model="a")


def test_a_field_of_another_wire_type_is_unknown():
    assert decode_ChatRequest(b"\x08\x05\x0d1234\x0912345678\x0b\x0c\x18\x05") == ChatRequest()


def test_optional_fields_tell_zero_from_absent():
    settings = decode_ChatRequest(b"\x32\x0b\x09" + bytes(8) + b"\x18\x00").settings
    assert (settings.temperature, settings.top_p, settings.top_k, settings.seed) == (0.0, None, 0, None)


def test_an_unknown_enum_number_is_kept():
    role = decode_ChatRequest(b"\x1a\x02\x08\x63").contents[0].role
    assert role == 99
    assert type(role).__name__ == "Role"


def test_a_map_entry_may_lack_its_key_or_value():
    assert decode_ErrorInfo(b"\x1a\x00").metadata == {"": ""}
    assert decode_ErrorInfo(b"\x1a\x03\x12\x01v\x1a\x03\x0a\x01k").metadata == {"": "v", "k": ""}
    assert decode_ErrorInfo(b"\x1a\x06\x0a\x01k\x12\x01v\x1a\x06\x0a\x01k\x12\x01w").metadata == {"k": "w"}


def test_a_map_entry_with_an_unknown_field_is_left_out_as_google_does():
    assert decode_ErrorInfo(b"\x1a\x05\x18\x05\x0a\x01k").metadata == {}


def test_too_many_messages_are_refused_before_they_cost_much():
    assert len(decode_ChatRequest(b"\x1a\x00" * (MAX_MESSAGES - 1)).contents) == MAX_MESSAGES - 1
    for field in (b"\x1a\x00", b"\x32\x00"):
        with pytest.raises(DecodeError, match="more than 20000 messages within one"):
            decode_ChatRequest(field * MAX_MESSAGES)


def test_a_message_without_fields_reads_like_any_other():
    decode_ListModelsRequest(b"\x08\x01\x12\x01a")
    for data in (b"\x00\x01", b"\x12\x02a", b"\x0f"):
        with pytest.raises(DecodeError):
            decode_ListModelsRequest(data)


# Every field type


def sized(tag, body):
    size, out = len(body), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return tag + bytes([*out, size]) + body


def nested(tag, levels):
    data = b""
    for _ in range(levels):
        data = sized(tag, data)
    return data


def trees(tag, levels, inner=b""):
    """Trees within trees through a map (two levels each) or a field."""
    data = inner
    for _ in range(levels):
        data = sized(b"\x52", sized(b"\x12", data)) if tag == b"\x52" else sized(tag, data)
    return data


DEPTHS = {
    "100 messages": (trees(b"\x0a", 100), True),
    "101 messages": (trees(b"\x0a", 101), False),
    "101 members of a oneof": (trees(b"\x1a", 101), False),
    "50 map entries with messages": (trees(b"\x52", 50), True),
    "51 map entries with messages": (trees(b"\x52", 51), False),
    "3000 messages": (trees(b"\x0a", 3000), False),
    "100 groups": (b"\xfb\x06" * 100 + b"\xfc\x06" * 100, True),
    "101 groups": (b"\xfb\x06" * 101 + b"\xfc\x06" * 101, False),
    "60 messages, then 40 groups": (trees(b"\x0a", 60, b"\xfb\x06" * 40 + b"\xfc\x06" * 40), True),
    "60 messages, then 41 groups": (trees(b"\x0a", 60, b"\xfb\x06" * 41 + b"\xfc\x06" * 41), False),
    "100 groups side by side": (b"\xfb\x06\xfc\x06" * 100, True),
    "100000 open groups": (b"\xfb\x06" * 100_000, False),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_is_bounded_where_google_bounds_it(probe, name):
    data, accepted = DEPTHS[name]
    files = descriptor_pb2.FileDescriptorSet.FromString((probe.folder / "descriptors.bin").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    google = message_factory.GetMessageClass(pool.FindMessageTypeByName("probe.v1.Tree"))
    if accepted:
        google.FromString(data)
        probe.decode_Tree(data)
    else:
        with pytest.raises(GoogleDecodeError):
            google.FromString(data)
        with pytest.raises(probe.DecodeError, match="nested more than 100 deep"):
            probe.decode_Tree(data)


SCALARS = {
    "double NaN": (b"\x09" + struct.pack("<d", math.nan), "a_double", math.nan),
    "float": (b"\x15" + struct.pack("<f", 0.1), "a_float", struct.unpack("<f", struct.pack("<f", 0.1))[0]),
    "int32 cut to 32 bits": (b"\x18\x85\x80\x80\x80\x10", "an_int32", 5),
    "int32 of five bytes, negative": (b"\x18\xff\xff\xff\xff\x0f", "an_int32", -1),
    "int32 of ten bytes, negative": (b"\x18" + b"\xff" * 9 + b"\x01", "an_int32", -1),
    "int64, least": (b"\x20" + b"\x80" * 9 + b"\x01", "an_int64", -(2**63)),
    "uint32 cut to 32 bits": (b"\x28\x85\x80\x80\x80\x10", "a_uint32", 5),
    "uint64, greatest": (b"\x30" + b"\xff" * 9 + b"\x01", "a_uint64", 2**64 - 1),
    "sint32 cut to 32 bits": (b"\x38\x83\x80\x80\x80\x10", "a_sint32", -2),
    "sint64, least": (b"\x40" + b"\xff" * 9 + b"\x01", "a_sint64", -(2**63)),
    "fixed32": (b"\x4d\xff\xff\xff\xff", "a_fixed32", 2**32 - 1),
    "fixed64": (b"\x51" + b"\xff" * 8, "a_fixed64", 2**64 - 1),
    "sfixed32": (b"\x5d\xff\xff\xff\xff", "an_sfixed32", -1),
    "sfixed64": (b"\x61" + b"\xff" * 8, "an_sfixed64", -1),
    "bool of many bits": (b"\x68\x80\x80\x80\x80\x10", "a_bool", True),
    "bool, padded zero": (b"\x68\x80\x00", "a_bool", False),
    "enum cut to 32 bits": (b"\x80\x01\x81\x80\x80\x80\x10", "a_colour", 1),
    "enum, negative": (b"\x80\x01\xfe" + b"\xff" * 8 + b"\x01", "a_colour", -2),
    "enum of another package": (b"\x88\x01\x01", "a_shape", 1),
    "padded tag, length and varint": (b"\xf2\x80\x80\x80\x00\x81\x80\x00a", "a_string", "a"),
}


@pytest.mark.parametrize("name", SCALARS)
def test_scalars(probe, name):
    data, field, value = SCALARS[name]
    found = getattr(probe.decode_Scalars(data), field)
    assert found == value or (found != found and value != value)
    assert isinstance(found, type(value))


def test_lists_of_scalars_come_packed_and_one_by_one(probe):
    assert probe.decode_Lists(b"\x1a\x02\x01\x02\x18\x03\x1a\x01\x04").int32s == [1, 2, 3, 4]
    assert probe.decode_Lists(b"\x0a\x08" + bytes(8) + b"\x09" + bytes(8)).doubles == [0.0, 0.0]
    assert probe.decode_Lists(b"\x90\x01\x05\x92\x01\x01\x06").unpacked == [5, 6]


@pytest.mark.parametrize("data", [b"\x1a\x01\x80", b"\x1a\x01\x80\x01", b"\x0a\x07" + bytes(7), b"\x0a\x09" + bytes(9)])
def test_packed_lists_must_end_with_their_last_item(probe, data):
    with pytest.raises(probe.DecodeError, match="cut off"):
        probe.decode_Lists(data)


def test_a_message_that_is_a_maps_value_merges_within_its_entry_and_is_replaced_by_the_next(probe):
    twice = b"\x2a\x0a\x08\x01\x12\x02\x10\x05\x12\x02\x22\x00"
    assert probe.decode_Maps(twice).trees == {1: probe.Tree(value=5, leaf="")}
    assert probe.decode_Maps(twice + b"\x2a\x02\x08\x01").trees == {1: probe.Tree()}
