"""The schema of a tool's arguments: linted, compiled once, and then the judge of every request."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NoReturn

import jsonschema_rs

from gateway.terms.limits import SCHEMA_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object
from gateway.terms.verdict import Violation
from gateway.tools.patterns import OPTIONS
from gateway.tools.schema_lint import lint, pointer

VIOLATIONS_MAX: Final = 16
"""Enough to correct a request; what an agent sends decides how many there are, not how many are told."""

FIELD_MAX: Final = 200
DESCRIPTION_MAX: Final = 300


class SchemaRefusedError(ValueError):
    """A schema that no tool may be declared with; the message lists every violation."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("\n".join(f"{found.field or '(the whole)'} {found.description}" for found in violations))
        self.violations = violations


class ArgumentsSchema:
    """A compiled JSON Schema (2020-12) of one object."""

    __slots__ = ("_validator", "properties")

    def __init__(self, text: str) -> None:
        """Lint and compile. Raises `SchemaRefusedError`."""
        try:
            schema = strict_object(text, size_max=SCHEMA_BYTES_MAX)
        except JsonRefusedError as error:
            raise SchemaRefusedError((Violation(field="", description=str(error)),)) from None
        found = lint(schema)
        if found:
            raise SchemaRefusedError(found)
        declared = schema.get("properties")
        self.properties: Final = frozenset(declared if isinstance(declared, dict) else ())
        self._validator: Final = jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=True,
            ignore_unknown_formats=False,
            retriever=_refuse_to_retrieve,
            pattern_options=OPTIONS,
            mask="the value",
        )

    def violations(self, arguments: Mapping[str, JsonValue]) -> tuple[Violation, ...]:
        """What is wrong with these arguments: at most 16 sentences that never repeat a value; empty if they match."""
        if self._validator.is_valid(arguments):
            return ()
        found = (violation for error in self._validator.iter_errors(arguments) for violation in _told(error))
        return tuple(islice(found, VIOLATIONS_MAX))


def _refuse_to_retrieve(uri: str) -> NoReturn:
    """All usual libraries fetch a remote `$ref` over HTTP: an SSRF (governance study, section 0, item 4)."""
    raise ValueError(f"{uri}: schemas are never fetched")


def _told(error: jsonschema_rs.ValidationError) -> Iterator[Violation]:
    """The library's error as sentences about fields. Names and values of the agent's are escaped or left out."""
    where = error.instance_path
    details = error.kind.as_dict()
    match error.kind.name:
        case "required":
            yield violation((*where, str(details["property"])), "is required")
        case "additionalProperties":
            for name in details["unexpected"]:
                yield violation((*where, name), "is not an argument of this tool")
        case "falseSchema":
            yield violation(where, "is not allowed together with the other arguments")
        case "not":
            yield violation(where, "is a value that is excluded")
        case _:
            yield violation(where, error.message)


def violation(steps: Sequence[str | int], description: str) -> Violation:
    """A bounded violation at a place in the arguments."""
    # Escaped as in JSON: a name that an agent made up reaches logs and people (attack row 45).
    field = json.dumps(pointer(*steps))[1:-1]
    return Violation(field=field[:FIELD_MAX], description=description[:DESCRIPTION_MAX])
