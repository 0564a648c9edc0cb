"""The binary protobuf format: what the generated codecs share. Written once here, copied into `generated/`.

Reading takes exactly what google.protobuf's C decoder (upb) takes and gives the same values, but refuses three things
that upb lets pass:

| Input                                                                         | upb             | here    |
|-------------------------------------------------------------------------------|-----------------|---------|
| a varint whose tenth byte is above 1, so that it does not fit 64 bits         | cut, then taken | refused |
| field number 0 in a message that has no fields, or inside of an unknown group | skipped         | refused |
| more than MAX_MESSAGES messages and map entries within one                    | taken           | refused |

What else may surprise, and is upb's way: a field of another wire type than declared is skipped as unknown; so is a map
entry that holds an unknown field, whole; integers of 32 bits are cut to 32 bits; a message that comes twice is merged.

Writing refuses what would change a value on its way: integers out of range, other Python types than the field's, text
that is not Unicode, two members of one oneof.

The format: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

MAX_DEPTH = 100
"""Levels of messages within messages, map entries and unknown groups counted; upb's limit."""

MAX_MESSAGES = 20_000
"""Messages and map entries within one outermost message, itself counted. Two bytes can make a message of 200 bytes of
memory and 1.6 microseconds: without a bound, 4 MiB held up every other call for 3.3 s (measured)."""

MAX_SIZE = 0x7FFF_FFFF
"""Bytes of a message, a string or a bytes field; upb's limit."""

SIZE = tuple(bytes((number,)) for number in range(128))
"""The varints of one byte."""

FLOAT = Struct("<f")
DOUBLE = Struct("<d")
FIXED32 = Struct("<I")
FIXED64 = Struct("<Q")
SFIXED32 = Struct("<i")
SFIXED64 = Struct("<q")


class DecodeError(ValueError):
    """Bytes that are no message. `offset` counts bytes from the start of the outermost message."""

    def __init__(self, sentence: str, offset: int) -> None:
        super().__init__(f"{sentence}, at byte {offset}")
        self.offset = offset


class EncodeError(ValueError):
    """A value that its field cannot carry. `field` is the full protobuf name of the field, oneof or message."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field


class Codec(NamedTuple):
    """How one message type is written (message -> bytes) and read (bytes -> message)."""

    encode: Callable[..., bytes]
    decode: Callable[[bytes], object]


# Reading. `at` is a position in the outermost message. Below, nothing looks at where an inner message ends: who runs
# past it into the bytes behind finds `at` beyond the end, and who runs past the last byte gets an IndexError.


def buffer(data: object) -> bytes:
    """The bytes of another buffer than `bytes`; a refusal for what is none."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise DecodeError(f"a message is read from bytes, not from {type(data).__name__}", 0)


def long_tag(data: bytes, at: int, first: int) -> tuple[int, int]:
    """A tag of two to five bytes (32 bits) whose first byte is read: (tag, position behind it)."""
    tag = first & 127
    start = at - 1
    for shift in (7, 14, 21, 28):
        byte = data[at]
        at += 1
        tag |= (byte & 127) << shift
        if byte < 128:
            if tag > 0xFFFF_FFFF:
                break
            return tag, at
    raise DecodeError("the tag of a field does not fit 32 bits", start)


def long_size(data: bytes, at: int, first: int) -> tuple[int, int]:
    """A length of two to five bytes, below 2 GiB, whose first byte is read: (length, position behind it)."""
    size = first & 127
    start = at - 1
    for shift in (7, 14, 21, 28):
        byte = data[at]
        at += 1
        size |= (byte & 127) << shift
        if byte < 128:
            if size > MAX_SIZE:
                break
            return size, at
    raise DecodeError("a length does not fit 31 bits", start)


def long_varint(data: bytes, at: int, first: int) -> tuple[int, int]:
    """A varint of two to ten bytes whose first byte is read: (its 64 bits without sign, position behind it)."""
    value = first & 127
    start = at - 1
    for shift in (7, 14, 21, 28, 35, 42, 49, 56, 63):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value > 0xFFFF_FFFF_FFFF_FFFF:
                break
            return value, at
    raise DecodeError("a varint does not fit 64 bits", start)


def skip(data: bytes, at: int, tag: int, depth: int, message: str) -> int:
    """The position behind an unknown field that is neither a varint nor length-delimited, its tag read."""
    if tag < 8:
        raise field_zero(message, at)
    kind = tag & 7
    if kind == 1:
        return at + 8
    if kind == 5:
        return at + 4
    if kind == 3:
        return _skip_group(data, at, tag, depth, message)
    if kind == 4:
        raise DecodeError(f"{message}: a group ends that did not begin", at)
    raise DecodeError(f"{message}: wire type {kind} does not exist", at)


