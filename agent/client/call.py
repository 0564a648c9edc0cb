"""One call of the contract, over all of its attempts."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, cast

from grpclib.metadata import USER_AGENT
from hpack import NeverIndexedHeaderTuple

from agent.client.address import Address
from agent.client.errors import GatewayError
from agent.client.patience import Patience

MILLISECONDS_MAX: Final = 99_999_999
"""gRPC over HTTP/2 gives a timeout eight digits."""


@dataclass(slots=True, kw_only=True)
class CallReport:
    """What the gateway said beside the answer; filled while a call runs."""

    metadata: dict[str, str] = field(default_factory=dict)
    """Initial and trailing metadata: `gateway-request`, `gateway-operation`, `gateway-timing`."""
    attempts: int = 0


@dataclass(slots=True, kw_only=True)
class Call:
    """What is sent, until when, and what became of the attempts so far."""

    path: str
    framed: bytes
    """The request message behind its length prefix."""
    end: float
    """The deadline, in the event loop's time."""
    report: CallReport
    token: str = ""
    token_renewed: bool = False
    effect_unknown: bool = False
    attempts_before: int = 0
    """Attempts that count no more, because they brought the call further."""

    def headers(self, to: Address) -> list[tuple[str, str]]:
        """The headers of an attempt that is sent now."""
        left_ms = int((self.end - asyncio.get_running_loop().time()) * 1000)
        timeout = f"{min(max(left_ms, 1), MILLISECONDS_MAX)}m"
        headers: list[tuple[str, str]] = [
            (":method", "POST"),
            (":scheme", "https" if to.secure else "http"),
            (":path", self.path),
            (":authority", to.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
            # Another one each time: kept out of the compression's memory, where it would push out the token.
            cast("tuple[str, str]", NeverIndexedHeaderTuple("grpc-timeout", timeout)),
        ]
        if self.token:
            headers.append(("authorization", f"Bearer {self.token}"))
        return headers

    def note(self, metadata: dict[str, str]) -> None:
        """Tell the caller what came beside the answer."""
        self.report.metadata.update(metadata)

    async def again(self, error: GatewayError, patience: Patience) -> None:
        """Wait until the next attempt is due; raises the error where there is none to be made."""
        self.effect_unknown = error.effect_unknown = error.effect_unknown or self.effect_unknown
        pause = patience.pause_s(self.report.attempts - self.attempts_before, error.retry_after_s)
        left = self.end - asyncio.get_running_loop().time()
        if not error.passing or pause is None or pause >= left:
            raise error
        await patience.sleep(pause)
