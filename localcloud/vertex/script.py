"""A response before it is sent, and what each fault makes of it."""

import enum
from dataclasses import dataclass, replace

from localcloud.vertex.faults import Fault
from localcloud.vertex.wire import Wire


class Ending(enum.Enum):
    """How a response ends after its last document."""

    CLEAN = "clean"
    TRUNCATED = "truncated"
    RESET = "reset"
    STALL = "stall"
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A response before it is sent: its JSON documents, its timing in seconds, and how it ends."""

    documents: list[bytes]
    first_s: float = 0.0
    interval_s: float = 0.0
    ending: Ending = Ending.CLEAN
    repeated: tuple[bytes, ...] = ()
    """The documents that an endless stream sends for ever after the others."""


CUTS = {
    "reset_after_n": Ending.RESET,
    "truncate_after_n": Ending.TRUNCATED,
    "stall_after_n": Ending.STALL,
}


def spoil(script: Script, fault: Fault, wire: Wire) -> Script:
    """The script with the fault in it; kinds that act before any answer leave it as it is."""
    if fault.kind in CUTS:
        return replace(script, documents=script.documents[: fault.params.n], ending=CUTS[fault.kind])
    if fault.kind == "endless":
        pause = script.interval_s or 0.001
        if fault.params.ms is not None:
            pause = max(fault.params.ms, 1) / 1000
        once, repeated = wire.repeated(script.documents)
        return replace(script, documents=once, repeated=tuple(repeated), interval_s=pause, ending=Ending.ENDLESS)
    return replace(script, documents=_documents(script.documents, fault, wire))


def _documents(documents: list[bytes], fault: Fault, wire: Wire) -> list[bytes]:
    """The documents after a fault that changes them and not the way in which the response ends."""
    n = fault.params.n
    if fault.kind == "error_event_after_n":
        return [*documents[:n], wire.error(fault.error())]
    if fault.kind == "duplicate_finish":
        return wire.doubled(documents)
    place = min(max(n - 1, 0), len(documents) - 1)
    changed = documents[place]
    if fault.kind == "malformed_sse":
        changed = changed[: len(changed) // 2]
    elif fault.kind == "wrong_json":
        changed = wire.wrong_shape
    elif fault.kind == "gigantic_delta":
        changed = wire.gigantic(fault.params.bytes)
    return [*documents[:place], changed, *documents[place + 1 :]]
