"""The bounds of the wire, each with its default and the reason for it."""

from dataclasses import dataclass, fields
from typing import Final

from gateway.terms.limits import CALLS_RUNNING_MAX, DRAIN_S, MESSAGE_BYTES_MAX

KIB: Final = 1024
MIB: Final = 1024 * KIB

_WINDOW_MIN: Final = 65_535
"""What HTTP/2 gives every stream and connection before any setting is read (RFC 9113, 6.9.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireConfig:
    """Every bound of the wire. Durations are seconds, sizes bytes; all must be above zero."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    """One request message, also after inflating it."""
    receiving_bytes_max: int = 64 * MIB
    """All request messages that are on their way at once: a sixteenth of a small Cloud Run instance."""
    calls_running_max: int = CALLS_RUNNING_MAX
    """Calls in their services at once, over all connections."""
    connections_max: int = 1_000
    """Cloud Run's front end opens a few; each costs some 30 kB."""
    streams_max: int = 100
    """Concurrent streams of one connection: what RFC 9113 (6.5.2) calls the least, and what Cloud Run gives clients."""

    metadata_bytes_max: int = 32 * KIB
    """The headers of one request, counted as RFC 9113 (6.5.2) counts: two 8 KiB tokens and a lot to spare."""
    header_bytes_max: int = 64 * KIB
    """What the HPACK decoder unpacks at most; beyond it the connection ends, because its state is lost."""
    headers_max: int = 128
    """Header fields of one request."""

    resets_burst: int = 200
    """Streams that a client may cancel at once; callers do leave, but not a thousand in a second (attack row 38)."""
    resets_per_s: int = 20
    chatter_burst: int = 2_000
    """Frames that carry no work (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, tiny DATA, unknown) at once (row 44)."""
    chatter_per_s: int = 200

    preface_s: float = 5.0
    """From the connection to its first SETTINGS frame."""
    body_s: float = 10.0
    """From a request's headers to the end of its message: a slow body may not wait for ever (row 42)."""
    idle_s: float = 620.0
    """Without any stream. Google's balancers keep connections for 600 s and must be the first to let go."""
    write_stall_s: float = 30.0
    """A peer that reads nothing for so long, while bytes wait for it, is gone."""
    send_stall_s: float = 120.0
    """A caller that opens no flow-control window for one message for so long has stopped reading."""
    call_s_max: float = 3_300.0
    """The longest call: Cloud Run cuts at 60 minutes without a word, so the gateway ends it before with a hint."""
    linger_s: float = 0.4
    """How long a closed connection may still read, so that the peer sees the reason instead of a reset."""
    keepalive_s: float = 60.0
    """Between our own PINGs while calls run; a peer that does not answer within 20 s is gone."""

    drain_s: float = DRAIN_S
    """How long running calls may go on after SIGTERM."""
    drain_end_s: float = 0.4
    """What the rest may take to end when that is over; with `linger_s`, a drain ends a second before SIGKILL."""
    retry_after_ms: int = 1_000
    """The hint for calls that met a full or leaving gateway."""

    stream_window_bytes: int = 256 * KIB
    """What a client may send ahead on one stream."""
    connection_window_bytes: int = MIB
    """The same for all streams of a connection: what an unread connection can make the gateway hold."""
    write_burst_bytes: int = 64 * KIB
    """Collected writes above this leave at once instead of at the end of the loop's turn."""
    backlog: int = 512
    """Connections that wait to be accepted."""

    def __post_init__(self) -> None:
        for bound in fields(self):
            if getattr(self, bound.name) <= 0:
                raise ValueError(f"wire: {bound.name} must be above zero")
        for name in ("stream_window_bytes", "connection_window_bytes"):
            if not _WINDOW_MIN <= getattr(self, name) < 2**31:
                raise ValueError(f"wire: {name} must be {_WINDOW_MIN} to {2**31 - 1}")
