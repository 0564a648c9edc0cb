"""The Cedar schema of this gateway: generated from the tools' own schemas, so that rules are checked against them.

Every tool is an action, its arguments are `context.arguments`, what the gateway found out is `context.facts`. Facts are
always required: a rule over a fact that could be absent would fall silent when it is needed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.policy.looks import Looks
from gateway.policy.shapes import EMPTY, CedarJson, Field, Record, Scalar, SetOf, Shape, declared
from gateway.terms.asks import ToolDeclaration
from gateway.terms.ids import ToolName
from gateway.terms.limits import SCHEMA_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object

AGENT: Final = "Agent"
TOOL: Final = "Tool"
MODEL: Final = "Model"
GATEWAY: Final = "Gateway"
CHAT: Final = "chat"
COUNT_TOKENS: Final = "count_tokens"
DRY_RUN: Final = "dry_run"
READS: Final = ("get_operation", "list_models", "list_tools")

ENTITIES: Final[Mapping[str, Record]] = MappingProxyType(
    {
        AGENT: Record(
            fields={
                "role": Field(shape=Scalar.STRING),
                "team": Field(shape=Scalar.STRING),
                "tenant": Field(shape=Scalar.STRING),
                "email": Field(shape=Scalar.STRING),
                "models": Field(shape=SetOf(element=Scalar.STRING)),
                "tools": Field(shape=SetOf(element=Scalar.STRING)),
            }
        ),
        TOOL: Record(
            fields={
                "name": Field(shape=Scalar.STRING),
                "version": Field(shape=Scalar.STRING),
                "effect": Field(shape=Scalar.STRING),
            }
        ),
        MODEL: Record(fields={"name": Field(shape=Scalar.STRING)}),
        GATEWAY: EMPTY,
    }
)
"""What rules may ask of principals and resources. The names of grants are in it: `principal.tools.contains(...)`."""

_CHAT_ARGUMENTS: Final = Record(
    fields={
        "max_output_tokens": Field(shape=Scalar.LONG),
        "input_tokens_bound": Field(shape=Scalar.LONG),
        "functions": Field(shape=SetOf(element=Scalar.STRING)),
    }
)
_BUILT_IN: Final[Mapping[str, tuple[str, Record]]] = MappingProxyType(
    {CHAT: (MODEL, _CHAT_ARGUMENTS), COUNT_TOKENS: (MODEL, EMPTY), DRY_RUN: (TOOL, EMPTY)}
    | dict.fromkeys(READS, (GATEWAY, EMPTY))
)
_SCALARS: Final = {"string": Scalar.STRING, "integer": Scalar.LONG, "boolean": Scalar.BOOL}
_FACT_SCALARS: Final[Mapping[type, Scalar]] = {str: Scalar.STRING, int: Scalar.LONG, bool: Scalar.BOOL}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_REFERENCE: Final = re.compile(r"#/\$defs/([A-Za-z0-9_]+)")
_RESERVED: Final = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has"})
"""Cedar's own words. What begins with two underscores (`__entity`, `__extn`, `__cedar`) is no name here either."""

_DEPTH_MAX: Final = 32


class PolicySchemaError(ValueError):
    """Tools that no policy can be written for; `faults` has a sentence for each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(self.faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInputs:
    """What policies are about: the offered tools, and the facts that are known of each.

    Fact types are `int`, `str` or `bool`; a tool that is absent has no facts.
    """

    tools: tuple[ToolDeclaration, ...]
    facts: Mapping[ToolName, Mapping[str, type]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySchema:
    """A generated schema."""

    text: str
    """In Cedar's JSON form, always the same bytes for the same tools."""
    contexts: Mapping[str, Record]
    """The type of `context` for each action."""

    @property
    def names(self) -> frozenset[str]:
        """Every attribute that anything may have."""
        records = (*ENTITIES.values(), *self.contexts.values())
        return frozenset(name for one in records for name in _names(one))

    def only(self, seen: Looks) -> "PolicySchema":
        """The schema of contexts that have nothing but what is looked at."""
        contexts = {name: seen.shape(context) for name, context in self.contexts.items()}
        return PolicySchema(text=_text(contexts), contexts=MappingProxyType(contexts))


