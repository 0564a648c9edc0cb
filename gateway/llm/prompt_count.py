"""A count of one prompt by the tokenizers of its route: one of them must answer, and the others may."""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.llm.breaker import Standing as BreakerStanding
from gateway.llm.content_key import content_key
from gateway.llm.counts import Counts
from gateway.llm.standing import Standing
from gateway.llm.tries import NEEDED_NS, Surroundings, Tries, Trying
from gateway.terms.asks import CountAsk
from gateway.terms.faults import UpstreamError

OTHERS_S: Final = 1.0
"""For the other tokenizers together, once one count is known: theirs only let chats hold less."""


class PromptCount:
    """What is known of one prompt; `known` has the tokens by tokenizer."""

    def __init__(self, ask: CountAsk, able: Sequence[Standing], counts: Counts, around: Surroundings) -> None:
        """`able`: the targets that can read it, as they stand for counts. Asks nobody."""
        self._ask = ask
        self._able = able
        self._counts = counts
        self._around = around
        self._content = content_key(ask.conversation)
        self._tried: set[str] = set()
        tokenizers = dict.fromkeys(one.target.tokenizer for one in able)
        kept = {name: counts.kept((name, self._content)) for name in tokenizers}
        self.known = {name: tokens for name, tokens in kept.items() if tokens is not None}

    async def one(self, tries: Tries, deadline_ns: int | None) -> None:
        """Ask until one target has counted, or none is left that may; raises `UpstreamError`.

        A target that has no count is passed over at no cost: nothing was sent, and nothing has failed.
        """
        failure: UpstreamError | None = None
        trying = tries.first()
        while True:
            try:
                counted = await self._counted(trying)
            except UpstreamError as error:
                failure = error
                tries.failed(trying, error)
            else:
                if counted:
                    return
                if not tries.passed(trying):
                    if failure is not None:
                        raise failure
                    return
            finally:
                trying.leave()
            trying = tries.first() if failure is None else await tries.again(failure, deadline_ns)

    async def others(self, deadline_ns: int | None) -> None:
        """Ask the tokenizers that were not asked yet, each once, where a target of theirs is well.

        A chat may be answered by any of them, so only the counts of all let it hold less. No fault of theirs is told to
        who has a count already, and none is waited for beyond a bound.
        """
        left_s = OTHERS_S
        if deadline_ns is not None:
            left_s = min(left_s, (deadline_ns - NEEDED_NS - self._around.clock.monotonic_ns()) / 1e9)
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                for standing in self._able:
                    if standing.target.tokenizer not in self._tried | self.known.keys():
                        await self._may_count(standing)
        except TimeoutError:
            return

    async def _may_count(self, standing: Standing) -> None:
        now_ns = self._around.clock.monotonic_ns()
        ill = standing.cooling.left_ns(now_ns) or standing.aside.left_ns(now_ns)
        # A half-open breaker's one trial is not for a request that may be given up.
        if ill or standing.breaker.standing(now_ns) is not BreakerStanding.CLOSED:
            return
        entry = standing.breaker.enter(now_ns)
        if entry is None:
            return
        trying = Trying(standing, entry, self._ask.conversation, self._around)
        try:
            await self._counted(trying)
        except UpstreamError:
            return
        finally:
            trying.leave()

    async def _counted(self, trying: Trying) -> bool:
        """Whether this target has a count; raises `UpstreamError`."""
        target = trying.standing.target
        self._tried.add(target.tokenizer)

        async def asked() -> int | None:
            """Whoever asks tells the breaker, and who waits for the same count does not: it was one request."""
            try:
                told = await target.upstream.count(target.model, self._ask)
            except UpstreamError as error:
                trying.fail(error)
                raise
            if told is not None:
                trying.answer()
            return told

        tokens = await self._counts.counted((target.tokenizer, self._content), asked)
        if tokens is None:
            self._tried.discard(target.tokenizer)
            return False
        self.known[target.tokenizer] = tokens
        return True
