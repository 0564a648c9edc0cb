"""A request's body to a checked prompt: shape first, then the rules of each part."""

from collections.abc import Collection
from dataclasses import replace

from localcloud.vertex.address import Address
from localcloud.vertex.conversation import check_order, check_signatures, read_system, read_turns
from localcloud.vertex.errors import ApiError, invalid
from localcloud.vertex.generation import family, read_settings
from localcloud.vertex.jsontypes import JsonObject, as_text
from localcloud.vertex.prompt import Prompt
from localcloud.vertex.signature import Seal
from localcloud.vertex.strict import read_body
from localcloud.vertex.tooling import read_tooling


def read_generate(body: bytes, address: Address, seal: Seal, cached_contents: Collection[str] = ()) -> Prompt:
    """The prompt of generateContent and streamGenerateContent; 400 or 404 where it cannot be answered."""
    members = read_body(body, "GenerateContentRequest", address.version)
    _check_bound(members, "model", address)
    if members.get("modelArmorConfig"):
        raise invalid("modelArmorConfig is not supported by this model server.")
    cached = as_text(members.get("cachedContent"))
    if cached:
        _check_cached(members, cached, cached_contents)
    prompt = replace(_prompt(members, address), cached_content=cached)
    check_order(prompt.turns)
    if family(address.model) >= 3:
        check_signatures(prompt.turns, seal)
    return prompt


def _check_cached(members: JsonObject, cached: str, known: Collection[str]) -> None:
    if cached not in known:
        raise ApiError(404, f"Not found: cached content metadata for {cached}.")
    beside = [name for name in ("systemInstruction", "tools", "toolConfig") if members.get(name)]
    if beside:
        told = "CachedContent can not be used with GenerateContent request setting system_instruction, tools or"
        raise invalid(f"{told} tool_config; {beside[0]} is set.")


def read_count(body: bytes, address: Address) -> Prompt:
    """The prompt of countTokens; the order of its turns is not checked, for only their size is asked."""
    members = read_body(body, "CountTokensRequest", address.version)
    _check_bound(members, "endpoint", address)
    if members.get("instances"):
        raise invalid("instances are not supported by this model; send contents.")
    return _prompt(members, address)


def _prompt(members: JsonObject, address: Address) -> Prompt:
    return Prompt(
        model=address.model,
        system=read_system(members),
        turns=read_turns(members),
        tooling=read_tooling(members),
        settings=read_settings(members, address.model),
    )


def _check_bound(members: JsonObject, name: str, address: Address) -> None:
    given = as_text(members.get(name))
    if given and given != address.resource:
        raise invalid(f"The {name} of the body, {given}, is not the one of the path, {address.resource}.")
