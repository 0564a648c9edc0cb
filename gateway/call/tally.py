"""What a model stream gave so far, and so what it costs if it ends now."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.call.failures import failure
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import Chunk, Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import Model
from gateway.terms.money import MicroUsd, Unit
from gateway.terms.operations import Failed, Failure, Succeeded

UNSPENT: Final = frozenset(
    {Fault.REFUSED, Fault.DENIED, Fault.MISSING, Fault.QUOTA, Fault.UNREACHABLE, Fault.CREDENTIALS}
)
"""Faults before any token was made: nothing is charged."""

_LEFT: Final = Failure(
    reason="call.cut", message="The caller left, or the gateway stopped, before the end of the answer."
)
_LATE: Final = Failure(reason="deadline.passed", message="The deadline passed before the end of the answer.")
_SPENT: Final = Ending(finish=Finish.BUDGET_SPENT, upstream_reason="", model_version="")


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts one stream. What the upstream has not counted yet counts as one token for each byte."""

    ask: ChatAsk
    model: Model
    started: bool = False
    _told: Usage | None = None
    _bytes: int = 0
    """Since the upstream last told its usage."""
    _ending: Ending | None = None
    _text: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, chunk: Chunk) -> None:
        """Count a chunk."""
        self.started = True
        match chunk:
            case Text(text=text):
                written = text.encode()
                self._bytes += len(written)
                self._text.update(written)
            case Thought(text=text):
                self._bytes += len(text.encode())
            case FunctionCall(name=name, arguments_json=arguments):
                self._bytes += len(name) + len(arguments.encode())
            case Usage():
                self._told, self._bytes = chunk, 0
            case Ending():
                self._ending = chunk

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard: it ended, or made more tokens than it was asked for and are held."""
        return self._ending is not None or (
            self._told is not None and self._told.output_tokens > self.ask.max_output_tokens
        )

    @property
    def usage(self) -> Usage:
        """What to charge now: the upstream's word, and for what came after it more than that can have been."""
        if self._told is None:
            return Usage(input_tokens=self.ask.input_tokens_bound, output_tokens=self._counted(0), estimated=True)
        if self._ending is not None and not self._told.estimated:
            return self._told
        return replace(self._told, output_tokens=self._counted(self._told.output_tokens), estimated=True)

    @property
    def cost(self) -> MicroUsd:
        """The price of the usage."""
        return self.model.price.cost(self.usage)

    def ended(self) -> Ending:
        """How the answer ended; raises `UpstreamError` where it only stopped."""
        if self._ending is None:
            if not self.over:
                raise UpstreamError(Fault.TRUNCATED, "the stream stopped without an ending")
            self._ending = _SPENT
        return self._ending

    def completed(self, ending: Ending) -> Succeeded:
        """The outcome of an answer that came to its end. The text itself never enters a record."""
        usage = self.usage
        result = {
            "finish": ending.finish.value,
            "upstream_reason": ending.upstream_reason,
            "model_version": ending.model_version,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": usage.thinking_tokens,
            "cached_tokens": usage.cached_tokens,
            "usage_estimated": usage.estimated,
            "cost_micro_usd": self.cost,
            "text_sha256": self._text.hexdigest(),
        }
        return Succeeded(result=json.dumps(result).encode(), charges=self._charges())

    def broken(self, fault: Fault) -> Failed:
        """The outcome of an answer that its upstream broke."""
        charges = () if fault in UNSPENT and not self.started else self._charges()
        return Failed(failure=failure(fault), charges=charges)

    def left(self, *, late: bool) -> Failed:
        """The outcome of an answer that nobody waits for any more: what was received is paid."""
        return self.cut(_LATE if late else _LEFT)

    def cut(self, why: Failure) -> Failed:
        """The outcome of an answer that ended in its middle for a reason of ours: what was received is paid."""
        return Failed(failure=why, charges=self._charges())

    def _counted(self, told: int) -> int:
        """Output tokens up to now, within what is held."""
        return max(told, min(told + self._bytes, self.ask.max_output_tokens))

    def _charges(self) -> tuple[tuple[Unit, int], ...]:
        usage = self.usage
        return (
            (Unit.CALLS, 1),
            (Unit.TOKENS, usage.input_tokens + usage.output_tokens),
            (Unit.COST, self.cost),
        )
