"""What can go wrong beyond the gateway, named for what it means for the call."""

from enum import Enum
from typing import Final


class Fault(Enum):
    """What a model upstream did."""

    REFUSED = "upstream.refused"
    """It said that the request is wrong."""
    DENIED = "upstream.denied"
    """It does not accept the gateway's credentials, or not for this model."""
    MISSING = "upstream.model_missing"
    """It does not know the model; retired models end so."""
    CACHE_MISSING = "upstream.cache_missing"
    """It does not know the cached beginning that the prompt has, or not any more; or, of such a prompt, the model."""
    QUOTA = "upstream.quota"
    """It says that the gateway asks too much."""
    UNREACHABLE = "upstream.unreachable"
    """No connection, or an answer that says it is overloaded."""
    TRUNCATED = "upstream.truncated"
    """The answer stopped before its end."""
    STALLED = "upstream.stalled"
    """Nothing came for too long."""
    TOO_LONG = "upstream.too_long"
    """The answer was still going on when its time was over."""
    UNREAD = "stream.unread"
    """Not its doing: the caller did not read on, until the time was over or the upstream gave up on it."""
    MALFORMED = "upstream.malformed"
    """The answer is not in the upstream's own form."""
    TOO_LARGE = "upstream.too_large"
    """One event of the answer is beyond every bound."""
    CREDENTIALS = "upstream.credentials"
    """The gateway cannot get a token of its own."""
    BREAKER = "upstream.breaker_open"
    """It failed too often just now and is not asked; nothing was sent."""


UNSPENT: Final = frozenset(
    {
        *(Fault.REFUSED, Fault.DENIED, Fault.MISSING, Fault.CACHE_MISSING, Fault.QUOTA),
        *(Fault.UNREACHABLE, Fault.CREDENTIALS, Fault.BREAKER),
    }
)
"""Faults before any token was made: nothing is charged."""


class UpstreamError(Exception):
    """A model upstream failed. The detail goes to the log, never to the caller."""

    def __init__(
        self, fault: Fault, detail: str, *, retry_after_ms: int | None = None, retry_at_us: int | None = None
    ) -> None:
        """`retry_at_us`: the same as a moment, in microseconds of Unix time, until somebody with a clock reads it."""
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.retry_at_us = retry_at_us


class LedgerUnavailableError(Exception):
    """Nothing can be made durable now, so nothing may happen."""


class SettlementError(Exception):
    """An operation cannot be settled so: nothing was changed."""


class AlreadySettledError(SettlementError):
    """The operation has its outcome, or another owner: it is settled once."""
