"""Proto3's canonical JSON: what the generated JSON codecs share. Written once here, copied into `generated/`.

Writing gives the values that google.protobuf's `json_format.MessageToJson` gives, as compact UTF-8. Reading takes what
`json_format.Parse` takes and gives the same values, but refuses more where two readers could understand two things:

| Input                                                                      | json_format          | here    |
|----------------------------------------------------------------------------|----------------------|---------|
| one field by both of its names                                             | the last one is kept | refused |
| two keys of a map that are the same number, such as "1" and "1.0"          | the last one is kept | refused |
| an empty array or an empty string where a message belongs                  | an empty message     | refused |
| a number in a string that JSON would not take as a number: "1_0", "inf"    | as Python reads it   | refused |
| an integer with a fraction or exponent that no float equals: 1.0...01      | rounded              | refused |
| a number in a string that is too great: "1e999"; a `float` beyond 32 bits  | infinity             | refused |
| true and false for a number                                                | 1 and 0              | refused |
| a fraction, true, false, or a number in a string for an enum               | as `int` reads it    | refused |
| an enum's number beyond 32 bits                                            | some are cut to 32   | refused |
| base64 with other characters, or with padding that is wrong                | left out             | refused |
| more than MAX_MESSAGES messages and map entries, or MAX_BRACKETS { and [   | taken                | refused |

One thing it takes that json_format refuses, though it writes it: 3.4028235e+38, the greatest `float`, rounded up.

The rules: https://protobuf.dev/programming-guides/json/
"""

import binascii
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import NamedTuple, NoReturn, TypeVar

from .wire_format import FLOAT, MAX_MESSAGES, EncodeError

MAX_LEVELS = 100
"""Messages within messages, the outermost counted; json_format's limit. Maps and lists are no levels."""

MAX_BRACKETS = 2 * MAX_MESSAGES
"""Objects and arrays of one text. Without a bound, 4 MiB of `[` and `]` took 1.6 s and 200 MB to read (measured)."""

_T = TypeVar("_T")
_K = TypeVar("_K")


