"""Whether a ledger's holds and balances are what its records say: every amount is added up again from their bytes.

The records are read once in their order, and their chain is verified on the way; then the holds and the balances are
each read once in the order of their keys, beside what the records came to in the same order. Whatever there is much of
stands in a temporary file, so memory stays bounded however long the ledger is.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.audit.amounts import Hold, Place, Sum, holds_of
from gateway.audit.completeness import Stories, stories
from gateway.audit.contents import read
from gateway.audit.continuity import Bad, Walk
from gateway.audit.pairs import paired
from gateway.audit.sources import PROGRESS_EVERY, Entry, LedgerSource, Progress, opened_ledger
from gateway.audit.sources import Place as LedgerPlace
from gateway.audit.sums import Sums
from gateway.terms.ids import OperationId
from gateway.terms.money import OWN

SHOWN_MAX: Final = 1_000
"""Differences, and operations whose amounts are not told, that a report names; it counts all."""


class Difference(NamedTuple):
    """An amount of which ledger and records say different things; None where one of them has no such amount."""

    operation: OperationId | None
    """Whose hold it is; None for a balance."""
    place: Place
    ledger: Hold | Sum | None
    records: Hold | Sum | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """What adding up again came to."""

    records: int
    """That were read."""
    operations: int
    """Of which the records tell, or the ledger's holds."""
    balances: int
    bad: Bad | None
    """The first record that is not as it was written, or does not fit what is told before it or by the table of
    operations. What the records say is then summed all the same, and proves nothing."""
    differences: tuple[Difference, ...]
    difference_count: int
    untold: tuple[OperationId, ...]
    """Operations whose records do not tell their amounts; what the ledger holds for them was taken as it stands."""
    untold_count: int

    @property
    def ok(self) -> bool:
        """Whether every amount was added up again from records that verify, and none is another one."""
        return self.bad is None and not self.difference_count and not self.untold_count


@dataclass(slots=True)
class _Recounting:
    """One reading of a ledger."""

    ledger: LedgerSource
    stories: Stories
    sums: Sums
    progress: Progress | None
    walk: Walk = field(default_factory=Walk)
    bad: Bad | None = None
    records: int = 0
    operations: int = 0
    balances: int = 0
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    untold: list[OperationId] = field(default_factory=list)
    untold_count: int = 0

    def recount(self) -> Recount:
        self._read_all()
        self._compare_holds()
        self._compare_balances()
        operations = self.ledger.operations()
        if self.bad is None and operations is not None:
            self.bad = self.stories.disagreement(operations)
        return Recount(
            records=self.records,
            operations=self.operations,
            balances=self.balances,
            bad=self.bad,
            differences=tuple(self.differences),
            difference_count=self.difference_count,
            untold=tuple(self.untold),
            untold_count=self.untold_count,
        )

    def _read_all(self) -> None:
        for entry in self.ledger.entries():
            problem = self._judged(entry)
            if problem is not None and self.bad is None:
                self.bad = Bad(instance=entry.instance, boot=entry.boot, sequence=entry.sequence, problem=problem)
            self.records += 1
            if self.progress is not None and self.records % PROGRESS_EVERY == 0:
                self.progress(self.records, self.ledger.total)

    def _judged(self, entry: Entry) -> str | None:
        """What is wrong with the record. What it says is counted also behind a break, so that amounts can be shown."""
        contents = read(entry.record)
        if isinstance(contents, str):
            return contents
        broken = self.walk.step(entry, contents) if self.bad is None else None
        unfit = self.stories.tell(entry, contents)
        return broken or unfit

    def _compare_holds(self) -> None:
        for operation, told, stored in paired(self.stories.amounts(), self.ledger.holds()):
            self.operations += 1
            said = {} if told is None else holds_of(told)
            if said is None:
                self._not_told(operation)
                said = stored or {}
            self._compare(operation, stored or {}, said)
            for place, hold in said.items():
                if place[2] not in OWN:
                    self.sums.add(place, hold.adds)

    def _compare(self, operation: OperationId, stored: dict[Place, Hold], said: dict[Place, Hold]) -> None:
        if stored != said:
            for place in sorted(stored.keys() | said.keys()):
                self._note(Difference(operation, place, stored.get(place), said.get(place)))

    def _compare_balances(self) -> None:
        for place, stored, added in paired(self.ledger.balances(), self.sums.sorted()):
            self.balances += 1
            if added is not None or stored != (0, 0):
                self._note(Difference(None, place, stored, added))

    def _note(self, found: Difference) -> None:
        if found.ledger != found.records:
            self.difference_count += 1
            if len(self.differences) < SHOWN_MAX:
                self.differences.append(found)

    def _not_told(self, operation: OperationId) -> None:
        self.untold_count += 1
        if len(self.untold) < SHOWN_MAX:
            self.untold.append(operation)


def recount(place: LedgerPlace, progress: Progress | None = None) -> Recount:
    """Add up every amount of the ledger again from its records, and compare; a gateway may use it meanwhile.

    All is read as it was at one moment, and nothing is changed. Raises `UnreadableAuditError` for what is no ledger.
    """
    with opened_ledger(place) as ledger, stories(amounts=True) as told:
        return _Recounting(ledger, told, Sums(told.scratch), progress).recount()
