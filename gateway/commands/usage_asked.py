"""A running gateway's answer to `gateway usage`: OperatorService.QueryUsage, in Connect's JSON, as a report."""

from typing import Final

import msgspec

from gateway.commands.remote import Remote
from gateway.commands.shown import CannotError
from gateway.terms.usage import Group, UsageQuery, UsageReport, Used

ANSWER_S: Final = 120.0
"""A year of records is read in this time."""


class _Row(msgspec.Struct, rename="camel"):
    """A row; protobuf's JSON writes 64 bits as text, and leaves out what is nothing."""

    agent: str = ""
    team: str = ""
    model: str = ""
    tool: str = ""
    run_id: str = ""
    day: str = ""
    calls: str = "0"
    refusals: str = "0"
    failures: str = "0"
    unknown: str = "0"
    input_tokens: str = "0"
    output_tokens: str = "0"
    thinking_tokens: str = "0"
    cached_tokens: str = "0"
    cost_micro_usd: str = "0"
    estimated_micro_usd: str = "0"

    def used(self) -> Used:
        """Its numbers."""
        return Used(**{name: int(getattr(self, name)) for name in Used.__dataclass_fields__})

    def names(self, by: tuple[Group, ...]) -> tuple[str, ...]:
        """Its names."""
        return tuple(str(getattr(self, "run_id" if group is Group.RUN else group.value)) for group in by)


class _Answer(msgspec.Struct):
    rows: list[_Row] = []
    total: _Row = msgspec.field(default_factory=_Row)


def asked(remote: Remote, query: UsageQuery) -> UsageReport:
    """The report of a gateway for an operator. Raises what `Remote.call` does."""
    by = [f"USAGE_GROUP_{group.name}" for group in query.by]
    question = {"fromUnixUs": str(query.from_unix_us), "toUnixUs": str(query.to_unix_us), "by": by}
    told = remote.call("QueryUsage", question, ANSWER_S)
    try:
        answer = msgspec.convert(told, _Answer)
        rows = tuple((row.names(query.by), row.used()) for row in answer.rows)
        return UsageReport(by=query.by, total=answer.total.used(), rows=rows)
    except ValueError as error:
        raise CannotError(f"what answers at {remote.url} is no gateway of this version") from error
