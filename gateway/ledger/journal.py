"""What the ledger needs of the audit: a chain for the records that it stores, and the records of its own life."""

from typing import Protocol

from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Operation, Receipt, State


class Chain(Protocol):
    """Binds every record of one boot of one instance to the one before."""

    @property
    def instance(self) -> InstanceId:
        """Whose records these are."""
        ...

    @property
    def boot(self) -> BootId:
        """Which start of it."""
        ...

    def seal(self, sequence: int, previous: bytes, record: bytes) -> tuple[bytes, bytes]:
        """Leaf and link of a record that stands at `sequence` after the link `previous`."""
        ...


class Diary(Protocol):
    """Writes the records that the ledger itself causes."""

    def boot(self, last: Receipt | None, link: bytes) -> bytes:
        """The first record: after the last record of this instance's boot before and its link, or after nothing."""
        ...

    def lost(self, operation: Operation, state: State) -> bytes:
        """An operation whose owner stopped without an outcome, and what it counts as therefore."""
        ...

    def latched(self, scope: str, operation: OperationId) -> bytes:
        """A latch that engaged with this operation."""
        ...

    def close(self) -> bytes:
        """The last record of a boot that ended cleanly."""
        ...
