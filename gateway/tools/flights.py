"""Questions under way to one service: who asks the same at the same time shares one request and its answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

_Answer = TypeVar("_Answer")

SLOW_S: Final = 0.25
"""A request that takes longer keeps nobody waiting who needs a later one."""


class Flights(Generic[_Answer]):
    """The requests under way, by what is asked. Nothing is kept: neither an answer nor an error.

    Who comes first flies: sends the request, for all who join. One who leaves takes nothing with it: if it is the one
    who flies, the next of those who wait flies.
    """

    def __init__(self, ask: Callable[[str], Awaitable[_Answer]], slow_s: float = SLOW_S) -> None:
        """`ask` bounds its own time; `slow_s` seconds are the longest that `later` waits for an earlier request."""
        self._ask = ask
        self._slow_s = slow_s
        self._flights: dict[str, asyncio.Future[_Answer]] = {}

    async def any(self, subject: str) -> _Answer:
        """The answer of the request that is under way, or else of a new one."""
        return await self._joined(subject, None)

    async def later(self, subject: str) -> _Answer:
        """The answer of a request that is sent after this was called; never of the one that is under way then.

        All who come while one is under way share the next one.
        """
        earlier = self._flights.get(subject)
        if earlier is not None:
            await asyncio.wait((earlier,), timeout=self._slow_s)
        return await self._joined(subject, earlier)

    async def _joined(self, subject: str, earlier: asyncio.Future[_Answer] | None) -> _Answer:
        """Join the newest flight, unless it is `earlier`; where there is none, fly."""
        while (flight := self._flights.get(subject)) is not earlier and flight is not None:
            # `wait` neither cancels the flight with this caller nor raises what the flight ended with.
            await asyncio.wait((flight,))
            if not flight.cancelled():
                return flight.result()
        return await self._fly(subject)

    async def _fly(self, subject: str) -> _Answer:
        flight = self._flights[subject] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._ask(subject)
            flight.set_result(answer)
            return answer
        finally:
            flight.cancel()
            if self._flights.get(subject) is flight:
                del self._flights[subject]
