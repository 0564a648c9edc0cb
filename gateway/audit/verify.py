"""The offline verifier: what a third party runs on a ledger file or an export, with no gateway and no trust in one.

What it proves, from the bytes alone: every record is as it was hashed, in its place, none missing between two others;
every boot follows the one before; every operation has one intent and at most one ending; and in a ledger file, the
operations table says the same.

What it cannot prove without something kept elsewhere: who can write the file can cut off its end together with the
rows that name it, as long as no later boot follows, or write everything anew. Receipts that callers kept (`receipts`)
and the heads that an earlier report gave, where they are compared, close that gap; nothing inside the file does.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.audit.completeness import Stories, stories
from gateway.audit.contents import read
from gateway.audit.continuity import Bad, BootWalk, Walk
from gateway.audit.sources import PROGRESS_EVERY, Entry, Place, Progress, Source, opened
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Receipt

OPEN_SHOWN_MAX: Final = 1_000
"""Open operations that a report names; it counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootReport:
    """One boot as the records tell it."""

    instance: InstanceId
    boot: BootId
    records: int
    closed: bool
    """It ended with a closing record."""
    head: bytes
    """Its last link: keep it elsewhere, and a later report must have the same or follow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found."""

    ok: bool
    records: int
    """Found good, up to the first bad one."""
    kinds: tuple[tuple[str, int], ...]
    """How many records of each kind, by name."""
    boots: tuple[BootReport, ...]
    bad: Bad | None
    """The first bad record."""
    open_operations: tuple[OperationId, ...]
    """With an intent and no ending: running, or of a process that was killed and not started again."""
    open_count: int
    notes: tuple[str, ...]
    """What this verification cannot know, in sentences."""


@dataclass(slots=True)
class _Verification:
    """One reading of a source."""

    source: Source
    stories: Stories
    receipts: dict[tuple[str, str, int], bytes]
    progress: Progress | None
    walk: Walk = field(default_factory=Walk)
    kinds: Counter[str] = field(default_factory=Counter)

    def report(self) -> Report:
        bad = self._read_all() or self._open_in_closed() or self._missing_receipt() or self._disagreement()
        operations = [operation for operation, _, _ in self.stories.open_operations()]
        return Report(
            ok=bad is None,
            records=self.kinds.total(),
            kinds=tuple(sorted(self.kinds.items())),
            boots=tuple(_boot_report(walk) for walk in self.walk.boots.values()),
            bad=bad,
            open_operations=tuple(operations[:OPEN_SHOWN_MAX]),
            open_count=len(operations),
            notes=self._notes(),
        )

    def _read_all(self) -> Bad | None:
        done = 0
        for entry in self.source.entries():
            problem = self._judged(entry)
            if problem is not None:
                return Bad(instance=entry.instance, boot=entry.boot, sequence=entry.sequence, problem=problem)
            done += 1
            if self.progress is not None and done % PROGRESS_EVERY == 0 and done < self.source.total:
                self.progress(done, self.source.total)
        if self.progress is not None:
            self.progress(done, self.source.total)
        return None

    def _judged(self, entry: Entry) -> str | None:
        contents = read(entry.record)
        if isinstance(contents, str):
            return contents
        problem = self.walk.step(entry, contents) or self.stories.tell(entry, contents)
        if problem is None:
            self.kinds[contents.kind] += 1
            kept = self.receipts.pop((entry.instance, entry.boot, entry.sequence), entry.leaf)
            if kept != entry.leaf:
                return "a receipt that was kept names another record in this place: the file was written anew"
        return problem

    def _open_in_closed(self) -> Bad | None:
        for operation, instance, boot in self.stories.open_operations():
            walk = self.walk.boots[instance, boot]
            if walk.closed:
                problem = f"it closes its boot, but the operation {operation} has no ending"
                return Bad(instance=instance, boot=boot, sequence=walk.records - 1, problem=problem)
        return None

    def _missing_receipt(self) -> Bad | None:
        for instance, boot, sequence in self.receipts:
            problem = "a receipt that was kept names a record that is not there: the end was cut off"
            return Bad(instance=InstanceId(instance), boot=BootId(boot), sequence=sequence, problem=problem)
        return None

    def _disagreement(self) -> Bad | None:
        stored = self.source.operations()
        return None if stored is None else self.stories.disagreement(stored)

    def _notes(self) -> tuple[str, ...]:
        notes = [
            f"The boot {walk.chain.boot} of {walk.chain.instance} has no closing record: it runs, or it was killed, or"
            f" its end was cut off after record {walk.records - 1}."
            for walk in self.walk.last()
            if not walk.closed
        ]
        if self.source.operations() is None:
            notes.append("An export has no operations table: records cut off its end leave no trace in it.")
        notes.append(
            "Whoever can write this ledger could have written all of it anew: compare the heads with ones kept"
            " elsewhere."
        )
        return tuple(notes)


def verify(place: Place, progress: Progress | None = None, receipts: Iterable[Receipt] = ()) -> Report:
    """Read everything once and report; memory stays bounded, the ledger unchanged.

    `receipts` are such that callers kept: each must name a record that is there. Raises `UnreadableAuditError` when
    it cannot be read at all; whatever can be read and is wrong is in the report.
    """
    kept: dict[tuple[str, str, int], bytes] = {
        (receipt.instance, receipt.boot, receipt.sequence): receipt.leaf_hash for receipt in receipts
    }
    with opened(place) as source, stories() as told:
        return _Verification(source, told, kept, progress).report()


def _boot_report(walk: BootWalk) -> BootReport:
    return BootReport(
        instance=walk.chain.instance,
        boot=walk.chain.boot,
        records=walk.records,
        closed=walk.closed,
        head=walk.link,
    )
