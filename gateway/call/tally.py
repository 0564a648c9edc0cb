"""What a model stream gave so far, and so what it costs if it ends now."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.call.failures import failure
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import (
    Asking,
    Attempt,
    Ending,
    Finish,
    FunctionCall,
    Routed,
    Text,
    Thought,
    Usage,
    estimated_tokens,
)
from gateway.terms.faults import UNSPENT, Fault, UpstreamError
from gateway.terms.models import DatedPrice, Model
from gateway.terms.money import MicroUsd, Unit
from gateway.terms.operations import Failed, Failure, Succeeded

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
    """Whether a chunk of an answer came."""
    attempts: tuple[Attempt, ...] = ()
    _asked: DatedPrice | None = None
    """The price of the target that is asked or answers; None while nobody is."""
    _spoilt_tokens: int = 0
    """The prompts of attempts that may have cost them, though no answer came."""
    _spoilt_cost: int = 0
    _told: Usage | None = None
    _bytes: int = 0
    """Since the upstream last told its usage."""
    _ending: Ending | None = None
    _text: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, chunk: Routed) -> None:
        """Count a chunk, or an attempt."""
        if isinstance(chunk, Asking):
            self._asked = self.model.dated_price(chunk.target)
            return
        if isinstance(chunk, Attempt):
            self._attempted(chunk)
            return
        self.started = True
        if self._asked is None:  # who answers unasked is paid at the dearest price
            self._asked = self.model.dated_price("")
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
                self._ending = self._cut(chunk)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard: it ended, or made more tokens than it was asked for and are held."""
        return self._ending is not None or (
            self._told is not None and self._told.output_tokens > self.ask.max_output_tokens
        )

    @property
    def usage(self) -> Usage:
        """What to charge now: the upstream's word, and for what came after it more than that can have been."""
        usage, spoilt = self._answered, self._spoilt_tokens
        return replace(usage, input_tokens=usage.input_tokens + spoilt, estimated=usage.estimated or spoilt > 0)

    @property
    def cost(self) -> MicroUsd:
        """The price of the usage, each attempt at that of its own target."""
        answered = 0 if self._asked is None else self._asked.price.cost(self._answered)
        return MicroUsd(answered + self._spoilt_cost)

    def ended(self) -> Ending:
        """How the answer ended; raises `UpstreamError` where it only stopped."""
        if self._ending is None:
            if not self.over:
                raise UpstreamError(Fault.TRUNCATED, "the stream stopped without an ending")
            self._ending = _SPENT
        return self._ending

    def completed(self, ending: Ending) -> Succeeded:
        """The outcome of an answer that came to its end. The text itself never enters a record."""
        result = {
            "finish": ending.finish.value,
            "upstream_reason": ending.upstream_reason,
            "model_version": ending.model_version,
            **self._account(),
            "text_sha256": self._text.hexdigest(),
        }
        return Succeeded(result=json.dumps(result).encode(), charges=self._charges())

    def broken(self, fault: Fault) -> Failed:
        """The outcome of an answer that its upstream broke, or that no target gave."""
        return self.cut(failure(fault))

    def left(self, *, late: bool) -> Failed:
        """The outcome of an answer that nobody waits for any more: what was received is paid."""
        return self.cut(_LATE if late else _LEFT)

    def cut(self, why: Failure) -> Failed:
        """The outcome of an answer that ended in its middle for a reason of ours: what was received is paid."""
        return Failed(failure=why, charges=self._charges(), account=json.dumps(self._account()).encode())

    @property
    def _answered(self) -> Usage:
        """What the target that is asked has taken."""
        if self._asked is None:
            return Usage()
        if self._told is None:
            return Usage(input_tokens=self.ask.input_tokens_bound, output_tokens=self._counted(0), estimated=True)
        if self._ending is not None and not self._told.estimated:
            return self._told
        return replace(self._told, output_tokens=self._counted(self._told.output_tokens), estimated=True)

    def _attempted(self, attempt: Attempt) -> None:
        self.attempts += (attempt,)
        if attempt.fault is None or self._asked is None:
            return
        if attempt.fault not in UNSPENT:
            prompt = Usage(input_tokens=self.ask.input_tokens_bound)
            self._spoilt_tokens += prompt.input_tokens
            self._spoilt_cost += self._asked.price.cost(prompt)
        self._asked = None

    def _cut(self, ending: Ending) -> Ending:
        """The ending; one at the bound of what is held, where the caller's bound is higher, is the hold's."""
        if ending.finish is Finish.MAX_TOKENS and self.ask.wanted_output_tokens > self.ask.max_output_tokens:
            return replace(ending, finish=Finish.BUDGET_SPENT)
        return ending

    def _counted(self, told: int) -> int:
        """Output tokens up to now, within what is held."""
        return max(told, min(told + self._bytes, self.ask.max_output_tokens))

    def _charges(self) -> tuple[tuple[Unit, int], ...]:
        if self._asked is None and not self._spoilt_tokens:
            return ()
        usage = self.usage
        return (
            (Unit.CALLS, 1),
            (Unit.TOKENS, usage.input_tokens + usage.output_tokens),
            (Unit.COST, self.cost),
        )

    def _account(self) -> dict[str, object]:
        """What it took, at which price, what was tried for it, and what was to be expected before."""
        usage = self.usage
        return {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": usage.thinking_tokens,
            "cached_tokens": usage.cached_tokens,
            "usage_estimated": usage.estimated,
            "cost_micro_usd": self.cost,
            "price": None if self._asked is None else _price_fields(self._asked),
            "attempts": [_attempt_fields(attempt) for attempt in self.attempts],
            "estimate": self._estimate(),
        }

    def _estimate(self) -> dict[str, object]:
        counted, typical = self.ask.input_tokens_counted, self.model.typical_output_tokens
        most = self.ask.max_output_tokens
        expected = Usage(
            input_tokens=estimated_tokens(self.ask.input_tokens_bound) if counted is None else counted,
            output_tokens=most if typical is None else min(typical, most),
        )
        return {
            "input_tokens": expected.input_tokens,
            "output_tokens": expected.output_tokens,
            "cost_micro_usd": self.model.price.cost(expected),
        }


def _price_fields(dated: DatedPrice) -> dict[str, object]:
    price = dated.price
    return {"valid_from": dated.valid_from, "input": price.input, "output": price.output, "cached": price.cached}


def _attempt_fields(attempt: Attempt) -> dict[str, object]:
    fault = "" if attempt.fault is None else attempt.fault.value
    return {"target": attempt.target, "fault": fault, "milliseconds": attempt.milliseconds}
