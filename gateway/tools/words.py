"""The words of others in a failure's message: harmless characters only, bounded, and without our credentials."""

from collections.abc import Iterable
from typing import Final

from gateway.terms.strict_json import JsonValue

WORDS_MAX: Final = 200
REMOVED: Final = "[removed]"


def harmless(text: str, secrets: Iterable[str] = ()) -> str:
    """Printable ASCII on one line, at most 200 characters, no secret in it (attack rows 33 and 45)."""
    for secret in secrets:
        text = text.replace(secret, REMOVED)
    shown = "".join(character if " " <= character <= "~" else " " for character in text[: 4 * WORDS_MAX])
    return " ".join(shown.split())[:WORDS_MAX]


def scrubbed(value: JsonValue, secrets: tuple[str, ...]) -> JsonValue:
    """The value with every secret of ours taken out of its strings and names: a service may echo what it was sent."""
    match value:
        case str():
            for secret in secrets:
                value = value.replace(secret, REMOVED)
            return value
        case list():
            return [scrubbed(member, secrets) for member in value]
        case dict():
            return {str(scrubbed(name, secrets)): scrubbed(member, secrets) for name, member in value.items()}
        case _:
            return value
