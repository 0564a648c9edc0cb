"""A route: what a model name stands for, its targets with what is known of them, and one call's way over them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final

from gateway.llm.breaker import BreakerTerms
from gateway.llm.content_key import content_key
from gateway.llm.counts import Counts
from gateway.llm.output_sizes import OutputSizes
from gateway.llm.prompt_count import PromptCount
from gateway.llm.race import Race
from gateway.llm.retry_budget import RetryBudget, RetryTerms
from gateway.llm.standing import Standing, Target, standings
from gateway.llm.tries import FINAL, GivenUpError, Surroundings, Tries, Trying
from gateway.llm.upstream import Upstream
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.clock import Clock, Sleep, SystemChance, system_sleep
from gateway.terms.conversation import (
    Asking,
    Chunk,
    Conversation,
    Ending,
    Finish,
    Routed,
    TokenCount,
    Usage,
    estimated_tokens,
    prompt_tokens_bound,
)
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import DatedPrice, Model, dearest, valid_price
from gateway.terms.verdict import Kind, Refusal

MayHedge = Callable[[], Awaitable[bool]]
"""Whether a second request may go out beside the first one, now: the last look at what can stop it."""

_WHOLE: Final = frozenset({Finish.STOP, Finish.TOOL_CALLS})
"""Endings of answers that are as long as the model wanted them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTerms:
    """How a route treats its targets."""

    retry: RetryTerms = field(default_factory=RetryTerms)
    breaker: BreakerTerms = field(default_factory=BreakerTerms)


