"""The strict reading of JSON from anyone: what two parsers could read differently is refused.

The usual parsers keep the last of two equal keys, read NaN and 1e999, and turn a 30-digit integer into a float
(measured: governance study, section 0; attack rows 11, 12, 15 and 16).
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NoReturn

JsonScalar = str | int | Decimal | bool | None
JsonValue = JsonScalar | list["JsonValue"] | dict[str, "JsonValue"]
FrozenJson = JsonScalar | tuple["FrozenJson", ...] | Mapping[str, "FrozenJson"]

DEPTH_MAX: Final = 32
"""Nesting of arrays and objects; deeper text is refused before it is parsed."""

DIGITS_MAX: Final = 40
"""Digits of a number, and the size of its exponent."""

_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
"""The closing quote is optional, so that a string without end is read once and not again from each of its quotes."""
_EXPONENT: Final = re.compile(r"[eE]([+-]?[0-9]+)")


class JsonRefusedError(ValueError):
    """The text is not JSON in the strict reading; the message says what is wrong."""


def strict_object(data: bytes | str, *, size_max: int) -> dict[str, JsonValue]:
    """Read one JSON object of at most `size_max` bytes or raise `JsonRefusedError`.

    Refused: duplicate keys at any depth, NaN and infinities, numbers of more than 40 digits, depth over 32, lone
    surrogates, anything after the object. Fractions become `Decimal`.
    """
    value = strict_value(data, size_max=size_max)
    if not isinstance(value, dict):
        raise JsonRefusedError("expected a JSON object")
    return value


def strict_value(data: bytes | str, *, size_max: int) -> JsonValue:
    """Read one JSON value; see `strict_object`."""
    if len(data) > size_max:
        raise JsonRefusedError(f"longer than {size_max} bytes")
    text = _decoded(data)
    _refuse_depth(text)
    try:
        value: JsonValue = _DECODER.decode(text)
    except JsonRefusedError:
        raise
    except ValueError as error:
        raise JsonRefusedError(f"not JSON: {error}") from None
    if "\\u" in text or "\\U" in text or not text.isascii():
        _refuse_surrogates(value)
    return value


def frozen(value: JsonValue) -> FrozenJson:
    """The same value, unchangeable: tuples for arrays, read-only mappings for objects."""
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(member) for key, member in value.items()})
    if isinstance(value, list):
        return tuple(frozen(member) for member in value)
    return value


def _decoded(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonRefusedError(f"not UTF-8 at byte {error.start}") from None


def _refuse_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return
    depth = 0
    for character in _STRINGS.sub("", text):
        if character in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise JsonRefusedError(f"nested deeper than {DEPTH_MAX}")
        elif character in "]}":
            depth -= 1


def _refuse_surrogates(value: JsonValue) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonRefusedError("a string holds half of a surrogate pair") from None


def _members(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonRefusedError(f"the key {key[:64]!r} stands twice in one object")
            seen.add(key)
    return members


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise JsonRefusedError(f"a number has more than {DIGITS_MAX} digits")
    return int(digits)


def _fraction(digits: str) -> Decimal:
    exponent = _EXPONENT.search(digits)
    if len(digits) > DIGITS_MAX or (exponent and abs(_integer(exponent.group(1))) > DIGITS_MAX):
        raise JsonRefusedError(f"a number has more than {DIGITS_MAX} digits")
    return Decimal(digits)


def _constant(name: str) -> NoReturn:
    raise JsonRefusedError(f"{name} is not a JSON number")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