def _skip_group(data: bytes, at: int, tag: int, depth: int, message: str) -> int:
    """The position behind the end of an unknown group, whose depth counts as that of messages does."""
    opened = [tag]
    while opened:
        if len(opened) > depth:
            raise too_large(message, at, -1)
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = long_tag(data, at, tag)
        kind = tag & 7
        if kind == 0 and tag:
            at = _varint_end(data, at)
        elif kind == 2 and tag > 2:
            size = data[at]
            at += 1
            if size > 127:
                size, at = long_size(data, at, size)
            at += size
        elif kind == 3 and tag > 3:
            opened.append(tag)
        elif kind == 4 and opened[-1] + 1 == tag:
            opened.pop()
        elif tag < 8:
            raise DecodeError(f"{message}: a field of an unknown group has the number 0", at)
        else:
            at = skip(data, at, tag, depth, message)
    return at


def _varint_end(data: bytes, at: int) -> int:
    first = data[at]
    return at + 1 if first < 128 else long_varint(data, at + 1, first)[1]


def cut_off(message: str, tag: int, end: int) -> DecodeError:
    """A field that is longer than what holds it."""
    return DecodeError(f"{message}: field {tag >> 3} is cut off", end)


def field_zero(message: str, at: int) -> DecodeError:
    """Field numbers begin at 1."""
    return DecodeError(f"{message}: a field has the number 0", at)


def too_large(message: str, at: int, depth: int) -> DecodeError:
    """More levels than the stack holds, or more messages than can be read without keeping other calls waiting."""
    if depth < 0:
        return DecodeError(f"{message}: messages are nested more than {MAX_DEPTH} deep", at)
    return DecodeError(f"{message}: more than {MAX_MESSAGES} messages within one", at)


def unreadable(message: str, tag: int, at: int, cause: Exception) -> DecodeError:
    """What an exception of Python's own means: the data ended inside a field, or a string is not UTF-8."""
    if isinstance(cause, UnicodeDecodeError):
        return DecodeError(f"{message}: field {tag >> 3} is not UTF-8", at + cause.start)
    return cut_off(message, tag, at)


# Writing. The converters get what is not exactly of the field's Python type, and refuse what is not of its kind.


def varint(value: int) -> bytes:
    """Any integer of 64 bits; negative ones take ten bytes."""
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def length(value: int, field: str) -> bytes:
    """The length of a field of 128 bytes or more."""
    if value < 0x4000:
        return bytes((value & 127 | 128, value >> 7))
    if value > MAX_SIZE:
        raise EncodeError(field, f"has {value} bytes, more than a field can have ({MAX_SIZE})")
    return varint(value)


def integer(value: object, field: str) -> int:
    """The number of an `IntEnum`; truth values are no integers here."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    raise wrong_type(value, "int", field)


def member(value: object, kind: type, field: str) -> int:
    """The number of an enum's member; the members of other enums are refused."""
    if isinstance(value, kind) and isinstance(value, int):
        return int.__int__(value)
    raise wrong_type(value, kind.__name__, field)


def real(value: object, field: str) -> float:
    """The float that equals an integer, where there is one."""
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1 << 53:
        return float(int.__int__(value))
    raise wrong_type(value, "float", field)


def text(value: object, field: str) -> str:
    """The text of a `StrEnum` or other subclass of `str`."""
    if isinstance(value, str):
        return str.__str__(value)
    raise wrong_type(value, "str", field)


def items(value: object, field: str) -> list[object]:
    """The items of a tuple; a string is no list."""
    if isinstance(value, list | tuple):
        return list(value)
    raise wrong_type(value, "list", field)


def wrong_type(value: object, wanted: str, field: str) -> EncodeError:
    """Another Python type than the field's."""
    return EncodeError(field, f"needs {wanted}, not {type(value).__name__}")


def out_of_range(value: int, low: int, high: int, field: str) -> EncodeError:
    """An integer that would arrive as another one."""
    return EncodeError(field, f"{value} is outside of {low} to {high}")


def too_many(oneof: str, names: str) -> EncodeError:
    """More than one member of a oneof."""
    return EncodeError(oneof, f"only one of {names} may be set")


def nested_too_deep(message: str) -> EncodeError:
    """More levels than a reader takes, or a message that holds itself."""
    return EncodeError(message, f"messages are nested more than {MAX_DEPTH} deep")


def unwritable(message: object, name: str, cause: Exception) -> EncodeError:
    """What an exception of Python's own means, with the field that caused it."""
    if not isinstance(cause, UnicodeEncodeError):
        return EncodeError(name, "a float is beyond the range of 32 bits")
    fields = [field for field, value in vars(message).items() if cause.object in _texts(value)]
    where = ".".join([name, *fields[:1]])
    return EncodeError(where, "the text holds half of a surrogate pair, which is not Unicode")


def _texts(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
