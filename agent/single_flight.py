"""Work that many wait for and one does: the others get its result, or its failure, without doing it again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Landed(Generic[Result]):
    results: tuple[Result, ...] = ()
    error: Exception | None = None

    def told(self) -> Result:
        if self.error is not None:
            raise self.error
        return self.results[0]


class SingleFlight(Generic[Result]):
    """At most one piece of work at a time. Whoever comes later starts anew: results are not kept here."""

    def __init__(self) -> None:
        self._flight: asyncio.Future[_Landed[Result] | None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether somebody is at work."""
        return self._flight is not None

    async def join(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the work under way, or of `work`; raises what it raised.

        When the one at work is cancelled, one of those who wait takes over with its own `work`.
        """
        while self._flight is not None:
            landed = await asyncio.shield(self._flight)
            if landed is not None:
                return landed.told()
        flight = self._flight = asyncio.get_running_loop().create_future()
        landed = None
        try:
            landed = await _landed(work)
        finally:
            self._flight = None
            flight.set_result(landed)
        return landed.told()


async def _landed(work: Callable[[], Awaitable[Result]]) -> _Landed[Result]:
    try:
        return _Landed(results=(await work(),))
    except Exception as error:  # noqa: BLE001 - whatever it is, everyone who waits must hear it
        return _Landed(error=error)
