"""What a model stream gave so far, and so what it costs if it ends now."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

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
from gateway.terms.models import DatedPrice, Model, Price
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
    _attempts: list[Attempt] = field(default_factory=list)
    _asked: DatedPrice | None = None
    """The price of the target that is asked or answers; None while nobody is."""
    _beside: DatedPrice | None = None
    """The price of the one that is asked beside it, or alone where the first one has failed."""
    _asked_name: str = ""
    _beside_name: str = ""
    _spoilt: dict[int, DatedPrice] = field(default_factory=dict)
    """The attempts, by their places, that may have cost their prompts though no answer came of them."""
    _told: Usage | None = None
    _bytes: int = 0
    """Since the upstream last told its usage."""
    _ending: Ending | None = None
    _text: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, chunk: Routed) -> None:
        """Count a chunk, or an attempt."""
        if isinstance(chunk, Asking):
            self._ask(chunk)
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
        usage, spoilt = self._answered, sum(prompt.input_tokens for prompt, _ in self._prompts())
        return structs.replace(usage, input_tokens=usage.input_tokens + spoilt, estimated=usage.estimated or spoilt > 0)

    @property
    def cost(self) -> MicroUsd:
        """The price of the usage, each attempt at that of its own target."""
        paid = self._paid
        answered = 0 if paid is None else paid.price.cost(self._answered)
        return MicroUsd(answered + sum(price.cost(prompt) for prompt, price in self._prompts()))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried and has ended, with what is charged for it."""
        return tuple(self._charged(place, attempt) for place, attempt in enumerate(self._attempts))

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
        if self._paid is None:
            return Usage()
        if self._told is None:
            return Usage(input_tokens=self.ask.input_tokens_bound, output_tokens=self._counted(0), estimated=True)
        if self._ending is not None and not self._told.estimated:
            return self._told
        return structs.replace(self._told, output_tokens=self._counted(self._told.output_tokens), estimated=True)

    @property
    def _paid(self) -> DatedPrice | None:
        """The price of what came, or may come yet; of two that are asked, the first one's."""
        return self._asked or self._beside

    def _ask(self, asking: Asking) -> None:
        price = self.model.dated_price(asking.target)
        if asking.hedge:
            self._beside, self._beside_name = price, asking.target
        else:
            self._asked, self._asked_name = price, asking.target

    def _attempted(self, attempt: Attempt) -> None:
        self._attempts.append(attempt)
        price = self._beside if attempt.hedge else self._asked
        if not attempt.code:
            self._asked, self._beside = price, None
            return
        if price is None:
            return
        if attempt.lost or attempt.fault not in UNSPENT:
            self._spoilt[len(self._attempts) - 1] = price
        if attempt.hedge:
            self._beside = None
        else:
            self._asked = None

    def _prompts(self) -> Iterator[tuple[Usage, Price]]:
        """The prompts that no answer came of, or not to be told yet which of two it will be."""
        for place, price in self._spoilt.items():
            yield self._spoilt_prompt(place), price.price
        if self._asked is not None and self._beside is not None:
            yield Usage(input_tokens=self.ask.input_tokens_bound), self._beside.price

    def _spoilt_prompt(self, place: int) -> Usage:
        """What an attempt without an answer may be billed for: its whole prompt, known or not more than its bound.

        One that was aborted had taken it, and what the answering target counted it has as well by the same tokenizer.
        """
        tokens, told, tokenizers = self.ask.input_tokens_bound, self._told, self.model.tokenizers
        spoilt, last = self._attempts[place], self._attempts[-1]
        alike = spoilt.target in tokenizers and tokenizers[spoilt.target] == tokenizers.get(last.target)
        if spoilt.lost and alike and told is not None and not told.estimated and told.input_tokens:
            tokens = min(tokens, told.input_tokens)
        return Usage(input_tokens=tokens)

    def _charged(self, place: int, attempt: Attempt) -> Attempt:
        if place not in self._spoilt:
            return attempt
        prompt = self._spoilt_prompt(place)
        cost = self._spoilt[place].price.cost(prompt)
        return replace(attempt, charged_tokens=prompt.input_tokens, charged_cost=cost)

    def _cut(self, ending: Ending) -> Ending:
        """The ending; one at the bound of what is held, where the caller's bound is higher, is the hold's."""
        if ending.finish is Finish.MAX_TOKENS and self.ask.wanted_output_tokens > self.ask.max_output_tokens:
            return replace(ending, finish=Finish.BUDGET_SPENT)
        return ending

    def _counted(self, told: int) -> int:
        """Output tokens up to now, within what is held."""
        return max(told, min(told + self._bytes, self.ask.max_output_tokens))

    def _charges(self) -> tuple[tuple[Unit, int], ...]:
        if self._paid is None and not self._spoilt:
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
        account: dict[str, object] = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": usage.thinking_tokens,
            "cached_tokens": usage.cached_tokens,
            "usage_estimated": usage.estimated,
            "cost_micro_usd": self.cost,
            "price": None if self._paid is None else _price_fields(self._paid),
            "attempts": [_attempt_fields(attempt) for attempt in self.attempts],
            "estimate": self._estimate(),
        }
        if self._beside is not None:
            # Cut while nobody had answered yet: each of them may be billed, and neither has ended as an attempt.
            account["in_flight"] = [*([self._asked_name] if self._asked is not None else ()), self._beside_name]
        return account

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
    fields: dict[str, object] = {
        "target": attempt.target,
        "fault": attempt.code,
        "milliseconds": attempt.milliseconds,
    }
    if attempt.hedge:
        fields["hedge"] = True
    if attempt.aside_ms:
        fields["aside_ms"] = attempt.aside_ms
    if attempt.charged_tokens:
        fields |= {"charged_input_tokens": attempt.charged_tokens, "charged_cost_micro_usd": attempt.charged_cost}
    return fields