class Route:
    """Streams and counts with the targets of one model. Its state is this process's, and shared by all calls."""

    def __init__(self, model: Model, targets: Sequence[Target], terms: RouteTerms, around: Surroundings) -> None:
        """`model` is what callers see; the rest of it is filled in from the targets and terms."""
        self._model = replace(
            model,
            spoilt_max=terms.retry.spoilt_max,
            hedges=terms.retry.hedge_after_ms > 0,
            tokenizers=MappingProxyType({target.name: target.tokenizer for target in targets}),
        )
        self._terms = terms
        self._around = around
        self._standings = standings(targets, terms.breaker)
        self._budget = RetryBudget(terms.retry)
        self._sizes = OutputSizes()
        self._counts = Counts()

    def model_at(self, now_us: int) -> Model | Refusal:
        """The model with the prices that are valid at this time (microseconds of Unix time), or why it has none."""
        priced: list[tuple[str, DatedPrice]] = []
        for standing in self._standings:
            price = valid_price(standing.target.prices, now_us)
            if price is not None:
                priced.append((standing.target.name, price))
        if len(priced) < len(self._standings):
            return Refusal(
                kind=Kind.UNAVAILABLE,
                reason="model.unpriced",
                sentence=f"No price of {self._model.name} is valid now, and what has no price is not spent: tell the"
                " operator.",
            )
        most = dearest(dated.price for _, dated in priced)
        typical = self._sizes.typical()
        if typical is not None:
            typical = min(typical, self._model.max_output_tokens)
        return replace(self._model, price=most, targets=tuple(priced), typical_output_tokens=typical)

    def check(self, conversation: Conversation) -> Refusal | None:
        """Why no target can do what is asked; None if one can. A target that cannot is not asked."""
        if self._able(conversation):
            return None
        first = self._asked_for(conversation)
        return first.upstream.check(first.model, conversation)

    def counted(self, conversation: Conversation) -> int | None:
        """Tokens of this prompt for whichever target answers, if their own counts of it are kept; asks nobody.

        Without what no count method is asked for: see `gateway.terms.conversation.uncounted_tokens_bound`.
        """
        if not self._counts:
            return None
        content = content_key(conversation)
        tokenizers = {one.target.tokenizer for one in self._able(conversation)}
        known = [self._counts.kept((tokenizer, content)) for tokenizer in tokenizers]
        counts = [tokens for tokens in known if tokens is not None]
        return max(counts) if len(counts) == len(known) else None

    def stream(
        self, ask: ChatAsk, call_ids: str, deadline_ns: int | None, may_hedge: MayHedge | None = None
    ) -> AsyncGenerator[Routed, None]:
        """Each attempt, and the answer as it comes; ends with one `Ending` or raises the last attempt's fault.

        No attempt is made after the first chunk, nor one that could not answer before the deadline (on the clock's
        monotonic scale). Closing it aborts all requests at once. Without `may_hedge` there is only one at a time: it
        is asked right before another one is sent.
        """
        if may_hedge is None or not self._model.hedges:
            return self._one_by_one(ask, call_ids, deadline_ns)
        return self._hedged(ask, call_ids, deadline_ns, may_hedge)

    async def _one_by_one(self, ask: ChatAsk, call_ids: str, deadline_ns: int | None) -> AsyncGenerator[Routed, None]:
        tries = self._tries(self._able(ask.conversation), ask.conversation)
        trying = tries.first()
        while True:
            target = trying.standing.target
            try:
                yield Asking(target=target.name)
                async with aclosing(target.upstream.stream(target.model, ask, call_ids)) as chunks:
                    chunk = await self._first(chunks)
                    yield trying.answer()
                    yield chunk
                    usage: Usage | None = None
                    async for chunk in chunks:
                        if isinstance(chunk, Usage):
                            usage = chunk
                        elif isinstance(chunk, Ending):
                            self._ended(ask, chunk, usage)
                        yield chunk
            except UpstreamError as error:
                failure, told = error, trying.fail(error)
            else:
                return
            finally:
                trying.leave()
            if trying.answered:
                raise failure
            yield told
            tries.failed(trying, failure)
            trying = await tries.again(failure, deadline_ns)

    async def _hedged(
        self, ask: ChatAsk, call_ids: str, deadline_ns: int | None, may_hedge: MayHedge
    ) -> AsyncGenerator[Routed, None]:
        """The same, with one attempt in the call that may have another one beside it until either has an answer."""
        tries = self._tries(self._able(ask.conversation), ask.conversation)
        trying = tries.first()
        while True:
            failures: list[UpstreamError] = []
            async with Race(self._first) as race:
                race.start(trying, _opened(trying, ask, call_ids))
                yield Asking(target=trying.standing.target.name)
                if await self._slow(race, partial(tries.may_hedge, trying, deadline_ns), may_hedge):
                    hedge = tries.hedge(trying, deadline_ns)
                    if hedge is not None:
                        race.start(hedge, _opened(hedge, ask, call_ids))
                        yield Asking(target=hedge.standing.target.name, hedge=True)
                while (lane := await race.ended()) is not None and (fault := lane.fault) is not None:
                    # The first attempt's fault is the call's, as it is without a hedge.
                    failures.insert(len(failures) if lane.trying.hedge else 0, fault)
                    tries.failed(lane.trying, fault)
                    yield lane.trying.fail(fault)
                if lane is not None:
                    for lost in await race.won():
                        yield lost
                    yield lane.trying.answer()
                    yield lane.chunk
                    usage: Usage | None = None
                    try:
                        async for chunk in lane.chunks:
                            if isinstance(chunk, Usage):
                                usage = chunk
                            elif isinstance(chunk, Ending):
                                self._ended(ask, chunk, usage)
                            yield chunk
                    except UpstreamError as error:
                        lane.trying.fail(error)
                        raise
                    return
            trying = await tries.again(_of_both(failures), deadline_ns)

    async def count(self, ask: CountAsk, deadline_ns: int | None) -> TokenCount:
        """Tokens of a prompt for whichever target answers: as kept, as they are counted, or estimated by none of them.

        Of several tokenizers the largest count is told. Those whose targets are not well are left out.
        """
        able = [one.counting() for one in self._able(ask.conversation)]
        counting = PromptCount(ask, able, self._counts, self._around)
        kept = len(counting.known)
        if kept < len({one.target.tokenizer for one in able}) or not able:
            if not kept:
                await counting.one(self._tries(able, ask.conversation), deadline_ns)
            if counting.known:
                await counting.others(deadline_ns)
        if not counting.known:
            bound = prompt_tokens_bound(ask.conversation, self._model.inputs)
            return TokenCount(tokens=estimated_tokens(bound), estimated=True)
        return TokenCount(tokens=max(counting.known.values()), cached=len(counting.known) == kept)

    def _asked_for(self, conversation: Conversation) -> Target:
        """The first target, of those that have the cached beginning where one is asked for."""
        name = conversation.cached_content
        having = (one.target for one in self._standings if name in one.target.model.inputs.cached)
        return next(having, self._standings[0].target)

    def _able(self, conversation: Conversation) -> list[Standing]:
        """Those that can do what is asked."""
        return [one for one in self._standings if one.target.upstream.check(one.target.model, conversation) is None]

    def _tries(self, able: Sequence[Standing], conversation: Conversation) -> Tries:
        if not able:
            raise UpstreamError(Fault.REFUSED, "no target of the route can do what is asked")
        return Tries(able, conversation, self._terms.retry, self._budget, self._around)

    async def _slow(self, race: Race, possible: Callable[[], bool], may_hedge: MayHedge) -> bool:
        """Whether the time for a second attempt has come, and it may be sent; back as soon as the first one ends."""
        waited = await race.before(_after(self._around.sleep, self._terms.retry.hedge_after_ms / 1_000))
        return waited is not None and possible() and await race.before(may_hedge()) is True

    async def _first(self, chunks: AsyncGenerator[Chunk, None]) -> Chunk:
        """The first chunk of an answer; raises `UpstreamError`."""
        limit_ms = self._terms.retry.first_delta_ms
        try:
            async with asyncio.timeout(limit_ms / 1_000 if limit_ms else None):
                return await anext(chunks)
        except TimeoutError:
            raise GivenUpError(Fault.STALLED, f"given up: no answer within {limit_ms} ms") from None
        except StopAsyncIteration:
            raise UpstreamError(Fault.TRUNCATED, "the stream has neither an answer nor an ending") from None

    def _ended(self, ask: ChatAsk, ending: Ending, usage: Usage | None) -> None:
        """Learn from the size of an answer; not from one that was cut where its caller wanted it."""
        if usage is None or usage.estimated:
            return
        if ending.finish in _WHOLE:
            self._sizes.saw(usage.output_tokens)
        elif ending.finish is Finish.MAX_TOKENS and ask.max_output_tokens < ask.wanted_output_tokens:
            self._sizes.saw(usage.output_tokens * 2)
        elif ending.finish is Finish.MAX_TOKENS and ask.max_output_tokens == self._model.max_output_tokens:
            self._sizes.saw(usage.output_tokens)


def _opened(trying: Trying, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
    target = trying.standing.target
    return target.upstream.stream(target.model, ask, call_ids)


async def _after(sleep: Sleep, seconds: float) -> bool:
    await sleep(seconds)
    return True


def _of_both(failures: Sequence[UpstreamError]) -> UpstreamError:
    """What the failure of both comes to: what is of the request itself, or else what the first attempt met."""
    return next((error for error in failures if error.fault in FINAL), failures[0])


def sole(model: Model, upstream: Upstream, clock: Clock, terms: RouteTerms | None = None) -> Route:
    """The route of a model that one upstream serves, with its one price: asked once, and spared when it fails."""
    price = DatedPrice(valid_from="", from_unix_us=0, price=model.price)
    tokenizer = f"{upstream.name}/{model.upstream_id}"
    target = Target(name=model.name, model=model, upstream=upstream, prices=(price,), tokenizer=tokenizer)
    around = Surroundings(clock=clock, chance=SystemChance(), sleep=system_sleep)
    return Route(model, (target,), terms or RouteTerms(), around)
