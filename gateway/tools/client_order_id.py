"""Our own order ids at a venue: derived, so that every retry and every instance gives one order the same id."""

import base64
import hmac
from functools import lru_cache
from typing import Final

from gateway.terms.operations import OperationKey

PREFIX: Final = "gw-"
_BYTES: Final = 20
"""160 bits: 32 characters in base32; with the prefix 35, which every venue of the governance study takes (5.1)."""


@lru_cache(maxsize=1_024)
def client_order_id(key: bytes, operation: OperationKey) -> str:
    """The id of the order of this operation: HMAC-SHA256 over its length-framed key, in lower-case base32.

    The agent can neither choose it nor foresee it, and no two operation keys share one (governance study, 5.1).
    An order needs it twice, for its memo and on its way, so it is kept for a while.
    """
    parts = (operation.tenant, operation.principal, operation.tool, operation.key)
    framed = b"".join(len(data).to_bytes(8, "big") + data for data in map(str.encode, parts))
    digest = hmac.digest(key, framed, "sha256")
    return PREFIX + base64.b32encode(digest[:_BYTES]).decode("ascii").lower()
