"""The service table: every method that the protos declare, as values that any wire protocol can drive.

Written once here, copied into `generated/`.
"""

from dataclasses import dataclass
from enum import Enum

import betterproto2


class Cardinality(Enum):
    """Which sides of a call stream."""

    UNARY_UNARY = "unary-unary"
    UNARY_STREAM = "unary-stream"
    STREAM_UNARY = "stream-unary"
    STREAM_STREAM = "stream-stream"

    @property
    def request_streams(self) -> bool:
        """The caller may send any number of messages."""
        return self in (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM)

    @property
    def reply_streams(self) -> bool:
        """The server may send any number of messages."""
        return self in (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method. `path` is its HTTP path in gRPC and Connect: `/<package>.<Service>/<Method>`."""

    path: str
    cardinality: Cardinality
    request: type[betterproto2.Message]
    reply: type[betterproto2.Message]
    # Declared with `option idempotency_level = NO_SIDE_EFFECTS`: Connect may send it as GET.
    side_effect_free: bool

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.path[1:].rpartition("/")[0]

    @property
    def name(self) -> str:
        """The method's own name."""
        return self.path.rpartition("/")[2]