class JsonDecodeError(ValueError):
    """Text that is no message. `path` leads to the wrong value, such as `contents[0].role`; empty: the whole text."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.path = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence

    def inside(self, step: str) -> None:
        """Says where the path so far begins: a key as it was found, or an index in brackets."""
        step = step[:64]
        if not (step.isascii() and step.isprintable()):
            step = ascii(step)[1:-1]
        self.path = f"{step}.{self.path}" if self.path and self.path[0] != "[" else step + self.path


class JsonCodec(NamedTuple):
    """How one message type is written (message -> UTF-8) and read (UTF-8 or text, `size_max=` -> message)."""

    encode: Callable[..., bytes]
    decode: Callable[..., object]


# Reading. Objects are tuples of (key, value), so that no key is lost before a reader has seen it; arrays are lists;
# numbers with a fraction or an exponent stay as they are written until their field is known.


class NumberText(str):
    """A number with a fraction or an exponent, as it is written."""

    __slots__ = ()


def _constant(name: str) -> NoReturn:
    raise JsonDecodeError(f"not JSON: {name} is written as a string")


_READ = json.JSONDecoder(object_pairs_hook=tuple, parse_float=NumberText, parse_constant=_constant).raw_decode
_SPACE = " \t\n\r"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAMES = {tuple: "an object", list: "an array", str: "a string", type(None): "null"}


def parsed(data: bytes | str, size_max: int) -> object:
    """One JSON value of at most `size_max` bytes (of a `str`: characters), and nothing behind it."""
    if type(data) is not bytes and not isinstance(data, str):
        data = _bytes(data)
    if len(data) > size_max:
        raise JsonDecodeError(f"longer than {size_max} bytes")
    text = data if isinstance(data, str) else _decoded(data)
    if text.count("{") + text.count("[") > MAX_BRACKETS:
        _count_brackets(text)
    start = 0 if text[:1] == "{" else len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = _READ(text, start)
    except json.JSONDecodeError as error:
        raise JsonDecodeError(f"not JSON: {error}") from None
    except RecursionError:
        raise JsonDecodeError("not JSON that can be read: arrays and objects are nested too deep") from None
    except JsonDecodeError:
        raise
    except ValueError:
        raise JsonDecodeError("not JSON that can be read: a number has too many digits") from None
    if end != len(text) and text[end:].strip(_SPACE):
        raise JsonDecodeError(f"not JSON: more follows behind the value, at character {end}")
    return value


def _bytes(data: object) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise JsonDecodeError(f"a message is read from bytes or text, not from {type(data).__name__}")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise JsonDecodeError(f"not UTF-8 at byte {error.start}") from None


def _count_brackets(text: str) -> None:
    """Counts again without what stands in strings: between an odd quote and the next, escaped quotes left out."""
    bare = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    if bare.count("{") + bare.count("[") > MAX_BRACKETS:
        raise JsonDecodeError(f"more than {MAX_BRACKETS} objects and arrays")


def not_an_object(value: object) -> JsonDecodeError:
    """Another value where a message or a map belongs."""
    return _wrong(value, "an object")


def too_large(depth: int) -> JsonDecodeError:
    """More levels than the stack holds, or more messages than can be read without keeping other calls waiting."""
    if depth < 0:
        return JsonDecodeError(f"messages are nested more than {MAX_LEVELS} deep")
    return JsonDecodeError(f"more than {MAX_MESSAGES} messages within one")


def refused_name(message: str, field: int) -> JsonDecodeError:
    """A key that the message does not have (`field` is 0), or has had already by this or its other name."""
    return JsonDecodeError("the field stands twice in one object" if field else f"{message} has no such field")


def second_member(first: str) -> JsonDecodeError:
    """Two members of one oneof."""
    return JsonDecodeError(f"only one of this and {first} may be set")


def as_text(value: object) -> str:
    """A string without halves of surrogate pairs."""
    if type(value) is not str:
        raise _wrong(value, "a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise JsonDecodeError("the text holds half of a surrogate pair, which is not Unicode") from None
    return value


def as_bytes(value: object) -> bytes:
    """Base64 in either alphabet, padded or not padded (RFC 4648, sections 4 and 5)."""
    if type(value) is not str:
        raise _wrong(value, "a string")
    digits = value.rstrip("=")
    padding = "=" * (-len(digits) % 4)
    if value not in (digits, digits + padding):
        raise JsonDecodeError("needs base64, whose padding is whole or left out")
    try:
        return binascii.a2b_base64(digits.replace("-", "+").replace("_", "/") + padding, strict_mode=True)
    except ValueError:
        raise JsonDecodeError("needs base64") from None


def as_bool(value: object) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise _wrong(value, "true or false")
    return value


def _integers(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is str:
            try:
                number = int(value)
            except ValueError:
                pass
            else:
                if low <= number <= high and str(number) == value:
                    return number
        elif type(value) is int and low <= value <= high:
            return value
        return _integer(value, low, high)

    return read


as_int32 = _integers(-(1 << 31), (1 << 31) - 1)
as_int64 = _integers(-(1 << 63), (1 << 63) - 1)
as_uint32 = _integers(0, (1 << 32) - 1)
as_uint64 = _integers(0, (1 << 64) - 1)


def as_double(value: object) -> float:
    """A number, or one of the strings that stand for what JSON has no numbers for."""
    if type(value) is str:
        if value in _SPECIAL:
            return _SPECIAL[value]
        _has_fraction(value)
    elif type(value) is not NumberText and type(value) is not int:
        raise _wrong(value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise JsonDecodeError("the number is beyond the range of 64 bits")
    return number


def as_float(value: object) -> float:
    """The nearest number of 32 bits."""
    try:
        number: float = FLOAT.unpack(FLOAT.pack(as_double(value)))[0]
    except OverflowError:
        raise JsonDecodeError("the number is beyond the range of 32 bits") from None
    return number


def as_member(value: object, kind: Callable[[int], _T]) -> _T:
    """The member of an enum by its number, which may be unknown; names are looked up before."""
    if type(value) is str:
        raise JsonDecodeError(f"{getattr(kind, '__name__', kind)} has no value of the name {value[:64]!a}")
    return kind(as_int32(value))


def list_of(value: object, read: Callable[[object], _T]) -> list[_T]:
    """The items of an array, each read by a function for its type."""
    if type(value) is not list:
        raise _wrong(value, "an array")
    items: list[_T] = []
    try:
        for item in value:
            items.append(read(item))  # noqa: PERF401 # the length tells which item was wrong
    except JsonDecodeError as error:
        error.inside(f"[{len(items)}]")
        raise
    return items


def messages_of(value: object, read: Callable[[object, int, list[int]], _T], depth: int, room: list[int]) -> list[_T]:
    """The messages of an array."""
    if type(value) is not list:
        raise _wrong(value, "an array")
    items: list[_T] = []
    try:
        for item in value:
            items.append(read(item, depth, room))  # noqa: PERF401 # as above
    except JsonDecodeError as error:
        error.inside(f"[{len(items)}]")
        raise
    return items


def map_of(
    value: object, read_key: Callable[[object], _K], read: Callable[[object], _T], room: list[int]
) -> dict[_K, _T]:
    """The entries of an object, which count as messages do."""
    if type(value) is not tuple:
        raise not_an_object(value)
    room[0] -= len(value)
    if room[0] < 0:
        raise too_large(0)
    entries: dict[_K, _T] = {}
    key = ""
    try:
        for key, item in value:
            found = read_key(key)
            _refuse_seen(found, entries)
            entries[found] = read(item)
    except JsonDecodeError as error:
        error.inside(f"[{key[:48]!a}]")
        raise
    return entries


def _refuse_seen(key: _K, entries: dict[_K, _T]) -> None:
    if key in entries:
        raise JsonDecodeError("the key stands twice in one map")


def _wrong(value: object, wanted: str) -> JsonDecodeError:
    found = str(value).lower() if type(value) is bool else _NAMES.get(type(value), "a number")
    return JsonDecodeError(f"needs {wanted}, not {found}")


def _has_fraction(text: str) -> bool:
    """Whether a number in a string has a fraction or an exponent; what JSON would not take as a number is refused."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise JsonDecodeError("needs a number, not another string")
    return found.lastindex is not None


