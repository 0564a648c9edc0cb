"""Who waits for an operation to change, in this process: told at once, instead of asking the ledger again and again."""

import asyncio
from contextlib import suppress

from gateway.terms.ids import OperationId


class Changes:
    """Any number may wait for any operation; nothing is kept of those for which nobody waits."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[OperationId, set[asyncio.Event]] = {}

    def tell(self, operation: OperationId) -> None:
        """It changed."""
        for event in self._waiting.get(operation, ()):
            event.set()

    async def wait(self, operation: OperationId, timeout_s: float) -> None:
        """Return when it changes, or after so many seconds."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(operation, set())
        waiting.add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(operation, None)
