"""What the answer to a look-up by our key proves: that the call happened, that it never did, or nothing.

A service that finds nothing may say so with 404, with an empty list, with null or with 204. Only what can be nothing
else is proof (governance study, section 3.2: reconcile only on proof).
"""

import re
from typing import Final

from gateway.terms.strict_json import JsonRefusedError, JsonValue
from gateway.tools.http_config import HttpTool
from gateway.tools.http_outcomes import body_of
from gateway.tools.openapi import PATH, Operation
from gateway.tools.roundtrip import NoAnswer, Received

POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*){1,16}")
_POINTER_LENGTH_MAX: Final = 256
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,5}")


def pointer_fault(pointer: str) -> str:
    """What is wrong with a JSON pointer to a member (RFC 6901); empty if nothing is."""
    if len(pointer) <= _POINTER_LENGTH_MAX and POINTER.fullmatch(pointer):
        return ""
    return "lookup_found is no JSON pointer to a member: write it such as /reference or /refunds/0/reference"


def names_one_thing(operation: Operation, argument: str) -> bool:
    """Whether the argument ends the path, so that the address is that of one thing and of no collection of them."""
    parameter = next((one for one in operation.parameters if one.argument == argument), None)
    if parameter is None or parameter.position != PATH:
        return False
    return "{" + parameter.name + "}" in operation.path.rsplit("/", 1)[-1]


def shows(tool: HttpTool, key: str, reply: Received | NoAnswer) -> bool:
    """Whether the service shows what our key made: one object at its address, or our key where the operator said."""
    if not isinstance(reply, Received) or reply.status != 200:
        return False
    try:
        body = body_of(reply)
    except JsonRefusedError:
        return False
    if tool.lookup_found:
        return _pointed(body, tool.lookup_found) == key
    return isinstance(body, dict) and bool(body)


def denies(operation: Operation, argument: str, reply: Received | NoAnswer) -> bool:
    """Whether the service itself says that there is nothing at the address that our key makes.

    A 404 that is no JSON object comes from something on the way, and one for an address without our key says nothing of
    our key.
    """
    in_path = any(one.argument == argument and one.position == PATH for one in operation.parameters)
    if not in_path or not isinstance(reply, Received) or reply.status != 404:
        return False
    try:
        return isinstance(body_of(reply), dict)
    except JsonRefusedError:
        return False


def _pointed(value: JsonValue, pointer: str) -> JsonValue:
    """The value at a JSON pointer (RFC 6901); None where there is none."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
