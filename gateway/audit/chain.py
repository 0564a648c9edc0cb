"""The hash chain over the records of one gateway process: what makes an edit, a gap or a swap visible.

Each boot of an instance is one chain. Its first record follows the last link of that instance's boot before, so the
boots are a chain too. Nothing is serialised again to verify: the hashes are over the stored bytes (governance study,
section 4.3). The prefixes keep leaves, links and the nodes of a later Merkle tree (0x01, RFC 6962) apart.
"""

import hashlib
from typing import Final

from gateway.terms.ids import BootId, InstanceId

LEAF_PREFIX: Final = b"\x00"
LINK_PREFIX: Final = b"\x02"

NOTHING_BEFORE: Final = bytes(32)
"""What the first record of an instance's first boot follows."""


def leaf_hash(record: bytes) -> bytes:
    """SHA-256 over 0x00 and the record: 32 bytes that stand for it in receipts (RFC 6962, 2.1)."""
    return hashlib.sha256(LEAF_PREFIX + record).digest()


class BootChain:
    """The chain of one boot of one instance. It holds no head: whoever stores the records knows where it stands."""

    __slots__ = ("_opening", "boot", "instance")

    def __init__(self, instance: InstanceId, boot: BootId) -> None:
        self.instance = instance
        self.boot = boot
        self._opening = hashlib.sha256(LINK_PREFIX + _framed(instance) + _framed(boot))

    def seal(self, sequence: int, previous: bytes, record: bytes) -> tuple[bytes, bytes]:
        """The leaf and the link of the record in this place.

        The link is SHA-256 over 0x02, the framed instance and boot, the sequence in 8 bytes, the previous link and the
        leaf. `sequence` counts from 0; `previous` is the link before, at 0 that of the boot before or `NOTHING_BEFORE`.
        """
        leaf = leaf_hash(record)
        link = self._opening.copy()
        link.update(sequence.to_bytes(8, "big") + previous + leaf)
        return leaf, link.digest()


def _framed(name: str) -> bytes:
    data = name.encode()
    return len(data).to_bytes(8, "big") + data
