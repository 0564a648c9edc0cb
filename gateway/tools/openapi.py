"""OpenAPI 3.1 documents: what one operation takes, with every reference resolved inside of the document.

Nothing is ever fetched: a `$ref` to anything but a place in this very document is refused (attack row 19). What the
gateway cannot put on the wire without guessing (cookies, nested query objects, bodies that are no JSON) is refused too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object
from gateway.tools.tightening import Bounds, tightened

DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
NODES_MAX: Final = 10_000
"""Of one operation's schema when every reference is written out: references of references multiply."""

BODY: Final = "body"
"""The argument that holds the whole JSON body."""

PATH, QUERY, HEADER = "path", "query", "header"

_METHODS: Final = ("get", "put", "post", "delete", "patch")
_TEXTS: Final = frozenset({"title", "summary", "description", "$comment", "examples"})
_ARGUMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TEMPLATE: Final = re.compile(r"\{([^{}/]+)\}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_SCALARS: Final = frozenset({"string", "integer", "boolean"})
_IGNORED_HEADERS: Final = frozenset({"accept", "content-type", "authorization"})
"""OpenAPI itself says that parameters of these names are ignored."""
_OWN_HEADERS: Final = frozenset(
    {
        *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "via"),
        *("content-length", "content-encoding", "accept-encoding", "cookie", "set-cookie", "user-agent", "forwarded"),
        *("metadata-flavor", "origin", "referer", "x-real-ip", "x-http-method-override", "x-method-override"),
        *("x-original-url", "x-rewrite-url"),
    }
)
_OWN_PREFIXES: Final = ("proxy-", "x-forwarded-", "x-goog-", "x-google-", "sec-")
"""Headers of the connection, of identity and of routing: the gateway's and the service's own (attack rows 32, 33)."""


class OpenApiRefusedError(ValueError):
    """A document, or an operation of it, that no tool can be made of; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One value of a request outside of its body."""

    argument: str
    """What agents call it: the name with everything but letters, digits and underscores as an underscore."""
    name: str
    position: str
    exploded: bool
    """Of an array: whether each item repeats the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation, ready to be called."""

    id: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    has_body: bool
    description: str
    schema: Mapping[str, JsonValue]
    """Of the arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an operation is to be read."""

    bounds: Bounds = field(default_factory=Bounds)
    taken: frozenset[tuple[str, str]] = frozenset()
    """Positions and names (headers in lower case) that the gateway fills itself: they are no arguments."""


