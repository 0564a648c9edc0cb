"""JSON values that conform to a schema: JSON Schema's and OpenAPI's common keywords, chosen by a seeded chance.

Raises ApiError 400 where a schema cannot be satisfied or uses what is not understood, as the real server refuses a
schema that is too complex: nothing is answered that would not conform.
"""

import math
from collections.abc import Callable
from random import Random

import jsonschema_rs
import msgspec

from localcloud.vertex.errors import ApiError, invalid
from localcloud.vertex.jsontypes import Json, JsonObject, as_list, as_object, as_text, integer, number, strings
from localcloud.vertex.patterns import PatternError, writer

MAX_DEPTH = 24
# Optional members are written down to this depth; below it only required ones, so that recursion ends.
OPTIONAL_DEPTH = 4
MAX_ITEMS = 1000
TRIES = 64
ATTEMPTS = 16
WORDS = (
    "ledger",
    "quote",
    "order",
    "margin",
    "window",
    "signal",
    "desk",
    "limit",
    "record",
    "venue",
    "spread",
    "clear",
)
FORMATS: dict[str, Callable[[Random], str]] = {
    "date": lambda chance: f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
    "time": lambda chance: f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00Z",
    "date-time": lambda chance: f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T12:00:00Z",
    "duration": lambda chance: f"PT{chance.randint(1, 59)}M",
    "email": lambda chance: f"{chance.choice(WORDS)}@example.com",
    "uri": lambda chance: f"https://example.com/{chance.choice(WORDS)}",
    "uuid": lambda chance: "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}".format(
        *(chance.getrandbits(bits) for bits in (32, 16, 12, 12, 48))
    ),
}
# Keywords that are satisfied by trying: a value is written without them and kept if it passes.
TESTED = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "patternProperties",
        "dependentSchemas",
        "dependentRequired",
        "contains",
        "propertyNames",
        "minProperties",
        "maxProperties",
    }
)


def conforming(schema: JsonObject, seed: int) -> Json:
    """A value of the schema; the same seed gives the same value.

    Where a validator of JSON Schema understands the schema it has the last word, and values with the required members
    alone are tried too, for schemas whose optional members exclude each other.
    """
    validator = _validator(schema)
    for attempt in range(ATTEMPTS):
        chance = Random(seed + attempt)  # noqa: S311 - reproducible, not secret
        value = _Generator(schema, chance, optional_depth=0 if attempt % 2 else OPTIONAL_DEPTH).value(schema, 0)
        if validator is None or validator.is_valid(value):
            return value
    raise invalid("No value was found that the response schema allows.")


def _validator(schema: JsonObject) -> jsonschema_rs.Validator | None:
    """The judge of a schema, None for one in OpenAPI's spelling, which it does not understand."""
    try:
        return jsonschema_rs.validator_for(schema, retriever=_nothing_remote)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None


