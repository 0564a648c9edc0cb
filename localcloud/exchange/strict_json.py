"""Strict JSON from the wire: no duplicate keys, no NaN or Infinity, and numbers as the text that was sent."""

import json
from typing import NoReturn


class MalformedJsonError(ValueError):
    """The bytes are not the strict JSON that was asked for; the message says why."""


class Number(str):
    """A JSON number as it stood on the wire, so that no digit passes through a float."""

    __slots__ = ()


def decode_object(body: bytes) -> dict[str, object]:
    """The JSON object (RFC 8259, UTF-8) in a bounded body. Raises MalformedJsonError for anything else."""
    value = decode(body)
    if not isinstance(value, dict):
        raise MalformedJsonError("the body is not a JSON object")
    return value


def decode(body: bytes) -> object:
    """The JSON value in a bounded body. Raises MalformedJsonError."""
    try:
        value: object = json.loads(
            body.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=Number,
            parse_int=Number,
        )
    except UnicodeDecodeError as error:
        raise MalformedJsonError("the body is not UTF-8") from error
    except RecursionError as error:
        raise MalformedJsonError("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedJsonError("a member name occurs twice in one object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJsonError(f"{name} is not a JSON number")
