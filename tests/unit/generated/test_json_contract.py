"""Every field of the contract in JSON, both ways, against google.protobuf's json_format."""

import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

import generated
from generated.json_format import JsonDecodeError

FILES = descriptor_pb2.FileDescriptorSet.FromString(Path(generated.__path__[0], "descriptors.bin").read_bytes())
POOL = descriptor_pool.DescriptorPool()
for each_file in FILES.file:
    POOL.Add(each_file)

STRINGS = ("a", "", "é\u20ac\U0001f600", '"\\/\b\f\n\r\t\x00\x1f\x7f\u2028', "NaN")
FLOATS = (0.1, 1.0, 0.0, -0.0, -1.5, 1e16, 1e-7, 1.1754943508222875e-38, math.nan, math.inf, -math.inf)
VALUES = {
    "string": STRINGS,
    "bytes": (b"a", b"", bytes(range(256)), b"\xfb\xff"),
    "bool": (True, False),
    "double": (*FLOATS, 5e-324, 1e300),
    "float": (*FLOATS, 1e-45, 16777216.0),
    **dict.fromkeys(("int32", "sint32", "sfixed32"), (1, 0, -1, -(2**31), 2**31 - 1)),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), (1, 0, -1, 2**53 + 1, -(2**63), 2**63 - 1)),
    **dict.fromkeys(("uint32", "fixed32"), (1, 0, 2**32 - 1)),
    **dict.fromkeys(("uint64", "fixed64"), (1, 0, 2**64 - 1)),
}
NUMBERS = ("-0", "1.0", "1e2", "1E+1", "100e-2", "10.50e1", '"1"', '"-0"', '"1.0"', '"1e2"')
ACCEPTED = {
    "string": ('"\\u0061\\/\\ud83d\\ude00"', "null"),
    "bytes": ('"-_"', '"+/"', '"QQ"', '"QQ=="', '"QR=="', "null"),
    "bool": ("true", "false", "null"),
    "double": (*NUMBERS, "0.5", "1e308", '"Infinity"', '"-Infinity"', '"NaN"', '"1.5e-3"', "null"),
    "enum": ("0", "1", "1.0", "99", "-1", "null"),
    "int": (*NUMBERS, "null"),
    "message": ("{}", "null"),
}
REFUSED = {
    "string": ("1", "true", "[]", "{}", '"\\ud800"', '"\\ude00\\ud83d"', '"\t"', '"\\x"', "'a'", '"a'),
    "bytes": ("1", "true", "[]", '"Q"', '"Q==="', '"QQ= ="', '"Q\\u00e9=="', '"QQ==QQ=="', '"="', '"\\ud800"'),
    "bool": ('"true"', "1", "0", "[]", "True", '""'),
    "double": ("true", '""', '"a"', "[]", "{}", "NaN", "Infinity", "-Infinity", "1e309", "01", "+1", '"1_0"', '"inf"'),
    "enum": ("true", '""', '"NOBODY"', '"1"', "1.5", "2147483648", "4294967296", "[]", "{}", "1e99", "NaN"),
    "int": (
        "true", '""', '"a"', "[]", "{}", "0.5", "1e-1", '"0.5"', "NaN", '"NaN"', "1e99", '"1e99"', "9" * 5000, "01",
        '"01"', '" 1"', '"1_0"', '"+1"', '"0x1"', "1.00000000000000000001", "9007199254740993.0",
        "18446744073709551616", "-9223372036854775809", "1e-99999999999999999999", '"\\u0661"',
    ),
    "message": ("[]", '""', "1", "true", "[{}]", '"{}"'),
}  # fmt: skip
NARROW = {
    "float": ("1e39", '"1e39"', "1" * 40),
    "int32": ("2147483648", '"-2147483649"'),
    "uint32": ("4294967296", "-1"),
}


def messages(holder):
    for message in holder:
        yield message.full_name
        yield from messages(each for each in message.nested_types if not each.GetOptions().map_entry)


NAMES = sorted(
    name
    for file in FILES.file
    if not file.package.startswith("google.")  # described for clients; no code is made of them
    for name in messages(POOL.FindFileByName(file.name).message_types_by_name.values())
)
FIELDS = [field.full_name for name in NAMES for field in POOL.FindMessageTypeByName(name).fields]


def subject(descriptor):
    """The functions for one message type in both libraries."""
    package = f"generated.{descriptor.file.package}"
    ours = getattr(
        importlib.import_module(package),
        descriptor.full_name.removeprefix(f"{descriptor.file.package}.").replace(".", ""),
    )
    binary = importlib.import_module(f"{package}.codec").CODECS[ours]
    text = importlib.import_module(f"{package}.json_codec").JSON_CODECS[ours]
    return SimpleNamespace(google=message_factory.GetMessageClass(descriptor), binary=binary, text=text)


TYPES = {value: name.removeprefix("TYPE_").lower() for name, value in descriptor_pb2.FieldDescriptorProto.Type.items()}


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def item_of(field):
    return field.message_type.fields_by_name["value"] if is_map(field) else field


