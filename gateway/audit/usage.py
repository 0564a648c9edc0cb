"""What was used, added up from the records: what is proven is what is counted, and no other book has to agree with it.

A call counts with its intent, its tokens and its cost with its outcome, both on the day of the record; a refusal counts
with its own. An operation that was lost and found out later counts when it was found out, and is unknown no more then:
what a report calls unknown is what nobody knew at the end of its time.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.terms.money import Unit
from gateway.terms.usage import GROUPS_MAX, Group, UsageQuery, UsageReport, UsageTooWideError, Used

_LATER: Final = frozenset({"lost", "reconciled", "resolved"})
"""Endings that the ledger wrote by itself, or an operator."""

_DAY_US: Final = 86_400_000_000


class _Claim(msgspec.Struct):
    unit: str = ""
    amount: int = 0


class _Record(msgspec.Struct):
    """Of a record what usage needs; all else is passed over."""

    kind: str
    time_us: int
    operation: str = ""
    principal: str = ""
    agent: str = ""
    team: str = ""
    ask: str = ""
    tool: str = ""
    """What the ledger's own records call the ask."""
    run: str = ""
    turn: int = 0
    """Of a stream in which the gateway runs the tools."""
    state: str = ""
    charges: dict[str, int] = {}
    claims: list[_Claim] = []
    result: object = None
    account: str = ""
    in_full: bool = False
    """Charged with all that it held; no record says so, what it tells of comes to that."""
    added: int = 0
    """Refusals that this record is the first to tell of."""


class _Time(msgspec.Struct):
    """When."""

    time_us: int


class _Account(msgspec.Struct):
    """Of what a stream took, in its result or account."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cached_tokens: int = 0
    usage_estimated: bool = False


@dataclass(slots=True)
class _Open:
    """An operation without a last word: whose it is, and what it holds."""

    names: dict[Group, str]
    held: Mapping[str, int]
    unknown: Used | None = None
    """Where it is counted as unknown, while it is."""


_time: Final = msgspec.json.Decoder(_Time)
_record: Final = msgspec.json.Decoder(_Record)
_account: Final = msgspec.json.Decoder(_Account)
_COUNTED: Final = tuple(field.name for field in fields(Used))


def time_of(record: bytes) -> int:
    """When a record was made, in microseconds of Unix time; raises ValueError for what is none."""
    return _time.decode(record).time_us


@dataclass(slots=True)
class UsageSum:
    """Adds up records, given in the order in which they were written."""

    query: UsageQuery
    _groups: dict[tuple[str, ...], Used] = field(default_factory=dict)
    _open: dict[str, _Open] = field(default_factory=dict)
    _days: dict[int, str] = field(default_factory=dict)

    def add(self, record: bytes) -> None:
        """Count a record, if it is of this time and of a call. Raises `UsageTooWideError`."""
        told = _record.decode(record)
        if not self.query.from_unix_us <= told.time_us < self.query.to_unix_us:
            return
        match told.kind:
            case "intent":
                self._intended(told)
            case "outcome":
                self._ended(told, self._names(told))
            case "refusal" if told.agent:
                self._used(told, self._names(told)).refusals += 1
            case "denied":
                self._used(told, self._names(told)).refusals += told.added
            case kind if kind in _LATER:
                self._found(told)

    def report(self) -> UsageReport:
        """What was used by now."""
        total = Used()
        for used in self._groups.values():
            for name in _COUNTED:
                setattr(total, name, getattr(total, name) + getattr(used, name))
        rows = sorted(self._groups.items(), key=lambda row: row[0])
        return UsageReport(by=self.query.by, total=total, rows=tuple(rows))

    def _intended(self, told: _Record) -> None:
        names = self._names(told)
        self._used(told, names).calls += 1
        held: dict[str, int] = {}
        for claim in told.claims:
            held[claim.unit] = max(claim.amount, held.get(claim.unit, 0))
        self._open[told.operation] = _Open(names, held)

    def _ended(self, told: _Record, names: dict[Group, str]) -> None:
        used = self._used(told, names)
        if told.state == "unknown":
            self._doubted(told, names, used)
            return
        known = self._open.pop(told.operation, None)
        if known is not None and known.unknown is not None:
            known.unknown.unknown -= 1
        used.failures += told.state == "failed"
        used.cost_micro_usd += told.charges.get(Unit.COST, 0)
        if names[Group.MODEL] and not told.ask.startswith("count:"):
            self._add_tokens(told, used)

    def _doubted(self, told: _Record, names: dict[Group, str], used: Used) -> None:
        """Count an operation as unknown, once; with its names, for the record of its end may tell none."""
        known = self._open.setdefault(told.operation, _Open(names, {}))
        if known.unknown is None:
            used.unknown += 1
            known.unknown = used

    def _add_tokens(self, told: _Record, used: Used) -> None:
        text = told.result if isinstance(told.result, str) else told.account
        account = _Account()
        with contextlib.suppress(msgspec.DecodeError):  # what has none, such as an operator's word, has its charges
            account = _account.decode(text)
        used.input_tokens += account.input_tokens
        used.output_tokens += account.output_tokens
        used.thinking_tokens += account.thinking_tokens
        used.cached_tokens += account.cached_tokens
        if account.usage_estimated or told.in_full:
            used.estimated_micro_usd += told.charges.get(Unit.COST, 0)

    def _found(self, told: _Record) -> None:
        """The end of an operation that this record does not tell whose it is; its intent did."""
        known = self._open.get(told.operation)
        told.ask = told.tool
        if known is None:
            self._ended(told, self._names(told))
            return
        if told.kind == "lost" and told.state == "failed" and not told.charges:
            told.charges, told.in_full = dict(known.held), True
        self._ended(told, known.names)

    def _names(self, told: _Record) -> dict[Group, str]:
        kind, _, model = told.ask.partition(":")
        of_model = kind in ("chat", "count")
        return {
            Group.AGENT: told.agent,
            Group.TEAM: told.team,
            Group.MODEL: model if of_model else "",
            Group.TOOL: "" if of_model else told.ask,
            Group.RUN: told.run or self._run(told),
        }

    def _run(self, told: _Record) -> str:
        """The run of a call that names none: the first turn of a loop is of the run that has its operation's name."""
        known = self._open.get(told.operation)
        if known is not None:
            return known.names[Group.RUN]
        return told.operation if told.turn == 1 else ""

    def _used(self, told: _Record, names: dict[Group, str]) -> Used:
        group = tuple(self._day(told.time_us) if by is Group.DAY else names[by] for by in self.query.by)
        used = self._groups.get(group)
        if used is None:
            if len(self._groups) >= GROUPS_MAX:
                raise UsageTooWideError(f"there are more than {GROUPS_MAX} groups: ask for less time, or group by less")
            used = self._groups[group] = Used()
        return used

    def _day(self, time_us: int) -> str:
        day = time_us // _DAY_US
        if day not in self._days:
            self._days[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
        return self._days[day]
