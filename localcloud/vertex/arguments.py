"""Arguments of a function call: what the user said, put into the members that the function's schema declares."""

import re
from collections.abc import Mapping
from decimal import Decimal

from localcloud.vertex.conform import conforming
from localcloud.vertex.jsontypes import Json, JsonObject, as_list, as_object, as_text, strings

# Concept -> the names that schemas give it, in lower case without underscores.
NAMES: dict[str, frozenset[str]] = {
    "symbol": frozenset({"symbol", "ticker", "instrument", "asset", "market", "pair"}),
    "side": frozenset({"side", "action", "direction"}),
    "quantity": frozenset({"qty", "quantity", "size", "shares", "amount", "units"}),
    "price": frozenset({"limitprice", "limit", "price"}),
    "order": frozenset({"orderid", "id", "order", "clientorderid"}),
    "type": frozenset({"type", "ordertype", "kind"}),
    "validity": frozenset({"timeinforce", "tif", "validity"}),
}


def fill(schema: JsonObject, values: Mapping[str, str], seed: int = 0) -> JsonObject:
    """The arguments for a schema: concepts where they were said, required members otherwise, nothing else.

    An order's type follows from whether a price was named, its validity is the day; what is required and was not said
    takes the schema's default, or a conforming value made from the seed. ApiError 400 if there is none.
    """
    said = dict(values)
    if "quantity" in said:
        said |= {"type": "limit" if "price" in said else "market", "validity": "day"}
    required = strings(schema.get("required"))
    properties = {name: as_object(member) for name, member in as_object(schema.get("properties")).items()}
    chosen = {_member_for(concept, text, properties, required): text for concept, text in said.items()}
    filled: JsonObject = {}
    for name, member in properties.items():
        if name in chosen:
            filled[name] = _typed(chosen[name], member)
        elif name in required:
            filled[name] = member["default"] if "default" in member else _generated(schema, member, seed)
    return filled


def _member_for(concept: str, text: str, properties: Mapping[str, JsonObject], required: tuple[str, ...]) -> str:
    """The one member that takes what was said: required ones first, then those whose pattern it fits; else none."""
    names = [name for name in properties if _concept(name) == concept]
    if concept == "validity":
        names = [name for name in names if name in required]
    fitting = [name for name in names if _fits(text, as_text(properties[name].get("pattern")))]
    return next((name for name in (*fitting, *names) if name in required), (*fitting, *names, "")[0])


def _fits(text: str, pattern: str) -> bool:
    try:
        return not pattern or re.search(pattern, text) is not None
    except re.error:
        return False


def takes(schema: JsonObject, values: Mapping[str, str]) -> int:
    """How many of the values the schema has a member for; a required member that was not said counts against it."""
    names = as_object(schema.get("properties"))
    taken = {concept for concept in map(_concept, names) if concept in values}
    unsaid = [name for name in strings(schema.get("required")) if _concept(name) == "symbol" and "symbol" not in values]
    return len(taken) - len(unsaid)


def _concept(name: str) -> str:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((concept for concept, names in NAMES.items() if plain in names), "")


def _typed(text: str, schema: JsonObject) -> Json:
    """The text as the type that the schema asks for; a choice is taken in the spelling of its enum."""
    for choice in as_list(schema.get("enum")):
        if isinstance(choice, str) and choice.lower() == text.lower():
            return choice
    wanted = _types(schema)
    if wanted & {"string"} or not wanted:
        return text.lower() if text.lower() in ("buy", "sell") else text
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def _types(schema: JsonObject) -> set[str]:
    """The types that a schema or any of its branches allows."""
    declared = schema.get("type")
    own = {as_text(declared)} if isinstance(declared, str) else set(strings(declared))
    branches = [as_object(branch) for key in ("anyOf", "oneOf") for branch in as_list(schema.get(key))]
    return {name.lower() for name in own}.union(*map(_types, branches)) - {"null"}


def _generated(root: JsonObject, member: JsonObject, seed: int) -> Json:
    definitions: JsonObject = {name: root[name] for name in ("$defs", "defs", "definitions") if name in root}
    return conforming(member | definitions, seed)
