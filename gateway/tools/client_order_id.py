"""Our own order ids at a venue: derived, so that every retry and every instance gives one order the same id."""

import base64
import hashlib
import hmac
from typing import Final

from gateway.terms.operations import OperationKey

PREFIX: Final = "gw-"
LENGTH: Final = 32
"""160 bits in base32; with the prefix 35 characters, which every venue of the governance study takes (5.1)."""


def client_order_id(key: bytes, operation: OperationKey) -> str:
    """The id of the order of this operation: HMAC-SHA256 over its length-framed key, in lower-case base32.

    The agent can neither choose it nor foresee it, and no two operation keys share one (governance study, 5.1).
    """
    framed = bytearray()
    for part in (operation.tenant, operation.principal, operation.tool, operation.key):
        data = part.encode()
        framed += len(data).to_bytes(8, "big") + data
    digest = hmac.new(key, bytes(framed), hashlib.sha256).digest()
    return PREFIX + base64.b32encode(digest).decode("ascii").lower()[:LENGTH]
