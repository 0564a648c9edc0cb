"""What a record says of a tool call whose declaration keeps some arguments out of every record.

A redacted value leaves a salted commitment: SHA-256 over a salt and the value's JSON. A plain hash of a small amount
or a short name could be guessed (governance study, 4.3 point 8). The salt is derived from the operator's redaction key,
so that who holds the key can later prove a value, and nobody else learns anything.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from gateway.terms.asks import ToolAsk
from gateway.terms.evidence import Facts
from gateway.terms.ids import RequestId
from gateway.terms.strict_json import FrozenJson

KEY_BYTES_MIN: Final = 32
MARK: Final = "[redacted]"

_JSON: Final = msgspec.json.Encoder(decimal_format="number")


class Veil:
    """Hides the redacted arguments of one tool call in everything that its records say."""

    __slots__ = ("_ask", "_hidden", "_key", "_request", "_words")

    def __init__(self, ask: ToolAsk, key: bytes, request: RequestId) -> None:
        self._ask = ask
        self._key = key
        self._request = request
        self._hidden = sorted(ask.tool.redacted & ask.arguments.keys())
        words = {word for name in self._hidden for word in _words(ask.arguments[name])}
        self._words = sorted(words, key=len, reverse=True)

    @property
    def thick(self) -> bool:
        """Whether anything is hidden."""
        return bool(self._hidden)

    def arguments(self) -> object:
        """The text as received, or where something is hidden, the object with commitments in its places."""
        if not self._hidden:
            return self._ask.arguments_bytes.decode()
        return {
            name: self.commitment(f"argument:{name}", _JSON.encode(plain(value)))
            if name in self._hidden
            else plain(value)
            for name, value in self._ask.arguments.items()
        }

    def digest(self) -> object:
        """The ask's digest in hex; committed too where something is hidden, because short values can be searched."""
        return self.commitment("digest", self._ask.digest) if self._hidden else self._ask.digest.hex()

    def result(self, result: bytes) -> object:
        """A result, or only its commitment and size where something is hidden: services echo what they were sent."""
        return {**self.commitment("result", result), "size": len(result)}

    def facts(self, facts: Facts) -> Facts:
        """The facts without those that have a hidden argument's name, and without hidden words in the others."""
        if not self._hidden:
            return facts
        return {name: self._fact(value) for name, value in facts.items() if name not in self._hidden}

    def text(self, text: str) -> str:
        """A sentence with every hidden word replaced."""
        for word in self._words:
            text = text.replace(word, MARK)
        return text

    def commitment(self, name: str, value: bytes) -> dict[str, object]:
        """`{"redacted": "sha256:..."}` over the salt of this request and name, and the value.

        `name` is `argument:NAME`, `digest` or `result`.
        """
        salt = commitment_salt(self._key, self._request, name)
        return {"redacted": "sha256:" + hashlib.sha256(salt + value).hexdigest()}

    def _fact(self, value: int | str | bool) -> int | str | bool:  # noqa: FBT001 - a fact may be a boolean
        if isinstance(value, str):
            return self.text(value)
        return MARK if str(value) in self._words else value


def commitment_salt(key: bytes, request: RequestId, name: str) -> bytes:
    """The 32 bytes that went before a redacted value: HMAC-SHA256 of the key over the framed request id and name."""
    data = request.encode()
    return hmac.digest(key, len(data).to_bytes(8, "big") + data + name.encode(), "sha256")


def plain(value: FrozenJson) -> object:
    """A frozen JSON value in the types that an encoder knows."""
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, tuple):
        return [plain(member) for member in value]
    return value


def _words(value: FrozenJson) -> Iterator[str]:
    """Every text and number inside, as it could appear in a sentence."""
    if isinstance(value, Mapping):
        for member in value.values():
            yield from _words(member)
    elif isinstance(value, tuple):
        for member in value:
            yield from _words(member)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield str(value)
