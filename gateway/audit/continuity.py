"""Whether records stand in an unbroken chain: every hash right, no gap, no swap, every boot after the one before."""

from dataclasses import dataclass, field

from gateway.audit.chain import NOTHING_BEFORE, BootChain, leaf_hash
from gateway.audit.contents import Contents
from gateway.audit.sources import Entry
from gateway.terms.ids import BootId, InstanceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """What is wrong with one record, and where it stands or should stand."""

    instance: InstanceId
    boot: BootId
    sequence: int
    problem: str


@dataclass(slots=True, kw_only=True)
class BootWalk:
    """How far one boot of an instance has been read."""

    chain: BootChain
    before: bytes
    """The last link of the boot before."""
    records: int = 0
    link: bytes = NOTHING_BEFORE
    closed: bool = False


@dataclass(slots=True)
class Walk:
    """Reads entries in the order of writing and says of each what breaks the chain, if anything does."""

    boots: dict[tuple[InstanceId, BootId], BootWalk] = field(default_factory=dict)
    _current: dict[InstanceId, BootWalk] = field(default_factory=dict)

    def last(self) -> tuple[BootWalk, ...]:
        """The last boot of every instance."""
        return tuple(self._current.values())

    def step(self, entry: Entry, contents: Contents) -> str | None:
        """What is wrong with this entry as the next of its instance; None when it follows."""
        walk = self._current.get(entry.instance)
        if walk is None or walk.chain.boot != entry.boot:
            opened = self._open(entry, contents, walk)
            if isinstance(opened, str):
                return opened
            walk = opened
        problem = _misplaced(walk, entry) or _forged(walk, entry)
        if problem is None:
            walk.records += 1
            walk.link = entry.link
            walk.closed = contents.kind == "close"
        return problem

    def _open(self, entry: Entry, contents: Contents, before: BootWalk | None) -> BootWalk | str:
        """Begin the next boot of an instance with its boot record, which names the end of the boot before."""
        if (entry.instance, entry.boot) in self.boots:
            return "its boot goes on after a later boot began: records were moved"
        if entry.sequence != 0 or contents.kind != "boot":
            return "its boot does not begin with its boot record: records before it are missing"
        told = contents.before
        if before is None and told is not None:
            return f"it follows the boot {told.boot}, which is missing"
        if before is not None and (
            told is None or told.place() != (before.chain.boot, before.records - 1, before.link)
        ):
            return f"it does not follow the end of the boot {before.chain.boot}: records there are missing or changed"
        walk = BootWalk(chain=BootChain(entry.instance, entry.boot), before=before.link if before else NOTHING_BEFORE)
        self.boots[entry.instance, entry.boot] = self._current[entry.instance] = walk
        return walk


def _misplaced(walk: BootWalk, entry: Entry) -> str | None:
    if entry.sequence > walk.records:
        return f"the record {walk.records} before it is missing, or the order was changed"
    if entry.sequence < walk.records:
        return f"it stands after the record {walk.records - 1}: it was put there, or the order was changed"
    if walk.closed:
        return "it stands after the closing record of its boot"
    return None


def _forged(walk: BootWalk, entry: Entry) -> str | None:
    if leaf_hash(entry.record) != entry.leaf:
        return "its bytes are not those that were hashed: the record or its leaf was changed"
    previous = walk.link if walk.records else walk.before
    if walk.chain.seal(entry.sequence, previous, entry.record)[1] != entry.link:
        return "its link does not follow from the record before: a record or a link was changed"
    return None
