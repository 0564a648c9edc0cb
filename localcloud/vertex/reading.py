"""A request's body to a checked prompt: shape first, then the rules of each part."""

from localcloud.vertex.address import Address
from localcloud.vertex.conversation import check_order, check_signatures, read_system, read_turns
from localcloud.vertex.errors import ApiError, invalid
from localcloud.vertex.generation import family, read_settings
from localcloud.vertex.jsontypes import JsonObject, as_text
from localcloud.vertex.prompt import Prompt
from localcloud.vertex.signature import Seal
from localcloud.vertex.strict import read_body
from localcloud.vertex.tooling import read_tooling


def read_generate(body: bytes, address: Address, seal: Seal) -> Prompt:
    """The prompt of generateContent and streamGenerateContent; 400 or 404 where it cannot be answered."""
    members = read_body(body, "GenerateContentRequest", address.version)
    _check_bound(members, "model", address)
    if members.get("modelArmorConfig"):
        raise invalid("modelArmorConfig is not supported by this model server.")
    cached = as_text(members.get("cachedContent"))
    if cached:
        raise ApiError(404, f"Not found: cached content metadata for {cached}.")
    prompt = _prompt(members, address)
    check_order(prompt.turns)
    if family(address.model) >= 3:
        check_signatures(prompt.turns, seal)
    return prompt


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
