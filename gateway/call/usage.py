"""What was used, for an operator: who is it, is the question well formed, add it up."""

from collections.abc import Callable
from typing import Final

from gateway.call.operate import operating
from gateway.call.stations import Stations
from gateway.terms.passage import Passage
from gateway.terms.usage import RANGE_DAYS_MAX, UsageQuery, UsageReport, UsageTooWideError
from gateway.terms.verdict import Kind, Refusal, RefusedError, malformed

_RANGE_US_MAX: Final = RANGE_DAYS_MAX * 86_400_000_000


async def query_usage(at: Stations, passage: Passage, read: Callable[[], UsageQuery]) -> UsageReport:
    """What was used by all agents in a time, grouped; or raise `RefusedError`. It changes nothing.

    `read` reads the question, once its operator is known.
    """
    call = await operating(at, passage, "query_usage")
    async with call.recorded():
        query = read()
        if not 0 <= query.from_unix_us < query.to_unix_us:
            raise RefusedError(malformed("to_unix_us", "must be after from_unix_us"))
        if query.to_unix_us - query.from_unix_us > _RANGE_US_MAX:
            raise RefusedError(malformed("to_unix_us", f"ask for at most {RANGE_DAYS_MAX} days at once"))
        if len(set(query.by)) != len(query.by):
            raise RefusedError(malformed("by", "name each group once"))
        try:
            with passage.stages.stage("usage"):
                return await at.usage.used(query)
        except UsageTooWideError as error:
            raise RefusedError(
                Refusal(kind=Kind.EXHAUSTED, reason="usage.too_wide", sentence=f"{str(error).capitalize()}.")
            ) from None