def policy_schema(inputs: PolicyInputs) -> PolicySchema:
    """Generate the schema, or raise `PolicySchemaError` with everything that stands against it."""
    faults: list[str] = []
    arguments: dict[str, Record] = {}
    for tool in inputs.tools:
        try:
            shape = _arguments(tool)
        except _Inexpressible as error:
            faults.append(f"Tool {tool.name}: {error}.")
            continue
        if tool.name in _BUILT_IN:
            faults.append(f"Tool {tool.name}: rename it, the gateway has an action of that name.")
        elif arguments.setdefault(tool.name, shape) != shape:
            faults.append(f"Tool {tool.name}: offer versions with the same arguments, or give them names of their own.")
    facts = {name: _facts(name, types, faults) for name, types in inputs.facts.items()}
    faults.extend(f"Tool {name}: it has facts but is not declared." for name in facts if name not in arguments)
    if faults:
        raise PolicySchemaError(faults)
    contexts = {name: _context(own, EMPTY) for name, (_, own) in _BUILT_IN.items()}
    contexts |= {name: _context(shape, facts.get(ToolName(name), EMPTY)) for name, shape in arguments.items()}
    return PolicySchema(text=_text(contexts), contexts=MappingProxyType(contexts))


class _Inexpressible(ValueError):  # noqa: N818 - it never leaves this module
    """A JSON Schema without a Cedar type; the message says what to do."""


def _context(arguments: Record, facts: Record) -> Record:
    return Record(fields=MappingProxyType({"arguments": Field(shape=arguments), "facts": Field(shape=facts)}))


def _text(contexts: Mapping[str, Record]) -> str:
    entities: dict[str, CedarJson] = {name: {"shape": declared(shape)} for name, shape in ENTITIES.items()}
    actions: dict[str, CedarJson] = {
        name: {
            "appliesTo": {
                "principalTypes": [AGENT],
                "resourceTypes": [_BUILT_IN[name][0] if name in _BUILT_IN else TOOL],
                "context": declared(context),
            }
        }
        for name, context in contexts.items()
    }
    return json.dumps({"": {"entityTypes": entities, "actions": actions}}, sort_keys=True, separators=(",", ":"))


def _names(shape: Shape) -> Iterator[str]:
    if isinstance(shape, SetOf):
        yield from _names(shape.element)
    elif isinstance(shape, Record):
        for name, field in shape.fields.items():
            yield name
            yield from _names(field.shape)


def _facts(tool: str, types: Mapping[str, type], faults: list[str]) -> Record:
    for name, kind in types.items():
        if kind not in _FACT_SCALARS or not _nameable(name):
            faults.append(f"Tool {tool}: the fact {name!r} must have a plain name and be an int, a str or a bool.")
    known = {name: Field(shape=_FACT_SCALARS[kind]) for name, kind in types.items() if kind in _FACT_SCALARS}
    return Record(fields=MappingProxyType(known))


def _arguments(tool: ToolDeclaration) -> Record:
    try:
        schema = strict_object(tool.arguments_schema, size_max=SCHEMA_BYTES_MAX)
    except JsonRefusedError as error:
        raise _Inexpressible(f"its arguments schema is refused: {error}") from None
    shape = _shape(schema, _object(schema.get("$defs")), "arguments", _DEPTH_MAX)
    if not isinstance(shape, Record):
        raise _Inexpressible("arguments must be one object")
    return shape


def _shape(schema: JsonValue, definitions: Mapping[str, JsonValue], place: str, depth: int) -> Shape:
    """The type of a JSON Schema. Keywords that only narrow a value (`pattern`, `if`, `oneOf`) change no type."""
    said = _object(schema)
    if depth == 0:
        raise _Inexpressible(f"{place} is nested too deep or refers to itself")
    if "$ref" in said:
        match = _REFERENCE.fullmatch(str(said["$ref"]))
        if match is None or match.group(1) not in definitions:
            raise _Inexpressible(f"{place} must refer to #/$defs/NAME of its own schema")
        return _shape(definitions[match.group(1)], definitions, place, depth - 1)
    kind = said.get("type")
    if isinstance(kind, str) and kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "array" and "prefixItems" not in said:
        return SetOf(element=_shape(said.get("items"), definitions, f"{place}[]", depth - 1))
    if kind == "object":
        return _record(said, definitions, place, depth)
    raise _Inexpressible(
        f"{place} must have one type of string, integer, boolean, array (with items) and object; "
        "write fractions as decimal strings"
    )


def _record(said: Mapping[str, JsonValue], definitions: Mapping[str, JsonValue], place: str, depth: int) -> Record:
    if said.get("additionalProperties") is not False or "patternProperties" in said:
        raise _Inexpressible(f"{place} must be closed (additionalProperties: false)")
    required = said.get("required")
    needed = required if isinstance(required, list) else []
    fields = {}
    for name, member in _object(said.get("properties")).items():
        if not _nameable(name):
            raise _Inexpressible(f"{place} has a member {name[:64]!r} whose name means something else in Cedar")
        shape = _shape(member, definitions, f"{place}.{name}", depth - 1)
        fields[name] = Field(shape=shape, required=name in needed)
    return Record(fields=MappingProxyType(fields))


def _nameable(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}
