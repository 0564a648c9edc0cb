"""What a protocol of the web is to a call: how its request is read and its answer is said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.wire.errors import EndedError, Ending, ending
from gateway.wire.table import Route
from generated.json_format import JsonDecodeError

if TYPE_CHECKING:
    from gateway.wire.web.exchange import Exchange
    from gateway.wire.web.inbox import Inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One method in one protocol and one codec, with all of it that no request changes."""

    route: Route
    speak: "Callable[[Dialect, Exchange], Speech]"
    content_type: bytes
    """Of the answer, which is the request's."""
    compress_bytes_min: int
    message_bytes_max: int

    def decoded(self, message: bytes) -> object:
        """The request that a message is; raises `EndedError` with the field that is wrong, where that is known."""
        try:
            return self.route.request_codec.decode(message)
        except ValueError as error:
            sentence = f"the message is not a {self.route.method.request.__name__}: {error}"
            raise EndedError(_malformed(sentence, error)) from None


class Speech(Protocol):
    """One call in one protocol. Before `open`, only `end` may be called."""

    ended: bool

    def open(self) -> int | None:
        """Read the headers: the timeout in nanoseconds, or None; raises `EndedError`."""
        ...

    @property
    def gzip(self) -> bool:
        """Whether messages of a request that streams may be compressed."""
        ...

    async def request(self, inbox: "Inbox") -> object:
        """The only request of the call, decoded; raises `EndedError` and `CallerLeftError`."""
        ...

    async def send(self, message: bytes) -> None:
        """Send one encoded reply; waits while the caller reads slowly. See `running.Answer`."""
        ...

    async def end(self, ending: Ending | None) -> None:
        """Say how the call ended, once; None is well."""
        ...


def _malformed(sentence: str, error: ValueError) -> Ending:
    violations: tuple[Violation, ...] = ()
    if isinstance(error, JsonDecodeError) and error.path:
        violations = (Violation(field=error.path, description=error.sentence),)
    return ending(
        Refusal(kind=Kind.MALFORMED, reason="wire.message_malformed", sentence=sentence, violations=violations)
    )
