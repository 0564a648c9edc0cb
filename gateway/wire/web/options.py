"""What an application of the web may be told beside its table and its bounds."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.terms.passage import Passage
from gateway.wire.web.codecs import CodecsOf, contract_codecs
from gateway.wire.web.exchange import Exchange

PassageOf = Callable[[Exchange, Passage], Passage]
"""What a call is given, made from what the gateway would give it."""

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


def _as_it_is(_exchange: Exchange, passage: Passage) -> Passage:
    return passage


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """Every field has a default that opens nothing."""

    origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, each as a browser says it: `https://console.example.com`."""
    preflight_s: int = 7_200
    """How long a browser may remember what a preflight said; browsers keep it two hours at the most."""
    compress_bytes_min: int = 1_024
    """Smaller answers are sent as they are: compressing them costs more than it saves."""
    codecs: CodecsOf = contract_codecs
    """How messages are written and read, by the name that content types use."""
    passage: PassageOf = _as_it_is
    """Serves tables whose methods need more of the request than the gateway's do."""

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"web: {origin!r} is no origin; write it like https://console.example.com")
        for name in ("preflight_s", "compress_bytes_min"):
            if getattr(self, name) <= 0:
                raise ValueError(f"web: {name} must be above zero")
