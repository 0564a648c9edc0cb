"""Strict reading of a JSON body into one of the messages of `shapes`, with the sentences that Google's front end gives.

Follows protobuf's JSON mapping: both spellings of a member, null for absent, integers also as decimal strings, enums
by name in any case or by number, base64 in both alphabets. A single value where an array is expected is taken as an
array of one, which the public API also does (its documentation relies on it for `contents` and `parts`).
"""

import base64
import binascii
import math
import re
from collections.abc import Callable

import msgspec

from localcloud.vertex.errors import ApiError, bad_payload
from localcloud.vertex.jsontypes import Json, JsonObject
from localcloud.vertex.shapes import ENUM_NAMES, ENUM_NUMBERS, TABLES, Field

# protobuf refuses messages that are nested deeper.
MAX_DEPTH = 100
MAX_VIOLATIONS = 20
PACKAGE = "type.googleapis.com/google.cloud.aiplatform."


class _Unreadable(Exception):  # noqa: N818 - a signal inside this module, not an error that anyone sees
    """A value that does not fit; carries the type's name as Google's sentence gives it, and a remark."""

    def __init__(self, type_name: str, remark: str = "") -> None:
        super().__init__(type_name)
        self.type_name = type_name
        self.remark = remark


def read_body(body: bytes, message: str, version: str) -> JsonObject:
    """The body as the message, in lowerCamelCase, integers as int, enums by name; 400 with every violation."""
    try:
        document: object = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise ApiError(400, f"Invalid JSON payload received. {fault}.") from None
    except RecursionError:
        raise ApiError(400, "Invalid JSON payload received. Message too deep.") from None
    reader = _Reader(version)
    members = reader.message(document, message, "", 0)
    if reader.violations:
        raise bad_payload(reader.violations)
    return members


class _Reader:
    """Reads one document and gathers what is wrong with it."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.tables = TABLES[version]
        self.violations: list[tuple[str, str]] = []

    def blame(self, path: str, description: str) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append((path, description))

    def message(self, value: object, message: str, path: str, depth: int) -> JsonObject:
        """A message's members, read; violations are gathered, not raised."""
        type_name = f"{PACKAGE}{self.version}.{message}"
        if depth > MAX_DEPTH:
            self.blame(path, "Invalid JSON payload received. Message too deep.")
            return {}
        if not isinstance(value, dict):
            self.blame(path, f"Invalid value at '{path}' ({type_name}), {_shown(value)}")
            return {}
        found: JsonObject = {}
        oneofs: dict[str, str] = {}
        for name, member in value.items():
            field = self.tables[message].get(name)
            if field is None:
                self.blame(path, _unknown(name, path))
            elif member is not None and self._once(field, found, oneofs, path):
                place = f"{path}.{field.proto_name}" if path else field.proto_name
                found[field.name] = self.member(member, field, place, depth)
        return found

    def _once(self, field: Field, found: JsonObject, oneofs: dict[str, str], path: str) -> bool:
        rival = field.name if field.name in found else oneofs.setdefault(field.oneof or field.name, field.name)
        if field.name not in found and rival == field.name:
            return True
        told = f"oneof field '{field.oneof or field.proto_name}' is already set. Cannot set '{field.name}'"
        self.blame(path, f"Invalid value at '{path}' (oneof), {told}")
        return False

    def member(self, value: object, field: Field, path: str, depth: int) -> Json:
        """One member: an array, a map or a single value."""
        if not field.repeated:
            if isinstance(value, list) and field.type not in ("value", "struct"):
                told = f"Unknown name \"{field.name}\" at '{path}': Proto field is not repeating, cannot start list."
                self.blame(path, f"Invalid JSON payload received. {told}")
                return None
            return self.single(value, field.type, path, depth)
        items = value if isinstance(value, list) else [value]
        return [self.single(item, field.type, f"{path}[{place}]", depth) for place, item in enumerate(items)]

    def single(self, value: object, type_: str, path: str, depth: int) -> Json:
        """One value of the given type."""
        if type_.startswith("map"):
            return self.mapping(value, type_.partition(":")[2] or "string", path, depth)
        if type_ in self.tables:
            return self.message(value, type_, path, depth + 1)
        try:
            if type_.startswith("enum:"):
                return _enum(value, type_.removeprefix("enum:"))
            return SCALARS[type_](value)
        except _Unreadable as fault:
            type_name = fault.type_name.replace("PACKAGE.", f"{PACKAGE}{self.version}.")
            self.blame(path, f"Invalid value at '{path}' ({type_name}), {fault.remark}{_shown(value)}")
            return None

    def mapping(self, value: object, type_: str, path: str, depth: int) -> Json:
        """A map with string keys."""
        if not isinstance(value, dict):
            self.blame(path, f"Invalid value at '{path}' (type.googleapis.com/map), {_shown(value)}")
            return None
        return {key: self.single(item, type_, f"{path}[{key}]", depth + 1) for key, item in value.items()}


def _unknown(name: str, path: str) -> str:
    where = f" at '{path}'" if path else ""
    return f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'


def _shown(value: object) -> str:
    """The offending value as JSON, cut to a readable length."""
    shown = msgspec.json.encode(value).decode()
    return shown if len(shown) <= 200 else shown[:200] + "..."


def _string(value: object) -> Json:
    if isinstance(value, str):
        return value
    raise _Unreadable("TYPE_STRING")


def _bool(value: object) -> Json:
    if isinstance(value, bool):
        return value
    raise _Unreadable("TYPE_BOOL")


def _whole(value: object) -> int | None:
    """The integer that a value stands for: an integer, a float without fraction, a decimal string."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value) else None


def _integer(bits: int) -> Callable[[object], Json]:
    bound = 1 << (bits - 1)

    def read(value: object) -> Json:
        number = _whole(value)
        if number is None or not -bound <= number < bound:
            raise _Unreadable(f"TYPE_INT{bits}")
        return number

    return read


def _number(value: object) -> Json:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise _Unreadable("TYPE_DOUBLE") from None
        if math.isfinite(number):
            return number
    raise _Unreadable("TYPE_DOUBLE")


def _bytes(value: object) -> Json:
    if not isinstance(value, str):
        raise _Unreadable("TYPE_BYTES")
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _Unreadable("TYPE_BYTES", "Base64 decoding failed for ") from None
    return base64.b64encode(raw).decode()


def _struct(value: object) -> Json:
    if isinstance(value, dict):
        return value
    raise _Unreadable("type.googleapis.com/google.protobuf.Struct")


def _any(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    raise _Unreadable("type.googleapis.com/google.protobuf.Value")


def _enum(value: object, enum: str) -> Json:
    numbers = ENUM_NUMBERS[enum]
    if isinstance(value, str) and value.upper() in numbers:
        return value.upper()
    if isinstance(value, int) and not isinstance(value, bool) and value in ENUM_NAMES[enum]:
        return ENUM_NAMES[enum][value]
    raise _Unreadable(f"PACKAGE.{enum}")


SCALARS: dict[str, Callable[[object], Json]] = {
    "string": _string,
    "bool": _bool,
    "int32": _integer(32),
    "int64": _integer(64),
    "number": _number,
    "bytes": _bytes,
    "struct": _struct,
    "opaque": _struct,
    "value": _any,
}
