"""What an MCP server says of a tool, and its hash: agents only ever see what an operator approved under that hash.

A server may change a description or a schema at any time, also for one client and for one moment (attack row 19). So
nothing that a server says now reaches an agent: tools are made of the pinned words, and the words of now are only
compared with them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object

PINS_BYTES_MAX: Final = 4 * 1024 * 1024
PIN: Final = re.compile(r"sha256:[0-9a-f]{64}")
TOOLS_MAX: Final = 1_000
NAME_LENGTH_MAX: Final = 128

_PINNED: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""Everything that a model or a person goes by. Icons and `_meta` are neither shown nor acted upon."""
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", order="sorted")


class PinsRefusedError(ValueError):
    """A file of pins, or a tool in it, that cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a server says of one tool."""

    members: Mapping[str, JsonValue]

    @property
    def name(self) -> str:
        """What the server calls it."""
        return str(self.members["name"])

    @property
    def description(self) -> str:
        """The server's description; empty where it gives none."""
        text = self.members.get("description")
        return text if isinstance(text, str) else ""

    @property
    def pin(self) -> str:
        """The hash of all that is pinned: the same for the same words in any spelling of JSON."""
        return "sha256:" + hashlib.sha256(_ENCODER.encode(dict(self.members))).hexdigest()


def said(raw: JsonValue) -> Said | None:
    """A tool as a server lists it; None for one without a name or a schema."""
    if not isinstance(raw, dict):
        return None
    name, schema = raw.get("name"), raw.get("inputSchema")
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH_MAX or not isinstance(schema, dict):
        return None
    return Said(members={key: raw[key] for key in _PINNED if raw.get(key) is not None})


def pins_file(tools: Iterable[Said]) -> bytes:
    """The file that keeps words that were or may be approved, readable by people; one tool may have several."""
    by_pin = {tool.pin: tool for tool in tools}
    ordered = sorted(by_pin.items(), key=lambda one: (one[1].name, one[0]))
    listed: list[JsonValue] = [dict(tool.members) for _, tool in ordered]
    return msgspec.json.format(_ENCODER.encode({"tools": listed}), indent=2) + b"\n"


def read_pins(data: bytes) -> dict[str, Said]:
    """The words of a file of pins, by the pins that they have. Raises `PinsRefusedError`."""
    try:
        listed = strict_object(data, size_max=PINS_BYTES_MAX).get("tools")
    except JsonRefusedError as error:
        raise PinsRefusedError(f"it is not what `gateway tools pin` writes: {error}") from None
    if not isinstance(listed, list):
        raise PinsRefusedError("it is not what `gateway tools pin` writes: it has no tools")
    found: dict[str, Said] = {}
    for raw in listed:
        tool = said(raw)
        if tool is None:
            raise PinsRefusedError("it is not what `gateway tools pin` writes: a tool has no name or no schema")
        found[tool.pin] = tool
    return found
