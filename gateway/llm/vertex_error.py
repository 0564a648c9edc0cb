"""What an error of Google's API means for the call; without I/O."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.terms.faults import Fault, UpstreamError

RETRY_MS_MAX: Final = 3_600_000
"""An hour: who is told to wait longer is told this."""

_DATE_CHARACTERS_MAX: Final = 64

_FAULTS: Final = {
    400: Fault.REFUSED,
    401: Fault.DENIED,
    403: Fault.DENIED,
    404: Fault.MISSING,
    408: Fault.UNREACHABLE,
    413: Fault.REFUSED,
    429: Fault.QUOTA,
    499: Fault.UNREACHABLE,
}


class _Struct(msgspec.Struct, rename="camel", kw_only=True):
    """Members that have no name here are passed over."""


class _Detail(_Struct):
    retry_delay: str = ""
    """Of google.rpc.RetryInfo."""


class GoogleError(_Struct):
    """google.rpc.Status in Google's JSON form: HTTP's code, the canonical name, and details."""

    code: int = 0
    message: str = ""
    status: str = ""
    type: str = ""
    """Anthropic's canonical name, where it answers on Vertex AI in its own form."""
    details: list[_Detail] = []


class _Body(_Struct):
    error: GoogleError


_body: Final = msgspec.json.Decoder(_Body | list[_Body])


def read_error(status: int, body: bytes, retry_after: str) -> UpstreamError:
    """The error of an HTTP reply that is not 200.

    Its body may be Google's form, the same in a list (a stream without `alt=sse`), or anything; `retry_after` is the
    header of that name, in seconds or as a date (RFC 9110, 10.2.3): a date is left for who has a clock.
    """
    try:
        told = _body.decode(body)
        error = told.error if isinstance(told, _Body) else told[0].error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        error = GoogleError(message=repr(body[:200]))
    if retry_after.isascii() and retry_after.isdigit():
        error.details.append(_Detail(retry_delay=f"{retry_after}s"))
    told = upstream_error(status, error)
    told.retry_at_us = _date_us(retry_after)
    return told


def upstream_error(status: int, error: GoogleError) -> UpstreamError:
    """The error with this HTTP status, or with the code of an error event in a stream."""
    delays = [delay for detail in error.details if (delay := _delay_ms(detail.retry_delay)) is not None]
    detail = f"{status} {error.status or error.type}: {error.message[:500]}"
    return UpstreamError(_fault(status), detail, retry_after_ms=max(delays, default=None))


def _fault(status: int) -> Fault:
    if status in _FAULTS:
        return _FAULTS[status]
    if 400 <= status <= 499:
        return Fault.REFUSED
    # An error event without a code, and anything from 500, is the upstream's trouble. A redirect or an empty success
    # is no answer of this API at all.
    return Fault.UNREACHABLE if status >= 500 or status == 0 else Fault.MALFORMED


def _date_us(text: str) -> int | None:
    """An HTTP date, in any of its three forms (RFC 9110, 5.6.7), in microseconds of Unix time."""
    if not text or text[0].isdigit() or len(text) > _DATE_CHARACTERS_MAX:
        return None
    try:
        date = parsedate_to_datetime(text)
        at = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return int(at.timestamp()) * 1_000_000
    except (ValueError, OverflowError):
        return None


def _delay_ms(text: str) -> int | None:
    """A `google.protobuf.Duration` in JSON, such as `7s` or `0.5s`, in milliseconds, rounded up."""
    whole, _, fraction = text.removesuffix("s").partition(".")
    digits = whole + fraction
    if not text.endswith("s") or not digits.isascii() or not digits.isdigit() or len(fraction) > 9:
        return None
    if len(whole.lstrip("0")) > 6:
        return RETRY_MS_MAX
    nanos = int(whole or "0") * 1_000_000_000 + int(fraction.ljust(9, "0"))
    return min(-(-nanos // 1_000_000), RETRY_MS_MAX)
