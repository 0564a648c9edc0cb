"""Usage as OperatorService tells it: the question and the answer as messages."""

from typing import Final

from gateway.services.form import malformed
from gateway.terms.usage import Group, UsageQuery, UsageReport, Used
from generated.agentic.gateway.v1 import QueryUsageRequest, QueryUsageResponse, UsageGroup, UsageRow

_GROUPS: Final = {
    UsageGroup.AGENT: Group.AGENT,
    UsageGroup.TEAM: Group.TEAM,
    UsageGroup.MODEL: Group.MODEL,
    UsageGroup.TOOL: Group.TOOL,
    UsageGroup.RUN: Group.RUN,
    UsageGroup.DAY: Group.DAY,
}


def usage_query(request: QueryUsageRequest) -> UsageQuery:
    """The question; raises `RefusedError`."""
    by: list[Group] = []
    for place, group in enumerate(request.by):
        if group not in _GROUPS:
            raise malformed(f"by[{place}]", f"write some of {', '.join(_GROUPS[known].name for known in _GROUPS)}")
        by.append(_GROUPS[group])
    return UsageQuery(from_unix_us=request.from_unix_us, to_unix_us=request.to_unix_us, by=tuple(by))


def usage_response(report: UsageReport) -> QueryUsageResponse:
    """The answer."""
    rows = [_row(used, dict(zip(report.by, names, strict=True))) for names, used in report.rows]
    return QueryUsageResponse(rows=rows, total=_row(report.total, {}))


def _row(used: Used, names: dict[Group, str]) -> UsageRow:
    return UsageRow(
        agent=names.get(Group.AGENT, ""),
        team=names.get(Group.TEAM, ""),
        model=names.get(Group.MODEL, ""),
        tool=names.get(Group.TOOL, ""),
        run_id=names.get(Group.RUN, ""),
        day=names.get(Group.DAY, ""),
        calls=used.calls,
        refusals=used.refusals,
        failures=used.failures,
        unknown=used.unknown,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        thinking_tokens=used.thinking_tokens,
        cached_tokens=used.cached_tokens,
        cost_micro_usd=used.cost_micro_usd,
        estimated_micro_usd=used.estimated_micro_usd,
    )