def group(field):
    kind = TYPES[field.type]
    if kind in ("string", "bytes", "bool", "enum", "message"):
        return kind
    return "double" if kind in ("double", "float") else "int"


def filled(google, field):
    """Messages that hold one value each in the field, and one that holds them all where it can."""
    item = item_of(field)
    if item.message_type:
        values = [message_factory.GetMessageClass(item.message_type)()]
    elif item.enum_type:
        values = [*(value.number for value in item.enum_type.values), 99, -1]
    else:
        values = VALUES[TYPES[item.type]]
    for value in values:
        message = google()
        into = getattr(message, field.name)
        if is_map(field):
            into["k"] = value
        elif field.is_repeated:
            into.extend([value, value])
        elif item.message_type:
            into.SetInParent()
        else:
            setattr(message, field.name, value)
        yield message


@pytest.mark.parametrize("name", FIELDS)
def test_values_are_written_and_read_as_google_does(name):
    field = POOL.FindFieldByName(name)
    both = subject(field.containing_type)
    for google in filled(both.google, field):
        data = google.SerializeToString()
        wanted = json.dumps(json_format.MessageToDict(google), ensure_ascii=False, separators=(",", ":")).encode()
        found = both.text.encode(both.binary.decode(data))
        assert found == wanted
        for text in (
            found,
            found.decode(),
            json_format.MessageToJson(google),
            json_format.MessageToJson(google, preserving_proto_field_name=True, use_integers_for_enums=True),
        ):
            assert both.binary.encode(both.text.decode(text)) == data
        assert json_format.Parse(found, both.google()).SerializeToString() == data


def placed(field, text):
    """A text as the field's value, within what a list or a map puts around it."""
    if text == "null":
        return text
    return f'{{"k":{text}}}' if is_map(field) else f"[{text}]" if field.is_repeated else text


@pytest.mark.parametrize("name", FIELDS)
def test_spellings_are_accepted_and_read_as_google_does(name):
    field = POOL.FindFieldByName(name)
    both = subject(field.containing_type)
    for text in ACCEPTED[group(item_of(field))]:
        for key in (field.name, field.json_name):
            whole = f' {{ "{key}" : {placed(field, text)} }}\n'
            google = json_format.Parse(whole, both.google())
            assert both.binary.encode(both.text.decode(whole)) == google.SerializeToString()


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_no_value_of_the_field_is_refused_with_its_path(name):
    field = POOL.FindFieldByName(name)
    item = item_of(field)
    decode = subject(field.containing_type).text.decode
    inner = "['k']" if is_map(field) else "[0]" if field.is_repeated else ""
    for text in (*REFUSED[group(item)], *NARROW.get(TYPES[item.type], ())):
        with pytest.raises(JsonDecodeError) as refusal:
            decode(f'{{"{field.json_name}":{placed(field, text)}}}')
        assert refusal.value.path == field.json_name + inner or "not JSON" in refusal.value.sentence, text
    wrong = {"map": ("[]", '{"k":null}', '"k"'), "list": ("{}", "[null]", '""', "1"), "one": ()}
    for text in wrong["map" if is_map(field) else "list" if field.is_repeated else "one"]:
        with pytest.raises(JsonDecodeError):
            decode(f'{{"{field.json_name}":{text}}}')


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_stands_twice_is_refused(name):
    field = POOL.FindFieldByName(name)
    decode = subject(field.containing_type).text.decode
    for second in {field.json_name, field.name}:
        for value in ("null", placed(field, ACCEPTED[group(item_of(field))][0])):
            with pytest.raises(JsonDecodeError, match="the field stands twice") as refusal:
                decode(f'{{"{field.json_name}":{value},"{second}":{value}}}')
            assert refusal.value.path == second


def test_two_members_of_a_oneof_are_refused():
    tried = 0
    for name in FIELDS:
        field = POOL.FindFieldByName(name)
        for other in field.containing_oneof.fields if field.containing_oneof else ():
            if other is not field and other.name != field.name:
                one, two = (f'"{each.json_name}":{ACCEPTED[group(each)][0]}' for each in (field, other))
                decode = subject(field.containing_type).text.decode
                with pytest.raises(JsonDecodeError, match=f"{other.json_name}: only one of this and {field.json_name}"):
                    decode(f"{{{one},{two}}}")
                decode(f'{{{one},"{other.json_name}":null}}')
                decode(f'{{"{other.json_name}":null,{one}}}')
                tried += 1
    assert tried > 30


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_unknown(name):
    both = subject(POOL.FindMessageTypeByName(name))
    assert both.text.encode(both.text.decode("{}")) == b"{}"
    for text in ('{"nobody":1}', '{"nobody":null}', '{"":1}', '{"[a.b]":1}'):
        with pytest.raises(JsonDecodeError, match=f"{name} has no such field"):
            both.text.decode(text)
    for text in (
        "",
        "null",
        "[]",
        '""',
        "1",
        "true",
        "{}{}",
        "{} x",
        "{",
        '{"a"}',
        "{,}",
        "{'a':1}",
        "\ufeff{}",
        "[{}]",
    ):
        with pytest.raises(JsonDecodeError):
            both.text.decode(text)