def _integer(value: object, low: int, high: int) -> int:
    """What is not at once seen to be in range: other spellings, and what has to be refused."""
    if type(value) is NumberText or (type(value) is str and _has_fraction(value)):
        value = _whole(value)
    elif type(value) is str:
        try:
            value = int(value)
        except ValueError:
            raise JsonDecodeError("the number has too many digits") from None
    elif type(value) is not int:
        raise _wrong(value, "an integer")
    if not low <= value <= high:
        raise JsonDecodeError(f"the number is outside of {low} to {high}")
    return value


def _whole(text: str) -> int:
    number = float(text)
    try:
        if number.is_integer() and Decimal(text) == number:
            return int(number)
    except InvalidOperation:
        pass
    raise JsonDecodeError("needs an integer: without fraction, and with all of its digits")


# Writing.


quote = encode_basestring
"""A text between quotes, control characters escaped."""

TRUTH = ("false", "true")


def base64(value: bytes) -> str:
    """In the standard alphabet, padded."""
    return binascii.b2a_base64(value, newline=False).decode()


def number(value: float) -> str:
    """The shortest decimal number that reads as the same float, or a string where JSON has no number."""
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'  # noqa: PLR0124 # NaN is unequal to itself


def narrow(value: float, field: str) -> float:
    """The float with the fewest digits, but at least six, that is the same in 32 bits."""
    try:
        single: float = FLOAT.unpack(FLOAT.pack(value))[0]
    except OverflowError:
        raise EncodeError(field, "a float is beyond the range of 32 bits") from None
    for digits in range(6, 9):
        short = float(f"{single:.{digits}g}")
        if not math.isfinite(single) or FLOAT.pack(short) == FLOAT.pack(single):
            return short
    return float(f"{single:.9g}")


def labels(members: dict[str, int]) -> dict[int, str]:
    """The JSON text of each number of an enum: of two names for one number the first."""
    return {int(value): f'"{name}"' for name, value in reversed(members.items())}


def nested_too_deep(message: str) -> EncodeError:
    """More levels than a reader takes, or a message that holds itself."""
    return EncodeError(message, f"messages are nested more than {MAX_LEVELS} deep")


def half_pair(message: object, name: str) -> EncodeError:
    """A text that is not Unicode, with the field that holds it."""
    return EncodeError(name + (_path_of_half(message) or ""), "the text holds half of a surrogate pair")


def _path_of_half(value: object) -> str | None:
    """Where in a value that text stands; None: nowhere."""
    if isinstance(value, str):
        return None if _encodable(value) else ""
    for step, part in _parts(value):
        rest = _path_of_half(part)
        if rest is not None:
            return step + rest
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from (("", part) for part in (*value.keys(), *value.values()))
    elif isinstance(value, list | tuple):
        yield from (("", part) for part in value)
    elif is_dataclass(value):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
