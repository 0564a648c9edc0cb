"""A call of an OpenAPI operation as bytes: every argument encoded for its own position, the body written anew by us.

Attack row 18: an argument can be a value in the place that its declaration gives it, and nothing else. What could be
read as more than a value on its way (a slash in a path, a line end in a header) is refused, not repaired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.terms.strict_json import FrozenJson, JsonValue
from gateway.tools.openapi import BODY, PATH, Operation, Parameter

TARGET_LENGTH_MAX: Final = 8_000
"""Of path and query; most servers refuse longer ones."""


class UnencodableError(ValueError):
    """An argument that its position cannot carry."""

    def __init__(self, argument: str, description: str) -> None:
        super().__init__(f"{argument} {description}")
        self.argument = argument
        self.description = description


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The parts of a request that come from arguments."""

    target: str
    """Path and query, encoded."""
    headers: Mapping[str, str]
    body: JsonValue
    has_body: bool


def call_of(operation: Operation, arguments: Mapping[str, FrozenJson]) -> Call:
    """Place arguments that match the operation's schema. Raises `UnencodableError`."""
    path, query, headers = operation.path, [], {}
    for known in operation.parameters:
        if known.argument not in arguments:
            continue
        value = arguments[known.argument]
        match known.position:
            case "path":
                path = path.replace("{" + known.name + "}", _segment(known, value))
            case "query":
                query += _pairs(known, value)
            case _:
                headers[known.name] = _field(known, value)
    _refuse_dots(operation, path)
    target = path + ("?" + "&".join(query) if query else "")
    if len(target) > TARGET_LENGTH_MAX:
        raise UnencodableError("the arguments", f"make an address of more than {TARGET_LENGTH_MAX} characters")
    has_body = operation.has_body and BODY in arguments
    return Call(target=target, headers=headers, body=thawed(arguments[BODY]) if has_body else None, has_body=has_body)


def thawed(value: FrozenJson) -> JsonValue:
    """The same value as lists and dicts, to be written."""
    if isinstance(value, tuple):
        return [thawed(member) for member in value]
    if isinstance(value, Mapping):
        return {name: thawed(member) for name, member in value.items()}
    return value


def written(value: JsonValue) -> bytes:
    """JSON in our own writing: what the service reads is what was decided on, not what the agent wrote (row 11)."""
    return _ENCODER.encode(value)


_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def _segment(known: Parameter, value: FrozenJson) -> str:
    text = _plain(value)
    if not text or any(character in "/\\%" or not character.isprintable() for character in text):
        raise UnencodableError(known.argument, "must not be empty or hold / \\ % or an invisible character")
    return quote(text, safe="")


def _refuse_dots(operation: Operation, path: str) -> None:
    if any(step in {".", ".."} for step in path.split("/")):
        names = ", ".join(known.argument for known in operation.parameters if known.position == PATH)
        raise UnencodableError(names, "must not make a path segment of dots")


def _pairs(known: Parameter, value: FrozenJson) -> list[str]:
    name = quote(known.name, safe="")
    if not isinstance(value, tuple):
        return [f"{name}={quote(_plain(value), safe='')}"]
    items = [quote(_plain(item), safe="") for item in value]
    return [f"{name}={item}" for item in items] if known.exploded else [f"{name}={','.join(items)}"]


def _field(known: Parameter, value: FrozenJson) -> str:
    text = _plain(value)
    if not all(" " <= character <= "~" for character in text) or text != text.strip():
        raise UnencodableError(known.argument, "must be printable ASCII on one line, without blanks at its ends")
    return text


def _plain(value: FrozenJson) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
