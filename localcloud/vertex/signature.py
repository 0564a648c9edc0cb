"""Thought signatures: opaque proofs that a function call in the history came from this model server.

The real server seals its reasoning into them; this one seals a position only, with a key made from its seed, which is
enough to tell a signature of its own from a missing, shortened or invented one.
"""

import base64
import hashlib
import hmac

# Documented for histories that the model did not make: it stands for a signature and is not verified.
FILLER = "skip_thought_signature_validator"
TAG_BYTES = 16
NONCE_BYTES = 12


class Seal:
    """Makes and recognises signatures."""

    __slots__ = ("_key",)

    def __init__(self, seed: int) -> None:
        """Take the server's seed; the same seed recognises the signatures of an earlier process."""
        self._key = hashlib.blake2b(f"thought-signature:{seed}".encode()).digest()

    def make(self, position: bytes) -> str:
        """The signature of a position in the model's work, as base64."""
        nonce = hashlib.blake2b(position, digest_size=NONCE_BYTES).digest()
        return base64.b64encode(nonce + self._tag(nonce)).decode()

    def recognises(self, signature: str) -> bool:
        """Whether the signature (base64) is one of ours, or the documented filler."""
        raw = base64.b64decode(signature)
        if raw == FILLER.encode() or signature.rstrip("=") == FILLER_AS_BASE64:
            return True
        if len(raw) != NONCE_BYTES + TAG_BYTES:
            return False
        return hmac.compare_digest(self._tag(raw[:NONCE_BYTES]), raw[NONCE_BYTES:])

    def _tag(self, nonce: bytes) -> bytes:
        return hmac.new(self._key, nonce, hashlib.blake2b).digest()[:TAG_BYTES]


# The filler's own letters are valid URL-safe base64, so clients send it both ways: encoded and as it is. Sent as it
# is, reading the body turns its underscores into slashes.
FILLER_AS_BASE64 = FILLER.replace("_", "/")
