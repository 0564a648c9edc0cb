"""What a verifier reads inside a record: its kind, and what joins it to other records."""

from typing import Final

import msgspec

KINDS: Final = (
    *("boot", "intent", "outcome", "lost", "reconciled", "resolved", "followed", "withdrawal"),
    *("refusal", "denied", "dry_run", "replay", "halt", "latch", "heartbeat", "close"),
)
"""Every kind of version 1. A record of another kind was not written by a gateway that this verifier knows."""

ENDINGS: Final = {
    "outcome": {"succeeded", "failed", "unknown"},
    "lost": {"unknown", "failed"},
    "reconciled": {"succeeded", "failed"},
    "resolved": {"succeeded", "failed"},
    "followed": {"succeeded"},
}
"""What a record may say that an operation came to. Those after the first two come after an ending."""


class Before(msgspec.Struct, frozen=True):
    """What a boot record says of the end of the boot before, or a later ending of the ending before."""

    boot: str
    sequence: int
    link: str = ""
    leaf: str = ""
    instance: str = ""

    def place(self) -> tuple[str, int, bytes]:
        """Boot, sequence and link."""
        return self.boot, self.sequence, bytes.fromhex(self.link)


class Contents(msgspec.Struct, frozen=True):
    """The members that matter for verifying; all others are evidence for people."""

    v: int
    kind: str
    operation: str = ""
    state: str = ""
    before: Before | None = None
    claims: msgspec.Raw = msgspec.Raw()
    """Of an intent: what is held, as `gateway.audit.amounts` reads it. A member that is missing is empty here."""
    charges: msgspec.Raw = msgspec.Raw()
    """Of an ending: by unit, what takes the place of what was held."""
    booked: msgspec.Raw = msgspec.Raw()
    """Of an ending: of single holds, what was charged instead of that."""
    failure: msgspec.Raw = msgspec.Raw()


_DECODER: Final = msgspec.json.Decoder(Contents)


def read(record: bytes) -> Contents | str:
    """The members, or what is wrong with the record."""
    try:
        contents = _DECODER.decode(record)
        if contents.before is not None:
            contents.before.place()
    except (ValueError, RecursionError) as error:
        return f"it is not a record: {error}"
    if contents.v != 1 or contents.kind not in KINDS:
        return f"its kind {contents.kind!r} of version {contents.v} is unknown: verify with the gateway that wrote it"
    if contents.kind in ("intent", "withdrawal", *ENDINGS) and not contents.operation:
        return "it names no operation"
    if contents.kind in ENDINGS and contents.state not in ENDINGS[contents.kind]:
        return f"it tells no ending: {contents.state!r}"
    return contents