class Document:
    """One document."""

    def __init__(self, text: bytes) -> None:
        """Read it. Raises `OpenApiRefusedError`."""
        try:
            self._root = strict_object(text, size_max=DOCUMENT_BYTES_MAX)
        except JsonRefusedError as error:
            raise OpenApiRefusedError(f"it is no JSON: {error}; convert YAML to JSON first") from None
        version = self._root.get("openapi")
        if not isinstance(version, str) or not re.fullmatch(r"3\.1\.[0-9]+", version):
            raise OpenApiRefusedError('it does not say "openapi": "3.1.x"; convert it to OpenAPI 3.1 first')
        self._places: dict[str, list[tuple[str, str]]] = {}
        for path, item in _members(self._root.get("paths")).items():
            for method in _METHODS:
                found = _members(_members(item).get(method)).get("operationId")
                if isinstance(found, str):
                    self._places.setdefault(found, []).append((path, method))

    def operation(self, name: str, reading: Reading) -> Operation:
        """The operation with this `operationId`. Raises `OpenApiRefusedError`."""
        places = self._places.get(name, [])
        if len(places) != 1:
            known = ", ".join(sorted(self._places)[:50]) or "none with an operationId"
            raise OpenApiRefusedError(
                f"{len(places)} operations have the operationId {name[:64]!r}; write one of {known}"
            )
        try:
            return self._read(name, places[0], reading)
        except RecursionError:
            raise OpenApiRefusedError(f"operation {name}: its schema is nested too deep") from None
        except OpenApiRefusedError as error:
            raise OpenApiRefusedError(f"operation {name}: {error}") from None

    def _read(self, name: str, place: tuple[str, str], reading: Reading) -> Operation:
        path, method = place
        item = _members(_members(self._root.get("paths")).get(path))
        if "$ref" in item:
            raise OpenApiRefusedError("its path is a $ref; write the path item where it stands")
        said = _members(item.get(method))
        properties: dict[str, JsonValue] = {}
        required: list[JsonValue] = []
        parameters: list[Parameter] = []
        for raw in self._parameters(item, said):
            known = _parameter(raw, reading.taken)
            if known is None:
                continue
            if known.argument in properties or known.argument == BODY:
                raise OpenApiRefusedError(f"two arguments would be called {known.argument}")
            parameters.append(known)
            properties[known.argument] = self._schema_of(raw, known, reading.bounds)
            if raw.get("required") is True:
                required.append(known.argument)
        body = self._body(said, reading.bounds)
        if body is not None:
            properties[BODY] = body[0]
            required += [BODY] if body[1] else []
        _check_path(path, parameters)
        return Operation(
            id=name,
            method=method.upper(),
            path=path,
            parameters=tuple(parameters),
            has_body=body is not None,
            description=_description(said),
            schema={
                "type": "object",
                "properties": properties,
                **({"required": required} if required else {}),
                "additionalProperties": False,
            },
        )

    def _parameters(self, item: Mapping[str, JsonValue], said: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
        """The operation's parameters and those of its path that it does not replace."""
        found: dict[tuple[str, str], dict[str, JsonValue]] = {}
        for one in (*_items(item.get("parameters")), *_items(said.get("parameters"))):
            raw = self._resolved(one)
            found[str(raw.get("in")), str(raw.get("name"))] = raw
        return list(found.values())

    def _schema_of(self, raw: Mapping[str, JsonValue], known: Parameter, bounds: Bounds) -> JsonValue:
        if "schema" not in raw:
            raise OpenApiRefusedError(f"the parameter {known.name[:64]!r} has no schema")
        schema = tightened(self._inlined(raw["schema"]), bounds)
        kinds = _members(schema).get("type")
        items = _members(_members(schema).get("items")).get("type")
        listed = kinds == "array" and items in _SCALARS and known.position == QUERY
        if kinds not in _SCALARS and not listed:
            raise OpenApiRefusedError(
                f"the parameter {known.name[:64]!r} must be a string, an integer or a boolean, or in a query an array "
                "of these"
            )
        text = raw.get("description")
        if isinstance(schema, dict) and isinstance(text, str):
            schema.setdefault("description", text)
        return schema

    def _body(self, said: Mapping[str, JsonValue], bounds: Bounds) -> tuple[JsonValue, bool] | None:
        if "requestBody" not in said:
            return None
        body = self._resolved(said["requestBody"])
        content = _members(body.get("content"))
        if "application/json" not in content:
            if body.get("required") is not True:
                return None
            raise OpenApiRefusedError("its body cannot be application/json, which is all that the gateway writes")
        schema = _members(content["application/json"]).get("schema")
        if schema is None:
            raise OpenApiRefusedError("its JSON body has no schema")
        return tightened(self._inlined(schema), bounds), body.get("required") is True

    def _resolved(self, value: JsonValue, seen: tuple[str, ...] = ()) -> dict[str, JsonValue]:
        """What a value or a reference stands for."""
        members = _members(value)
        if "$ref" not in members:
            return members
        reference = members["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise OpenApiRefusedError(
                f"{str(reference)[:80]!r} is no place in this document; nothing is ever fetched, so bring it in"
            )
        if reference in seen:
            raise OpenApiRefusedError(f"{reference[:80]!r} refers to itself; arguments have a bounded depth")
        return self._resolved(self._at(reference), (*seen, reference))

    def _at(self, reference: str) -> JsonValue:
        place: JsonValue = self._root
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or key not in place:
                raise OpenApiRefusedError(f"{reference[:80]!r} leads nowhere in this document")
            place = place[key]
        return place

    def _inlined(self, schema: JsonValue) -> JsonValue:
        """The schema with every reference written out."""
        return _Inlining(self).of(schema, ())


class _Inlining:
    """Writes one schema out, within a bound."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = NODES_MAX

    def of(self, schema: JsonValue, seen: tuple[str, ...]) -> JsonValue:
        self._left -= 1
        if self._left < 0:
            raise OpenApiRefusedError(f"its schema has more than {NODES_MAX} parts when every $ref is written out")
        if isinstance(schema, list):
            return [self.of(one, seen) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" not in schema:
            return {name: self.of(member, seen) for name, member in schema.items()}
        reference, beside = schema["$ref"], schema.keys() - _TEXTS - {"$ref"}
        if beside:
            raise OpenApiRefusedError(f"{min(beside)[:64]!r} stands beside a $ref; write the schema out")
        target = self._document._resolved({"$ref": reference}, seen)  # noqa: SLF001 - one reader in two classes
        written = self.of(target, (*seen, str(reference)))
        texts = {name: text for name, text in schema.items() if name in _TEXTS}
        return {**_members(written), **texts}


def own_header(name: str) -> bool:
    """Whether a header is the connection's, the gateway's or the service's own, and no argument's."""
    lowered = name.lower()
    return lowered in _OWN_HEADERS or lowered.startswith(_OWN_PREFIXES)


def _parameter(raw: Mapping[str, JsonValue], taken: frozenset[tuple[str, str]]) -> Parameter | None:
    """A parameter as an argument; None for one that the gateway fills itself or that is to be ignored."""
    name, position = raw.get("name"), raw.get("in")
    if not isinstance(name, str) or not isinstance(position, str):
        raise OpenApiRefusedError("one of its parameters has no name or no position")
    key = name.lower() if position == HEADER else name
    if (position, key) in taken or (position == HEADER and key in _IGNORED_HEADERS):
        return None
    why = _parameter_fault(name, position, raw)
    if why and raw.get("required") is not True and position == "cookie":
        return None
    if why:
        raise OpenApiRefusedError(f"the parameter {name[:64]!r} {why}")
    argument = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not _ARGUMENT.fullmatch(argument):
        raise OpenApiRefusedError(f"the parameter {name[:64]!r} has a name that no argument can have")
    exploded = raw.get("explode", True) is True
    return Parameter(argument=argument, name=name, position=position, exploded=exploded)


def _parameter_fault(name: str, position: str, raw: Mapping[str, JsonValue]) -> str:
    styles = {PATH: "simple", QUERY: "form", HEADER: "simple"}
    if position not in styles:
        return f"stands in a {position[:16]}; only path, query and header can be written"
    if raw.get("style", styles[position]) != styles[position] or raw.get("allowReserved", False) is not False:
        return "has another style than its position's plain one"
    if position == HEADER and own_header(name):
        return "is a header that no agent may set"
    if position == HEADER and not _TOKEN.fullmatch(name):
        return "is no header's name"
    if position == PATH and raw.get("required") is not True:
        return 'stands in the path and must say "required": true'
    return ""


def _check_path(path: str, parameters: list[Parameter]) -> None:
    named = {known.name for known in parameters if known.position == PATH}
    used = set(_TEMPLATE.findall(path))
    if not path.startswith("/") or named != used:
        raise OpenApiRefusedError(f"its path {path[:80]!r} and its path parameters name different things")
    plain = _TEMPLATE.sub("x", path)
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]+", plain) or any(
        step in {".", ".."} for step in plain.split("/")
    ):
        raise OpenApiRefusedError(f"its path {path[:80]!r} has characters that no plain path has")


def _description(said: Mapping[str, JsonValue]) -> str:
    texts: Iterator[str] = (
        text for text in (said.get("description"), said.get("summary")) if isinstance(text, str) and text.strip()
    )
    return next(texts, "")


def _members(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
