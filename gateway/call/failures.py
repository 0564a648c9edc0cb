"""What a model upstream's fault means to the caller, and the outcome of a call that never came to an answer."""

from typing import Final

from gateway.call.governed import Governed
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.operations import Failed, Failure
from gateway.terms.verdict import Kind, Refusal, RefusedError

LEFT_BEFORE: Final = Failed(
    failure=Failure(reason="caller.left", message="The caller left before the upstream was asked; nothing was sent.")
)
CUT: Final = Failed(
    failure=Failure(reason="call.cut", message="The call was ended from outside before the upstream had answered.")
)
BROKEN: Final = Failure(reason="gateway.fault", message="The gateway failed while it read the answer.")

_KINDS: Final = {
    Fault.REFUSED: Kind.MALFORMED,
    Fault.MISSING: Kind.NOT_FOUND,
    Fault.CACHE_MISSING: Kind.NOT_FOUND,
    Fault.QUOTA: Kind.EXHAUSTED,
    Fault.TOO_LONG: Kind.LATE,
    Fault.UNREAD: Kind.LATE,
}
"""All others: `UNAVAILABLE`."""

_SENTENCES: Final = {
    Fault.REFUSED: "The model's upstream refused the request; check contents, functions and settings.",
    Fault.DENIED: "The model's upstream does not accept the gateway; tell the operator.",
    Fault.MISSING: "The model's upstream does not know this model any more; tell the operator.",
    Fault.CACHE_MISSING: "The model's upstream does not have this cached_content any more, or it has expired; send the"
    " whole prompt without cached_content, and tell the operator.",
    Fault.QUOTA: "The model's upstream has no capacity for this call now; try again later.",
    Fault.UNREACHABLE: "The model's upstream cannot be reached now; try again later.",
    Fault.TRUNCATED: "The answer broke off before its end; what you received is not whole.",
    Fault.STALLED: "The model's upstream fell silent; what you received is not whole.",
    Fault.TOO_LONG: "The answer was not at its end when its time was over; what you received is not whole. Ask for a "
    "shorter one.",
    Fault.UNREAD: "The stream was not read on for too long and ended before its end; what you received is not whole. "
    "Read it as it comes.",
    Fault.MALFORMED: "The model's upstream answered in a form that cannot be read; what you received is not whole.",
    Fault.TOO_LARGE: "The model's upstream sent more than it may; what you received is not whole.",
    Fault.BREAKER: "The model's upstream failed too often just now and is not asked for a while; try again later.",
    Fault.CREDENTIALS: "The gateway cannot get a token for the model's upstream now; try again later.",
}


def failure(fault: Fault) -> Failure:
    """A fault as the record and the stored operation tell it."""
    return Failure(reason=fault.value, message=_SENTENCES[fault])


def refused(call: Governed, error: UpstreamError) -> RefusedError:
    """A fault as the caller is told it; the upstream's own words go to the witness alone."""
    call.tell("upstream.failed", fault=error.fault.value, detail=error.detail)
    return RefusedError(
        Refusal(
            kind=_KINDS.get(error.fault, Kind.UNAVAILABLE),
            reason=error.fault.value,
            sentence=_SENTENCES[error.fault],
            retry_after_ms=error.retry_after_ms,
        )
    )