class _Generator:
    """Walks one schema."""

    def __init__(self, root: JsonObject, chance: Random, optional_depth: int) -> None:
        self.root = root
        self.optional_depth = optional_depth
        self.chance = chance
        self.writers: dict[str, Callable[[JsonObject, int], Json]] = {
            "object": self.write_object,
            "array": self.write_array,
            "string": self.write_string,
            "integer": self.write_integer,
            "number": self.write_number,
            "boolean": lambda _schema, _depth: self.chance.random() < 0.5,
            "null": lambda _schema, _depth: None,
        }

    def value(self, schema: object, depth: int) -> Json:
        """A value of a schema or of one of JSON Schema's two boolean schemas."""
        if schema is False:
            raise invalid("The response schema allows no value at all.")
        members = as_object(schema)
        if depth > MAX_DEPTH:
            raise invalid("The response schema is nested too deeply or needs endless recursion.")
        if TESTED & members.keys():
            return self.tested(members, depth)
        if "const" in members:
            return members["const"]
        if as_list(members.get("enum")):
            return self.chance.choice(as_list(members["enum"]))
        combined = self.combined(members, depth)
        if combined is not None:
            return self.value(combined, depth + 1)
        return self.writers[self.kind(members)](members, depth)

    def tested(self, schema: JsonObject, depth: int) -> Json:
        """A value that passes the keywords that cannot be written for, found by trying."""
        plain: JsonObject = {key: value for key, value in schema.items() if key not in TESTED}
        definitions: JsonObject = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        validator = _validator(definitions | schema)
        if validator is None:
            raise invalid("The response schema is not a valid JSON Schema.")
        for _ in range(TRIES):
            value = self.value(plain, depth + 1)
            if validator.is_valid(value):
                return value
        raise invalid("No value was found that the response schema allows.")

    def combined(self, schema: JsonObject, depth: int) -> JsonObject | None:
        """The schema with its reference followed, a branch taken or its parts merged, else None."""
        reference = as_text(schema.get("$ref", schema.get("ref")))
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "ref", "anyOf", "oneOf", "allOf")}
        if reference:
            return _merged(rest, self.target(reference))
        for keyword in ("anyOf", "oneOf"):
            branches = as_list(schema.get(keyword))
            if branches:
                return _merged(rest, as_object(self.branch(branches, depth)))
        parts = as_list(schema.get("allOf"))
        for part in parts:
            rest = _merged(rest, as_object(part))
        return rest if parts else None

    def branch(self, branches: list[Json], depth: int) -> Json:
        """A branch that says more than null; deep down the last one, which ends recursive schemas."""
        telling = [branch for branch in branches if as_object(branch).get("type") not in ("null", "NULL")]
        if not telling:
            return branches[0]
        return (
            telling[0] if depth <= OPTIONAL_DEPTH else min(telling, key=lambda branch: len(msgspec.json.encode(branch)))
        )

    def target(self, reference: str) -> JsonObject:
        """The schema that a local reference names; a bare name is looked up among the definitions."""
        path = reference.removeprefix("#/").split("/") if reference.startswith("#/") else ["defs", reference]
        found: Json = self.root
        for step in path if reference != "#" else []:
            members = as_object(found)
            name = step.replace("~1", "/").replace("~0", "~")
            found = members.get(name, members.get("defs" if name == "$defs" else "$defs" if name == "defs" else name))
        if not isinstance(found, dict):
            raise invalid(f"The schema's reference {reference} leads nowhere; only local references are supported.")
        return found

    def kind(self, schema: JsonObject) -> str:
        """The type to write: the first that is not null; a schema without one is what its keywords say."""
        declared = schema.get("type")
        names = [as_text(declared)] if isinstance(declared, str) else list(strings(declared))
        lowered = [name.lower() for name in names if name != "TYPE_UNSPECIFIED"]
        chosen = next((name for name in lowered if name != "null"), lowered[0] if lowered else "")
        if not chosen:
            chosen = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if chosen not in self.writers:
            raise invalid(f"The schema type {chosen} is not known.")
        return chosen

    def write_object(self, schema: JsonObject, depth: int) -> Json:
        """An object with its required members, and down to OPTIONAL_DEPTH the optional ones too."""
        properties = as_object(schema.get("properties"))
        required = strings(schema.get("required"))
        order = [name for name in strings(schema.get("propertyOrdering")) if name in properties]
        names = order + [name for name in properties if name not in order]
        names += [name for name in required if name not in properties]
        found: JsonObject = {}
        for name in names:
            if name in required or depth < self.optional_depth:
                self.put(found, name, properties.get(name, {}), depth, needed=name in required)
        return found

    def put(self, found: JsonObject, name: str, schema: Json, depth: int, *, needed: bool) -> None:
        """Write one member; an optional one that cannot be written is left out."""
        try:
            found[name] = self.value(schema, depth + 1)
        except ApiError:
            if needed:
                raise

    def write_array(self, schema: JsonObject, depth: int) -> Json:
        """An array within its bounds, of different items where they must be unique."""
        first = as_list(schema.get("prefixItems"))
        least = integer(schema, "minItems") or 0
        most = integer(schema, "maxItems")
        if least > MAX_ITEMS or (most is not None and most < least):
            raise invalid(f"An array of {least} to {most} items cannot be written.")
        wish = max(least, len(first), self.chance.randint(1, 3) if depth <= OPTIONAL_DEPTH else 0)
        wish = wish if most is None else min(wish, most)
        if schema.get("items") is False:
            wish = min(wish, len(first))
        items: list[Json] = [self.value(item, depth + 1) for item in first[:wish]]
        unique = schema.get("uniqueItems") is True
        for _ in range(TRIES * wish):
            if len(items) == wish:
                break
            item = self.value(schema.get("items", {}), depth + 1)
            if not unique or item not in items:
                items.append(item)
        if len(items) < least:
            raise invalid(f"An array of {least} different items cannot be written.")
        return items

    def write_string(self, schema: JsonObject, _depth: int) -> Json:
        """A string of the format or pattern, or of words, within its length."""
        least, most = integer(schema, "minLength") or 0, integer(schema, "maxLength")
        pattern, form = as_text(schema.get("pattern")), as_text(schema.get("format"))
        if pattern:
            return self.matching(pattern, least, most)
        if form in FORMATS:
            return FORMATS[form](self.chance)
        if least > 100_000 or (most is not None and most < least):
            raise invalid(f"A string of {least} to {most} characters cannot be written.")
        text = f"{self.chance.choice(WORDS)} {self.chance.choice(WORDS)}"
        while len(text) < least:
            text += f" {self.chance.choice(WORDS)}"
        return text if most is None else text[:most]

    def matching(self, pattern: str, least: int, most: int | None) -> str:
        """A string that matches the pattern and fits the length."""
        try:
            write = writer(pattern)
            for _ in range(TRIES):
                text = write(self.chance)
                if least <= len(text) and (most is None or len(text) <= most):
                    return text
        except PatternError as fault:
            raise invalid(f"The schema's pattern {pattern!r} is not supported: {fault}.") from None
        raise invalid(f"No text of {least} to {most} characters was found for the pattern {pattern!r}.")

    def write_integer(self, schema: JsonObject, _depth: int) -> Json:
        """An integer within its bounds, a multiple of what it must divide by."""
        low, high = _bounds(schema)
        step = number(schema, "multipleOf") or 1
        if step != int(step):
            raise invalid("multipleOf must be an integer for an integer.")
        return self.multiple(low, high, step, schema) * int(step)

    def multiple(self, low: float, high: float, step: float, schema: JsonObject) -> int:
        """How many steps the value has, so that it lies within its bounds."""
        first, last = math.ceil(low / step), math.floor(high / step)
        first += first * step <= low and "exclusiveMinimum" in schema
        last -= last * step >= high and "exclusiveMaximum" in schema
        if first > last:
            raise invalid(f"No multiple of {step:g} lies between {low:g} and {high:g}.")
        return self.chance.randint(first, last)

    def write_number(self, schema: JsonObject, _depth: int) -> Json:
        """A number within its bounds, with at most two decimals where the bounds leave room for it."""
        low, high = _bounds(schema)
        step = number(schema, "multipleOf")
        if step:
            return round(self.multiple(low, high, step, schema) * step, 10)
        if low > high or (low == high and ("exclusiveMinimum" in schema or "exclusiveMaximum" in schema)):
            raise invalid(f"There is no number between {low:g} and {high:g}.")
        exact = low + (high - low) * self.chance.uniform(0.1, 0.9)
        rounded = round(exact, 2)
        return rounded if low < rounded < high else exact


def _nothing_remote(uri: str) -> JsonObject:
    raise ValueError(f"{uri} is not a local reference")


def _merged(schema: JsonObject, more: JsonObject) -> JsonObject:
    """Two schemas as one: members and requirements joined, other keywords taken from the second."""
    merged = schema | more
    if "properties" in schema and "properties" in more:
        merged["properties"] = as_object(schema["properties"]) | as_object(more["properties"])
    if "required" in schema and "required" in more:
        merged["required"] = list[Json](dict.fromkeys((*strings(schema["required"]), *strings(more["required"]))))
    return merged


def _bounds(schema: JsonObject) -> tuple[float, float]:
    lows = [value for value in (number(schema, "minimum"), number(schema, "exclusiveMinimum")) if value is not None]
    highs = [value for value in (number(schema, "maximum"), number(schema, "exclusiveMaximum")) if value is not None]
    low = max(lows) if lows else (min(highs) - 100 if highs and min(highs) <= 0 else 0)
    return low, min(highs) if highs else low + 100
