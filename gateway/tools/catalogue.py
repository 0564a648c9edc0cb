"""The catalogue: the tools that are offered to whom, and the strict reading of what they are asked for."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from gateway.terms.asks import Effect, ToolAsk, ToolDeclaration, ToolRequest, tool_digest
from gateway.terms.caller import Caller
from gateway.terms.clock import IdSource
from gateway.terms.ids import IDEMPOTENCY_KEY, RUN_ID, IdempotencyKey, RunId, ToolName
from gateway.terms.limits import ARGUMENTS_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, frozen, strict_object
from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.tools.schema import ArgumentsSchema, violation

READ_KEY_PREFIX: Final = "read-"
"""Begins the keys that the gateway makes for reads; no caller may choose one."""

_UNKNOWN: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="tool.unknown",
    sentence="No such tool is offered to you; ListTools shows those that are.",
)
"""One answer for a tool that does not exist and for one that is not granted: the catalogue is no oracle."""

_FRACTIONS_IN: Final = (Decimal, dict, list)
_NEGATIVE_ZERO: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|(-0(?![0-9]))', re.DOTALL)


class Catalogue:
    """All declared tools. Frozen after it is built."""

    def __init__(
        self,
        declarations: Iterable[ToolDeclaration],
        ids: IdSource,
        pins: Mapping[ToolName, str] | None = None,
    ) -> None:
        """Compile every schema; `pins` are the hashes that the operator approved, for the tools that have one.

        Raises `SchemaRefusedError`, or ValueError when a name and version is declared twice.
        """
        self._ids = ids
        self._pins = dict(pins or {})
        self._tools: dict[ToolName, dict[str, tuple[ToolDeclaration, ArgumentsSchema]]] = {}
        for tool in declarations:
            versions = self._tools.setdefault(tool.name, {})
            if tool.version in versions:
                raise ValueError(f"tool {tool.name} is declared twice in version {tool.version}")
            versions[tool.version] = (tool, ArgumentsSchema(tool.arguments_schema))

    def offered(self, caller: Caller) -> tuple[ToolDeclaration, ...]:
        """The tools that are granted to this caller, in the order of their names and versions."""
        return tuple(
            tool
            for name in sorted(self._tools.keys() & caller.tools)
            for _, (tool, _) in sorted(self._tools[name].items())
            if self._approved(tool)
        )

    def holds(self, tool: ToolDeclaration) -> bool:
        """Whether this very declaration is in force; one that changed after the decision is not (attack row 19)."""
        found = self._tools.get(tool.name, {}).get(tool.version)
        return found is not None and found[0] == tool and self._approved(tool)

    def ask(self, caller: Caller, request: ToolRequest) -> ToolAsk | Refusal:
        """Read a request strictly and check it against the tool's schema."""
        found = self._find(caller, request)
        if isinstance(found, Refusal):
            return found
        tool, schema = found
        key = self._key(tool, request.idempotency_key)
        if isinstance(key, Refusal):
            return key
        if request.run_id and not RUN_ID.fullmatch(request.run_id):
            return _malformed("run_id.malformed", "run_id", "must be empty or 1 to 64 of A-Z, a-z, 0-9 and _ . : -")
        arguments = _arguments(schema, request.arguments_json)
        if isinstance(arguments, Refusal):
            return arguments
        data = request.arguments_json.encode()
        return ToolAsk(
            tool=tool,
            arguments_bytes=data,
            arguments=MappingProxyType({name: frozen(value) for name, value in arguments.items()}),
            key=key,
            run=RunId(request.run_id),
            digest=tool_digest(tool.name, tool.version, data),
        )

    def _find(self, caller: Caller, request: ToolRequest) -> tuple[ToolDeclaration, ArgumentsSchema] | Refusal:
        name = ToolName(request.tool)
        versions = self._tools.get(name) if name in caller.tools else None
        if not versions:
            return _UNKNOWN
        if not request.version and len(versions) > 1:
            return _malformed("tool.version_missing", "version", f"must be one of {', '.join(sorted(versions))}")
        found = versions.get(request.version) if request.version else next(iter(versions.values()))
        if found is None:
            return _UNKNOWN
        if not self._approved(found[0]):
            sentence = "The tool is not what the operator approved; the operator must approve its new declaration."
            return Refusal(kind=Kind.UNAVAILABLE, reason="tool.changed", sentence=sentence)
        return found

    def _approved(self, tool: ToolDeclaration) -> bool:
        return self._pins.get(tool.name, tool.hash) == tool.hash

    def _key(self, tool: ToolDeclaration, text: str) -> IdempotencyKey | Refusal:
        if not text and tool.effect is Effect.READ:
            return IdempotencyKey(self._ids.new(READ_KEY_PREFIX[:-1]))
        if not text:
            return _malformed(
                "idempotency_key.missing", "idempotency_key", "is required: this tool changes something in the world"
            )
        if not IDEMPOTENCY_KEY.fullmatch(text):
            return _malformed(
                "idempotency_key.malformed", "idempotency_key", "must be 1 to 255 printable ASCII characters"
            )
        if text.startswith(READ_KEY_PREFIX):
            return _malformed(
                "idempotency_key.reserved",
                "idempotency_key",
                f"must not begin with {READ_KEY_PREFIX!r}: choose another",
            )
        return IdempotencyKey(text)


def _malformed(reason: str, field: str, description: str) -> Refusal:
    return Refusal(
        kind=Kind.MALFORMED,
        reason=reason,
        sentence=f"{field} {description}.",
        violations=(Violation(field=field, description=description),),
    )


def _arguments(schema: ArgumentsSchema, text: str) -> dict[str, JsonValue] | Refusal:
    try:
        data = text.encode()
        arguments = strict_object(data, size_max=ARGUMENTS_BYTES_MAX)
    except UnicodeEncodeError:
        return _malformed("arguments.malformed", "arguments_json", "holds half of a surrogate pair")
    except JsonRefusedError as error:
        return _malformed("arguments.malformed", "arguments_json", f"is refused: {error}")
    if b"-0" in data and any(_NEGATIVE_ZERO.findall(data)):
        return _malformed("arguments.malformed", "arguments_json", "is refused: -0 is not a number here")
    # 1.0 and 1e2 count as integers in JSON Schema; here a number with a point or exponent is none (study, section 2).
    found = _fractions(arguments) or schema.violations(arguments)
    if not found:
        return arguments
    return Refusal(
        kind=Kind.MALFORMED,
        reason="arguments.schema",
        sentence="The arguments do not match the tool's schema: " + _summary(found),
        violations=found,
    )


def _fractions(value: JsonValue, steps: tuple[str | int, ...] = ()) -> tuple[Violation, ...]:
    """The first number that is written with a point or an exponent."""
    if isinstance(value, Decimal):
        return (violation(steps, "must be written without point and exponent"),)
    members: Iterable[tuple[str | int, JsonValue]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, member in members:
        if isinstance(member, _FRACTIONS_IN) and (found := _fractions(member, (*steps, name))):
            return found
    return ()


def _summary(found: tuple[Violation, ...]) -> str:
    first = f"{found[0].field or 'the whole'} {found[0].description}"
    more = len(found) - 1
    return first + (f" (and {more} more)." if more else ".")
