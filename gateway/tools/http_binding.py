"""Operations become tools: what the operator says about them, checked against the document, before anything listens."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.terms.asks import Idempotency, ToolDeclaration
from gateway.terms.strict_json import JsonValue
from gateway.tools.declarations import Draft, declared, described
from gateway.tools.http_config import HttpService, HttpTool
from gateway.tools.http_lookup import names_one_thing, pointer_fault
from gateway.tools.openapi import (
    BODY,
    HEADER,
    PATH,
    QUERY,
    Document,
    OpenApiRefusedError,
    Operation,
    Reading,
    own_header,
)

_KEYED: Final = frozenset({Idempotency.NATIVE_KEY, Idempotency.LOOKUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A tool with the operations that it is made of."""

    declaration: ToolDeclaration
    tool: HttpTool
    operation: Operation
    lookup: Operation | None


def bound_tools(service: HttpService) -> tuple[Bound, ...]:
    """Every tool of a service. Raises ValueError with a line for each that cannot be made."""
    try:
        document = Document(service.document)
    except OpenApiRefusedError as error:
        raise ValueError(f"the service {service.name}: its document: {error}") from None
    found, faults = [], []
    for tool in service.tools:
        try:
            found.append(_bind(service, document, tool))
        except ValueError as error:
            faults.append(f"the tool {tool.name}: {error}")
    if faults:
        raise ValueError("\n  ".join((f"the service {service.name} cannot be used:", *faults)))
    return tuple(found)


def _bind(service: HttpService, document: Document, tool: HttpTool) -> Bound:
    reading = Reading(bounds=service.bounds, taken=_taken(service, tool))
    operation = document.operation(tool.operation, reading)
    lookup = document.operation(tool.lookup_operation, reading) if tool.lookup_operation else None
    fault = next(_faults(service, tool, operation, lookup), "")
    if fault:
        raise OpenApiRefusedError(fault)
    draft = Draft(
        name=tool.name,
        version=tool.version,
        description=described(tool.description or operation.description, tool.effect, tool.idempotency),
        arguments_schema=json.dumps(_offered(operation, tool.key_member), separators=(",", ":"), default=str),
        effect=tool.effect.value,
        idempotency=tool.idempotency.value,
        timeout_ms=tool.timeout_ms,
        redacted=tool.redacted,
    )
    return Bound(declaration=declared(draft), tool=tool, operation=operation, lookup=lookup)


def _taken(service: HttpService, tool: HttpTool) -> frozenset[tuple[str, str]]:
    """What the gateway fills itself: its key and the credentials."""
    headers = {credential.header.lower() for credential in service.credentials if credential.header}
    queries = {(QUERY, credential.query) for credential in service.credentials if credential.query}
    if tool.key_header:
        headers.add(tool.key_header.lower())
    return frozenset({(HEADER, name) for name in headers} | queries)


def _faults(service: HttpService, tool: HttpTool, operation: Operation, lookup: Operation | None) -> Iterator[str]:
    keyed = bool(tool.key_header) + bool(tool.key_member)
    if tool.idempotency in _KEYED and keyed != 1:
        yield f'idempotency "{tool.idempotency.value}" needs a key_header or a key_member, one of them'
    if tool.idempotency not in _KEYED and keyed:
        yield 'a key is sent only with idempotency "native-key" or "lookup"'
    if tool.key_header and (own_header(tool.key_header) or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", tool.key_header)):
        yield f"{tool.key_header[:64]!r} is no header that a key may be put into"
    if tool.key_header.lower() in {credential.header.lower() for credential in service.credentials} - {""}:
        yield f"{tool.key_header[:64]!r} takes a credential already"
    if tool.key_member and tool.key_member not in _body_members(operation):
        yield f"its JSON body has no member {tool.key_member[:64]!r} for the key"
    yield from _lookup_faults(tool, lookup)


def _lookup_faults(tool: HttpTool, lookup: Operation | None) -> Iterator[str]:
    if (tool.idempotency is Idempotency.LOOKUP) != (lookup is not None):
        yield 'a lookup_operation belongs to idempotency "lookup", and the other way round'
    if lookup is None:
        if tool.lookup_found:
            yield "lookup_found says nothing without a lookup_operation: leave it out"
        return
    if tool.lookup_found and (fault := pointer_fault(tool.lookup_found)):
        yield fault
    argument = next((one for one in lookup.parameters if one.argument == tool.lookup_argument), None)
    needed = _required(lookup.schema) - {tool.lookup_argument}
    if lookup.method != "GET" or argument is None or needed or argument.position not in {PATH, QUERY, HEADER}:
        yield f"the look-up {lookup.id} must be a GET whose only needed argument is lookup_argument"
    elif not tool.lookup_found and not names_one_thing(lookup, tool.lookup_argument):
        yield (
            f"an answer of the look-up {lookup.id} does not prove that something was found: set lookup_found to the "
            "member of it that then holds our key (a JSON pointer such as /refunds/0/reference), or take an operation "
            "whose path ends with lookup_argument"
        )


def _offered(operation: Operation, key_member: str) -> dict[str, JsonValue]:
    """The schema that agents see: without the member that takes our key, and with a body to put it into."""
    schema = dict(operation.schema)
    if not key_member:
        return schema
    properties = _members(schema["properties"])
    body = dict(_members(properties[BODY]))
    body["properties"] = {name: one for name, one in _body_members(operation).items() if name != key_member}
    required: list[JsonValue] = [*sorted(_required(body) - {key_member})]
    body.pop("required", None)
    if required:
        body["required"] = required
    return {
        **schema,
        "properties": {**properties, BODY: body},
        "required": [*sorted(_required(schema) - {BODY}), BODY],
    }


def _body_members(operation: Operation) -> dict[str, JsonValue]:
    body = _members(_members(operation.schema.get("properties")).get(BODY))
    return _members(body.get("properties"))


def _required(schema: object) -> set[str]:
    found = schema.get("required") if isinstance(schema, dict) else None
    return {str(name) for name in found} if isinstance(found, list) else set()


def _members(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}
