"""What a model stream gave so far, and so what it costs if it ends now."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Final

from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import Chunk, Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault
from gateway.terms.models import Model
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Outcome, Succeeded

UNSPENT: Final = frozenset(
    {Fault.REFUSED, Fault.DENIED, Fault.MISSING, Fault.QUOTA, Fault.UNREACHABLE, Fault.CREDENTIALS}
)
"""Faults before any token was made: nothing is charged."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts one stream. Until the upstream tells its usage, the bound of the prompt and each byte count as tokens."""

    ask: ChatAsk
    model: Model
    told: Usage | None = None
    ending: Ending | None = None
    _bytes: int = 0
    _started: bool = False
    _text: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, chunk: Chunk) -> None:
        """Count a chunk."""
        self._started = True
        match chunk:
            case Text(text=text) | Thought(text=text):
                written = text.encode()
                self._bytes += len(written)
                self._text.update(written)
            case FunctionCall(name=name, arguments_json=arguments):
                self._bytes += len(name) + len(arguments.encode())
            case Usage():
                self.told = chunk
            case Ending():
                self.ending = chunk

    @property
    def overspent(self) -> bool:
        """Whether the upstream made more tokens than it was asked for and than are held."""
        return self.told is not None and self.told.output_tokens > self.ask.max_output_tokens

    @property
    def usage(self) -> Usage:
        """What to charge now: the upstream's word, or else more than it can have been, within what is held."""
        if self.told is not None:
            return self.told
        return Usage(
            input_tokens=self.ask.input_tokens_bound,
            output_tokens=min(self._bytes, self.ask.max_output_tokens),
        )

    def completed(self) -> Outcome:
        """The outcome of a stream that came to its end."""
        ending = self.ending or Ending(finish=Finish.OTHER, upstream_reason="", model_version="")
        usage = self.usage
        result = {
            "finish": ending.finish.value,
            "upstream_reason": ending.upstream_reason,
            "model_version": ending.model_version,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": usage.thinking_tokens,
            "cached_tokens": usage.cached_tokens,
            "cost_micro_usd": self.model.price.cost(usage),
            "text_sha256": self._text.hexdigest(),
        }
        return Succeeded(result=json.dumps(result).encode(), charges=self._charges())

    def broken(self, fault: Fault, message: str) -> Outcome:
        """The outcome of a stream that its upstream broke."""
        charges = () if fault in UNSPENT and not self._started else self._charges()
        return Failed(failure=Failure(reason=fault.value, message=message), charges=charges)

    def left(self) -> Outcome:
        """The outcome of a stream that its caller left, or that outlived its deadline: what was received is paid."""
        failure = Failure(reason="caller.left", message="The caller left before the end of the answer.")
        return Failed(failure=failure, charges=self._charges())

    def _charges(self) -> tuple[tuple[Unit, int], ...]:
        usage = self.usage
        return (
            (Unit.CALLS, 1),
            (Unit.TOKENS, usage.input_tokens + usage.output_tokens),
            (Unit.COST, self.model.price.cost(usage)),
        )
