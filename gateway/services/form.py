"""The form of a request: what is wrong with one of its fields, said so that it can be corrected."""

import re
from typing import Final

from gateway.terms import verdict
from gateway.terms.ids import RUN_ID, RunId
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object
from gateway.terms.verdict import RefusedError

_FUNCTION_NAME: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,63}")


def malformed(field: str, description: str) -> RefusedError:
    """The refusal of one field of a request. What the description repeats of it is escaped."""
    return RefusedError(verdict.malformed(field, description))


def run_id(text: str) -> RunId:
    """A run id, or none."""
    if text and not RUN_ID.fullmatch(text):
        raise malformed("run_id", "use 1 to 64 characters of A-Z a-z 0-9 _ . : -")
    return RunId(text)


def function_name(name: str, field: str) -> str:
    """The name of a function, by Vertex AI's own rule."""
    if not _FUNCTION_NAME.fullmatch(name):
        raise malformed(field, "use 1 to 64 characters of A-Z a-z 0-9 _ . -, not starting with a digit")
    return name


def json_object(text: str, field: str, size_max: int) -> dict[str, JsonValue]:
    """One JSON object, read strictly."""
    try:
        return strict_object(text.encode("utf-8", "surrogatepass"), size_max=size_max)
    except JsonRefusedError as error:
        raise malformed(field, str(error)) from None
